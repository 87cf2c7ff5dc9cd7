//! Against `ark-ff` and `ark-ec`, on seeded values and on every edge.

use ark_bn254::{Fq, Fq2, Fr, g1, g2};
use ark_ec::short_weierstrass::{Affine, Projective, SWCurveConfig};
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{AdditiveGroup, Field, PrimeField, UniformRand, Zero};
use plimsoll_arena::process::skipped;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::add::{keep, kept};
use crate::digits::Digits;
use crate::element::Element;
use crate::input::Ifma;
use crate::{Adder, BLOCK, Butterflies, Direction, Factors, GROUP, Point, Sum};

/// Groups of random elements: a million of them.
const GROUPS: usize = 125_000;

fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(0x69_66_6d_61)
}

/// Whether the processor has the instructions; says so where it has not.
fn can() -> bool {
    let can = Ifma::detect().is_some();
    if !can {
        skipped("the kernels", "this processor has no AVX-512 IFMA");
    }
    can
}

/// Numbers at which a carry, a borrow or a comparison may go wrong.
fn edges<F: PrimeField>() -> Vec<F> {
    let two = F::from(2_u64);
    let half = F::from_bigint(F::MODULUS_MINUS_ONE_DIV_TWO).unwrap();
    let mut edges = vec![F::zero(), F::one(), -F::one(), half, half + F::one()];
    // Also such whose words in memory are at an edge.
    let r_inverse = two.pow([256]).inverse().unwrap();
    for exponent in 1..256_u64 {
        for number in [two.pow([exponent]), two.pow([exponent]) * r_inverse] {
            let step = if edges.len() % 2 == 0 { F::one() } else { r_inverse };
            edges.extend([number, -number, number - step, step - number]);
        }
    }
    edges
}

/// What the kernel makes of two groups: product, sum, difference, four times, back and forth.
#[target_feature(enable = "avx512f,avx512ifma")]
fn computed<E: Element, const DEGREE: usize>(left: &[E], right: &[E]) -> [[E; GROUP]; 5] {
    let words =
        |values: &[E]| kept::<E, DEGREE>(&crate::element::by_word(values.try_into().unwrap()));
    let (left, shifted) = (Digits::unpack(words(left)), Digits::unpack_shifted(words(right)));
    let right = Digits::unpack(words(right));
    let prime = E::PRIME;
    [
        left.times(&shifted, prime).loose(),
        left.plus(&right),
        left.minus(&right, 1, prime),
        left.loose().quadruple(),
        left.loose(),
    ]
    .map(|loose| {
        let mut lanes = [E::ZERO; GROUP];
        keep(&mut lanes, loose.reduce(prime).pack());
        crate::element::by_element(&lanes)
    })
}

fn check<E: Element, const DEGREE: usize>(left: &[E], right: &[E]) {
    // SAFETY: callers have looked.
    let computed = unsafe { computed::<E, DEGREE>(left, right) };
    for lane in 0..GROUP {
        let (a, b) = (left[lane], right[lane]);
        let expected = [a * b, a + b, a - b, a.double().double(), a];
        assert_eq!(computed.map(|lanes| lanes[lane]), expected, "{a} and {b}");
    }
}

fn arithmetic<E: Element, const DEGREE: usize>(edges: &[E], groups: usize) {
    if !can() {
        return;
    }
    let mut rng = rng();
    for _ in 0..groups {
        let mut group = || -> [E; GROUP] { std::array::from_fn(|_| E::rand(&mut rng)) };
        check::<E, DEGREE>(&group(), &group());
    }
    for (i, edge) in edges.iter().enumerate() {
        let others: Vec<E> = edges.iter().cycle().skip(i).step_by(7).take(64).copied().collect();
        for others in others.chunks(GROUP) {
            check::<E, DEGREE>(&[*edge; GROUP], others);
        }
    }
}

#[test]
fn fq_is_that_of_ark_ff() {
    arithmetic::<Fq, 1>(&edges(), GROUPS);
}

#[test]
fn fr_is_that_of_ark_ff() {
    arithmetic::<Fr, 1>(&edges(), GROUPS);
}

#[test]
fn fq2_is_that_of_ark_ff() {
    let edges: Vec<Fq> = edges();
    let pairs: Vec<Fq2> =
        edges.iter().zip(edges.iter().rev()).map(|(a, b)| Fq2::new(*a, *b)).collect();
    arithmetic::<Fq2, 2>(&pairs, GROUPS);
}

fn point<P: SWCurveConfig>(point: &Affine<P>) -> Point<P::BaseField> {
    let (x, y) = point.xy().unwrap_or((P::BaseField::ZERO, P::BaseField::ZERO));
    Point { x, y }
}

fn affine<P: SWCurveConfig>(point: &Point<P::BaseField>) -> Affine<P> {
    match point.x.is_zero() && point.y.is_zero() {
        true => Affine::identity(),
        false => Affine::new_unchecked(point.x, point.y),
    }
}

fn sum<P: SWCurveConfig>(
    left: &Point<P::BaseField>,
    right: &Point<P::BaseField>,
) -> Sum<P::BaseField> {
    let (one, other) = (affine::<P>(left), affine::<P>(right));
    if one == other && !one.is_zero() {
        let square = left.x.square();
        return Sum::Slope { rise: square.double() + square, run: left.y.double() };
    }
    Sum::Point(point(&(one + other).into_affine()))
}

/// Points with repeats, opposites and infinity among them, in pairs that lie anywhere.
fn pairs_add<P: SWCurveConfig>(rounds: usize) {
    let Some(adder) = Adder::<P::BaseField>::detect() else {
        assert!(!can(), "the kernel knows these fields");
        return;
    };
    let mut rng = rng();
    for round in 0..rounds {
        let len: usize = rng.gen_range(0..400);
        let few: Vec<Projective<P>> = (0..6).map(|_| Projective::rand(&mut rng)).collect();
        let points: Vec<Projective<P>> = (0..len * 2)
            .map(|_| match rng.gen_range(0..if round % 2 == 0 { 4 } else { 400 }) {
                0 => Projective::zero(),
                1 => few[rng.gen_range(0..6)],
                2 => -few[rng.gen_range(0..6)],
                _ => Projective::rand(&mut rng),
            })
            .collect();
        let points = Projective::normalize_batch(&points);
        let mut order: Vec<u32> = (0..len as u32 * 2).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, rng.gen_range(0..=i));
        }
        let pairs: Vec<[u32; 2]> = order.chunks_exact(2).map(|two| [two[0], two[1]]).collect();
        let mut computed: Vec<_> = points.iter().map(point).collect();
        let mut products = vec![P::BaseField::ZERO; len.next_multiple_of(GROUP)];
        adder.add_pairs(&mut computed, &pairs, &mut products, sum::<P>);
        let mut expected = points.clone();
        for [left, right] in pairs {
            let (left, right) = (left as usize, right as usize);
            expected[left] = (points[left] + points[right]).into_affine();
        }
        assert!(computed.iter().eq(&expected.iter().map(point).collect::<Vec<_>>()));
    }
}

#[test]
fn pairs_of_g1_add() {
    pairs_add::<g1::Config>(60);
}

#[test]
fn pairs_of_g2_add() {
    pairs_add::<g2::Config>(30);
}

#[test]
fn other_fields_have_no_kernel() {
    assert!(Adder::<Fr>::detect().is_none(), "no group of BN254 has coordinates in Fr");
    assert!(Butterflies::<Fq>::detect().is_none(), "Fq has no large subgroup");
}

/// Factors of blocks in a table of `2^log`, and the same with the other sign, last first.
fn table(log: u32, is_negative: bool) -> (Vec<Fr>, impl Fn(usize) -> usize) {
    let mut rng = rng();
    let table: Vec<Fr> = (0..1 << log).map(|_| Fr::rand(&mut rng)).collect();
    let len = table.len();
    (table, move |j: usize| if is_negative { len - 1 - j } else { j })
}

fn down(low: &mut Fr, high: &mut Fr, factor: Fr) {
    (*low, *high) = (*low + factor * *high, *low - factor * *high);
}

fn up(low: &mut Fr, high: &mut Fr, factor: Fr) {
    (*low, *high) = (*low + *high, (*low - *high) * factor);
}

/// One layer over the blocks of `values`, which are `len` long, by the definition.
fn layer(values: &mut [Fr], len: usize, direction: Direction, factor: impl Fn(usize) -> Fr) {
    for (block, values) in values.chunks_exact_mut(len).enumerate() {
        let (low, high) = values.split_at_mut(len / 2);
        for (low, high) in low.iter_mut().zip(high) {
            match direction {
                Direction::Down => down(low, high, factor(block)),
                Direction::Up => up(low, high, factor(block)),
            }
        }
    }
}

/// The layers over blocks of these lengths, in the order of the direction.
fn layers(
    values: &mut [Fr],
    lens: &[usize],
    direction: Direction,
    factor: impl Fn(usize, usize) -> Fr,
) {
    let mut lens = lens.to_vec();
    if direction == Direction::Up {
        lens.reverse();
    }
    for len in lens {
        layer(values, len, direction, |block| factor(len, block));
    }
}

/// Values of which some lie at the edges.
fn values(len: usize, rng: &mut ChaCha8Rng) -> Vec<Fr> {
    let edges: Vec<Fr> = edges();
    let edge = |rng: &mut ChaCha8Rng| edges[rng.gen_range(0..edges.len())];
    (0..len).map(|i| if i % 3 == 0 { edge(rng) } else { Fr::rand(rng) }).collect()
}

/// A `T` that lives no longer than the borrow, which `TypeId::of` would refuse.
fn has_kernel<'a, T>(_: &'a [T]) -> [bool; 2] {
    [Butterflies::<Fr, T>::detect().is_some(), Butterflies::<Fr, &'a T>::detect().is_some()]
}

#[test]
fn a_type_is_known_whatever_it_borrows() {
    let values = [Fr::ONE];
    assert_eq!(has_kernel(&values), [can(), false]);
    assert_eq!(has_kernel(&[&values[0]]), [false, false], "a reference is no element");
    assert_eq!(has_kernel(&[Point { x: Fr::ONE, y: Fr::ONE }]), [false, false]);
    assert_eq!(has_kernel(&[Fq::ONE]), [false, false], "of the same size");
    assert!(Butterflies::<Fq, Fr>::detect().is_none(), "factors of another field");
}

#[test]
fn layers_are_those_of_the_definition() {
    let Some(eight) = Butterflies::<Fr>::detect() else {
        assert!(!can(), "the kernel knows this field");
        return;
    };
    let mut rng = rng();
    for direction in [Direction::Down, Direction::Up] {
        for len in [32, 64, 256] {
            for is_first in [false, true] {
                let before = values(len, &mut rng);
                let [whole, left, right] = values(3, &mut rng)[..] else { unreachable!() };
                let factors = [whole, left, right];
                let [whole, left] = if is_first { [Fr::ONE; 2] } else { [whole, left] };
                let mut expected = before.clone();
                layers(&mut expected, &[len, len / 2], direction, |of, block| {
                    if of == len { whole } else { [left, right][block] }
                });
                let mut computed = before.clone();
                let mut quarters = computed.chunks_exact_mut(len / 4);
                let quarters = std::array::from_fn(|_| quarters.next().unwrap());
                eight.quads(quarters, direction, &factors, is_first);
                assert_eq!(computed, expected, "quads of {len} {direction:?} {is_first}");
            }
            let before = values(len, &mut rng);
            let factor = Fr::rand(&mut rng);
            let (mut computed, mut expected) = (before.clone(), before);
            let (low, high) = computed.split_at_mut(len / 2);
            eight.pairs([low, high], direction, &factor);
            layer(&mut expected, len, direction, |_| factor);
            assert_eq!(computed, expected, "pairs of {len} {direction:?}");
        }
    }
}

#[test]
fn narrow_blocks_are_those_of_the_definition() {
    let Some(eight) = Butterflies::<Fr>::detect() else { return };
    let mut rng = rng();
    for direction in [Direction::Down, Direction::Up] {
        for is_negative in [false, true] {
            for first in [8, 16, 40] {
                let (table, slot) = table(10, is_negative);
                let factor = |j: usize| match is_negative {
                    true => -table[slot(j)],
                    false => table[slot(j)],
                };
                let before = values(GROUP * BLOCK, &mut rng);
                let mut expected = before.clone();
                layers(&mut expected, &[16, 8, 4, 2], direction, |len, block| {
                    factor(first * (BLOCK / len) + block)
                });
                let mut computed = before;
                let factors = Factors { table: &table, is_negative, slot: &slot };
                eight.blocks(&mut computed, direction, first, &factors);
                assert_eq!(computed, expected, "{direction:?} {is_negative} {first}");
            }
        }
    }
}

#[test]
fn scaling_is_that_of_the_definition() {
    let Some(eight) = Butterflies::<Fr>::detect() else { return };
    let mut rng = rng();
    let (before, powers, head) = (values(256, &mut rng), values(256, &mut rng), Fr::rand(&mut rng));
    let mut computed = before.clone();
    eight.scale(&mut computed, &head, &powers);
    let expected: Vec<Fr> = before.iter().zip(&powers).map(|(a, b)| *a * head * b).collect();
    assert_eq!(computed, expected);
}
