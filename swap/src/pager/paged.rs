//! The pager as a source of pages for the global allocator.
//!
//! ```text
//!   reserve   a limit (PLIMSOLL_LIMIT, or set from code before the first block) and
//!             PLIMSOLL_SPILL_DIR set, and userfaultfd to be had:
//!                  a pager, whose budget follows the process limit
//!                  the kernel refuses addresses: half as many, and so on
//!             otherwise: ordinary pages; why, is said once
//!   freed     contents dead: dropped first, never written
//!   reused    live again
//!   decommit  dropped at once
//! ```
//!
//! | variable | meaning |
//! |---|---|
//! | `PLIMSOLL_LIMIT` | what the process may hold: `8GiB`, `1.5GB`, `75%`, `auto` |
//! | `PLIMSOLL_SPILL_DIR` | the folder of the spill file |
//! | `PLIMSOLL_SPILL_QUOTA` | the most the file may take: `100GiB`; no bound without it |
//! | `PLIMSOLL_PACKED_LIMIT` | the most memory for packed granules: `256MiB`, `0` for none |
//! | `PLIMSOLL_ENCRYPT_SPILL` | not `0`: the file holds ciphertext only |
//! | `PLIMSOLL_PLAN` | `learn:FILE`, `FILE`, `auto:FOLDER`: see planning.rs |
//! | `PLIMSOLL_FAIL_FAST` | not `0`: end the process when it does little but wait for pages |
//!
//! Invariant: which of the two it is, is decided once, by the first `reserve`.
//!
//! Making the pager takes some small blocks of the allocator's; a source is asked to reserve while
//! large blocks cannot be had, so none of these is large. After that nothing is allocated.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use plimsoll_arena::os::OsError;
use plimsoll_arena::process::{
    AccountRef, LIMIT_VARIABLE, SPILL_DIR_VARIABLE, addresses_left, is_on, process, say,
    size_variable, variable,
};
use plimsoll_arena::{Moved, PageSource, Pages, PlainPages, Pressure, StaticSource, half_range};

use super::build_error::BuildError;
use super::builder::PagerBuilder;
use super::face::Pager;
use super::hints;
use super::planning::PlanUse;
use super::space::{CHUNK_BYTES, GRANULE_BYTES};
use super::sys::{stay_loaded, with_stack};
use super::thrash::FailFast;
use crate::store::Encryption;

/// Addresses for ten bytes of the range: data, frames of twice that, shelves of an eighth, tables.
const ADDRESSES_TENTHS: usize = 33;

/// Blocks from this size on are taken for arrays: who reads them may be worth knowing.
const ARRAY_BYTES_MIN: usize = 64 << 20;

/// Pages that go to a file when the process is over its limit; see the module's table.
#[derive(Debug, Default)]
pub struct Paged {
    /// Null while the pages are ordinary ones.
    pager: AtomicPtr<Pager>,
}

/// What the account tells of its limit.
struct Follower(&'static Pager);

impl Pressure for Follower {
    fn is_last(&self) -> bool {
        true
    }

    fn relieve(&self, short_bytes: usize) -> usize {
        self.0.reclaim(short_bytes)
    }

    fn limit_changed(&self, _excess_bytes: usize) {
        self.0.follow_limit();
    }
}

impl Paged {
    /// A source that looks at the environment when it is first asked for addresses.
    pub const fn new() -> Self {
        Self { pager: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// The pager, if there is one.
    pub fn pager(&self) -> Option<&'static Pager> {
        // Acquire: pairs with the store in `start`.
        let pager = self.pager.load(Ordering::Acquire);
        // SAFETY: null, or a leaked box that lives as long as the process.
        unsafe { pager.as_ref() }
    }

    /// Makes the pager, with the largest range that the kernel allows.
    fn start(
        &self,
        asked: &mut Asked,
        bytes: usize,
        least_bytes: usize,
    ) -> Option<(NonNull<u8>, usize)> {
        let mut bytes = bytes;
        if let Some(left) = addresses_left() {
            // The caller asked for half of what is left; the pager needs more than the range.
            let room = left / 2 / ADDRESSES_TENTHS * 10 / CHUNK_BYTES * CHUNK_BYTES;
            if room < least_bytes {
                say(format_args!(
                    "no paging, over the limit memory is only given back: the process may map \
                     {left} bytes more; raise that with `ulimit -v unlimited`"
                ));
                return None;
            }
            bytes = bytes.min(room);
        }
        let pager = loop {
            // A limit may be raised later: all of the range may be resident then.
            let builder = asked.builder().range_bytes(bytes).budget_bytes(bytes);
            let why = match with_stack(|| builder.build()) {
                Ok(pager) => break pager,
                Err(why) => why,
            };
            if matches!(why, BuildError::Plan { .. }) {
                say(format_args!("PLIMSOLL_PLAN has no effect: {why}"));
                asked.plan = None;
                continue;
            }
            match half_range(bytes, least_bytes).filter(|_| why.is_lack_of_room()) {
                Some(half) => bytes = half,
                None => {
                    say(format_args!("no paging, over the limit memory is only given back: {why}"));
                    return None;
                }
            }
        };
        // It owns memory, which is given back before there is a pager.
        asked.plan = None;
        stay_loaded();
        let base = pager.base();
        let pager: &'static Pager = Box::leak(Box::new(pager));
        let follower: Arc<dyn Pressure> = Arc::new(Follower(pager));
        process().register(Arc::downgrade(&follower));
        // It stays connected for as long as the process lives. Nothing is allocated from here on.
        std::mem::forget(follower);
        // Release: pairs with the acquire in `pager`.
        self.pager.store(std::ptr::from_ref(pager).cast_mut(), Ordering::Release);
        hints::install(pager);
        Some((base, bytes))
    }
}

/// What the environment asks for, read once: what is not understood is said when it is read.
struct Asked {
    folder: &'static Path,
    quota_bytes: Option<u64>,
    packed_limit_bytes: Option<usize>,
    encryption: Encryption,
    plan: Option<PlanUse>,
    fail_fast: Option<FailFast>,
}

impl Asked {
    fn from_environment(folder: &'static [u8]) -> Self {
        let encrypted = is_on("PLIMSOLL_ENCRYPT_SPILL");
        let packed_limit = size_variable("PLIMSOLL_PACKED_LIMIT");
        Self {
            folder: Path::new(std::ffi::OsStr::from_bytes(folder)),
            quota_bytes: size_variable("PLIMSOLL_SPILL_QUOTA").filter(|quota| *quota > 0),
            packed_limit_bytes: packed_limit.map(|bytes| bytes as usize),
            encryption: if encrypted { Encryption::On } else { Encryption::Off },
            plan: variable("PLIMSOLL_PLAN").and_then(plan_use),
            fail_fast: is_on("PLIMSOLL_FAIL_FAST").then(FailFast::default),
        }
    }

    fn builder(&self) -> PagerBuilder {
        let builder = PagerBuilder::new().folder(self.folder).encryption(self.encryption);
        let mut builder = builder.following(AccountRef::PROCESS);
        if let Some(quota) = self.quota_bytes {
            builder = builder.quota_bytes(quota);
        }
        if let Some(limit) = self.packed_limit_bytes {
            builder = builder.packed_limit_bytes(limit);
        }
        if let Some(plan) = &self.plan {
            builder = builder.plan(plan.clone());
        }
        match self.fail_fast {
            Some(fail_fast) => builder.fail_fast(fail_fast),
            None => builder,
        }
    }
}

/// What `PLIMSOLL_PLAN` asks for.
fn plan_use(word: &'static [u8]) -> Option<PlanUse> {
    let path = |bytes: &'static [u8]| std::ffi::OsStr::from_bytes(bytes).into();
    let wanted = match (word.strip_prefix(b"learn:"), word.strip_prefix(b"auto:")) {
        (Some(file), _) => PlanUse::Learn(path(file)),
        (_, Some(folder)) => PlanUse::Auto(path(folder)),
        _ => PlanUse::Follow(path(word)),
    };
    if wanted.path().as_os_str().is_empty() {
        say(format_args!("PLIMSOLL_PLAN has no effect: it is FILE, learn:FILE or auto:FOLDER"));
        return None;
    }
    Some(wanted)
}

impl StaticSource for Paged {
    const NEW: Self = Self::new();
}

// SAFETY: the pager's range is one anonymous mapping that is never given back; what was not
// written reads as zero, and `decommit` drops whole granules and clears the rest.
unsafe impl PageSource for Paged {
    fn reserve(&self, bytes: usize, least_bytes: usize) -> Result<(NonNull<u8>, usize), OsError> {
        let limit = Some(process().limit_bytes()).filter(|bytes| *bytes != usize::MAX);
        let folder = variable(SPILL_DIR_VARIABLE);
        if let (Some(_), Some(folder)) = (limit, folder) {
            let mut asked = Asked::from_environment(folder);
            if let Some(range) = self.start(&mut asked, bytes, least_bytes) {
                return Ok(range);
            }
        }
        // One that is not understood was reported as such.
        if limit.is_none() && folder.is_some() && variable(LIMIT_VARIABLE).is_none() {
            say(format_args!(
                "{SPILL_DIR_VARIABLE} does nothing without a limit: set {LIMIT_VARIABLE}, too"
            ));
        }
        PlainPages.reserve(bytes, least_bytes)
    }

    unsafe fn commit(&self, start: NonNull<u8>, bytes: usize, pages: Pages) -> Result<(), OsError> {
        let Some(pager) = self.pager() else {
            // SAFETY: the caller says that the part lies inside the reservation.
            return unsafe { PlainPages.commit(start, bytes, pages) };
        };
        if pages == Pages::Small {
            pager.small_pages(start, bytes);
        }
        Ok(())
    }

    unsafe fn decommit(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        let Some(pager) = self.pager() else {
            // SAFETY: the caller says that the range is committed and free.
            return unsafe { PlainPages.decommit(start, bytes) };
        };
        // SAFETY: the caller says that the range is free.
        unsafe { pager.discard(start, bytes) };
        // What shares a granule with a neighbour stays, and must read as zero.
        let address = start.as_ptr().addr();
        let head = (address.next_multiple_of(GRANULE_BYTES) - address).min(bytes);
        let tail = ((address + bytes) % GRANULE_BYTES).min(bytes - head);
        // SAFETY: inside the free range.
        unsafe { start.write_bytes(0, head) };
        // SAFETY: inside the free range.
        let end = unsafe { start.add(bytes - tail) };
        // SAFETY: the last bytes of the free range.
        unsafe { end.write_bytes(0, tail) };
        Ok(())
    }

    unsafe fn freed(&self, start: NonNull<u8>, bytes: usize) {
        if let Some(pager) = self.pager() {
            // SAFETY: the caller says that nobody uses the block any more.
            unsafe { pager.dead(start, bytes) };
        }
    }

    unsafe fn reused(&self, start: NonNull<u8>, bytes: usize) {
        if let Some(pager) = self.pager() {
            pager.live(start, bytes);
        }
    }

    fn placed(&self, start: NonNull<u8>, bytes: usize) {
        if bytes >= CHUNK_BYTES
            && let Some(pager) = self.pager()
        {
            pager.placed(start, bytes);
            if bytes >= ARRAY_BYTES_MIN {
                pager.array(start, bytes);
            }
        }
    }

    fn advise(&self, start: NonNull<u8>, bytes: usize, pages: Pages) {
        // A pager gives single pages where first touches lie apart.
        if self.pager().is_none() {
            PlainPages.advise(start, bytes, pages);
        }
    }

    fn may_mremap(&self) -> bool {
        self.pager().is_none()
    }

    unsafe fn move_pages(
        &self,
        from: NonNull<u8>,
        from_bytes: usize,
        to: NonNull<u8>,
        to_bytes: usize,
    ) -> Moved {
        if self.pager().is_some() {
            return Moved::Refused;
        }
        // SAFETY: as the caller promised.
        unsafe { PlainPages.move_pages(from, from_bytes, to, to_bytes) }
    }

    fn counts_its_pages(&self) -> bool {
        self.pager().is_some()
    }

    fn follow_limit(&self) -> usize {
        self.pager().map_or(0, Pager::follow_limit)
    }

    fn usable_after_fork(&self) -> bool {
        self.pager().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_variables_pages_are_ordinary() {
        let source = Paged::new();
        let (base, bytes) = source.reserve(4 << 20, 4 << 20).expect("addresses");
        assert_eq!(bytes, 4 << 20);
        // SAFETY: inside the reservation, in whole pages, used by this test alone.
        unsafe { source.commit(base, 4 << 20, Pages::Huge) }.expect("committed");
        // SAFETY: committed above.
        unsafe { base.write(7) };
        // SAFETY: nobody uses it any more.
        unsafe { source.decommit(base, 4 << 20) }.expect("decommitted");
        // SAFETY: committed above.
        assert_eq!(unsafe { base.read() }, 0);
        assert!(source.pager().is_none() && source.usable_after_fork());
    }
}
