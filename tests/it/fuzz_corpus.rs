//! The decoder's fuzz corpus, replayed: what once was worth keeping is checked in every run.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

#[path = "../../fuzz/check.rs"]
mod check;

fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/decode");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect()
}

#[test]
fn the_decoder_reads_its_corpus_as_a_slow_reading_does() {
    let corpus = corpus();
    assert!(corpus.len() > 30, "the corpus is somewhere else now");
    for (name, data) in corpus {
        println!("{name}");
        check::check(&data);
    }
}

#[test]
fn records_of_the_corpus_mean_the_same_under_every_schema_and_rule() {
    for (name, data) in corpus() {
        println!("{name}");
        for choice in 0..=255 {
            let changed: Vec<u8> =
                data.iter().enumerate().map(|(at, byte)| if at == 0 { choice } else { *byte }).collect();
            check::check(&changed);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn damaged_records_are_read_as_a_slow_reading_reads_them(
        file in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0u8..4, any::<u8>()), 1..4)
    ) {
        let corpus = corpus();
        let mut data = file.get(&corpus).1.clone();
        for (place, how, byte) in damage {
            let at = place.index(data.len().max(1));
            match how {
                0 if at < data.len() => drop(data.remove(at)),
                1 => data.insert(at, byte),
                2 => data.truncate(at.max(1)),
                _ => if let Some(there) = data.get_mut(at) { *there ^= 1 << (byte % 8) },
            }
        }
        check::check(&data);
    }
}
