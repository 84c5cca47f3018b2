//! What sessions, chunks, objects and names are made of.

use super::*;

impl World {
    pub fn overwrites(&self) -> bool {
        matches!(self.broken, Broken::Overwrite | Broken::SameShardAndOverwrite)
    }
}

impl Session {
    /// Every way to cut the next chunk, into one object or two.
    pub fn cuts(&self, world: &World) -> Vec<Sealed> {
        let Some(from) = self.read.filter(|_| self.chunks.len() < CHUNKS_MAX) else { return Vec::new() };
        let upto = |part: u8| {
            if self.parts.contains(&part) { world.records[usize::from(part)] } else { from[usize::from(part)] }
        };
        let mut cuts = Vec::new();
        for first in from[0]..=upto(0) {
            for second in from[1]..=upto(1) {
                let to = [first, second];
                let count = first - from[0] + second - from[1];
                let key = Key { shard: self.shard, start: self.at, end: self.at + count };
                for objects in (1..=count.min(2)).filter(|_| key.end >= self.floor) {
                    cuts.push(Sealed { key, session: self.tag, objects, from, to });
                }
            }
        }
        cuts
    }
}

impl Chunk {
    pub fn new(sealed: Sealed, inherited: bool) -> Chunk {
        Chunk { sealed, inherited, copied: inherited, granted: false, put: 0, settled: false }
    }

    /// Objects that may be put now.
    pub fn to_put(&self, world: &World) -> Vec<Object> {
        let early = world.broken == Broken::PutBeforePlan && self.copied;
        if !(self.inherited || self.granted || early) {
            return Vec::new();
        }
        let objects = (0..self.sealed.objects).filter(|number| self.put & (1 << number) == 0);
        objects.map(|number| Object { sealed: self.sealed, number }).collect()
    }

    pub fn is_delivered(&self, world: &World) -> bool {
        match world.broken {
            Broken::EndBeforeObjects => self.put > 0,
            _ => self.put.count_ones() == u32::from(self.sealed.objects),
        }
    }
}

impl Object {
    pub fn name(&self) -> (Key, u8) {
        (self.sealed.key, self.number)
    }

    pub fn records(&self) -> impl Iterator<Item = (usize, usize)> {
        let Object { sealed, number } = *self;
        let records =
            (0..PARTS).flat_map(move |part| (sealed.from[part]..sealed.to[part]).map(move |r| (part, r.into())));
        records.skip(number.into()).step_by(sealed.objects.into())
    }
}

impl Key {
    pub fn of(plan: &Plan) -> Key {
        let id: Vec<u8> = plan.shard.as_str().bytes().map(|digit| digit.wrapping_sub(b'0')).collect();
        let number = |position: &Position| u8::try_from(position.as_u64().unwrap()).unwrap();
        Key { shard: ShardId { part: id[1], session: id[3] }, start: number(&plan.start), end: number(&plan.end) }
    }

    pub fn range(&self) -> ShardRange {
        ShardRange { shard: self.shard.shard(), start: position(self.start), end: position(self.end) }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.range())
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sealed { key, session, objects, from, to } = self;
        write!(f, "{key:?} records {from:?}..{to:?} in {objects} objects, bytes of session {session}")
    }
}

impl ShardId {
    pub fn shard(&self) -> Shard {
        Shard::new(&format!("k{}s{}", self.part, self.session)).unwrap()
    }
}

impl Kept {
    pub fn new(ledger: Ledger) -> Kept {
        Kept(Rc::new((fingerprint(&ledger), ledger)))
    }

    pub fn get(&self) -> &Ledger {
        &self.0.1
    }

    pub fn change<T>(&mut self, change: impl FnOnce(&mut Ledger) -> T) -> T {
        let mut ledger = self.get().clone();
        let answer = change(&mut ledger);
        *self = Kept::new(ledger);
        answer
    }
}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.0);
    }
}

pub fn position(number: u8) -> Position {
    u64::from(number).into()
}

pub fn name(part: u8) -> Part {
    Part { topic: "t".into(), partition: part.into() }
}

pub fn number(part: &Part) -> u8 {
    u8::try_from(part.partition).unwrap()
}
