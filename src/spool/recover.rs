//! Recovery: what a dead process left, made into a log that can be read and written again.
//!
//! 1. Sync the folder, so that every name seen is durable. Remove `tmp-*`.
//! 2. Read every segment's header. One that cannot be read is damage: segments are born whole.
//! 3. Walk over the last segment. Its whole groups count up to the first bad frame. Was a record beyond known to be durable
//!    (a later frame's hint, or `known_durable` from the checkpoint and the outbox)? Then that is damage; if not, a torn tail.
//! 4. The last group may be in the page cache only: it is *rescued*, and opens the segment that this process writes, before
//!    anyone reads it. All older records are durable, as the hint in the last group says.
//! 5. Fill the once window from the segments that are young enough.
//!
//! No file of another process is ever written to. Nothing is removed that counts. Damage in closed segments is found when
//! they are read: every frame's checksum is looked at there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, remove_if_there};
use crate::error::{Blame, Fault};
use crate::ground::Ground;
use crate::spool::damage::{Damage, accepted_gaps, move_away};
use crate::spool::frame::{ALIGNMENT, Frame};
use crate::spool::identity;
use crate::spool::log::Log;
use crate::spool::once::{ONCE_KEYS_MAX, Once};
use crate::spool::segment::{HEADER_BYTES, Header, Scan, Segment, Unreadable, name_of, parse_name};
use crate::spool::writer::{Rescued, Start};
use crate::spool::{Appended, OnceKey, Options};

/// Recovers the stream `name` in `dir`, or begins it. Blocks. `Fault`: the disk failed, or damage that the policy stops at.
pub fn recover(ground: &Ground, dir: &Path, name: &str, options: &Options) -> Result<(Arc<Log>, Start), Fault> {
    let mut recovery = Recovery { ground, disk: &*ground.disk, dir, options, gaps: Vec::new() };
    let files = recovery.list()?;
    recovery.gaps = recovery.gaps()?;
    let incarnation = match identity::read(recovery.disk, dir)? {
        Some(incarnation) => incarnation,
        None if files.is_empty() => identity::create(ground, dir)?,
        None => {
            let message = format!("{}: missing, but there are segments\nhint: restore it from a copy", identity::NAME);
            return Err(Fault::new(Blame::Disk, format!("{}: {message}", dir.display())));
        }
    };
    let next_id = files.iter().map(|file| file.id).max().map_or(1, |id| id + 1);
    let (closed, lost_end) = recovery.headers(&files, incarnation)?;
    let mut walked = recovery.last(&closed, lost_end)?;
    let gaps = recovery.gaps()?;
    while let Some((_, end)) = gaps.iter().find(|(start, end)| (*start..*end).contains(&walked.end)) {
        // An accepted gap at the end: its numbers are never given out again, and all before it was durable.
        (walked.end, walked.rescued) = (*end, None);
    }
    let in_headers = closed.last().map_or(i64::MIN, |(header, _)| header.arrival_ms);
    let arrival_ms = walked.arrival_ms.unwrap_or(in_headers);
    let once = recovery.window(&closed, &walked.calls)?;
    let segments = closed.iter().map(|(header, len)| Arc::new(Segment::new(header, *len, *len))).collect();
    let shard = identity::shard(incarnation);
    let log = Log::new(ground.clone(), dir.to_owned(), name.to_owned(), shard, options, segments, gaps);
    let start = Start { incarnation, next: walked.end, next_id, arrival_ms, rescued: walked.rescued, once };
    Ok((Arc::new(log), start))
}

struct Recovery<'a> {
    ground: &'a Ground,
    disk: &'a dyn Disk,
    dir: &'a Path,
    options: &'a Options,
    /// Gaps that an earlier start accepted.
    gaps: Vec<(u64, u64)>,
}

/// A segment's file, by its name.
struct FileName {
    base: u64,
    id: u64,
    name: String,
    len: u64,
}

/// A call that a frame remembers.
struct Call {
    key: OnceKey,
    appended: Appended,
    arrival_ms: i64,
}

/// What the last segment holds.
struct Walked {
    /// The number behind its last record that counts.
    end: u64,
    /// Of the last of them.
    arrival_ms: Option<i64>,
    rescued: Option<Rescued>,
    calls: Vec<Call>,
}

impl Recovery<'_> {
    fn fault(&self, path: &Path, doing: &str, error: io::Error) -> Fault {
        Fault::disk(error).context(format!("{}: {doing}", path.display()))
    }

    fn gaps(&self) -> Result<Vec<(u64, u64)>, Fault> {
        accepted_gaps(self.disk, self.dir).map_err(|error| self.fault(self.dir, "list quarantine", error))
    }

    fn settle(&self, file: PathBuf, offset: u64, lost: (u64, u64), what: &'static str) -> Result<(), Fault> {
        if self.gaps.iter().any(|(start, end)| *start <= lost.0 && lost.1 <= *end) {
            return Ok(());
        }
        let damage = Damage { file, offset, start: lost.0, end: lost.1, what };
        damage.settle(self.ground, self.dir, self.options.on_corruption)
    }

    /// The segments' files, oldest first.
    fn list(&self) -> Result<Vec<FileName>, Fault> {
        let listed = self.disk.create_dir(self.dir).and_then(|()| self.disk.sync_dir(self.dir));
        let listed = listed.and_then(|()| self.disk.list(self.dir));
        let mut files = Vec::new();
        for (name, len) in listed.map_err(|error| self.fault(self.dir, "open a stream", error))? {
            if name.starts_with("tmp-") {
                let path = self.dir.join(&name);
                remove_if_there(self.disk, &path).map_err(|error| self.fault(&path, "remove", error))?;
            } else if let Some((base, id)) = parse_name(&name) {
                files.push(FileName { base, id, name, len });
            }
        }
        files.sort_by_key(|file| (file.id, file.base));
        match files.windows(2).find(|pair| pair[0].base > pair[1].base || pair[0].id == pair[1].id) {
            None => Ok(files),
            Some(pair) => {
                let (older, newer) = (&pair[0].name, &pair[1].name);
                let message = format!("{}: segments {older} and {newer} contradict each other", self.dir.display());
                Err(Fault::new(Blame::Disk, message))
            }
        }
    }

    /// The headers and lengths of the segments that count, and the end of the gap if the last one was lost.
    fn headers(&self, files: &[FileName], incarnation: u64) -> Result<(Vec<(Header, u64)>, u64), Fault> {
        let mut headers = Vec::with_capacity(files.len());
        for file in files {
            headers.push(self.header(file, incarnation)?);
        }
        let (mut kept, mut lost_end) = (Vec::new(), 0);
        for (index, (file, header)) in files.iter().zip(&headers).enumerate() {
            let next = files.get(index + 1);
            let path = self.dir.join(&file.name);
            let replaced = next.is_some_and(|next| next.base == file.base) && headers[index + 1].is_ok();
            match header {
                // Its records, if any, begin the next segment: a start that came to this point before.
                _ if replaced => {
                    remove_if_there(self.disk, &path).map_err(|error| self.fault(&path, "remove", error))?;
                }
                Ok(header) => kept.push((*header, file.len)),
                Err(what) => {
                    // No record takes less than 4 bytes: so many numbers may have been given out.
                    let most = file.base.saturating_add((file.len / 4).max(1)).max(self.options.known_durable);
                    let end = next.map_or(most, |next| next.base);
                    if end > file.base {
                        self.settle(path.clone(), 0, (file.base, end), what)?;
                    }
                    move_away(self.disk, self.dir, &file.name)
                        .map_err(|error| self.fault(&path, "move to quarantine", error))?;
                    if next.is_none() {
                        lost_end = end;
                    }
                }
            }
        }
        Ok((kept, lost_end))
    }

    /// A segment's header, or what damaged it. One that is whole but not ours stops under either policy: it is data.
    fn header(&self, file: &FileName, incarnation: u64) -> Result<Result<Header, &'static str>, Fault> {
        let path = self.dir.join(&file.name);
        let mut bytes = [0; HEADER_BYTES as usize];
        let read = self.disk.open(&path).and_then(|file| file.read_at(&mut bytes, 0));
        let read = read.map_err(|error| self.fault(&path, "read a segment's header", error))?;
        let foreign = |what| Err(Fault::new(Blame::Disk, format!("{}: {what}", path.display())));
        match Header::parse(&bytes[..read]) {
            Ok(header) if (header.base, header.id) != (file.base, file.id) => foreign("header of another file"),
            Ok(header) if header.incarnation != incarnation => foreign("segment of another stream"),
            Ok(header) => Ok(Ok(header)),
            Err(Unreadable::OtherVersion) => foreign("segment of another version of hydrant"),
            Err(Unreadable::Damaged) => Ok(Err("header damaged")),
        }
    }

    /// Walks over the last segment.
    fn last(&self, closed: &[(Header, u64)], lost_end: u64) -> Result<Walked, Fault> {
        let nothing = Walked { end: lost_end, arrival_ms: None, rescued: None, calls: Vec::new() };
        let mut walked = match closed.last() {
            Some((header, len)) if lost_end == 0 => self.walk(header, *len)?,
            _ => nothing,
        };
        let end = walked.end.max(self.options.known_durable);
        if end > walked.end {
            self.settle(self.dir.to_owned(), 0, (walked.end, end), "segments missing")?;
            walked.end = end;
        }
        Ok(walked)
    }

    fn walk(&self, header: &Header, len: u64) -> Result<Walked, Fault> {
        let path = self.dir.join(name_of(header.base, header.id));
        let fault = |error| self.fault(&path, "read a segment", error);
        let file = self.disk.open(&path).map_err(fault)?;
        let mut scan = Scan::new(&*file, header.salt, len);
        let mut walk = Walk::from(header);
        let mut hint_behind = None;
        let rescued = loop {
            if let Some(frame) = scan.frame(walk.at).map_err(fault)?.filter(|frame| frame.first == walk.expected) {
                walk.take(&frame);
                continue;
            }
            let behind = match hint_behind {
                Some(hint) => hint,
                None => *hint_behind.insert(highest_hint(&mut scan, walk.at).map_err(fault)?),
            };
            let durable = walk.hint.max(behind).max(self.options.known_durable);
            if durable <= walk.end {
                // A torn tail. The last group is durable unless its own hint is the highest number known.
                break walk.group.clone().filter(|(first, _)| *first == durable);
            }
            // A group that began below `durable` was durable as a whole: one of its frames is damaged, or all are gone.
            let (at, expected) = (walk.at, walk.expected);
            let wanted = |frame: &Frame| frame.first > expected && frame.durable < durable;
            let next = scan.find(at + ALIGNMENT as u64, wanted).map_err(fault)?;
            let end = next.map_or(durable.max(expected.saturating_add(1)), |(_, frame)| frame.first);
            self.settle(path.clone(), at, (expected, end), "damaged frame")?;
            walk.skip(end, next.map_or(len, |(at, _)| at));
            if next.is_none() {
                break None;
            }
        };
        let rescued = match rescued {
            None => None,
            Some((base, range)) => {
                let mut frames = vec![0; (range.end - range.start) as usize];
                let read = file.read_at(&mut frames, range.start).map_err(fault)?;
                assert_eq!(read, frames.len(), "these frames were read a moment ago");
                Some(Rescued { base, frames, salt: header.salt })
            }
        };
        walk.calls.truncate(walk.calls_whole);
        Ok(Walked { end: walk.end, arrival_ms: walk.arrival_whole_ms, rescued, calls: walk.calls })
    }

    /// The calls that are younger than the window. Those that a clock ahead of ours has dated count as new.
    fn window(&self, closed: &[(Header, u64)], last: &[Call]) -> Result<Once, Fault> {
        let window_ms = self.options.once_window_ms;
        let now_ms = self.ground.clock.now_ms();
        let oldest_ms = now_ms.saturating_sub_unsigned(window_ms);
        let mut older: Vec<Vec<Call>> = Vec::new();
        let mut count = last.len();
        for pair in closed.windows(2).rev() {
            let ((header, len), (next, _)) = (&pair[0], &pair[1]);
            if next.arrival_ms.max(header.arrival_ms) <= oldest_ms || count >= ONCE_KEYS_MAX {
                break;
            }
            older.push(self.calls(header, *len, next.base)?);
            count += older.last().map_or(0, Vec::len);
        }
        let mut once = Once::default();
        for call in older.iter().rev().flatten().chain(last).filter(|call| call.arrival_ms > oldest_ms) {
            let age_ms = now_ms.saturating_sub(call.arrival_ms).max(0).unsigned_abs();
            once.insert(call.key, call.appended, window_ms.saturating_sub(age_ms));
        }
        Ok(once)
    }

    /// The calls that a closed segment remembers; hops from header to header.
    fn calls(&self, header: &Header, len: u64, next_base: u64) -> Result<Vec<Call>, Fault> {
        let path = self.dir.join(name_of(header.base, header.id));
        let fault = |error| self.fault(&path, "read a segment", error);
        let file = self.disk.open(&path).map_err(fault)?;
        let mut scan = Scan::of_headers(&*file, header.salt, len);
        let (mut at, mut calls) = (HEADER_BYTES, Vec::new());
        let mut number = header.base;
        while number < next_base {
            let wanted = |frame: &Frame| frame.first >= number && frame.end() <= next_base;
            let Some((found, frame)) = scan.find(at, wanted).map_err(fault)? else { break };
            calls.extend(call_of(&frame));
            (at, number) = (found + frame.bytes() as u64, frame.end());
        }
        Ok(calls)
    }
}

/// How far a walk over a segment has come.
struct Walk {
    at: u64,
    /// The number that the frame at `at` should begin with.
    expected: u64,
    /// The highest number that a frame so far said was durable.
    hint: u64,
    /// Behind the last whole group.
    end: u64,
    arrival_ms: Option<i64>,
    arrival_whole_ms: Option<i64>,
    calls: Vec<Call>,
    calls_whole: usize,
    /// Where the group under way began.
    begun: Option<(u64, u64)>,
    /// First record and bytes of the last whole group.
    group: Option<(u64, std::ops::Range<u64>)>,
}

impl Walk {
    fn from(header: &Header) -> Walk {
        Walk {
            at: HEADER_BYTES,
            expected: header.base,
            hint: header.base,
            end: header.base,
            arrival_ms: None,
            arrival_whole_ms: None,
            calls: Vec::new(),
            calls_whole: 0,
            begun: None,
            group: None,
        }
    }

    fn take(&mut self, frame: &Frame) {
        let (first, start) = *self.begun.get_or_insert((frame.durable, self.at));
        self.hint = self.hint.max(frame.durable);
        self.arrival_ms = Some(frame.arrival_ms);
        self.calls.extend(call_of(frame));
        self.at += frame.bytes() as u64;
        self.expected = frame.end();
        if frame.group_left == 0 {
            self.group = Some((first, start..self.at));
            self.settle();
        }
    }

    /// Goes on at `at` with record `number`, over a gap; what came before it counts.
    fn skip(&mut self, number: u64, at: u64) {
        (self.expected, self.at) = (number, at);
        self.settle();
    }

    fn settle(&mut self) {
        self.begun = None;
        self.end = self.expected;
        self.arrival_whole_ms = self.arrival_ms;
        self.calls_whole = self.calls.len();
    }
}

fn call_of(frame: &Frame) -> Option<Call> {
    let appended = Appended { first: frame.first, count: frame.count };
    frame.once.map(|key| Call { key, appended, arrival_ms: frame.arrival_ms })
}

/// The highest number that any intact header at or behind `offset` says was durable.
fn highest_hint(scan: &mut Scan<'_>, offset: u64) -> io::Result<u64> {
    let mut highest = 0;
    scan.find(offset, |frame| {
        highest = highest.max(frame.durable);
        false
    })?;
    Ok(highest)
}
