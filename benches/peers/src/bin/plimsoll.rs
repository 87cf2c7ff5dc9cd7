//! The provers on plimsoll's allocator; PLIMSOLL_LIMIT and PLIMSOLL_SPILL_DIR set it.

use plimsoll_peers::run::{Hooks, child};

#[global_allocator]
static ALLOC: plimsoll::Allocator = plimsoll::Allocator::system();

fn reclaim() {
    ALLOC.reclaim(usize::MAX);
}

fn main() {
    child(&Hooks { phase: |work| work(), reclaim: Some(reclaim) });
}
