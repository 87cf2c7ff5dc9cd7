//! Permits: bytes of the limit that one job may hold, granted in order of arrival.
//!
//! ```text
//!   limit | program | permit "proof 1"     | permit "proof 2"     |  room   |
//!                     its own runtime:       its own runtime        "proof 3" waits
//!                     pools, ladder, stages
//! ```
//!
//! A permit has a [`Runtime`] of its own. Its bytes are the limit of that runtime: what is made
//! there is charged to the permit, its ladder packs and spills its own vectors only, and its stages
//! and peaks are its own. So two jobs cannot take each other's bytes, and as many run as fit.
//!
//! ```
//! use plimsoll::Runtime;
//!
//! let runtime = Runtime::builder().own_limit().limit_bytes(1 << 30).build()?;
//! let permit = runtime.permit("proof", 64 << 20)?; // waits while earlier ones have the bytes
//! let column = permit.runtime().zeroed::<u64>(1 << 20)?;
//! assert!(permit.runtime().zeroed::<u64>(8 << 20).is_err()); // 8 MiB and 64 MiB are too many
//! drop(column);
//! assert_eq!(permit.report().peak_bytes, 8 << 20);
//! drop(permit); // the bytes are free for the next
//! # Ok::<(), plimsoll::Error>(())
//! ```
//!
//! Several processes share a limit by its name ([`RuntimeBuilder::shared_limit`]). A process that
//! is killed loses its bytes to the others at once.
//!
//! [`RuntimeBuilder::shared_limit`]: crate::runtime::RuntimeBuilder::shared_limit
//!
//! What the program holds outside of permits is not bounded by them. A permit finds room beside it,
//! or waits. It never waits for bytes that no permit will give back: then it is refused.
//!
//! All runtimes that keep to the limit of the process wait in one line. A runtime with a limit of
//! its own has its own line, and so has the runtime of a permit. The first in the line asks again
//! when a permit comes back or the limit changes. Vectors outside of permits that go wake nobody:
//! it sees their bytes when the next permit comes back.
//!
//! A future takes its number when it is made, and stands in the line from its first poll on. One
//! that was polled and is then neither polled nor dropped holds up those behind it.
//!
//! A vector outlives its permit for as long as somebody holds it, and so do the bytes.

pub(crate) mod queue;
pub(crate) mod shared;
#[cfg(test)]
mod shared_tests;
#[cfg(test)]
mod tests;

pub use shared::{Member, SharedError, SharedLimit};

use crate::error::Error;
use crate::reclaim::Held;
use crate::runtime::Runtime;
use plimsoll_arena::{Grant, OverLimit};
use queue::{QueuePlace, Then};
use shared::Asked;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

/// How often a future asks before it lets its executor do something else, where bytes come back
/// faster than it can ask.
const ASKS_A_POLL: u32 = 8;

/// Bytes of the limit that a job may hold, and the runtime in which it holds them.
///
/// Dropping it gives the bytes back, once the vectors of its runtime are gone, too.
#[derive(Debug)]
#[must_use = "a permit that is dropped is given back"]
pub struct Permit {
    runtime: Runtime,
    name: String,
    bytes: u64,
}

/// What was made under a permit, so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PermitReport {
    /// The name of the permit.
    pub name: String,
    /// The bytes granted.
    pub bytes: u64,
    /// The most bytes that its vectors held at once, those in its pools' caches included.
    pub peak_bytes: u64,
    /// By how many bytes that was more than granted: what may exceed a limit exceeded this one.
    pub outgrown_bytes: u64,
    /// Bytes of vectors that were packed or spilled, and brought back.
    pub moved_bytes: u64,
    /// Times a vector was needed and not there.
    pub stalls: u64,
    /// Nanoseconds waited for it, over all threads.
    pub stalled_nanos: u64,
}

impl Permit {
    /// Returns the runtime whose limit are the bytes of this permit.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Returns the name that errors and reports use.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the bytes granted.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns what was made under the permit, so far.
    #[must_use]
    pub fn report(&self) -> PermitReport {
        let spilled = self.runtime.spill_stats();
        let peak_bytes = self.runtime.ledger().held().peak_bytes() as u64;
        PermitReport {
            name: self.name.clone(),
            bytes: self.bytes,
            peak_bytes,
            outgrown_bytes: peak_bytes.saturating_sub(self.bytes),
            moved_bytes: spilled.packed_total + spilled.spilled_total + spilled.loaded_total,
            stalls: spilled.stalls,
            stalled_nanos: spilled.stalled_nanos,
        }
    }
}

impl Runtime {
    /// Waits for `bytes` of the limit, behind those who asked before.
    ///
    /// # Errors
    ///
    /// [`Error::OverLimit`] when they do not fit although no other permit is in force: waiting
    /// would not help. What building a runtime may say.
    pub fn permit(&self, name: &str, bytes: u64) -> Result<Permit, Error> {
        self.permit_between(name, bytes, bytes)
    }

    /// Waits for at least `least_bytes`, and takes up to `best_bytes` if there is room for more.
    /// [`Permit::bytes`] says what it got.
    ///
    /// # Errors
    ///
    /// Those of [`Runtime::permit`].
    pub fn permit_between(
        &self,
        name: &str,
        least_bytes: u64,
        best_bytes: u64,
    ) -> Result<Permit, Error> {
        self.permit_async(name, least_bytes, best_bytes).wait()
    }

    /// Returns a permit for `bytes` if they are free now and nobody waits for one; else `None`.
    ///
    /// # Errors
    ///
    /// Those of [`Runtime::permit`].
    pub fn try_permit(&self, name: &str, bytes: u64) -> Result<Option<Permit>, Error> {
        self.permit_async(name, bytes, bytes).try_now().transpose()
    }

    /// As [`Runtime::permit_between`], for a task that must not block its thread. The number is
    /// taken now: from its first poll on the future stands in the line before those that were made
    /// later. The place is given up when the future is dropped. Any executor will do.
    ///
    /// Polling it may pack or spill vectors of this runtime, as any charge may.
    pub fn permit_async(&self, name: &str, least_bytes: u64, best_bytes: u64) -> Waiting {
        Waiting {
            place: Some(self.queue().arrive()),
            runtime: self.clone(),
            name: name.to_owned(),
            least_bytes,
            best_bytes: best_bytes.max(least_bytes),
            is_in_table: false,
        }
    }

    /// Returns how many wait for a permit of this runtime, or of another one that keeps to the same
    /// limit of the process.
    #[must_use]
    pub fn waiting_for_permits(&self) -> usize {
        self.queue().waiting()
    }
}

/// Wakes a thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A permit that is waited for.
#[must_use = "it takes its permit only when it is polled"]
pub struct Waiting {
    /// Gone once the permit is granted or refused.
    place: Option<QueuePlace>,
    runtime: Runtime,
    name: String,
    least_bytes: u64,
    best_bytes: u64,
    /// The table of a shared limit says that this process waits.
    is_in_table: bool,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting")
            .field("name", &self.name)
            .field("least_bytes", &self.least_bytes)
            .field("best_bytes", &self.best_bytes)
            .finish_non_exhaustive()
    }
}

impl Future for Waiting {
    type Output = Result<Permit, Error>;

    /// # Panics
    ///
    /// When it is polled after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let place = self.place.take().expect("polled after it was ready");
        let mut asked = 0;
        let ready = loop {
            let Some(returns) = place.turn(context.waker()) else { break None };
            asked += 1;
            let (others, refused) = match self.ask(&place) {
                Ok(Answer::Granted(grant)) => break Some(self.permit(&place, grant)),
                Ok(Answer::NoRoom(over)) => (false, self.refused(&over)),
                Ok(Answer::Shared { others, refused }) => (others, refused),
                Err(error) => break Some(Err(error)),
            };
            match place.then(returns, context.waker(), others) {
                Then::AskAgain if asked == ASKS_A_POLL => {
                    context.waker().wake_by_ref();
                    break None;
                }
                Then::AskAgain => {}
                Then::Sleep => break None,
                Then::GiveUp => {
                    // Before the next in the queue asks: the table knows one of a process.
                    self.leave();
                    break Some(Err(refused));
                }
            }
        };
        match ready {
            Some(ready) => Poll::Ready(ready),
            None => {
                self.place = Some(place);
                Poll::Pending
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What came of asking for bytes.
enum Answer {
    Granted(Grant),
    /// This process has no room.
    NoRoom(OverLimit),
    /// The processes that share a limit have none.
    Shared {
        others: bool,
        refused: Error,
    },
}

impl Waiting {
    /// Waits on this thread.
    ///
    /// # Errors
    ///
    /// Those of [`Runtime::permit`].
    pub fn wait(mut self) -> Result<Permit, Error> {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            match Pin::new(&mut self).poll(&mut context) {
                Poll::Ready(permit) => return permit,
                Poll::Pending => std::thread::park(),
            }
        }
    }

    /// Asks those that the process shares a limit with, then this process. Takes the best that
    /// there is room for, but not less than the least. Cached blocks go for the best; the rest of
    /// the ladder is climbed for the least alone.
    fn ask(&mut self, place: &QueuePlace) -> Result<Answer, Error> {
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let (least, best) = (bytes(self.least_bytes), bytes(self.best_bytes));
        let runtime = self.runtime.clone();
        let ledger = runtime.ledger();
        ledger.sample();
        runtime.give_back_cached(best.saturating_sub(ledger.headroom_bytes()));
        let mut some = ledger.headroom_bytes().clamp(least, best);
        if let Some(shared) = runtime.shared_limit() {
            shared.note_program(runtime.rest_bytes())?;
            match shared.ask(self.least_bytes, some as u64)? {
                Asked::Granted(bytes) => some = bytes as usize,
                Asked::Wait { others } => {
                    self.is_in_table = true;
                    place.queue().watch().map_err(|why| shared.failed("watched", why))?;
                    return Ok(Answer::Shared { others, refused: self.refused_by_all(shared, 0)? });
                }
                Asked::Never(missing) => return Err(self.refused_by_all(shared, missing)?),
            }
            self.is_in_table = false;
        }
        // Somebody else may have taken a part of it meanwhile.
        let granted = ledger.grant(some).or_else(|_| ledger.grant(least));
        if let Some(shared) = runtime.shared_limit() {
            let unused = some - granted.as_ref().map_or(0, Grant::bytes).min(some);
            if unused > 0 {
                shared.give_back(unused as u64)?;
            }
        }
        Ok(granted.map_or_else(Answer::NoRoom, Answer::Granted))
    }

    /// Waits no more in the table of a shared limit.
    fn leave(&mut self) {
        if let (true, Some(shared)) = (self.is_in_table, self.runtime.shared_limit()) {
            // The table is as it was if this fails; it is looked at again when the process ends.
            let _ = shared.leave();
        }
        self.is_in_table = false;
    }

    /// Stands in the line from now on, as if it had been polled: those who came later wait for it.
    pub fn line_up(self) -> Self {
        self.place.iter().for_each(QueuePlace::line_up);
        self
    }

    /// Returns the permit if it can be had now.
    pub fn try_now(&mut self) -> Option<Result<Permit, Error>> {
        match Pin::new(self).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        }
    }

    fn permit(&self, place: &QueuePlace, grant: Grant) -> Result<Permit, Error> {
        let bytes = grant.bytes() as u64;
        let (queue, shared) = (Arc::clone(place.queue()), self.runtime.shared_limit().cloned());
        queue.granted();
        let grant = grant.on_return(move || {
            if let Some(shared) = &shared {
                // Whoever shares the limit gets the bytes at the latest when this process ends.
                let _ = shared.give_back(bytes);
            }
            queue.returned();
        });
        let runtime = self.runtime.within(&self.name, grant)?;
        Ok(Permit { runtime, name: self.name.clone(), bytes })
    }

    fn shown(&self) -> String {
        format!("permit \"{}\"", self.name)
    }

    fn refused(&self, over: &OverLimit) -> Error {
        self.runtime.does_not_fit(&self.shown(), self.least_bytes, over.short_bytes as u64)
    }

    fn refused_by_all(&self, shared: &SharedLimit, missing: u64) -> Result<Error, Error> {
        let limit_bytes = shared.limit_bytes();
        let members = shared.members()?.into_iter();
        let held = |member: Member| Held {
            name: format!("process {}", member.process),
            bytes: member.granted_bytes,
        };
        Ok(Error::OverLimit {
            stage: self.shown(),
            asked_bytes: self.least_bytes,
            short_bytes: missing,
            limit_bytes,
            fits_bytes: limit_bytes.saturating_add(missing),
            holders: members.map(held).collect(),
        })
    }
}
