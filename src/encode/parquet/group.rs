//! An open row group: a writer for each leaf, which idle cores share, and what they hold.
//!
//! ```text
//! batches -> columns -> leaves -> page | page | page being filled     all pages are held until the row group ends,
//!                                                                     then leaf by leaf: dictionary page, pages
//! ```

use std::cmp::Reverse;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::ArrowError;
use arrow_select::interleave::interleave;
use bytes::Bytes;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowLeafColumn, ArrowRowGroupWriterFactory, InMemoryPageStore, PageKey,
    PageStore, PageStoreArgs, PageStoreFactory, compute_leaves,
};
use parquet::basic::Compression as Codec;
use parquet::errors::Result as ParquetResult;
use parquet::file::writer::SerializedFileWriter;

use super::layout::Layout;
use super::learned::Learned;
use super::pipe::Pipe;
use crate::cpu::spread;

/// Bytes of JSON whose columns are worth other cores.
const SHARE_JSON_BYTES_MIN: u64 = 1 << 20;
/// Rows that are gathered at a time when they are written in another order than they came.
const GATHER_ROWS: usize = 16_384;

/// A row group that takes rows.
pub struct Group {
    leaves: Vec<Leaf>,
    pub rows: u64,
    pub json_bytes: u64,
}

struct Leaf {
    writer: ArrowColumnWriter,
    /// Bytes of the pages that are complete.
    paged: Arc<AtomicU64>,
    /// What the leaf cost so far: the costly ones begin first, so that cores end together.
    cost: Duration,
    context_bytes: usize,
}

/// The rows to write, and in which order.
pub enum Rows<'a> {
    AsTheyCame(&'a [RecordBatch]),
    /// Batch and row within it.
    Ordered(&'a [RecordBatch], &'a [(usize, usize)]),
}

impl Rows<'_> {
    fn count(&self) -> usize {
        match self {
            Rows::AsTheyCame(batches) => batches.iter().map(RecordBatch::num_rows).sum(),
            Rows::Ordered(_, order) => order.len(),
        }
    }

    /// Gives the rows of a column, piece by piece.
    fn column(&self, column: usize, mut take: impl FnMut(&ArrayRef) -> io::Result<()>) -> io::Result<()> {
        match self {
            Rows::AsTheyCame(batches) => batches.iter().try_for_each(|batch| take(batch.column(column))),
            Rows::Ordered(batches, order) => {
                let arrays: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(column).as_ref()).collect();
                let gather = |piece| interleave(&arrays, piece).map_err(|error: ArrowError| io::Error::other(error));
                order.chunks(GATHER_ROWS).try_for_each(|piece| take(&gather(piece)?))
            }
        }
    }
}

/// Where a leaf's values come from.
enum Values {
    /// A column that is its own leaf.
    Column(usize),
    /// One of the leaves of a nested column.
    Leaves(Vec<ArrowLeafColumn>),
}

impl Group {
    /// An empty row group of this file.
    pub fn open(file: &SerializedFileWriter<Pipe>, layout: &Layout) -> io::Result<Group> {
        let paged: Vec<Arc<AtomicU64>> = layout.leaves.iter().map(|_| Arc::default()).collect();
        let factory = ArrowRowGroupWriterFactory::new(file, layout.arrow.clone())
            .with_page_store_factory(Arc::new(CountedPages(paged.clone())));
        let writers = factory.create_column_writers(file.flushed_row_groups().len()).map_err(io::Error::other)?;
        assert_eq!(writers.len(), paged.len(), "a writer for each leaf");
        let leaves = writers.into_iter().zip(paged).zip(file.schema_descr().columns());
        let leaves = leaves.map(|((writer, paged), column)| Leaf {
            writer,
            paged,
            cost: Duration::ZERO,
            context_bytes: context_bytes(file.properties().compression(column.path())),
        });
        Ok(Group { leaves: leaves.collect(), rows: 0, json_bytes: 0 })
    }

    /// Encodes these rows, the leaves side by side.
    pub fn write(&mut self, layout: &Layout, rows: &Rows, json_bytes: u64) -> io::Result<()> {
        let mut work: Vec<(&mut Leaf, Values)> = Vec::with_capacity(self.leaves.len());
        let mut leaves = self.leaves.iter_mut();
        for (column, count) in layout.leaves_of.iter().enumerate() {
            let mine = leaves.by_ref().take(*count);
            if *count == 1 && !layout.arrow.field(column).data_type().is_nested() {
                work.extend(mine.map(|leaf| (leaf, Values::Column(column))));
                continue;
            }
            let mut pieces: Vec<Vec<ArrowLeafColumn>> = (0..*count).map(|_| Vec::new()).collect();
            rows.column(column, |array| {
                let leaves = compute_leaves(layout.arrow.field(column), array).map_err(io::Error::other)?;
                pieces.iter_mut().zip(leaves).for_each(|(pieces, leaf)| pieces.push(leaf));
                Ok(())
            })?;
            work.extend(mine.zip(pieces).map(|(leaf, pieces)| (leaf, Values::Leaves(pieces))));
        }
        work.sort_by_key(|(leaf, _)| Reverse(leaf.cost));
        let failed = Mutex::new(None);
        share(work, json_bytes, |(leaf, values)| {
            let begun = Instant::now();
            if let Err(error) = leaf.write(layout, rows, values) {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
            leaf.cost += begun.elapsed();
        });
        self.rows += rows.count() as u64;
        self.json_bytes += json_bytes;
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Bytes of it if it ended now.
    pub fn size(&self, learned: &Learned) -> u64 {
        let size = |(index, leaf): (usize, &Leaf)| {
            let (all, paged) = (leaf.writer.get_estimated_total_bytes() as u64, leaf.paged.load(Ordering::Relaxed));
            paged + learned.compressed(index, all.saturating_sub(paged))
        };
        self.leaves.iter().enumerate().map(size).sum()
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.leaves.iter().map(|leaf| leaf.writer.memory_size() + leaf.context_bytes).sum()
    }

    /// Bytes of the pages that are complete.
    pub fn paged_bytes(&self) -> u64 {
        self.leaves.iter().map(|leaf| leaf.paged.load(Ordering::Relaxed)).sum()
    }

    /// Ends the row group and writes it out.
    pub fn close(
        self,
        file: &mut SerializedFileWriter<Pipe>,
        learned: &Learned,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let mut closed: Vec<Option<ParquetResult<ArrowColumnChunk>>> = self.leaves.iter().map(|_| None).collect();
        let mut work: Vec<_> = self.leaves.into_iter().zip(&mut closed).collect();
        work.sort_by_key(|(leaf, _)| Reverse(leaf.cost));
        share(work, self.json_bytes, |(leaf, closed)| *closed = Some(leaf.writer.close()));
        let pipe = file.inner().clone();
        let mut group = file.next_row_group().map_err(io::Error::other)?;
        let mut bytes = 0;
        for (index, chunk) in closed.into_iter().enumerate() {
            let chunk = chunk.expect("every leaf was closed").map_err(io::Error::other)?;
            let metadata = &chunk.close().metadata;
            let (raw, compressed) = (metadata.uncompressed_size().max(0), metadata.compressed_size().max(0));
            learned.leaf_became(index, raw.unsigned_abs(), compressed.unsigned_abs());
            bytes += compressed.unsigned_abs();
            chunk.append_to_row_group(&mut group).map_err(io::Error::other)?;
            pipe.drain(out)?;
        }
        group.close().map_err(io::Error::other)?;
        learned.rows_became(self.json_bytes, bytes);
        Ok(())
    }
}

impl Leaf {
    fn write(&mut self, layout: &Layout, rows: &Rows, values: Values) -> io::Result<()> {
        let mut write = |leaf: &ArrowLeafColumn| self.writer.write(leaf).map_err(io::Error::other);
        match values {
            Values::Leaves(pieces) => pieces.iter().try_for_each(write),
            Values::Column(column) => rows.column(column, |array| {
                let leaves = compute_leaves(layout.arrow.field(column), array).map_err(io::Error::other)?;
                leaves.iter().try_for_each(&mut write)
            }),
        }
    }
}

/// Does `work` to every item, on idle cores as well if that much JSON is worth them.
fn share<T: Send>(items: Vec<T>, json_bytes: u64, work: impl Fn(T) + Sync) {
    match json_bytes >= SHARE_JSON_BYTES_MIN {
        true => spread(items, work),
        false => items.into_iter().for_each(work),
    }
}

/// Pages in memory, counted.
#[derive(Debug)]
struct CountedPages(Vec<Arc<AtomicU64>>);

impl PageStoreFactory for CountedPages {
    fn create(&self, args: &PageStoreArgs<'_>) -> ParquetResult<Box<dyn PageStore>> {
        let paged = self.0[args.column_index()].clone();
        Ok(Box::new(CountedStore { pages: InMemoryPageStore::default(), paged }))
    }
}

struct CountedStore {
    pages: InMemoryPageStore,
    paged: Arc<AtomicU64>,
}

impl PageStore for CountedStore {
    fn put(&mut self, page: Bytes) -> ParquetResult<PageKey> {
        self.paged.fetch_add(page.len() as u64, Ordering::Relaxed);
        self.pages.put(page)
    }

    fn take(&mut self, key: PageKey) -> ParquetResult<Bytes> {
        self.pages.take(key)
    }

    fn memory_size(&self) -> usize {
        self.pages.memory_size()
    }
}

/// What a compressor keeps between pages, which the writers do not count: for zstd the tables of its levels and the
/// sequences of a block (`ZSTD_estimateCCtxSize` for pages of 1 MiB), for zlib its window and tables.
fn context_bytes(codec: Codec) -> usize {
    match codec {
        Codec::ZSTD(level) => match level.compression_level() {
            ..=1 => 500 << 10,
            2..=4 => 1200 << 10,
            5..=12 => 2 << 20,
            _ => 12 << 20,
        },
        Codec::GZIP(_) => 400 << 10,
        _ => 32 << 10,
    }
}
