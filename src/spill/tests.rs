//! What comes back is what left: its values, its pool, and with the pool its secrecy.

use super::{SpillOptions, Spillable};
use crate::{Pool, Runtime, Secrecy};
use plimsoll_arena::PoolVec;

/// Elements of a vector: two granules of words, so that it lives in a block.
const LEN: usize = 1 << 14;

/// A word that no block holds by chance.
const SECRET: u64 = 0xa5a5_a5a5_a5a5_a5a5;

/// A runtime that spills to a folder, which is to be kept as long.
fn runtime() -> (Runtime, tempfile::TempDir) {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let options = SpillOptions::new(folder.path());
    (Runtime::builder().spill(options).build().expect("a runtime"), folder)
}

/// Makes `vector` leave memory, and nothing else of this test.
fn send_away<T: super::Lanes>(runtime: &Runtime, vector: &Spillable<T>) {
    let limit = runtime.set_limit_bytes(1);
    assert!(!vector.is_resident(), "the limit makes it leave");
    runtime.set_limit_bytes(limit);
}

/// What the block of the vector that was dropped last still holds: the next vector of its length
/// gets the same one, as it is.
fn left_behind(pool: &Pool) -> PoolVec<u64> {
    pool.try_for_overwrite(LEN).expect("memory")
}

#[test]
fn a_vector_that_comes_back_is_as_secret_as_the_one_that_left() {
    let (runtime, _folder) = runtime();
    for secrecy in [Secrecy::Public, Secrecy::Secret] {
        let pool = runtime.pool_of(secrecy);
        let expected = if secrecy == Secrecy::Secret { 0 } else { SECRET };
        let made = || pool.try_filled(LEN, SECRET).expect("memory");
        let vectors = [
            runtime.spillable(made()),
            runtime.recomputable(made(), |values: &mut [u64]| values.fill(SECRET)),
        ];
        for vector in vectors {
            send_away(&runtime, &vector);
            assert_eq!(pool.stats().live_bytes, 0);
            assert!(vector.read().expect("it comes back").iter().all(|word| *word == SECRET));
            assert!(pool.stats().live_bytes > 0, "it came back to its own pool");
            let vector = vector.take().expect("it is here");
            assert_eq!(vector.secrecy(), secrecy);
            drop(vector);
            assert!(left_behind(pool).iter().all(|word| *word == expected), "{secrecy:?}");
        }
    }
}

#[test]
fn a_vector_of_another_runtimes_pool_goes_home_there() {
    let ((runtime, _folder), (other, _other_folder)) = (runtime(), runtime());
    let vector = other.secret_pool().try_filled(LEN, SECRET).expect("memory");
    let vector = runtime.spillable(vector);
    send_away(&runtime, &vector);
    assert_eq!(other.secret_pool().stats().live_bytes, 0, "it left at this runtime's demand");
    assert_eq!(vector.read().expect("it comes back")[LEN - 1], SECRET);
    assert!(other.secret_pool().stats().live_bytes > 0);
    assert_eq!(runtime.secret_pool().stats().live_bytes, 0);
}

#[cfg(feature = "ark")]
mod ark {
    use super::super::Lanes;
    use super::{LEN, runtime, send_away};
    use ark_ff::{Fp64, Fp256, MontBackend, MontConfig};
    use plimsoll_swap::codec::LaneSpec;

    /// The base field of secp256k1, whose modulus is past 2^255.
    #[derive(MontConfig)]
    #[modulus = "115792089237316195423570985008687907853269984665640564039457584007908834671663"]
    #[generator = "3"]
    struct Secp256k1;

    #[derive(MontConfig)]
    #[modulus = "18446744069414584321"]
    #[generator = "7"]
    struct Goldilocks;

    /// Vectors of `make` that leave memory and come back.
    fn come_back<T: Lanes + PartialEq + std::fmt::Debug>(make: impl Fn(u64) -> T) {
        let (runtime, _folder) = runtime();
        let values: Vec<T> = (0..LEN as u64).map(make).collect();
        let vector = runtime.pool().try_copied(&values).expect("memory");
        let vector = runtime.spillable(vector);
        send_away(&runtime, &vector);
        assert_eq!(vector.read().expect("it comes back")[..], values[..]);
    }

    #[test]
    fn fields_that_are_not_packed_as_such_come_back_exactly() {
        type Secp = Fp256<MontBackend<Secp256k1, 4>>;
        type Gold = Fp64<MontBackend<Goldilocks, 1>>;
        assert_eq!((Secp::lanes(), Gold::lanes()), (LaneSpec::Bytes, LaneSpec::U64));
        come_back(|index| Secp::from(index * index) / Secp::from(3u64));
        come_back(Secp::from);
        come_back(|index| Gold::from(index * index) / Gold::from(3u64));
        come_back(Gold::from);
    }
}
