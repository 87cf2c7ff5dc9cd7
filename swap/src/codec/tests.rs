//! Every byte comes back; columns shrink as promised; damage is an error.
//!
//! `SEED=` replays a failed run of the seeded tests.

use ark_bn254::Fr;
use ark_ff::{BigInteger, Field, Fp, PrimeField};
use proptest::prelude::*;
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::field::{BABY_BEAR, BLS12_381_FR, BN254_FR, Field32Spec, FieldSpec, KOALA_BEAR};
use super::*;

const LANES: usize = 1 << 14;

fn seed() -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    println!("SEED={seed}");
    seed
}

fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed())
}

fn bn254() -> LaneSpec {
    LaneSpec::Field256(FieldSpec::new(BN254_FR).unwrap())
}

fn specs() -> Vec<LaneSpec> {
    vec![
        LaneSpec::Bytes,
        LaneSpec::U8,
        LaneSpec::U16,
        LaneSpec::U32,
        LaneSpec::U64,
        LaneSpec::U256,
        LaneSpec::Field32(Field32Spec::new(BABY_BEAR).unwrap()),
        LaneSpec::Field32(Field32Spec::new(KOALA_BEAR).unwrap()),
        bn254(),
        LaneSpec::Field256(FieldSpec::new(BLS12_381_FR).unwrap()),
        LaneSpec::Field256(FieldSpec::new([3, 0, 0, 0]).unwrap()),
        LaneSpec::Field256(FieldSpec::new([u64::MAX, u64::MAX, u64::MAX, u64::MAX >> 1]).unwrap()),
    ]
}

/// Montgomery lanes of these values, as ark-ff keeps them.
fn column(values: impl Iterator<Item = Fr>) -> Vec<u8> {
    values.flat_map(|Fp(lane, _)| lane.to_bytes_le()).collect()
}

/// Round trip; the codec and raw bytes for each payload byte.
fn round_trip(spec: LaneSpec, input: &[u8]) -> (CodecId, f64) {
    let mut scratch = vec![0xaa; 3];
    let encoded = encode(spec, input, &mut scratch);
    assert!(encoded.payload().len() <= input.len(), "{encoded:?} of {}", input.len());
    let mut back = vec![0x55; input.len()];
    decode(encoded.codec(), encoded.payload(), &mut back).unwrap();
    assert!(back == input, "{encoded:?} of {} bytes came back changed", input.len());
    (encoded.codec(), input.len() as f64 / encoded.payload().len().max(1) as f64)
}

/// A column of `LANES` elements has at least this ratio.
fn assert_ratio(name: &str, values: impl FnMut(u64) -> Fr, codec: CodecId, ratio_min: f64) {
    let (found, ratio) = round_trip(bn254(), &column((0..LANES as u64).map(values)));
    println!("{name}: {found:?} {ratio:.1}");
    assert_eq!(found, codec, "{name}");
    assert!(ratio >= ratio_min, "{name}: {ratio}");
}

#[test]
fn columns_of_a_witness_shrink() {
    let mut rng = rng();
    let mut draw = move || rng.next_u64();
    assert_ratio("zero", |_| Fr::from(0), CodecId::Constant, 500_000.0);
    assert_ratio("constant", |_| Fr::from(-3), CodecId::Constant, 16_000.0);
    assert_ratio("bits", |_| Fr::from(draw() & 1), CodecId::Packed, 200.0);
    assert_ratio("bytes", |_| Fr::from(draw() as u8), CodecId::Packed, 31.0);
    assert_ratio("u16", |_| Fr::from(draw() as u16), CodecId::Packed, 15.0);
    assert_ratio("u32", |_| Fr::from(draw() as u32), CodecId::Packed, 7.9);
    assert_ratio("u64", |_| Fr::from(draw()), CodecId::Packed, 3.9);
    let wide = |_| Fr::from(u128::from(draw()) << 64 | u128::from(draw()));
    assert_ratio("u128", wide, CodecId::Packed, 1.9);
    assert_ratio("counter", |row| Fr::from((1 << 40) + row), CodecId::Packed, 24.0);
    let padded = |row| Fr::from(if row < 2048 { draw() & 1 } else { 77 });
    assert_ratio("padded", padded, CodecId::Packed, 600.0);
    let rare = |row| if row % 128 == 5 { Fr::from(draw()).pow([5]) } else { Fr::from(row & 1) };
    assert_ratio("bits, 1 in 128 uniform", rare, CodecId::Packed, 70.0);
    let half = |row| Fr::from(draw()).pow([if row < LANES as u64 / 2 { 5 } else { 0 }]);
    assert_ratio("half uniform", half, CodecId::Packed, 1.9);
    assert_ratio("uniform", |_| Fr::from(draw()).pow([5]), CodecId::Raw, 1.0);
    let few: Vec<Fr> = (0..16).map(|_| Fr::from(draw()).pow([5])).collect();
    assert_ratio("16 large values", |_| few[draw() as usize % 16], CodecId::Lz4, 5.0);
}

#[test]
fn raw_is_the_input_itself() {
    let mut input = vec![0; 64 << 10];
    rng().fill_bytes(&mut input);
    let mut scratch = Vec::new();
    let encoded = encode(bn254(), &input, &mut scratch);
    assert_eq!((encoded.codec(), encoded.payload().as_ptr()), (CodecId::Raw, input.as_ptr()));
}

/// A vector of several pieces is looked at once: what packs in a fourteenth of it must be seen.
#[test]
fn uniform_is_what_packs_nowhere() {
    let mut rng = rng();
    let mut draw = || Fr::from(rng.next_u64()).pow([5]);
    let uniform = column((0..1 << 17).map(|_| draw()));
    let (len, run) = (uniform.len(), uniform.len().div_ceil(14) / 32 * 32);
    let bits = column((0..run as u64 / 32).map(|row| Fr::from(row & 1)));
    for spec in [bn254(), LaneSpec::Bytes, LaneSpec::U32] {
        assert!(is_uniform(spec, &uniform), "{spec:?}");
        assert!(is_uniform(spec, &[&uniform[..], &uniform[32..len - 12]].concat()), "{spec:?}");
    }
    let patched = |run: &[u8], at: usize| {
        let mut input = uniform.clone();
        input[at..at + run.len()].copy_from_slice(run);
        !is_uniform(bn254(), &input)
    };
    for at in (0..len - run).step_by(run / 5 / 32 * 32).chain([len - run]) {
        assert!(patched(&bits, at) && patched(&vec![0; run], at), "packs from {at} on");
    }
    let second = [&uniform[..], &bits, &uniform[run..]].concat();
    assert!(!is_uniform(bn254(), &second), "the second 4 MiB have a run");
    let few: Vec<Fr> = (0..16).map(|_| draw()).collect();
    let again = column((0..1usize << 17).map(|row| few[row * row / 7 % 16]));
    assert!(!is_uniform(bn254(), &again), "values that come again");
}

#[test]
fn small_lanes_and_unknown_bytes_shrink() {
    let mut rng = rng();
    for (modulus, name) in [(BABY_BEAR, "BabyBear"), (KOALA_BEAR, "KoalaBear")] {
        let field = Field32Spec::new(modulus).unwrap();
        for (bits, ratio_min) in [(1, 29.0), (8, 3.9), (16, 1.9)] {
            let mut draw = || field.enter(rng.next_u32() >> (32 - bits));
            let input: Vec<u8> = (0..LANES).flat_map(|_| draw().to_le_bytes()).collect();
            let (codec, ratio) = round_trip(LaneSpec::Field32(field), &input);
            assert!(codec == CodecId::Packed && ratio >= ratio_min, "{name} {bits}: {ratio}");
        }
    }
    for (spec, bits, ratio_min) in [
        (LaneSpec::U8, 1, 7.3),
        (LaneSpec::U8, 4, 1.9),
        (LaneSpec::U16, 1, 14.6),
        (LaneSpec::U16, 9, 1.7),
        (LaneSpec::U256, 1, 230.0),
        (LaneSpec::U256, 40, 6.3),
    ] {
        let lane_bytes = spec.lane_bytes();
        let mut draw = || (rng.next_u64() >> (64 - bits)).to_le_bytes();
        let lane = |bytes: [u8; 8]| (0..lane_bytes).map(move |at| *bytes.get(at).unwrap_or(&0));
        let input: Vec<u8> = (0..LANES).flat_map(|_| lane(draw())).collect();
        let (codec, ratio) = round_trip(spec, &input);
        assert!(codec == CodecId::Packed && ratio >= ratio_min, "{spec:?} {bits}: {ratio}");
    }
    let offsets: Vec<u8> = (0..LANES).flat_map(|i| (7 * i + (1 << 50)).to_le_bytes()).collect();
    assert!(round_trip(LaneSpec::U64, &offsets).1 > 4.5);
    let text = b"one vector, two vectors, three vectors and more; ".repeat(4000);
    let (codec, ratio) = round_trip(LaneSpec::Bytes, &text);
    assert!(codec == CodecId::Lz4 && ratio > 20.0, "{codec:?} {ratio}");
    let floats: Vec<u8> =
        (0..LANES).flat_map(|i| (1.0 + (i as f64).sqrt()).to_le_bytes()).collect();
    assert!(round_trip(LaneSpec::Bytes, &floats).1 > 1.1);
}

#[test]
fn montgomery_form_is_ark_ffs() {
    let field = FieldSpec::new(BN254_FR).unwrap();
    let mut rng = rng();
    for round in 0..4000 {
        let limbs: [u64; 4] = std::array::from_fn(|limb| {
            if limb < round % 5 { rng.next_u64() >> rng.gen_range(0..64) } else { 0 }
        });
        let bytes: Vec<u8> = limbs.iter().flat_map(|limb| limb.to_le_bytes()).collect();
        let element = Fr::from_le_bytes_mod_order(&bytes);
        let (lane, value) = (element.0.0, element.into_bigint().0);
        assert_eq!(field.leave(lane), value);
        assert_eq!(field.enter(value), lane);
        assert_eq!(field.enter(limbs), lane, "a value of 256 bits");
        assert_eq!(field.enter_small(limbs[0]), Fr::from(limbs[0]).0.0);
    }
}

/// `lane + modulus`, if four limbs hold it: the same element, another lane.
fn not_canonical(field: &FieldSpec, lane: [u64; 4]) -> Option<[u64; 4]> {
    let mut carry = false;
    let limbs = std::array::from_fn(|i| {
        let (sum, over) = lane[i].overflowing_add(field.modulus()[i]);
        let (sum, over_again) = sum.overflowing_add(u64::from(carry));
        carry = over | over_again;
        sum
    });
    (!carry).then_some(limbs)
}

#[test]
fn the_short_way_finds_what_the_long_way_does() {
    let mut rng = rng();
    let moduli = [
        BN254_FR,
        BLS12_381_FR,
        [u64::MAX, u64::MAX, u64::MAX, u64::MAX >> 1],
        [u64::MAX, 0, 0, 0],
    ];
    for field in moduli.map(|modulus| FieldSpec::new(modulus).unwrap()) {
        let mut found = [false; 65];
        for round in 0..20_000 {
            let bits = round % 65;
            let value = rng.next_u64().checked_shr(64 - bits).unwrap_or(0);
            let lane = field.enter_small(value);
            if let Some(short) = field.leave_small(lane) {
                assert_eq!(([short, 0, 0, 0], field.enter_small(short)), (field.leave(lane), lane));
                found[bits as usize] = true;
            }
            let other = not_canonical(&field, lane);
            assert_eq!(other.and_then(|lane| field.leave_small(lane)), None, "{other:?}");
            let any: [u64; 4] = std::array::from_fn(|_| rng.next_u64());
            assert!(field.leave_small(any).is_none_or(|value| field.enter_small(value) == any));
        }
        if field.modulus() == BN254_FR {
            assert!(found[..=61].iter().all(|found| *found), "{found:?}");
        }
    }
}

#[test]
fn all_lanes_at_once_are_as_one_by_one() {
    let mut rng = rng();
    for modulus in [3, BABY_BEAR, KOALA_BEAR, (1 << 31) - 1] {
        let field = Field32Spec::new(modulus).unwrap();
        for round in 0..2000 {
            let lanes: [u32; 9] = std::array::from_fn(|_| rng.gen_range(0..modulus));
            let lanes = lanes.map(|lane| if round % 9 == 0 { lane | 1 << 31 } else { lane });
            let bytes: Vec<u8> = lanes.iter().flat_map(|lane| lane.to_le_bytes()).collect();
            let mut values = [0; 9];
            let canonical = field.leave_all(&bytes, &mut values);
            assert_eq!(values, lanes.map(|lane| u64::from(field.leave(lane))));
            assert_eq!(
                canonical,
                lanes.iter().all(|lane| field.enter(field.leave(*lane)) == *lane)
            );
        }
    }
}

#[test]
fn every_width_comes_back() {
    let mut rng = rng();
    for width in 1..=64 {
        for lanes in [1100, 2048] {
            let mut draw = || (rng.next_u64() >> (64 - width)).wrapping_add(7);
            let input: Vec<u8> = (0..lanes).flat_map(|_| draw().to_le_bytes()).collect();
            round_trip(LaneSpec::U64, &input);
        }
    }
}

#[test]
fn lanes_that_are_not_canonical_come_back() {
    let mut rng = rng();
    for spec in specs() {
        let mut input: Vec<u8> = match spec {
            LaneSpec::Field256(field) => (0..3000u64)
                .flat_map(|row| field.enter([row % 2, 0, 0, 0]))
                .flat_map(u64::to_le_bytes)
                .collect(),
            LaneSpec::Field32(field) => {
                (0..24_000).flat_map(|row| field.enter(row % 2).to_le_bytes()).collect()
            }
            LaneSpec::U8 => (0..24_000).map(|row| row as u8 % 2).collect(),
            LaneSpec::U256 => {
                (0..3000u64).flat_map(|row| [row % 2, 0, 0, 0]).flat_map(u64::to_le_bytes).collect()
            }
            _ => (0..24_000u64).flat_map(|row| (row as u32 % 2).to_le_bytes()).collect(),
        };
        let modulus = match spec {
            LaneSpec::Field256(field) => {
                field.modulus().iter().flat_map(|l| l.to_le_bytes()).collect()
            }
            LaneSpec::Field32(field) => field.modulus().to_le_bytes().to_vec(),
            _ => vec![0xff; spec.lane_bytes()],
        };
        for _ in 0..40 {
            let lane = rng.gen_range(0..input.len() / spec.lane_bytes()) * spec.lane_bytes();
            let slot = &mut input[lane..lane + spec.lane_bytes()];
            match rng.gen_range(0..3) {
                0 => slot.copy_from_slice(&modulus),
                1 => slot.fill(0xff),
                _ => {
                    slot.copy_from_slice(&modulus);
                    slot[0] = slot[0].wrapping_add(1);
                }
            }
        }
        assert_eq!(round_trip(spec, &input).0, CodecId::Packed, "{spec:?}");
    }
}

#[test]
fn every_length_comes_back() {
    let mut rng = rng();
    for spec in specs() {
        for length in (0..200).chain([1023, 1025, 4099, 32_768, 32_769, 65_535, 65_537, 70_001]) {
            for fill in 0..4 {
                let mut input = vec![0; length];
                match fill {
                    0 => {}
                    1 => input.fill(0x11),
                    2 => rng.fill_bytes(&mut input),
                    _ => input.iter_mut().step_by(8).for_each(|byte| *byte = rng.r#gen()),
                }
                round_trip(spec, &input);
            }
        }
    }
}

#[test]
fn moduli_that_break_the_arithmetic_are_refused() {
    for modulus in [[0; 4], [1, 0, 0, 0], [2, 0, 0, 1], [1, 0, 0, 1 << 63]] {
        assert!(matches!(FieldSpec::new(modulus), Err(Error::Modulus { .. })), "{modulus:?}");
    }
    for modulus in [0, 1, 4, 0x8000_0001] {
        assert!(matches!(Field32Spec::new(modulus), Err(Error::Modulus { .. })), "{modulus}");
    }
}

#[test]
fn damaged_payloads_never_panic() {
    let mut rng = rng();
    for spec in specs() {
        let mut input = vec![0u8; 40_000];
        input.iter_mut().step_by(spec.lane_bytes()).for_each(|byte| *byte = rng.gen_range(0..3));
        for codec in [CodecId::Packed, CodecId::Lz4] {
            let mut good = Vec::new();
            match codec {
                CodecId::Packed => pack_lanes(spec, &input, usize::MAX, &mut good),
                _ => shuffle::pack(spec.lane_bytes(), &input, usize::MAX, &mut good),
            };
            let mut out = vec![0; input.len()];
            for _ in 0..300 {
                let mut payload = good.clone();
                for _ in 0..rng.gen_range(1..4) {
                    let at = rng.gen_range(0..payload.len());
                    payload[at] ^= 1 << rng.gen_range(0..8);
                }
                let kept =
                    if rng.r#gen() { payload.len() } else { rng.gen_range(0..payload.len()) };
                let _ = decode(codec, &payload[..kept], &mut out);
            }
            decode(codec, &good, &mut out).unwrap();
            assert!(out == input);
            for cut in [1, good.len() / 2, good.len() - 1] {
                assert!(decode(codec, &good[..cut], &mut out).is_err());
            }
        }
    }
}

#[test]
fn debug_shows_no_data() {
    let input = [0x5a; 32].repeat(9);
    let mut scratch = Vec::new();
    let shown = format!("{:?}", encode(LaneSpec::Bytes, &input, &mut scratch));
    assert_eq!(shown, "Encoded { codec: Constant, payload_bytes: 32 }");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn arbitrary_bytes_come_back(
        input in prop::collection::vec(any::<u8>(), 0..5000),
        repeats in 1usize..20,
        which in 0usize..12,
    ) {
        round_trip(specs()[which], &input.repeat(repeats));
    }

    #[test]
    fn sparse_bytes_come_back(
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..200),
        length in 1usize..100_000,
        which in 0usize..12,
    ) {
        let mut input = vec![0; length];
        places.iter().for_each(|(place, byte)| input[place.index(length)] = *byte);
        round_trip(specs()[which], &input);
    }

    #[test]
    fn arbitrary_payloads_never_panic(
        payload in prop::collection::vec(any::<u8>(), 0..3000),
        codec in 0u8..4,
        kind in 0u8..8,
        length in 0usize..100_000,
    ) {
        let mut out = vec![0; length];
        let codec = CodecId::try_from(codec).unwrap();
        let _ = decode(codec, &payload, &mut out);
        let mut payload = payload;
        payload.insert(0, kind);
        let _ = decode(codec, &payload, &mut out);
    }
}
