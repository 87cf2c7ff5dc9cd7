//! The provers on jemalloc; _RJEM_MALLOC_CONF sets it.

use plimsoll_peers::run::{Hooks, child};

#[global_allocator]
static ALLOC: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    child(&Hooks::NONE);
}
