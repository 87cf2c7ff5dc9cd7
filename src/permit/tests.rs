//! Permits under a limit of their own: order, refusals, returns, and what is made under them.

use super::*;
use crate::spill::SpillOptions;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

const MIB: u64 = 1 << 20;

/// A runtime that has `bytes` left for permits, whatever the test program holds by itself.
fn with_room(bytes: u64) -> Runtime {
    let runtime = Runtime::builder().own_limit().build().expect("a runtime");
    runtime.look();
    runtime.set_limit_bytes(Some(runtime.counted_bytes() + bytes));
    runtime
}

/// As [`with_room`], for tests that count on what exactly fits: other tests of this program take
/// memory meanwhile, so that bytes are counted in units that dwarf it.
const UNIT: u64 = 1 << 30;

#[test]
fn as_many_as_fit_are_granted_and_the_rest_is_refused_or_waits() {
    let runtime = with_room(5 * UNIT / 2);
    let [first, second] = ["first", "second"].map(|name| runtime.permit(name, UNIT).expect(name));
    assert!(runtime.try_permit("third", UNIT).expect("no error").is_none());
    drop(first);
    let third = runtime.try_permit("third", UNIT).expect("no error").expect("there is room");
    assert_eq!((third.name(), third.bytes()), ("third", UNIT));
    drop((second, third));
    match runtime.permit("too large", 4 * UNIT) {
        Err(Error::OverLimit { stage, asked_bytes, short_bytes, .. }) => {
            assert_eq!((stage.as_str(), asked_bytes), ("permit \"too large\"", 4 * UNIT));
            assert!(short_bytes > UNIT, "{short_bytes}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(runtime.waiting_for_permits(), 0);
}

#[test]
fn those_who_wait_are_served_in_order_of_arrival() {
    let runtime = with_room(3 * UNIT / 2);
    let held = runtime.permit("held", UNIT).expect("fits");
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        for name in ["0", "1", "2", "3"] {
            let waiting = runtime.permit_async(name, UNIT, UNIT).line_up();
            let tell = tell.clone();
            scope.spawn(move || {
                let permit = waiting.wait().expect("granted");
                tell.send(permit.name().to_owned()).expect("heard");
            });
        }
        assert_eq!(runtime.waiting_for_permits(), 4);
        // One that would fit does not pass those before it.
        assert!(runtime.try_permit("small", MIB).expect("no error").is_none());
        drop(held);
        let served: Vec<String> = told.iter().take(4).collect();
        assert_eq!(served, ["0", "1", "2", "3"]);
    });
    assert_eq!(runtime.waiting_for_permits(), 0);
}

#[test]
fn a_place_that_is_given_up_does_not_hold_up_the_next() {
    let runtime = with_room(3 * UNIT / 2);
    let held = runtime.permit("held", UNIT).expect("fits");
    let mut context = Context::from_waker(Waker::noop());
    let mut given_up = runtime.permit_async("given up", UNIT, UNIT);
    assert!(Pin::new(&mut given_up).poll(&mut context).is_pending());
    let mut next = runtime.permit_async("next", UNIT / 4, UNIT / 4);
    assert!(Pin::new(&mut next).poll(&mut context).is_pending());
    drop(given_up);
    assert!(matches!(Pin::new(&mut next).poll(&mut context), Poll::Ready(Ok(_))));
    drop(held);
}

#[test]
fn a_future_that_nobody_has_polled_holds_nobody_up_and_keeps_its_number() {
    let runtime = with_room(3 * UNIT / 2);
    let held = runtime.permit("held", UNIT).expect("fits");
    let mut context = Context::from_waker(Waker::noop());
    let mut early = runtime.permit_async("early", UNIT, UNIT);
    let mut late = runtime.permit_async("late", UNIT, UNIT);
    assert!(Pin::new(&mut late).poll(&mut context).is_pending());
    // Alone in the line, it is served.
    drop(held);
    match Pin::new(&mut late).poll(&mut context) {
        Poll::Ready(permit) => drop(permit.expect("granted")),
        Poll::Pending => panic!("held up by one that has not been polled"),
    }
    let held = runtime.permit("held again", UNIT).expect("fits");
    let mut later = runtime.permit_async("later", UNIT, UNIT);
    assert!(Pin::new(&mut later).poll(&mut context).is_pending());
    // Its number is the smaller one.
    assert!(Pin::new(&mut early).poll(&mut context).is_pending());
    drop(held);
    assert!(Pin::new(&mut later).poll(&mut context).is_pending());
    assert!(matches!(Pin::new(&mut early).poll(&mut context), Poll::Ready(Ok(_))));
}

#[test]
fn a_permit_between_takes_what_there_is() {
    let runtime = with_room(4 * UNIT);
    let first = runtime.permit("first", UNIT).expect("fits");
    let second = runtime.permit_between("second", UNIT, 8 * UNIT).expect("fits");
    assert!((2 * UNIT..=3 * UNIT).contains(&second.bytes()), "{}", second.bytes());
    drop(first);
    let third = runtime.permit_between("third", UNIT / 8, UNIT / 4).expect("fits");
    assert_eq!(third.bytes(), UNIT / 4);
}

#[test]
fn what_is_made_under_a_permit_is_charged_to_it_and_kept_within() {
    let runtime = with_room(4 * UNIT);
    let permit = runtime.permit("proof", 16 * MIB).expect("fits");
    let other = runtime.permit("other", 16 * MIB).expect("fits");
    let column = permit.runtime().zeroed::<u64>(1 << 20).expect("8 MiB");
    match permit.runtime().zeroed::<u64>(2 << 20) {
        Err(error @ Error::OverPermit { permit_bytes, fits_bytes, .. }) => {
            assert_eq!((permit_bytes, fits_bytes), (16 * MIB, 24 * MIB));
            assert!(error.to_string().starts_with("permit \"proof\": a vector needs"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(permit.runtime().limit_bytes(), Some(16 * MIB));
    let named = |held: Vec<Held>| {
        let of = |held: Held| held.name.starts_with("permit").then_some((held.name, held.bytes));
        held.into_iter().filter_map(of).collect::<Vec<_>>()
    };
    assert_eq!(named(runtime.held()), [("permit \"proof\"".to_owned(), 8 * MIB)]);
    match runtime.zeroed::<u64>(1 << 33) {
        Err(Error::OverLimit { holders, .. }) => {
            let granted: Vec<u64> = named(holders).iter().map(|(_, bytes)| *bytes).collect();
            assert_eq!(granted, [16 * MIB; 2], "what was granted is not there for others");
        }
        other => panic!("{other:?}"),
    }
    drop(column);
    let report = permit.report();
    assert_eq!((report.peak_bytes, report.outgrown_bytes), (8 * MIB, 0));
    assert_eq!(other.report().peak_bytes, 0);
    // Infallible constructors go over a limit, and the report says by how much.
    let large = permit.runtime().pool().zeroed_over_limit::<u64>(3 << 20);
    assert_eq!(permit.report().outgrown_bytes, 8 * MIB);
    drop(large);
}

#[test]
fn a_job_under_a_permit_spills_its_own_vectors_only() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let options = SpillOptions::new(folder.path());
    let builder = Runtime::builder().own_limit().spill(options);
    let runtime = builder.build().expect("a runtime");
    let filled = |runtime: &Runtime, seed: u64| {
        let mut column = runtime.zeroed::<u64>(1 << 20).expect("8 MiB");
        let mut state = seed;
        column.iter_mut().for_each(|value| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            *value = state ^ state >> 29;
        });
        runtime.spillable(column)
    };
    let outside = filled(&runtime, 1);
    let permit = runtime.permit("proof", 20 * MIB).expect("no limit");
    let columns: Vec<_> = (2..6).map(|seed| filled(permit.runtime(), seed)).collect();
    let report = permit.report();
    assert!(report.moved_bytes >= 16 * MIB, "{report:?}");
    assert!(report.peak_bytes <= 20 * MIB, "{report:?}");
    assert_eq!(runtime.spill_stats().spilled_total, 0);
    for (column, seed) in columns.iter().zip(2..) {
        let expected = filled(&runtime, seed);
        assert!(*column.read().expect("back") == *expected.read().expect("there"));
    }
    drop(outside);
}

#[test]
fn failing_panicking_and_leaking_jobs_return_their_bytes() {
    let runtime = with_room(4 * UNIT);
    let before = runtime.counted_bytes();
    let job = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let permit = runtime.permit("proof", UNIT).expect("fits");
        let _column = permit.runtime().zeroed::<u64>(1 << 20).expect("8 MiB");
        panic!("the job fails");
    }));
    assert!(job.is_err());
    let permit = runtime.permit("proof", UNIT).expect("fits");
    let column = permit.runtime().zeroed::<u64>(1 << 20).expect("8 MiB");
    drop(permit);
    assert!(runtime.ledger().held_bytes() as u64 >= UNIT, "the vector still has its bytes");
    drop(column);
    assert_eq!(runtime.ledger().held_bytes(), 0, "of {before}");
}

#[test]
fn permits_of_many_threads_are_neither_lost_nor_exceeded() {
    let runtime = with_room(4 * UNIT);
    let (now, granted) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..64_usize {
            let (runtime, now, granted) = (&runtime, &now, &granted);
            scope.spawn(move || {
                for round in 0..16 {
                    let eighths = 1 + (thread * 7 + round * 3) % 8;
                    let permit = runtime.permit("job", eighths as u64 * UNIT / 8).expect("granted");
                    let taken = now.fetch_add(eighths, Ordering::Relaxed) + eighths;
                    assert!(taken <= 32, "{taken} eighths of 32");
                    granted.fetch_add(1, Ordering::Relaxed);
                    now.fetch_sub(eighths, Ordering::Relaxed);
                    drop(permit);
                }
            });
        }
    });
    assert_eq!(granted.into_inner(), 64 * 16);
    assert_eq!((runtime.ledger().held_bytes(), runtime.waiting_for_permits()), (0, 0));
}

#[test]
fn a_raised_limit_serves_who_waits() {
    let runtime = with_room(3 * UNIT / 2);
    let held = runtime.permit("held", UNIT).expect("fits");
    let waiting = runtime.permit_async("waits", UNIT, UNIT);
    std::thread::scope(|scope| {
        let granted = scope.spawn(|| waiting.wait().expect("granted"));
        runtime.set_limit_bytes(None);
        drop(granted.join().expect("no panic"));
    });
    drop(held);
}
