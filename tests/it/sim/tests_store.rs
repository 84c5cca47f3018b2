//! The simulated store and the oracle: every lie is told, and every broken promise is seen.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use hydrant::disk::{Disk, born_whole};
use object_store::path::Path as Name;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};

use super::World;
use super::fate::{Death, Doom, Fate, Rates, Share};
use super::oracle::{Id, Named, Oracle, When};
use super::tests::{after, block_on, content, dir};

#[test]
fn a_late_put_lands_while_the_next_process_works() {
    let rates = Rates { put_late: 1000, ..Rates::NONE };
    let landed = |seed| {
        let doom = Doom { at: 1, death: Death::Kill, share: Share::Part };
        let mut world = World::new(Fate::new(seed, rates, Some(doom)));
        block_on(world.store.put(&Name::from("late"), "late".into())).unwrap_err();
        world.restart(None);
        (0..70)
            .take_while(|i| {
                world.disk.create_dir(&Path::new("/").join(i.to_string())).unwrap();
                block_on(world.store.head(&Name::from("late"))).is_err()
            })
            .count()
    };
    let moments: BTreeSet<usize> = (0..20).map(landed).collect();
    assert!(moments.len() > 5 && moments.iter().all(|moment| *moment < 40), "{moments:?}");
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
type Objects<'a> = &'a [(&'a str, &'a [u8])];

fn verdict(oracle: &Oracle, objects: Objects) -> String {
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
    let broken: [(&str, Objects); 9] = [
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
