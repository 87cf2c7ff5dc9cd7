//! Pairs of affine points added in one batch, eight pairs at a time.
//!
//! ```text
//!   forward    before[i] = run[0] * .. * run[i-1]        run = difference of abscissas
//!   once       all = 1 / (run[0] * .. * run[n-1])        one inversion for the batch
//!   backward   1 / run[i] = all[i] * before[i]           all[i-1] = all[i] * run[i]
//!              slope = rise / run     x = slope^2 - x1 - x2     y = slope * (x1 - x) - y1
//! ```
//!
//! `i` counts groups of eight pairs; each lane has a chain of its own, and the eight chains share
//! the inversion. Pairs that have no difference of abscissas to divide by (equal and opposite
//! points, infinity) are told apart by lane, and the caller says what their sum is.
//!
//! Powers of two: memory's form is `x * 2^256`, a product divides by `2^260`. After `k` groups a
//! chain is `D * 2^(260 - 4k)`. Its inverse in `ark-ff`, times 64, is `2^(258 + 4k) / D`, so that
//! `all * before` is `2^262 / run` whatever `k` is, the slope has `2^258`, its square `2^256`, and
//! four times `x1 - x` makes the last product right, too. No conversion is left.
//!
//! Source of the shared inversion: P. Montgomery, Speeding the Pollard and elliptic curve methods
//! of factorization, Math. Comp. 48, 1987, section 10.3.1.

use std::arch::x86_64::{__m512i, _mm512_or_si512, _mm512_test_epi64_mask, _mm512_xor_si512};

use crate::digits::Digits;
use crate::element::{Element, by_element, by_word, numbers, numbers_mut, rows, rows_mut};
use crate::input::{GROUP, Point, Sum};
use crate::words::{load, store, transpose, transpose_halves};

/// A coordinate of eight points in words, [`Element::DEGREE`] numbers of four.
type Words<const DEGREE: usize> = [[__m512i; 4]; DEGREE];

/// Eight pairs; where there are fewer, the last stands in for the rest.
struct Group {
    left: [usize; GROUP],
    right: [usize; GROUP],
    len: usize,
}

impl Group {
    #[inline]
    fn new(pairs: &[[u32; 2]]) -> Self {
        let at = |lane: usize, side: usize| pairs[lane.min(pairs.len() - 1)][side] as usize;
        Self {
            left: std::array::from_fn(|lane| at(lane, 0)),
            right: std::array::from_fn(|lane| at(lane, 1)),
            len: pairs.len(),
        }
    }

    /// The sums of the lanes that `ordinary` does not have.
    #[cold]
    #[inline(never)]
    fn sums<E: Element>(
        &self,
        points: &[Point<E>],
        ordinary: u8,
        special: &impl Fn(&Point<E>, &Point<E>) -> Sum<E>,
    ) -> [Option<Sum<E>>; GROUP] {
        std::array::from_fn(|lane| {
            let is_special = ordinary >> lane & 1 == 0;
            is_special.then(|| special(&points[self.left[lane]], &points[self.right[lane]]))
        })
    }
}

/// `points[left] += points[right]` for every pair. See [`crate::Adder::add_pairs`].
///
/// `DEGREE` is that of the field.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(crate) fn add_pairs<E: Element, const DEGREE: usize>(
    points: &mut [Point<E>],
    pairs: &[[u32; 2]],
    products: &mut [E],
    special: &impl Fn(&Point<E>, &Point<E>) -> Sum<E>,
) {
    assert!(DEGREE == E::DEGREE && products.len() >= pairs.len().next_multiple_of(GROUP));
    let mut one = [[0; 5]; DEGREE];
    one[0] = E::PRIME.one;
    let mut all = Digits::<DEGREE>::splat(one);
    for (pairs, before) in pairs.chunks(GROUP).zip(products.chunks_exact_mut(GROUP)) {
        let group = Group::new(pairs);
        let left = abscissas::<E, DEGREE>(points, &group.left);
        let right = abscissas::<E, DEGREE>(points, &group.right);
        let mut run = difference::<E, DEGREE>(right, left);
        let ordinary = ordinary(&left, &right);
        if ordinary != u8::MAX {
            let sums = group.sums(points, ordinary, special);
            run = replaced(run, &sums, |sum| sum.slope().map_or(E::ONE, |(_, run)| *run));
        }
        keep(before, all.pack());
        all = all.times(&run, E::PRIME);
    }
    let mut lanes = [E::ZERO; GROUP];
    keep(&mut lanes, all.loose().reduce(E::PRIME).pack());
    let mut all = Digits::unpack(kept::<E, DEGREE>(&inverses(&lanes)));
    for (pairs, before) in pairs.chunks(GROUP).zip(products.chunks_exact(GROUP)).rev() {
        let before = Digits::unpack(kept::<E, DEGREE>(before));
        all = add_group(points, &Group::new(pairs), &all, &before, special);
    }
}

/// Adds one group, given one over the product of its run and all before, and the product of all
/// before; returns one over the latter.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn add_group<E: Element, const DEGREE: usize>(
    points: &mut [Point<E>],
    group: &Group,
    all: &Digits<DEGREE>,
    before: &Digits<DEGREE>,
    special: &impl Fn(&Point<E>, &Point<E>) -> Sum<E>,
) -> Digits<DEGREE> {
    let prime = E::PRIME;
    let (x_left, y_left) = coordinates::<E, DEGREE>(points, &group.left);
    let (x_right, y_right) = coordinates::<E, DEGREE>(points, &group.right);
    let mut run = difference::<E, DEGREE>(x_right, x_left);
    let mut rise = difference::<E, DEGREE>(y_right, y_left);
    let ordinary = ordinary(&x_left, &x_right);
    let mut sums = [None; GROUP];
    if ordinary != u8::MAX {
        sums = group.sums(points, ordinary, special);
        run = replaced(run, &sums, |sum| sum.slope().map_or(E::ONE, |(_, run)| *run));
        rise = replaced(rise, &sums, |sum| sum.slope().map_or(E::ONE, |(rise, _)| *rise));
    }
    let (x_left, y_left) = (Digits::unpack(x_left), Digits::unpack(y_left));
    let slope = rise.times(&all.times(before, prime), prime);
    let square = slope.times(&slope, prime);
    let x = square.minus(&x_left, 1, prime).minus(&Digits::unpack(x_right).loose(), 1, prime);
    let x = x.reduce(prime);
    let back = x_left.minus(&x, 1, prime).quadruple().carry();
    let y = slope.times(&back, prime).minus(&y_left, 1, prime).reduce(prime);
    write(points, group, &sums, x.pack(), y.pack());
    all.times(&run, prime)
}

/// `left - right` modulo the prime, below 2.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn difference<E: Element, const DEGREE: usize>(
    left: Words<DEGREE>,
    right: Words<DEGREE>,
) -> Digits<DEGREE> {
    Digits::unpack(left).minus(&Digits::unpack(right), 1, E::PRIME).carry()
}

/// The lanes with two abscissas that differ, neither of them zero, which infinity's is.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn ordinary<const DEGREE: usize>(left: &Words<DEGREE>, right: &Words<DEGREE>) -> u8 {
    let [mut any_left, mut any_right] = [left[0][0], right[0][0]];
    let mut differ = _mm512_xor_si512(any_left, any_right);
    for (left, right) in left.iter().flatten().zip(right.iter().flatten()).skip(1) {
        any_left = _mm512_or_si512(any_left, *left);
        any_right = _mm512_or_si512(any_right, *right);
        differ = _mm512_or_si512(differ, _mm512_xor_si512(*left, *right));
    }
    let [any_left, any_right, differ] =
        [any_left, any_right, differ].map(|words| _mm512_test_epi64_mask(words, words));
    any_left & any_right & differ
}

/// `digits` with other numbers in the lanes that have a sum.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx512f,avx512ifma")]
fn replaced<E: Element, const DEGREE: usize>(
    digits: Digits<DEGREE>,
    sums: &[Option<Sum<E>>; GROUP],
    number: impl Fn(&Sum<E>) -> E,
) -> Digits<DEGREE> {
    let mut lanes = [E::ZERO; GROUP];
    keep(&mut lanes, digits.pack());
    let mut values = by_element(&lanes);
    for (value, sum) in values.iter_mut().zip(sums) {
        if let Some(sum) = sum {
            *value = number(sum);
        }
    }
    Digits::unpack(kept(&by_word(&values)))
}

/// One over each of the eight numbers that were kept, times 64.
fn inverses<E: Element>(lanes: &[E; GROUP]) -> [E; GROUP] {
    let mut values = by_element(lanes);
    let mut before = [E::ONE; GROUP];
    let mut all = E::ONE;
    for (before, value) in before.iter_mut().zip(&values) {
        *before = all;
        all *= value;
    }
    // Factors that are not zero have a product that is not.
    let mut inverse = all.inverse().unwrap_or(E::ONE) * E::from(64_u64);
    for (value, before) in values.iter_mut().zip(&before).rev() {
        let next = inverse * *value;
        *value = inverse * before;
        inverse = next;
    }
    by_word(&values)
}

/// Writes words into the place of eight elements, word by word.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(crate) fn keep<E: Element, const DEGREE: usize>(place: &mut [E], words: Words<DEGREE>) {
    let (rows, _) = numbers_mut(place).as_flattened_mut().as_chunks_mut();
    for (row, words) in rows.iter_mut().zip(words.as_flattened()) {
        store(row, *words);
    }
}

/// What [`keep`] wrote.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(crate) fn kept<E: Element, const DEGREE: usize>(place: &[E]) -> Words<DEGREE> {
    let (rows, _) = numbers(place).as_flattened().as_chunks();
    std::array::from_fn(|part| std::array::from_fn(|i| load(&rows[part * 4 + i])))
}

/// The abscissas of eight points.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn abscissas<E: Element, const DEGREE: usize>(
    points: &[Point<E>],
    at: &[usize; GROUP],
) -> Words<DEGREE> {
    if DEGREE != 1 {
        return coordinates(points, at).0;
    }
    let numbers = rows(points).as_flattened().as_chunks().0;
    [transpose_halves(at.map(|index| &numbers[index * 2])); DEGREE]
}

/// Both coordinates of eight points.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn coordinates<E: Element, const DEGREE: usize>(
    points: &[Point<E>],
    at: &[usize; GROUP],
) -> (Words<DEGREE>, Words<DEGREE>) {
    let rows = rows(points);
    let row = |i: usize| transpose(at.map(|index| load(&rows[index * DEGREE + i])));
    let part = |words: &[__m512i; 8], half: usize| std::array::from_fn(|i| words[half * 4 + i]);
    let (first, last) = (row(0), row(DEGREE - 1));
    // In a prime field one row has both; else the first has one, and the last the other.
    match DEGREE {
        1 => ([part(&first, 0); DEGREE], [part(&first, 1); DEGREE]),
        _ => (
            std::array::from_fn(|half| part(&first, half)),
            std::array::from_fn(|half| part(&last, half)),
        ),
    }
}

/// Writes the sums of a group to their left points.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn write<E: Element, const DEGREE: usize>(
    points: &mut [Point<E>],
    group: &Group,
    sums: &[Option<Sum<E>>; GROUP],
    x: Words<DEGREE>,
    y: Words<DEGREE>,
) {
    let join = |low: [__m512i; 4], high: [__m512i; 4]| {
        let rows = transpose(std::array::from_fn(|i| if i < 4 { low[i] } else { high[i - 4] }));
        let mut lanes = [[0; 8]; GROUP];
        for (lane, row) in lanes.iter_mut().zip(rows) {
            store(lane, row);
        }
        lanes
    };
    let (first, last) = match DEGREE {
        1 => (join(x[0], y[0]), [[0; 8]; GROUP]),
        _ => (join(x[0], x[DEGREE - 1]), join(y[0], y[DEGREE - 1])),
    };
    for lane in 0..group.len {
        let index = group.left[lane];
        match &sums[lane] {
            Some(Sum::Point(point)) => points[index] = *point,
            Some(Sum::Slope { .. }) | None => {
                let rows = &mut rows_mut(points)[index * DEGREE..][..DEGREE];
                rows[DEGREE - 1] = last[lane];
                rows[0] = first[lane];
            }
        }
    }
}
