//! Processes that share a limit: none exceeds it, none waits for ever, and one that is killed gives
//! its bytes back.

use crate::children::{child, hear};
use plimsoll::Runtime;
use plimsoll::permit::SharedLimit;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

/// The limit: no memory is touched, so that it can be larger than the machine.
const LIMIT_BYTES: u64 = 1 << 40;
const TABLE: &str = "PLIMSOLL_TEST_TABLE";

fn runtime(table: &Path) -> (Runtime, SharedLimit) {
    let shared = SharedLimit::join_file(table, LIMIT_BYTES).expect("joined");
    let builder = Runtime::builder().own_limit().shared_limit(shared.clone());
    (builder.build().expect("a runtime"), shared)
}

fn table_of_the_parent() -> PathBuf {
    std::env::var_os(TABLE).expect("a parent").into()
}

#[test]
#[ignore = "a part of a_holder_that_is_killed_gives_its_bytes_back"]
fn holds_and_returns_until_killed() {
    let (runtime, _shared) = runtime(&table_of_the_parent());
    println!("joined");
    loop {
        drop(runtime.permit("job", LIMIT_BYTES / 2).expect("granted"));
    }
}

#[test]
fn a_holder_that_is_killed_gives_its_bytes_back() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let table = folder.path().join("table");
    let (runtime, shared) = runtime(&table);
    let mut rng = ChaCha20Rng::seed_from_u64(20);
    let most = LIMIT_BYTES / 8 * 7;
    for round in 0..100 {
        let mut holder = child("shared_limits::holds_and_returns_until_killed", (TABLE, &table));
        hear(&mut BufReader::new(holder.stdout.take().expect("a pipe")), "joined");
        let until = Instant::now() + Duration::from_micros(rng.gen_range(0..2000));
        while Instant::now() < until {}
        holder.kill().expect("killed");
        holder.wait().expect("ended");
        // Nothing is held or waited for by the dead.
        let members = shared.members().expect("the table is whole");
        assert_eq!(members.len(), 1, "round {round}: {members:?}");
        let permit = runtime.try_permit("all", most).expect("no error");
        assert!(permit.is_some(), "round {round}: {members:?}");
    }
}

#[test]
#[ignore = "a part of permits_of_many_processes_are_neither_lost_nor_exceeded"]
fn takes_permits_from_sixteen_threads() {
    let (runtime, shared) = runtime(&table_of_the_parent());
    std::thread::scope(|scope| {
        for thread in 0..16_u64 {
            let (runtime, shared) = (&runtime, &shared);
            scope.spawn(move || {
                for round in 0..16 {
                    let eighths = 1 + (thread * 5 + round * 3) % 7;
                    let permit = runtime.permit("job", LIMIT_BYTES / 8 * eighths).expect("granted");
                    let members = shared.members().expect("the table is whole");
                    let granted: u64 = members.iter().map(|member| member.granted_bytes).sum();
                    assert!(granted <= LIMIT_BYTES, "{members:?}");
                    drop(permit);
                }
            });
        }
    });
    println!("all {} were granted", 16 * 16);
}

#[test]
fn permits_of_many_processes_are_neither_lost_nor_exceeded() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let table = folder.path().join("table");
    let mut children: Vec<Child> = (0..4)
        .map(|_| child("shared_limits::takes_permits_from_sixteen_threads", (TABLE, &table)))
        .collect();
    for child in &mut children {
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
        hear(&mut lines, "all 256 were granted");
        assert!(child.wait().expect("ended").success());
    }
    let (runtime, shared) = runtime(&table);
    assert_eq!(shared.members().expect("the table is whole").len(), 1);
    assert!(runtime.try_permit("all", LIMIT_BYTES / 8 * 7).expect("no error").is_some());
}
