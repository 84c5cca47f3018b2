//! The encoding and the codec of each leaf, chosen by trying them on rows of the data.
//!
//! A sample is written with each encoding that the leaf's type may have, and the cheapest wins: bytes, plus what the CPU
//! time is worth in bytes. Then a codec that does the same in less time takes the configured one's place: a lower level of
//! zstd, or none where nothing is won. The prices of CPU time are constants, so that equal data is written equally.

use std::io;
use std::sync::{Mutex, PoisonError};

use arrow_array::RecordBatch;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowLeafColumn, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression as Codec, Encoding, Type as Physical, ZstdLevel};
use parquet::errors::Result as ParquetResult;
use parquet::file::properties::{DEFAULT_DICTIONARY_PAGE_SIZE_LIMIT, WriterProperties};
use parquet::file::writer::SerializedFileWriter;

use super::layout::{Choice, Layout};
use super::learned::Learned;
use crate::cpu::spread;

/// Rows that are tried.
pub const SAMPLE_ROWS: usize = 8192;
/// Fewer rows tell too little.
pub const SAMPLE_ROWS_MIN: usize = 256;
/// A dictionary has to pay within so many times the rows of the sample: objects are not all large.
const DICTIONARY_HORIZON: f64 = 8.0;
/// Nanoseconds of CPU that are worth a byte, at zstd 3: at 3 s per GB of JSON that becomes a tenth, 1 % of the time is
/// worth a third of a per cent of the size.
const NANOS_PER_BYTE: f64 = 90.0;
/// What no other encoding needs to be tried for: a value costs less than so many bytes.
const GOOD_PRICE: f64 = 0.4;
/// How much larger a leaf may become by a lower level of zstd.
const LEVEL_SLACK: f64 = 1.01;
/// How much larger it may become without compression at all, which readers like, too.
const NO_CODEC_SLACK: f64 = 1.02;

/// What a leaf of the sample became, in bytes.
#[derive(Clone, Copy)]
struct Outcome {
    raw: f64,
    compressed: f64,
    /// Of them the dictionary's.
    dictionary: f64,
    values: f64,
    distinct: f64,
}

/// Makes a writer's properties of choices.
pub type Properties<'a> = &'a (dyn Fn(&[Choice]) -> WriterProperties + Sync);

/// Chooses for each leaf. `old` leaves out what the first version of the format did not have; `learned` gets to know how
/// large the sample became, which had `json_bytes`.
pub fn choose(
    layout: &Layout,
    batches: &[RecordBatch],
    json_bytes: u64,
    old: bool,
    properties: Properties,
    learned: &Learned,
) -> io::Result<Vec<Choice>> {
    let sample = Sample::take(layout, batches).map_err(io::Error::other)?;
    let trial = |choices: &[Option<Choice>]| sample.write(layout, choices, properties).map_err(io::Error::other);
    let candidates: Vec<Vec<Choice>> =
        layout.leaves.iter().map(|leaf| candidates(leaf.physical, old, layout.codec)).collect();
    let mut best: Vec<Option<(Choice, Outcome, f64)>> = vec![None; candidates.len()];
    for round in 0..candidates.iter().map(Vec::len).max().unwrap_or(0) {
        let open = |(leaf, best): (&Vec<Choice>, &Option<(Choice, Outcome, f64)>)| {
            leaf.get(round).copied().filter(|_| best.is_none_or(|(_, _, price)| price > GOOD_PRICE))
        };
        let choices: Vec<Option<Choice>> = candidates.iter().zip(&best).map(open).collect();
        for ((best, choice), outcome) in best.iter_mut().zip(&choices).zip(trial(&choices)?) {
            let (Some(choice), Some(outcome)) = (choice, outcome) else { continue };
            let price = price(choice, &outcome);
            let kept = best.filter(|(_, _, least)| *least <= price);
            *best = kept.or(Some((*choice, outcome, price)));
        }
    }
    if layout.codec != Codec::UNCOMPRESSED {
        for (choice, outcome, _) in best.iter_mut().flatten() {
            if outcome.raw <= outcome.compressed * NO_CODEC_SLACK {
                choice.codec = Codec::UNCOMPRESSED;
                outcome.compressed = outcome.raw;
            }
        }
    }
    for codec in lower_levels(layout.codec) {
        let choices: Vec<_> = best
            .iter()
            .map(|best| best.filter(|(choice, ..)| choice.codec != Codec::UNCOMPRESSED))
            .map(|best| best.map(|(choice, ..)| Choice { codec, ..choice }))
            .collect();
        for ((best, choice), outcome) in best.iter_mut().zip(&choices).zip(trial(&choices)?) {
            let (Some(best), Some(choice), Some(outcome)) = (best, choice, outcome) else { continue };
            if outcome.compressed <= best.1.compressed * LEVEL_SLACK {
                best.0 = *choice;
            }
        }
    }
    let mut bytes = 0.0;
    for (index, (_, outcome, _)) in best.iter().enumerate().filter_map(|(index, best)| best.map(|best| (index, best))) {
        learned.leaf_became(index, outcome.raw as u64, outcome.compressed as u64);
        bytes += outcome.compressed;
    }
    learned.rows_became((json_bytes as f64 * sample.share) as u64, bytes as u64);
    let unknown = layout.unknown_choices();
    Ok(best.into_iter().zip(unknown).map(|(best, unknown)| best.map_or(unknown, |(choice, ..)| choice)).collect())
}

/// What a leaf may be; on equal terms the first wins.
fn candidates(physical: Physical, old: bool, codec: Codec) -> Vec<Choice> {
    let plain = |encoding| Choice { dictionary: false, encoding, codec };
    let dictionary = |fallback| Choice { dictionary: true, encoding: fallback, codec };
    match physical {
        Physical::BOOLEAN if old => vec![plain(Encoding::PLAIN)],
        Physical::BOOLEAN => vec![plain(Encoding::RLE)],
        _ if old => vec![plain(Encoding::PLAIN), dictionary(Encoding::PLAIN)],
        Physical::INT32 | Physical::INT64 => vec![
            plain(Encoding::DELTA_BINARY_PACKED),
            dictionary(Encoding::DELTA_BINARY_PACKED),
            plain(Encoding::PLAIN),
        ],
        Physical::FLOAT | Physical::DOUBLE => {
            vec![plain(Encoding::PLAIN), dictionary(Encoding::PLAIN), plain(Encoding::BYTE_STREAM_SPLIT)]
        }
        Physical::BYTE_ARRAY => vec![
            plain(Encoding::DELTA_LENGTH_BYTE_ARRAY),
            dictionary(Encoding::DELTA_LENGTH_BYTE_ARRAY),
            plain(Encoding::DELTA_BYTE_ARRAY),
        ],
        _ => vec![plain(Encoding::PLAIN), dictionary(Encoding::PLAIN)],
    }
}

/// Lower levels of a codec, the highest first.
fn lower_levels(codec: Codec) -> Vec<Codec> {
    let level = |level| ZstdLevel::try_new(level).map(Codec::ZSTD).ok();
    let lower = match codec {
        Codec::ZSTD(zstd) if zstd.compression_level() > 3 => vec![level(3), level(1)],
        Codec::ZSTD(zstd) if zstd.compression_level() > 1 => vec![level(1)],
        _ => Vec::new(),
    };
    lower.into_iter().flatten().collect()
}

/// What a leaf costs in a row group, in bytes for each value.
fn price(choice: &Choice, outcome: &Outcome) -> f64 {
    let values = outcome.values.max(1.0);
    let raw = outcome.raw / values;
    let encode_nanos = match (choice.dictionary, choice.encoding) {
        (true, _) => 14.0,
        (_, Encoding::DELTA_BYTE_ARRAY) => 12.0 + 0.2 * raw,
        (_, Encoding::DELTA_LENGTH_BYTE_ARRAY) => 5.0 + 0.1 * raw,
        (_, Encoding::DELTA_BINARY_PACKED) => 4.0,
        (_, Encoding::BYTE_STREAM_SPLIT) => 2.0,
        _ => 1.0 + 0.1 * raw,
    };
    let (compress_nanos, worth) = match choice.codec {
        Codec::UNCOMPRESSED => (0.0, 1.0),
        Codec::SNAPPY | Codec::LZ4 | Codec::LZ4_RAW => (1.5, 1.0),
        Codec::ZSTD(level) if level.compression_level() <= 1 => (2.5, 1.0),
        // Who asks for a higher level wants small files more than CPU time.
        Codec::ZSTD(level) => (4.0, f64::from(level.compression_level()) / 3.0),
        _ => (20.0, 4.0),
    };
    let bytes = match choice.dictionary {
        true => dictionary_bytes(outcome),
        false => outcome.compressed / values,
    };
    bytes + (encode_nanos + compress_nanos * raw) / (NANOS_PER_BYTE * worth)
}

/// Bytes for each value with a dictionary, when there are as many rows as are usual: it is paid for by more of them, but
/// has more entries, and numbers of more bits.
fn dictionary_bytes(outcome: &Outcome) -> f64 {
    let (values, distinct) = (outcome.values.max(1.0), outcome.distinct.max(1.0));
    let many = values * DICTIONARY_HORIZON;
    let population = population(values, distinct);
    let distinct_of_many = seen(many, population);
    let dictionary = outcome.dictionary / distinct * distinct_of_many;
    let raw_share = (outcome.raw / outcome.compressed.max(1.0)).max(1.0);
    if dictionary * raw_share >= DEFAULT_DICTIONARY_PAGE_SIZE_LIMIT as f64 {
        return f64::INFINITY;
    }
    let bits = |distinct: f64| distinct.max(2.0).log2().ceil();
    let numbers = (outcome.compressed - outcome.dictionary) / values;
    numbers * bits(distinct_of_many) / bits(distinct) + dictionary / many
}

/// Of how many equally likely values so many were drawn, if `distinct` were seen.
fn population(drawn: f64, distinct: f64) -> f64 {
    let (mut low, mut high) = (distinct, drawn * 1e4);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        match seen(drawn, middle) < distinct {
            true => low = middle,
            false => high = middle,
        }
    }
    low
}

/// How many of so many equally likely values are seen in this many draws.
fn seen(drawn: f64, population: f64) -> f64 {
    population * (1.0 - (-drawn / population).exp())
}

/// Rows of the data, leaf by leaf.
struct Sample {
    leaves: Vec<Vec<ArrowLeafColumn>>,
    /// Of all rows that there were.
    share: f64,
}

impl Sample {
    fn take(layout: &Layout, batches: &[RecordBatch]) -> ParquetResult<Sample> {
        let mut leaves: Vec<Vec<ArrowLeafColumn>> = layout.leaves.iter().map(|_| Vec::new()).collect();
        let (mut rows, all) = (0, batches.iter().map(RecordBatch::num_rows).sum::<usize>());
        for batch in batches {
            let batch = batch.slice(0, batch.num_rows().min(SAMPLE_ROWS - rows));
            rows += batch.num_rows();
            let mut slots = leaves.iter_mut();
            for (field, column) in layout.arrow.fields().iter().zip(batch.columns()) {
                for leaf in compute_leaves(field, column)? {
                    slots.next().expect("the layout has every leaf").push(leaf);
                }
            }
        }
        Ok(Sample { leaves, share: rows as f64 / all.max(1) as f64 })
    }

    /// Writes the leaves that have a choice, to nowhere.
    fn write(
        &self,
        layout: &Layout,
        choices: &[Option<Choice>],
        properties: Properties,
    ) -> ParquetResult<Vec<Option<Outcome>>> {
        let all: Vec<Choice> =
            choices.iter().zip(layout.small_choices()).map(|(choice, other)| choice.unwrap_or(other)).collect();
        let counted = choices.iter().flatten().any(|choice| choice.dictionary);
        let properties = properties(&all).into_builder().set_write_row_group_number_distinct_values(counted).build();
        let file = SerializedFileWriter::new(io::sink(), layout.root.clone(), properties.into())?;
        let writers = ArrowRowGroupWriterFactory::new(&file, layout.arrow.clone()).create_column_writers(0)?;
        let mut outcomes: Vec<Option<Outcome>> = vec![None; choices.len()];
        let failed = Mutex::new(None);
        let work: Vec<_> = writers.into_iter().zip(&self.leaves).zip(&mut outcomes).zip(choices).collect();
        spread(work, |(((writer, leaves), outcome), choice)| {
            if choice.is_some() {
                match try_leaf(writer, leaves) {
                    Ok(became) => *outcome = Some(became),
                    Err(error) => *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error),
                }
            }
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(outcomes), Err)
    }
}

fn try_leaf(mut writer: ArrowColumnWriter, leaves: &[ArrowLeafColumn]) -> ParquetResult<Outcome> {
    leaves.iter().try_for_each(|leaf| writer.write(leaf))?;
    let chunk = writer.close()?;
    let closed = chunk.close();
    let pages = closed.offset_index.as_ref().map_or(&[][..], |index| index.page_locations());
    let data: i64 = pages.iter().map(|page| i64::from(page.compressed_page_size)).sum();
    let compressed = closed.metadata.compressed_size();
    let distinct = closed.metadata.statistics().and_then(|statistics| statistics.distinct_count_opt());
    Ok(Outcome {
        raw: closed.metadata.uncompressed_size() as f64,
        compressed: compressed as f64,
        dictionary: (compressed - data).max(0) as f64,
        values: closed.metadata.num_values() as f64,
        distinct: distinct.unwrap_or(1) as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dictionary_pays_for_few_values_and_not_for_many() {
        let outcome = |distinct: f64| Outcome {
            raw: 2.0 * 8192.0 + 40.0 * distinct,
            compressed: 1.5 * 8192.0 + 20.0 * distinct,
            dictionary: 20.0 * distinct,
            values: 8192.0,
            distinct,
        };
        assert!(dictionary_bytes(&outcome(10.0)) < 1.6);
        assert!(dictionary_bytes(&outcome(5000.0)) > 3.0, "most of its entries are yet to come");
        assert!(dictionary_bytes(&outcome(8100.0)).is_infinite(), "it would pass its limit");
    }

    #[test]
    fn how_many_values_there_are_is_told_by_how_often_they_come_again() {
        for there in [10.0, 1000.0, 100_000.0] {
            let told = population(8192.0, seen(8192.0, there));
            assert!((told / there - 1.0).abs() < 0.01, "{told} of {there}");
        }
    }
}
