//! Cells in a vector that comes back: what a batch was made of is filled again once nobody holds the batch any more.
//!
//! ```text
//! fill -> lend (the batch's buffer is the vector) -> the batch is encoded and dropped -> reuse: the same pages, warm
//! ```

use std::ops::{Deref, DerefMut};

use arrow_buffer::{ArrowNativeType, Buffer};

/// A vector of cells.
pub struct Cells<T> {
    cells: Vec<T>,
    /// What was lent last, and not asked back yet.
    lent: Option<Buffer>,
}

impl<T> Default for Cells<T> {
    fn default() -> Cells<T> {
        Cells { cells: Vec::new(), lent: None }
    }
}

impl<T: ArrowNativeType> Cells<T> {
    /// The cells as a buffer; there are none afterwards.
    pub fn lend(&mut self) -> Buffer {
        let buffer = Buffer::from_vec(std::mem::take(&mut self.cells));
        self.lent = Some(buffer.clone());
        buffer
    }

    /// Makes room as the last batch needed, in its own memory if nobody else holds it; to be called before the first cell.
    pub fn reuse(&mut self) {
        let Some(lent) = self.lent.take() else { return };
        let bytes = lent.len();
        self.cells = match lent.into_vec() {
            Ok(mut cells) => {
                cells.clear();
                cells
            }
            Err(_) => Vec::with_capacity(bytes / size_of::<T>()),
        };
    }

    /// Bytes of memory held, also of what is lent.
    pub fn memory(&self) -> usize {
        self.cells.capacity() * size_of::<T>() + self.lent.as_ref().map_or(0, Buffer::capacity)
    }
}

impl<T> Deref for Cells<T> {
    type Target = Vec<T>;

    #[inline(always)]
    fn deref(&self) -> &Vec<T> {
        &self.cells
    }
}

impl<T> DerefMut for Cells<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_only_when_nobody_holds_it() {
        let mut cells = Cells::<i64>::default();
        cells.extend(0..1000);
        let first = cells.lend();
        let place = first.as_ptr();
        cells.reuse();
        cells.push(7);
        assert_ne!(cells.as_ptr().cast(), place);
        assert_eq!(first.typed_data::<i64>()[999], 999);
        let second = cells.lend();
        let place = second.as_ptr();
        drop(second);
        cells.reuse();
        assert!(cells.is_empty() && cells.capacity() >= 1000);
        cells.push(8);
        assert_eq!(cells.as_ptr().cast(), place);
    }
}
