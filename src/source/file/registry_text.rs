//! The registry as text, one line per file, with a last line that makes any damage known.
//!
//! ```text
//! hydrant file registry 1
//! 7f3a9c0d11e2b4a8 2049 131090 1763632801000000000 1024 c59d..e1 0 /var/log/app.log     one line per file:
//! shard            dev  inode  birth ns or -       fingerprint  start, path (% escapes); start - : not wanted
//! end 1 8d2f11aa                                                   number of files, CRC-32C of all before
//! ```

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::identity::{Fingerprint, Identity};
use super::registry::Entry;
use crate::position::Shard;

const FIRST_LINE: &str = "hydrant file registry 1";

/// The text of these entries.
pub fn print<'a>(entries: impl Iterator<Item = &'a Entry>) -> String {
    let mut text = format!("{FIRST_LINE}\n");
    let mut count = 0;
    for entry in entries {
        let Identity { dev, ino, born_ns } = entry.identity;
        let Fingerprint { bytes, hash } = entry.fingerprint;
        let (born, start) = (or_dash(born_ns), or_dash(entry.start));
        let path = escape(&entry.path);
        let _ = writeln!(text, "{} {dev} {ino} {born} {bytes} {hash:032x} {start} {path}", entry.shard);
        count += 1;
    }
    let sum = crc32c::crc32c(text.as_bytes());
    let _ = writeln!(text, "end {count} {sum:08x}");
    text
}

/// The entries of a text, or what is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let text = str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let body = text.strip_suffix('\n').and_then(|text| text.rsplit_once('\n')).ok_or("too short")?;
    let covered = bytes.len() - body.1.len() - 1;
    let lines = body.0.strip_prefix(FIRST_LINE).ok_or("unknown first line")?;
    let entries = lines.lines().skip(1).map(parse_line).collect::<Option<Vec<Entry>>>().ok_or("unreadable line")?;
    let sum = crc32c::crc32c(bytes.get(..covered).unwrap_or_default());
    if body.1 != format!("end {} {sum:08x}", entries.len()) {
        return Err(format!("the last line should be: end {} {sum:08x}", entries.len()));
    }
    Ok(entries)
}

fn parse_line(line: &str) -> Option<Entry> {
    let mut words = line.split(' ');
    let shard = Shard::new(words.next()?)?;
    let dev = words.next()?.parse().ok()?;
    let ino = words.next()?.parse().ok()?;
    let born_ns = number_or_dash(words.next()?)?;
    let bytes = words.next()?.parse().ok()?;
    let hash = u128::from_str_radix(words.next()?, 16).ok()?;
    let start = number_or_dash(words.next()?)?;
    let path = unescape(words.next()?)?;
    let identity = Identity { dev, ino, born_ns };
    words.next().is_none().then(|| Entry::new(shard, identity, Fingerprint { bytes, hash }, start, path))
}

fn or_dash(number: Option<u64>) -> String {
    number.map_or("-".to_owned(), |number| number.to_string())
}

fn number_or_dash(text: &str) -> Option<Option<u64>> {
    if text == "-" { Some(None) } else { text.parse().ok().map(Some) }
}

fn escape(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_graphic() && *byte != b'%' {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02x}");
        }
    }
    text
}

fn unescape(text: &str) -> Option<PathBuf> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?
        } else {
            byte
        });
    }
    Some(PathBuf::from(OsString::from_vec(bytes)))
}
