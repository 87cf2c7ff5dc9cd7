//! Peaks are exact: to the byte, over threads, nested, beside other tests, after a panic.

use super::*;

const KIB: usize = 1 << 10;

fn runtime() -> Runtime {
    Runtime::builder().own_limit().build().expect("a runtime")
}

fn column(runtime: &Runtime, bytes: usize) -> crate::PoolVec<u8> {
    runtime.pool().try_zeroed::<u8>(bytes).expect("no limit")
}

#[test]
fn a_peak_is_exact_to_the_byte_whatever_was_cached() {
    for round in 0..5 {
        let peak = peak(|| {
            let runtime = runtime();
            drop(column(&runtime, 700 * KIB + round));
            let a = column(&runtime, 300 * KIB + 1);
            let b = column(&runtime, 500 * KIB + 2);
            drop(a);
            let c = column(&runtime, 100 * KIB + 3);
            drop((b, c));
        });
        let expected = (800 * KIB + 3) as u64;
        assert_eq!((peak.bytes, peak.start_bytes, peak.end_bytes), (expected, 0, 0));
    }
}

#[test]
fn runtimes_one_after_another_do_not_add_up_and_secrets_count() {
    let peak = peak(|| {
        for _ in 0..3 {
            let runtime = runtime();
            let _plain = column(&runtime, 128 * KIB);
            let _secret = runtime.secret_pool().try_zeroed::<u8>(64 * KIB).expect("no limit");
        }
    });
    assert_eq!(peak.bytes, 192 * KIB as u64);
}

#[test]
fn other_threads_count_for_the_runtime_they_use() {
    let peak = peak(|| {
        let runtime = runtime();
        let barrier = std::sync::Barrier::new(3);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let column = column(&runtime, 256 * KIB);
                    barrier.wait();
                    drop(column);
                });
            }
        });
    });
    assert_eq!(peak.bytes, 3 * 256 * KIB as u64);
}

#[test]
fn peaks_nest_and_stages_inside_do_not_disturb_them() {
    let outer = peak(|| {
        let first = runtime();
        drop(column(&first, 900 * KIB));
        let inner = peak(|| {
            let runtime = runtime();
            let stage = runtime.stage("inner", 0).expect("no limit");
            let kept = column(&runtime, 200 * KIB);
            drop(stage);
            drop(kept);
            runtime.take_stages()[0].live_peak_bytes
        });
        assert_eq!((inner.bytes, inner.value), (200 * KIB as u64, 200 * KIB as u64));
    });
    assert_eq!(outer.bytes, 900 * KIB as u64);
}

#[test]
fn a_runtime_of_before_is_watched_with_what_it_held() {
    let runtime = runtime();
    let kept = column(&runtime, 100 * KIB);
    drop(column(&runtime, 800 * KIB));
    let peak = peak_in(&runtime, || column(&runtime, 80 * KIB));
    let seen = (peak.bytes, peak.start_bytes, peak.end_bytes);
    assert_eq!(seen, (180 * KIB as u64, 100 * KIB as u64, 180 * KIB as u64));
    assert_eq!(crate::peak_below!("180KiB", in &runtime, kept.len()), 100 * KIB);
    drop(kept);
}

#[test]
fn a_panic_ends_the_scope() {
    let panicked = std::panic::catch_unwind(|| {
        peak(|| -> () { panic!("as planned") });
    });
    assert!(panicked.is_err());
    scope::SCOPE.with_borrow(|scope| assert!(scope.is_none()));
}

#[test]
fn a_failure_says_both_sizes_and_a_wrong_limit_what_is_wrong() {
    let text = |limit: &'static str, bytes: u64| {
        let peak = Peak { bytes, start_bytes: 0, end_bytes: 7, value: () };
        let panicked = std::panic::catch_unwind(|| assert_below(limit, peak));
        *panicked.expect_err("above").downcast::<String>().expect("a text")
    };
    let above = text("1MiB", (1 << 20) + 5);
    assert!(above.contains("5 bytes above 1MiB") && above.contains("7 bytes were left"), "{above}");
    assert!(text("12XiB", 0).contains("12XiB"));
}

#[test]
fn nested_stages_leave_the_outer_peak_whole() {
    let runtime = runtime();
    let outer = runtime.stage("outer", 0).expect("no limit");
    drop(column(&runtime, 600 * KIB));
    let inner = runtime.stage("inner", 0).expect("no limit");
    drop(column(&runtime, 100 * KIB));
    drop(inner);
    drop(outer);
    let peaks: Vec<u64> = runtime.take_stages().iter().map(|s| s.live_peak_bytes).collect();
    assert_eq!(peaks, [100 * KIB as u64, 600 * KIB as u64]);
}
