//! The provers on mimalloc.

use plimsoll_peers::run::{Hooks, child};

#[global_allocator]
static ALLOC: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    child(&Hooks::NONE);
}
