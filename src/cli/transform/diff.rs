//! What differs between what was expected of records and what became of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Records whose differences are shown.
const RECORDS_SHOWN_MAX: usize = 20;

/// The differences, expected lines with `-` and actual ones with `+`; `None` if there are none. Lines begin with the number
/// of their record, so that one which is missing puts no others out of step.
pub fn between(expected: &str, actual: &str) -> Option<String> {
    let (expected, actual) = (by_record(expected), by_record(actual));
    let numbers: BTreeSet<usize> = expected.keys().chain(actual.keys()).copied().collect();
    let differing: Vec<_> = numbers.into_iter().filter(|number| expected.get(number) != actual.get(number)).collect();
    if differing.is_empty() {
        return None;
    }
    let mut text = String::new();
    for number in differing.iter().take(RECORDS_SHOWN_MAX) {
        for (sign, of) in [("-", &expected), ("+", &actual)] {
            of.get(number).into_iter().flatten().for_each(|line| text.extend([sign, " ", line, "\n"]));
        }
    }
    if differing.len() > RECORDS_SHOWN_MAX {
        let _ = writeln!(text, ".. and {} more records", differing.len() - RECORDS_SHOWN_MAX);
    }
    Some(text)
}

/// Lines by the number that they begin with; others belong to the one before.
fn by_record(text: &str) -> BTreeMap<usize, Vec<&str>> {
    let mut lines: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    let mut number = 0;
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        number = line.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(number);
        lines.entry(number).or_default().push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_line_puts_no_others_out_of_step() {
        let expected = "1 ok      a\n2 dropped\n2 ok      x\n3 ok      c\n";
        assert_eq!(between(expected, "1 ok      a \r\n\n2 dropped\n2 ok      x\n3 ok      c"), None);
        let differs = between(expected, "1 ok      a\n3 ok      d\n4 failed  why\n").unwrap();
        assert_eq!(differs, "- 2 dropped\n- 2 ok      x\n- 3 ok      c\n+ 3 ok      d\n+ 4 failed  why\n");
    }

    #[test]
    fn of_very_many_differences_the_first_are_shown() {
        let lines = |word: &str| (1..=100).map(|n| format!("{n} ok      {word}\n")).collect::<String>();
        let differs = between(&lines("a"), &lines("b")).unwrap();
        assert_eq!(differs.lines().count(), 41);
        assert!(differs.ends_with("+ 20 ok      b\n.. and 80 more records\n"));
    }
}
