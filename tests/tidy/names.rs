//! Names: a type's name has one definition in a crate, so that it means one thing there.
//!
//! ```text
//!   src/permit/queue.rs   struct QueuePlace      private or public, in whatever module
//!   src/record/span.rs    struct SpanPlace       `Place` twice would be a fault
//! ```
//!
//! A name is that of a `struct`, an `enum`, a `union`, a `trait`, or an alias outside of brackets.
//! Definitions in one file count once, since `cfg` may choose between two. Variants of enums,
//! tests, and names of other crates do not count.

use crate::source::Source;
use std::collections::BTreeMap;

/// Every name that more than one of `sources`, the files of one crate, defines.
pub(crate) fn faults(sources: &[Source]) -> Vec<String> {
    let mut places: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for source in sources {
        for (name, line) in &source.types {
            places.entry(name).or_default().entry(&source.name).or_insert(*line);
        }
    }
    let several = places.iter().filter(|(_, files)| files.len() > 1);
    let fault = |(name, files): (&&str, &BTreeMap<&str, usize>)| {
        let at: Vec<String> = files.iter().map(|(file, line)| format!("{file}:{line}")).collect();
        format!("{name} is defined in {}: give each a name that says what it is", at.join(", "))
    };
    several.map(fault).collect()
}
