//! Cgroup layouts: fixture trees, the relations of cgroup name and mount root, damaged files.

use std::path::PathBuf;

use super::super::*;
use super::{GIB, fixture, tree};

fn cgroup_of(name: &str) -> Option<CgroupLimit> {
    Meter::at(&fixture(name)).unwrap().cgroup().unwrap()
}

fn limit(
    version: CgroupVersion,
    path: &str,
    gib: Option<u64>,
    usage: u64,
    anon: u64,
) -> CgroupLimit {
    CgroupLimit {
        version,
        path: path.into(),
        limit_bytes: gib.map(|gib| gib * GIB),
        high_bytes: None,
        usage_bytes: Some(usage),
        anon_bytes: Some(anon),
    }
}

#[test]
fn cgroup_trees_give_the_tightest_limit_and_the_cgroup_that_sets_it() {
    use CgroupVersion::{V1, V2};
    let table = [
        ("cgroup-v1", limit(V1, "/a", Some(4), 3 * GIB, 2 * GIB)),
        ("cgroup-v1-unlimited", limit(V1, "/a", None, GIB, GIB / 2)),
        ("cgroup-v2", limit(V2, "/a", Some(6), 5 * GIB, 2 * GIB)),
        (
            "cgroup-v2-high",
            CgroupLimit { high_bytes: Some(5 * GIB), ..limit(V2, "/svc", Some(8), GIB, GIB / 2) },
        ),
        ("cgroup-hybrid", limit(V1, "/job", Some(3), GIB, GIB / 4)),
        ("cgroup-container", limit(V1, "/docker/c0ffee/worker", Some(2), GIB, GIB / 2)),
        ("cgroup-namespaced", limit(V2, "/../../pod", Some(3), GIB, GIB / 2)),
    ];
    for (name, expected) in table {
        assert_eq!(cgroup_of(name), Some(expected), "{name}");
    }
    assert_eq!(cgroup_of("cgroup-v2-high").unwrap().tightest_bytes(), Some(5 * GIB));
    assert_eq!(cgroup_of("cgroup-none"), None);
}

const V2_MOUNT: &str = "31 23 0:28 ROOT /cg\\040roup rw - cgroup2 cgroup2 rw\n";

/// A v2 tree at `/cg roup` with the files given, showing `root` of the hierarchy.
fn v2_tree(own: &str, root: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
    let mountinfo = V2_MOUNT.replace("ROOT", root);
    let cgroup = format!("0::{own}\n");
    let own = [("proc/self/cgroup", &*cgroup), ("proc/self/mountinfo", &*mountinfo)];
    tree(&[&own, files].concat())
}

fn path_and_limit(root: &tempfile::TempDir) -> Option<(PathBuf, Option<u64>)> {
    let found = Meter::at(root.path()).unwrap().cgroup().unwrap();
    found.map(|found| (found.path, found.limit_bytes))
}

#[test]
fn names_and_mount_roots_of_every_relation() {
    let here: &[(&str, &str)] = &[("cg roup/memory.max", "5\n"), ("cg roup/b/memory.max", "9\n")];
    let table = [
        // own, mount root, expected path and limit
        ("/", "/", Some(("/", 5))),
        ("/b", "/", Some(("/", 5))),
        ("/a:x/b", "/a:x", Some(("/a:x", 5))),
        ("/a b", "/a\\040b", Some(("/a b", 5))),
        ("/a", "/a/b", None),                   // the mount shows only a child
        ("/ab", "/a", None),                    // words, not letters
        ("/../other", "/", None),               // outside our namespace and outside the mount
        ("/../other", "/..", Some(("/..", 5))), // no such directory: its parent counts
        ("/x", "/../..", Some(("/../..", 5))),  // above us by levels without a name
        ("/x", "/../b", None),                  // perhaps above us, perhaps not
        ("/gone (deleted)", "/", Some(("/", 5))),
    ];
    for (own, root, expected) in table {
        let found = path_and_limit(&v2_tree(own, root, here));
        let expected = expected.map(|(path, bytes)| (PathBuf::from(path), Some(bytes)));
        assert_eq!(found, expected, "cgroup {own}, mount root {root}");
    }
}

#[test]
fn of_two_mounts_the_one_that_shows_the_parents_counts() {
    let mountinfo = "1 0 0:1 /a/b /inner rw - cgroup2 none rw\n\
                     2 0 0:1 / /empty rw - cgroup2 none rw\n\
                     3 0 0:1 / /outer rw - cgroup2 none rw\n";
    let root = tree(&[
        ("proc/self/cgroup", "0::/a/b\n"),
        ("proc/self/mountinfo", mountinfo),
        ("inner/memory.max", "70\n"),
        ("outer/a/memory.max", "60\n"),
        ("outer/a/b/memory.max", "70\n"),
    ]);
    assert_eq!(path_and_limit(&root), Some(("/a".into(), Some(60))));
}

#[test]
fn an_old_v1_parent_without_hierarchy_sets_no_limit() {
    let files = |told: &'static str| {
        tree(&[
            ("proc/self/cgroup", "4:cpu,memory:/a/b\n"),
            ("proc/self/mountinfo", "35 31 0:32 / /m rw - cgroup cgroup rw,cpu,memory\n"),
            ("m/a/memory.limit_in_bytes", "60\n"),
            ("m/a/memory.use_hierarchy", told),
            ("m/a/b/memory.limit_in_bytes", "9223372036854710272\n"),
        ])
    };
    assert_eq!(path_and_limit(&files("0\n")), Some(("/a/b".into(), None)));
    assert_eq!(path_and_limit(&files("1\n")), Some(("/a".into(), Some(60))));
}

#[test]
fn equal_limits_name_the_outermost() {
    let files = [("cg roup/a/memory.max", "7"), ("cg roup/a/b/memory.max", "7")];
    assert_eq!(path_and_limit(&v2_tree("/a/b", "/", &files)), Some(("/a".into(), Some(7))));
}

#[test]
fn damaged_cgroup_files_are_named_with_their_text() {
    let mount = V2_MOUNT.replace("ROOT", "/");
    let own = ("proc/self/cgroup", "0::/a\n");
    let table: &[(&str, &str, &str)] = &[
        ("proc/self/cgroup", "nonsense\n", "nonsense"),
        ("proc/self/cgroup", "0::relative\n", "0::relative"),
        ("proc/self/cgroup", "x::/a\n", "x::/a"),
        ("proc/self/mountinfo", "31 23 0:28 /\n", "31 23 0:28 /"),
        ("proc/self/mountinfo", "1 2 3 / /c rw - cgroup2\n", "cgroup2"),
        ("proc/self/mountinfo", "1 2 3 x /c rw - cgroup2 none rw\n", "3 x /c"),
        ("proc/self/mountinfo", "1 2 3 / c rw - cgroup2 none rw\n", "3 / c"),
        ("cg roup/a/memory.max", "plenty\n", "plenty"),
        ("cg roup/a/memory.max", "", "\"\""),
        ("cg roup/a/memory.max", "-1\n", "-1"),
        ("cg roup/a/memory.max", "18446744073709551616\n", "18446744073709551616"),
        ("cg roup/a/memory.high", "1 2\n", "1 2"),
        ("cg roup/memory.high", "+1\n", "+1"),
        ("cg roup/a/memory.current", "1.5\n", "1.5"),
        ("cg roup/a/memory.stat", "file 1\nanon many\n", "anon many"),
    ];
    for (name, text, quoted) in table {
        let good = [own, ("proc/self/mountinfo", &*mount)];
        let files: Vec<_> = good.iter().filter(|(good, _)| good != name).copied().collect();
        let root = tree(&[&files[..], &[(*name, *text)]].concat());
        let error = Meter::at(root.path()).unwrap().cgroup().unwrap_err();
        assert!(matches!(error, MeterError::Malformed { .. }), "{name}: {error:?}");
        let shown = error.to_string();
        assert!(shown.contains(name) && shown.contains(quoted), "{name} {text:?}: {shown}");
    }
    let error = Meter::at(tree(&[own]).path()).unwrap().cgroup().unwrap_err();
    assert!(error.to_string().contains("mountinfo"), "{error}");
}
