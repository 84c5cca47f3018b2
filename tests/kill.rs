//! The kill test: the real binary under SIGKILL and reloads, fed by real HTTP clients and a growing file, then counted
//! record by record.
//!
//! `cargo test --release --test kill -- --reloads 1000 --kills 30 --seed 7` (HYDRANT=/path/to/hydrant kills a binary that
//! exists)
//!
//! Four pipelines run in one daemon: three read a stream (Firehose and HTTP clients) to gzip lines, of which one is never
//! touched and one comes and goes, and one takes a followed, rotated file to Parquet. Their files are changed, broken,
//! mended, removed and added, and a module is swapped, at seeded moments; the daemon is killed, during start-up and during
//! reloads too, mostly by SIGKILL and sometimes by SIGTERM, and started again on the same state. While it is up nobody is
//! refused. In the end, in each pipeline, every answered request is in the store once (of the one that comes and goes:
//! those that were sent and answered while it was there), every unanswered one once or not at all, every line of the file
//! once, in order inside each object, and nothing else is there.

#[path = "kill/client.rs"]
mod client;
#[path = "kill/count.rs"]
mod count;
#[path = "kill/daemon.rs"]
mod daemon;
#[path = "kill/feed.rs"]
mod feed;
#[path = "kill/hand.rs"]
mod hand;
#[path = "kill/record.rs"]
mod record;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use count::Delivered;
use daemon::{Daemon, Home};
use feed::{Feed, StopOnDrop};
use hand::{Hand, Up};
use record::Rng;

/// Kills of a plain `cargo test`.
const KILLS_DEFAULT: u32 = 5;
/// Reloads of it.
const RELOADS_DEFAULT: u32 = 20;
/// How long everything acknowledged may take to reach the store once the killing has ended.
const DELIVERY_MAX: Duration = Duration::from_secs(120);
/// How long a daemon may take to be ready, and to leave after SIGTERM.
const TURN_MAX: Duration = Duration::from_secs(60);

struct Options {
    kills: u32,
    reloads: u32,
    seed: u64,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kill: {error}\nusage: cargo test --test kill -- [--kills N] [--reloads N] [--seed S]");
            return ExitCode::from(2);
        }
    };
    println!("kill: {} kills, {} reloads, seed {}", options.kills, options.reloads, options.seed);
    let started = Instant::now();
    let home = Home::new();
    match story(&options, &home) {
        Ok(summary) => {
            println!("kill: seed {}: {summary}", options.seed);
            println!("{}", result("ok. 1 passed; 0 failed", started));
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("kill: seed {} FAILED: {error}", options.seed);
            println!("kill: the last of its log:\n{}", home.log_tail());
            println!("kill: everything is kept in {}", home.keep().display());
            println!("{}", result("FAILED. 0 passed; 1 failed", started));
            ExitCode::FAILURE
        }
    }
}

/// The closing line as cargo's own test harness prints it.
fn result(counts: &str, started: Instant) -> String {
    let seconds = started.elapsed().as_secs_f64();
    format!("test result: {counts}; 0 ignored; 0 measured; 0 filtered out; finished in {seconds:.2}s")
}

/// `None`: this run was asked for other tests (`cargo test NAME` passes NAME to every test target).
fn options(args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let (mut options, mut args) = (Options { kills: KILLS_DEFAULT, reloads: RELOADS_DEFAULT, seed: rand_seed() }, args);
    while let Some(arg) = args.next() {
        let mut number = || {
            let text = args.next().ok_or_else(|| format!("{arg} needs a number"))?;
            text.parse::<u64>().map_err(|_| format!("{arg} needs a number, not {text}"))
        };
        match arg.as_str() {
            "--kills" => options.kills = number()?.try_into().map_err(|_| "--kills: too many".to_owned())?,
            "--reloads" => options.reloads = number()?.try_into().map_err(|_| "--reloads: too many".to_owned())?,
            "--seed" => options.seed = number()?,
            "--nocapture" | "--quiet" | "--test-threads=1" => {}
            "--list" => return Ok(None),
            name if name.starts_with('-') => return Err(format!("unknown option {name}")),
            name if "kill".contains(name) => {}
            _ => return Ok(None),
        }
    }
    Ok(Some(options))
}

fn rand_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |now| u64::from(now.subsec_nanos()) ^ now.as_secs())
}

fn story(options: &Options, home: &Home) -> Result<String, String> {
    let started = Instant::now();
    let feed = Feed::default();
    let mut rng = Rng::new(options.seed);
    let mut hand = Hand::new(home.path(), home.input(), home.output(), home.admin, rng.fork());
    thread::scope(|scope| {
        let stop = StopOnDrop(&feed);
        for client in 0..feed::CLIENTS {
            let (feed, mut rng) = (&feed, rng.fork());
            scope.spawn(move || feed.client(client, home.listen, &mut rng));
        }
        let (to_file, mut file_rng) = (&feed, rng.fork());
        scope.spawn(move || to_file.file(&home.input(), &mut file_rng));
        let killed = kills(options, home, &feed, &mut hand, &mut rng, started);
        drop(stop);
        killed
    })
    .and_then(|(daemon, by_sigterm)| finish(options, home, &feed, &hand, daemon, by_sigterm, started))
}

/// Reloads, kills and restarts; answers the daemon that lives on, and how many went by SIGTERM.
fn kills(
    options: &Options,
    home: &Home,
    feed: &Feed,
    hand: &mut Hand,
    rng: &mut Rng,
    started: Instant,
) -> Result<(Daemon, u32), String> {
    let (mut by_sigterm, mut reloads_left) = (0, options.reloads);
    let mut daemon = home.start();
    for kill in 1..=options.kills {
        let at = |error: String| format!("kill {kill}: {error}");
        let lives_left = options.kills + 1 - kill;
        // Some lives end before they have begun, so that others have more reloads.
        let reloads = if rng.below(3) == 0 { 0 } else { reloads_left.div_ceil(lives_left).min(reloads_left) };
        let up = match reloads {
            0 => {
                let life_ms = match rng.below(10) {
                    0..=2 => rng.below(60),
                    3..=4 => 60 + rng.below(400),
                    _ => 300 + rng.below(1500),
                };
                daemon.live(Duration::from_millis(life_ms)).map_err(at)?;
                None
            }
            _ => {
                reloads_left -= reloads;
                Some(live_with_reloads(&mut daemon, feed, hand, reloads - 1).map_err(at)?)
            }
        };
        let is_reloading = up.is_some();
        drop(up);
        thread::scope(|scope| {
            if is_reloading {
                scope.spawn(|| hand.reload_and_die());
                daemon.live(Duration::from_millis(rng.below(150)))?;
            }
            if rng.below(5) == 0 {
                by_sigterm += 1;
                return daemon.terminate(TURN_MAX).map_err(|error| format!("by SIGTERM: {error}"));
            }
            daemon.kill();
            Ok(())
        })
        .map_err(at)?;
        hand.mend_all();
        daemon = home.start();
        if kill % 10 == 0 {
            let (answered, unanswered) = feed.requests();
            let seconds = started.elapsed().as_secs();
            println!(
                "kill {kill}/{}: {answered} requests answered, {unanswered} not, {} file lines, {seconds} s",
                options.kills,
                feed.file_lines()
            );
        }
    }
    let up = live_with_reloads(&mut daemon, feed, hand, reloads_left)?;
    hand.settle()?;
    daemon.live(Duration::from_millis(1000))?;
    drop(up);
    Ok((daemon, by_sigterm))
}

/// So many reloads, in a daemon that is up from here on.
fn live_with_reloads<'f>(daemon: &mut Daemon, feed: &'f Feed, hand: &mut Hand, reloads: u32) -> Result<Up<'f>, String> {
    daemon.ready(TURN_MAX)?;
    let up = Up::begin(feed);
    for reload in 1..=reloads {
        hand.reload().map_err(|error| format!("reload {reload}: {error}"))?;
        daemon.live(Duration::ZERO)?;
        feed.faults()?;
    }
    if reloads > 0 {
        hand.still_is_untouched()?;
    }
    Ok(up)
}

/// Waits for delivery, stops the daemon, and counts all objects afresh.
fn finish(
    options: &Options,
    home: &Home,
    feed: &Feed,
    hand: &Hand,
    mut daemon: Daemon,
    by_sigterm: u32,
    started: Instant,
) -> Result<String, String> {
    feed.faults()?;
    let deadline = Instant::now() + DELIVERY_MAX;
    let mut so_far = Delivered::default();
    loop {
        so_far.scan(&home.output());
        let missing = so_far.missing(feed, hand.presences());
        if missing == 0 {
            break;
        }
        if Instant::now() > deadline {
            let counted = so_far.verdict(feed, hand.presences()).err().unwrap_or_default();
            return Err(format!("{missing} records were not delivered within {DELIVERY_MAX:?}\n{counted}"));
        }
        daemon.live(Duration::from_millis(100))?;
    }
    daemon.terminate(TURN_MAX)?;
    let mut all = Delivered::default();
    all.scan(&home.output());
    let counted = all.verdict(feed, hand.presences())?;
    let seconds = started.elapsed().as_secs();
    Ok(format!(
        "{} kills ({by_sigterm} by SIGTERM), {}, {counted}, 0 refused, 0 missing, 0 twice, 0 foreign, {seconds} s",
        options.kills,
        hand.summary()
    ))
}
