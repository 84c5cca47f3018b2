//! What `transforms/redact` does with a record, natively, beside a slow reference.

use std::str::from_utf8;

use hmac::{Hmac, KeyInit, Mac};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::Value;
use sha2::Sha256;

#[path = "../../transforms/redact/src/redact.rs"]
mod guest;

use guest::{Fault, Keyed, Redactor, With};

const FIELDS: [&str; 4] = ["email", "user.ip", "user.Home.ip", "a\\.b.c"];
const KEY: &str = "a key of enough bytes";

fn redactor(with: With) -> Redactor {
    Redactor::new(FIELDS, with).unwrap()
}

fn starred(record: &str) -> Result<String, Fault> {
    let stars = redactor(With::Text(br#""***""#.to_vec()));
    stars.redact(record.as_bytes().to_vec()).map(|out| String::from_utf8(out).unwrap())
}

/// A record as it is, as it should become with stars, and with hashes.
#[derive(Debug, Clone, Default)]
struct Texts {
    read: String,
    starred: String,
    hashed: String,
}

impl Texts {
    fn push(&mut self, text: &str) {
        self.read += text;
        self.starred += text;
        self.hashed += text;
    }

    fn push_redacted(&mut self, value: &Json) {
        let mut texts = Texts::default();
        value.write(&[], &mut texts);
        let content: Value = serde_json::from_str(&texts.read).unwrap();
        let content = content.as_str().map_or(texts.read.clone(), str::to_owned);
        let mac: Hmac<Sha256> = Hmac::new_from_slice(KEY.as_bytes()).unwrap();
        let digest = mac.chain_update(content).finalize().into_bytes();
        let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        self.hashed += &if texts.read == "null" { texts.read.clone() } else { format!("\"{hex}\"") };
        self.starred += "\"***\"";
        self.read += &texts.read;
    }
}

/// A JSON text of which we know what is in it.
#[derive(Debug, Clone)]
enum Json {
    /// A value without parts, as it is spelled.
    Leaf(String),
    Array(Vec<(Blank, Json)>),
    /// Keys as they mean and as they are spelled.
    Object(Vec<(Blank, (String, String), Json)>),
}

type Blank = &'static str;

impl Json {
    /// Writes it; `paths` are what is to be redacted below it.
    fn write(&self, paths: &[Vec<String>], texts: &mut Texts) {
        match self {
            Json::Leaf(text) => texts.push(text),
            Json::Array(items) => {
                texts.push("[");
                for (number, (blank, item)) in items.iter().enumerate() {
                    texts.push(if number > 0 { "," } else { "" });
                    texts.push(blank);
                    item.write(paths, texts);
                    texts.push(blank);
                }
                texts.push("]");
            }
            Json::Object(members) => {
                texts.push("{");
                for (number, (blank, (key, spelled), value)) in members.iter().enumerate() {
                    texts.push(if number > 0 { "," } else { "" });
                    texts.push(&format!("{blank}\"{spelled}\"{blank}:{blank}"));
                    let below = paths.iter().filter(|path| path[0].eq_ignore_ascii_case(key));
                    let below: Vec<_> = below.map(|path| path[1..].to_vec()).collect();
                    match below.iter().any(Vec::is_empty) {
                        true => texts.push_redacted(value),
                        false => value.write(&below, texts),
                    }
                    texts.push(blank);
                }
                texts.push("}");
            }
        }
    }
}

fn paths() -> Vec<Vec<String>> {
    let path = |path: &&str| path.replace("\\.", "/").split('.').map(|key| key.replace('/', ".")).collect();
    FIELDS.iter().map(path).collect()
}

fn json() -> impl Strategy<Value = Json> {
    let blank = || prop::sample::select(vec!["", "", " ", "\n\t"]);
    let leaf = prop_oneof![
        prop::sample::select(vec!["null", "true", "false", "0", "-0.5e+10", "12345678901234567890", "\"\""])
            .boxed()
            .prop_map(str::to_owned),
        text().prop_map(|(_, spelled)| format!("\"{spelled}\"")),
    ];
    leaf.prop_map(Json::Leaf).prop_recursive(5, 60, 6, move |inner| {
        let key = prop_oneof![4 => known_key(), 1 => text()];
        prop_oneof![
            vec((blank(), inner.clone()), 0..4).prop_map(Json::Array),
            vec((blank(), key, inner), 0..6).prop_map(Json::Object),
        ]
    })
}

/// A key of our paths, or nearly, and how it may be spelled.
fn known_key() -> impl Strategy<Value = (String, String)> {
    let keys = ["email", "user", "ip", "home", "a.b", "c", "EMAIL", "User", "emai", "emails", "a", "b"];
    (prop::sample::select(keys.to_vec()), any::<u8>()).prop_map(|(key, escape)| {
        let spelled = match escape {
            0..50 => key.chars().map(|c| format!("\\u{:04X}", c as u32)).collect(),
            50..70 => format!("\\u{:04x}{}", key.as_bytes()[0], &key[1..]),
            _ => key.to_owned(),
        };
        (key.to_owned(), spelled)
    })
}

/// A text, and how it may be spelled.
fn text() -> impl Strategy<Value = (String, String)> {
    let special = prop::sample::select("\0\u{8}\u{c}\n\r\t\u{1f} \"\\/\u{7f}aé€😀".chars().collect::<Vec<_>>());
    vec((prop_oneof![any::<char>(), special], any::<u8>()), 0..30).prop_map(|chars| {
        let mut spelled = String::new();
        for &(c, how) in &chars {
            let plain = serde_json::to_string(&c.to_string()).unwrap();
            match how {
                0..30 => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| spelled += &format!("\\u{unit:04x}")),
                _ => spelled += &plain[1..plain.len() - 1],
            }
        }
        (chars.iter().map(|(c, _)| c).collect(), spelled)
    })
}

/// Takes the values of these paths away.
fn removed(value: &mut Value, paths: &[Vec<String>]) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| removed(item, paths)),
        Value::Object(members) => {
            let below = |key: &str| -> Vec<_> {
                let paths = paths.iter().filter(|path| path[0].eq_ignore_ascii_case(key));
                paths.map(|path| path[1..].to_vec()).collect()
            };
            members.retain(|key, _| !below(key).iter().any(Vec::is_empty));
            members.iter_mut().for_each(|(key, value)| removed(value, &below(key)));
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn only_the_values_of_the_fields_change(json in json()) {
        let mut texts = Texts::default();
        json.write(&paths(), &mut texts);
        let hashes = redactor(With::Hash(Keyed::new(KEY).unwrap()));
        prop_assert_eq!(starred(&texts.read).unwrap(), texts.starred);
        prop_assert_eq!(String::from_utf8(hashes.redact(texts.read.into_bytes()).unwrap()).unwrap(), texts.hashed);
    }

    #[test]
    fn what_is_removed_leaves_json_without_it(json in json()) {
        let mut texts = Texts::default();
        json.write(&paths(), &mut texts);
        let mut expected: Value = serde_json::from_str(&texts.read).unwrap();
        removed(&mut expected, &paths());
        let out = redactor(With::Nothing).redact(texts.read.into_bytes()).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expected);
    }

    #[test]
    fn what_is_not_json_does_not_go_on(json in json(), changes in vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 0..3)) {
        let mut texts = Texts::default();
        json.write(&paths(), &mut texts);
        let mut bytes = texts.read.into_bytes();
        for (place, byte, how) in changes {
            let place = place.index(bytes.len() + 1);
            match how {
                0 => bytes.truncate(place),
                1 => bytes.insert(place, byte),
                _ => bytes.iter_mut().skip(place).take(1).for_each(|old| *old = b"\"\\{}[]:,0e.-u\x1f\xff "[usize::from(byte) % 16]),
            }
        }
        let is_json = from_utf8(&bytes).is_ok() && serde_json::from_slice::<IgnoredAny>(&bytes).is_ok();
        let out = redactor(With::Nothing).redact(bytes.clone());
        prop_assert_eq!(out.is_ok(), is_json, "{:?}: {:?}", String::from_utf8_lossy(&bytes), out);
    }
}

#[test]
fn a_fault_says_where_it_is() {
    for (record, at, expected) in [
        ("", 0, "a value"),
        ("{\"email\":1", 10, "`,` or `}`"),
        ("{\"a\" 1}", 5, "`:`"),
        ("[1,]", 3, "a value"),
        ("[1 2]", 3, "`,` or `]`"),
        ("{\"a\":1,}", 7, "a key"),
        ("{} {}", 3, "the end"),
        ("[01]", 2, "`,` or `]`"),
        ("[1.]", 3, "a digit"),
        ("[nul]", 1, "a value"),
        ("\"\\x\"", 2, "an escape"),
        ("\"\\u12g4\"", 2, "`u` and four hexadecimal digits"),
        ("\"12345678\n\"", 9, "no control character"),
        ("\"abc", 4, "`\"`"),
    ] {
        assert_eq!(starred(record), Err(Fault { at, expected }), "{record}");
    }
    let fault = redactor(With::Nothing).redact(b"[\"12345678\xff\"]".to_vec()).unwrap_err();
    assert_eq!(fault.to_string(), "not JSON: expected UTF-8 at byte 10");
}

#[test]
fn a_tower_of_brackets_is_a_fault_and_no_overflow() {
    let tower = |levels| "[".repeat(levels) + &"]".repeat(levels);
    assert_eq!(starred(&tower(128)), Ok(tower(128)));
    assert_eq!(starred(&tower(1_000_000)), Err(Fault { at: 128, expected: "at most 128 levels" }));
}

#[test]
fn of_two_paths_the_shorter_one_counts() {
    for fields in [["user", "user.ip"], ["user.ip", "user"]] {
        let redactor = Redactor::new(fields, With::Text(b"0".to_vec())).unwrap();
        assert_eq!(redactor.redact(br#"{"user":{"ip":1,"a":2}}"#.to_vec()).unwrap(), br#"{"user":0}"#);
    }
}

#[test]
fn wrong_fields_and_weak_keys_are_refused() {
    let refused = |fields: &[&str]| Redactor::new(fields.iter().copied(), With::Nothing).err();
    assert_eq!(refused(&[]).unwrap(), "fields: names none");
    assert_eq!(refused(&["a..b"]).unwrap(), "fields: `a..b` has an empty key");
    assert_eq!(refused(&["a", ""]).unwrap(), "fields: `` has an empty key");
    assert_eq!(Keyed::new("short").err().unwrap(), "hash: a key of 5 bytes can be guessed; 16 are needed");
}
