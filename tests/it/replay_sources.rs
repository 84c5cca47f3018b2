//! The sources of replays keep the contract of all sources.

use std::fs;
use std::sync::Arc;

use async_trait::async_trait;
use hydrant::error::{Reason, RejectedBy};
use hydrant::ground::Ground;
use hydrant::ground::Random;
use hydrant::position::Shard;
use hydrant::rejected::Lines;
use hydrant::sink::{ObjectSink, Options};
use hydrant::source::Source;
use hydrant::source::demo::{self, DemoSource};
use hydrant::source::replay::{Classes, ErrorSource, PartSource, Plan, Planned, Sight};
use hydrant::transform::Rejected;
use tempfile::TempDir;

use crate::source_contract::{Case, keeps_the_contract};

/// Error objects of all sizes: some for one read, some for several, and one that is larger than a read.
struct ErrorObjects {
    dir: TempDir,
    plan: Plan,
    records: Vec<Vec<u8>>,
}

impl ErrorObjects {
    fn new() -> ErrorObjects {
        let dir = tempfile::tempdir().unwrap();
        let lines = Lines::new("p", &Shard::new("7f").unwrap());
        let (mut objects, mut records) = (Vec::new(), Vec::new());
        for (number, count) in [3, 0, 2_000, 1, 14_000, 500, 700].into_iter().enumerate() {
            let mut text = Vec::new();
            for n in 0..count {
                let record = format!("{number} {n} {}", "x".repeat((n * 37) % 300)).into_bytes();
                let reason = Reason { by: RejectedBy::Transform, code: "X", message: "m".into() };
                lines.append(&Rejected::new(record.clone().into(), 1_700_000_000_000, reason), 2, &mut text);
                records.push(record);
            }
            let name = format!("errors/{number}");
            fs::create_dir_all(dir.path().join("errors")).unwrap();
            fs::write(dir.path().join(&name), &text).unwrap();
            objects.push(Planned { name, bytes: text.len() as u64, modified_ms: 0, classes: Classes::ALL });
        }
        ErrorObjects { dir, plan: Plan { shard: "replay7f".to_owned(), objects }, records }
    }
}

#[async_trait]
impl Case for ErrorObjects {
    async fn open(&self) -> Box<dyn Source> {
        let options = Options::at(self.dir.path().to_str().unwrap());
        let sink = ObjectSink::open_to_read(&options, Random::real()).unwrap();
        Box::new(ErrorSource::new(sink, Arc::new(self.plan.clone()), Arc::new(Sight::default())).unwrap())
    }

    async fn expected(&self) -> Vec<Vec<Vec<u8>>> {
        vec![self.records.clone()]
    }
}

/// Records 2,000 to 17,000 of a log of 20,000.
struct Part {
    dir: TempDir,
}

const PART: (u64, u64) = (2_000, 17_000);

impl Part {
    fn log(&self) -> DemoSource {
        let options = demo::Options { rate: 0, records: Some(20_000), seed: 7 };
        DemoSource::open(&Ground::real(), self.dir.path(), &options, true).unwrap()
    }
}

#[async_trait]
impl Case for Part {
    async fn open(&self) -> Box<dyn Source> {
        let log = self.log().next_shard().await.unwrap().unwrap();
        let shard = Shard::new("replay1").unwrap();
        Box::new(PartSource::new(Box::new(self.log()), (log, shard), PART, true))
    }

    async fn expected(&self) -> Vec<Vec<Vec<u8>>> {
        let source = self.log();
        let shard = source.next_shard().await.unwrap().unwrap();
        let mut reader = source.open(&shard, None).await.unwrap();
        let mut records = Vec::new();
        while let Some(read) = reader.next().await.unwrap() {
            records.extend(read.batch.payloads().map(<[u8]>::to_vec));
        }
        vec![records[PART.0 as usize..PART.1 as usize].to_vec()]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn error_objects_keep_the_contract() {
    keeps_the_contract(&ErrorObjects::new()).await;
}

#[tokio::test]
async fn a_part_of_a_log_keeps_the_contract() {
    keeps_the_contract(&Part { dir: tempfile::tempdir().unwrap() }).await;
}
