//! Against double-and-add and ark-ec, over a grid and over random programs.

use core::mem::size_of;

use ark_bn254::{Fr, g1, g2};
use ark_ec::short_weierstrass::{Affine, Projective, SWCurveConfig};
use ark_ec::{AffineRepr, CurveGroup, VariableBaseMSM};
use ark_ff::{BigInteger, Field, One, PrimeField, UniformRand, Zero};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::digits::TILE_LEN;
use super::{Msm, MsmError, MsmPlan, Point, RunBlock, digits, msm};

const SCALARS: [&str; 9] =
    ["random", "zero", "one", "minus one", "bits", "bytes", "same", "edges", "mixed"];
const BASES: [&str; 5] = ["random", "equal", "alternating", "infinities", "few"];

/// `SEED=` replays; the seed shows when a test fails, as its output does.
fn rng() -> ChaCha8Rng {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(0x6d73_6d00);
    println!("SEED={seed}");
    ChaCha8Rng::seed_from_u64(seed)
}

fn edges() -> Vec<Fr> {
    let two = Fr::from(2_u64);
    let half = Fr::from_bigint(Fr::MODULUS_MINUS_ONE_DIV_TWO).unwrap();
    let mut edges = vec![Fr::zero(), Fr::one(), -Fr::one(), half, half + Fr::one()];
    for power in (1..254).map(|bit| two.pow([bit])) {
        edges.extend([power, power - Fr::one(), -power, Fr::one() - power]);
    }
    // All digits at the edge of their range, for windows of 16 and 8 bits.
    let digit = |bits: u64, digit: u64| {
        (0..240 / bits).fold(Fr::zero(), |sum, _| sum * two.pow([bits]) + Fr::from(digit))
    };
    for bits in [8, 16] {
        let top = 1 << (bits - 1);
        for near in [top - 1, top, top + 1] {
            edges.extend([digit(bits, near), -digit(bits, near)]);
        }
    }
    edges
}

fn scalars(kind: &str, len: usize, rng: &mut ChaCha8Rng) -> Vec<Fr> {
    let (same, edges) = (Fr::rand(rng), edges());
    (0..len)
        .map(|_| match kind {
            "random" => Fr::rand(rng),
            "zero" => Fr::zero(),
            "one" => Fr::one(),
            "minus one" => -Fr::one(),
            "bits" => Fr::from(rng.gen_range(0..2_u64)),
            "bytes" => Fr::from(rng.gen_range(0..256_u64)),
            "same" => same,
            "edges" => edges[rng.gen_range(0..edges.len())],
            _ => match rng.gen_range(0..6) {
                0 => Fr::zero(),
                1 => Fr::one(),
                2 => -Fr::from(rng.gen_range(0..9_u64)),
                3 => same,
                4 => edges[rng.gen_range(0..edges.len())],
                _ => Fr::rand(rng),
            },
        })
        .collect()
}

fn bases<P: SWCurveConfig<ScalarField = Fr>>(
    kind: &str,
    len: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<Affine<P>> {
    let mut point = Projective::<P>::from(P::GENERATOR) * Fr::rand(rng);
    let (first, step) = (Affine::from(point), P::GENERATOR);
    let few = [Affine::identity(), first, -first, step, -step, (point + step).into()];
    let points: Vec<_> = (0..len)
        .map(|index| match kind {
            "equal" => first.into_group(),
            "alternating" if index % 2 == 0 => first.into_group(),
            "alternating" => (-first).into_group(),
            "infinities" if rng.gen_range(0..3) == 0 => Projective::zero(),
            "few" => few[rng.gen_range(0..few.len())].into_group(),
            _ => {
                point += step;
                point
            }
        })
        .collect();
    Projective::normalize_batch(&points)
}

fn naive<P: SWCurveConfig>(bases: &[Affine<P>], scalars: &[P::ScalarField]) -> Projective<P> {
    let product = |(base, scalar): (&Affine<P>, &P::ScalarField)| {
        let mut sum = Projective::<P>::zero();
        for bit in scalar.into_bigint().to_bits_be() {
            sum += sum;
            if bit {
                sum += base;
            }
        }
        sum
    };
    bases.iter().zip(scalars).map(product).fold(Projective::zero(), |sum, one| sum + one)
}

fn oracle<P: SWCurveConfig<ScalarField = Fr>>(
    bases: &[Affine<P>],
    scalars: &[Fr],
) -> Projective<P> {
    let bigints: Vec<_> = scalars.iter().map(|scalar| scalar.into_bigint()).collect();
    let sum = Projective::<P>::msm_bigint(bases, &bigints);
    if bases.len() <= 3 {
        assert_eq!(sum, naive(bases, scalars));
    }
    sum
}

/// The sum, eight additions at a time where the processor can, and one at a time.
fn streamed<P: SWCurveConfig>(
    plan: MsmPlan,
    bases: &[Affine<P>],
    scalars: &[P::ScalarField],
) -> Projective<P> {
    let [sum, one_at_a_time] = [true, false].map(|eight| {
        let mut sum = Msm::new(plan, &memory()).unwrap();
        if !eight {
            sum.blocks.iter_mut().for_each(|block| block.batch.adder = None);
        }
        for (bases, scalars) in bases.chunks(plan.chunk_len).zip(scalars.chunks(plan.chunk_len)) {
            sum.add(bases, scalars).unwrap();
        }
        sum.finish()
    });
    assert!(sum == one_at_a_time, "{plan:?}");
    sum
}

fn memory() -> plimsoll_arena::Pool {
    plimsoll_arena::Pool::builder().reserve_bytes(4 << 30).build().expect("addresses")
}

fn pools() -> Vec<rayon::ThreadPool> {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    vec![pool(1), pool(2)]
}

fn grid<P: SWCurveConfig<ScalarField = Fr>>(lens: &[usize], chunk_lens: &[usize]) {
    let (mut rng, pools) = (rng(), pools());
    for len in lens {
        for base_kind in BASES {
            let bases = bases::<P>(base_kind, *len, &mut rng);
            for scalar_kind in SCALARS {
                let scalars = scalars(scalar_kind, *len, &mut rng);
                let expected = oracle(&bases, &scalars);
                for chunk_len in chunk_lens {
                    for pool in &pools {
                        let threads = pool.current_num_threads();
                        let plan = MsmPlan::new::<P>(*len, *chunk_len, threads);
                        let sum = pool.install(|| streamed(plan, &bases, &scalars));
                        let case = (len, base_kind, scalar_kind, chunk_len, threads);
                        assert!(sum == expected, "{case:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn g1_grid_small() {
    grid::<g1::Config>(&[0, 1, 2, 3, 31, 32, 33], &[1, 7, 1024]);
}

#[test]
fn g1_grid_1000() {
    grid::<g1::Config>(&[1000], &[7, 1024]);
}

#[test]
fn g1_grid_5000() {
    grid::<g1::Config>(&[5000], &[1024]);
}

#[test]
fn g2_grid_small() {
    grid::<g2::Config>(&[0, 1, 2, 3, 31, 32, 33], &[1, 7, 1024]);
}

#[test]
fn g2_grid_1000() {
    grid::<g2::Config>(&[1000], &[1024]);
}

#[test]
fn long_streams_of_short_chunks() {
    let mut rng = rng();
    for (len, chunk_len) in [(1000, 1), (5000, 1), (5000, 7)] {
        let bases = bases::<g1::Config>("random", len, &mut rng);
        let scalars = scalars("mixed", len, &mut rng);
        let plan = MsmPlan::new::<g1::Config>(len, chunk_len, 2);
        assert!(streamed(plan, &bases, &scalars) == oracle(&bases, &scalars));
    }
    let bases = bases::<g2::Config>("random", 5000, &mut rng);
    let scalars = scalars("random", 5000, &mut rng);
    let plan = MsmPlan::new::<g2::Config>(5000, 1024, 2);
    assert!(streamed(plan, &bases, &scalars) == oracle(&bases, &scalars));
}

#[test]
fn ark_agrees_with_double_and_add() {
    let mut rng = rng();
    for scalar_kind in SCALARS {
        let bases = bases::<g1::Config>("few", 33, &mut rng);
        let scalars = scalars(scalar_kind, 33, &mut rng);
        assert!(
            msm(&memory(), &bases, &scalars).unwrap() == naive(&bases, &scalars),
            "{scalar_kind}"
        );
        assert!(oracle(&bases, &scalars) == naive(&bases, &scalars), "{scalar_kind}");
    }
}

#[test]
fn every_window_and_segment_count() {
    let mut rng = rng();
    for window_bits in 2..=16 {
        for segments in [1, 2, 3, 5, 16] {
            for scalar_kind in ["one", "edges", "mixed"] {
                let bases = bases::<g1::Config>("few", 150, &mut rng);
                let scalars = scalars(scalar_kind, 150, &mut rng);
                let plan =
                    MsmPlan::with_window::<g1::Config>(window_bits, 100, segments, usize::MAX);
                let case = (window_bits, segments, scalar_kind);
                assert!(streamed(plan, &bases, &scalars) == oracle(&bases, &scalars), "{case:?}");
            }
        }
    }
}

/// Chunks of any length and kind, one after another into the same buckets, so that sums in
/// buckets meet their doubles and opposites again and again.
#[test]
fn random_programs() {
    let (mut rng, pools) = (rng(), pools());
    for program in 0..40 {
        let chunk_len = rng.gen_range(1..200);
        let window_bits = rng.gen_range(2..10);
        let segments = rng.gen_range(1..6);
        let plan = MsmPlan::with_window::<g1::Config>(window_bits, chunk_len, segments, usize::MAX);
        let mut sum = Msm::<g1::Config>::new(plan, &memory()).unwrap();
        let mut expected = Projective::zero();
        for step in 0..rng.gen_range(0..8) {
            let len = rng.gen_range(0..300);
            let mut bases = bases(BASES[rng.gen_range(0..5)], len, &mut rng);
            let scalars = scalars(SCALARS[rng.gen_range(0..9)], len, &mut rng);
            pools[step % 2].install(|| sum.add(&bases, &scalars)).unwrap();
            expected += oracle(&bases, &scalars);
            if rng.gen_range(0..2) == 0 {
                // The exact opposite: every bucket falls back to what it was.
                bases.iter_mut().for_each(|base| *base = -*base);
                sum.add(&bases, &scalars).unwrap();
                expected += oracle(&bases, &scalars);
            }
        }
        assert!(sum.finish() == expected, "program {program}, {plan:?}");
    }
}

#[test]
fn digits_make_the_scalar_again() {
    let mut rng = rng();
    let mut cases = edges();
    cases.extend((0..100).map(|_| Fr::rand(&mut rng)));
    let base = [g1::Config::GENERATOR];
    for window_bits in 2..=16 {
        let plan = MsmPlan::with_window::<g1::Config>(window_bits, 1, 1, usize::MAX);
        let radix = Fr::from(1_u64 << window_bits);
        for scalar in &cases {
            let mut tile = vec![i16::MAX; plan.digits_len()];
            let used = digits::recode_tile(&base, &[*scalar], window_bits, &mut tile);
            let rows = tile.chunks(TILE_LEN).take(used).rev();
            let sum = rows.fold(Fr::zero(), |sum, row| {
                assert!(i32::from(row[0].unsigned_abs()) <= 1 << (window_bits - 1));
                sum * radix + Fr::from(i64::from(row[0]))
            });
            assert!(sum == *scalar, "window_bits {window_bits}");
            if (-*scalar).is_one() {
                assert_eq!((used, tile[0]), (1, -1), "minus one is as cheap as one");
            }
        }
    }
}

fn held_bytes<P: SWCurveConfig>(sum: &Msm<P>) -> usize {
    fn bytes<T: Copy>(buffer: &plimsoll_arena::PoolVec<T>) -> usize {
        buffer.capacity() * size_of::<T>()
    }
    let block = |block: &RunBlock<P>| {
        let batch = &block.batch;
        bytes::<Point<P>>(&block.points)
            + bytes(&block.runs)
            + bytes(&batch.pairs)
            + bytes::<P::BaseField>(&batch.products)
    };
    bytes::<Point<P>>(&sum.buckets)
        + bytes(&sum.digits)
        + bytes(&sum.used)
        + bytes(&sum.order)
        + bytes(&sum.ends)
        + bytes(&sum.counts)
        + bytes(&sum.totals)
        + sum.blocks.len() * size_of::<super::buckets::RunBlock<P>>()
        + sum.blocks.iter().map(block).sum::<usize>()
}

#[test]
fn a_plan_states_its_bytes() {
    fn check<P: SWCurveConfig<ScalarField = Fr>>() {
        let mut rng = rng();
        for (total_len, chunk_len, threads) in [(1, 1, 1), (100, 7, 3), (5000, 1000, 2)] {
            let plan = MsmPlan::new::<P>(total_len, chunk_len, threads);
            let stated = plan.bucket_bytes + plan.scratch_bytes;
            let mut sum = Msm::<P>::new(plan, &memory()).unwrap();
            assert_eq!(held_bytes(&sum), stated, "{plan:?}");
            let bases = bases("random", 300, &mut rng);
            sum.add(&bases, &scalars("mixed", 300, &mut rng)).unwrap();
            assert_eq!(held_bytes(&sum), stated, "add allocates nothing");
        }
    }
    check::<g1::Config>();
    check::<g2::Config>();
}

#[test]
fn plans_stay_modest() {
    let bytes = |plan: MsmPlan| plan.bucket_bytes + plan.scratch_bytes;
    for log_len in 0..34 {
        for threads in [1, 2, 16] {
            let (len, chunk_len) = (1 << log_len, 1 << 16);
            assert!(bytes(MsmPlan::new::<g1::Config>(len, chunk_len, threads)) < 64 << 20);
            assert!(bytes(MsmPlan::new::<g2::Config>(len, chunk_len, threads)) < 64 << 20);
        }
    }
    let clamped = MsmPlan::new::<g1::Config>(usize::MAX, usize::MAX, usize::MAX);
    assert!(clamped.fits::<g1::Config>());
    assert!(MsmPlan::new::<g1::Config>(0, 0, 0).fits::<g1::Config>());
}

#[test]
fn bad_input_is_an_error() {
    let plan = MsmPlan::new::<g1::Config>(10, 10, 1);
    let mut sum = Msm::<g1::Config>::new(plan, &memory()).unwrap();
    let error = sum.add(&[g1::Config::GENERATOR], &[]).unwrap_err();
    assert_eq!(error, MsmError::Lengths { bases: 1, scalars: 0 });
    assert_eq!(error.to_string(), "1 bases but 0 scalars: pass slices of equal length");
    assert!(msm::<g1::Config>(&memory(), &[], &[Fr::one()]).is_err());
    assert!(sum.finish().is_zero(), "nothing was added");

    assert!(Msm::<g2::Config>::new(plan, &memory()).is_err(), "a plan for another curve");
    for change in [
        |plan: &mut MsmPlan| plan.window_bits = 40,
        |plan: &mut MsmPlan| plan.windows += 1,
        |plan: &mut MsmPlan| plan.chunk_len = 0,
        |plan: &mut MsmPlan| plan.chunk_len = usize::MAX,
        |plan: &mut MsmPlan| plan.segments = 0,
        |plan: &mut MsmPlan| plan.block_len = 1,
        |plan: &mut MsmPlan| plan.scratch_bytes = 0,
    ] {
        let mut plan = plan;
        change(&mut plan);
        let error = Msm::<g1::Config>::new(plan, &memory()).unwrap_err();
        assert_eq!(error, MsmError::Plan { plan });
        assert!(error.to_string().contains("make it with MsmPlan::new"));
    }
}

#[test]
fn debug_shows_the_plan_alone() {
    let plan = MsmPlan::new::<g1::Config>(10, 10, 1);
    let sum = Msm::<g1::Config>::new(plan, &memory()).unwrap();
    assert_eq!(format!("{sum:?}"), format!("Msm {{ plan: {plan:?}, .. }}"));
}
