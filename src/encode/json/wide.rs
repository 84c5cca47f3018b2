//! Sixteen bytes at a step: which of them are special, and eight digits as one number.
//!
//! On x86-64 by SSE2, which every such processor has, so that nothing is detected at run time and all of it is inlined
//! into the loops (strings of records are short: wider registers would mostly hold what comes behind them). Elsewhere by
//! plain code that a compiler makes wide; both are held against each other in the tests.

/// Bytes of a block.
pub const BLOCK: usize = 16;

#[cfg(not(target_arch = "x86_64"))]
pub use plain::Block;
#[cfg(target_arch = "x86_64")]
pub use sse2::Block;

/// The block at `at`, with zeros behind the end of `bytes`.
#[inline(always)]
pub fn load(bytes: &[u8], at: usize) -> Block {
    match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(block) => Block::new(block),
        None => Block::new(&tail(bytes, at)),
    }
}

/// The eight bytes at `at`, the first lowest, with zeros behind the end of `bytes`.
#[inline(always)]
pub fn load_word(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(word) => u64::from_le_bytes(*word),
        None => tail_word(bytes, at),
    }
}

/// What is left at `at`, by the last block of the bytes if there is one: a record's last fields are all read like this.
#[inline(never)]
fn tail(bytes: &[u8], at: usize) -> [u8; BLOCK] {
    let left = bytes.len().saturating_sub(at);
    match bytes.last_chunk::<BLOCK>() {
        Some(_) if left == 0 => [0; BLOCK],
        Some(last) if left <= BLOCK => (u128::from_le_bytes(*last) >> (8 * (BLOCK - left))).to_le_bytes(),
        _ => {
            let mut block = [0; BLOCK];
            block.iter_mut().zip(bytes.iter().skip(at)).for_each(|(to, byte)| *to = *byte);
            block
        }
    }
}

/// The same for a word.
#[inline(always)]
fn tail_word(bytes: &[u8], at: usize) -> u64 {
    match bytes.last_chunk() {
        Some(last) if at < bytes.len() => u64::from_le_bytes(*last) >> (8 * (8 - (bytes.len() - at))),
        Some(_) => 0,
        None => tail(bytes, at).iter().take(8).rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// A mask of the first `count` bytes, at most all.
#[inline(always)]
pub fn first(count: usize) -> u32 {
    if count >= BLOCK { 0xffff } else { (1 << count) - 1 }
}

#[cfg(target_arch = "x86_64")]
mod sse2 {
    use std::arch::x86_64::*;

    use super::BLOCK;

    /// Bytes that are looked at together, in a register; bit `i` of a mask tells of byte `i`.
    #[derive(Clone, Copy)]
    pub struct Block(__m128i);

    // SAFETY of all here: the instructions are SSE2, which is a part of x86-64 itself; loads and stores are those of whole
    // arrays of 16 bytes, and need no alignment.
    impl Block {
        #[inline(always)]
        pub fn new(bytes: &[u8; BLOCK]) -> Block {
            Block(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
        }

        #[inline(always)]
        pub fn bytes(self) -> [u8; BLOCK] {
            let mut bytes = [0; BLOCK];
            unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), self.0) };
            bytes
        }

        /// Quotes, backslashes and control characters: where plain text in a string ends.
        #[inline(always)]
        pub fn special(self) -> u32 {
            unsafe {
                let quote = _mm_cmpeq_epi8(self.0, _mm_set1_epi8(b'"' as i8));
                let backslash = _mm_cmpeq_epi8(self.0, _mm_set1_epi8(b'\\' as i8));
                let control = _mm_cmpeq_epi8(_mm_min_epu8(self.0, _mm_set1_epi8(0x1f)), self.0);
                _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), control)) as u32
            }
        }

        /// Bytes that are not ASCII.
        #[inline(always)]
        pub fn high(self) -> u32 {
            unsafe { _mm_movemask_epi8(self.0) as u32 }
        }

        /// Bytes that are the same in both.
        #[inline(always)]
        pub fn equal(self, other: Block) -> u32 {
            unsafe { _mm_movemask_epi8(_mm_cmpeq_epi8(self.0, other.0)) as u32 }
        }
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod plain {
    use super::BLOCK;

    /// Bytes that are looked at together; bit `i` of a mask tells of byte `i`.
    #[derive(Clone, Copy)]
    pub struct Block([u8; BLOCK]);

    impl Block {
        #[inline(always)]
        pub fn new(bytes: &[u8; BLOCK]) -> Block {
            Block(*bytes)
        }

        #[inline(always)]
        pub fn bytes(self) -> [u8; BLOCK] {
            self.0
        }

        /// Quotes, backslashes and control characters: where plain text in a string ends.
        #[inline(always)]
        pub fn special(self) -> u32 {
            mask(|at| matches!(self.0[at], b'"' | b'\\' | 0..0x20))
        }

        /// Bytes that are not ASCII.
        #[inline(always)]
        pub fn high(self) -> u32 {
            mask(|at| !self.0[at].is_ascii())
        }

        /// Bytes that are the same in both.
        #[inline(always)]
        pub fn equal(self, other: Block) -> u32 {
            mask(|at| self.0[at] == other.0[at])
        }
    }

    #[inline(always)]
    fn mask(is: impl Fn(usize) -> bool) -> u32 {
        (0..BLOCK).fold(0, |mask, at| mask | u32::from(is(at)) << at)
    }
}

const ZEROS: u64 = u64::from_le_bytes([b'0'; 8]);
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// How many of the eight bytes, from the first, are digits, and the number that these are.
#[inline(always)]
pub fn digits(word: u64) -> (usize, u64) {
    let values = word ^ ZEROS;
    // The lowest high bit is exact: what is carried goes upwards, beyond a byte that is no digit.
    let others = (values.wrapping_add(0x7676_7676_7676_7676) | values) & HIGHS;
    let count = others.trailing_zeros() as usize / 8;
    if count == 0 {
        return (0, 0);
    }
    (count, eight(values << (8 * (8 - count))))
}

/// The number of eight digits, each a byte from 0 to 9, the first the highest: by pairs, by fours, by eights.
#[inline(always)]
pub fn eight(values: u64) -> u64 {
    const LOWS: u64 = 0x0000_00ff_0000_00ff;
    let pairs = values.wrapping_mul(10).wrapping_add(values >> 8);
    let high = (pairs & LOWS).wrapping_mul(100 + (1_000_000 << 32));
    let low = (pairs >> 16 & LOWS).wrapping_mul(1 + (10_000 << 32));
    high.wrapping_add(low) >> 32
}

/// The digits of `word` as values, if its bytes are as in `pattern`: a `0` stands for any digit, others for themselves.
#[inline(always)]
pub fn as_in(word: u64, pattern: [u8; 8]) -> Option<u64> {
    let room = pattern.map(|byte| if byte == b'0' { 0x76 } else { 0x7f });
    let values = word ^ u64::from_le_bytes(pattern);
    // No byte carries when none has its high bit, and one that has is refused anyway.
    let others = (values.wrapping_add(u64::from_le_bytes(room)) | values) & HIGHS;
    (others == 0).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_and_plain_code_agree_on_every_byte_at_every_place() {
        for byte in 0..=255u8 {
            for filler in [b'a', b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xff, b'"', 0] {
                for place in 0..BLOCK {
                    let mut block = [filler; BLOCK];
                    block[place] = byte;
                    let (wide, same) = (Block::new(&block), Block::new(&[filler; BLOCK]));
                    let (plain, same_plain) = (plain::Block::new(&block), plain::Block::new(&[filler; BLOCK]));
                    assert_eq!(wide.special(), plain.special(), "{block:?}");
                    assert_eq!(wide.high(), plain.high(), "{block:?}");
                    assert_eq!(wide.equal(same), plain.equal(same_plain), "{block:?}");
                    assert_eq!((wide.bytes(), plain.bytes()), (block, block));
                }
            }
        }
    }

    #[test]
    fn behind_the_end_there_are_zeros() {
        let bytes: Vec<u8> = (1..=40).collect();
        for len in 0..bytes.len() {
            for at in 0..45 {
                let expected: Vec<u8> = (at..at + BLOCK).map(|i| if i < len { bytes[i] } else { 0 }).collect();
                assert_eq!(load(&bytes[..len], at).bytes()[..], expected);
                assert_eq!(load_word(&bytes[..len], at).to_le_bytes()[..], expected[..8]);
            }
        }
    }

    #[test]
    fn digits_are_counted_and_read_up_to_the_first_other_byte() {
        for count in 0..=8 {
            for other in (0..=255u8).filter(|byte| !byte.is_ascii_digit()) {
                for behind in [b'7', 0xff, 0x8a, b'/', b':'] {
                    let mut text = [behind; 8];
                    text[..count].copy_from_slice(&b"98765432"[..count]);
                    if count < 8 {
                        text[count] = other;
                    }
                    let value = std::str::from_utf8(&text[..count]).unwrap().parse().unwrap_or(0);
                    assert_eq!(digits(u64::from_le_bytes(text)), (count, value), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn a_pattern_is_matched_by_digits_where_it_has_zeros_and_by_nothing_else() {
        let pattern = *b"00:00-0Z";
        for place in 0..8 {
            for byte in 0..=255u8 {
                let mut text = *b"12:34-5Z";
                text[place] = byte;
                let fits = if pattern[place] == b'0' { byte.is_ascii_digit() } else { byte == pattern[place] };
                let found = as_in(u64::from_le_bytes(text), pattern).map(u64::to_le_bytes);
                assert_eq!(found.is_some(), fits, "{text:?}");
                assert!(found.is_none_or(|values| pattern[place] != b'0' || values[place] == byte - b'0'));
            }
        }
    }
}
