//! Fields whose elements are words that the kernels know, and slices seen as such words.

use ark_bn254::{Fq, Fq2, FqConfig, Fr, FrConfig};
use ark_ff::{Field, MontConfig};
use std::any::{Any, TypeId};
use std::marker::PhantomData;

use crate::input::{GROUP, Point, Sum};
use crate::prime::Prime;

/// A field whose elements are [`Element::DEGREE`] numbers modulo [`Element::PRIME`].
///
/// # Safety
///
/// An element is `DEGREE * 4` words in memory and nothing else: no padding, any bits will do. The
/// type has no lifetime in it.
pub(crate) unsafe trait Element: Field {
    /// 1: the field of the prime; 2: its extension by a root of -1, the plain part first.
    const DEGREE: usize;
    /// The prime. Each number is `x * 2^256` modulo it, below it, the lowest word first.
    const PRIME: &'static Prime;
}

/// Eight words, as many as a register has.
pub(crate) type Row = [u64; 8];

static FQ: Prime = Prime::new(FqConfig::MODULUS, FqConfig::R);
static FR: Prime = Prime::new(FrConfig::MODULUS, FrConfig::R);

const _: () = assert!(size_of::<Fq>() == 32 && size_of::<Fr>() == 32 && size_of::<Fq2>() == 64);
const _: () = assert!(size_of::<Point<Fq>>() == 64 && size_of::<Point<Fq2>>() == 128);

// SAFETY: an `Fp` of four limbs is an array of four words and a marker without a size.
unsafe impl Element for Fq {
    const DEGREE: usize = 1;
    const PRIME: &'static Prime = &FQ;
}

// SAFETY: two elements of `Fq`, as the size says.
unsafe impl Element for Fq2 {
    const DEGREE: usize = 2;
    const PRIME: &'static Prime = &FQ;
}

// SAFETY: as of `Fq`.
unsafe impl Element for Fr {
    const DEGREE: usize = 1;
    const PRIME: &'static Prime = &FR;
}

/// What the callers of the functions below have looked at.
const LOOKED: &str = "the field was looked at when the processor was";

/// A type's identity, which its lifetimes have no part in.
trait Identity {
    fn identity(&self) -> TypeId
    where
        Self: 'static;
}

impl<T> Identity for PhantomData<T> {
    fn identity(&self) -> TypeId
    where
        Self: 'static,
    {
        TypeId::of::<T>()
    }
}

/// Whether `T` is the field `E`. `T` may have lifetimes, which `TypeId::of` refuses; `E` has none,
/// so a `T` that has is another type.
pub(crate) fn is<T, E: Element>() -> bool {
    let marker = PhantomData::<T>;
    let object: &dyn Identity = &marker;
    // SAFETY: both are references to one object of one trait. What the longer lifetime promises of
    // the object is not relied on: it has no bytes, and `identity` makes a number of its type.
    let object = unsafe { std::mem::transmute::<&dyn Identity, &(dyn Identity + 'static)>(object) };
    object.identity() == TypeId::of::<E>()
}

/// The slice as what it is: values of `E`.
pub(crate) fn known_values<T, E: Element>(values: &mut [T]) -> &mut [E] {
    assert!(is::<T, E>(), "{LOOKED}");
    // SAFETY: the types are one type.
    unsafe { &mut *(std::ptr::from_mut(values) as *mut [E]) }
}

/// The slice as what it is: `A` and `B` are one type.
pub(crate) fn known<A: 'static, B: 'static>(values: &[A]) -> &[B] {
    assert!(TypeId::of::<A>() == TypeId::of::<B>(), "{LOOKED}");
    // SAFETY: the types are one type.
    unsafe { &*(std::ptr::from_ref(values) as *const [B]) }
}

/// As [`known`], to be written.
pub(crate) fn known_mut<A: 'static, B: 'static>(values: &mut [A]) -> &mut [B] {
    assert!(TypeId::of::<A>() == TypeId::of::<B>(), "{LOOKED}");
    // SAFETY: the types are one type.
    unsafe { &mut *(std::ptr::from_mut(values) as *mut [B]) }
}

/// The value as what it is: `A` and `B` are one type.
pub(crate) fn known_value<A: 'static, B: Copy + 'static>(value: A) -> B {
    *(&value as &dyn Any).downcast_ref().expect(LOOKED)
}

/// As [`known_value`], of a point.
pub(crate) fn known_point<A: Copy + 'static, B: Copy + 'static>(point: &Point<A>) -> Point<B> {
    Point { x: known_value(point.x), y: known_value(point.y) }
}

/// As [`known_value`], of a sum.
pub(crate) fn known_sum<A: Copy + 'static, B: Copy + 'static>(sum: Sum<A>) -> Sum<B> {
    match sum {
        Sum::Slope { rise, run } => Sum::Slope { rise: known_value(rise), run: known_value(run) },
        Sum::Point(point) => Sum::Point(known_point(&point)),
    }
}

/// The numbers of elements, [`Element::DEGREE`] for each.
pub(crate) fn numbers<E: Element>(values: &[E]) -> &[[u64; 4]] {
    // SAFETY: an element is so many words and nothing else, and aligned as a word is.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len() * E::DEGREE) }
}

/// As [`numbers`], to be written.
pub(crate) fn numbers_mut<E: Element>(values: &mut [E]) -> &mut [[u64; 4]] {
    let len = values.len() * E::DEGREE;
    // SAFETY: as in `numbers`; any words are an element.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), len) }
}

/// The coordinates of points in rows, [`Element::DEGREE`] rows for each.
pub(crate) fn rows<E: Element>(points: &[Point<E>]) -> &[Row] {
    // SAFETY: two elements in the order of the fields, each so many words, as the size says.
    unsafe { std::slice::from_raw_parts(points.as_ptr().cast(), points.len() * E::DEGREE) }
}

/// As [`rows`], to be written.
pub(crate) fn rows_mut<E: Element>(points: &mut [Point<E>]) -> &mut [Row] {
    let len = points.len() * E::DEGREE;
    // SAFETY: as in `rows`; any words are an element.
    unsafe { std::slice::from_raw_parts_mut(points.as_mut_ptr().cast(), len) }
}

/// Eight elements, their words apart: word `i` of all of them, then word `i + 1` of all of them.
pub(crate) fn by_word<E: Element>(values: &[E; GROUP]) -> [E; GROUP] {
    transposed(values, E::DEGREE * 4, GROUP)
}

/// The elements that [`by_word`] took apart.
pub(crate) fn by_element<E: Element>(words: &[E; GROUP]) -> [E; GROUP] {
    transposed(words, GROUP, E::DEGREE * 4)
}

/// The words as a matrix of so many columns, made one of so many rows.
fn transposed<E: Element>(from: &[E; GROUP], columns: usize, rows: usize) -> [E; GROUP] {
    let mut to = [E::ZERO; GROUP];
    let (from, to_words) = (numbers(from).as_flattened(), numbers_mut(&mut to).as_flattened_mut());
    for (row, line) in from.chunks_exact(columns).enumerate() {
        for (column, word) in line.iter().enumerate() {
            to_words[column * rows + row] = *word;
        }
    }
    to
}
