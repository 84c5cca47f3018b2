//! What the decoder makes of records, held against a slow reading of the same rules: used by the fuzz target `decode`, and
//! by the stories in `tests/it`, which replay its corpus.
//!
//! ```text
//! first byte: which schema, and what becomes of unknown fields | records, one per line
//! ```

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use hydrant::encode::json::{self, Decoder, MALFORMED_DATA, Matching, OnUnknown};
use hydrant::encode::schema::{BinaryText, Column, Schema, Type, Unit};

/// The schemas that the first byte chooses from.
pub const SCHEMAS: [&str; 6] = [
    "i: int64\ns: string\nf: float64\nb: bool\nd: dictionary<string>\nt: timestamp(ms)\nm: decimal(12,2)",
    "a: int8\nb: uint8\nc: int16\nd: uint32\ne: uint64\nf: float32\ng: decimal(76,10)\nh: decimal(38,0)\ni: int32 not null",
    "l: list<int64>\nn: list<list<string>>\nm: map<string,int32>\nk: map<string,list<float64>>\nz: list<dictionary<string>>",
    "o: 'struct<a:string, b:struct<c:int64, d:list<timestamp(us)>>, e:bool not null>'\np: 'list<struct<x:string,y:int8>>'\nq: map<string,struct<n:int64>>",
    "j: json\nx: binary(hex)\nu: binary(utf8)\ny: date\nt: time(ms)\nv: time(ns)\nts: timestamp(s)\ntn: 'timestamp(ns, none)'",
    "user_id: int64\nUser: string\ng_h: json\nname: { type: string, key: 'first.name' }\n_rst: bool",
];

/// Panics if the decoder and the slow reading disagree on any record of `data`.
pub fn check(data: &[u8]) {
    let Some((choice, records)) = data.split_first() else { return };
    let choice = usize::from(*choice);
    let schema: Schema = serde_saphyr::from_str(SCHEMAS[choice % SCHEMAS.len()]).expect("the schemas are right");
    let on_unknown = [OnUnknown::Keep, OnUnknown::Drop, OnUnknown::Reject][choice / SCHEMAS.len() % 3];
    let matching = Matching { case_insensitive: choice & 64 == 0, dots_to_underscores: choice & 128 != 0 };
    let rules = Rules { on_unknown, matching };
    let arrow = json::arrow_schema(&schema, on_unknown).expect("no column is named like the rest");
    let mut decoder = Decoder::new(&schema, arrow, on_unknown, matching);
    // Twice: the second time with what was learned, and in the memory of the first.
    for _ in 0..2 {
        let mut expected = Vec::new();
        for record in records.split(|byte| *byte == b'\n') {
            let shown = String::from_utf8_lossy(record);
            let parsed = parse(record);
            agree_with_serde(record, parsed.is_some());
            let row = parsed.as_ref().and_then(|parsed| rules.row(schema.columns(), parsed));
            match (decoder.push(record), row) {
                (Ok(()), Some(row)) => expected.push(row),
                (Err(reason), None) => {
                    assert!(parsed.is_none() || reason.code == MALFORMED_DATA, "{shown}: {reason:?}")
                }
                (ours, theirs) => panic!("{shown}: {ours:?}, but the slow reading says {theirs:?}"),
            }
        }
        assert_eq!(decoder.rows(), expected.len());
        let batch = decoder.finish();
        for (row, expected) in expected.iter().enumerate() {
            compare(&batch, row, expected, &schema);
        }
    }
}

/// The cells of a row, and the unknown fields of the record itself, as they stood.
type Row = (Vec<Cell>, Vec<String>, bool);

fn compare(batch: &RecordBatch, row: usize, (cells, unknown, any_unknown): &Row, schema: &Schema) {
    for (index, (cell, column)) in cells.iter().zip(schema.columns()).enumerate() {
        assert_eq!(&cell_of(batch.column(index), row), cell, "column {}, row {row}", column.name);
    }
    if let Some(rest) = batch.columns().get(cells.len()) {
        assert_eq!(rest.is_valid(row), *any_unknown, "row {row} has a rest just if it had unknown fields");
        if *any_unknown {
            let text = rest.as_string::<i32>().value(row);
            let Some(Json::Object(members)) = parse(text.as_bytes()).map(|parsed| parsed.json) else {
                panic!("the rest is no object: {text}")
            };
            let kept: Vec<String> = members.iter().map(|member| member.text.clone()).collect();
            assert!(unknown.iter().all(|field| kept.contains(field)), "{text} lacks one of {unknown:?}");
        }
    }
}

/// serde_json takes and refuses the same, but for numbers that it cannot hold, and its own limit of depth.
fn agree_with_serde(record: &[u8], ours: bool) {
    let theirs = serde_json::from_slice::<serde_json::Value>(record);
    let limits = ["number out of range", "recursion limit"];
    if theirs.as_ref().is_err_and(|error| limits.iter().any(|limit| error.to_string().contains(limit))) {
        return;
    }
    assert_eq!(theirs.is_ok(), ours, "{}: {theirs:?}", String::from_utf8_lossy(record));
}

#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Null,
    Bool(bool),
    /// A whole number, or a decimal without its point.
    Whole(String),
    F32(u32),
    F64(u64),
    Bytes(Vec<u8>),
    List(Vec<Cell>),
    Map(Vec<(String, Cell)>),
    Struct(Vec<Cell>),
}

fn cell_of(array: &dyn Array, row: usize) -> Cell {
    if array.is_null(row) {
        return Cell::Null;
    }
    macro_rules! whole {
        ($kind:ty) => {
            Cell::Whole(array.as_primitive::<$kind>().value(row).to_string())
        };
    }
    let all = |array: &dyn Array| (0..array.len()).map(|row| cell_of(array, row)).collect::<Vec<_>>();
    match array.data_type() {
        DataType::Boolean => Cell::Bool(array.as_boolean().value(row)),
        DataType::Int8 => whole!(Int8Type),
        DataType::Int16 => whole!(Int16Type),
        DataType::Int32 => whole!(Int32Type),
        DataType::Int64 => whole!(Int64Type),
        DataType::UInt8 => whole!(UInt8Type),
        DataType::UInt16 => whole!(UInt16Type),
        DataType::UInt32 => whole!(UInt32Type),
        DataType::UInt64 => whole!(UInt64Type),
        DataType::Decimal128(..) => whole!(Decimal128Type),
        DataType::Decimal256(..) => whole!(Decimal256Type),
        DataType::Date32 => whole!(Date32Type),
        DataType::Time32(_) => whole!(Time32MillisecondType),
        DataType::Time64(TimeUnit::Microsecond) => whole!(Time64MicrosecondType),
        DataType::Time64(_) => whole!(Time64NanosecondType),
        DataType::Timestamp(TimeUnit::Millisecond, _) => whole!(TimestampMillisecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => whole!(TimestampMicrosecondType),
        DataType::Timestamp(..) => whole!(TimestampNanosecondType),
        DataType::Float32 => Cell::F32(array.as_primitive::<Float32Type>().value(row).to_bits()),
        DataType::Float64 => Cell::F64(array.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Utf8 => Cell::Bytes(array.as_string::<i32>().value(row).into()),
        DataType::Binary => Cell::Bytes(array.as_binary::<i32>().value(row).into()),
        DataType::Dictionary(..) => {
            let dictionary = array.as_dictionary::<Int32Type>();
            cell_of(dictionary.values(), dictionary.keys().value(row) as usize)
        }
        DataType::List(_) => Cell::List(all(&array.as_list::<i32>().value(row))),
        DataType::Struct(_) => {
            Cell::Struct(array.as_struct().columns().iter().map(|column| cell_of(column, row)).collect())
        }
        DataType::Map(..) => {
            let pairs = array.as_map().value(row);
            let keys = pairs.column(0).as_string::<i32>().iter().flatten().map(str::to_owned);
            Cell::Map(keys.zip(all(pairs.column(1))).collect())
        }
        other => panic!("no schema here has {other}"),
    }
}

/// The rules of the decoder, read plainly.
struct Rules {
    on_unknown: OnUnknown,
    matching: Matching,
}

impl Rules {
    fn row(&self, columns: &[Column], parsed: &Parsed) -> Option<Row> {
        let Json::Object(members) = &parsed.json else { return None };
        let mut any_unknown = false;
        let cells = self.object(columns, members, &mut any_unknown)?;
        let unknown = members.iter().filter(|member| self.find(columns, &member.key).is_none());
        Some((cells, unknown.map(|member| member.text.clone()).collect(), any_unknown))
    }

    fn find(&self, columns: &[Column], key: &str) -> Option<usize> {
        let position = |like: &dyn Fn(&str) -> bool| columns.iter().position(|column| like(column.key()));
        let alike = |key: String| {
            // Keys longer than any column's name are looked up exactly only.
            let case = self.matching.case_insensitive;
            position(&|name| if case { name.eq_ignore_ascii_case(&key) } else { name == key })
        };
        position(&|name| name == key).or_else(|| alike(key.to_owned())).or_else(|| {
            if !self.matching.dots_to_underscores {
                return None;
            }
            alike(key.replace('.', "_"))
        })
    }

    fn object(&self, columns: &[Column], members: &[Member], unknown: &mut bool) -> Option<Vec<Cell>> {
        let mut cells: Vec<Option<Cell>> = vec![None; columns.len()];
        // Unknown fields count where the member they stand in does: of one column the last.
        let mut within = vec![false; columns.len()];
        for member in members {
            match self.find(columns, &member.key) {
                Some(column) => {
                    within[column] = false;
                    cells[column] = Some(self.value(&columns[column].data, &member.value, &mut within[column])?);
                }
                None if self.on_unknown == OnUnknown::Reject => return None,
                None => *unknown = true,
            }
        }
        *unknown |= within.contains(&true);
        let or_null = |(cell, column): (Option<Cell>, &Column)| cell.or(column.data.nullable.then_some(Cell::Null));
        cells.into_iter().zip(columns).map(or_null).collect()
    }

    fn value(&self, data: &hydrant::encode::schema::Data, value: &Parsed, unknown: &mut bool) -> Option<Cell> {
        let spelled = match &value.json {
            Json::Null => return data.nullable.then_some(Cell::Null),
            Json::Number => Some(value.text.as_str()),
            Json::Text(text) => is_number(text).then_some(text.as_str()),
            _ => None,
        };
        let written = if let Json::Text(text) = &value.json { Some(text.as_str()) } else { None };
        let whole = |number: Option<i128>, least: i128, most: i128| {
            Some(Cell::Whole(number.filter(|number| (least..=most).contains(number))?.to_string()))
        };
        Some(match &data.kind {
            Type::String | Type::Dictionary => Cell::Bytes(written?.into()),
            Type::Json => Cell::Bytes(value.text.as_bytes().into()),
            Type::Bool => match (&value.json, written) {
                (Json::Bool(value), _) => Cell::Bool(*value),
                (_, Some("true")) => Cell::Bool(true),
                (_, Some("false")) => Cell::Bool(false),
                _ => return None,
            },
            Type::Int { signed, bits } => {
                let (least, most) = match signed {
                    true => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
                    false => (0, (1 << bits) - 1),
                };
                return whole(times_ten_to(spelled?, 0).filter(|(_, exact)| *exact).and_then(small), least, most);
            }
            Type::Float32 => Cell::F32(spelled?.parse().ok().filter(|value: &f32| value.is_finite())?.to_bits()),
            Type::Float64 => Cell::F64(spelled?.parse().ok().filter(|value: &f64| value.is_finite())?.to_bits()),
            Type::Decimal { precision, scale } => {
                let (digits, exact) = times_ten_to(spelled?, (*scale).into())?;
                let fits = exact && digits.trim_start_matches('-').len() <= usize::from(*precision);
                return fits.then_some(Cell::Whole(digits));
            }
            Type::Date => match written {
                Some(text) => Cell::Whole(date(text)?.to_string()),
                None => return whole(exact(spelled?), i32::MIN.into(), i32::MAX.into()),
            },
            Type::Time(unit) => match written {
                Some(text) => Cell::Whole((clock(text)? / i128::from(unit.nanos())).to_string()),
                None => return whole(exact(spelled?), 0, i128::from(86_400_000_000_000 / unit.nanos()) - 1),
            },
            Type::Timestamp(unit, _) => {
                let nanos = match spelled {
                    Some(number) => counted(number)?,
                    None => instant(written?)?,
                };
                let units = i64::try_from(nanos.div_euclid(unit.nanos().into())).ok()?;
                let units = if *unit == Unit::Second { units.checked_mul(1000)? } else { units };
                Cell::Whole(units.to_string())
            }
            Type::Binary(BinaryText::Hex) => {
                let text = written.filter(|text| text.len() % 2 == 0 && text.bytes().all(|b| b.is_ascii_hexdigit()))?;
                let pair = |at| u8::from_str_radix(&text[at..at + 2], 16).ok();
                Cell::Bytes((0..text.len()).step_by(2).map(pair).collect::<Option<_>>()?)
            }
            Type::Binary(_) => Cell::Bytes(written?.into()),
            Type::List(element) => {
                let Json::Array(values) = &value.json else { return None };
                Cell::List(values.iter().map(|value| self.value(element, value, unknown)).collect::<Option<_>>()?)
            }
            Type::Map(inner) => {
                let Json::Object(members) = &value.json else { return None };
                let mut pairs: Vec<(String, Cell, bool)> = Vec::new();
                for member in members {
                    let mut within = false;
                    let cell = self.value(inner, &member.value, &mut within)?;
                    // Of equal keys the last counts, at its own place.
                    pairs.retain(|(key, ..)| *key != member.key);
                    pairs.push((member.key.clone(), cell, within));
                }
                *unknown |= pairs.iter().any(|(.., within)| *within);
                Cell::Map(pairs.into_iter().map(|(key, cell, _)| (key, cell)).collect())
            }
            Type::Struct(columns) => {
                let Json::Object(members) = &value.json else { return None };
                Cell::Struct(self.object(columns, members, unknown)?)
            }
        })
    }
}

/// A number times a power of ten as digits with a sign, cut to a whole one, and whether nothing was cut; `None` beyond
/// 76 digits.
fn times_ten_to(number: &str, scale: i64) -> Option<(String, bool)> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let negative = mantissa.starts_with('-');
    let (before, behind) =
        mantissa.trim_start_matches('-').split_once('.').unwrap_or((mantissa.trim_start_matches('-'), ""));
    let exponent = exponent.parse::<i64>().unwrap_or(if exponent.starts_with('-') { -(1 << 40) } else { 1 << 40 });
    let shift = exponent.clamp(-(1 << 40), 1 << 40) - behind.len() as i64 + scale;
    let digits = format!("{before}{behind}");
    let digits = digits.trim_start_matches('0');
    let (kept, cut) = match usize::try_from(-shift) {
        Ok(cut) if cut > 0 => digits.split_at(digits.len().saturating_sub(cut)),
        _ => (digits, ""),
    };
    if kept.is_empty() {
        return Some(("0".into(), cut.bytes().all(|digit| digit == b'0')));
    }
    if kept.len() as i64 + shift.max(0) > 76 {
        return None;
    }
    let sign = if negative { "-" } else { "" };
    let zeros = "0".repeat(shift.max(0) as usize);
    Some((format!("{sign}{kept}{zeros}"), cut.bytes().all(|digit| digit == b'0')))
}

fn small((digits, _): (String, bool)) -> Option<i128> {
    digits.parse().ok()
}

fn exact(number: &str) -> Option<i128> {
    times_ten_to(number, 0).filter(|(_, exact)| *exact).and_then(small)
}

/// Nanoseconds since 1970 of a number whose size tells its unit.
fn counted(number: &str) -> Option<i128> {
    let size = small(times_ten_to(number.trim_start_matches('-'), 0)?).filter(|size| *size < 10i128.pow(38))?;
    let scale = match size.to_string().len() {
        ..=11 => 9,
        12..=14 => 6,
        15..=17 => 3,
        _ => 0,
    };
    let (digits, exact) = times_ten_to(number, scale)?;
    let nanos = small((digits, exact)).filter(|nanos| nanos.unsigned_abs() < 10u128.pow(38))?;
    Some(if number.starts_with('-') && !exact { nanos - 1 } else { nanos })
}

fn is_number(text: &str) -> bool {
    let parsed = parse(text.as_bytes());
    parsed.is_some_and(|parsed| matches!(parsed.json, Json::Number) && parsed.text.len() == text.len())
}

fn field(text: &str, from: usize, to: usize) -> Option<i64> {
    text.get(from..to).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))?.parse().ok()
}

/// Days since 1970 of `yyyy-MM-dd`.
fn date(text: &str) -> Option<i64> {
    let separated = text.len() == 10 && text.get(4..5) == Some("-") && text.get(7..8) == Some("-");
    let (year, month, day) = (field(text, 0, 4)?, field(text, 5, 7)?, field(text, 8, 10)?);
    let civil = jiff::civil::Date::new(year as i16, month as i8, day as i8).ok().filter(|_| separated)?;
    Some(civil.duration_since(jiff::civil::date(1970, 1, 1)).as_secs() / 86_400)
}

/// Nanoseconds since midnight of `HH:mm:ss[.fraction]`.
fn clock(text: &str) -> Option<i128> {
    let separated = text.get(2..3) == Some(":") && text.get(5..6) == Some(":");
    let (hour, minute, second) = (field(text, 0, 2)?, field(text, 3, 5)?, field(text, 6, 8)?);
    if !separated || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let nanos = match text.get(8..)? {
        "" => 0,
        fraction => {
            let digits = fraction.strip_prefix('.').filter(|digits| !digits.is_empty())?;
            if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
                return None;
            }
            format!("{digits:0<9}")[..9].parse().ok()?
        }
    };
    Some(i128::from((hour * 60 + minute) * 60 + second) * 1_000_000_000 + nanos)
}

/// Nanoseconds since 1970 of RFC 3339 with a blank, `t` or `T` in the middle, and any of its ways to write a zone, or none.
fn instant(text: &str) -> Option<i128> {
    let days = date(text.get(..10)?)?;
    let rest = text.get(10..)?.strip_prefix(['T', 't', ' '])?;
    let zone = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (time, zone) = rest.split_at(zone);
    let minutes = match (zone.get(..1), zone.len()) {
        (None, _) | (Some("Z" | "z"), 1) => 0,
        (Some("+" | "-"), len @ (3 | 5 | 6)) => {
            if len == 6 && zone.get(3..4) != Some(":") {
                return None;
            }
            let minutes = if len == 3 { 0 } else { field(zone, len - 2, len)? };
            let hours = field(zone, 1, 3)?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if zone.starts_with('-') { -1 } else { 1 }
        }
        _ => return None,
    };
    Some(i128::from(days * 86_400 - minutes * 60) * 1_000_000_000 + clock(time)?)
}

/// A value with its text.
struct Parsed {
    json: Json,
    text: String,
}

enum Json {
    Null,
    Bool(bool),
    Number,
    Text(String),
    Array(Vec<Parsed>),
    Object(Vec<Member>),
}

struct Member {
    key: String,
    value: Parsed,
    /// From the key's first quote to the end of the value.
    text: String,
}

/// JSON (RFC 8259) read a character at a time; `None` if it is none, or deeper than allowed.
fn parse(bytes: &[u8]) -> Option<Parsed> {
    let mut reader = Reader { text: std::str::from_utf8(bytes).ok()?, at: 0 };
    let parsed = reader.value(0)?;
    reader.blanks();
    (reader.at == reader.text.len()).then_some(parsed)
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn take(&mut self, token: &str) -> bool {
        let there = self.text[self.at..].starts_with(token);
        self.at += if there { token.len() } else { 0 };
        there
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\n' | '\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Option<Parsed> {
        self.blanks();
        let start = self.at;
        let json = match self.peek()? {
            'n' if self.take("null") => Json::Null,
            't' if self.take("true") => Json::Bool(true),
            'f' if self.take("false") => Json::Bool(false),
            '"' => Json::Text(self.string()?),
            '-' | '0'..='9' => self.number()?,
            '[' if depth < json::DEPTH_MAX => {
                let mut values = Vec::new();
                self.members(']', |reader| {
                    values.push(reader.value(depth + 1)?);
                    Some(())
                })?;
                Json::Array(values)
            }
            '{' if depth < json::DEPTH_MAX => {
                let mut members = Vec::new();
                self.members('}', |reader| {
                    members.push(reader.member(depth + 1)?);
                    Some(())
                })?;
                Json::Object(members)
            }
            _ => return None,
        };
        Some(Parsed { json, text: self.text[start..self.at].to_owned() })
    }

    fn members(&mut self, end: char, mut member: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.next();
        self.blanks();
        if self.peek()? == end {
            self.next();
            return Some(());
        }
        loop {
            member(self)?;
            self.blanks();
            match self.next()? {
                ',' => {}
                other => return (other == end).then_some(()),
            }
        }
    }

    fn member(&mut self, depth: usize) -> Option<Member> {
        self.blanks();
        let start = self.at;
        if self.peek()? != '"' {
            return None;
        }
        let key = self.string()?;
        self.blanks();
        self.take(":").then_some(())?;
        let value = self.value(depth)?;
        Some(Member { key, value, text: self.text[start..self.at].to_owned() })
    }

    fn string(&mut self) -> Option<String> {
        self.next();
        let mut units: Vec<u16> = Vec::new();
        let mut buffer = [0; 2];
        loop {
            match self.next()? {
                '"' => return String::from_utf16(&units).ok(),
                '\\' => match self.next()? {
                    plain @ ('"' | '\\' | '/') => units.push(plain as u16),
                    'b' => units.push(8),
                    'f' => units.push(12),
                    'n' => units.push(10),
                    'r' => units.push(13),
                    't' => units.push(9),
                    'u' => {
                        let digits = self.text.get(self.at..self.at + 4)?;
                        digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
                        units.push(u16::from_str_radix(digits, 16).ok()?);
                        self.at += 4;
                    }
                    _ => return None,
                },
                '\0'..='\x1f' => return None,
                plain => units.extend_from_slice(plain.encode_utf16(&mut buffer)),
            }
        }
    }

    fn number(&mut self) -> Option<Json> {
        self.take("-");
        if !self.take("0") {
            self.digits()?;
        }
        if self.take(".") {
            self.digits()?;
        }
        if self.take("e") || self.take("E") {
            let _ = self.take("+") || self.take("-");
            self.digits()?;
        }
        Some(Json::Number)
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.peek(), Some('0'..='9')) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}
