//! What runtimes under permits have in common with the one that granted them.

use crate::permit::shared::SharedLimit;
use crate::reclaim::{Enforcement, OnThrash};
use crate::spill::SpillOptions;

/// The settings of a runtime besides its limit.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub(super) enforcement: Enforcement,
    pub(super) on_thrash: OnThrash,
    pub(super) spill: Option<SpillOptions>,
    pub(super) shared: Option<SharedLimit>,
    /// What the program itself comes to use, where it knows.
    pub(super) program_bytes: Option<u64>,
}
