//! Takes batches through the transforms of a pipeline, as a pipeline does.

use async_trait::async_trait;
use hydrant::budget::Budget;
use hydrant::error::Fault;
use hydrant::pipeline::Transforms;
use hydrant::position::Position;
use hydrant::record::Batch;
use hydrant::source::{Read, Reader};
use hydrant::transform::Transformed;

/// A shard of one read.
struct Once(Option<Batch>);

#[async_trait]
impl Reader for Once {
    fn position(&self) -> Position {
        0.into()
    }

    fn tail(&self) -> Position {
        1.into()
    }

    async fn next(&mut self) -> Result<Option<Read>, Fault> {
        Ok(self.0.take().map(|batch| Read { batch, end: 1.into() }))
    }
}

/// What becomes of a batch, all pieces together.
pub async fn through(transforms: &Transforms, batch: Batch) -> Result<Transformed, Fault> {
    let mut reader = transforms.reader(Box::new(Once(Some(batch))), &Budget::new(usize::MAX), false);
    let (mut all, mut batches) = (Transformed::default(), Vec::new());
    while let Some(piece) = reader.next().await? {
        assert_eq!(piece.end, 1.into());
        batches.push(piece.transformed.batch);
        all.rejected.extend(piece.transformed.rejected);
        all.dropped += piece.transformed.dropped;
        if piece.is_last {
            break;
        }
    }
    Ok(Transformed { batch: Batch::join(batches), ..all })
}
