//! From a record's value to a piece of a folder name: percent-encoding as Hive does it, and a limit.

use sha2::{Digest, Sha256};

/// Longest value in a name, in bytes after encoding; a longer one is cut and gets a hash of the whole.
pub const VALUE_BYTES_MAX: usize = 120;

/// `~` and 16 hexadecimal digits. No value holds a bare `~`, so no value can pass for a cut one.
const HASH_BYTES: usize = 17;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Appends `value`, encoded, to `out`; false (and nothing appended) if it is empty.
///
/// ASCII letters and digits and `-_.!(),@` stay, and letters, digits and signs of other scripts, which Hive and Spark
/// read back as they are. All else is `%XX` per UTF-8 byte: `/`, `%`, `=`, `#`, `\`, blanks, control characters, and
/// characters that look like `.` or `/` or cannot be seen. So is `_` or `.` at the beginning (readers skip such files,
/// `..` leads out, `__HIVE_DEFAULT_PARTITION__` means null) and `.` at the end (Azure).
pub fn push(out: &mut String, value: &str) -> bool {
    if value.len() <= VALUE_BYTES_MAX && is_plain(value) {
        out.push_str(value);
        return !value.is_empty();
    }
    let begin = out.len();
    let mut cut = begin;
    let last = value.chars().next_back().map_or(0, |c| value.len() - c.len_utf8());
    for (at, c) in value.char_indices() {
        let at_edge = (at == 0 && matches!(c, '_' | '.')) || (at == last && c == '.');
        if at_edge || !is_safe(c) {
            let mut buffer = [0; 4];
            for byte in c.encode_utf8(&mut buffer).bytes() {
                out.push('%');
                out.push(HEX[usize::from(byte >> 4)] as char);
                out.push(HEX[usize::from(byte & 15)] as char);
            }
        } else {
            out.push(c);
        }
        if out.len() - begin <= VALUE_BYTES_MAX - HASH_BYTES {
            cut = out.len();
        }
        if out.len() - begin > VALUE_BYTES_MAX {
            out.truncate(cut);
            push_hash(out, value);
            return true;
        }
    }
    out.len() > begin
}

fn push_hash(out: &mut String, value: &str) {
    out.push('~');
    for byte in &Sha256::digest(value.as_bytes())[..8] {
        out.push((HEX[usize::from(byte >> 4)] as char).to_ascii_lowercase());
        out.push((HEX[usize::from(byte & 15)] as char).to_ascii_lowercase());
    }
}

/// Whether the value stays as it is, seen from its bytes alone (the usual case).
fn is_plain(value: &str) -> bool {
    value.bytes().all(|b| b.is_ascii_alphanumeric() || is_safe_sign(b))
        && !value.starts_with(['_', '.'])
        && !value.ends_with('.')
}

fn is_safe_sign(byte: u8) -> bool {
    matches!(byte, b'-' | b'_' | b'.' | b'!' | b'(' | b')' | b',' | b'@')
}

fn is_safe(c: char) -> bool {
    match u8::try_from(c) {
        Ok(byte) if byte.is_ascii() => byte.is_ascii_alphanumeric() || is_safe_sign(byte),
        _ => !(c.is_control() || c.is_whitespace() || is_deceptive(c)),
    }
}

/// Characters beyond ASCII that cannot be seen, turn the writing direction, or that Unicode normalisation (NFKC) or
/// the eye turns into `.`, `/` or `\`; and those that are none (private use, non-characters).
fn is_deceptive(c: char) -> bool {
    matches!(u32::from(c),
        0xAD | 0x34F | 0x61C | 0x115F..=0x1160 | 0x17B4..=0x17B5 | 0x180B..=0x180F
        | 0x200B..=0x200F | 0x2024..=0x2026 | 0x2028..=0x202E | 0x2044 | 0x2060..=0x206F | 0x2215..=0x2216
        | 0x29F5 | 0x29F8..=0x29F9 | 0x3164 | 0xE000..=0xF8FF | 0xFDD0..=0xFDEF
        | 0xFE00..=0xFE0F | 0xFE19 | 0xFE30 | 0xFE52 | 0xFE68 | 0xFEFF | 0xFF0E | 0xFF0F | 0xFF3C
        | 0xFFA0 | 0xFFF0..=0xFFFF | 0xE0000..=0x10FFFF)
        || (u32::from(c) & 0xFFFE) == 0xFFFE
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(value: &str) -> String {
        let mut out = String::new();
        push(&mut out, value);
        out
    }

    #[test]
    fn plain_values_stay_as_they_are() {
        for plain in ["de", "user_1", "a.b", "München", "東京", "हिन्दी", "2026-11-20", "a@b.example", "-5"]
        {
            assert_eq!(encoded(plain), plain);
        }
    }

    #[test]
    fn nasty_values_become_one_harmless_piece() {
        for (nasty, expected) in [
            ("../", "%2E.%2F"),
            ("..", "%2E%2E"),
            (".", "%2E"),
            ("...", "%2E.%2E"),
            ("%2e%2e", "%252e%252e"),
            ("a/b", "a%2Fb"),
            ("..\\..\\x", "%2E.%5C..%5Cx"),
            ("nul\0", "nul%00"),
            ("line\nend\r", "line%0Aend%0D"),
            ("x#1", "x%231"),
            ("_hydrant", "%5Fhydrant"),
            ("__HIVE_DEFAULT_PARTITION__", "%5F_HIVE_DEFAULT_PARTITION__"),
            ("a=b", "a%3Db"),
            (" ", "%20"),
            ("\u{2024}\u{2024}\u{2044}", "%E2%80%A4%E2%80%A4%E2%81%84"),
            ("\u{ff0e}\u{ff0f}", "%EF%BC%8E%EF%BC%8F"),
            ("a\u{202e}b", "a%E2%80%AEb"),
            ("~", "%7E"),
            ("x?y:z*", "x%3Fy%3Az%2A"),
            ("\u{1}0", "%010"),
        ] {
            assert_eq!(encoded(nasty), expected, "{nasty:?}");
        }
        assert!(!push(&mut String::new(), ""), "an empty value is no folder");
    }

    #[test]
    fn a_long_value_is_cut_and_keeps_its_identity() {
        let (a, b) = (format!("{}a", "x".repeat(299)), format!("{}b", "x".repeat(299)));
        assert_eq!(encoded(&a).len(), VALUE_BYTES_MAX);
        assert_ne!(encoded(&a), encoded(&b), "the hash tells them apart");
        assert_eq!(encoded(&"y".repeat(VALUE_BYTES_MAX)), "y".repeat(VALUE_BYTES_MAX), "the limit itself fits");
        let slashes = encoded(&"/".repeat(100_000));
        assert!(slashes.starts_with("%2F%2F") && slashes.len() <= VALUE_BYTES_MAX, "{slashes}");
        let (kept, _) = slashes.split_once('~').unwrap();
        assert_eq!(kept.len() % 3, 0, "no escape is cut in two");
    }

    proptest! {
        #[test]
        fn no_value_leaves_its_folder(value in "(.|[./\\\\_~%#\u{0}\n]){1,200}") {
            let piece = encoded(&value);
            prop_assert!(!piece.is_empty() && piece.len() <= VALUE_BYTES_MAX);
            prop_assert!(!piece.starts_with(['.', '_', '/']) && !piece.ends_with('.'));
            prop_assert!(!piece.contains(['/', '\\', '#', '=', ' ']) && !piece.contains(char::is_control));
        }

        #[test]
        fn different_values_get_different_folders(a in "(.|[./_~%#]){1,150}", b in "(.|[./_~%#]){1,150}") {
            prop_assert_eq!(a == b, encoded(&a) == encoded(&b));
        }
    }
}
