//! The holders of memory and their bytes, for errors, stages and reports.

/// One holder of memory, with its bytes.
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

/// Leaves out holders of nothing, and sorts the largest first.
pub(crate) fn largest_first(held: &mut Vec<Held>) {
    held.retain(|held| held.bytes > 0);
    held.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
}
