//! The record sets of the benches, made from a seed: the same bytes in every run.

use std::fmt::Write as _;

use hydrant::record::{Batch, BatchBuilder};

/// Records of one kind, and the schema that declares all their fields.
pub struct Set {
    pub name: &'static str,
    pub schema: &'static str,
    /// A few of the columns.
    pub few: &'static str,
    pub batch: Batch,
}

/// Bytes of each set, about.
const SET_BYTES: usize = 20 << 20;

/// All sets.
pub fn sets() -> [Set; 3] {
    [
        Set { name: "clickstream", schema: CLICKS, few: CLICKS_FEW, batch: set(click) },
        Set { name: "logs", schema: LOGS, few: LOGS_FEW, batch: set(log) },
        Set { name: "iot", schema: IOT, few: IOT_FEW, batch: set(reading) },
    ]
}

fn set(record: impl Fn(&mut Random, u64, &mut String)) -> Batch {
    let mut random = Random(42);
    let mut builder = BatchBuilder::with_capacity(SET_BYTES / 100, SET_BYTES + 1024);
    let mut text = String::new();
    let mut row = 0;
    while builder.bytes() < SET_BYTES {
        text.clear();
        record(&mut random, row, &mut text);
        builder.push(text.as_bytes(), 0);
        row += 1;
    }
    builder.finish()
}

/// Xorshift: good enough for data, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.below(texts.len() as u64) as usize]
    }
}

const CLICKS_FEW: &str = "user_id: long\nevent_time: timestamp(ms)\nprice: decimal(12,2)";
const CLICKS: &str = "
event_id: string
event_time: timestamp(ms)
user_id: long
session: string
event: dictionary<string>
url: string
referrer: string
country: dictionary<string>
device: dictionary<string>
price: decimal(12,2)
quantity: int
score: double
logged_in: bool
tags: list<string>
ctx: struct<ip:string,width:int,height:int>
";

fn click(random: &mut Random, row: u64, out: &mut String) {
    let event = random.of(&["page_view", "click", "add_to_cart", "purchase"]);
    let country = random.of(&["DE", "FR", "US", "BR", "JP", "IN"]);
    let device = random.of(&["mobile", "desktop", "tablet"]);
    let _ = write!(
        out,
        "{{\"event_id\":\"{:016x}\",\"event_time\":\"2026-11-20T{:02}:{:02}:{:02}.{:03}Z\",\"user_id\":{},\"session\":\"s-{:08x}\",\
         \"event\":\"{event}\",\"url\":\"https://shop.example.com/p/{}?ref={}\",\"referrer\":{},\"country\":\"{country}\",\
         \"device\":\"{device}\",\"price\":{}.{:02},\"quantity\":{},\"score\":{:.6},\"logged_in\":{},\"tags\":[\"t{}\",\"t{}\"],\
         \"ctx\":{{\"ip\":\"10.{}.{}.{}\",\"width\":{},\"height\":{}}}}}",
        random.below(u64::MAX),
        row / 3600 % 24,
        row / 60 % 60,
        row % 60,
        random.below(1000),
        random.below(5_000_000),
        random.below(1 << 32),
        random.below(20_000),
        random.below(100),
        if random.below(3) == 0 { "null" } else { "\"https://www.google.com/\"" },
        random.below(500),
        random.below(100),
        1 + random.below(5),
        random.below(1_000_000) as f64 / 1e6,
        random.below(2) == 0,
        random.below(50),
        random.below(50),
        random.below(256),
        random.below(256),
        random.below(256),
        320 + random.below(2000),
        480 + random.below(1200),
    );
}

const LOGS_FEW: &str = "ts: timestamp(us)\nlevel: dictionary<string>\nmessage: string";
const LOGS: &str = "
ts: timestamp(us)
level: dictionary<string>
service: dictionary<string>
host: string
trace_id: string
span_id: string
message: string
http: struct<method:string,path:string,status:int,duration_ms:double,bytes:long>
labels: map<string,string>
stack: list<string>
";

const WORDS: [&str; 24] = [
    "connection",
    "refused",
    "while",
    "reading",
    "response",
    "header",
    "from",
    "upstream",
    "client",
    "retrying",
    "request",
    "timeout",
    "after",
    "attempts",
    "cache",
    "miss",
    "for",
    "key",
    "writing",
    "segment",
    "to",
    "disk",
    "größer",
    "als",
];

fn log(random: &mut Random, row: u64, out: &mut String) {
    let _ = write!(
        out,
        "{{\"ts\":\"2026-11-20T{:02}:{:02}:{:02}.{:06}Z\",\"level\":\"{}\",\"service\":\"svc-{}\",\"host\":\"ip-10-0-{}-{}.eu-central-1.compute.internal\",\
         \"trace_id\":\"{:016x}{:016x}\",\"span_id\":\"{:016x}\",\"message\":\"",
        row / 3600 % 24,
        row / 60 % 60,
        row % 60,
        random.below(1_000_000),
        random.of(&["INFO", "INFO", "INFO", "WARN", "ERROR", "DEBUG"]),
        random.below(30),
        random.below(256),
        random.below(256),
        random.below(u64::MAX),
        random.below(u64::MAX),
        random.below(u64::MAX),
    );
    for word in 0..20 + random.below(16) {
        // Words of a log are plain but for one in a few records.
        let word = if word > 0 && random.below(200) > 0 { WORDS[random.below(22) as usize] } else { random.of(&WORDS) };
        let _ = write!(out, "{word} ");
    }
    let _ = write!(
        out,
        "{}\",\"http\":{{\"method\":\"{}\",\"path\":\"/api/v{}/orders/{}/items\",\"status\":{},\"duration_ms\":{}.{:03},\"bytes\":{}}},\
         \"labels\":{{\"region\":\"eu-central-1\",\"pod\":\"web-{:08x}\",\"version\":\"1.{}.{}\"}},\"stack\":[",
        if random.below(5) == 0 { "at \\\"main\\\"\\n" } else { "done" },
        random.of(&["GET", "POST", "PUT"]),
        1 + random.below(3),
        random.below(1_000_000),
        random.of(&["200", "200", "201", "404", "500"]),
        random.below(3000),
        random.below(1000),
        random.below(1_000_000),
        random.below(1 << 32),
        random.below(40),
        random.below(10),
    );
    for frame in 0..random.below(4) {
        let comma = if frame == 0 { "" } else { "," };
        let _ = write!(out, "{comma}\"at com.example.orders.Handler.call(Handler.java:{})\"", random.below(900));
    }
    out.push_str("]}");
}

const IOT_FEW: &str = "device: string\nts: timestamp(ms)\ntemperature: double";
const IOT: &str = "
device: string
ts: timestamp(ms)
seq: long
temperature: double
humidity: double
pressure: double
voltage: float
rssi: int
ok: bool
";

fn reading(random: &mut Random, row: u64, out: &mut String) {
    let _ = write!(
        out,
        "{{\"device\":\"d{:05}\",\"ts\":{},\"seq\":{row},\"temperature\":{}.{:02},\"humidity\":{}.{},\"pressure\":{},\"voltage\":3.{},\
         \"rssi\":-{},\"ok\":{}}}",
        random.below(10_000),
        1_763_632_923_000 + row * 37,
        random.below(40),
        random.below(100),
        random.below(100),
        random.below(10),
        900.0 + random.below(1 << 40) as f64 / (1u64 << 33) as f64,
        random.below(1000),
        30 + random.below(60),
        random.below(50) > 0,
    );
}
