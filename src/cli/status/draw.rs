//! A [`View`] as lines of a terminal.

mod group;

use std::fmt::Write as _;

use crate::cli::paint::{Ink, Paint, age, bytes, clock, count, of, plain, short};
use crate::live::Trouble;
use crate::status::view::{LeftView, PendingView, PipelineView, ShardView, State, StreamView, View, WayView};

/// Columns where no terminal says how many.
const COLUMNS_DEFAULT: usize = 80;
/// Columns that are used of a wide terminal.
const COLUMNS_MAX: usize = 160;
/// Columns of a name at the most.
const NAME_COLUMNS_MAX: usize = 48;
/// Shards, objects and rejected records that are shown of a pipeline.
const SHARDS_MAX: usize = 8;
const OBJECTS_MAX: usize = 5;
const REJECTED_MAX: usize = 3;

/// The page: closely, or one line per pipeline and more only of those in trouble.
pub fn view(view: &View, closely: bool, paint: Paint, columns: Option<usize>) -> String {
    let columns_max = columns.unwrap_or(COLUMNS_DEFAULT).clamp(40, COLUMNS_MAX);
    let mut page = Page { text: String::new(), paint, columns_max, now_ms: view.now_ms };
    page.head(view);
    let closely = closely || view.pipelines.len() == 1;
    match closely {
        true => view.pipelines.iter().for_each(|pipeline| page.pipeline(pipeline)),
        false => page.table(&view.pipelines),
    }
    let streams = view.streams.iter().filter(|stream| {
        let reads = |pipeline: &PipelineView| pipeline.way.stream.as_deref() == Some(&stream.name);
        !closely || view.pipelines.iter().any(reads)
    });
    page.streams(&streams.collect::<Vec<_>>());
    if !closely || view.pipelines.is_empty() {
        page.left(&view.without_file);
    }
    page.text
}

struct Page {
    text: String,
    paint: Paint,
    columns_max: usize,
    now_ms: i64,
}

impl Page {
    fn line(&mut self, line: impl std::fmt::Display) {
        let _ = writeln!(self.text, "{line}");
    }

    /// A short text of what is left of a line behind so many columns.
    fn rest(&self, text: &str, columns: usize) -> String {
        short(text, self.columns_max.saturating_sub(columns).max(16))
    }

    /// The width of a column of names beside so many other columns.
    fn width_of_names<'n>(&self, names: impl Iterator<Item = &'n str>, others: usize) -> usize {
        let longest = names.map(|name| plain(name).chars().count()).max().unwrap_or(0);
        longest.clamp(8, self.columns_max.saturating_sub(others).clamp(16, NAME_COLUMNS_MAX))
    }

    fn since(&self, ms: i64) -> String {
        format!("since {} ({})", clock(ms), age(self.now_ms - ms))
    }

    fn head(&mut self, view: &View) {
        let View { version, started_ms, now_ms, memory, ills, .. } = view;
        let well = match ills.is_empty() && view.pipelines.iter().all(super::is_well) {
            true => self.paint.ink(Ink::Good, "healthy"),
            false => self.paint.ink(Ink::Bad, "in trouble"),
        };
        let memory = format!("{} of {}", bytes(memory.used_bytes), bytes(memory.budget_bytes));
        self.line(format_args!(
            "hydrant {}  {well}  up {}  {}  memory {memory}",
            plain(version),
            age(now_ms - started_ms),
            of(view.pipelines.len() as u64, "pipeline")
        ));
        for ill in ills {
            self.cross(&plain(ill), "");
        }
    }

    /// Something that is wrong, its further lines behind it.
    fn cross(&mut self, words: &str, indent: &str) {
        for (index, line) in words.lines().enumerate() {
            let mark = if index == 0 { self.paint.ink(Ink::Bad, "x") } else { " ".into() };
            self.line(format_args!("{indent}{mark} {line}"));
        }
    }

    fn table(&mut self, pipelines: &[PipelineView]) {
        if pipelines.is_empty() {
            return;
        }
        let names = pipelines.iter().map(|pipeline| pipeline.name.as_str());
        let width = self.width_of_names(names, 57);
        let head = format!(
            "{:width$}  {:8}  {:>9}  {:>9}  {:>11}  {:>10}",
            "PIPELINE", "STATE", "IN/s", "OUT/s", "LAG", "REJECTED"
        );
        let head = self.paint.ink(Ink::Dim, head);
        self.line(format_args!("\n{head}"));
        for pipeline in pipelines {
            let (state, ink) = state(pipeline);
            let state = self.paint.ink(ink, format_args!("{state:8}"));
            self.line(format_args!(
                "{:width$}  {state}  {:>9}  {:>9}  {:>11}  {:>10}",
                short(&pipeline.name, width),
                rate(pipeline.rates.records_in),
                rate(pipeline.rates.records_out),
                lag(pipeline),
                count(pipeline.counts.rejected)
            ));
            self.troubles(pipeline, "  ");
        }
    }

    fn pipeline(&mut self, pipeline: &PipelineView) {
        let PipelineView { name, file, way, revision, counts, rates, .. } = pipeline;
        let (state, ink) = state(pipeline);
        let (shown, state) = (self.paint.ink(Ink::Bold, plain(name)), self.paint.ink(ink, state));
        let number = match revision.number {
            0 => "no revision yet".to_owned(),
            number => format!("revision {number}"),
        };
        let hash = if revision.hash.is_empty() { String::new() } else { format!(" ({})", short(&revision.hash, 8)) };
        let since = match revision.since_ms {
            0 => String::new(),
            ms => format!("  {}", self.since(ms)),
        };
        self.line(format_args!("\n{shown}  {state}  {number}{hash}{since}"));
        self.field("file", &plain(file));
        if way.source.is_empty() {
            // Its file has never been right.
            return self.troubles(pipeline, "  ");
        }
        self.field("way", &drawn(way));
        self.troubles(pipeline, "  ");
        let flow = |records: f64, bytes_per_second: f64| {
            format!("{:>9} records/s  {:>10}/s", rate(records), bytes(bytes_per_second.max(0.0) as u64))
        };
        let taken = format!("{}  {}", flow(rates.records_in, rates.bytes_in), of(counts.records_in, "record"));
        self.field("in", &taken);
        let given = format!(
            "{}  {} in {}",
            flow(rates.records_out, rates.bytes_out),
            of(counts.records_out, "row"),
            of(counts.objects_out, "object")
        );
        self.field("out", &given);
        let aside = format!("{} rejected, {} dropped", count(counts.rejected), count(counts.dropped));
        self.field("left out", &aside);
        let oldest = pipeline.oldest_undelivered_ms.map(|ms| format!(", the oldest from {}", age(self.now_ms - ms)));
        let oldest = oldest.map(|text| text + " ago").unwrap_or_default();
        self.field("lag", &format!("{}{oldest}", lag(pipeline)));
        let open = pipeline.open.as_ref().map_or("empty".to_owned(), |open| {
            let per_cent = open.bytes.saturating_mul(100) / open.bytes_max.max(1);
            let cut = age(open.cut_at_ms - self.now_ms);
            format!("{} of {} ({per_cent} %), cut in {cut} at the latest", bytes(open.bytes), bytes(open.bytes_max))
        });
        self.field("buffer", &open);
        let outbox = format!("{} of {}", bytes(pipeline.outbox_bytes), bytes(pipeline.outbox_bytes_max));
        self.field("outbox", &outbox);
        if let Some(kafka) = &pipeline.kafka {
            self.group(kafka);
        }
        self.shards(pipeline);
        self.objects(pipeline);
        self.rejected(pipeline);
    }

    fn field(&mut self, name: &str, value: &str) {
        let name = self.paint.ink(Ink::Dim, format_args!("{name:9}"));
        self.line(format_args!("  {name} {value}"));
    }

    fn heading(&mut self, words: &str) {
        let words = self.paint.ink(Ink::Dim, words);
        self.line(format_args!("  {words}"));
    }

    fn shards(&mut self, pipeline: &PipelineView) {
        let PipelineView { shards, shards_known, .. } = pipeline;
        if shards.is_empty() {
            return;
        }
        const POSITIONS: [&str; 5] = ["released", "delivered", "sealed", "read", "tail"];
        let shown = shards.get(..SHARDS_MAX).unwrap_or(shards);
        let cells: Vec<[String; 5]> = shown.iter().map(positions).collect();
        let widths: [usize; 5] = std::array::from_fn(|at| {
            let widest = cells.iter().map(|row| row[at].len()).max().unwrap_or(0);
            widest.max(POSITIONS[at].len())
        });
        let taken: usize = widths.iter().map(|width| width + 2).sum();
        let room = self.columns_max.saturating_sub(taken + 2).max(8);
        let width = shown.iter().map(|shard| called(shard).chars().count()).max().unwrap_or(0).clamp(5, room);
        let row = |shard: &str, cells: [&str; 5]| {
            let cells = cells.iter().zip(widths).map(|(cell, width)| format!("  {cell:>width$}"));
            format!("{:width$}{}", short(shard, width), cells.collect::<String>())
        };
        self.heading(&row("shard", POSITIONS));
        for (shard, cells) in shown.iter().zip(&cells) {
            self.line(format_args!("  {}", row(called(shard), std::array::from_fn(|at| cells[at].as_str()))));
        }
        let known = (*shards_known).max(shards.len() as u64);
        if known > shown.len() as u64 {
            self.heading(&format!("and {} more", count(known - shown.len() as u64)));
        }
    }

    fn objects(&mut self, pipeline: &PipelineView) {
        if !pipeline.delivered.is_empty() {
            self.heading("delivered last");
        }
        for object in pipeline.delivered.iter().take(OBJECTS_MAX) {
            let head =
                format!("  {}  {:>14}  {:>10}  ", clock(object.at_ms), of(object.rows, "row"), bytes(object.bytes));
            let name = match self.columns_max > COLUMNS_DEFAULT {
                true => self.rest(&object.object, head.chars().count()),
                // The end of a name tells more than its beginning.
                false => end_of(&object.object, self.columns_max.saturating_sub(head.chars().count()).max(24)),
            };
            self.line(format_args!("{head}{name}"));
        }
    }

    fn rejected(&mut self, pipeline: &PipelineView) {
        if !pipeline.rejected.is_empty() {
            self.heading("rejected last");
        }
        for rejected in pipeline.rejected.iter().take(REJECTED_MAX) {
            let head = format!("  {}  {}", clock(rejected.at_ms), plain(&rejected.code));
            let records =
                if rejected.records > 1 { format!("  {}", of(rejected.records, "record")) } else { String::new() };
            self.line(format_args!("{head}{records}"));
            for text in [&rejected.message, &rejected.sample].into_iter().filter(|text| !text.is_empty()) {
                let text = self.rest(text, 12);
                self.line(format_args!("            {text}"));
            }
        }
    }

    /// All that is wrong with a pipeline, in words.
    fn troubles(&mut self, pipeline: &PipelineView, indent: &str) {
        let PipelineView { state, why, pending, sink_trouble, reading_trouble, transforms_failing, .. } = pipeline;
        if let Some(why) = why {
            match matches!(state, State::Stopped | State::Waiting) {
                true => self.cross(&format!("{}: {}", word(*state), plain(why)), indent),
                false => self.line(format_args!("{indent}{}", plain(why))),
            }
        }
        if let Some(trouble) = sink_trouble {
            self.trouble("blocked", trouble, indent);
        }
        if let Some(trouble) = reading_trouble {
            self.trouble("cannot read", trouble, indent);
        }
        if *transforms_failing {
            self.cross("transforms set every record aside, or cannot be had", indent);
        }
        if let Some(PendingView { hash, since_ms, problems }) = pending {
            let what = match pipeline.revision.number {
                0 => "its file".to_owned(),
                _ => format!("the new revision {}", short(hash, 8)),
            };
            let goes_on = match state {
                State::Running => format!("; revision {} goes on", pipeline.revision.number),
                _ => String::new(),
            };
            let since = self.since(*since_ms);
            self.cross(&format!("{what} is refused {since}{goes_on}:\n{}", plain(problems)), indent);
        }
    }

    fn trouble(&mut self, what: &str, trouble: &Trouble, indent: &str) {
        let Trouble { message, hint, since_ms, attempts, .. } = trouble;
        let again = if *attempts > 1 { format!(", {}", of(*attempts, "attempt")) } else { String::new() };
        let mut words = format!("{what} {}{again}: {}", self.since(*since_ms), plain(message));
        if let Some(hint) = hint {
            let _ = write!(words, "\nhint: {}", plain(hint));
        }
        self.cross(&words, indent);
    }

    fn streams(&mut self, streams: &[&StreamView]) {
        if streams.is_empty() {
            return;
        }
        let width = self.width_of_names(streams.iter().map(|stream| stream.name.as_str()), 54);
        let head = format!("{:width$}  {:>22}  {:>16}  {:>10}", "STREAM", "SPOOL", "RECORDS", "THROTTLED");
        let head = self.paint.ink(Ink::Dim, head);
        self.line(format_args!("\n{head}"));
        for StreamView { name, bytes: taken, bytes_max, records, refused } in streams {
            let spool = match bytes_max {
                0 => bytes(*taken),
                most => format!("{} of {}", bytes(*taken), bytes(*most)),
            };
            let (name, records, refused) = (short(name, width), count(*records), count(*refused));
            self.line(format_args!("{name:width$}  {spool:>22}  {records:>16}  {refused:>10}"));
        }
    }

    fn left(&mut self, without_file: &[LeftView]) {
        if without_file.is_empty() {
            return;
        }
        let head = self.paint.ink(Ink::Dim, "STATE WITHOUT A FILE");
        self.line(format_args!("\n{head}"));
        for LeftView { name, folder, promised, drained, holds } in without_file {
            let (name, folder) = (plain(name), plain(folder));
            match drained {
                true => self.line(format_args!("{name}  drained; {folder} may be removed")),
                false => {
                    let promised = match promised {
                        0 => "all that was promised is delivered".to_owned(),
                        _ => format!("{} promised and not delivered", of(*promised, "object")),
                    };
                    let holds = match holds.is_empty() {
                        true => String::new(),
                        false => format!(", keeps records of {}", plain(&holds.join(", "))),
                    };
                    self.line(format_args!("{name}  {promised}{holds}"));
                    self.line(format_args!("  hint: put its file back to deliver them, or remove {folder}"));
                }
            }
        }
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Running => "running",
        State::Draining => "draining",
        State::Done => "done",
        State::Stopped => "stopped",
        State::Waiting => "waiting",
    }
}

/// The state in a word of eight letters at the most: what an operator has to know first.
fn state(pipeline: &PipelineView) -> (&'static str, Ink) {
    let PipelineView { state, pending, sink_trouble, reading_trouble, transforms_failing, .. } = pipeline;
    match state {
        State::Stopped | State::Waiting => (word(*state), Ink::Bad),
        State::Draining | State::Running if sink_trouble.is_some() => ("blocked", Ink::Bad),
        State::Draining | State::Running if reading_trouble.is_some() || *transforms_failing => ("failing", Ink::Bad),
        State::Running if pending.is_some() => ("refused", Ink::Warning),
        State::Draining => (word(*state), Ink::Warning),
        State::Done | State::Running => (word(*state), Ink::Good),
    }
}

fn drawn(way: &WayView) -> String {
    let WayView { source, transforms, format, sink, .. } = way;
    let stations = std::iter::once(source).chain(transforms).chain([format, sink]);
    stations.map(|station| plain(station)).collect::<Vec<_>>().join(" -> ")
}

/// Per second: `0`, `0.4`, `1,234`.
fn rate(per_second: f64) -> String {
    match per_second {
        0.05..9.95 => format!("{per_second:.1}"),
        _ => count(per_second.max(0.0).round() as u64),
    }
}

fn lag(pipeline: &PipelineView) -> String {
    match (pipeline.lag_records, pipeline.lag_bytes) {
        (Some(records), _) => count(records),
        (None, Some(lag)) => bytes(lag),
        (None, None) => "-".to_owned(),
    }
}

fn called(shard: &ShardView) -> &str {
    shard.name.as_deref().unwrap_or(&shard.shard)
}

fn positions(shard: &ShardView) -> [String; 5] {
    let ShardView { shard: _, name: _, released, delivered, sealed, read, tail } = shard;
    let shown = |position: &str| match position.parse::<u64>() {
        Ok(number) => count(number),
        Err(_) => short(position, 24),
    };
    [released, delivered, sealed, read, tail].map(|position| shown(position))
}

/// The last characters of a text, at most so many.
fn end_of(text: &str, chars_max: usize) -> String {
    let line = plain(text);
    let chars = line.chars().count();
    match chars > chars_max {
        true => std::iter::once('…').chain(line.chars().skip(chars - chars_max.saturating_sub(1))).collect(),
        false => line.into_owned(),
    }
}
