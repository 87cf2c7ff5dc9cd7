//! The spill tiers that can be tried on this machine.

use plimsoll_arena::process::skipped;
use plimsoll_swap::store::{SpillTier, Store};

/// All tiers; that of the kernel's swap where there is some.
pub(crate) fn tiers() -> impl Iterator<Item = SpillTier> {
    SpillTier::ALL.into_iter().filter(|tier| match tier {
        SpillTier::Kernel => {
            let opened = Store::builder().spill_tier(*tier).build();
            opened.inspect_err(|why| skipped("the spill tier `kernel`", why)).is_ok()
        }
        _ => true,
    })
}
