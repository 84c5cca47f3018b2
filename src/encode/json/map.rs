//! Maps: objects whose keys are data, of which equal ones are found and the last kept.

use super::column::{Node, Texts};
use super::flaw::Found;
use super::usual::usual_value;
use super::value::{Cursor, again, value};

/// Reads a map. Of equal keys the last wins, so that keys are distinct as readers demand: an entry that a later one
/// supersedes is found at the end, and then all are read again without it.
pub fn map(cursor: &mut Cursor, keys: &mut Texts, values: &mut Node, keeps: bool, depth: usize) -> Found<()> {
    let (at, rest_len, unknown, first) = (cursor.scan.at, cursor.rest.len(), cursor.unknown, keys.len());
    let cells = cursor.cells;
    if let Some(known) = cursor.superseded.remove(&at) {
        entries(cursor, keys, values, keeps, depth, &known)?;
        cursor.superseded.insert(at, known);
        return Ok(());
    }
    entries(cursor, keys, values, keeps, depth, &[])?;
    let superseded = superseded(keys, first);
    if !superseded.is_empty() {
        keys.truncate(first);
        values.truncate(first);
        cursor.scan.at = at;
        cursor.rest.truncate(rest_len);
        cursor.unknown = unknown;
        cursor.cells = cells;
        entries(cursor, keys, values, keeps, depth, &superseded)?;
        cursor.superseded.insert(at, superseded);
    }
    Ok(())
}

fn entries(
    cursor: &mut Cursor,
    keys: &mut Texts,
    values: &mut Node,
    keeps: bool,
    depth: usize,
    superseded: &[usize],
) -> Found<()> {
    cursor.scan.at += 1;
    if keeps {
        cursor.rest.push(b'{');
    }
    let mut superseded = superseded.iter().copied().peekable();
    let mut index = 0;
    let mut more = cursor.scan.token() != b'}';
    if !more {
        cursor.scan.at += 1;
    }
    while more {
        let byte = cursor.scan.token();
        let start = cursor.scan.at;
        if byte != b'"' {
            return Err(cursor.scan.malformed("expected a string"));
        }
        cursor.scan.string_into(&mut keys.data)?;
        let token = cursor.scan.since(start);
        cursor.scan.expect(b':', "expected `:`")?;
        if superseded.next_if_eq(&index).is_some() {
            keys.truncate(keys.len());
            cursor.scan.skip(depth)?;
        } else {
            keys.push_end();
            let (rest_len, unknown) = (cursor.rest.len(), cursor.unknown);
            if keeps {
                cursor.rest_member();
                cursor.rest.extend_from_slice(token);
                cursor.rest.push(b':');
            }
            match usual_value(cursor.scan.bytes, cursor.scan.at, values) {
                Some(end) => cursor.scan.at = end,
                None => {
                    cursor.count(values)?;
                    value(cursor, values, depth)
                        .map_err(|flaw| flaw.within(&format!("[{}]", String::from_utf8_lossy(token))))?;
                }
            }
            if keeps && cursor.unknown == unknown {
                cursor.rest.truncate(rest_len);
            }
        }
        index += 1;
        more = again(&mut cursor.scan, b'}', "expected `,` or `}`")?;
    }
    if keeps {
        cursor.rest.push(b'}');
    }
    Ok(())
}

/// Which of the keys from `first` on come again later, counted from `first`, in order.
fn superseded(keys: &Texts, first: usize) -> Vec<usize> {
    let count = keys.len() - first;
    let key = |index: usize| keys.get(first + index);
    if count <= 16 {
        // Few enough to compare each with each, without an allocation when all are distinct.
        return (0..count).filter(|index| (index + 1..count).any(|later| key(later) == key(*index))).collect();
    }
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|index| key(*index));
    let mut superseded: Vec<usize> =
        order.windows(2).filter(|pair| key(pair[0]) == key(pair[1])).map(|pair| pair[0]).collect();
    superseded.sort_unstable();
    superseded
}
