//! Clicks: record `n` of a shop's clickstream as JSON, straight into a buffer, from a counter-based generator.
//!
//! ```json
//! {"event_time":"2026-11-20T10:15:30.250Z","event_id":"0f..32 hex..9a","event_type":"product_view","user_id":"u48213",
//!  "session_id":"s5c1e77a0","country":"DE","url":"https://shop.example/p/4711","referrer":null,"user_agent":"..",
//!  "device":{"type":"mobile","os":"iOS","version":"26.1"},"price":19.90,"quantity":1,"tags":["new","sale"],
//!  "is_bot":false,"latency_ms":12.345}
//! ```
//!
//! The same seed, start, step and `n` give the same bytes for ever: objects were delivered from them. A change of these
//! records is a new version, with another shard id (`demo1s..` is this one).

/// About how long a record is, in bytes.
pub const BYTES_TYPICAL: usize = 432;

/// The longest record, in bytes.
pub const BYTES_MAX: usize = 640;

const USERS: u64 = 100_000;
const PRODUCTS: u64 = 5_000;

/// One record in this many is a robot's.
const BOT_EVERY: u64 = 50;

const COUNTRIES: [&str; 16] =
    ["DE", "US", "GB", "FR", "DE", "US", "NL", "AT", "CH", "PL", "ES", "IT", "JP", "BR", "IN", "SE"];
const EVENTS: [&str; 8] =
    ["page_view", "page_view", "product_view", "product_view", "search", "add_to_cart", "checkout", "purchase"];
const REFERRERS: [&str; 8] = [
    "null",
    "null",
    "null",
    "\"https://search.example/?q=shoes\"",
    "\"https://news.example/\"",
    "\"https://shop.example/\"",
    "\"https://social.example/feed\"",
    "\"https://mail.example/\"",
];
/// User agent, device type, operating system and its version.
const DEVICES: [[&str; 4]; 6] = [
    ["Mozilla/5.0 (iPhone; CPU iPhone OS 26_1) Safari/605.1", "mobile", "iOS", "26.1"],
    ["Mozilla/5.0 (Linux; Android 16) Chrome/142.0", "mobile", "Android", "16"],
    ["Mozilla/5.0 (Windows NT 10.0) Edg/142.0", "desktop", "Windows", "11"],
    ["Mozilla/5.0 (Macintosh) Safari/605.1", "desktop", "macOS", "26.0"],
    ["Mozilla/5.0 (X11; Linux x86_64) Firefox/145.0", "desktop", "Linux", "6.17"],
    ["Mozilla/5.0 (iPad; CPU OS 18_7) Safari/605.1", "tablet", "iPadOS", "18.7"],
];
const BOT_AGENT: &str = "examplebot/2.1 (+https://bot.example/about)";
const TAGS: [&str; 8] =
    ["[]", "[]", "[\"new\"]", "[\"sale\"]", "[\"new\",\"sale\"]", "[\"gift\"]", "[\"outlet\",\"last\"]", "[\"vip\"]"];

/// A clickstream, by record number.
#[derive(Debug, Clone)]
pub struct Clicks {
    seed: u64,
    start_us: i64,
    step_us: u64,
    /// The day whose date `date` holds, in days since 1970.
    day: i64,
    date: [u8; 10],
}

impl Clicks {
    /// Clicks whose first is at `start_ms` (Unix milliseconds), and each next one `step_us` microseconds later.
    pub fn new(seed: u64, start_ms: i64, step_us: u64) -> Clicks {
        let seed = mix(seed.wrapping_add(GOLDEN));
        Clicks { seed, start_us: start_ms.saturating_mul(1000), step_us, day: 0, date: *b"1970-01-01" }
    }

    /// Appends record `number`: at most [`BYTES_MAX`] bytes, no line end.
    pub fn write(&mut self, number: u64, out: &mut Vec<u8>) {
        // A bijection of the number, so that no event id comes twice.
        let id = mix(self.seed ^ number);
        let mut random = Random(id);
        let user = random.below(random_min(USERS, id));
        let of_user = mix(user ^ self.seed);
        let is_bot = random.below(BOT_EVERY) == 0;
        let device = &DEVICES[(of_user % DEVICES.len() as u64) as usize];
        let event = random.pick(&EVENTS);
        let cents = 99 + random.below(20_000);
        let latency_us = 800 + random.below(random_min(400_000, mix(id)));

        out.extend_from_slice(b"{\"event_time\":\"");
        self.write_time(number, out);
        out.extend_from_slice(b"\",\"event_id\":\"");
        write_hex(id, 16, out);
        write_hex(random.next(), 16, out);
        out.extend_from_slice(b"\",\"event_type\":\"");
        out.extend_from_slice(event.as_bytes());
        out.extend_from_slice(b"\",\"user_id\":\"u");
        write_decimal(user, out);
        out.extend_from_slice(b"\",\"session_id\":\"s");
        write_hex(mix(of_user ^ (number >> 14)) >> 32, 8, out);
        out.extend_from_slice(b"\",\"country\":\"");
        out.extend_from_slice(COUNTRIES[(of_user >> 32) as usize % COUNTRIES.len()].as_bytes());
        out.extend_from_slice(b"\",\"url\":\"https://shop.example/p/");
        write_decimal(random.below(PRODUCTS), out);
        out.extend_from_slice(b"\",\"referrer\":");
        out.extend_from_slice(random.pick(&REFERRERS).as_bytes());
        out.extend_from_slice(b",\"user_agent\":\"");
        out.extend_from_slice(if is_bot { BOT_AGENT.as_bytes() } else { device[0].as_bytes() });
        out.extend_from_slice(b"\",\"device\":{\"type\":\"");
        out.extend_from_slice(device[1].as_bytes());
        out.extend_from_slice(b"\",\"os\":\"");
        out.extend_from_slice(device[2].as_bytes());
        out.extend_from_slice(b"\",\"version\":\"");
        out.extend_from_slice(device[3].as_bytes());
        out.extend_from_slice(b"\"},\"price\":");
        write_decimal(cents / 100, out);
        out.push(b'.');
        out.extend_from_slice(&two_digits(cents % 100));
        out.extend_from_slice(b",\"quantity\":");
        write_decimal(1 + random.below(4), out);
        out.extend_from_slice(b",\"tags\":");
        out.extend_from_slice(random.pick(&TAGS).as_bytes());
        out.extend_from_slice(b",\"is_bot\":");
        out.extend_from_slice(if is_bot { b"true" } else { b"false" });
        out.extend_from_slice(b",\"latency_ms\":");
        write_decimal(latency_us / 1000, out);
        out.push(b'.');
        out.extend_from_slice(&three_digits(latency_us % 1000));
        out.push(b'}');
    }

    /// RFC 3339 with milliseconds, in UTC.
    fn write_time(&mut self, number: u64, out: &mut Vec<u8>) {
        let passed = i64::try_from(number.saturating_mul(self.step_us)).unwrap_or(i64::MAX);
        let ms = self.start_us.saturating_add(passed).div_euclid(1000).clamp(0, MS_MAX);
        let (day, ms) = (ms / MS_PER_DAY, (ms % MS_PER_DAY) as u64);
        if day != self.day {
            (self.day, self.date) = (day, date_of(day as u64));
        }
        let mut text = *b"yyyy-mm-ddThh:mm:ss.mmmZ";
        text[..10].copy_from_slice(&self.date);
        text[11..13].copy_from_slice(&two_digits(ms / 3_600_000));
        text[14..16].copy_from_slice(&two_digits(ms / 60_000 % 60));
        text[17..19].copy_from_slice(&two_digits(ms / 1000 % 60));
        text[20..23].copy_from_slice(&three_digits(ms % 1000));
        out.extend_from_slice(&text);
    }
}

const MS_PER_DAY: i64 = 86_400_000;

/// The last millisecond of the year 9998: four digits, and every parser takes it.
const MS_MAX: i64 = 253_370_764_799_999;

/// The date of a day since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms", civil_from_days).
fn date_of(day: u64) -> [u8; 10] {
    let shifted = day + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let mut text = *b"yyyy-mm-dd";
    text[..2].copy_from_slice(&two_digits(year / 100));
    text[2..4].copy_from_slice(&two_digits(year % 100));
    text[5..7].copy_from_slice(&two_digits(month));
    text[8..].copy_from_slice(&two_digits(day));
    text
}

/// SplitMix64 (Steele, Lea, Flood 2014): a counter, mixed.
struct Random(u64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number in `0..limit`.
    fn below(&mut self, limit: u64) -> u64 {
        scale(self.next(), limit)
    }

    fn pick<'a>(&mut self, of: &[&'a str; 8]) -> &'a str {
        of[(self.next() >> 61) as usize]
    }
}

/// A random limit in `1..=limit`: drawing below it makes small numbers more likely, as real users and latencies are.
fn random_min(limit: u64, random: u64) -> u64 {
    1 + scale(random, limit)
}

fn scale(random: u64, limit: u64) -> u64 {
    ((u128::from(random) * u128::from(limit)) >> 64) as u64
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn write_hex(number: u64, digits: usize, out: &mut Vec<u8>) {
    let mut text = [0; 16];
    for (index, digit) in text.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (60 - 4 * index) & 15) as usize];
    }
    out.extend_from_slice(&text[16 - digits..]);
}

fn write_decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut text = [0; 20];
    let mut start = text.len();
    loop {
        start -= 1;
        text[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[start..]);
}

fn two_digits(number: u64) -> [u8; 2] {
    [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]
}

fn three_digits(number: u64) -> [u8; 3] {
    let [tens, ones] = two_digits(number);
    [b'0' + (number / 100 % 10) as u8, tens, ones]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seed: u64, number: u64) -> String {
        let mut out = Vec::new();
        Clicks::new(seed, 1_763_633_730_250, 1000).write(number, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_record_never_changes_once_it_was_published() {
        let pinned = [
            r#"{"event_time":"2025-11-20T10:15:30.250Z","event_id":"dce423fc82c0d5b8255cf4495f13403f","event_ty"#,
            r#"pe":"search","user_id":"u37339","session_id":"se7d44af9","country":"PL","url":"https://shop.exam"#,
            r#"ple/p/3818","referrer":"https://search.example/?q=shoes","user_agent":"Mozilla/5.0 (Windows NT 1"#,
            r#"0.0) Edg/142.0","device":{"type":"desktop","os":"Windows","version":"11"},"price":164.44,"quanti"#,
            r#"ty":4,"tags":["vip"],"is_bot":false,"latency_ms":3.485}"#,
        ];
        assert_eq!(record(1, 0), pinned.concat());
    }

    #[test]
    fn records_depend_on_their_number_alone_and_are_json() {
        let mut all = Clicks::new(3, 0, 1_000_000);
        let mut ids = std::collections::HashSet::new();
        for number in (0..20_000).chain([86_399, 86_400, u64::MAX - 1, u64::MAX]) {
            let (mut in_order, mut alone) = (Vec::new(), Vec::new());
            all.write(number, &mut in_order);
            Clicks::new(3, 0, 1_000_000).write(number, &mut alone);
            assert_eq!(in_order, alone);
            assert!((250..=BYTES_MAX).contains(&alone.len()), "{} bytes", alone.len());
            let json: serde_json::Value = serde_json::from_slice(&alone).unwrap();
            assert!(ids.insert(json["event_id"].to_string()), "an event id came twice");
            let time: jiff::Timestamp = json["event_time"].as_str().unwrap().parse().unwrap();
            assert_eq!(time.as_millisecond(), (number.min(1 << 40) as i64 * 1000).min(MS_MAX));
        }
        assert_ne!(record(1, 5), record(2, 5));
    }
}
