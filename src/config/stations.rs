//! The stations' options, as far as their modules do not bring them yet.

/// Options of the demo source.
pub mod demo {
    use serde::Deserialize;

    /// How much to generate.
    #[derive(Debug, Clone, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    pub struct Options {
        pub rate: u32,
        pub records: Option<u64>,
        pub seed: u64,
    }

    impl Default for Options {
        fn default() -> Options {
            Options { rate: 1000, records: None, seed: 1 }
        }
    }
}

/// Options of the file source.
pub mod file {
    use serde::Deserialize;

    /// Which files, and from where.
    #[derive(Debug, Clone, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    pub struct Options {
        pub path: String,
        #[serde(default)]
        pub start: Start,
        #[serde(default)]
        pub follow: bool,
    }

    /// Where reading begins.
    #[derive(Debug, Clone, Copy, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    pub enum Start {
        #[default]
        Beginning,
        End,
    }
}

/// Options of the formats.
pub mod encode {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    /// The choice of a format.
    #[derive(Debug, Clone, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    pub enum Options {
        Lines(Lines),
        Parquet(Parquet),
    }

    /// Options of lines.
    #[derive(Debug, Clone, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    pub struct Lines {
        #[serde(default)]
        pub compression: Compression,
    }

    /// Options of Parquet.
    #[derive(Debug, Clone, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    pub struct Parquet {
        #[serde(default)]
        pub compression: Compression,
        pub schema: BTreeMap<String, String>,
        #[serde(default)]
        pub on_unknown: OnUnknown,
    }

    /// Compressions.
    #[derive(Debug, Clone, Copy, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    pub enum Compression {
        #[default]
        None,
        Gzip,
        Zstd,
        Snappy,
    }

    /// What becomes of unknown fields.
    #[derive(Debug, Clone, Copy, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    pub enum OnUnknown {
        #[default]
        Keep,
        Drop,
        Reject,
    }
}

/// Options of the sink.
pub mod object_store {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use crate::secret::Secret;

    /// Where to put objects and how to name them.
    #[derive(Debug, Clone, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    pub struct Options {
        pub url: String,
        #[serde(default)]
        pub prefix: String,
        #[serde(default)]
        pub time_zone: String,
        #[serde(default)]
        pub partition_keys: BTreeMap<String, String>,
        #[serde(default)]
        pub options: BTreeMap<String, Secret>,
    }
}
