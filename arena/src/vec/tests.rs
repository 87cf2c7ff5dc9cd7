//! A `PoolVec` against a `Vec` of the same elements, and what its allocations cost the ledger.

use super::PoolVec;
use crate::ledger::Ledger;
use crate::os::Fake;
use crate::pool::{Pool, Secrecy};
use std::borrow::{Borrow, BorrowMut};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// On the heap, and in a block.
const LENS: [usize; 4] = [0, 1, 100, 20_000];

fn pool(secrecy: Secrecy) -> Pool {
    let builder = Pool::builder().os(Arc::new(Fake::new())).reserve_bytes(64 << 20);
    builder.secrecy(secrecy).build().expect("64 MiB")
}

fn values(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| i.wrapping_mul(0x9e37_79b9)).collect()
}

/// Compares by the trait itself, whatever is more usual for the two types.
fn equal<L: PartialEq<R> + ?Sized, R: ?Sized>(left: &L, right: &R) -> bool {
    left == right
}

#[test]
fn a_pool_vector_compares_as_a_slice() {
    let pool = pool(Secrecy::Public);
    for len in LENS {
        let mut twin = values(len);
        let vector = pool.try_copied(&twin).expect("memory");
        assert!(equal(&vector, &twin) && equal(&twin, &vector));
        assert!(equal(&vector, &twin[..]) && equal(&twin[..], &vector));
        assert!(equal(&vector, &&twin[..]) && equal(&&twin[..], &vector));
        assert!(equal(&vector, &&mut twin[..]) && equal(&&mut twin[..], &vector));
        let Some(last) = twin.last_mut() else { continue };
        *last += 1;
        let other = pool.try_copied(&twin).expect("memory");
        assert!(!equal(&vector, &twin) && !equal(&twin, &vector) && !equal(&vector, &other));
        assert_eq!(vector.cmp(&other), vector.as_slice().cmp(&twin));
        assert_eq!(vector.partial_cmp(&other), other.partial_cmp(&vector).map(|o| o.reverse()));
    }
    let three = pool.try_copied(&[1u8, 2, 3]).expect("memory");
    assert!(equal(&three, &[1, 2, 3]) && equal(&[1, 2, 3], &three));
    assert!(equal(&three, &&[1, 2, 3]) && equal(&&[1, 2, 3], &three));
    assert!(!equal(&three, &[1, 2]) && !equal(&[3, 2, 1], &three));
}

#[test]
fn a_pool_vector_is_borrowed_and_hashed_as_a_slice() {
    let pool = pool(Secrecy::Public);
    let mut vector = pool.try_copied(&[3u8, 1, 2]).expect("memory");
    let borrowed: &mut [u8] = vector.borrow_mut();
    borrowed.sort_unstable();
    vector.as_mut()[0] = 7;
    let (borrowed, as_ref): (&[u8], &[u8]) = (vector.borrow(), vector.as_ref());
    assert_eq!((borrowed, as_ref, vector[2]), (&[7, 2, 3][..], &[7, 2, 3][..], 3));
    let state = RandomState::new();
    assert_eq!(state.hash_one(&vector), state.hash_one(&[7u8, 2, 3][..]), "as `Borrow` asks for");
}

#[test]
fn elements_come_out_in_order_from_both_ends() {
    let pool = pool(Secrecy::Public);
    for len in LENS {
        let mut twin = values(len);
        let mut vector = pool.try_copied(&twin).expect("memory");
        (&mut vector).into_iter().chain(&mut twin).for_each(|value| *value ^= 5);
        assert!((&vector).into_iter().eq(&twin));
        assert!(vector.clone().into_iter().rev().eq(twin.iter().rev().copied()));
        let mut left = vector.into_iter();
        assert_eq!(left.len(), len);
        assert_eq!(
            (left.next(), left.next_back()),
            match twin[..] {
                [] => (None, None),
                [only] => (Some(only), None),
                [first, .., last] => (Some(first), Some(last)),
            }
        );
        assert_eq!(left.len(), len.saturating_sub(2));
        assert!(left.eq(twin.into_iter().skip(1).take(len.saturating_sub(2))));
        assert_eq!(pool.stats().allocated_bytes, 0, "the memory went home");
    }
}

#[test]
fn a_pool_vector_is_made_and_grown_by_iterators() {
    let pool = pool(Secrecy::Public);
    for len in LENS {
        let twin = values(len);
        let mut vector = pool.try_collect(twin.iter().copied().filter(|_| true)).expect("memory");
        assert!(vector == twin);
        let copied: Vec<u32> = vector.clone().into();
        assert!(copied == twin);
        vector.try_extend(twin.iter().copied()).expect("memory");
        vector.extend(&twin);
        vector.extend(twin.clone());
        let mut twin = twin.repeat(4);
        assert!(vector == twin);
        vector.retain(|value| value % 3 == 1);
        twin.retain(|value| value % 3 == 1);
        assert!(vector == twin);
    }
}

#[test]
fn what_is_made_of_a_secret_vector_is_secret() {
    let pool = pool(Secrecy::Secret);
    let vector = pool.try_copied(&[1u8; 100_000]).expect("memory");
    let clones = [vector.clone(), vector.try_clone().expect("memory")];
    for clone in &clones {
        assert!(*clone == vector && clone.secrecy() == Secrecy::Secret);
        assert_eq!(clone.pool().stats(), pool.stats(), "the same pool");
    }
    // Sizes show; elements never do.
    let shown = format!("{vector:?} {:?}", pool.try_copied(&[1u8]).expect("memory").into_iter());
    let expected = "PoolVec { len: 100000, capacity: 100000, .. } \
                    IntoIter { vector: PoolVec { len: 1, capacity: 1, .. }, left: 0..1 }";
    assert_eq!(shown, expected);
}

#[test]
fn only_what_is_named_for_it_goes_over_the_limit() {
    const LEN: usize = 1 << 20;
    let ledger = Arc::new(Ledger::with_limit(LEN));
    let builder = Pool::builder().os(Arc::new(Fake::new())).reserve_bytes(64 << 20);
    let pool = builder.ledger(Arc::clone(&ledger)).build().expect("64 MiB");
    let mut vector = pool.try_filled(LEN, 1u8).expect("it fits");
    assert!(vector.try_clone().is_err() && pool.try_collect(vector.iter().copied()).is_err());
    assert!(vector.try_extend([2]).is_err() && vector.try_push(2).is_err());
    assert_eq!((vector.len(), ledger.stats().missed), (LEN, 0));
    vector.extend([2]);
    let clone = vector.clone();
    assert_eq!((clone.len(), ledger.stats().missed), (LEN + 1, 2));
    let zeroed: PoolVec<u8> = pool.zeroed_over_limit(LEN);
    vector.reserve_over_limit(LEN);
    assert!(zeroed.iter().all(|byte| *byte == 0) && vector.capacity() > 2 * LEN);
    assert_eq!(ledger.stats().missed, 4);
}
