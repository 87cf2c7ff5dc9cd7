//! A small pager in which every interleaving is tried: one granule, two mutators, two workers.
//!
//! ```text
//!   a world = the granule's state, what data, frame and file hold, what each thread is about to do
//!   a step  = what one thread does in one go: between two locks, or under one
//! ```
//!
//! The worlds are walked breadth first until no new one is found. In every one the contents are
//! where the state says, in one place; when nothing moves any more, nobody sleeps. The decisions
//! are those of the real pager: [`next`] and [`answer`]. Contents [`REPEATING`] are kept in the
//! table and not in the file, [`PACKING`] ones in packed memory if it has room: for one of the two
//! workers it has. Clean is what has the hash of the file's copy. Planted flaws show that the walk
//! finds what it looks for.

use std::collections::{HashSet, VecDeque};

use super::{Answer, Event, State, answer, next};

/// Contents that repeat 32 bytes.
const REPEATING: u8 = 2;

/// Contents that pack.
const PACKING: u8 = 3;

/// What goes wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// A worker that finishes does not look who waits.
    ForgetWanted,
    /// Dirty contents are taken for clean.
    DropDirty,
    /// The state says Resident before the pages are mapped.
    MapLate,
    /// What was repeating is taken for repeating still.
    KeepLanes,
    /// The file's copy is taken for that of what was packed since.
    KeepCopy,
    /// A packed granule's place is given up before the file has it.
    ClearEarly,
}

/// A worker between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Worker {
    Idle,
    /// Has a granule Loading; the contents are in the table, in the file, or zero.
    Load {
        from: Option<u8>,
        ahead: bool,
    },
    /// Its frame is filled.
    Filled {
        ahead: bool,
    },
    /// It is mapped; the table does not say so yet.
    Entered,
    /// The table says that it is mapped: with a planted flaw only.
    Late,
    /// Has a granule Clearing, not written yet.
    Clear,
    /// Has written it to the file.
    Cleared,
    /// Has a granule Writing.
    Write,
    /// Is about to overwrite the file's copy.
    Overwrite,
    /// Knows what is in the file.
    Judged {
        kind: Kind,
    },
}

/// What a worker found in a granule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Zero,
    Repeats,
    Packs,
    Clean,
    Dirty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Mutator {
    left: u8,
    asleep: bool,
    /// Its fault has not been read.
    message: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    state: State,
    wanted: bool,
    queued: bool,
    demand: bool,
    /// The table says that the file has a copy.
    copy: bool,
    /// The table has the contents itself.
    lanes: bool,
    /// What the contents were when they last left.
    hash: u8,
    /// What its place on a shelf holds, if it has one.
    place: Option<u8>,
    file: u8,
    data: Option<u8>,
    frame: Option<u8>,
    /// What was written last.
    latest: u8,
    mutators: [Mutator; 2],
    workers: [Worker; 2],
    /// How often the environment may still act.
    evicts: u8,
    aheads: u8,
    discards: u8,
}

impl World {
    fn new() -> Self {
        let mutator = Mutator { left: 2, asleep: false, message: false };
        Self {
            state: State::Zero,
            wanted: false,
            queued: false,
            demand: false,
            copy: false,
            lanes: false,
            hash: 0,
            place: None,
            file: 0,
            data: None,
            frame: None,
            latest: 0,
            mutators: [mutator; 2],
            workers: [Worker::Idle; 2],
            evicts: 3,
            aheads: 2,
            discards: 1,
        }
    }

    fn step(&mut self, event: Event) {
        let after = next(self.state, event);
        self.state = after.unwrap_or_else(|| panic!("{event:?} while {:?}", self.state));
    }

    /// The frame's pages enter data, and the kernel wakes who waits.
    fn enter(&mut self) {
        assert!(self.data.is_none(), "two pages at one address");
        self.data = Some(self.frame.take().expect("pages to enter"));
        self.wake();
    }

    fn wake(&mut self) {
        for mutator in &mut self.mutators {
            (mutator.asleep, mutator.message) = (false, false);
        }
    }

    /// What the leader, or a worker with a demand, does for a thread that waits. Returns whether
    /// pages must be brought.
    fn serve(&mut self) -> bool {
        match answer(self.state) {
            Answer::Wake => self.wake(),
            Answer::Wait => self.wanted = true,
            Answer::Rescue => {
                self.enter();
                self.wanted = false;
                self.step(Event::Rescue);
            }
            Answer::Load => return true,
        }
        false
    }

    fn load(&mut self, worker: usize, ahead: bool) {
        let from = (self.state == State::Disk && !self.lanes).then_some(self.file);
        let from = if self.state == State::Disk && self.lanes { Some(REPEATING) } else { from };
        let from = if self.state == State::Packed { self.place } else { from };
        self.step(Event::Load);
        self.workers[worker] = Worker::Load { from, ahead };
    }

    /// What must hold in every world.
    fn check(&self) {
        assert!(self.data.is_none() || self.frame.is_none(), "two owners");
        let latest = Some(self.latest);
        let kept = if self.lanes {
            self.latest == REPEATING && !self.copy
        } else {
            self.copy && self.file == self.latest
        };
        let good = match self.state {
            State::Zero => self.latest == 0 && self.data.is_none() && self.frame.is_none(),
            State::Resident => self.data == latest,
            State::Limbo | State::Writing => self.frame == latest,
            State::Ahead => self.frame == latest && kept,
            State::Disk => kept && self.data.is_none() && self.frame.is_none(),
            State::Packed | State::Clearing => {
                self.place == latest && self.data.is_none() && self.frame.is_none()
            }
            State::Loading => true,
        };
        assert!(good, "contents are not where {:?} says", self.state);
        let may_have_place = matches!(self.state, State::Packed | State::Clearing | State::Loading);
        assert!(self.place.is_none() || may_have_place, "a place without a use");
        let busy = self.workers.iter().filter(|worker| **worker != Worker::Idle).count();
        let owned = matches!(self.state, State::Writing | State::Loading | State::Clearing);
        assert_eq!(busy, usize::from(owned), "a granule and its owner");
    }

    /// All worlds one step on, and whether any of them comes from a thread of the pager.
    fn steps(&self, flaw: Flaw) -> (Vec<Self>, bool) {
        let mut worlds = Vec::new();
        self.pager_steps(flaw, &mut worlds);
        let moves = !worlds.is_empty();
        self.mutator_steps(&mut worlds);
        self.environment_steps(&mut worlds);
        (worlds, moves)
    }

    fn mutator_steps(&self, worlds: &mut Vec<Self>) {
        for i in 0..self.mutators.len() {
            let Mutator { left, asleep, .. } = self.mutators[i];
            if asleep || left == 0 {
                continue;
            }
            let mut read = self.clone();
            match self.data {
                None => {
                    read.mutators[i] = Mutator { left, asleep: true, message: true };
                }
                Some(seen) => {
                    assert_eq!(seen, self.latest, "a read of something old");
                    read.mutators[i].left -= 1;
                    let mut written = read.clone();
                    written.latest += 1;
                    written.data = Some(written.latest);
                    worlds.push(written);
                }
            }
            worlds.push(read);
        }
    }

    fn environment_steps(&self, worlds: &mut Vec<Self>) {
        if self.state == State::Resident && self.evicts > 0 {
            let mut world = self.clone();
            world.evicts -= 1;
            world.frame = world.data.take();
            world.step(Event::Evict);
            worlds.push(world);
        }
        let owned = matches!(self.state, State::Writing | State::Loading | State::Clearing);
        if self.discards > 0 && !owned {
            let mut world = self.clone();
            world.discards -= 1;
            (world.data, world.frame, world.place, world.latest) = (None, None, None, 0);
            (world.copy, world.lanes) = (false, false);
            world.step(Event::Discard);
            worlds.push(world);
        }
        let Some(worker) = self.workers.iter().position(|worker| *worker == Worker::Idle) else {
            return;
        };
        if self.state == State::Limbo {
            let mut world = self.clone();
            world.step(Event::Write);
            world.workers[worker] = Worker::Write;
            worlds.push(world);
        }
        if self.state == State::Packed {
            let mut world = self.clone();
            world.step(Event::Clear);
            world.workers[worker] = Worker::Clear;
            worlds.push(world);
        }
        if self.state == State::Ahead {
            let mut world = self.clone();
            world.frame = None;
            world.step(Event::Drop);
            worlds.push(world);
        }
        if self.state == State::Disk && self.aheads > 0 {
            let mut world = self.clone();
            world.aheads -= 1;
            world.load(worker, true);
            worlds.push(world);
        }
    }

    fn pager_steps(&self, flaw: Flaw, worlds: &mut Vec<Self>) {
        for i in 0..self.mutators.len() {
            if self.mutators[i].message {
                let mut world = self.clone();
                world.mutators[i].message = false;
                if world.serve() && !world.queued {
                    (world.queued, world.demand) = (true, true);
                }
                worlds.push(world);
            }
        }
        for worker in 0..self.workers.len() {
            let mut world = self.clone();
            if world.work(worker, flaw) {
                worlds.push(world);
            }
        }
    }

    /// One step of a worker. Returns whether it had one.
    fn work(&mut self, worker: usize, flaw: Flaw) -> bool {
        let mut after = Worker::Idle;
        match self.workers[worker] {
            Worker::Idle if self.demand => {
                (self.demand, self.queued) = (false, false);
                if self.serve() {
                    self.load(worker, false);
                    return true;
                }
            }
            Worker::Idle => return false,
            Worker::Load { from, ahead } => {
                self.frame = Some(from.unwrap_or(0));
                after = Worker::Filled { ahead };
            }
            Worker::Filled { ahead: false } => {
                if flaw == Flaw::MapLate {
                    self.step(Event::Loaded);
                    after = Worker::Late;
                } else {
                    self.enter();
                    after = Worker::Entered;
                }
            }
            Worker::Late => self.enter(),
            Worker::Filled { ahead: true } => {
                self.step(Event::LoadedAhead);
                if self.wanted && flaw != Flaw::ForgetWanted {
                    self.serve();
                }
            }
            Worker::Entered => {
                self.step(Event::Loaded);
                (self.wanted, self.place) = (false, None);
            }
            Worker::Clear => {
                self.copy = false;
                if flaw == Flaw::ClearEarly {
                    self.place = None;
                }
                after = Worker::Cleared;
            }
            Worker::Cleared => {
                self.file = self.place.expect("contents to write");
                self.step(Event::Cleared);
                (self.copy, self.place) = (true, None);
                let wanted = std::mem::take(&mut self.wanted);
                if wanted && !self.queued && flaw != Flaw::ForgetWanted {
                    (self.queued, self.demand) = (true, true);
                }
            }
            Worker::Write => after = self.judge(worker, flaw),
            Worker::Overwrite => {
                self.file = self.frame.expect("pages that are Writing");
                after = Worker::Judged { kind: Kind::Dirty };
            }
            Worker::Judged { kind } => self.written(kind, flaw),
        }
        self.workers[worker] = after;
        true
    }

    /// Says what a granule that is Writing holds.
    fn judge(&mut self, worker: usize, flaw: Flaw) -> Worker {
        let clean = self.copy && self.frame == Some(self.hash) || flaw == Flaw::DropDirty;
        let kind = match self.frame {
            Some(0) => Kind::Zero,
            Some(REPEATING) => Kind::Repeats,
            _ if clean => Kind::Clean,
            Some(PACKING) if worker == 0 => Kind::Packs,
            _ => {
                self.copy = false;
                return Worker::Overwrite;
            }
        };
        Worker::Judged { kind }
    }

    fn written(&mut self, kind: Kind, flaw: Flaw) {
        let elsewhere = match kind {
            Kind::Repeats => true,
            Kind::Packs => flaw != Flaw::KeepCopy,
            _ => false,
        };
        self.copy = (self.copy || kind == Kind::Dirty) && !elsewhere;
        if matches!(kind, Kind::Packs | Kind::Dirty) {
            self.hash = self.frame.expect("pages that are Writing");
        }
        self.lanes = kind == Kind::Repeats || flaw == Flaw::KeepLanes && self.lanes;
        if self.wanted && flaw != Flaw::ForgetWanted {
            self.enter();
            self.wanted = false;
            self.step(Event::WrittenWanted);
        } else {
            let contents = self.frame.take();
            self.step(match kind {
                Kind::Zero => Event::WrittenZero,
                Kind::Packs => Event::WrittenPacked,
                _ => Event::Written,
            });
            self.place = if kind == Kind::Packs { contents } else { None };
        }
    }
}

/// Walks through all worlds; returns how many there are.
fn walk(flaw: Flaw) -> usize {
    let first = World::new();
    let mut seen = HashSet::from([first.clone()]);
    let mut open = VecDeque::from([first]);
    while let Some(world) = open.pop_front() {
        world.check();
        let (after, pager_moves) = world.steps(flaw);
        let sleeper = world.mutators.iter().any(|mutator| mutator.asleep);
        assert!(pager_moves || !sleeper, "a thread sleeps and nobody will wake it: {world:?}");
        for world in after {
            if seen.insert(world.clone()) {
                open.push_back(world);
            }
        }
    }
    seen.len()
}

#[test]
fn no_interleaving_loses_a_wake_an_owner_or_a_byte() {
    let worlds = walk(Flaw::None);
    eprintln!("{worlds} worlds");
    assert!(worlds > 10_000);
}

/// Each is found by the assertion that is meant to find it.
#[test]
fn the_walk_finds_planted_flaws() {
    let flaws = [
        (Flaw::ForgetWanted, "a thread sleeps and nobody will wake it"),
        (Flaw::DropDirty, "contents are not where Disk says"),
        (Flaw::MapLate, "contents are not where Resident says"),
        (Flaw::KeepLanes, "contents are not where Disk says"),
        (Flaw::KeepCopy, "contents are not where Disk says"),
        (Flaw::ClearEarly, "contents are not where Clearing says"),
    ];
    for (flaw, finding) in flaws {
        let found = std::panic::catch_unwind(|| walk(flaw)).expect_err("a flaw");
        let text = found.downcast_ref::<String>().map(String::as_str);
        let text = text.or(found.downcast_ref::<&str>().copied()).expect("a text");
        assert!(text.starts_with(finding), "{flaw:?} is found as: {text}");
    }
}

#[test]
fn every_state_is_entered_and_left_and_nothing_else_is_legal() {
    use State::{Ahead, Clearing, Disk, Limbo, Loading, Packed, Resident, Writing, Zero};
    let states = [Zero, Resident, Limbo, Writing, Disk, Loading, Ahead, Packed, Clearing];
    let events = [
        Event::Evict,
        Event::Rescue,
        Event::Write,
        Event::Written,
        Event::WrittenZero,
        Event::WrittenWanted,
        Event::WrittenPacked,
        Event::Clear,
        Event::Cleared,
        Event::Load,
        Event::Loaded,
        Event::LoadedAhead,
        Event::Drop,
        Event::Discard,
    ];
    let moves = |from| events.iter().filter_map(move |event| next(from, *event));
    assert_eq!(states.into_iter().flat_map(moves).count(), 22);
    for state in states {
        assert!(moves(state).count() > 0, "{state:?} is never left");
        assert!(states.into_iter().any(|from| moves(from).any(|to| to == state)));
    }
}
