//! A house for files: what the stories of `file_rotation` and `file_source` live in.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use futures::FutureExt;
use futures::future::select_all;
use hydrant::ground::Ground;
use hydrant::position::{Position, Shard};
use hydrant::source::file::{FileSource, Options, Pace};
use hydrant::source::{Read, Reader, Source};
use tempfile::TempDir;

use crate::source_contract::file_options;

/// A pace for tests.
pub const HURRY: Pace = Pace { scan_ms: 5, poll_ms: 2, quiet_ms: 30, files_held_max: 512 };

/// A folder with files, and the state of a source beside it.
pub struct House {
    pub dir: TempDir,
}

impl House {
    pub fn new() -> House {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        House { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("log").join(name)
    }

    pub fn append(&self, name: &str, text: impl AsRef<[u8]>) -> File {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap();
        file.write_all(text.as_ref()).unwrap();
        file
    }

    pub fn options(&self, glob: &str) -> Options {
        file_options(vec![self.path(glob)])
    }

    pub fn open(&self, options: &Options, bounded: bool) -> FileSource {
        FileSource::open_at_pace(&Ground::real(), &self.dir.path().join("state"), options, bounded, HURRY).unwrap()
    }

    pub fn follow(&self, glob: &str) -> Follower {
        Follower { source: self.open(&self.options(glob), false), logs: vec![], from: vec![] }
    }

    /// All records of a bounded run, per shard.
    pub async fn read(&self, options: &Options) -> Vec<Vec<String>> {
        let mut follower = Follower { source: self.open(options, true), logs: vec![], from: vec![] };
        let mut all = vec![];
        while let Some(shard) = follower.source.next_shard().await.unwrap() {
            follower.open(shard).await;
            let log = follower.logs.last_mut().unwrap();
            while let Some(read) = log.reader.next().await.unwrap() {
                log.keep(read);
            }
            all.push(std::mem::take(&mut log.records));
        }
        all
    }

    pub fn registry(&self) -> String {
        fs::read_to_string(self.dir.path().join("state/registry")).unwrap()
    }
}

/// What a pipeline does with a source: waits for shards and for records at once, and cancels what did not come first.
pub struct Follower {
    pub source: FileSource,
    pub logs: Vec<Log>,
    /// Where to open known shards.
    pub from: Vec<(Shard, Position)>,
}

/// One shard as far as it was read.
pub struct Log {
    pub shard: Shard,
    pub reader: Box<dyn Reader>,
    pub records: Vec<String>,
    pub ended: bool,
}

impl Log {
    pub fn keep(&mut self, read: Read) {
        self.records.extend(read.batch.payloads().map(|payload| String::from_utf8(payload.to_vec()).unwrap()));
    }
}

impl Follower {
    /// Goes on until `done` says so; a minute is never needed.
    pub async fn until(&mut self, done: impl Fn(&[Log]) -> bool) {
        let go_on = async {
            while !done(&self.logs) {
                self.step().await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), go_on).await.is_err() {
            let seen: Vec<_> = self.logs.iter().map(|log| (&log.shard, log.records.len(), log.ended)).collect();
            panic!("it never came to that: {seen:?}");
        }
    }

    pub async fn until_records(&mut self, expected: &[&[&str]]) {
        self.until(|logs| {
            logs.len() == expected.len()
                && logs.iter().zip(expected).all(|(log, lines)| log.records.len() >= lines.len())
        })
        .await;
        for (log, lines) in self.logs.iter().zip(expected) {
            assert_eq!(log.records, *lines);
        }
    }

    pub async fn step(&mut self) {
        enum Came {
            Shard(Option<Shard>),
            Read(usize, Option<Read>),
        }
        let shard = self.source.next_shard().map(|shard| Came::Shard(shard.unwrap())).boxed_local();
        let open = self.logs.iter_mut().enumerate().filter(|(_, log)| !log.ended);
        let reads =
            open.map(|(at, log)| log.reader.next().map(move |read| Came::Read(at, read.unwrap())).boxed_local());
        let (came, _, _) = select_all(reads.chain([shard])).await;
        match came {
            Came::Shard(shard) => self.open(shard.expect("a followed source does not end")).await,
            Came::Read(at, Some(read)) => self.logs[at].keep(read),
            Came::Read(at, None) => self.logs[at].ended = true,
        }
    }

    pub async fn open(&mut self, shard: Shard) {
        let from = self.from.iter().find(|(known, _)| *known == shard).map(|(_, from)| from);
        let reader = self.source.open(&shard, from).await.unwrap();
        self.logs.push(Log { shard, reader, records: vec![], ended: false });
    }

    /// Kills the process; the next one reads on where this one was.
    pub fn restart(self, house: &House, glob: &str) -> Follower {
        let from = self.logs.iter().map(|log| (log.shard.clone(), log.reader.position())).collect();
        drop(self.source);
        Follower { from, ..house.follow(glob) }
    }
}
