//! The simulated disk and fate: it must lose what a disk may lose, keep what a disk must keep, and catch who relies on more.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use hydrant::disk::{Disk, DiskFile, RealDisk, born_whole, read_all};
use object_store::path::Path as Name;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};

use super::World;
use super::disk::SimDisk;
use super::fate::{Death, Doom, Fate, Rates, Rng, Share};

const BOTH: [Death; 2] = [Death::Kill, Death::PowerLoss];

/// Where the tests work.
pub fn dir() -> &'static Path {
    Path::new("/state")
}

pub fn at(name: &str) -> std::path::PathBuf {
    dir().join(name)
}

/// A world with a durable folder, and the disk of its next life after `work` and `death`.
pub fn after(seed: u64, death: Death, work: impl Fn(&SimDisk)) -> World {
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

/// The bytes of a file, if it is there.
pub fn content(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    match read_all(disk, &at(name)) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

/// A current-thread runtime whose clock runs only when nothing else does.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
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
    let mut seen = BTreeSet::new();
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
    let state = Path::new("/var/state");
    for (n, seed) in (1..=4).flat_map(|n| (0..20).map(move |seed| (n, seed))) {
        let doom = Doom { at: n, death: Death::Kill, share: Share::All };
        let mut world = World::new(Fate::new(seed, Rates::NONE, Some(doom)));
        world.disk.create_dir(state).unwrap_err();
        world.restart(None);
        world.disk.create_dir(state).unwrap();
        born_whole(&world.disk, state, "a", b"a").unwrap();
        end(&mut world, Death::PowerLoss);
        assert_eq!(read_all(&world.disk, &state.join("a")).unwrap(), b"a", "{}", world.fate.story());
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
    let mut traces = BTreeSet::new();
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
    for seed in 0..20 {
        let real = tempfile::tempdir().unwrap();
        let simulated = after(seed, Death::Kill, |_| {});
        let expected = answers(&RealDisk, real.path(), seed);
        assert_eq!(answers(&simulated.disk, dir(), seed), expected, "seed {seed}");
    }
}

/// Lengths or lack of the file `a` (700 bytes) over many seeds, when the `n`-th effect (1 create, 2 sync
/// the folder, 3 write, 4 sync) was fatal.
fn remains(n: u64, share: Share, death: Death) -> BTreeSet<Option<usize>> {
    let life = |seed| {
        let mut world = after(seed, Death::Kill, |_| {});
        world.fate.set_doom(Some(Doom { at: n, death, share }));
        let file = world.disk.create(&at("a")).unwrap();
        let synced = world.disk.sync_dir(dir());
        synced.and_then(|()| file.write_durably_at(&[7; 700], 0)).unwrap_err();
        world.restart(None);
        content(&world.disk, "a").map(|bytes| bytes.iter().filter(|byte| **byte == 7).count())
    };
    (0..60).map(life).collect()
}

#[test]
fn the_fatal_effect_happens_not_at_all_or_in_part_or_wholly() {
    let some = |lens: &BTreeSet<Option<usize>>| lens.iter().any(|len| len.is_some_and(|len| 0 < len && len < 700));
    assert_eq!(remains(3, Share::Nothing, Death::Kill), [Some(0)].into());
    assert_eq!(remains(3, Share::All, Death::Kill), [Some(700)].into());
    let torn = remains(3, Share::Part, Death::Kill);
    assert!(some(&torn) && !torn.contains(&Some(700)), "{torn:?}");
    assert_eq!(remains(4, Share::All, Death::PowerLoss), [Some(700)].into());
    for share in [Share::Nothing, Share::Part] {
        let lost = remains(4, share, Death::PowerLoss);
        assert!(lost.contains(&Some(700)) && some(&lost), "{share:?} {lost:?}");
        assert_eq!(remains(4, share, Death::Kill), [Some(700)].into(), "what a kill leaves is still in memory");
    }
    assert!(remains(4, Share::Nothing, Death::PowerLoss).contains(&Some(0)));
    assert_eq!(remains(2, Share::All, Death::PowerLoss), [Some(0)].into());
    assert_eq!(remains(2, Share::Nothing, Death::PowerLoss), [None, Some(0)].into());
    for share in Share::EACH {
        let mut world = World::new(Fate::die_at(1, Death::Kill, share));
        block_on(world.store.put(&Name::from("a"), "one".into())).unwrap_err();
        world.restart(None);
        world.store.settle();
        assert_eq!(world.store.objects().len(), usize::from(share == Share::All), "{share:?}");
    }
}

#[test]
fn a_folder_that_is_lost_takes_all_in_it() {
    let mut lost = 0;
    for seed in 0..40 {
        // A folder that its maker did not live to sync, and files in it synced by somebody careless.
        let doom = Doom { at: 1, death: Death::Kill, share: Share::All };
        let mut world = World::new(Fate::new(seed, Rates::NONE, Some(doom)));
        world.disk.create_dir(dir()).unwrap_err();
        world.restart(None);
        born_whole(&world.disk, dir(), "a", b"a").unwrap();
        end(&mut world, Death::PowerLoss);
        match world.disk.list(dir()) {
            Ok(files) => assert_eq!(files, [("a".to_string(), 1)]),
            Err(error) => lost += u32::from(error.kind() == io::ErrorKind::NotFound),
        }
        world.disk.create_dir(dir()).unwrap();
        assert_eq!(world.disk.list(dir()).unwrap().len(), content(&world.disk, "a").iter().count());
    }
    assert!(0 < lost && lost < 40, "lost {lost}");
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
