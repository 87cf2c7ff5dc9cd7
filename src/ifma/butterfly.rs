//! The butterflies of a transform, eight at a time.
//!
//! ```text
//!   down   (low, high) <- (low + c*high, low - c*high)
//!   up     (low, high) <- (low + high, (low - high)*c)
//! ```
//!
//! A *quad* is two layers of them over the quarters of a block: `whole` is the block's factor, that
//! of the outer layer, and `left` and `right` those of its halves. A block whose quarters are
//! shorter than a group lies in one lane instead, and eight blocks are done at once, each with
//! factors of its own.
//!
//! Numbers come and go below the prime. In between they grow; the bounds, in units of the prime,
//! stand beside each step and hold for any prime of 255 bits (see `digits.rs`: a factor below 1,
//! shifted, times a number below `b` is below `1 + b / 2`).

use crate::digits::Digits;
use crate::element::{Element, Row, numbers, numbers_mut};
use crate::input::{BLOCK, Direction, Factors, GROUP};
use crate::prime::Prime;
use crate::words::{load, store, transpose, transpose_halves, transpose_to_halves};

/// Eight numbers.
type Number = Digits<1>;

/// Two layers down.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn quad_down<const IS_FIRST: bool>(
    [v0, v1, v2, v3]: [Number; 4],
    [whole, left, right]: &[Number; 3],
    prime: &Prime,
) -> [Number; 4] {
    let (high, high_odd) = match IS_FIRST {
        true => (v2, v3),                                            // 1
        false => (whole.times(&v2, prime), whole.times(&v3, prime)), // 1.5
    };
    let (low, middle) = (v0.plus(&high), v0.minus(&high, 2, prime)); // 2.5, 3
    let (odd, last) = (v1.plus(&high_odd), v1.minus(&high_odd, 2, prime));
    let odd = match IS_FIRST {
        true => odd,                                      // 2
        false => left.times(&odd.carry(), prime).loose(), // 2.25
    };
    let last = right.times(&last.carry(), prime).loose(); // 2.5
    [
        low.plus(&odd),                // 4.75
        low.minus(&odd, 3, prime),     // 5.5
        middle.plus(&last),            // 5.5
        middle.minus(&last, 3, prime), // 6
    ]
    .map(|number| number.reduce(prime))
}

/// Two layers up.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn quad_up<const IS_FIRST: bool>(
    [v0, v1, v2, v3]: [Number; 4],
    [whole, left, right]: &[Number; 3],
    prime: &Prime,
) -> [Number; 4] {
    let (low, high) = (v0.plus(&v1), v2.plus(&v3)); // 2
    let odd = v0.minus(&v1, 1, prime); // 2
    let odd = match IS_FIRST {
        true => odd,
        false => left.times(&odd.carry(), prime).loose(), // 2
    };
    let last = right.times(&v2.minus(&v3, 1, prime).carry(), prime).loose(); // 2
    let differences = [low.minus(&high, 2, prime), odd.minus(&last, 2, prime)]; // 4
    let [outer, outer_odd] = differences.map(|difference| match IS_FIRST {
        true => difference,
        false => whole.times(&difference.carry(), prime).loose(), // 3
    });
    [low.plus(&high), odd.plus(&last), outer, outer_odd].map(|number| number.reduce(prime))
}

/// One layer down.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn pair_down([low, high]: [Number; 2], factor: &Number, prime: &Prime) -> [Number; 2] {
    let high = factor.times(&high, prime); // 1.5
    [low.plus(&high), low.minus(&high, 2, prime)].map(|number| number.reduce(prime))
}

/// One layer up.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn pair_up([low, high]: [Number; 2], factor: &Number, prime: &Prime) -> [Number; 2] {
    let difference = low.minus(&high, 1, prime).carry(); // 2
    [low.plus(&high), factor.times(&difference, prime).loose()].map(|number| number.reduce(prime))
}

/// The same number in every lane, as a factor.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn factor<E: Element>(value: &E) -> Number {
    let number = numbers(std::slice::from_ref(value))[0];
    Digits::unpack_shifted([transpose_halves([&number; GROUP])])
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn load_group(numbers: &[[u64; 4]; GROUP]) -> Number {
    Digits::unpack([transpose_halves(numbers.each_ref())])
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn store_group(numbers: &mut [[u64; 4]; GROUP], number: Number) {
    let (rows, _) = numbers.as_flattened_mut().as_chunks_mut::<8>();
    for (row, words) in rows.iter_mut().zip(transpose_to_halves(number.pack()[0])) {
        store(row, words);
    }
}

/// Groups of elements of one degree.
fn groups<E: Element>(values: &mut [E]) -> &mut [[[u64; 4]; GROUP]] {
    assert!(E::DEGREE == 1 && values.len().is_multiple_of(GROUP), "whole groups");
    numbers_mut(values).as_chunks_mut().0
}

/// Loads a group of each slice, works on them, and stores them again.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn for_each_group<E: Element, const SLICES: usize>(
    slices: [&mut [E]; SLICES],
    work: impl Fn([Number; SLICES]) -> [Number; SLICES],
) {
    let mut slices = slices.map(groups);
    for i in 0..slices.first().map_or(0, |slice| slice.len()) {
        let done = work(std::array::from_fn(|k| load_group(&slices[k][i])));
        for (slice, number) in slices.iter_mut().zip(done) {
            store_group(&mut slice[i], number);
        }
    }
}

/// Two layers over the quarters of a block. See [`crate::Butterflies::quads`].
#[target_feature(enable = "avx512f,avx512ifma")]
pub(crate) fn quads<E: Element>(
    quarters: [&mut [E]; 4],
    direction: Direction,
    factors: &[E; 3],
    is_first: bool,
) {
    let prime = E::PRIME;
    let factors = &factors.each_ref().map(|value| factor(value));
    match (direction, is_first) {
        (Direction::Down, true) => {
            for_each_group(quarters, |quad| quad_down::<true>(quad, factors, prime));
        }
        (Direction::Down, false) => {
            for_each_group(quarters, |quad| quad_down::<false>(quad, factors, prime));
        }
        (Direction::Up, true) => {
            for_each_group(quarters, |quad| quad_up::<true>(quad, factors, prime));
        }
        (Direction::Up, false) => {
            for_each_group(quarters, |quad| quad_up::<false>(quad, factors, prime));
        }
    }
}

/// One layer over the halves of a block. See [`crate::Butterflies::pairs`].
#[target_feature(enable = "avx512f,avx512ifma")]
pub(crate) fn pairs<E: Element>(halves: [&mut [E]; 2], direction: Direction, value: &E) {
    let (prime, factor) = (E::PRIME, factor(value));
    match direction {
        Direction::Down => for_each_group(halves, |pair| pair_down(pair, &factor, prime)),
        Direction::Up => for_each_group(halves, |pair| pair_up(pair, &factor, prime)),
    }
}

/// Products with numbers of a table. See [`crate::Butterflies::scale`].
#[target_feature(enable = "avx512f,avx512ifma")]
pub(crate) fn scale<E: Element>(values: &mut [E], head: &E, powers: &[E]) {
    assert_eq!(values.len(), powers.len(), "a power for each value");
    let (prime, head) = (E::PRIME, factor(head));
    let powers = numbers(powers).as_chunks().0;
    for (numbers, power) in groups(values).iter_mut().zip(powers) {
        let power = head.times(&load_group(power), prime);
        let value = Digits::unpack_shifted([transpose_halves(numbers.each_ref())]);
        store_group(numbers, power.times(&value, prime).loose().reduce(prime));
    }
}

/// Four layers over eight blocks of sixteen. See [`crate::Butterflies::blocks`].
#[target_feature(enable = "avx512f,avx512ifma")]
pub(crate) fn blocks<E: Element>(
    values: &mut [E],
    direction: Direction,
    first: usize,
    factors: &Factors<'_, E, impl Fn(usize) -> usize>,
) {
    let prime = E::PRIME;
    let (rows, _) = numbers_mut(values).as_flattened_mut().as_chunks_mut::<8>();
    let rows: &mut [[Row; 8]; GROUP] = match rows.as_chunks_mut().0.try_into() {
        Ok(rows) if E::DEGREE == 1 => rows,
        _ => panic!("eight blocks of sixteen"),
    };
    let table = numbers(factors.table);
    // The factors of blocks `times * (first + lane) + offset`.
    let of_blocks = |times: usize, offset: usize| {
        let at = |lane| &table[(factors.slot)(times * (first + lane) + offset)];
        let factor = Digits::unpack_shifted([transpose_halves(std::array::from_fn(at))]);
        if factors.is_negative { factor.negative_factor(prime) } else { factor }
    };
    let of_quad = |times: usize, offset: usize| {
        let halves = |half| of_blocks(2 * times, 2 * offset + half);
        [of_blocks(times, offset), halves(0), halves(1)]
    };
    let mut numbers = [Number::splat([[0; 5]]); BLOCK];
    for i in 0..8 {
        let words = transpose(std::array::from_fn(|lane| load(&rows[lane][i])));
        let part = |half: usize| std::array::from_fn(|word| words[half * 4 + word]);
        numbers[2 * i] = Digits::unpack([part(0)]);
        numbers[2 * i + 1] = Digits::unpack([part(1)]);
    }
    let work =
        |numbers: &mut [Number; BLOCK], start: usize, apart: usize, factors: &[Number; 3]| {
            let quad = std::array::from_fn(|k| numbers[start + k * apart]);
            let quad = match direction {
                Direction::Down => quad_down::<false>(quad, factors, prime),
                Direction::Up => quad_up::<false>(quad, factors, prime),
            };
            for (k, number) in quad.into_iter().enumerate() {
                numbers[start + k * apart] = number;
            }
        };
    for layers in [Direction::Down, Direction::Up] {
        if layers == direction {
            let factors = of_quad(1, 0);
            (0..4).for_each(|start| work(&mut numbers, start, 4, &factors));
        } else {
            (0..4).for_each(|start| work(&mut numbers, 4 * start, 1, &of_quad(4, start)));
        }
    }
    for i in 0..8 {
        let (even, odd) = (numbers[2 * i].pack()[0], numbers[2 * i + 1].pack()[0]);
        let words = std::array::from_fn(|word| if word < 4 { even[word] } else { odd[word - 4] });
        for (lane, row) in rows.iter_mut().zip(transpose(words)) {
            store(&mut lane[i], row);
        }
    }
}
