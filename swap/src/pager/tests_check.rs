//! What must hold of the tables whenever a pager is at rest.

use super::engine::Engine;
use super::held::Where;
use super::ids::{ChunkId, Id};
use super::queues::{DataQueue, Waiting};
use super::space::Mask;
use super::state::State;

impl Engine {
    /// Counts everything anew and compares; for a pager at rest.
    pub(crate) fn check(&self) {
        let mut core = self.core.lock();
        while core.in_hand.loading() + core.in_hand.writing() > 0 {
            drop(core);
            std::thread::yield_now();
            core = self.core.lock();
        }
        let count = |mask: Mask| u64::from(mask.count_ones());
        let (mut data, mut passing, mut limbo, mut ahead, mut present) = (0, 0, 0, 0, 0);
        let (mut packed, mut fixed) = (0, 0);
        for chunk in (0..core.chunks.len()).map(ChunkId::of) {
            let entry = *core.chunk(chunk);
            let resident = count(entry.mask(&[State::Resident]));
            let placed =
                entry.whereabouts().places.iter().filter(|place| place.is_some()).count() as u64;
            assert_eq!(placed, count(entry.mask(&[State::Packed])), "{chunk:?} and its places");
            packed += placed;
            let waiting = count(entry.mask(&[State::Limbo, State::Ahead]));
            let framed = entry.frame().is_some();
            let limbo_list =
                if entry.mask(&[State::Limbo]) != 0 { Waiting::Limbo } else { Waiting::Ahead };
            let list = (waiting > 0).then_some(limbo_list);
            assert_eq!(framed, waiting > 0, "{chunk:?} and its frame");
            assert_eq!(core.queues.queue_of(chunk).is_some(), resident > 0);
            assert_eq!(core.limbo.list_of(chunk), list);
            assert_eq!(entry.fixed() & !entry.mask(&[State::Resident]), 0, "{chunk:?} is fixed");
            fixed += count(entry.fixed());
            ahead += count(entry.mask(&[State::Ahead]));
            data += resident;
            let passes = core.queues.queue_of(chunk) == Some(DataQueue::Passing);
            passing += if passes { resident } else { 0 };
            limbo += waiting;
        }
        for frame in 0..core.frames.len() {
            assert_eq!(core.frames[frame].lent(), 0, "frame {frame} is lent to nobody");
            present += count(core.frames[frame].present());
        }
        assert_eq!((data, passing), (core.held.at(Where::Data), core.queues.passing()));
        assert_eq!(fixed, core.fixed.granules());
        let framed = [Where::Limbo, Where::Ahead].map(|place| core.held.at(place));
        assert_eq!([limbo - ahead, ahead], framed);
        assert_eq!(present, limbo + core.held.at(Where::Spare));
        assert_eq!(core.shelves.count(), core.held.at(Where::Shelf));
        let aside = core.held.at(Where::Aside);
        let all = data + present + core.shelves.count() + aside;
        assert_eq!((core.held.total(), core.held.unborn()), (all, aside));
        assert_eq!(core.held.at(Where::InFlight), 0);
        assert_eq!(packed, core.shelves.granules);
    }
}
