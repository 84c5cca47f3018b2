//! The simulator itself: it must lose what a disk may lose, keep what a disk must keep, and catch who relies on more.

use std::io;
use std::path::Path;

use bytes::Bytes;
use hydrant::disk::{Disk, DiskFile, RealDisk, born_whole, read_all};
use object_store::path::Path as Name;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};

use super::World;
use super::disk::SimDisk;
use super::fate::{Death, Doom, Fate, Rates, Rng, Share};
use super::oracle::{Id, Named, Oracle, When};

const BOTH: [Death; 2] = [Death::Kill, Death::PowerLoss];

fn dir() -> &'static Path {
    Path::new("/state")
}

fn at(name: &str) -> std::path::PathBuf {
    dir().join(name)
}

/// A world with a durable folder, and the disk of its next life after `work` and `death`.
fn after(seed: u64, death: Death, work: impl Fn(&SimDisk)) -> World {
    let mut world = World::new(Fate::gentle(seed));
    world.disk.create_dir(dir()).unwrap();
    work(&world.disk);
    end(&mut world, death);
    world
}

/// Ends the life in this way, at a quiet moment.
fn end(world: &mut World, death: Death) {
    world.fate = world.fate.next_life(None);
    world.disk = world.disk.restart(death, &world.fate);
    world.store = world.store.restart(&world.fate);
}

fn content(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    match read_all(disk, &at(name)) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

/// A current-thread runtime whose clock runs only when nothing else does.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}

#[test]
fn an_unsynced_write_is_kept_by_a_kill_and_may_be_lost_by_a_power_loss_even_later() {
    let work = |disk: &SimDisk| {
        let file = disk.create(&at("a")).unwrap();
        file.write_at(b"synced", 0).unwrap();
        file.sync().unwrap();
        disk.sync_dir(dir()).unwrap();
        file.write_at(b", not synced", 6).unwrap();
    };
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        let mut world = after(seed, Death::Kill, work);
        assert_eq!(content(&world.disk, "a").unwrap(), b"synced, not synced");
        end(&mut world, Death::PowerLoss);
        let bytes = content(&world.disk, "a").expect("the name is durable");
        assert!(bytes.starts_with(b"synced"), "what was synced stays");
        match bytes.len() {
            6 => lost += 1,
            18 if bytes.ends_with(b"not synced") => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(lost > 20 && kept > 20 && torn > 20, "lost {lost}, kept {kept}, torn {torn}");
}

#[test]
fn a_rename_a_remove_and_a_new_name_may_be_undone_until_their_folder_is_synced() {
    let work = |synced: bool| {
        move |disk: &SimDisk| {
            for name in ["old", "gone"] {
                born_whole(disk, dir(), name, name.as_bytes()).unwrap();
            }
            disk.rename(&at("old"), &at("new")).unwrap();
            disk.remove(&at("gone")).unwrap();
            let file = disk.create(&at("fresh")).unwrap();
            file.write_at(b"fresh", 0).unwrap();
            file.sync().unwrap();
            if synced {
                disk.sync_dir(dir()).unwrap();
            }
        }
    };
    let there = |world: &World| ["old", "gone", "new", "fresh"].map(|name| content(&world.disk, name).is_some());
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        seen.insert(there(&after(seed, Death::PowerLoss, work(false))));
        assert_eq!(there(&after(seed, Death::PowerLoss, work(true))), [false, false, true, true]);
        assert_eq!(there(&after(seed, Death::Kill, work(false))), [false, false, true, true]);
    }
    let prefixes = [[true, true, false, false], [false, true, true, false], [false, false, true, false]];
    assert!(prefixes.iter().all(|prefix| seen.contains(prefix)) && seen.len() == 4, "{seen:?}");
}

#[test]
fn a_folder_that_a_killed_process_did_not_sync_is_synced_by_the_next_one() {
    let made_in_part = (1..6).map(|n| Fate::die_at(n, Death::Kill, Share::All)).filter_map(|fate| {
        let mut world = World::new(fate);
        let _ = world.disk.create_dir(Path::new("/var/state"));
        world.restart(None);
        (world.disk.create_dir(Path::new("/var/state")).is_ok()).then_some(world)
    });
    for mut world in made_in_part {
        born_whole(&world.disk, Path::new("/var/state"), "a", b"a").unwrap();
        end(&mut world, Death::PowerLoss);
        assert_eq!(read_all(&world.disk, Path::new("/var/state/a")).unwrap(), b"a");
    }
}

#[test]
fn after_a_failed_sync_the_next_one_succeeds_and_the_data_is_lost_all_the_same() {
    let mut lost = 0;
    for seed in 0..100 {
        let mut world = after(seed, Death::Kill, |_| {});
        let file = world.disk.create(&at("a")).unwrap();
        world.disk.sync_dir(dir()).unwrap();
        file.write_at(&[7; 2048], 0).unwrap();
        world.fate.set_rates(Rates { sync_error: 1000, ..Rates::NONE });
        assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(5));
        world.fate.set_rates(Rates::NONE);
        file.sync().unwrap();
        assert_eq!(content(&world.disk, "a").unwrap(), [7; 2048], "the process sees no difference");
        end(&mut world, Death::PowerLoss);
        lost += u32::from(content(&world.disk, "a").unwrap() != [7; 2048]);
    }
    assert!(lost > 80, "lost {lost}");
}

#[test]
fn a_full_disk_cuts_writes_short_and_still_overwrites_renames_and_removes() {
    let world = after(1, Death::Kill, |_| {});
    let disk = &world.disk;
    disk.set_capacity_bytes(1000);
    let file = disk.create(&at("a")).unwrap();
    file.write_at(&[1; 900], 0).unwrap();
    let error = file.write_at(&[2; 200], 900).unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (io::ErrorKind::StorageFull, Some(28)));
    assert_eq!((file.len().unwrap(), disk.free_bytes(dir()).unwrap()), (1000, 0));
    assert_eq!(disk.create(&at("b")).err().unwrap().kind(), io::ErrorKind::StorageFull);
    file.write_at(&[3; 1000], 0).unwrap();
    file.sync().unwrap();
    disk.rename(&at("a"), &at("c")).unwrap();
    disk.remove(&at("c")).unwrap();
    disk.sync_dir(dir()).unwrap();
    assert_eq!(disk.free_bytes(dir()).unwrap(), 1000);
    assert_eq!(file.write_durably_at(&[4; 10], 0).ok(), Some(()), "an open handle outlives the name");
    disk.create(&at("b")).unwrap();
}

#[test]
fn names_are_listed_sorted_and_the_wrong_calls_fail_as_on_a_real_disk() {
    let world = after(1, Death::Kill, |_| {});
    let disk = &world.disk;
    disk.create_dir(&at("folder")).unwrap();
    for name in ["b", "a"] {
        born_whole(disk, dir(), name, b"xyz").unwrap();
    }
    assert_eq!(disk.list(dir()).unwrap(), [("a".to_string(), 3), ("b".to_string(), 3)]);
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    assert_eq!(kind(disk.create(&at("a")).map(drop)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.open(&at("none")).map(drop)), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.remove(&at("none"))), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.rename(&at("none"), &at("a"))), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.create(Path::new("/none/a")).map(drop)), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.list(Path::new("/none")).map(drop)), io::ErrorKind::NotFound);
    disk.rot(&at("a"), |bytes| bytes[1] ^= 1);
    assert_eq!(content(disk, "a").unwrap(), b"xxz");
}

/// A small workload over the disk and the store, under names of its own in each life; stops at the first error.
async fn script(world: &World) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let (disk, life) = (&world.disk, world.fate.life());
    let log = at(&format!("log-{life}"));
    disk.create_dir(dir()).map_err(text)?;
    let file = disk.create(&log).map_err(text)?;
    disk.sync_dir(dir()).map_err(text)?;
    for i in 0..3u64 {
        file.write_durably_at(&[i as u8; 700], i * 700).map_err(text)?;
        born_whole(disk, dir(), &format!("promise-{life}-{i}"), &[i as u8; 700]).map_err(text)?;
        let name = Name::from(format!("object-{life}-{i}"));
        let put = world.store.put_opts(&name, vec![i as u8; 700].into(), PutMode::Create.into());
        put.await.map_err(|error| error.to_string())?;
        disk.remove(&at(&format!("promise-{life}-{i}"))).map_err(text)?;
    }
    disk.rename(&log, &at(&format!("old-log-{life}"))).map_err(text)
}

#[test]
fn a_process_can_die_at_every_effect_and_does_nothing_after() {
    let whole = World::new(Fate::gentle(0));
    block_on(script(&whole)).unwrap();
    let effects = whole.fate.effects();
    assert_eq!(effects, 4 + 3 * 9 + 1, "{}", whole.fate.story());
    for n in 1..=effects {
        for (death, share) in BOTH.iter().flat_map(|death| Share::EACH.map(|share| (*death, share))) {
            let mut world = World::new(Fate::die_at(n, death, share));
            let error = block_on(script(&world)).unwrap_err();
            assert!(error.contains("dead"), "{error}");
            assert_eq!((world.fate.effects(), world.fate.dead(), world.fate.death()), (n, true, Some(death)));
            block_on(world.fate.until_dead());
            let (old_disk, old_store) = (world.disk.clone(), world.store.clone());
            world.restart(None);
            for _ in 0..2 {
                assert!(old_disk.create(Path::new("/late")).is_err() && old_disk.list(Path::new("/")).is_err());
                assert!(block_on(old_store.put(&Name::from("late"), "late".into())).is_err());
            }
            assert_eq!((world.fate.effects(), world.fate.dead()), (0, false));
            assert!(world.disk.list(Path::new("/")).unwrap().is_empty() && world.store.objects().len() <= 3);
        }
    }
    let mut world = World::new(Fate::die_at(effects + 1, Death::Kill, Share::All));
    block_on(script(&world)).unwrap();
    world.restart(None);
    assert_eq!(content(&world.disk, "old-log-0").unwrap().len(), 2100);
}

/// Lives with a bad day's faults, each ended by fate or by the first error; returns the trace and the last story.
fn bad_days(seed: u64) -> (u64, String) {
    let mut world = World::new(Fate::seeded(seed, Rates::BAD_DAY));
    for _ in 0..4 {
        world.fate.set_doom(Some(world.fate.draw_doom(40)));
        let ground = world.ground();
        block_on(async {
            ground.clock.now_ms();
            let _ = script(&world).await;
            let _ = world.store.get(&Name::from(format!("object-0-{}", ground.random.u64() % 3))).await;
        });
        world.restart(None);
    }
    world.store.settle();
    (world.fate.trace(), world.fate.story())
}

#[test]
fn the_same_seed_twice_is_the_same_story_and_another_seed_is_another() {
    let mut traces = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let (trace, story) = bad_days(seed);
        assert_eq!((trace, story), bad_days(seed));
        traces.insert(trace);
    }
    assert_eq!(traces.len(), 300);
}

/// What a random program of disk calls answers, call by call; `root` is where it works.
fn answers(disk: &dyn Disk, root: &Path, seed: u64) -> Vec<String> {
    let mut rng = Rng::new(seed, "program");
    let name = |rng: &mut Rng| root.join(["a", "b", "sub/c", "none/d"][rng.below(4) as usize]);
    disk.create_dir(&root.join("sub")).unwrap();
    let mut open: Vec<std::sync::Arc<dyn DiskFile>> = Vec::new();
    let mut answers = Vec::new();
    for _ in 0..60 {
        let (path, offset, len) = (name(&mut rng), rng.below(40), rng.below(30) as usize);
        let what = rng.below(9);
        let file = (!open.is_empty()).then(|| open[rng.below(open.len() as u64) as usize].clone());
        let answer = match (what, file) {
            (0, _) => disk.create(&path).map(|file| open.push(file)).map(|()| String::new()),
            (1, _) => disk.open(&path).map(|file| open.push(file)).map(|()| String::new()),
            (2, _) => disk.rename(&path, &name(&mut rng)).map(|()| String::new()),
            (3, _) => disk.remove(&path).map(|()| String::new()),
            (4, _) => disk.list(root).map(|files| format!("{files:?}")),
            (5, _) => disk.sync_dir(root).map(|()| String::new()),
            (6, Some(file)) => file.write_at(&vec![offset as u8; len], offset).map(|()| String::new()),
            (7, Some(file)) => file.write_durably_at(&vec![offset as u8; len], offset).map(|()| String::new()),
            (_, Some(file)) => {
                let mut buffer = vec![0; len];
                file.read_at(&mut buffer, offset).map(|n| format!("{:?} of {:?}", &buffer[..n], file.len().unwrap()))
            }
            (_, None) => Ok(String::new()),
        };
        answers.push(format!("{what} {:?}", answer.map_err(|error| error.kind())));
    }
    answers
}

#[test]
fn without_a_crash_the_simulated_disk_answers_as_the_real_one() {
    for seed in 0..40 {
        let real = tempfile::tempdir().unwrap();
        let simulated = after(seed, Death::Kill, |_| {});
        let expected = answers(&RealDisk, real.path(), seed);
        assert_eq!(answers(&simulated.disk, dir(), seed), expected, "seed {seed}");
    }
}

/// How to write a file, rightly or not.
type Writer = fn(&dyn Disk, &[u8]) -> io::Result<()>;

/// Runs `write` over every death point, ends and shares, with a second death of either kind after each; returns what broke.
fn first_breakage(write: Writer) -> Option<String> {
    let bytes: Vec<u8> = (0..3000u32).map(|i| 1 + (i % 251) as u8).collect();
    for seed in 0..12 {
        for n in 1..=10 {
            for (death, share) in BOTH.iter().flat_map(|death| Share::EACH.map(|share| (*death, share))) {
                for second in BOTH {
                    let mut world = World::new(Fate::new(seed, Rates::NONE, None));
                    world.disk.create_dir(dir()).unwrap();
                    world.fate.set_doom(Some(Doom { at: world.fate.effects() + n, death, share }));
                    let told = write(&world.disk, &bytes).is_ok();
                    world.restart(None);
                    for death in [None, Some(second)] {
                        death.into_iter().for_each(|death| end(&mut world, death));
                        let found = content(&world.disk, "whole");
                        let right = found.as_ref() == Some(&bytes) || (found.is_none() && !told);
                        if !right {
                            let len = found.map(|found| found.len());
                            return Some(format!("told {told}, found {len:?} bytes\n{}", world.fate.story()));
                        }
                    }
                }
            }
        }
    }
    None
}

#[test]
fn a_file_born_whole_is_there_whole_or_not_at_all_and_every_shortcut_is_caught() {
    assert_eq!(first_breakage(|disk, bytes| born_whole(disk, dir(), "whole", bytes)), None);
    let shortcuts: [(&str, Writer); 4] = [
        ("no sync of the file", |disk, bytes| {
            disk.create(&at("tmp"))?.write_at(bytes, 0)?;
            disk.rename(&at("tmp"), &at("whole"))?;
            disk.sync_dir(dir())
        }),
        ("no sync of the folder", |disk, bytes| {
            disk.create(&at("tmp"))?.write_durably_at(bytes, 0)?;
            disk.rename(&at("tmp"), &at("whole"))
        }),
        ("no temporary file", |disk, bytes| {
            disk.create(&at("whole"))?.write_durably_at(bytes, 0)?;
            disk.sync_dir(dir())
        }),
        ("sync after the rename", |disk, bytes| {
            let file = disk.create(&at("tmp"))?;
            file.write_at(bytes, 0)?;
            disk.rename(&at("tmp"), &at("whole"))?;
            file.sync()?;
            disk.sync_dir(dir())
        }),
    ];
    for (name, write) in shortcuts {
        assert!(first_breakage(write).is_some(), "not caught: {name}");
    }
}

#[test]
fn every_lie_of_the_store_is_told_and_creates_stay_atomic() {
    let name = Name::from("a/b");
    let put = |world: &World, bytes: &'static str| {
        block_on(world.store.put_opts(&name, bytes.into(), PutMode::Create.into()))
    };
    let with = |rates| World::new(Fate::seeded(3, rates));
    let foreign = with(Rates::NONE);
    foreign.store.plant(&name, "foreign".into());
    assert!(matches!(put(&foreign, "ours"), Err(Error::AlreadyExists { .. })));
    let lies: [(Rates, bool, bool); 4] = [
        (Rates { put_error_before: 1000, ..Rates::NONE }, false, false),
        (Rates { put_error_after: 1000, ..Rates::NONE }, true, false),
        (Rates { put_false_conflict: 1000, ..Rates::NONE }, false, true),
        (Rates { put_own_conflict: 1000, ..Rates::NONE }, true, true),
    ];
    for (rates, there, conflict) in lies {
        let world = with(rates);
        let error = put(&world, "one").unwrap_err();
        assert_eq!(matches!(error, Error::AlreadyExists { .. }), conflict, "{error}");
        assert_eq!(world.store.objects().contains_key(&name), there);
    }
    let world = with(Rates { put_slow: 1000, ..Rates::NONE });
    put(&world, "one").unwrap();
    assert!(matches!(put(&world, "two"), Err(Error::AlreadyExists { .. })));
    let read = block_on(async { world.store.get(&name).await.unwrap().bytes().await.unwrap() });
    assert_eq!((read, block_on(world.store.head(&name)).unwrap().size), (Bytes::from("one"), 3));
    let listed = block_on(world.store.list_with_delimiter(None)).unwrap();
    assert_eq!((listed.common_prefixes, listed.objects.len()), (vec![Name::from("a")], 0));
    assert_eq!(world.store.history().created[&name], 1);
    world.fate.set_rates(Rates { read_error: 1000, ..Rates::NONE });
    assert!(block_on(world.store.head(&name)).is_err());
}

#[test]
fn a_put_of_a_dead_process_may_land_later_but_never_over_an_object() {
    let name = Name::from("a");
    let (mut landed, mut never) = (0, 0);
    for seed in 0..60 {
        let rates = Rates { put_late: 500, ..Rates::NONE };
        let doom = Doom { at: 1, death: Death::Kill, share: Share::Part };
        let mut world = World::new(Fate::new(seed, rates, Some(doom)));
        block_on(world.store.put_opts(&name, "dead".into(), PutMode::Create.into())).unwrap_err();
        world.restart(None);
        if seed % 2 == 0 {
            let alive = block_on(world.store.put_opts(&name, "alive".into(), PutMode::Create.into()));
            world.store.settle();
            let winner = if alive.is_ok() { "alive" } else { "dead" };
            assert_eq!(world.store.objects()[&name], winner);
        } else {
            world.store.settle();
            *(if world.store.objects().is_empty() { &mut never } else { &mut landed }) += 1;
        }
        assert!(world.store.history().created.values().all(|times| *times == 1));
    }
    assert!(landed > 5 && never > 5, "landed {landed}, never {never}");
}

#[test]
fn a_multipart_upload_appears_at_its_completion() {
    let world = World::new(Fate::gentle(1));
    let name = Name::from("a");
    block_on(async {
        let mut upload = world.store.put_multipart(&name).await.unwrap();
        let (second, first) = (upload.put_part("first, ".into()), upload.put_part("second".into()));
        first.await.unwrap();
        assert!(upload.complete().await.is_err(), "a part is missing");
        second.await.unwrap();
        assert!(world.store.objects().is_empty());
        upload.complete().await.unwrap();
    });
    assert_eq!(world.store.objects()[&name], "first, second");
    assert_eq!(world.fate.effects(), 3);
}

/// Objects of the oracle's tests: name `shard/start-end`, body one byte per id.
fn verdict(oracle: &Oracle, objects: &[(&str, &[u8])]) -> String {
    let world = World::new(Fate::gentle(1));
    for (name, bytes) in objects {
        block_on(world.store.put(&Name::from(*name), bytes.to_vec().into())).unwrap();
    }
    let name = |path: &str| {
        let (shard, range) = path.split_once('/')?;
        let (start, end) = range.split_once('-')?;
        Some(Named { shard: shard.into(), start: start.parse().ok()?, end: end.parse().ok()? })
    };
    let decode = |_: &str, bytes: &[u8]| Ok(bytes.iter().map(|byte| Id::from(*byte)).collect());
    match oracle.check(When::Settled, &world.store.objects(), &world.store.history(), name, decode) {
        Ok(()) => "kept".into(),
        Err(broken) => broken.to_string(),
    }
}

#[test]
fn the_oracle_sees_every_way_to_break_the_promise() {
    let mut oracle = Oracle::new();
    (1..=4).for_each(|id| oracle.given(id, "s", id - 1));
    oracle.attempt(9);
    assert_eq!(oracle.acked(), 4);
    assert_eq!(verdict(&oracle, &[("s/0-2", &[1, 2]), ("s/2-4", &[3, 4]), ("probe", &[77])]), "kept");
    assert_eq!(verdict(&oracle, &[("s/0-2", &[1, 2]), ("s/2-5", &[3, 4, 9])]), "kept");
    let broken: [(&str, &[(&str, &[u8])]); 9] = [
        ("record 4 is lost", &[("s/0-2", &[1, 2]), ("s/2-4", &[3])]),
        ("record 2 is there 2 times", &[("s/0-2", &[1, 2]), ("s/2-4", &[2, 3, 4])]),
        ("record 9 is there 2 times", &[("s/0-2", &[1, 2, 9, 9]), ("s/2-4", &[3, 4])]),
        ("record 5 in s/2-4 was never attempted", &[("s/0-2", &[1, 2]), ("s/2-4", &[3, 4, 5])]),
        ("s/0-2 is out of order", &[("s/0-2", &[2, 1]), ("s/2-4", &[3, 4])]),
        ("overlapping ranges", &[("s/0-3", &[1, 2]), ("s/2-4", &[3, 4])]),
        ("a gap between", &[("s/0-2", &[1, 2]), ("s/3-4", &[3, 4])]),
        ("record 3 is not where", &[("s/0-2", &[1, 2]), ("t/2-4", &[3, 4])]),
        ("overwritten with other bytes", &[("s/0-4", &[1]), ("s/0-4", &[1, 2, 3, 4])]),
    ];
    for (problem, objects) in broken {
        let verdict = verdict(&oracle, objects);
        assert!(verdict.contains(problem), "{problem}: {verdict}");
    }
    oracle.allow_gaps();
    assert_eq!(verdict(&oracle, &[("s/0-2", &[1, 2]), ("s/2-3", &[3]), ("s/3-4", &[4]), ("s/6-9", &[9])]), "kept");
}

#[test]
fn midway_the_oracle_waits_for_what_is_on_its_way_and_an_old_copy_of_the_disk_lives_its_own_life() {
    let mut oracle = Oracle::new();
    oracle.attempt(1);
    oracle.ack(1);
    let empty = World::new(Fate::gentle(1));
    let check = |when| {
        let decode = |_: &str, _: &[u8]| Ok(Vec::new());
        oracle.check(when, &empty.store.objects(), &empty.store.history(), |_| None, decode)
    };
    assert!(check(When::Midway).is_ok() && check(When::Settled).is_err());

    let mut world = after(1, Death::Kill, |disk| born_whole(disk, dir(), "a", b"old").unwrap());
    world.fate = world.fate.next_life(None);
    let copy = world.disk.copy_for(&world.fate);
    world.disk = world.disk.restart(Death::Kill, &world.fate);
    born_whole(&world.disk, dir(), "a", b"new").unwrap();
    assert_eq!((content(&copy, "a").unwrap(), content(&world.disk, "a").unwrap()), (b"old".to_vec(), b"new".to_vec()));
}
