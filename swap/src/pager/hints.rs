//! Hints to the pager under the global allocator, for code that knows what comes next.
//!
//! ```text
//!   cold(&column)         a stage is done with it: it leaves first
//!   will_need(&column)    the next stage reads it: what is in the file is read ahead
//! ```
//!
//! A hint changes when pages move, never what they hold. Memory that is not paged (there is no
//! pager, or the slice is elsewhere) is left alone, so hints can stay in code that runs anywhere.
//!
//! Invariant: `process()` is the first pager that a [`super::Paged`] made, or none; it never goes.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::face::Pager;

/// The pager of the process, null before there is one. It is leaked.
static PROCESS: AtomicPtr<Pager> = AtomicPtr::new(std::ptr::null_mut());

/// Makes a leaked pager the process's, if there is none yet.
pub(super) fn install(pager: &'static Pager) {
    let (null, pager) = (std::ptr::null_mut(), std::ptr::from_ref(pager).cast_mut());
    // Release: pairs with the acquire in `process`. A second allocator's pager gets no hints.
    let _first = PROCESS.compare_exchange(null, pager, Ordering::Release, Ordering::Relaxed);
}

/// The pager under the global allocator, if there is one.
#[must_use]
pub fn process() -> Option<&'static Pager> {
    // Acquire: pairs with the release in `install`.
    let pager = PROCESS.load(Ordering::Acquire);
    // SAFETY: null, or a leaked box that lives as long as the process.
    unsafe { pager.as_ref() }
}

/// Says that `values` will not be used for long: whole granules of them leave memory first.
pub fn cold<T>(values: &[T]) {
    if let Some(pager) = process() {
        pager.cold(NonNull::from(values).cast(), size_of_val(values));
    }
}

/// Says that `values` will be used soon: what of them left memory is read ahead, up to an eighth
/// of the pager's budget.
pub fn will_need<T>(values: &[T]) {
    if let Some(pager) = process() {
        pager.will_need(NonNull::from(values).cast(), size_of_val(values));
    }
}
