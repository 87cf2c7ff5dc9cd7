//! Several members in one process: each has opened the table by itself, so that locks tell them
//! apart as they tell processes apart. tests/all kills real ones.

use super::shared::{Asked, SharedError, SharedLimit};
use crate::{Error, Runtime};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const MIB: u64 = 1 << 20;

struct Table(tempfile::TempDir);

impl Table {
    fn new() -> Self {
        Self(tempfile::tempdir_in("/var/tmp").expect("a folder"))
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("table")
    }

    fn join(&self, limit_bytes: u64) -> Result<SharedLimit, SharedError> {
        SharedLimit::join_file(&self.path(), limit_bytes)
    }

    fn member(&self) -> SharedLimit {
        self.join(100 * MIB).expect("joined")
    }
}

#[test]
fn bytes_are_granted_in_order_of_arrival_and_come_back() {
    let table = Table::new();
    let [a, b, c] = [(); 3].map(|()| table.member());
    a.note_program(10 * MIB).expect("noted");
    assert_eq!(a.ask(60 * MIB, 60 * MIB).expect("asked"), Asked::Granted(60 * MIB));
    assert_eq!(b.ask(40 * MIB, 40 * MIB).expect("asked"), Asked::Wait { others: true });
    // There is room for 20, but b came first.
    assert_eq!(c.ask(20 * MIB, 20 * MIB).expect("asked"), Asked::Wait { others: true });
    a.give_back(60 * MIB).expect("given back");
    assert_eq!(c.ask(20 * MIB, 20 * MIB).expect("asked"), Asked::Wait { others: true });
    assert_eq!(b.ask(40 * MIB, 80 * MIB).expect("asked"), Asked::Granted(80 * MIB));
    assert_eq!(c.ask(MIB, 20 * MIB).expect("asked"), Asked::Granted(10 * MIB));
    let granted: u64 = a.members().expect("read").iter().map(|member| member.granted_bytes).sum();
    assert_eq!(granted, 100 * MIB);
}

#[test]
fn who_leaves_or_ends_holds_nobody_up() {
    let table = Table::new();
    let [a, b, c] = [(); 3].map(|()| table.member());
    assert_eq!(a.ask(90 * MIB, 90 * MIB).expect("asked"), Asked::Granted(90 * MIB));
    assert_eq!(b.ask(50 * MIB, 50 * MIB).expect("asked"), Asked::Wait { others: true });
    b.leave().expect("left");
    assert_eq!(c.ask(10 * MIB, 10 * MIB).expect("asked"), Asked::Granted(10 * MIB));
    drop(a);
    assert_eq!(c.ask(90 * MIB, 90 * MIB).expect("asked"), Asked::Granted(90 * MIB));
    assert_eq!(c.members().expect("read").len(), 2);
}

#[test]
fn what_can_never_be_granted_is_refused() {
    let table = Table::new();
    let [a, b] = [(); 2].map(|()| table.member());
    a.note_program(30 * MIB).expect("noted");
    b.note_program(20 * MIB).expect("noted");
    assert_eq!(b.ask(60 * MIB, 60 * MIB).expect("asked"), Asked::Never(10 * MIB));
    // Whoever works may end, and its program with it.
    assert_eq!(a.ask(MIB, MIB).expect("asked"), Asked::Granted(MIB));
    assert_eq!(b.ask(60 * MIB, 60 * MIB).expect("asked"), Asked::Wait { others: true });
    a.give_back(MIB).expect("given back");
    assert_eq!(b.ask(50 * MIB, 60 * MIB).expect("asked"), Asked::Granted(50 * MIB));
    drop(a);
    assert_eq!(b.ask(40 * MIB, 40 * MIB).expect("asked"), Asked::Wait { others: false });
}

#[test]
fn another_limit_is_refused_while_somebody_lives_and_taken_after() {
    let table = Table::new();
    let member = table.member();
    match table.join(50 * MIB) {
        Err(SharedError::OtherLimit { limit_bytes, .. }) => assert_eq!(limit_bytes, 100 * MIB),
        joined => panic!("{joined:?}"),
    }
    drop(member);
    assert_eq!(table.join(50 * MIB).expect("nobody lives").limit_bytes(), 50 * MIB);
}

#[test]
fn bad_names_and_tables_of_others_are_refused() {
    for name in ["", "a/b", "a b", "\u{e4}", &"x".repeat(65)] {
        assert!(matches!(SharedLimit::join(name, MIB), Err(SharedError::Name { .. })), "{name}");
    }
    let table = Table::new();
    fs::write(table.path(), "something else, of more than a record's length: not a table of ours")
        .expect("written");
    assert!(matches!(table.join(MIB), Err(SharedError::NotOurs { .. })), "others may read it");
    fs::set_permissions(table.path(), fs::Permissions::from_mode(0o600)).expect("changed");
    assert!(matches!(table.join(MIB), Err(SharedError::Damaged { .. })));
    fs::remove_file(table.path()).expect("removed");
    std::os::unix::fs::symlink("elsewhere", table.path()).expect("linked");
    assert!(matches!(table.join(MIB), Err(SharedError::Io { .. })), "links are not followed");
}

#[test]
fn a_record_that_is_damaged_is_never_counted_on() {
    let table = Table::new();
    let [a, b] = [(); 2].map(|()| table.member());
    assert_eq!(a.ask(MIB, MIB).expect("asked"), Asked::Granted(MIB));
    let whole = fs::read(table.path()).expect("read");
    for at in (0..48).chain(64..112).chain(128..176) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(table.path(), &damaged).expect("written");
        let asked = b.ask(MIB, MIB);
        assert!(matches!(asked, Err(SharedError::Damaged { .. })), "byte {at}: {asked:?}");
    }
}

#[test]
fn runtimes_of_two_processes_share_and_wait() {
    let table = Table::new();
    let limit = 1 << 40;
    let runtime = || {
        let shared = table.join(limit).expect("joined");
        Runtime::builder().own_limit().shared_limit(shared).build().expect("a runtime")
    };
    let [one, other] = [runtime(), runtime()];
    let held = one.permit("held", limit / 2).expect("fits");
    assert!(other.try_permit("too much", limit / 2).expect("no error").is_none());
    let small = other.try_permit("small", limit / 4).expect("no error").expect("there is room");
    let waiting = other.permit_async("waits", limit / 2, limit / 2);
    std::thread::scope(|scope| {
        let granted = scope.spawn(move || waiting.wait().expect("granted"));
        drop(held);
        drop(granted.join().expect("no panic"));
    });
    drop(small);
    match one.permit("never", limit) {
        Err(Error::OverLimit { stage, holders, .. }) => {
            assert_eq!((stage.as_str(), holders.len()), ("permit \"never\"", 2));
        }
        granted => panic!("{granted:?}"),
    }
}

#[test]
fn the_last_to_leave_removes_the_table_and_no_other() {
    let table = Table::new();
    let [a, b] = [(); 2].map(|()| table.member());
    drop(a);
    assert!(table.path().exists(), "somebody is there");
    fs::remove_file(table.path()).expect("removed by hand");
    // Who comes now shares nothing with `b`, whose table has no name any more.
    let other = table.join(50 * MIB).expect("a new table");
    drop(b);
    assert!(table.path().exists(), "it is not the one that was left");
    drop(other);
    assert!(!table.path().exists());
}

#[test]
fn a_table_that_goes_while_somebody_joins_is_joined_anew() {
    let table = Table::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let member = table.member();
                    let processes = member.members().expect("the table is whole").len();
                    assert!((1..=4).contains(&processes));
                    assert_eq!(member.ask(MIB, MIB).expect("asked"), Asked::Granted(MIB));
                }
            });
        }
    });
    assert!(!table.path().exists());
}
