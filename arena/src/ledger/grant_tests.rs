//! Grants: charged once, lived within, and given back.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn within(ledger: &Arc<Ledger>, bytes: usize) -> Ledger {
    ledger.within(ledger.grant(bytes).expect("it fits"))
}

#[test]
fn a_grant_is_charged_once_and_lived_within() {
    let above = Arc::new(Ledger::with_limit(100));
    let ledger = within(&above, 60);
    assert_eq!((above.held_bytes(), above.headroom_bytes()), (60, 40));
    ledger.charge(50, Charge::Hard).expect("fits in the grant");
    assert_eq!((above.held_bytes(), ledger.held_bytes(), ledger.headroom_bytes()), (60, 50, 10));
    let refused = ledger.charge(11, Charge::Hard).expect_err("60 were granted");
    assert_eq!((refused.short_bytes, refused.limit_bytes, refused.foreign_bytes), (1, 60, 0));
    assert!(above.grant(41).is_err());
    ledger.uncharge(50);
    drop(ledger);
    assert_eq!(above.held_bytes(), 0);
}

#[test]
fn what_is_held_beyond_the_grant_is_charged_above() {
    let above = Arc::new(Ledger::with_limit(100));
    let ledger = within(&above, 60);
    ledger.charge(70, Charge::Soft).expect("soft");
    assert_eq!((above.held_bytes(), ledger.excess_bytes(), ledger.stats().missed), (70, 10, 1));
    assert!(ledger.charge_exchange(5));
    assert_eq!(above.held_bytes(), 75);
    ledger.uncharge(20);
    assert_eq!((above.held_bytes(), ledger.held_bytes()), (60, 55));
    ledger.uncharge(55);
    drop(ledger);
    assert_eq!(above.held_bytes(), 0);
}

#[test]
fn grants_of_a_grant_stay_within_it() {
    let above = Arc::new(Ledger::with_limit(100));
    let middle = Arc::new(within(&above, 60));
    let inner = within(&middle, 40);
    assert!(middle.grant(21).is_err());
    inner.charge(40, Charge::Hard).expect("fits");
    assert_eq!((above.held_bytes(), middle.held_bytes(), inner.held_bytes()), (60, 40, 40));
    inner.uncharge(40);
}

#[test]
fn who_waits_hears_of_a_return_after_it() {
    let above = Arc::new(Ledger::with_limit(100));
    let seen = Arc::new(AtomicUsize::new(usize::MAX));
    let (ledger, note) = (Arc::clone(&above), Arc::clone(&seen));
    let tell = move || note.store(ledger.held_bytes(), Ordering::Relaxed);
    let grant = above.grant(50).expect("it fits").at_most(30).on_return(tell);
    assert_eq!((grant.bytes(), above.held_bytes()), (30, 30));
    drop(above.within(grant));
    assert_eq!(seen.load(Ordering::Relaxed), 0);
}

#[test]
fn threads_charge_exactly_what_is_beyond_the_grant() {
    let above = Arc::new(Ledger::with_limit(usize::MAX));
    let ledger = within(&above, 1000);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    ledger.charge(400, Charge::Soft).expect("soft");
                    ledger.uncharge(400);
                }
            });
        }
    });
    assert_eq!((above.held_bytes(), ledger.held_bytes()), (1000, 0));
}
