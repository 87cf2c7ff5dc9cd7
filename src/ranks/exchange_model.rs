//! `agree` and `transpose` under every interleaving of the ranks' steps.
//!
//! A step is what happens while the boxes are locked: a message is put, or taken. Each rank is a
//! thread that waits for its turn before each step, and a run follows a list of choices of who is
//! next. A rank whose step must wait is chosen again only after another has made a step: if all
//! wait, that is a deadlock, and fails.
//!
//! What a rank does depends on its own steps and on the messages that it took, and no box has two
//! senders. So two runs that have brought every rank equally far are alike from there on: each such
//! state is left once by every rank that may be next, and all runs are covered.

use super::error::{ExchangeError, Refusal, RefusalKind};
use super::exchange::{Exchange, Local, Transposition, WELL};
use super::threads::{Boxes, PassStep, pass_by_boxes, tell_by_boxes};
use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex};

/// Who is next, and what can be chosen.
struct Turns {
    boxes: Boxes,
    /// The rank whose step it is.
    chosen: Option<usize>,
    /// Ranks that wait for their turn, and whether their last try had to wait.
    waiting: Vec<Option<bool>>,
    /// Ranks that are still at work.
    running: usize,
    /// Steps that each rank has made.
    made: Vec<usize>,
    /// The ranks to choose, as far as that is known.
    choices: Vec<usize>,
    /// Where each choice was, and who could be chosen.
    places: Vec<(Place, Vec<usize>)>,
    /// Choices that some run has made.
    seen: HashSet<(Place, usize)>,
}

/// How far each rank is, and whether it waits in vain.
type Place = (Vec<usize>, Vec<Option<bool>>);

/// What a look returns that saw something: no message is that long. A rank that saw something is
/// not where one is that saw nothing, and goes on in another way.
const SEEN: usize = 1 << 32;

struct ModelStage {
    turns: Mutex<Turns>,
    changed: Condvar,
}

impl ModelStage {
    /// Chooses who is next, once every rank that is at work waits for its turn.
    fn choose(&self, turns: &mut Turns) {
        let ready = turns.waiting.iter().filter(|waits| waits.is_some()).count();
        if turns.chosen.is_some() || ready < turns.running || turns.running == 0 {
            return;
        }
        let open: Vec<usize> =
            (0..turns.waiting.len()).filter(|rank| turns.waiting[*rank] == Some(false)).collect();
        assert!(!open.is_empty(), "deadlock after {:?}", turns.choices);
        let place = (turns.made.clone(), turns.waiting.clone());
        let at = turns.places.len();
        if at == turns.choices.len() {
            let is_new = |rank: &&usize| !turns.seen.contains(&(place.clone(), **rank));
            let next = open.iter().find(is_new).unwrap_or(&open[0]);
            turns.choices.push(*next);
        }
        let next = turns.choices[at];
        turns.seen.insert((place.clone(), next));
        turns.places.push((place, open));
        turns.chosen = Some(next);
        self.changed.notify_all();
    }
}

/// A rank of a model.
struct Scripted {
    rank: usize,
    ranks: usize,
    stage: Arc<ModelStage>,
}

impl Scripted {
    /// Makes a step when it is this rank's turn, as often as it takes.
    fn step(
        &self,
        mut step: impl FnMut(&mut Boxes) -> Result<PassStep, ExchangeError>,
    ) -> Result<usize, ExchangeError> {
        let mut turns = self.stage.turns.lock().unwrap();
        let mut had_to_wait = false;
        loop {
            turns.waiting[self.rank] = Some(had_to_wait);
            self.stage.choose(&mut turns);
            while turns.chosen != Some(self.rank) {
                turns = self.stage.changed.wait(turns).unwrap();
            }
            turns.chosen = None;
            let done = step(&mut turns.boxes);
            had_to_wait = matches!(done, Ok(PassStep::Waits));
            if !had_to_wait {
                turns.waiting[self.rank] = None;
                let seen = done.as_ref().map_or(0, |done| match done {
                    PassStep::Done(len) => len & SEEN,
                    PassStep::Waits => 0,
                });
                turns.made[self.rank] += 1 + seen;
                // A step may be what another waited for.
                for waits in turns.waiting.iter_mut().flatten() {
                    *waits = false;
                }
            }
            match done? {
                PassStep::Done(len) => return Ok(len),
                PassStep::Waits => {}
            }
        }
    }

    /// Works until another rank has a refusal for this one, however long that takes.
    fn work_until_called_off(&self) -> Result<usize, ExchangeError> {
        self.step(|boxes| {
            let is_called_off = boxes.has_longer_than(self.rank, WELL.len());
            Ok(if is_called_off { PassStep::Done(SEEN) } else { PassStep::Waits })
        })
    }
}

impl Exchange for Scripted {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.ranks
    }

    fn local(&self) -> Local {
        Local { rank: self.rank, ranks: self.ranks }
    }

    fn pass(
        &mut self,
        to: Option<(usize, &[u8])>,
        from: Option<(usize, &mut [u8])>,
    ) -> Result<usize, ExchangeError> {
        pass_by_boxes(self.rank, to, from, |step| self.step(step))
    }

    fn tell_all(
        &mut self,
        told: &[u8],
        hear: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), ExchangeError> {
        tell_by_boxes([self.rank, self.ranks], told, hear, |step| self.step(step))
    }

    fn sent_bytes(&self) -> u64 {
        0
    }

    fn has_longer_than(&mut self, len: usize) -> bool {
        let rank = self.rank;
        let look = |boxes: &mut Boxes| {
            let found = boxes.has_longer_than(rank, len);
            Ok(PassStep::Done(if found { SEEN } else { 0 }))
        };
        self.step(look) == Ok(SEEN)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        let mut turns = self.stage.turns.lock().unwrap();
        turns.boxes.leave(self.rank);
        turns.waiting[self.rank] = None;
        turns.running -= 1;
        for waits in turns.waiting.iter_mut().flatten() {
            *waits = false;
        }
        self.stage.choose(&mut turns);
    }
}

/// Runs `work` on `ranks` ranks in every interleaving; `check` gets what each rank returned.
/// Returns how many runs it took.
fn every<T: Send + 'static>(
    ranks: usize,
    work: fn(Scripted) -> T,
    mut check: impl FnMut(Vec<T>),
) -> usize {
    let (mut choices, mut seen) = (Vec::new(), HashSet::new());
    for runs in 1.. {
        let turns = Turns {
            boxes: Boxes::new(ranks),
            chosen: None,
            waiting: vec![None; ranks],
            running: ranks,
            made: vec![0; ranks],
            choices,
            places: Vec::new(),
            seen,
        };
        let stage = Arc::new(ModelStage { turns: Mutex::new(turns), changed: Condvar::new() });
        let threads: Vec<_> = (0..ranks)
            .map(|rank| Scripted { rank, ranks, stage: Arc::clone(&stage) })
            .map(|rank| std::thread::spawn(move || work(rank)))
            .collect();
        check(threads.into_iter().map(|thread| thread.join().unwrap()).collect());
        let mut turns = stage.turns.lock().unwrap();
        seen = std::mem::take(&mut turns.seen);
        choices = std::mem::take(&mut turns.choices);
        // The last place that can be left in another way.
        let other = turns.places.iter().enumerate().rev().find_map(|(at, (place, open))| {
            let next = open.iter().find(|rank| !seen.contains(&(place.clone(), **rank)))?;
            Some((at, *next))
        });
        let Some((at, next)) = other else { return runs };
        choices.truncate(at);
        choices.push(next);
    }
    unreachable!("there is no last number")
}

fn refused(rank: usize) -> Refusal {
    Refusal { rank, kind: RefusalKind::Memory, why: format!("no room on {rank}") }
}

#[test]
fn two_ranks_agree_twice_in_every_interleaving() {
    let work = |mut rank: Scripted| {
        let first = rank.agree(Ok(()));
        let mine = if rank.rank() == 1 { Err(refused(1)) } else { Ok(()) };
        (first, rank.agree(mine))
    };
    let runs = every(2, work, |all| {
        let expected = (Ok(()), Err(ExchangeError::Refused(refused(1))));
        assert!(all.iter().all(|found| *found == expected), "{all:?}");
    });
    assert!(runs > 5, "{runs}");
}

#[test]
fn three_ranks_of_which_two_fail_hear_the_lower_in_every_interleaving() {
    let work = |mut rank: Scripted| {
        let mine = if rank.rank() > 0 { Err(refused(rank.rank())) } else { Ok(()) };
        rank.agree(mine)
    };
    let runs = every(3, work, |all| {
        let expected = Err(ExchangeError::Refused(refused(1)));
        assert!(all.iter().all(|found| *found == expected), "{all:?}");
    });
    assert!(runs > 50, "{runs}");
}

#[test]
fn ranks_that_break_off_hear_who_failed_whenever_they_look() {
    let work = |mut rank: Scripted| {
        let mine = match rank.rank() {
            2 => Err(refused(2)),
            _ if rank.is_called_off() => {
                Err(Refusal { kind: RefusalKind::CalledOff, ..refused(rank.rank()) })
            }
            _ => Ok(()),
        };
        let broke_off = mine.is_err();
        (broke_off, rank.agree(mine))
    };
    let mut seen = HashSet::new();
    every(3, work, |all| {
        let expected = Err(ExchangeError::Refused(refused(2)));
        assert!(all.iter().all(|(_, found)| *found == expected), "{all:?}");
        seen.insert([all[0].0, all[1].0]);
    });
    let both = [false, true];
    let any = both.iter().flat_map(|first| both.map(|second| [*first, second]));
    assert_eq!(seen, any.collect(), "each hears of it or not, whatever the other heard");
}

#[test]
fn a_rank_at_work_hears_of_a_failure_while_others_wait_in_every_interleaving() {
    let work = |mut rank: Scripted| {
        let mine = match rank.rank() {
            0 => Err(refused(0)),
            1 => Ok(()),
            _ => {
                rank.work_until_called_off()?;
                Err(Refusal { kind: RefusalKind::CalledOff, ..refused(2) })
            }
        };
        rank.agree(mine)
    };
    every(3, work, |all| {
        let expected = Err(ExchangeError::Refused(refused(0)));
        assert!(all.iter().all(|found| *found == expected), "{all:?}");
    });
}

#[test]
fn a_rank_that_leaves_without_a_word_is_missed_in_every_interleaving() {
    let work = |mut rank: Scripted| match rank.rank() {
        0 => Err(ExchangeError::Gone { rank: 0 }),
        _ => rank.agree(Ok(())),
    };
    every(2, work, |all| assert_eq!(all[1], Err(ExchangeError::Gone { rank: 0 })));
}

/// Tiles of one byte: rank `r` has `r * 16 + to` for `to`, and tile `tile` adds 100.
struct Bytes {
    rank: usize,
    fails: bool,
    out: [u8; 1],
    back: [u8; 1],
    kept: Vec<u8>,
}

impl Transposition for Bytes {
    fn tiles_to(&self, to: usize) -> usize {
        1 + usize::from(to > self.rank)
    }

    fn tiles_from(&self, from: usize) -> usize {
        1 + usize::from(self.rank > from)
    }

    fn tiles_most(&self) -> usize {
        2
    }

    fn pack(&mut self, to: usize, tile: usize) -> Result<(), Refusal> {
        self.out = [(self.rank * 16 + to + 100 * tile) as u8];
        if self.fails { Err(refused(self.rank)) } else { Ok(()) }
    }

    fn unpack(&mut self, _from: usize, _tile: usize) -> Result<(), Refusal> {
        self.kept.push(self.back[0]);
        Ok(())
    }

    fn buffers(&mut self) -> (&[u8], &mut [u8]) {
        (&self.out, &mut self.back)
    }
}

fn bytes(rank: usize, fails: bool) -> Bytes {
    Bytes { rank, fails, out: [0], back: [0], kept: Vec::new() }
}

#[test]
fn two_ranks_transpose_in_every_interleaving() {
    let work = |mut rank: Scripted| {
        let mut tiles = bytes(rank.rank(), false);
        rank.transpose(&mut tiles).map(|()| tiles.kept)
    };
    let runs = every(2, work, |all| {
        assert_eq!(all, [Ok(vec![16]), Ok(vec![1, 101])]);
    });
    assert!(runs > 10, "{runs}");
}

#[test]
fn a_tile_that_cannot_be_packed_ends_both_ranks_in_every_interleaving() {
    let work = |mut rank: Scripted| {
        let mut tiles = bytes(rank.rank(), rank.rank() == 1);
        rank.transpose(&mut tiles)
    };
    every(2, work, |all| {
        let expected = Err(ExchangeError::Refused(refused(1)));
        assert!(all.iter().all(|found| *found == expected), "{all:?}");
    });
}
