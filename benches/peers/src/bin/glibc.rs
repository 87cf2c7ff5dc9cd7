//! The provers on glibc's malloc.

use plimsoll_peers::run::{Hooks, child};

#[global_allocator]
static ALLOC: std::alloc::System = std::alloc::System;

fn main() {
    child(&Hooks::NONE);
}
