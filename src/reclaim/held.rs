//! Who holds how much: the leaf that errors, stages and reports share.

/// Who holds memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The holder's name.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
}

impl Held {
    pub(crate) fn new(name: impl Into<String>, bytes: usize) -> Self {
        Self { name: name.into(), bytes: bytes as u64 }
    }
}

/// Leaves out who holds nothing, and puts the largest first.
pub(crate) fn largest_first(held: &mut Vec<Held>) {
    held.retain(|held| held.bytes > 0);
    held.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
}
