//! The unknown fields of a record as they gather: what a member left that a later one of its column supersedes is
//! blanked, and closed up when the record ends, so that it is linear whatever repeats.
//!
//! ```text
//! {"ctx":{"new":1},"id2":7   ctx comes again:   {................,"id2":7   at the end:   {"id2":7
//! ```

/// Stands where a member was; JSON has none, not even in strings.
const BLANK: u8 = 0;

/// What members left in the rest of the objects that are open, the innermost last.
#[derive(Default)]
pub struct Leavings {
    left: Vec<Left>,
    blanked: bool,
}

/// What the last member of a column left: its bytes, with the comma before it, and how many unknown fields.
struct Left {
    column: usize,
    start: usize,
    end: usize,
    unknown: usize,
}

impl Leavings {
    /// Forgets the record before.
    pub fn clear(&mut self) {
        self.left.clear();
        self.blanked = false;
    }

    /// Where those of the object begin that opens now.
    pub fn open(&self) -> usize {
        self.left.len()
    }

    /// Ends the object whose leavings begin at `opened`.
    pub fn close(&mut self, opened: usize) {
        self.left.truncate(opened);
    }

    /// A member of `column` left the bytes from `start` to `end`, with this many unknown fields.
    #[cold]
    pub fn left(&mut self, column: usize, start: usize, end: usize, unknown: usize) {
        self.left.push(Left { column, start, end, unknown });
    }

    /// `column` comes again in the object opened at `opened`: blanks what its last member left, and says how many unknown
    /// fields that were.
    #[cold]
    pub fn supersede(&mut self, opened: usize, column: usize, rest: &mut [u8]) -> usize {
        let Some(place) = self.left[opened..].iter().position(|left| left.column == column) else { return 0 };
        let left = self.left.swap_remove(opened + place);
        rest[left.start..left.end].fill(BLANK);
        self.blanked = true;
        left.unknown
    }

    /// Closes the record's rest up over what was blanked.
    pub fn tidy(&self, rest: &mut Vec<u8>) {
        if !self.blanked {
            return;
        }
        let (mut kept, mut gap) = (0, false);
        for at in 0..rest.len() {
            let byte = rest[at];
            if byte == BLANK {
                gap = true;
                continue;
            }
            // The first member went, and its comma stands before the second.
            let comma_of_first = gap && byte == b',' && rest[..kept].last() == Some(&b'{');
            gap = false;
            if !comma_of_first {
                rest[kept] = byte;
                kept += 1;
            }
        }
        rest.truncate(kept);
    }
}
