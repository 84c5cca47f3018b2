//! How many objects an hour partitions make, and a warning if that is a flood of small ones.

use std::time::Duration;

use crate::units::Interval;

/// Objects an hour above which a warning is due: one every second.
const OBJECTS_PER_HOUR_MAX: f64 = 3600.0;

/// A warning if `partitions` of a topic, each cut after `interval`, make more objects than stores and readers like; with
/// what to do. `None`: all is well. Cuts by size are not counted: those objects are large.
pub fn flood(partitions: usize, interval: Duration, merge: bool) -> Option<(String, String)> {
    let cuts = 3600.0 / interval.as_secs_f64().max(0.001);
    let objects = partitions as f64 * cuts;
    if merge || partitions < 2 || objects <= OBJECTS_PER_HOUR_MAX {
        return None;
    }
    let interval = Interval::from_millis(u64::try_from(interval.as_millis()).unwrap_or(u64::MAX));
    let [partitions, cuts, objects] = [partitions as f64, cuts, objects].map(thousands);
    let warning = format!("{partitions} partitions x {cuts} cuts an hour are up to {objects} objects an hour");
    let hint = format!(
        "`merge: true` makes them up to {cuts} for each node and topic, and a longer `buffer.interval` than {interval} makes fewer too"
    );
    Some((warning, hint))
}

/// `60,000`.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_partitions_that_are_cut_often_are_a_flood() {
        let minute = Duration::from_secs(60);
        assert_eq!(
            flood(1000, minute, false).map(|(warning, hint)| format!("{warning}: {hint}")).as_deref(),
            Some(
                "1,000 partitions x 60 cuts an hour are up to 60,000 objects an hour: `merge: true` makes them up to 60 for \
                 each node and topic, and a longer `buffer.interval` than 1m makes fewer too"
            )
        );
        assert_eq!(flood(1000, minute, true), None, "merged");
        assert_eq!(flood(60, minute, false), None, "one a second");
        assert!(flood(61, minute, false).is_some());
        assert_eq!(flood(1000, Duration::from_secs(3600), false), None);
        assert_eq!(flood(1, Duration::from_millis(100), false), None, "nothing to merge");
    }
}
