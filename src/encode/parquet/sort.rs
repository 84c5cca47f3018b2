//! The order of the rows of a row group, for `sort_by`.

use std::cmp::Ordering;
use std::io;

use arrow_array::{Array, RecordBatch};
use arrow_cmp::{DynComparator, make_comparator};
use arrow_schema::{ArrowError, SortOptions};
use arrow_select::concat::concat;

/// Batch and row of every row of these batches, sorted by these columns; equal rows stay in the order in which they came.
pub fn order(batches: &[RecordBatch], by: &[(usize, usize, SortOptions)]) -> io::Result<Vec<(usize, usize)>> {
    let comparator = |(column, _, how): &(usize, usize, SortOptions)| -> Result<DynComparator, ArrowError> {
        let arrays: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(*column).as_ref()).collect();
        let all = concat(&arrays)?;
        make_comparator(&all, &all, *how)
    };
    let comparators: Vec<DynComparator> =
        by.iter().map(comparator).collect::<Result<_, _>>().map_err(io::Error::other)?;
    let places: Vec<(usize, usize)> = batches
        .iter()
        .enumerate()
        .flat_map(|(batch, rows)| (0..rows.num_rows()).map(move |row| (batch, row)))
        .collect();
    let mut order: Vec<usize> = (0..places.len()).collect();
    let compare = |a: &usize, b: &usize| {
        let mut orders = comparators.iter().map(|compare| compare(*a, *b));
        orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    };
    order.sort_by(compare);
    Ok(order.into_iter().map(|row| places[row]).collect())
}
