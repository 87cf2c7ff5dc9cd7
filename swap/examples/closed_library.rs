//! A shared library with the allocator and its pager, which `tests/pager_closed.rs` opens and
//! closes again.

use std::sync::Mutex;

use plimsoll_arena::global::Global;
use plimsoll_swap::pager::Paged;

#[global_allocator]
static ALLOC: Global<std::alloc::System, Paged> = Global::new(std::alloc::System, Paged::new());

static HELD: Mutex<Vec<Vec<u64>>> = Mutex::new(Vec::new());

/// Fills 64 MiB and says whether there is a pager.
#[unsafe(no_mangle)]
pub extern "C" fn plimsoll_example_fill() -> bool {
    let word = |i: u64, salt: u64| (i ^ salt << 40).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let fill = |salt| (0..1 << 20).map(|i| word(i, salt)).collect::<Vec<u64>>();
    let Ok(mut held) = HELD.lock() else { return false };
    *held = (0..8).map(fill).collect();
    ALLOC.pages().pager().is_some()
}

/// Lets go of them.
#[unsafe(no_mangle)]
pub extern "C" fn plimsoll_example_clear() {
    if let Ok(mut held) = HELD.lock() {
        *held = Vec::new();
    }
}
