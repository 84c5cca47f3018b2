//! Standard input into a real spool.

use hydrant::receive::stdin;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_is_stored_line_by_line_and_its_end_ends_the_stream() {
    let house = House::open().await;
    let stream = house.streams["clicks"].clone();
    let (mut producer, consumer) = tokio::io::duplex(1000);
    let clock = Clock::new(|| NOW_MS);
    let running = tokio::spawn(async move { stdin::run(consumer, &stream, &clock, CancellationToken::new()).await });
    for number in 0..5000 {
        producer.write_all(format!("line {number}\n").as_bytes()).await.unwrap();
    }
    producer.write_all(b"no end").await.unwrap();
    drop(producer);
    assert_eq!(running.await.unwrap().unwrap(), stdin::Summary { records: 5001, too_long: 0 });
    let payloads = house.payloads("clicks", 5001).await;
    let wrong = (0..5000).find(|number| payloads[*number] != format!("line {number}").into_bytes());
    assert_eq!(wrong, None);
    assert_eq!(payloads[5000], b"no end");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_pipe_keeps_what_was_whole() {
    let house = House::open().await;
    let stream = house.streams["clicks"].clone();
    let (mut producer, consumer) = tokio::io::duplex(1000);
    let stop = CancellationToken::new();
    let (clock, stopped) = (Clock::new(|| NOW_MS), stop.clone());
    let running = tokio::spawn(async move { stdin::run(consumer, &stream, &clock, stopped).await });
    producer.write_all(b"one\ntwo\nha").await.unwrap();
    assert_eq!(house.payloads("clicks", 2).await, [b"one", b"two"]);
    stop.cancel();
    assert_eq!(running.await.unwrap().unwrap(), stdin::Summary { records: 2, too_long: 0 });
    house.lives_with(2).await;
    house.stop().await;
}
