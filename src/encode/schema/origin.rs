//! Where a schema comes from, as written: the columns themselves, `{ file: events.avsc }`, or `infer`.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer};

use super::{Column, ColumnSeed, Data, infer};
use crate::nearest::nearest;

/// Where the columns of a schema come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// They are written where the schema is.
    Here,
    /// A file that [`super::file::read`] reads; relative to the folder of the pipeline file.
    File(String),
    /// The records.
    Infer(infer::Options),
}

/// First keys of a schema that may be something else than a column: a lone `file` whose text is no type but a path, and a
/// lone `infer` with options. `file: string` is a column.
pub(super) const WORDS: [&str; 2] = ["file", "infer"];

impl Origin {
    /// The origin that is a word of its own.
    pub(super) fn of_word<E: Error>(word: &str) -> Result<Origin, E> {
        match word {
            "infer" => Ok(Origin::Infer(infer::Options::default())),
            _ => {
                let expected = "expected columns such as `user_id: string`, or `infer`, or `{ file: NAME }`";
                let hint = match nearest(word, ["infer"]) {
                    Some(_) => "did you mean `infer`?".to_owned(),
                    None => format!("a file is written `{{ file: {} }}`", word.escape_debug()),
                };
                Err(E::custom(format!("{expected}, found `{}`\nhint: {hint}", word.escape_debug())))
            }
        }
    }
}

/// What stood behind one of [`WORDS`].
pub(super) enum Read {
    Column(Column),
    Origin(Origin),
}

/// Reads the value of one of [`WORDS`], which came first; of an origin, that nothing comes behind it.
pub(super) fn read<'de, A: MapAccess<'de>>(name: &str, map: &mut A) -> Result<Read, A::Error> {
    let read = map.next_value_seed(Value { name })?;
    if let Read::Origin(_) = read
        && let Some(more) = map.next_key::<String>()?
    {
        let message = format!("`{name}` stands alone, found also `{}`", more.escape_debug());
        return Err(A::Error::custom(message));
    }
    Ok(read)
}

struct Value<'n> {
    name: &'n str,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Read;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Read, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            "file" => f.write_str("the name of a schema file"),
            _ => f.write_str("options such as `sample_records: 1000`"),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<Read, E> {
        match self.name {
            "infer" => Ok(Read::Origin(Origin::Infer(infer::Options::default()))),
            _ => Err(E::custom("expected the name of a schema file, found nothing")),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Read, E> {
        if self.name == "file" && text.contains(['.', '/']) && Data::parse(text).is_err() {
            return Ok(Read::Origin(Origin::File(text.to_owned())));
        }
        Column::new(self.name, text).map(Read::Column).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Read, A::Error> {
        match self.name {
            "infer" => {
                let options = infer::Options::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Read::Origin(Origin::Infer(options)))
            }
            name => ColumnSeed { name: name.to_owned() }.visit_map(map).map(Read::Column),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::schema::Schema;

    fn origin(yaml: &str) -> Origin {
        serde_saphyr::from_str::<Schema>(yaml).unwrap().origin().clone()
    }

    #[test]
    fn a_schema_is_here_or_in_a_file_or_inferred() {
        assert_eq!(origin("id: int"), Origin::Here);
        assert_eq!(origin("{ file: events.avsc }"), Origin::File("events.avsc".into()));
        assert_eq!(origin("{ file: schemas/events }"), Origin::File("schemas/events".into()));
        assert_eq!(origin("infer"), Origin::Infer(infer::Options::default()));
        assert_eq!(origin("{ infer: {} }"), Origin::Infer(infer::Options::default()));
        assert_eq!(origin("{ infer: { sample_records: 7 } }"), Origin::Infer(infer::Options { sample_records: 7 }));
    }

    #[test]
    fn columns_may_have_the_names_of_origins() {
        for yaml in ["{ file: string, infer: int }", "{ infer: string }", "{ file: { type: int, key: f } }"] {
            assert_eq!(origin(yaml), Origin::Here, "{yaml}");
        }
        assert_eq!(origin("file: 'timestamp(ms, Europe/Berlin)'"), Origin::Here);
    }

    #[test]
    fn a_wrong_origin_says_what_and_how_to_write_it() {
        let error = |yaml: &str| serde_saphyr::from_str::<Schema>(yaml).unwrap_err().to_string();
        assert!(error("{ file: events.avsc, id: int }").contains("`file` stands alone, found also `id`"));
        assert!(error("infr").contains("did you mean `infer`?"));
        assert!(error("events.avsc").contains("a file is written `{ file: events.avsc }`"));
        assert!(error("{ file: strng }").contains("did you mean `string`?"));
        assert!(error("{ infer: { samples: 3 } }").contains("samples"));
    }
}
