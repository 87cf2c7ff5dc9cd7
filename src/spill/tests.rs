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
    (Runtime::builder().own_limit().spill(options).build().expect("a runtime"), folder)
}

/// Makes `vector` leave memory, and nothing else of this test.
fn send_away<T: super::Lanes>(runtime: &Runtime, vector: &Spillable<T>) {
    let limit = runtime.set_limit_bytes(Some(1));
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

#[test]
fn a_write_back_that_ends_during_a_climb_counts_as_freed() {
    let (runtime, _folder) = runtime();
    let vector = runtime.spillable(runtime.pool().try_filled(LEN, 1u64).expect("memory"));
    let bytes = LEN * size_of::<u64>();
    // No room, so that it leaves, and no climb that makes it leave before.
    let limit = runtime.set_limit_bytes(None);
    let guard = vector.read().expect("it is here");
    runtime.set_limit_bytes(Some(1));
    drop(guard);
    let spill = runtime.spill();
    let before = spill.departed_bytes();
    vector.write_back();
    // The rung of the cached blocks was passed; now the write ends, and nothing is left to evict.
    while vector.is_resident() {
        std::thread::yield_now();
    }
    // Packed, its copy may be freed too.
    assert!(spill.reclaim(bytes, before) >= bytes);
    assert_eq!(spill.reclaim(bytes, before + bytes as u64), 0, "it is told once");
    runtime.set_limit_bytes(limit);
}

#[test]
fn who_only_tries_never_waits_for_a_guard() {
    let (runtime, _folder) = runtime();
    let vector = runtime.spillable(runtime.pool().try_filled(LEN, 1u64).expect("memory"));
    let read = vector.read().expect("it is here");
    assert_eq!(vector.try_read().expect("it is here").expect("readers share")[0], 1);
    assert!(vector.try_write().expect("it is here").is_none(), "somebody reads");
    drop(read);
    let mut write = vector.try_write().expect("it is here").expect("nobody has it");
    write[0] = 2;
    assert!(vector.try_read().expect("it is here").is_none(), "somebody writes");
    assert!(vector.try_write().expect("it is here").is_none(), "somebody writes");
    drop(write);
    send_away(&runtime, &vector);
    assert_eq!(vector.try_read().expect("it comes back").expect("nobody has it")[0], 2);
    send_away(&runtime, &vector);
    vector.try_write().expect("it comes back").expect("nobody has it")[0] = 3;
    send_away(&runtime, &vector);
    assert_eq!(vector.read().expect("it comes back")[..2], [3, 1]);
}

#[cfg(feature = "ark")]
#[expect(unexpected_cfgs, reason = "`MontConfig` asks for a feature of ark-ff's")]
mod ark {
    use super::super::Lanes;
    use super::{LEN, runtime, send_away};
    use ark_bn254::{G1Projective, G2Projective};
    use ark_ec::short_weierstrass::{Affine, Projective, SWCurveConfig};
    use ark_ec::{AffineRepr, CurveConfig, CurveGroup, PrimeGroup};
    use ark_ff::{AdditiveGroup, Field, Fp64, Fp256, Fp384, MontBackend, MontConfig, MontFp};
    use plimsoll_arena::bytes_of;
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

    /// The base field of BLS12-381, of six limbs.
    #[derive(MontConfig)]
    #[modulus = "400240955522166739341778982573590415655688281993900788533205813612403165\
                 0490837864442687629129015664037894272559787"]
    #[generator = "2"]
    struct Bls12381;
    type Wide = Fp384<MontBackend<Bls12381, 6>>;

    /// A curve over it, whose scalars do not matter here.
    struct WideCurve;

    impl CurveConfig for WideCurve {
        type BaseField = Wide;
        type ScalarField = ark_bn254::Fr;
        const COFACTOR: &'static [u64] = &[1];
        const COFACTOR_INV: ark_bn254::Fr = ark_bn254::Fr::ONE;
    }

    impl SWCurveConfig for WideCurve {
        type ZeroFlag = ();
        const COEFF_A: Wide = Wide::ZERO;
        const COEFF_B: Wide = MontFp!("8");
        const GENERATOR: Affine<Self> = Affine::new_unchecked(MontFp!("1"), MontFp!("3"));
    }

    /// Sends a vector of `values` away, and looks at every byte of what comes back.
    fn come_back<T: Lanes + PartialEq + std::fmt::Debug>(values: &[T]) {
        let (runtime, _folder) = runtime();
        let vector = runtime.secret_pool().try_copied(values).expect("memory");
        let vector = runtime.spillable(vector);
        send_away(&runtime, &vector);
        let back = vector.read().expect("it comes back");
        assert!(bytes_of(&back) == bytes_of(values) && back[..] == values[..]);
    }

    fn numbers<T>(make: impl Fn(u64) -> T) -> Vec<T> {
        (0..LEN as u64).map(make).collect()
    }

    #[test]
    fn fields_that_are_not_packed_as_such_come_back_exactly() {
        type Secp = Fp256<MontBackend<Secp256k1, 4>>;
        type Gold = Fp64<MontBackend<Goldilocks, 1>>;
        assert_eq!((Secp::lanes(), Gold::lanes()), (LaneSpec::Bytes, LaneSpec::U64));
        assert_eq!(Wide::lanes(), LaneSpec::U64);
        come_back(&numbers(|index| Secp::from(index * index) / Secp::from(3u64)));
        come_back(&numbers(Secp::from));
        come_back(&numbers(|index| Gold::from(index * index) / Gold::from(3u64)));
        come_back(&numbers(Gold::from));
        come_back(&numbers(|index| Wide::from(index * index) / Wide::from(3u64)));
        come_back(&numbers(Wide::from));
        come_back(&numbers(|index| ark_bn254::Fq2::new(index.into(), (index * index).into())));
        come_back(&numbers(|index| {
            let pair = ark_bn254::Fq2::new(index.into(), 1u64.into());
            ark_bn254::Fq6::new(pair, pair.square(), pair.double())
        }));
    }

    /// Points of a group, the generator and infinity among them, in both their forms.
    fn points_come_back<C>()
    where
        C: SWCurveConfig<ZeroFlag = ()>,
        C::BaseField: Lanes,
    {
        let generator = Projective::<C>::generator();
        assert!(generator.into_affine().is_on_curve());
        let mut sum = Projective::<C>::ZERO;
        let points: Vec<Projective<C>> = (0..LEN / 8)
            .map(|index| match index % 5 {
                0 => Projective::ZERO,
                1 => generator,
                _ => {
                    sum += generator;
                    sum
                }
            })
            .collect();
        let affine = Projective::normalize_batch(&points);
        assert!(affine[0].is_zero() && affine[1] == C::GENERATOR && !affine[2].is_zero());
        come_back(&points);
        come_back(&affine);
        come_back(&[Affine::<C>::zero(); LEN / 8]);
    }

    #[test]
    fn curve_points_come_back_infinity_among_them() {
        points_come_back::<<G1Projective as CurveGroup>::Config>();
        points_come_back::<<G2Projective as CurveGroup>::Config>();
        points_come_back::<WideCurve>();
    }
}
