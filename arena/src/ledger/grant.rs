//! Grants: a part of a ledger's bytes that another ledger may hold, charged as one.
//!
//! ```text
//!   ledger      | own vectors |  grant A                   |  grant B           |
//!   ledger A                  |  held  |    not yet        |
//! ```
//!
//! A grant is one hard charge of its bytes. The ledger that lives within it charges
//! nobody until it holds more than that, which only a soft charge or an exchange does. What it
//! holds beyond the grant is charged to the ledger above, and taken off again as it shrinks.
//!
//! Invariant: the ledger above holds `max(granted, held within)` for each grant.

use std::sync::Arc;

/// Called when a grant has gone back.
type Returned = Box<dyn Fn() + Send + Sync>;

/// The ledger above, as far as a grant knows it.
pub(super) trait Above: Send + Sync {
    /// Adds bytes beyond a grant; says whether the sum is a number.
    fn add(&self, bytes: usize) -> bool;
    /// Takes bytes off.
    fn take_off(&self, bytes: usize);
}

/// Bytes of a ledger that were granted to another one. They go back when the grant is dropped.
pub struct Grant {
    above: Arc<dyn Above>,
    granted: usize,
    returned: Option<Returned>,
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant").field("granted", &self.granted).finish_non_exhaustive()
    }
}

impl Grant {
    /// Bytes that `above` has been charged with.
    pub(super) fn new(above: Arc<dyn Above>, bytes: usize) -> Self {
        Self { above, granted: bytes, returned: None }
    }

    /// Calls `returned` after the bytes have gone back.
    #[must_use]
    pub fn on_return(mut self, returned: impl Fn() + Send + Sync + 'static) -> Self {
        self.returned = Some(Box::new(returned));
        self
    }

    /// Gives back what it has above `bytes`.
    #[must_use]
    pub fn at_most(mut self, bytes: usize) -> Self {
        let above = self.granted.saturating_sub(bytes);
        self.above.take_off(above);
        self.granted -= above;
        self
    }

    /// Returns the bytes granted.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.granted
    }

    /// Notes that the ledger within rose from `before` to `after` bytes. Returns false, and charges
    /// nothing, when the sum above is no number.
    pub(super) fn rose(&self, before: usize, after: usize) -> bool {
        let bytes = self.beyond(after) - self.beyond(before);
        bytes == 0 || self.above.add(bytes)
    }

    /// Notes that it fell.
    pub(super) fn fell(&self, before: usize, after: usize) {
        let bytes = self.beyond(before) - self.beyond(after);
        if bytes > 0 {
            self.above.take_off(bytes);
        }
    }

    fn beyond(&self, held: usize) -> usize {
        held.saturating_sub(self.granted)
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.above.take_off(self.granted);
        if let Some(returned) = &self.returned {
            returned();
        }
    }
}
