//! Going by a plan: where in it the run is, and what is not wanted for long.
//!
//! ```text
//!   touches that are seen --nearest in the plan--> median of the latest --> now
//!                         --nothing near-->        votes for another time --> now
//!   chunk that may leave  --when its granules are wanted next--> beyond the horizon: they leave
//! ```
//!
//! The run sees few touches: what is in data is touched unseen, and threads go at their own speeds.
//! So the clock is not a count. Each touch that is seen has its times in the plan, of which the
//! nearest counts; the median of the latest is now. Where most touches have none near, all times of
//! the latest touches vote, and now is where most votes are. A large block that comes sets the
//! clock to where the plan has it.
//!
//! The horizon moves by itself: it comes nearer while chunks are passed over, and goes further when
//! one leaves. So a few are looked at for each that leaves, whatever the clock says.
//!
//! Where touches are not where the plan has them, the run goes on as without one: where none is, at
//! the latest when as much was touched as the budget holds. When it is back on its way, the plan
//! counts again; if it is not for long, the plan is left.
//!
//! Must never: be needed. A wrong plan costs time, never bytes. Pure: no system call, no clock.

use plimsoll_arena::os::OsError;

use super::blocks::{BlockName, Blocks};
use super::plan::{NEVER, Plan};
use super::proofs::{LARGE_BYTES, Proofs};
use super::space::{GRANULES, Mask};
use super::tables::Table;

/// Touches of which the median is now.
const MEDIAN_OF: usize = 32;

/// Touches that vote where the run is; when half of them have nothing near, they do.
const VOTERS: usize = 128;

/// Votes are counted by so many parts of a plan.
const PARTS: usize = 1 << 12;

/// Touches of a part, at least.
const PART_MIN: u32 = 512;

/// Times of one touch that vote at most.
const VOTES_MAX: usize = 1 << 10;

/// The plan is judged so many times while as much is touched as the budget holds.
const STRETCHES: u64 = 4;

/// The mark is what share of the touches was where the plan has them, an average of the latest few
/// stretches. It begins at a half; this is the least with which the plan counts. Where nothing is
/// as planned, it takes two stretches to get there, and four after the best.
const MARK_MIN: f32 = 0.35;

/// Stretches with too low a mark, one after the other, until a plan is left.
const ASTRAY_MAX: u32 = 64;

/// Chunks that are passed over for one that leaves, at most.
pub(crate) const PASSED_MAX: u32 = 24;

/// Whether the run goes by a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// There is no plan.
    Free,
    /// It does.
    Planned,
    /// There is one, and the run does something else just now.
    Astray,
    /// There was one, and the run was astray for too long.
    Left,
}

/// What has been seen since the last look at whether the plan is any good.
#[derive(Clone, Copy, Debug, Default)]
struct Stretch {
    touches: u64,
    near: u64,
    /// How far now went, without what blocks set.
    went: i64,
}

/// A run and its plan.
pub(crate) struct Replay {
    plan: Option<Plan>,
    course: Course,
    blocks: Blocks,
    /// The latest large block that came.
    latest_large: Option<BlockName>,
    votes: Table<u32>,
    now: u32,
    /// Times of the latest touches, and how many there were.
    matched: [u32; MEDIAN_OF],
    matches: usize,
    /// Places of the latest touches, how many there were, and how many had nothing near.
    latest: [u32; VOTERS],
    touches: usize,
    lost: usize,
    stretch: Stretch,
    mark: f32,
    /// Stretches since the mark was good.
    astray: u32,
    horizon: u32,
    /// Touches before this stretch that were where the plan has them, and others.
    planned: u64,
    unplanned: u64,
}

impl Replay {
    /// A run without a plan.
    pub(crate) fn new() -> Result<Self, OsError> {
        Ok(Self {
            plan: None,
            course: Course::Free,
            blocks: Blocks::new()?,
            latest_large: None,
            votes: Table::new(PARTS)?,
            now: 0,
            matched: [0; MEDIAN_OF],
            matches: 0,
            latest: [0; VOTERS],
            touches: 0,
            lost: 0,
            stretch: Stretch::default(),
            mark: 0.5,
            astray: 0,
            horizon: 1,
            planned: 0,
            unplanned: 0,
        })
    }

    pub(crate) fn is_on(&self) -> bool {
        self.course == Course::Planned
    }

    pub(crate) fn course(&self) -> Course {
        self.course
    }

    /// Touches that were seen where the plan has them.
    pub(crate) fn planned(&self) -> u64 {
        self.planned + self.stretch.near
    }

    /// Touches that were seen elsewhere.
    pub(crate) fn unplanned(&self) -> u64 {
        self.unplanned + self.stretch.touches - self.stretch.near
    }

    /// Takes a plan that was left, for whoever drops it.
    pub(crate) fn take_left(&mut self) -> Option<Plan> {
        if self.course == Course::Left { self.plan.take() } else { None }
    }

    /// Goes by a plan from now on. A plan that was left is not taken up again.
    pub(crate) fn follow(&mut self, plan: Plan) {
        if self.course != Course::Free {
            return;
        }
        for block in self.blocks.live_mut() {
            match plan.block(block.name) {
                Some((place, _)) => block.plan_at(place),
                None => block.forget(),
            }
        }
        self.horizon = plan.end() + 1;
        self.begin_at(self.latest_large.and_then(|name| plan.block(name)));
        (self.plan, self.course) = (Some(plan), Course::Planned);
    }

    /// A block spans a range from now on.
    pub(crate) fn placed(&mut self, granule: u64, bytes: u64) {
        let Some(block) = self.blocks.placed(granule, bytes) else { return };
        let planned = self.plan.as_ref().and_then(|plan| plan.block(block.name));
        if let Some((place, _)) = planned {
            block.plan_at(place);
        }
        if bytes >= LARGE_BYTES {
            self.latest_large = Some(block.name);
            self.begin_at(planned);
        }
    }

    /// A block that begins at a granule is gone.
    pub(crate) fn freed(&mut self, granule: u64) {
        self.blocks.freed(granule);
    }

    /// Sets the clock to where the plan has a block.
    fn begin_at(&mut self, planned: Option<(u32, u32)>) {
        if let Some((_, came)) = planned {
            (self.now, self.matches) = (came, 0);
        }
    }

    pub(crate) fn proofs(&self) -> &Proofs {
        self.blocks.proofs()
    }

    /// Somebody came to granules of a chunk, under a budget.
    pub(crate) fn touched(&mut self, chunk: usize, mask: Mask, budget: u64) {
        let Some(plan) = self.plan.as_ref().filter(|_| self.course != Course::Left) else { return };
        let (behind, ahead) = (bound(budget * 2 / 3), bound(budget * 7 / 4));
        // The median is that of the past.
        let near = bound(budget / 16).max(MEDIAN_OF as u32);
        for granule in (0..GRANULES).filter(|granule| mask & 1 << granule != 0) {
            self.stretch.touches += 1;
            let Some(place) = self.blocks.place((chunk * GRANULES + granule) as u64) else {
                continue;
            };
            self.latest[self.touches % VOTERS] = place;
            self.touches += 1;
            let Some(time) = plan.nearest(place, self.now, behind, ahead) else {
                self.lost += 1;
                continue;
            };
            self.stretch.near += u64::from(time.abs_diff(self.now) <= near);
            self.matched[self.matches % MEDIAN_OF] = time;
            self.matches += 1;
        }
        let before = self.now;
        let known = self.matches.min(MEDIAN_OF);
        if known > 0 {
            let mut times = self.matched;
            let (_, median, _) = times[..known].select_nth_unstable(known / 2);
            self.now = *median;
        }
        if self.touches >= VOTERS {
            if self.lost > VOTERS / 2 {
                self.look_for_now();
            }
            (self.touches, self.lost) = (0, 0);
        }
        self.stretch.went += i64::from(self.now) - i64::from(before);
        if self.stretch.touches >= (budget / STRETCHES).max(1) {
            self.judge();
        }
    }

    /// Sets now to where most of the latest touches are in the plan.
    fn look_for_now(&mut self) {
        let Some(plan) = &self.plan else { return };
        let part = (plan.end() / (PARTS as u32 - 2) + 1).max(PART_MIN);
        let parts = (plan.end() / part) as usize + 1;
        self.votes[..=parts].fill(0);
        for place in self.latest {
            let mut last = usize::MAX;
            for time in plan.times(place).iter().take(VOTES_MAX) {
                let at = (time / part) as usize;
                self.votes[at] += u32::from(at != last);
                last = at;
            }
        }
        let both = |at: usize| self.votes[at] + self.votes[at + 1];
        // A part that is far away needs more votes, up to half of all.
        let worth = |at: usize| {
            let away = u64::from((at as u32 * part).abs_diff(self.now));
            let handicap = away * 2 * VOTERS as u64 / u64::from(plan.end().max(1));
            i64::from(both(at)) - handicap.min(VOTERS as u64 / 2) as i64
        };
        let Some(best) = (0..parts).max_by_key(|at| worth(*at)) else { return };
        if both(best) as usize > VOTERS / 3 {
            (self.now, self.matches) = ((best as u32 + 1) * part, 0);
        }
    }

    /// Marks what was seen lately, and leaves the plan if its mark is too low.
    fn judge(&mut self) {
        let Stretch { touches, near, went } = std::mem::take(&mut self.stretch);
        self.planned += near;
        self.unplanned += touches - near;
        let mark = if went < 0 { 0.0 } else { near as f32 / touches as f32 };
        self.mark += (mark - self.mark) / 4.0;
        if self.mark >= MARK_MIN {
            (self.course, self.astray) = (Course::Planned, 0);
            return;
        }
        (self.course, self.astray) = (Course::Astray, self.astray + 1);
        if self.astray >= ASTRAY_MAX {
            self.course = Course::Left;
        }
    }

    /// Which granules of a chunk are not wanted before the horizon, of those in `mask`; all if the
    /// run goes by no plan.
    fn far(&self, chunk: usize, mask: Mask) -> Mask {
        let Some(plan) = self.plan.as_ref().filter(|_| self.is_on()) else { return mask };
        let mut far = mask;
        for granule in (0..GRANULES).filter(|granule| mask & 1 << granule != 0) {
            let place = self.blocks.place((chunk * GRANULES + granule) as u64);
            if place.is_some_and(|place| plan.after(place, self.now) - self.now < self.horizon) {
                far &= !(1 << granule);
            }
        }
        far
    }

    /// Whether the plan may know anything of some granules of a chunk.
    fn has_places(&self, chunk: usize, mask: Mask) -> bool {
        let mut granules = (0..GRANULES).filter(|granule| mask & 1 << granule != 0);
        granules.any(|granule| self.blocks.place((chunk * GRANULES + granule) as u64).is_some())
    }

    /// Whether most of some granules of a chunk are wanted before the horizon.
    pub(crate) fn is_soon(&self, chunk: usize, mask: Mask) -> bool {
        self.far(chunk, mask).count_ones() * 2 < mask.count_ones()
    }

    /// Which granules of a chunk may leave, of those in `mask`: all if the run goes by no plan, or
    /// if `passed` chunks were passed over and that is enough. A huge page leaves whole or not at
    /// all, as most of it should: taking it apart costs more than what leaves is worth.
    pub(crate) fn leaving(&mut self, chunk: usize, mask: Mask, whole: bool, passed: u32) -> Mask {
        let Some(end) = self.plan.as_ref().filter(|_| self.is_on()).map(Plan::end) else {
            return mask;
        };
        let far = match (passed < PASSED_MAX, whole) {
            (false, _) => mask,
            (true, _) if !self.has_places(chunk, mask) => return mask,
            (true, false) => self.far(chunk, mask),
            (true, true) if self.is_soon(chunk, mask) => 0,
            (true, true) => mask,
        };
        let horizon = u64::from(self.horizon);
        let horizon = match far {
            0 => horizon * (255 - u64::from(passed)) / 256,
            _ => horizon + horizon / 64 + 1,
        };
        self.horizon = horizon.clamp(1, u64::from(end) + 1) as u32;
        far
    }
}

/// A number of touches, as a time.
fn bound(touches: u64) -> u32 {
    touches.clamp(1, u64::from(NEVER / 4)) as u32
}
