//! `Domain` against ark-poly's domain: every method of the trait, the traits it requires, and
//! values that are no elements of the field.

use super::Domain;
use super::tests::{Bn254, Goldilocks, Random, on_one_and_two_threads};
use ark_bn254::G1Projective;
use ark_ec::PrimeGroup;
use ark_ff::{AdditiveGroup, FftField, Field, PrimeField, Zero};
use ark_poly::domain::DomainCoeff;
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::marker::PhantomData;
use std::ops::{Add, AddAssign, MulAssign, Sub, SubAssign};

/// Of six limbs and two-adicity 46: the base field of BLS12-377, scalars of BW6-761.
type SixLimbs = six_limbs::Field;

mod six_limbs {
    #![expect(unexpected_cfgs, reason = "the derived code asks for a feature of ark-ff's")]

    use ark_ff::{Fp384, MontBackend, MontConfig};

    pub(super) type Field = Fp384<MontBackend<Config, 6>>;

    #[derive(MontConfig)]
    #[modulus = "258664426012969094010652733694893533536393512754914660539884262666720468\
                 348340822774968888139573360124440321458177"]
    #[generator = "15"]
    pub(super) struct Config;
}

/// The lengths of input at which something changes, for `n` points.
fn lengths(n: usize) -> Vec<usize> {
    let mut lengths = vec![0, 1, n / 8, n / 4, n / 4 + 1, n / 2, n / 2 + 1, n - 1, n, n + 3];
    lengths.sort_unstable();
    lengths.dedup();
    lengths
}

/// Subgroup and coset, by each of the ways to make them.
fn domains<F: PrimeField, D: EvaluationDomain<F>>(points: usize, offset: F) -> Vec<D> {
    let subgroup = D::new(points).unwrap();
    assert!(subgroup.get_coset(F::ZERO).is_none() && D::new_coset(points, F::ZERO).is_none());
    let cosets = [D::new_coset(points, offset).unwrap(), subgroup.get_coset(offset).unwrap()];
    assert!(cosets[0] == cosets[1] && cosets[0].get_coset(F::ONE) == Some(subgroup));
    assert_eq!(cosets[0] == subgroup, offset.is_one());
    vec![subgroup, cosets[0]]
}

/// What the methods of the trait answer.
#[derive(PartialEq, Default)]
struct Answers<F> {
    numbers: Vec<F>,
    words: Vec<usize>,
    vectors: Vec<Vec<F>>,
}

/// The methods that tell of the domain.
fn parameters<F: PrimeField, D: EvaluationDomain<F>>(domain: D, tau: F) -> Answers<F> {
    let n = domain.size();
    let part = D::new_coset((n / 2).max(1), domain.coset_offset()).unwrap();
    let outside = domain.sample_element_outside_domain(&mut ChaCha20Rng::seed_from_u64(1));
    let vanishing = domain.vanishing_polynomial();
    let (powers, factors): (Vec<usize>, Vec<F>) = vanishing.iter().copied().unzip();
    let numbers = vec![
        domain.size_as_field_element(),
        domain.size_inv(),
        domain.group_gen(),
        domain.group_gen_inv(),
        domain.coset_offset(),
        domain.coset_offset_inv(),
        domain.coset_offset_pow_size(),
        outside,
        domain.evaluate_vanishing_polynomial(tau),
        domain.evaluate_vanishing_polynomial(domain.element(n - 1)),
        domain.evaluate_filter_polynomial(&part, tau),
        domain.evaluate_filter_polynomial(&part, part.element(0)),
        domain.element(0),
        domain.element(n / 3),
    ];
    let mut words = vec![n, domain.log_size_of_group() as usize];
    words.extend(powers);
    words.extend((0..n).map(|index| domain.reindex_by_subdomain(part, index)));
    let vectors = vec![
        factors,
        domain.elements().collect(),
        domain.evaluate_all_lagrange_coefficients(tau),
        domain.evaluate_all_lagrange_coefficients(domain.element(n / 3)),
        domain.filter_polynomial(&part).coeffs,
    ];
    Answers { numbers, words, vectors }
}

/// The methods that transform or scale values, which come as they are.
fn transforms<F, D, T>(domain: D, values: &[T], base: F) -> Vec<Vec<T>>
where
    F: PrimeField,
    D: EvaluationDomain<F>,
    T: DomainCoeff<F>,
{
    let run = |operation: &dyn Fn(&mut Vec<T>)| {
        let mut values = values.to_vec();
        operation(&mut values);
        values
    };
    vec![
        domain.fft(values),
        domain.ifft(values),
        run(&|values| domain.fft_in_place(values)),
        run(&|values| domain.ifft_in_place(values)),
        run(&|values| D::distribute_powers(values, base)),
        run(&|values| D::distribute_powers_and_mul_by_const(values, base, base + F::ONE)),
    ]
}

/// Both domains have the same answers, for `2^log_n` points and inputs of all lengths.
fn the_same<F: PrimeField>(log_n: u32, random: &mut Random) {
    let n = 1 << log_n;
    let (tau, base) = (random.element::<F>(), random.element());
    for offset in [F::GENERATOR, random.element(), F::ONE] {
        let ours = domains::<F, Domain<F>>(n, offset);
        let arks = domains::<F, Radix2EvaluationDomain<F>>(n, offset);
        for (ours, ark) in ours.into_iter().zip(arks) {
            assert!(parameters(ours, tau) == parameters(ark, tau), "2^{log_n}");
            for len in lengths(n) {
                let values = random.elements::<F>(len);
                let same = transforms(ours, &values, base) == transforms(ark, &values, base);
                assert!(same, "2^{log_n}, {len} values, offset {offset}");
            }
            let [left, right] = [0; 2].map(|_| random.elements::<F>(n));
            let product = ours.mul_polynomials_in_evaluation_domain(&left, &right);
            assert!(product == ark.mul_polynomials_in_evaluation_domain(&left, &right));
        }
    }
}

#[test]
fn every_method_answers_as_ark_polys() {
    on_one_and_two_threads(|| {
        let mut random = Random::from_env();
        for log_n in 0..=12 {
            the_same::<Bn254>(log_n, &mut random);
            the_same::<Goldilocks>(log_n, &mut random);
            the_same::<SixLimbs>(log_n, &mut random);
        }
    });
}

#[test]
fn sizes_are_those_of_ark_poly() {
    fn sizes<F: PrimeField, D: EvaluationDomain<F>>() -> Vec<[Option<usize>; 2]> {
        let asked = (0..20).chain([1 << 28, (1 << 28) + 1, 1 << 32, 1 << 47]);
        let size = |len| D::new(len).map(|domain| domain.size());
        asked.map(|len| [size(len), D::compute_size_of_domain(len)]).collect()
    }
    let ours = sizes::<Bn254, Domain<Bn254>>();
    assert_eq!(ours, sizes::<Bn254, Radix2EvaluationDomain<Bn254>>());
    assert_eq!(ours[20..], [[Some(1 << 28); 2], [None; 2], [None; 2], [None; 2]]);
    assert_eq!(sizes::<SixLimbs, Domain<SixLimbs>>()[22], [Some(1 << 32); 2]);
    assert_eq!(Domain::<Bn254>::compute_size_of_domain(usize::MAX), None);
}

/// A field's element that borrows: it is of no type that a `TypeId` could be asked of.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Borrowing<'a>(Bn254, PhantomData<&'a str>);

impl Add for Borrowing<'_> {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0, PhantomData)
    }
}

impl Sub for Borrowing<'_> {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0, PhantomData)
    }
}

impl AddAssign for Borrowing<'_> {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl SubAssign for Borrowing<'_> {
    fn sub_assign(&mut self, other: Self) {
        self.0 -= other.0;
    }
}

impl MulAssign<Bn254> for Borrowing<'_> {
    fn mul_assign(&mut self, factor: Bn254) {
        self.0 *= factor;
    }
}

impl Zero for Borrowing<'_> {
    fn zero() -> Self {
        Self(Bn254::ZERO, PhantomData)
    }

    fn is_zero(&self) -> bool {
        self.0.is_zero()
    }
}

#[test]
fn values_may_be_what_the_field_multiplies() {
    let mut random = Random::from_env();
    let base = random.element();
    for log_n in [0, 1, 2, 5, 9] {
        let ours = domains::<Bn254, Domain<Bn254>>(1 << log_n, Bn254::GENERATOR);
        let arks = domains::<Bn254, Radix2EvaluationDomain<Bn254>>(1 << log_n, Bn254::GENERATOR);
        for (ours, ark) in ours.into_iter().zip(arks) {
            for len in [1 << log_n >> 2, 1 << log_n] {
                let elements = random.elements::<Bn254>(len);
                // Its lifetime is that of `elements`.
                let name = format!("{len}");
                let borrowing: Vec<Borrowing<'_>> = borrow(&elements, &name);
                let expected = transforms(ark, &borrowing, base);
                assert!(transforms(ours, &borrowing, base) == expected, "2^{log_n}, {len}");
                if log_n > 5 {
                    continue; // points take long
                }
                let points = points(&elements);
                let expected = transforms(ark, &points, base);
                assert!(transforms(ours, &points, base) == expected, "2^{log_n}, {len} points");
            }
        }
    }
}

fn borrow<'a>(elements: &[Bn254], _: &'a str) -> Vec<Borrowing<'a>> {
    elements.iter().map(|element| Borrowing(*element, PhantomData)).collect()
}

fn points(elements: &[Bn254]) -> Vec<G1Projective> {
    elements.iter().map(|element| G1Projective::generator() * element).collect()
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn bytes_hash_and_words_are_those_of_ark_poly() {
    let mut random = Random::from_env();
    for log_n in [0, 1, 12, 28] {
        let ark = Radix2EvaluationDomain::<Bn254>::new_coset(1 << log_n, random.element()).unwrap();
        let ours = Domain::from(ark);
        assert!(Radix2EvaluationDomain::from(ours) == ark);
        assert_eq!((hash(&ours), format!("{ours:?}")), (hash(&ark), format!("{ark:?}")));
        let [mut compressed, mut uncompressed] = [vec![], vec![]];
        ours.serialize_compressed(&mut compressed).unwrap();
        ours.serialize_uncompressed(&mut uncompressed).unwrap();
        assert_eq!(compressed.len(), ours.compressed_size());
        assert_eq!(uncompressed.len(), ours.uncompressed_size());
        let [mut of_ark, mut of_ark_uncompressed] = [vec![], vec![]];
        ark.serialize_compressed(&mut of_ark).unwrap();
        ark.serialize_uncompressed(&mut of_ark_uncompressed).unwrap();
        assert_eq!([&compressed, &uncompressed], [&of_ark, &of_ark_uncompressed]);
        assert_eq!(Domain::deserialize_compressed(&compressed[..]).unwrap(), ours);
        assert_eq!(Domain::deserialize_uncompressed(&uncompressed[..]).unwrap(), ours);
        assert!(Domain::<Bn254>::deserialize_compressed(&compressed[1..]).is_err());
    }
}

#[test]
fn numbers_that_do_not_belong_together_are_refused() {
    type Ark = Radix2EvaluationDomain<Bn254>;
    let ark = Ark::new_coset(16, Bn254::from(5)).unwrap();
    let changes: [fn(&mut Ark); 10] = [
        |ark| ark.size = 32,
        |ark| ark.size = 0,
        |ark| ark.log_size_of_group = 64,
        |ark| ark.size_as_field_element += Bn254::ONE,
        |ark| ark.size_inv += Bn254::ONE,
        |ark| {
            ark.group_gen.square_in_place();
            ark.group_gen_inv.square_in_place();
        },
        |ark| ark.group_gen_inv += Bn254::ONE,
        |ark| ark.offset = Bn254::ZERO,
        |ark| ark.offset_inv += Bn254::ONE,
        |ark| ark.offset_pow_size += Bn254::ONE,
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut changed = ark;
        change(&mut changed);
        let mut bytes = vec![];
        changed.serialize_compressed(&mut bytes).unwrap();
        assert!(Domain::<Bn254>::deserialize_compressed(&bytes[..]).is_err(), "change {index}");
        let unchecked = Domain::<Bn254>::deserialize_compressed_unchecked(&bytes[..]).unwrap();
        assert!(Ark::from(unchecked) == changed, "change {index}");
    }
}

#[test]
fn the_root_is_the_domains_own() {
    let mut random = Random::from_env();
    let mut ark = Radix2EvaluationDomain::<Bn254>::new_coset(1 << 10, random.element()).unwrap();
    ark.group_gen = ark.group_gen.pow([3]);
    ark.group_gen_inv = ark.group_gen_inv.pow([3]);
    let mut bytes = vec![];
    ark.serialize_compressed(&mut bytes).unwrap();
    let ours = Domain::deserialize_compressed(&bytes[..]).unwrap();
    for len in [1 << 8, 1 << 10] {
        let values = random.elements::<Bn254>(len);
        assert!(transforms(ours, &values, Bn254::ONE) == transforms(ark, &values, Bn254::ONE));
    }
}

#[test]
#[should_panic(expected = "the domain has 3 points, not a power of two")]
fn a_size_that_no_subgroup_has_is_named() {
    let mut ark = Radix2EvaluationDomain::<Bn254>::new(4).unwrap();
    ark.size = 3;
    Domain::from(ark).fft(&[Bn254::ONE]);
}
