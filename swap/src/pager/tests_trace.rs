//! What a recorded run leaves behind: what it touched, and nothing of what was there.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering::Relaxed;

use super::tests::{GRANULE_WORDS, built, check, pattern, words};
use super::*;
use crate::file::RamDisk;

const MIB: usize = 1 << 20;

#[test]
fn a_recorded_run_says_what_it_touched_and_nothing_of_what_was_there() {
    let folder = std::env::temp_dir();
    let own = tempfile::tempdir().expect("a folder");
    let path = own.path().join("run.trace");
    // One that others may read, until it is written over.
    std::fs::write(&path, "old").expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("its mode");
    let builder = Pager::builder().range_bytes(32 * MIB).budget_bytes(8 * MIB);
    let builder =
        builder.folder(&folder).ram_disk(RamDisk::Accept).plan(PlanUse::Learn(path.clone()));
    let Some(pager) = built(builder) else { return };
    let words = words(&pager);
    let granules = words.len() / GRANULE_WORDS;
    for (i, word) in words.iter().enumerate() {
        word.store(pattern(i, 1), Relaxed);
    }
    // Every seventh, scattered: none of them is read ahead of anybody.
    let read: Vec<usize> = (0..granules).map(|i| i * 77 % granules).step_by(7).collect();
    for granule in &read {
        let i = granule * GRANULE_WORDS;
        assert_eq!(words[i].load(Relaxed), pattern(i, 1));
    }
    let secret: HashSet<u64> = (0..words.len()).step_by(64).map(|i| pattern(i, 1)).collect();
    check(&pager);
    drop(pager);
    let bytes = std::fs::read(&path).expect("a trace");
    let mode = std::fs::metadata(&path).expect("a trace").permissions().mode();
    let trace = Trace::parse(&bytes).expect("a trace");
    assert_eq!((trace.cut, trace.lost, trace.budget_granules), (false, 0, 128));
    assert_eq!(mode & 0o777, 0o600, "its owner alone may read it");
    let mut touched = HashSet::new();
    for event in &trace.events {
        let TraceEvent::Touch { granule, granules: count, .. } = *event else { continue };
        touched.extend(granule..granule + u64::from(count));
    }
    assert_eq!(touched, (0..granules as u64).collect(), "each was written to");
    let seen = |event: &&TraceEvent| matches!(event, TraceEvent::Touch { write: false, .. });
    assert!(trace.events.iter().filter(seen).count() >= read.len() / 2, "and some were read");
    assert!(
        bytes.as_chunks::<8>().0.iter().all(|word| !secret.contains(&u64::from_le_bytes(*word)))
    );
    let played = Played::new(&trace);
    let [least, most] =
        [Eviction::Best, Eviction::Queue].map(|how| played.moves(128, how).expect("pages").read);
    // What is read fits into the budget: who knows the future may keep all of it.
    assert!(least <= most && 0 < most, "{least} and {most} granules read");
}
