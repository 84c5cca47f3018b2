//! Asks the decoder itself whether records fit: only it knows what it takes.

use crate::encode::json::{Decoder, Matching, OnUnknown, arrow_schema};
use crate::encode::schema::{Column, Data, Schema, Type};
use crate::error::Reason;
use crate::record::Batch;

/// Rows, and bytes of their JSON, after which the decoder is emptied.
const ROWS_MAX: usize = 256;
const JSON_BYTES_MAX: usize = 1 << 20;

/// A decoder whose rows nobody wants.
pub struct Check(Decoder);

impl Check {
    /// Whether records are one JSON object each.
    pub fn of_form() -> Check {
        Check::of_columns(Check::any_columns(), true).expect("a column of any values is a schema")
    }

    /// A column of any values.
    pub fn any_columns() -> Vec<Column> {
        Column::of("any", Data { kind: Type::Json, nullable: true }).into_iter().collect()
    }

    fn of_columns(columns: Vec<Column>, case_insensitive: bool) -> Option<Check> {
        let schema = Schema::new(columns).ok()?.exact();
        let arrow = arrow_schema(&schema, OnUnknown::Drop).ok()?;
        let matching = Matching { case_insensitive, dots_to_underscores: false };
        Some(Check(Decoder::new(&schema, arrow, OnUnknown::Drop, matching)))
    }

    /// Whether a record fits, and if not, why.
    pub fn fits(&mut self, record: &[u8]) -> Result<(), Reason> {
        let fits = self.0.push(record);
        if self.0.rows() >= ROWS_MAX || self.0.json_bytes() >= JSON_BYTES_MAX {
            drop(self.0.finish());
        }
        fits
    }
}

/// Makes JSON, which takes every value, of columns that do not take those of a record. By its rules of inference none should
/// be; but what was sampled must fit what was inferred from it, whatever the two think of each other.
pub fn relax(columns: &mut [Column], records: &Batch, case_insensitive: bool) {
    let fit = |columns: &[Column]| match Check::of_columns(columns.to_vec(), case_insensitive) {
        Some(mut check) => records.payloads().all(|record| check.fits(record).is_ok()),
        None => false,
    };
    if fit(columns) {
        return;
    }
    for column in columns {
        if !fit(std::slice::from_ref(column)) {
            column.data.kind = Type::Json;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_values_do_not_gather() {
        let mut check = Check::of_form();
        let record = format!("{{\"any\":\"{}\"}}", "x".repeat(300 << 10));
        for _ in 0..20 {
            check.fits(record.as_bytes()).unwrap();
            assert!(check.0.json_bytes() < JSON_BYTES_MAX);
        }
    }
}
