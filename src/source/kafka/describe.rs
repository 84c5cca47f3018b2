//! What rdkafka does not wrap of librdkafka's questions to brokers: ids of topics, the members of a group, our own id.
//!
//! Everything here blocks, and asks nothing that changes anything. What librdkafka hands out is given back when its keeper
//! is dropped, in whatever order.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as rd;
use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::metrics::MemberNow;

use super::plan::TopicId;

/// How much longer than the brokers librdkafka may take to say that they did not answer.
const SAY_SO_TIME: Duration = Duration::from_secs(2);

/// A topic as the brokers have it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicNow {
    /// `None`: the brokers give topics no ids.
    pub id: Option<TopicId>,
    pub partitions: i32,
}

/// These topics, by name; those that are not there, or that we may not see, are left out.
pub fn topics<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    names: &[Arc<str>],
    timeout: Duration,
) -> Result<BTreeMap<Arc<str>, TopicNow>, KafkaError> {
    let (texts, mut pointers) = texts(names.iter().map(AsRef::as_ref));
    let Some(first) = names.first().filter(|_| !texts.is_empty()) else { return Ok(BTreeMap::new()) };
    // Left alone librdkafka asks the controller, which not all that speak Kafka's protocol have.
    let metadata = consumer.fetch_metadata(Some(first), timeout)?;
    let of_list = metadata.brokers().first().map(|broker| broker.id());
    let broker = Some(metadata.orig_broker_id()).filter(|id| *id >= 0).or(of_list);
    // SAFETY: the pointers are to `texts`, which outlives the call, which copies them.
    let asked = Topics(unsafe { rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()) });
    let op = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    // SAFETY: all of them live until the call returns, which takes copies.
    let ask = |client, options, queue| unsafe { rd::rd_kafka_DescribeTopics(client, asked.0, options, queue) };
    let event = ask_brokers(consumer.client(), (op, broker), timeout, ask)?;
    let mut found = BTreeMap::new();
    // SAFETY: the event is of this kind, or the result is null; what it points to lives as long as the event.
    unsafe {
        let result = rd::rd_kafka_event_DescribeTopics_result(event.0);
        if result.is_null() {
            return Err(failed(RDKafkaErrorCode::BadMessage));
        }
        let mut count = 0;
        let first = rd::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        for at in 0..count {
            let topic = *first.add(at);
            if is_fault(rd::rd_kafka_TopicDescription_error(topic)) {
                continue;
            }
            let name = text_of(rd::rd_kafka_TopicDescription_name(topic));
            let mut partitions = 0;
            rd::rd_kafka_TopicDescription_partitions(topic, &mut partitions);
            let id = topic_id(rd::rd_kafka_TopicDescription_topic_id(topic));
            found.insert(name.into(), TopicNow { id, partitions: i32::try_from(partitions).unwrap_or(i32::MAX) });
        }
    }
    Ok(found)
}

/// The members of a group, by either protocol of groups.
pub fn members<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    group: &str,
    timeout: Duration,
) -> Result<Vec<MemberNow>, KafkaError> {
    let (_texts, mut pointers) = texts([group].into_iter());
    let op = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    // SAFETY: all of them live until the call returns, which takes copies.
    let ask = |client, options, queue| unsafe {
        rd::rd_kafka_DescribeConsumerGroups(client, pointers.as_mut_ptr(), pointers.len(), options, queue);
    };
    let event = ask_brokers(consumer.client(), (op, None), timeout, ask)?;
    let mut members = Vec::new();
    // SAFETY: as in `topics`; a member is asked for below the count.
    unsafe {
        let result = rd::rd_kafka_event_DescribeConsumerGroups_result(event.0);
        if result.is_null() {
            return Err(failed(RDKafkaErrorCode::BadMessage));
        }
        let mut count = 0;
        let first = rd::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count);
        for at in 0..count {
            let group = *first.add(at);
            let error = rd::rd_kafka_ConsumerGroupDescription_error(group);
            if is_fault(error) {
                return Err(failed(RDKafkaErrorCode::from(rd::rd_kafka_error_code(error))));
            }
            for index in 0..rd::rd_kafka_ConsumerGroupDescription_member_count(group) {
                members.push(member(rd::rd_kafka_ConsumerGroupDescription_member(group, index)));
            }
        }
    }
    Ok(members)
}

/// The id of the cluster; `None`: it has none, or no broker has told it in time.
pub fn cluster_id<C: ConsumerContext>(consumer: &BaseConsumer<C>, timeout: Duration) -> Option<String> {
    let client = consumer.client().native_ptr();
    // SAFETY: the text is ours, and given back to librdkafka once copied.
    let id = unsafe { taken(client, rd::rd_kafka_clusterid(client, millis(timeout))) };
    (!id.is_empty()).then_some(id)
}

/// The metadata of a partition in a list of committed offsets. Whoever commits decides what it is, and rdkafka's own look at
/// it panics where that is no UTF-8: such bytes are replaced.
pub fn metadata(list: &TopicPartitionList, topic: &str, partition: i32) -> String {
    let Ok(topic) = CString::new(topic) else { return String::new() };
    // SAFETY: the list lives until the bytes are copied, and has as many of them as it says.
    unsafe {
        let found = rd::rd_kafka_topic_partition_list_find(list.ptr(), topic.as_ptr(), partition);
        if found.is_null() || (*found).metadata.is_null() {
            return String::new();
        }
        let bytes = std::slice::from_raw_parts((*found).metadata.cast::<u8>(), (*found).metadata_size);
        String::from_utf8_lossy(bytes).into_owned()
    }
}

/// As which member the group knows this client; nothing before it has joined.
pub fn member_id<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> String {
    let client = consumer.client().native_ptr();
    // SAFETY: the text is ours, and given back to librdkafka once copied.
    unsafe { taken(client, rd::rd_kafka_memberid(client)) }
}

/// # Safety
/// `text` is null, or one that `client` made for us; it is not used again.
unsafe fn taken(client: *mut rd::rd_kafka_t, text: *mut c_char) -> String {
    // SAFETY: as promised.
    unsafe {
        let copy = text_of(text);
        if !text.is_null() {
            rd::rd_kafka_mem_free(client, text.cast());
        }
        copy
    }
}

/// Asks, a broker if one is named, and waits for the one event that answers.
fn ask_brokers<C: rdkafka::ClientContext>(
    client: &Client<C>,
    (op, broker): (rd::rd_kafka_admin_op_t, Option<i32>),
    timeout: Duration,
    ask: impl FnOnce(*mut rd::rd_kafka_t, *const rd::rd_kafka_AdminOptions_t, *mut rd::rd_kafka_queue_t),
) -> Result<Event, KafkaError> {
    let client = client.native_ptr();
    // SAFETY: the client outlives all that is made of it here. A request that is not answered in time keeps a reference of
    // its own to the queue.
    unsafe {
        let options = AdminOptions(rd::rd_kafka_AdminOptions_new(client, op));
        rd::rd_kafka_AdminOptions_set_request_timeout(options.0, millis(timeout), null_mut(), 0);
        if let Some(broker) = broker {
            rd::rd_kafka_AdminOptions_set_broker(options.0, broker, null_mut(), 0);
        }
        let queue = Queue(rd::rd_kafka_queue_new(client));
        ask(client, options.0, queue.0);
        let event = Event(rd::rd_kafka_queue_poll(queue.0, millis(timeout + SAY_SO_TIME)));
        if event.0.is_null() {
            return Err(failed(RDKafkaErrorCode::OperationTimedOut));
        }
        match RDKafkaErrorCode::from(rd::rd_kafka_event_error(event.0)) {
            RDKafkaErrorCode::NoError => Ok(event),
            code => Err(failed(code)),
        }
    }
}

/// # Safety
/// `member` is one, and lives during the call.
unsafe fn member(member: *const rd::rd_kafka_MemberDescription_t) -> MemberNow {
    // SAFETY: as promised; its texts and its list live as long as it does.
    unsafe {
        let mut owns = Vec::new();
        let assignment = rd::rd_kafka_MemberDescription_assignment(member);
        let list = match assignment.is_null() {
            true => null(),
            false => rd::rd_kafka_MemberAssignment_partitions(assignment),
        };
        if !list.is_null() {
            for at in 0..usize::try_from((*list).cnt).unwrap_or(0) {
                let element = &*(*list).elems.add(at);
                owns.push((text_of(element.topic).into(), element.partition));
            }
        }
        owns.sort();
        MemberNow {
            id: text_of(rd::rd_kafka_MemberDescription_consumer_id(member)),
            client: text_of(rd::rd_kafka_MemberDescription_client_id(member)),
            host: text_of(rd::rd_kafka_MemberDescription_host(member)),
            owns,
        }
    }
}

/// Base64 as Kafka shows it in its tools; zero is no id.
///
/// # Safety
/// `id` is null, or one that lives during the call.
unsafe fn topic_id(id: *const rd::rd_kafka_Uuid_t) -> Option<TopicId> {
    if id.is_null() {
        return None;
    }
    // SAFETY: as promised; the text is the id's own.
    unsafe {
        if rd::rd_kafka_Uuid_most_significant_bits(id) == 0 && rd::rd_kafka_Uuid_least_significant_bits(id) == 0 {
            return None;
        }
        let text = text_of(rd::rd_kafka_Uuid_base64str(id));
        TopicId::parse(&text.trim_end_matches('=').replace('+', "-").replace('/', "_"))
    }
}

/// # Safety
/// `error` is null, or one that lives during the call.
unsafe fn is_fault(error: *const rd::rd_kafka_error_t) -> bool {
    // SAFETY: as promised.
    !error.is_null() && RDKafkaErrorCode::from(unsafe { rd::rd_kafka_error_code(error) }) != RDKafkaErrorCode::NoError
}

/// # Safety
/// `text` is null, or ends with a zero and lives during the call.
unsafe fn text_of(text: *const c_char) -> String {
    match text.is_null() {
        true => String::new(),
        // SAFETY: as promised.
        false => unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned(),
    }
}

/// Texts for C, and pointers to them; one that holds a zero is no name of anything, and is left out.
fn texts<'t>(texts: impl Iterator<Item = &'t str>) -> (Vec<CString>, Vec<*const c_char>) {
    let texts: Vec<CString> = texts.filter_map(|text| CString::new(text).ok()).collect();
    let pointers = texts.iter().map(|text| text.as_ptr()).collect();
    (texts, pointers)
}

fn millis(time: Duration) -> c_int {
    c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX)
}

fn failed(code: RDKafkaErrorCode) -> KafkaError {
    KafkaError::AdminOp(code)
}

struct Topics(*mut rd::rd_kafka_TopicCollection_t);
struct AdminOptions(*mut rd::rd_kafka_AdminOptions_t);
struct Queue(*mut rd::rd_kafka_queue_t);
struct Event(*mut rd::rd_kafka_event_t);

impl Drop for Topics {
    fn drop(&mut self) {
        // SAFETY: made by librdkafka, given back once.
        unsafe { rd::rd_kafka_TopicCollection_destroy(self.0) }
    }
}

impl Drop for AdminOptions {
    fn drop(&mut self) {
        // SAFETY: made by librdkafka, given back once.
        unsafe { rd::rd_kafka_AdminOptions_destroy(self.0) }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: made by librdkafka, given back once.
        unsafe { rd::rd_kafka_queue_destroy(self.0) }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: handed out by librdkafka, given back once.
            unsafe { rd::rd_kafka_event_destroy(self.0) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_of_others_may_be_any_bytes() {
        let mut list = TopicPartitionList::new();
        list.add_partition("orders", 3);
        assert_eq!(metadata(&list, "orders", 3), "");
        list.find_partition("orders", 3).unwrap().set_metadata("hydrant1");
        assert_eq!(metadata(&list, "orders", 3), "hydrant1");
        assert_eq!((metadata(&list, "orders", 4), metadata(&list, "or\0ders", 3)), (String::new(), String::new()));
        let topic = CString::new("orders").unwrap();
        // SAFETY: the list is ours, and the byte lies in its metadata.
        unsafe {
            let found = rd::rd_kafka_topic_partition_list_find(list.ptr(), topic.as_ptr(), 3);
            *(*found).metadata.cast::<u8>() = 0xff;
        }
        assert_eq!(metadata(&list, "orders", 3), "\u{fffd}ydrant1");
    }
}
