//! What is explained, as text for people.

use std::fmt;

use super::{Explained, Sample};
use crate::units::Size;

/// Prefixes that are shown one by one.
const PREFIXES_SHOWN_MAX: usize = 12;

/// About so many bytes: `1.4 MiB`.
pub fn bytes(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let step = (0..units.len() - 1).find(|step| bytes < 1024_f64.powi(*step as i32 + 1)).unwrap_or(units.len() - 1);
    let value = bytes / 1024_f64.powi(step as i32);
    let digits = if step == 0 || value >= 100.0 { 0 } else { 1 };
    format!("{value:.digits$} {}", units.get(step).copied().unwrap_or_default())
}

/// A number with its thousands apart; of small ones a digit behind the point.
pub fn number(value: f64) -> String {
    if value < 10.0 && value.fract() > 0.05 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

/// The word behind so many of them.
fn records(count: u64) -> &'static str {
    if count == 1 { "record" } else { "records" }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({})\n", self.name, self.file)?;
        for (at, station) in self.way.iter().enumerate() {
            writeln!(f, "  {}{station}", if at == 0 { "" } else { "-> " })?;
        }
        if !self.reads.is_empty() {
            writeln!(f, "\nReads")?;
        }
        self.reads.iter().try_for_each(|read| writeln!(f, "  {:8}  {}", read.of, read.is))?;
        writeln!(f, "\nAn object ends with")?;
        self.ends.iter().try_for_each(|end| writeln!(f, "  {end}"))?;
        writeln!(f, "\nKeys")?;
        let width = self.keys.iter().map(|key| key.key.chars().count()).max().unwrap_or(0);
        for key in &self.keys {
            let note = if key.default { "   (default)" } else { "" };
            writeln!(f, "  {:width$}  {}{note}", key.key, key.value)?;
        }
        if let Some(sample) = &self.sample {
            write!(f, "{sample}")?;
        }
        self.columns(f)?;
        self.hour(f)?;
        writeln!(f, "\nAt the most")?;
        for most in &self.limits {
            writeln!(f, "  {:6}  {:>8}  {}", most.of, Size::from_bytes(most.bytes).to_string(), most.why)?;
        }
        if !self.warnings.is_empty() {
            writeln!(f, "\nWorth a thought")?;
        }
        for warning in &self.warnings {
            for (at, line) in warning.lines().enumerate() {
                writeln!(f, "  {}{line}", if at == 0 { "- " } else { "  " })?;
            }
        }
        Ok(())
    }
}

impl Explained {
    fn columns(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            writeln!(f, "\nSchema: {schema}")?;
        } else if !self.columns.is_empty() {
            writeln!(f, "\nSchema")?;
        }
        let width = self.columns.iter().map(|column| column.name.chars().count()).max().unwrap_or(0);
        self.columns.iter().try_for_each(|column| writeln!(f, "  {:width$}  {}", column.name, column.parquet))
    }

    fn hour(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(estimate) = &self.estimate else {
            return writeln!(
                f,
                "\nWith --sample RECORDS this also shows object names, rejects, and what an hour brings."
            );
        };
        writeln!(f, "\nIn an hour, about")?;
        let mut line = |what: &str, value: String| writeln!(f, "  {what:20}  {value}");
        line("records", number(estimate.records_per_second * 3600.0))?;
        line("bytes in", bytes(estimate.bytes_in_per_second * 3600.0))?;
        line("bytes out", bytes(estimate.bytes_out_per_hour))?;
        line("objects", number(estimate.objects_per_hour))?;
        line("size of an object", bytes(estimate.object_bytes))?;
        line("smallest prefix's", bytes(estimate.smallest_object_bytes))?;
        line("put requests", number(estimate.puts_per_hour))?;
        writeln!(f, "  assumed:")?;
        estimate.assumed.iter().try_for_each(|assumed| writeln!(f, "  - {assumed}"))
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = bytes(self.bytes as f64);
        writeln!(
            f,
            "\nSample: {} {} {}, {size}",
            number(self.records as f64),
            records(self.records as u64),
            self.from
        )?;
        for stage in &self.transforms {
            let (name, into, out) = (&stage.transform, stage.records_in, stage.records_out);
            write!(f, "  {name}: {into} in, {out} out, {} dropped, {} set aside", stage.dropped, stage.rejected)?;
            writeln!(f, "{}", stage.note.map(|note| format!(" ({note})")).unwrap_or_default())?;
        }
        writeln!(f, "\nObjects of the sample")?;
        let shown = self.prefixes.iter().take(PREFIXES_SHOWN_MAX);
        for prefix in shown {
            writeln!(
                f,
                "  {:>8} {:7}  {:>9}  {}",
                number(prefix.records as f64),
                records(prefix.records),
                bytes(prefix.bytes as f64),
                prefix.object
            )?;
        }
        if self.prefixes.len() > PREFIXES_SHOWN_MAX {
            writeln!(f, "  .. and {} more prefixes", self.prefixes.len() - PREFIXES_SHOWN_MAX)?;
        }
        if self.prefixes.is_empty() {
            writeln!(f, "  none")?;
        }
        if !self.rejected.is_empty() {
            writeln!(f, "\nSet aside")?;
        }
        for reason in &self.rejected {
            let message = reason.message.lines().next().unwrap_or_default();
            let (count, word) = (number(reason.records as f64), records(reason.records as u64));
            writeln!(f, "  {count:>8} {word:7}  {} {}", reason.reason, reason.code)?;
            writeln!(f, "                    such as: {message}\n                    of: {}", reason.record)?;
        }
        Ok(())
    }
}
