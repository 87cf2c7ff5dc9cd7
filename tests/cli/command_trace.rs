//! `plimsoll trace`: what is said of a file that is no trace.

use super::{code, plimsoll, stderr};

#[test]
fn what_is_no_trace_is_named_with_what_makes_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.trace");
    let name = path.to_str().expect("UTF-8");
    let said = || {
        let output = plimsoll(&["trace", name, "--limit", "1GiB"]);
        assert_eq!(code(&output), Some(2), "{}", stderr(&output));
        stderr(&output)
    };
    assert!(said().contains("run.trace"), "a file that is not there");
    std::fs::write(&path, b"PLIMPLAN, but not for long").expect("a file");
    assert!(said().contains("PLIMSOLL_PLAN=learn:FILE"));
}
