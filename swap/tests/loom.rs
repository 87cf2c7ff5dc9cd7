//! The pager's lock and signal under every interleaving loom can make: `scripts/ci.sh loom`.
//!
//! They are built here as they are, over a model of futex(2); the models are in `sync_model.rs`.

#![cfg(loom)]

#[allow(dead_code, reason = "the rooms as they are; the models use a part")]
#[path = "../src/pager"]
mod pager {
    mod sync;
    mod sys;
}
