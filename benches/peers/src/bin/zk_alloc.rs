//! The provers on zk-alloc, a phase for each proof.

use plimsoll_peers::run::{Hooks, child};

#[global_allocator]
static ALLOC: zk_alloc::ZkAllocator = zk_alloc::ZkAllocator;

fn main() {
    child(&Hooks { phase: |work| zk_alloc::phase(work), ..Hooks::NONE });
}
