//! The columns as the file stores them: a column's leaves, their names and types, and the writer's properties for them.

use anyhow::{Context, bail, ensure};
use arrow_schema::{DataType, SchemaRef, SortOptions};
use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::basic::{Compression as Codec, Encoding, Type as Physical};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::{ColumnPath, TypePtr};

use super::options::Options;
use crate::encode::json::arrow_schema;
use crate::nearest::nearest;

/// Of values that a bloom filter has not seen, the share that it takes for seen.
const BLOOM_FALSE_SHARE: f64 = 0.01;
/// A row of JSON is hardly smaller, in bytes: this bounds the distinct values of a row group.
const ROW_JSON_BYTES_MIN: u64 = 32;

/// The columns of a format.
pub struct Layout {
    pub arrow: SchemaRef,
    pub root: TypePtr,
    pub leaves: Vec<Leaf>,
    /// How many leaves each column has, in the order of columns.
    pub leaves_of: Vec<usize>,
    /// Column, its leaf, and how, in the order of importance.
    pub sort_by: Vec<(usize, usize, SortOptions)>,
    pub codec: Codec,
}

/// A column without columns inside: what Parquet stores.
pub struct Leaf {
    path: ColumnPath,
    pub physical: Physical,
    bloom_filter: bool,
}

/// How a leaf is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Values are numbers in a dictionary, until that grows too large.
    pub dictionary: bool,
    pub encoding: Encoding,
    pub codec: Codec,
}

impl Layout {
    /// The layout of a schema; an error names the column that cannot be stored, sorted by or filtered.
    pub fn new(options: &Options) -> anyhow::Result<Layout> {
        let arrow = arrow_schema(&options.schema, options.on_unknown)?;
        let stored = ArrowSchemaConverter::new().convert(&arrow).context("parquet: cannot store this schema")?;
        let mut names = Vec::new();
        let mut leaves_of = Vec::new();
        for field in arrow.fields() {
            let before = names.len();
            name_leaves(field.name().clone(), field.data_type(), &mut names);
            leaves_of.push(names.len() - before);
        }
        ensure!(names.len() == stored.num_columns(), "parquet: cannot store this schema");
        for name in &options.bloom_filters {
            let Some(leaf) = names.iter().position(|leaf| leaf == name) else {
                bail!("bloom_filters: {}", unknown(name, names.iter().map(String::as_str)));
            };
            let no_bool = stored.column(leaf).physical_type() != Physical::BOOLEAN;
            ensure!(no_bool, "bloom_filters: column `{name}` is a boolean, which none helps to find");
        }
        let leaves = stored.columns().iter().zip(&names).map(|(column, name)| Leaf {
            path: column.path().clone(),
            physical: column.physical_type(),
            bloom_filter: options.bloom_filters.contains(name),
        });
        let leaves: Vec<Leaf> = leaves.collect();
        let mut sort_by: Vec<(usize, usize, SortOptions)> = Vec::new();
        for sort in &options.sort_by {
            let names = || arrow.fields().iter().map(|field| field.name().as_str());
            let Some(column) = names().position(|name| name == sort.column) else {
                bail!("sort_by: {}", unknown(&sort.column, names()));
            };
            let kind = arrow.field(column).data_type();
            ensure!(
                !kind.is_nested(),
                "sort_by: column `{}` is a list, a map or a struct, which has no order",
                sort.column
            );
            let leaf = leaves_of[..column].iter().sum();
            let again = sort_by.iter().any(|(other, ..)| *other == column);
            ensure!(!again, "sort_by: column `{}` comes twice", sort.column);
            sort_by.push((column, leaf, SortOptions { descending: sort.descending, nulls_first: sort.nulls_first }));
        }
        let codec = options.compression.codec()?;
        Ok(Layout { arrow, root: stored.root_schema_ptr(), leaves, leaves_of, sort_by, codec })
    }

    /// The writer's properties for these choices, one for each leaf. `rows_max` is how many rows a row group may have.
    pub fn properties(
        &self,
        options: &Options,
        metadata: &[(String, String)],
        choices: &[Choice],
        rows_max: u64,
    ) -> WriterProperties {
        let metadata = metadata.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
        let sorting = self.sort_by.iter().map(|(_, leaf, how)| SortingColumn {
            column_idx: i32::try_from(*leaf).expect("a schema has far fewer leaves"),
            descending: how.descending,
            nulls_first: how.nulls_first,
        });
        let mut builder = WriterProperties::builder()
            .set_writer_version(options.writer_version.writer())
            .set_compression(self.codec)
            .set_created_by(format!("hydrant version {}", env!("CARGO_PKG_VERSION")))
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_data_page_size_limit(usize::try_from(options.page_bytes).unwrap_or(usize::MAX))
            .set_sorting_columns((!self.sort_by.is_empty()).then(|| sorting.collect()))
            .set_key_value_metadata(Some(metadata))
            // The encoder ends row groups itself, by what went in.
            .set_max_row_group_row_count(None);
        for (leaf, choice) in self.leaves.iter().zip(choices) {
            builder = builder
                .set_column_dictionary_enabled(leaf.path.clone(), choice.dictionary)
                .set_column_encoding(leaf.path.clone(), choice.encoding)
                .set_column_compression(leaf.path.clone(), choice.codec);
            if leaf.bloom_filter {
                builder = builder
                    .set_column_bloom_filter_fpp(leaf.path.clone(), BLOOM_FALSE_SHARE)
                    .set_column_bloom_filter_max_ndv(leaf.path.clone(), rows_max.max(1));
            }
        }
        let mut properties = builder.build();
        add_encoded_arrow_schema_to_metadata(&self.arrow, &mut properties);
        properties
    }

    /// How leaves are written of which nothing is known yet: with a dictionary, as most columns repeat themselves.
    pub fn unknown_choices(&self) -> Vec<Choice> {
        let choice = |leaf: &Leaf| Choice {
            dictionary: leaf.physical != Physical::BOOLEAN,
            encoding: Encoding::PLAIN,
            codec: self.codec,
        };
        self.leaves.iter().map(choice).collect()
    }

    /// How leaves of a few rows are written: a dictionary would cost more than it gives.
    pub fn small_choices(&self) -> Vec<Choice> {
        self.unknown_choices().into_iter().map(|choice| Choice { dictionary: false, ..choice }).collect()
    }
}

/// The most rows of a row group.
pub fn rows_max(rows_max: u64, json_bytes_max: u64) -> u64 {
    rows_max.min(json_bytes_max / ROW_JSON_BYTES_MIN)
}

/// The names of a column's leaves as people write them, in the order in which they are stored: `ctx.ip`, not
/// `tags.list.element`.
fn name_leaves(name: String, kind: &DataType, names: &mut Vec<String>) {
    match kind {
        DataType::Struct(fields) => {
            for field in fields {
                name_leaves(format!("{name}.{}", field.name()), field.data_type(), names);
            }
        }
        DataType::List(element) => name_leaves(name, element.data_type(), names),
        DataType::Map(entries, _) => name_leaves(name, entries.data_type(), names),
        _ => names.push(name),
    }
}

fn unknown<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> String {
    let hint = nearest(name, names).map(|name| format!("\nhint: did you mean `{name}`?"));
    format!("the schema has no column `{name}`{}", hint.unwrap_or_default())
}
