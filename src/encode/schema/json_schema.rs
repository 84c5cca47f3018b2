//! What may stand under `schema:`, as a JSON Schema for editors.

use std::borrow::Cow;

use schemars::{JsonSchema, SchemaGenerator, json_schema};

use super::{Schema, infer, parse};

impl JsonSchema for Schema {
    fn schema_name() -> Cow<'static, str> {
        "Columns".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> schemars::Schema {
        let infer = generator.subschema_for::<infer::Options>();
        let data = json_schema!({
            "type": "string",
            "pattern": parse::pattern(),
            "examples": parse::EXAMPLES,
            "x-type": "column type",
            "description": "The column's type, such as `string`, `timestamp(ms)`, `decimal(12,2) not null`, `list<string>`."
        });
        let time = json_schema!({
            "anyOf": [
                { "type": "string", "enum": ["rfc3339", "epoch_s", "epoch_ms", "epoch_us", "epoch_ns"] },
                { "type": "string", "pattern": "%" }
            ]
        });
        let column = json_schema!({
            "type": "object",
            "properties": {
                "type": data.clone(),
                "key": { "type": "string", "description": "The key in the record, if it is another name." },
                "format": {
                    "description": "How its times are written: `rfc3339`, `epoch_s`, `epoch_ms`, `epoch_us`, `epoch_ns`, a pattern such as `%d/%b/%Y:%H:%M:%S %z`, or a list of these, tried in order.",
                    "anyOf": [time.clone(), { "type": "array", "items": time, "minItems": 1 }]
                }
            },
            "required": ["type"],
            "additionalProperties": false
        });
        json_schema!({
            "x-type": "columns",
            "anyOf": [
                { "type": "object", "additionalProperties": { "anyOf": [data, column] } },
                { "type": "string", "const": "infer", "description": "The columns are those of the first records, and grow by new ones." },
                {
                    "type": "object",
                    "properties": { "file": {
                        "type": "string",
                        "pattern": "[./]",
                        "description": "A file beside the pipeline: Parquet message text, JSON Schema, Avro, or a Glue table."
                    } },
                    "required": ["file"],
                    "additionalProperties": false
                },
                {
                    "type": "object",
                    "properties": { "infer": infer },
                    "required": ["infer"],
                    "additionalProperties": false
                }
            ]
        })
    }
}
