//! The nearest right word, for messages about a wrong one.

/// Of `right`, the word nearest to `wrong` in spelling, if it is near enough to be what was meant: at most one edit in
/// three characters (but never all of them), letters compared without case. Of equally near words the first one.
pub fn nearest<'w>(wrong: &str, right: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let chars = wrong.chars().count();
    let edits_max = (chars.max(3) / 3).min(3).min(chars.saturating_sub(1));
    right
        .into_iter()
        .map(|word| (edits(&wrong.to_lowercase(), &word.to_lowercase()), word))
        .filter(|(edits, _)| *edits <= edits_max)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, word)| word)
}

/// Insertions, removals, replacements and swaps of neighbours that make `b` of `a` (optimal string alignment).
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(CHARS_MAX).collect(), b.chars().take(CHARS_MAX).collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

/// Longer words are compared by their first characters only: a wrong word may be a megabyte.
const CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_word() {
        let words = ["compression", "schema", "on_unknown"];
        assert_eq!(nearest("compresion", words), Some("compression"));
        assert_eq!(nearest("shcema", words), Some("schema"));
        assert_eq!(nearest("Schema", words), Some("schema"));
        assert_eq!(nearest("onunknown", words), Some("on_unknown"));
        assert_eq!(nearest("colour", words), None);
        assert_eq!(nearest("", words), None);
        assert_eq!(nearest("x", ["B"]), None);
        assert_eq!(nearest("kafak", ["kinesis", "kafka"]), Some("kafka"));
    }

    #[test]
    fn edits_are_counted_as_a_typist_makes_them() {
        assert_eq!(edits("abc", "abc"), 0);
        assert_eq!(edits("abc", "acb"), 1);
        assert_eq!(edits("abc", "ab"), 1);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
