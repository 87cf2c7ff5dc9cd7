//! Every form equals the definition on small sizes and ark-poly on larger ones, on 1 and 2 threads.

use super::{
    NttError, Radix2, Transform, bit_reverse, naive, reverse_bits, scale_powers,
    scale_powers_bit_reversed, twiddle_len,
};
use ark_ff::{AdditiveGroup, FftField, Field, Fp64, MontBackend, MontConfig, PrimeField};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};

/// `2^64 - 2^32 + 1`: one limb, no spare bit, two-adicity 32.
#[derive(MontConfig)]
#[modulus = "18446744069414584321"]
#[generator = "7"]
pub(super) struct GoldilocksConfig;

pub(super) type Goldilocks = Fp64<MontBackend<GoldilocksConfig, 1>>;
pub(super) type Bn254 = ark_bn254::Fr;

/// Steele, Lea and Flood's splitmix64, enough to fill test vectors.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn from_env() -> Self {
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260);
        println!("SEED={seed}"); // the harness shows it when the test fails
        Self(seed)
    }

    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn element<F: PrimeField>(&mut self) -> F {
        let bytes: Vec<u8> = (0..6).flat_map(|_| self.word().to_le_bytes()).collect();
        F::from_le_bytes_mod_order(&bytes)
    }

    pub(super) fn elements<F: PrimeField>(&mut self, len: usize) -> Vec<F> {
        (0..len).map(|_| self.element()).collect()
    }
}

/// A transform of a slice.
type Operation<'a, F, E> = dyn Fn(&mut [F]) -> Result<(), E> + 'a;

/// All five operations through the trait equal ark-poly's.
fn through_the_trait<F, T>(transform: &T, values: &[F], offset: F)
where
    F: PrimeField,
    T: Transform<F, Values = [F]>,
    T::Error: std::fmt::Debug,
{
    let subgroup = Radix2EvaluationDomain::<F>::new(values.len()).unwrap();
    let coset = subgroup.get_coset(offset).unwrap();
    let run = |operation: &Operation<'_, F, T::Error>| {
        let mut values = values.to_vec();
        operation(&mut values).unwrap();
        values
    };
    assert!(run(&|v| transform.fft(v)) == subgroup.fft(values), "fft");
    assert!(run(&|v| transform.ifft(v)) == subgroup.ifft(values), "ifft");
    assert!(run(&|v| transform.coset_fft(v, offset)) == coset.fft(values), "coset_fft");
    assert!(run(&|v| transform.coset_ifft(v, offset)) == coset.ifft(values), "coset_ifft");
    let shifted = coset.fft(&subgroup.ifft(values));
    assert!(run(&|v| transform.shift_to_coset(v, offset)) == shifted, "shift_to_coset");
    assert!(transform.coset_fft(&mut values.to_vec(), F::ZERO).is_err(), "a zero offset");
}

#[test]
fn the_trait_is_the_transforms_of_its_names() {
    let mut random = Random::from_env();
    for log_n in [0, 1, 4, 10] {
        let (values, offset) = (random.elements::<Bn254>(1 << log_n), random.element());
        through_the_trait(&domain(log_n), &values, offset);
        let (values, offset) = (random.elements::<Goldilocks>(1 << log_n), random.element());
        through_the_trait(&domain(log_n), &values, offset);
    }
}

fn domain<F: FftField>(log_n: u32) -> Radix2<F, Vec<F>> {
    Radix2::new(log_n, vec![F::ZERO; twiddle_len(log_n)]).unwrap()
}

/// Eight butterflies at a time where the processor can, and one at a time.
fn domains<F: FftField>(log_n: u32) -> [Radix2<F, Vec<F>>; 2] {
    let mut one_at_a_time = domain(log_n);
    one_at_a_time.eight = None;
    [domain(log_n), one_at_a_time]
}

/// `values` in bit-reversed order, by the definition.
fn reversed<F: Copy>(values: &[F]) -> Vec<F> {
    let bits = values.len().ilog2();
    (0..values.len()).map(|p| values[reverse_bits(p, bits)]).collect()
}

fn apply<F: Copy>(
    values: &[F],
    transform: impl FnOnce(&mut [F]) -> Result<(), NttError>,
) -> Vec<F> {
    let mut result = values.to_vec();
    transform(&mut result).unwrap();
    result
}

pub(super) fn on_one_and_two_threads(test: impl Fn() + Send + Sync) {
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(&test);
    }
}

fn equals_naive<F: PrimeField + FftField>() {
    let mut random = Random::from_env();
    for (log_n, domain) in (0..=8).flat_map(|log_n| domains::<F>(log_n).map(|it| (log_n, it))) {
        let n = 1 << log_n;
        let root = domain.root();
        let root_inverse = root.inverse().unwrap();
        let offset: F = random.element();
        let values = random.elements::<F>(n);
        let forward = naive::fft(&values, root);
        let inverse = naive::fft(&values, root_inverse);
        let bits = reversed(&values);
        assert_eq!(apply(&values, |v| domain.dif(v)), reversed(&forward), "dif 2^{log_n}");
        assert_eq!(apply(&values, |v| domain.dif_inverse(v)), reversed(&inverse), "2^{log_n}");
        assert_eq!(apply(&bits, |v| domain.dit(v)), forward, "dit 2^{log_n}");
        assert_eq!(apply(&bits, |v| domain.dit_inverse(v)), inverse, "2^{log_n}");
        assert_eq!(apply(&values, |v| domain.fft(v)), forward, "fft 2^{log_n}");
        let coefficients = naive::ifft(&values, root).unwrap();
        assert_eq!(apply(&values, |v| domain.ifft(v)), coefficients, "ifft 2^{log_n}");
        let shifted = naive::coset_fft(&coefficients, root, offset);
        assert_eq!(apply(&coefficients, |v| domain.coset_fft(v, offset)), shifted, "2^{log_n}");
        assert_eq!(apply(&values, |v| domain.shift_to_coset(v, offset)), shifted, "2^{log_n}");
        assert_eq!(apply(&shifted, |v| domain.coset_ifft(v, offset)), coefficients, "2^{log_n}");
        let unshifted = naive::coset_ifft(&values, root, offset).unwrap();
        assert_eq!(apply(&values, |v| domain.coset_ifft(v, offset)), unshifted, "2^{log_n}");
    }
}

fn equals_ark_poly<F: PrimeField + FftField>() {
    let mut random = Random::from_env();
    for (log_n, ours) in (0..=14).flat_map(|log_n| domains::<F>(log_n).map(|it| (log_n, it))) {
        let n = 1 << log_n;
        let ark = Radix2EvaluationDomain::<F>::new(n).unwrap();
        let offset: F = random.element();
        let coset = ark.get_coset(offset).unwrap();
        let values = random.elements::<F>(n);
        assert_eq!(ours.root(), ark.group_gen());
        assert_eq!(ours.size_inverse(), ark.size_inv());
        assert_eq!(apply(&values, |v| ours.fft(v)), ark.fft(&values), "fft 2^{log_n}");
        assert_eq!(apply(&values, |v| ours.ifft(v)), ark.ifft(&values), "ifft 2^{log_n}");
        assert_eq!(apply(&values, |v| ours.coset_fft(v, offset)), coset.fft(&values), "2^{log_n}");
        assert_eq!(
            apply(&values, |v| ours.coset_ifft(v, offset)),
            coset.ifft(&values),
            "2^{log_n}"
        );
        let shifted = coset.fft(&ark.ifft(&values));
        assert_eq!(apply(&values, |v| ours.shift_to_coset(v, offset)), shifted, "2^{log_n}");
    }
}

#[test]
fn all_forms_equal_the_definition() {
    on_one_and_two_threads(equals_naive::<Bn254>);
    on_one_and_two_threads(equals_naive::<Goldilocks>);
}

#[test]
fn all_forms_equal_ark_poly() {
    on_one_and_two_threads(equals_ark_poly::<Bn254>);
    on_one_and_two_threads(equals_ark_poly::<Goldilocks>);
}

#[test]
fn unscaled_inverses_undo_and_leave_the_size() {
    let mut random = Random::from_env();
    let domain = domain::<Bn254>(11);
    let values = random.elements::<Bn254>(domain.size());
    let scaled: Vec<_> = values.iter().map(|v| *v * Bn254::from(2048)).collect();
    let there = apply(&values, |v| domain.dif(v));
    assert_eq!(apply(&there, |v| domain.dit_inverse(v)), scaled);
    let back = apply(&values, |v| domain.dif_inverse(v));
    assert_eq!(apply(&back, |v| domain.dit(v)), scaled);
}

#[test]
fn bit_reverse_moves_each_entry_to_its_place() {
    on_one_and_two_threads(|| {
        for log_n in 0..=16 {
            let values: Vec<u32> = (0..1 << log_n).collect();
            assert_eq!(apply(&values, bit_reverse), reversed(&values), "2^{log_n}");
        }
    });
}

#[test]
fn scaling_multiplies_by_powers_in_both_orders() {
    let mut random = Random::from_env();
    for base in [random.element(), Goldilocks::ONE, Goldilocks::ZERO] {
        for factor in [random.element(), Goldilocks::ONE] {
            for log_n in 0..=10 {
                let values = random.elements::<Goldilocks>(1 << log_n);
                let mut expected = values.clone();
                for (i, value) in expected.iter_mut().enumerate() {
                    *value *= factor * base.pow([i as u64]);
                }
                let mut natural = values.clone();
                scale_powers(&mut natural, factor, base);
                assert_eq!(natural, expected, "2^{log_n}");
                let bits =
                    apply(&reversed(&values), |v| scale_powers_bit_reversed(v, factor, base));
                assert_eq!(bits, reversed(&expected), "2^{log_n}");
            }
        }
    }
    let mut values = vec![Goldilocks::ONE; 100];
    scale_powers(&mut values, Goldilocks::ONE, Goldilocks::from(3));
    assert_eq!(values[99], Goldilocks::from(3).pow([99]));
}

#[test]
fn twiddles_are_powers_of_the_root_in_bit_reversed_order() {
    for log_n in 0..=9 {
        let domain = domain::<Goldilocks>(log_n);
        let root = domain.root();
        let table = domain.into_twiddles();
        assert_eq!(table.len(), twiddle_len(log_n));
        for (j, twiddle) in table.iter().enumerate() {
            let power = reverse_bits(j, log_n.saturating_sub(1));
            assert_eq!(*twiddle, root.pow([power as u64]), "2^{log_n} at {j}");
        }
    }
}

#[test]
fn wrong_sizes_and_offsets_are_errors_that_leave_the_values() {
    let error = Radix2::<Goldilocks, _>::new(33, vec![]).unwrap_err();
    assert_eq!(error, NttError::LogSize { log_n: 33, log_n_max: 32 });
    assert_eq!(
        error.to_string(),
        "log_n = 33 is too large: the field allows at most 32; \
         split the circuit or use a field of higher two-adicity"
    );
    assert!(Radix2::<ark_bn254::Fq, _>::new(2, vec![ark_bn254::Fq::ZERO; 2]).is_err());
    assert!(Radix2::<Bn254, _>::new(u32::MAX, vec![]).is_err());
    let error = Radix2::new(3, vec![Bn254::ZERO; 5]).unwrap_err();
    assert_eq!(error, NttError::TwiddleLength { expected: 4, found: 5 });

    let domain = domain::<Bn254>(3);
    let one = Bn254::ONE;
    for len in [0, 1, 7, 9, 16] {
        let mut values = vec![one; len];
        let expected = Err(NttError::ValuesLength { expected: 8, found: len });
        assert_eq!(domain.dif(&mut values), expected);
        assert_eq!(domain.dif_inverse(&mut values), expected);
        assert_eq!(domain.dit(&mut values), expected);
        assert_eq!(domain.dit_inverse(&mut values), expected);
        assert_eq!(domain.fft(&mut values), expected);
        assert_eq!(domain.ifft(&mut values), expected);
        assert_eq!(domain.coset_fft(&mut values, one), expected);
        assert_eq!(domain.coset_ifft(&mut values, one), expected);
        assert_eq!(domain.shift_to_coset(&mut values, one), expected);
        assert_eq!(values, vec![one; len]);
    }
    let mut values = vec![one; 8];
    assert_eq!(domain.coset_fft(&mut values, Bn254::ZERO), Err(NttError::ZeroOffset));
    assert_eq!(domain.coset_ifft(&mut values, Bn254::ZERO), Err(NttError::ZeroOffset));
    assert_eq!(domain.shift_to_coset(&mut values, Bn254::ZERO), Err(NttError::ZeroOffset));
    assert_eq!(values, vec![one; 8]);
    for len in [0, 3, 12] {
        let mut values = vec![one; len];
        let expected = Err(NttError::NotPowerOfTwo { found: len });
        assert_eq!(bit_reverse(&mut values), expected);
        assert_eq!(scale_powers_bit_reversed(&mut values, one, one), expected);
    }
}

#[test]
fn table_length_is_half_the_domain_and_at_least_one() {
    assert_eq!([0, 1, 2, 3, 20].map(twiddle_len), [1, 1, 2, 4, 1 << 19]);
    assert_eq!(twiddle_len(u32::MAX), usize::MAX);
}

#[test]
fn debug_shows_the_size_and_no_element() {
    assert_eq!(format!("{:?}", domain::<Bn254>(4)), "Radix2 { log_n: 4, .. }");
}
