//! From a JSON value to a cell: which values each type takes, and what it says of those it does not.
//!
//! Numbers and booleans are also taken from strings that spell them exactly. Recursion follows the schema, never the
//! record: what no column asks for is skipped without recursion.

use std::collections::BTreeMap;

use super::OnUnknown;
use super::column::{Members, Node, Texts, Values};
use super::flaw::{Flaw, Found};
use super::map::map;
use super::number::Number;
use super::rest::Leavings;
use super::scan::{Scanner, byte_at};
use super::time;
use super::usual::usual_value;
use crate::encode::schema::{BinaryText, Type, Unit};

/// A record on its way into columns.
pub struct Cursor<'a, 'd> {
    pub scan: Scanner<'a>,
    /// Holds a string without its escapes for a moment.
    pub scratch: &'d mut Vec<u8>,
    /// The unknown fields so far, as JSON. Each value that has structs inside leaves one value here, in its shape
    /// (`{"ctx":{"new":1},"items":[{},{"x":2}]}`), and what turns out to have none is cut away again.
    pub rest: &'d mut Vec<u8>,
    /// How many unknown fields there were.
    pub unknown: usize,
    pub on_unknown: OnUnknown,
    /// Whether a float64 refuses whole numbers that it would round. The quick way takes none of so many digits.
    pub exact: bool,
    /// What each member left in `rest`, should it come again.
    pub leavings: &'d mut Leavings,
    /// How many cells elements and entries took that are more than their JSON tells, and how many they may.
    pub cells: usize,
    pub cells_max: usize,
    /// By where a map begins: the entries that later ones supersede. So each map is found out about once, however many
    /// maps around it are read again.
    pub superseded: BTreeMap<usize, Vec<usize>>,
}

impl Cursor<'_, '_> {
    fn keeps(&self, node: &Node) -> bool {
        node.has_structs && self.on_unknown == OnUnknown::Keep
    }

    /// Begins a member of the object at the end of `rest`.
    pub fn rest_member(&mut self) {
        if self.rest.last() != Some(&b'{') {
            self.rest.push(b',');
        }
    }

    /// Counts an element or entry, which takes a cell in every column inside it even if it is `{}`.
    #[inline]
    pub fn count(&mut self, element: &Node) -> Found<()> {
        self.cells += element.cells;
        match self.cells <= self.cells_max {
            true => Ok(()),
            false => Err(Box::new(Flaw::TooManyCells { path: String::new(), most: self.cells_max })),
        }
    }

    fn number(&mut self, byte: u8) -> Found<Option<Number<'_>>> {
        match byte {
            b'-' | b'0'..=b'9' => self.scan.number().map(Some),
            b'"' => Ok(Number::whole_text(self.scan.string()?.plain(self.scratch))),
            _ => Ok(None),
        }
    }
}

/// Reads the object that begins here into row `row` of `members`, `depth` objects and arrays deep.
pub fn object(cursor: &mut Cursor, members: &mut Members, row: usize, depth: usize) -> Found<()> {
    let Members { keys, names, nodes } = members;
    let keep = cursor.on_unknown == OnUnknown::Keep;
    cursor.scan.at += 1;
    if keep {
        cursor.rest.push(b'{');
    }
    let opened = cursor.leavings.open();
    let mut filled = 0;
    let mut next = 0;
    let mut more = cursor.scan.token() != b'}';
    if !more {
        cursor.scan.at += 1;
    }
    // In the usual way nothing is kept in memory but the columns: `at` stays in a register.
    let bytes = cursor.scan.bytes;
    let mut at = cursor.scan.at;
    while more {
        let (start, column);
        match keys.likely(next).and_then(|seen| Some((seen, seen.end_at(bytes, at)?))) {
            Some((seen, end)) => {
                (start, column) = (at, seen.column);
                at = end;
                next += 1;
            }
            None => {
                cursor.scan.at = at;
                cursor.scan.token();
                start = cursor.scan.at;
                column = keys.find(&mut cursor.scan, &mut next, cursor.scratch)?;
                at = cursor.scan.at;
            }
        }
        match column {
            Some(column) => {
                let node = &mut nodes[column];
                if node.len() == row {
                    filled += 1;
                } else {
                    node.truncate(row);
                    if keep && node.has_structs {
                        cursor.unknown -= cursor.leavings.supersede(opened, column, cursor.rest);
                    }
                }
                match usual_value(bytes, at, node) {
                    Some(end) => at = end,
                    None => {
                        cursor.scan.at = at;
                        member(cursor, start, column, node, depth).map_err(|flaw| flaw.within(&names[column]))?;
                        at = cursor.scan.at;
                    }
                }
            }
            None => {
                cursor.scan.at = at;
                unknown_field(cursor, start, depth)?;
                at = cursor.scan.at;
            }
        }
        if byte_at(bytes, at) == b',' {
            at += 1;
            continue;
        }
        cursor.scan.at = at;
        more = again(&mut cursor.scan, b'}', "expected `,` or `}`")?;
        at = cursor.scan.at;
    }
    cursor.scan.at = at;
    if keep {
        cursor.rest.push(b'}');
        cursor.leavings.close(opened);
    }
    if filled < nodes.len() {
        fill(members, row)?;
    }
    Ok(())
}

/// Reads any value as the next row of column `column` of its object; its key began at `start`.
fn member(cursor: &mut Cursor, start: usize, column: usize, node: &mut Node, depth: usize) -> Found<()> {
    let (rest_len, unknown) = (cursor.rest.len(), cursor.unknown);
    let keeps = cursor.keeps(node);
    if keeps {
        cursor.rest_member();
        cursor.rest.extend_from_slice(cursor.scan.since(start));
    }
    value(cursor, node, depth)?;
    if keeps {
        match cursor.unknown - unknown {
            0 => cursor.rest.truncate(rest_len),
            more => cursor.leavings.left(column, rest_len, cursor.rest.len(), more),
        }
    }
    Ok(())
}

fn unknown_field(cursor: &mut Cursor, start: usize, depth: usize) -> Found<()> {
    let key = cursor.scan.since(start);
    cursor.scan.token();
    let at = cursor.scan.at;
    cursor.scan.skip(depth)?;
    cursor.unknown += 1;
    match cursor.on_unknown {
        OnUnknown::Drop => {}
        OnUnknown::Reject => {
            // The colon stands behind the key, perhaps with blanks between.
            let key = key.strip_suffix(b":").unwrap_or(key).trim_ascii();
            let path = String::from_utf8_lossy(key).trim_matches('"').to_owned();
            return Err(Box::new(Flaw::Unknown { at, path }));
        }
        OnUnknown::Keep => {
            cursor.rest_member();
            cursor.rest.extend_from_slice(cursor.scan.since(start));
        }
    }
    Ok(())
}

/// Nulls for the fields that were not there.
fn fill(members: &mut Members, row: usize) -> Found<()> {
    for (node, name) in members.nodes.iter().zip(&members.names) {
        if node.len() == row && !node.data.nullable {
            return Err(Box::new(Flaw::Missing { path: name.to_string(), expected: node.data.kind.to_string() }));
        }
    }
    members.fill(row);
    Ok(())
}

/// Takes the comma behind a member or element, or the end of them all: whether there is more.
#[inline]
pub fn again(scan: &mut Scanner, end: u8, expected: &'static str) -> Found<bool> {
    let byte = scan.token();
    if byte != b',' && byte != end {
        return Err(scan.malformed(expected));
    }
    scan.at += 1;
    Ok(byte == b',')
}

/// Reads the value that begins here as the next row of `node`.
pub fn value(cursor: &mut Cursor, node: &mut Node, depth: usize) -> Found<()> {
    let byte = cursor.scan.token();
    let at = cursor.scan.at;
    if byte == b'n' {
        return null(cursor, node, at);
    }
    let row = node.len();
    let (keeps, exact) = (cursor.keeps(node), cursor.exact);
    let taken = match (&node.data.kind, &mut node.values) {
        (Type::String, Values::Bytes(texts)) => string(cursor, byte, texts)?,
        (Type::Int { .. }, values) => match cursor.number(byte)? {
            Some(number) => int(&number, values),
            None => Err(""),
        },
        (Type::Float64, Values::F64(cells)) => match cursor.number(byte)? {
            Some(number) if exact && number.is_rounded() => Err("more digits than a float64 holds"),
            Some(number) => number.f64().map(|value| cells.push(value)).ok_or(OUT_OF_RANGE),
            None => Err(""),
        },
        (Type::Float32, Values::F32(cells)) => match cursor.number(byte)? {
            Some(number) => number.f32().map(|value| cells.push(value)).ok_or(OUT_OF_RANGE),
            None => Err(""),
        },
        (Type::Bool, Values::Bool(bits)) => boolean(cursor, byte)?.map(|value| bits.push(value)),
        (Type::Timestamp(unit, _), Values::I64(cells)) if !node.formats.is_empty() => {
            declared(cursor, byte, |text| time::timestamp_as(&node.formats, text, *unit))?
                .map(|value| cells.push(value))
        }
        (Type::Date, Values::I32(cells)) if !node.formats.is_empty() => {
            declared(cursor, byte, |text| time::date_as(&node.formats, text))?.map(|value| cells.push(value))
        }
        (Type::Time(unit), values) if !node.formats.is_empty() => {
            declared(cursor, byte, |text| time::time_as(&node.formats, text, *unit))?
                .and_then(|value| push_int(values, value))
        }
        (Type::Timestamp(unit, _), Values::I64(cells)) => {
            timestamp(cursor, byte, *unit)?.map(|value| cells.push(value))
        }
        (Type::Date, Values::I32(cells)) => date(cursor, byte)?.map(|value| cells.push(value)),
        (Type::Time(unit), values) => time_of_day(cursor, byte, *unit)?.and_then(|value| push_int(values, value)),
        (Type::Decimal { precision, scale }, values) => match cursor.number(byte)? {
            Some(number) => decimal(&number, *precision, *scale, values),
            None => Err(""),
        },
        (Type::Binary(text), Values::Bytes(texts)) => binary(cursor, byte, *text, texts)?,
        (Type::Json, Values::Bytes(texts)) => {
            texts.data.extend_from_slice(cursor.scan.skip(depth)?);
            texts.push_end();
            Ok(())
        }
        (Type::Dictionary, Values::Dictionary(dictionary)) if byte == b'"' => {
            dictionary.push(cursor.scan.string()?.plain(cursor.scratch));
            Ok(())
        }
        (Type::List(_), Values::List { ends, element }) if byte == b'[' => {
            list(cursor, element, keeps, depth + 1)?;
            ends.push(element.len());
            Ok(())
        }
        (Type::Map(_), Values::Map { ends, keys, value }) if byte == b'{' => {
            map(cursor, keys, value, keeps, depth + 1)?;
            ends.push(keys.len());
            Ok(())
        }
        (Type::Struct(_), Values::Struct(members)) if byte == b'{' => {
            object(cursor, members, row, depth + 1)?;
            Ok(())
        }
        _ => Err(""),
    };
    match taken {
        Ok(()) => {
            node.push_valid();
            Ok(())
        }
        Err(why) => Err(conflict(cursor, node, at, why)),
    }
}

/// A value that is none for this type; if it is no JSON at all, that is what is said.
#[cold]
fn conflict(cursor: &mut Cursor, node: &Node, at: usize, why: &'static str) -> Box<Flaw> {
    cursor.scan.at = at;
    match cursor.scan.skip(0) {
        Ok(_) => {
            let expected = node.data.to_string();
            Box::new(Flaw::Conflict { at, path: String::new(), expected, why })
        }
        Err(flaw) => flaw,
    }
}

fn null(cursor: &mut Cursor, node: &mut Node, at: usize) -> Found<()> {
    cursor.scan.literal("null")?;
    if !node.data.nullable {
        return Err(conflict(cursor, node, at, ""));
    }
    node.push_null();
    if cursor.keeps(node) {
        cursor.rest.extend_from_slice(b"null");
    }
    Ok(())
}

/// What became of a value: it is in its column, or it cannot be, and why (an empty text where the kind says it).
pub type Taken<T> = Result<T, &'static str>;

const OUT_OF_RANGE: &str = "out of range";

#[inline]
fn string(cursor: &mut Cursor, byte: u8, texts: &mut Texts) -> Found<Taken<()>> {
    if byte != b'"' {
        return Ok(Err(""));
    }
    // Part of it may be there, of the usual way.
    texts.truncate(texts.len());
    cursor.scan.string_into(&mut texts.data)?;
    texts.push_end();
    Ok(Ok(()))
}

#[inline]
fn int(number: &Number, values: &mut Values) -> Taken<()> {
    match number.whole() {
        Some(whole) => push_int(values, whole),
        None if number.scaled(0).is_some_and(|scaled| !scaled.exact) => Err("not a whole number"),
        None => Err(OUT_OF_RANGE),
    }
}

#[inline(always)]
pub fn push_int<W>(values: &mut Values, whole: W) -> Taken<()>
where
    i8: TryFrom<W>,
    i16: TryFrom<W>,
    i32: TryFrom<W>,
    i64: TryFrom<W>,
    u8: TryFrom<W>,
    u16: TryFrom<W>,
    u32: TryFrom<W>,
    u64: TryFrom<W>,
{
    fn push<W, T: TryFrom<W>>(cells: &mut Vec<T>, whole: W) -> Taken<()> {
        cells.push(T::try_from(whole).map_err(|_| OUT_OF_RANGE)?);
        Ok(())
    }
    match values {
        Values::I8(cells) => push(cells, whole),
        Values::I16(cells) => push(cells, whole),
        Values::I32(cells) => push(cells, whole),
        Values::I64(cells) => push(cells, whole),
        Values::U8(cells) => push(cells, whole),
        Values::U16(cells) => push(cells, whole),
        Values::U32(cells) => push(cells, whole),
        Values::U64(cells) => push(cells, whole),
        _ => unreachable!("whole numbers are kept as whole numbers"),
    }
}

fn decimal(number: &Number, precision: u8, scale: u8, values: &mut Values) -> Taken<()> {
    let scaled = number.scaled(scale.into()).ok_or(OUT_OF_RANGE)?;
    if !scaled.exact {
        return Err("more digits behind the point than the column's scale");
    }
    if !scaled.fits(precision) {
        return Err(OUT_OF_RANGE);
    }
    match values {
        Values::I128(cells) => cells.push(scaled.i128(number.negative).ok_or(OUT_OF_RANGE)?),
        Values::I256(cells) => cells.push(scaled.i256(number.negative)),
        _ => unreachable!("decimals are kept in 128 or 256 bits"),
    }
    Ok(())
}

fn boolean(cursor: &mut Cursor, byte: u8) -> Found<Taken<bool>> {
    Ok(match byte {
        b't' => cursor.scan.literal("true").map(|()| Ok(true))?,
        b'f' => cursor.scan.literal("false").map(|()| Ok(false))?,
        b'"' => match cursor.scan.string()?.plain(cursor.scratch) {
            b"true" => Ok(true),
            b"false" => Ok(false),
            _ => Err(""),
        },
        _ => Err(""),
    })
}

fn timestamp(cursor: &mut Cursor, byte: u8, unit: Unit) -> Found<Taken<i64>> {
    if byte != b'"' {
        let number = cursor.number(byte)?;
        return Ok(number.map_or(Err(""), |number| time::timestamp_number(&number, unit).ok_or(OUT_OF_RANGE)));
    }
    let text = cursor.scan.string()?.plain(cursor.scratch);
    if let Some(units) = time::timestamp(text, unit) {
        return Ok(Ok(units));
    }
    Ok(match Number::whole_text(text) {
        Some(number) => time::timestamp_number(&number, unit).ok_or(OUT_OF_RANGE),
        None => Err("no RFC 3339 time that the column can hold"),
    })
}

/// A date or time in the formats that its column declares, from a text or the text of a number.
fn declared<T>(cursor: &mut Cursor, byte: u8, read: impl Fn(&[u8]) -> Option<T>) -> Found<Taken<T>> {
    let text = match byte {
        b'"' => cursor.scan.string()?.plain(cursor.scratch),
        _ => match cursor.number(byte)? {
            Some(number) => number.text,
            None => return Ok(Err("")),
        },
    };
    Ok(read(text).ok_or("not as the column's format says"))
}

fn date(cursor: &mut Cursor, byte: u8) -> Found<Taken<i32>> {
    if byte == b'"' {
        return Ok(time::date(cursor.scan.string()?.plain(cursor.scratch)).ok_or("no date written yyyy-MM-dd"));
    }
    let days = cursor.number(byte)?.map(|number| number.whole());
    Ok(match days {
        None => Err(""),
        Some(days) => days.and_then(|days| i32::try_from(days).ok()).ok_or("no count of days since 1970"),
    })
}

fn time_of_day(cursor: &mut Cursor, byte: u8, unit: Unit) -> Found<Taken<i64>> {
    if byte == b'"' {
        let text = cursor.scan.string()?.plain(cursor.scratch);
        return Ok(time::time(text, unit).ok_or("no time written HH:mm:ss"));
    }
    let units = cursor.number(byte)?.map(|number| number.whole());
    let day = i128::from(86_400_000_000_000 / unit.nanos());
    Ok(match units {
        None => Err(""),
        Some(units) => units
            .filter(|units| (0..day).contains(units))
            .and_then(|units| i64::try_from(units).ok())
            .ok_or("no count of units since midnight"),
    })
}

fn binary(cursor: &mut Cursor, byte: u8, written: BinaryText, texts: &mut Texts) -> Found<Taken<()>> {
    if byte != b'"' {
        return Ok(Err(""));
    }
    let text = cursor.scan.string()?;
    let bytes = text.plain(cursor.scratch);
    match written {
        BinaryText::Utf8 => texts.data.extend_from_slice(bytes),
        BinaryText::Base64 => {
            if base64_simd::STANDARD.decode_append(bytes, &mut *texts.data).is_err() {
                return Ok(Err("no base64"));
            }
        }
        BinaryText::Hex => {
            let nibble = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
            let (pairs, odd) = bytes.as_chunks::<2>();
            let decoded = pairs.iter().map_while(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?));
            let before = texts.data.len();
            texts.data.extend(decoded);
            if !odd.is_empty() || texts.data.len() - before != pairs.len() {
                return Ok(Err("no hex"));
            }
        }
    }
    texts.push_end();
    Ok(Ok(()))
}

fn list(cursor: &mut Cursor, element: &mut Node, keeps: bool, depth: usize) -> Found<()> {
    cursor.scan.at += 1;
    if keeps {
        cursor.rest.push(b'[');
    }
    let mut index = 0;
    let mut more = cursor.scan.token() != b']';
    if !more {
        cursor.scan.at += 1;
    }
    let bytes = cursor.scan.bytes;
    let mut at = cursor.scan.at;
    while more {
        if keeps && index > 0 {
            cursor.rest.push(b',');
        }
        match usual_value(bytes, at, element) {
            Some(end) => at = end,
            None => {
                cursor.scan.at = at;
                cursor.count(element)?;
                value(cursor, element, depth).map_err(|flaw| flaw.within(&format!("[{index}]")))?;
                at = cursor.scan.at;
            }
        }
        index += 1;
        if byte_at(bytes, at) == b',' {
            at += 1;
            continue;
        }
        cursor.scan.at = at;
        more = again(&mut cursor.scan, b']', "expected `,` or `]`")?;
        at = cursor.scan.at;
    }
    if keeps {
        cursor.rest.push(b']');
    }
    Ok(())
}
