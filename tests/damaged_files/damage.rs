//! Good files and the damage that is done to them; see `../damaged_files.rs`.

use std::fs;
use std::ops::Range;
use std::path::Path;

use super::packed;
use ark_bn254::{Bn254, Fr};
use ark_groth16::Groth16;
use ark_relations::gr1cs::{ConstraintSynthesizer, ConstraintSystemRef, SynthesisError};
use ark_relations::lc;
use ark_serialize::CanonicalSerialize;
use ark_std::rand::SeedableRng;
use ark_std::rand::rngs::StdRng;

/// Steele and others' splitmix64: the whole state is a seed that fits into a message.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `limit`, which is not 0.
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Format {
    Zkey,
    Wtns,
    /// A witness as JSON.
    Json,
    R1cs,
    Arkworks,
    /// A packed witness.
    Packed,
}

/// A good file and where its parts are.
pub(crate) struct Good {
    /// Its format.
    pub(crate) format: Format,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// Offset and length of each count, size, id or other number in the headers.
    numbers: Vec<(usize, usize)>,
    /// Offset of each 32-byte modulus.
    primes: Vec<usize>,
    /// The first and last record of each vector, and each single point.
    records: Vec<Range<usize>>,
    /// The bytes of each section, its head included; empty for arkworks.
    sections: Vec<Range<usize>>,
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

/// A good file of iden3's container.
fn container(format: Format, bytes: Vec<u8>) -> Good {
    let (mut sections, mut primes, mut records) = (Vec::new(), Vec::new(), Vec::new());
    let mut numbers = vec![(0, 4), (4, 4), (8, 4)];
    let mut at = 12;
    while at < bytes.len() {
        let id = bytes[at];
        let body = at + 12;
        let end = body + u64_at(&bytes, at + 4) as usize;
        numbers.extend([(at, 4), (at + 4, 8)]);
        match (format, id) {
            (Format::Zkey, 1) => numbers.push((body, 4)),
            (Format::Zkey, 4) => {
                numbers.extend([body, body + 4, body + 8, body + 12].map(|at| (at, 4)));
                numbers.extend([end - 44, end - 40, end - 36].map(|at| (at, 4)));
                records.extend([body + 16..body + 48, end - 32..end]);
            }
            (Format::Zkey, 2) => {
                numbers.extend([0, 36, 72, 76, 80].map(|offset| (body + offset, 4)));
                primes.extend([body + 4, body + 40]);
                let points = [84..148, 148..212, 212..340, 340..468, 468..532, 532..660];
                records.extend(points.map(|point| body + point.start..body + point.end));
            }
            (Format::Zkey, 7) => records.extend([body..body + 128, end - 128..end]),
            (Format::Zkey, 3..=9) => records.extend([body..body + 64, end - 64..end]),
            (Format::Wtns, 1) => {
                numbers.extend([(body, 4), (body + 36, 4)]);
                primes.push(body + 4);
            }
            (Format::R1cs, 1) => {
                numbers.extend([0, 36, 40, 44, 48, 52, 56, 60].map(|at| (body + at, 4)));
                primes.push(body + 4);
            }
            (Format::R1cs, 2) => {
                numbers.extend([(body, 4), (body + 4, 4), (end - 40, 4), (end - 36, 4)]);
                records.extend([body + 8..body + 40, end - 32..end]);
            }
            (Format::Wtns, 2) => records.extend([body..body + 32, end - 32..end]),
            _ => {}
        }
        sections.push(at..end);
        at = end;
    }
    Good { format, bytes, numbers, primes, records, sections }
}

/// One constraint with a public product, and a few more of the same.
struct Product;

impl ConstraintSynthesizer<Fr> for Product {
    fn generate_constraints(self, cs: ConstraintSystemRef<Fr>) -> Result<(), SynthesisError> {
        let product = cs.new_input_variable(|| Ok(Fr::from(6)))?;
        let a = cs.new_witness_variable(|| Ok(Fr::from(2)))?;
        let b = cs.new_witness_variable(|| Ok(Fr::from(3)))?;
        for _ in 0..3 {
            cs.enforce_r1cs_constraint(|| lc!() + a, || lc!() + b, || lc!() + product)?;
        }
        Ok(())
    }
}

fn arkworks_key() -> Good {
    let mut rng = StdRng::seed_from_u64(1);
    let key =
        Groth16::<Bn254>::generate_random_parameters_with_reduction(Product, &mut rng).unwrap();
    let mut bytes = Vec::new();
    key.serialize_uncompressed(&mut bytes).unwrap();
    let mut records = vec![0..64, 64..192, 192..320, 320..448];
    let mut numbers = Vec::new();
    let mut at = 448;
    let vectors = [
        (key.vk.gamma_abc_g1.len(), 64),
        (key.a_query.len(), 64),
        (key.b_g1_query.len(), 64),
        (key.b_g2_query.len(), 128),
        (key.h_query.len(), 64),
        (key.l_query.len(), 64),
    ];
    for (i, (len, point_bytes)) in vectors.into_iter().enumerate() {
        let end = at + 8 + len * point_bytes;
        numbers.push((at, 8));
        records.extend([at + 8..at + 8 + point_bytes, end - point_bytes..end]);
        at = end;
        if i == 0 {
            records.extend([at..at + 64, at + 64..at + 128]);
            at += 128;
        }
    }
    assert_eq!(at, bytes.len());
    Good {
        format: Format::Arkworks,
        bytes,
        numbers,
        primes: Vec::new(),
        records,
        sections: Vec::new(),
    }
}

/// The witness of `multiplier` in JSON.
fn json() -> Good {
    let values = ["1", "1155", "3", "5", "7", "11", "15", "105"];
    let bytes = serde_json::to_vec(&values).unwrap();
    let quotes: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'"').collect();
    let records = quotes.chunks(2).map(|pair| pair[0] + 1..pair[1]).collect();
    let (numbers, primes, sections) = (Vec::new(), Vec::new(), Vec::new());
    Good { format: Format::Json, bytes, numbers, primes, records, sections }
}

/// The witness of `multiplier`, packed: its frames are the records.
fn packed_witness(wtns: &[u8]) -> Good {
    let bytes = packed::pack(wtns, 8 * 32);
    let (numbers, records) = packed::parts(&bytes);
    let (primes, sections) = (Vec::new(), Vec::new());
    Good { format: Format::Packed, bytes, numbers, primes, records, sections }
}

pub(crate) fn good_files() -> Vec<Good> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/circom");
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    vec![
        container(Format::Zkey, read("multiplier.zkey")),
        container(Format::Zkey, read("publics.zkey")),
        container(Format::Wtns, read("multiplier.wtns")),
        container(Format::Wtns, read("publics.wtns")),
        json(),
        container(Format::R1cs, read("multiplier.r1cs")),
        arkworks_key(),
        packed_witness(&read("multiplier.wtns")),
    ]
}

/// Numbers that have broken readers before.
fn odd_numbers(width: usize, now: u64) -> Vec<u64> {
    let max = u64::MAX >> (64 - 8 * width);
    let mut numbers = vec![0, 1, 2, 48, max, max / 2, max / 2 + 1, max / 64, max / 44 + 1];
    numbers.extend([now.wrapping_add(1), now.wrapping_sub(1), now * 2, now ^ 1 << 20, 1 << 28]);
    numbers.retain(|number| *number <= max && *number != now);
    numbers
}

fn number_at(bytes: &[u8], (at, width): (usize, usize)) -> u64 {
    let mut number = [0; 8];
    number[..width].copy_from_slice(&bytes[at..at + width]);
    u64::from_le_bytes(number)
}

/// Moduli that are not the right one: BLS12-381's r, BN254's own two, zero, and all ones.
const PRIMES: [[u64; 4]; 5] = [
    [0xffff_ffff_0000_0001, 0x53bd_a402_fffe_5bfe, 0x3339_d808_09a1_d805, 0x73ed_a753_299d_7d48],
    [0x43e1_f593_f000_0001, 0x2833_e848_79b9_7091, 0xb850_45b6_8181_585d, 0x3064_4e72_e131_a029],
    [0x3c20_8c16_d87c_fd47, 0x9781_6a91_6871_ca8d, 0xb850_45b6_8181_585d, 0x3064_4e72_e131_a029],
    [0; 4],
    [u64::MAX; 4],
];

fn prime_bytes(prime: [u64; 4]) -> Vec<u8> {
    prime.iter().flat_map(|limb| limb.to_le_bytes()).collect()
}

/// The file again from its sections, `order` being their numbers; the count is made right.
fn reassemble(good: &Good, order: &[usize]) -> Vec<u8> {
    let mut bytes = good.bytes[..8].to_vec();
    bytes.extend((order.len() as u32).to_le_bytes());
    for section in order {
        bytes.extend(&good.bytes[good.sections[*section].clone()]);
    }
    bytes
}

/// A damaged file and what was done to it.
pub(crate) struct Damaged {
    /// What it was before.
    pub(crate) format: Format,
    /// The damaged bytes.
    pub(crate) bytes: Vec<u8>,
    /// What was done, in words.
    pub(crate) what: String,
}

/// An arkworks key with one vector a point shorter, or empty, and its length to match: each
/// vector is right by itself and wrong beside the others.
fn shorter_vectors(good: &Good) -> Vec<(Vec<u8>, String)> {
    let mut all = Vec::new();
    if good.format != Format::Arkworks {
        return all;
    }
    for (i, &(at, _)) in good.numbers.iter().enumerate() {
        let point_bytes = if i == 3 { 128 } else { 64 };
        let len = u64_at(&good.bytes, at) as usize;
        for removed in [1, len] {
            let mut bytes = good.bytes.clone();
            bytes[at..at + 8].copy_from_slice(&((len - removed) as u64).to_le_bytes());
            bytes.drain(at + 8..at + 8 + removed * point_bytes);
            all.push((bytes, format!("vector {i} lost {removed} points")));
        }
    }
    all
}

/// Every field of every file in turn: numbers, moduli, sections, the end of the file.
pub(crate) fn systematic(goods: &[Good]) -> Vec<Damaged> {
    let mut all = Vec::new();
    for good in goods {
        let mut push = |bytes: Vec<u8>, what: String| {
            all.push(Damaged { format: good.format, bytes, what });
        };
        for &(at, width) in &good.numbers {
            for number in odd_numbers(width, number_at(&good.bytes, (at, width))) {
                let mut bytes = good.bytes.clone();
                bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
                if good.format == Format::Packed {
                    let mut sealed = bytes.clone();
                    packed::seal(&mut sealed, &good.records);
                    push(sealed, format!("number at {at} is {number}, sealed"));
                }
                push(bytes, format!("number at {at} is {number}"));
            }
        }
        for &at in &good.primes {
            for prime in PRIMES.map(prime_bytes).iter().filter(|p| good.bytes[at..at + 32] != p[..])
            {
                let mut bytes = good.bytes.clone();
                bytes[at..at + 32].copy_from_slice(prime);
                push(bytes, format!("modulus at {at} is {prime:02x?}"));
            }
        }
        for record in &good.records {
            for fill in [0, 0xff] {
                let mut bytes = good.bytes.clone();
                bytes[record.clone()].fill(fill);
                push(bytes, format!("{record:?} is {fill}"));
            }
            for (at, bit) in [(record.start, 1), (record.end - 1, 0x80), (record.end - 1, 0x40)] {
                let mut bytes = good.bytes.clone();
                bytes[at] ^= bit;
                push(bytes, format!("{bit:#x} of {at} flipped"));
            }
        }
        for (bytes, what) in shorter_vectors(good) {
            push(bytes, what);
        }
        let all_sections: Vec<usize> = (0..good.sections.len()).collect();
        for i in 0..good.sections.len() {
            let mut order = all_sections.clone();
            order.remove(i);
            push(reassemble(good, &order), format!("without section {i}"));
            order = all_sections.clone();
            order.push(i);
            push(reassemble(good, &order), format!("section {i} twice"));
            let Range { start, end } = good.sections[i].clone();
            push(good.bytes[..(start + end) / 2].to_vec(), format!("cut inside section {i}"));
            let mut shorter = good.bytes[..start + 12].to_vec();
            shorter[start + 4..].fill(0);
            shorter.extend(&good.bytes[end..]);
            push(shorter, format!("section {i} is empty"));
        }
        let ends = [good.bytes.len() - 1, good.bytes.len() / 2];
        for len in (0..good.bytes.len().min(64)).chain(ends) {
            push(good.bytes[..len].to_vec(), format!("cut to {len} bytes"));
        }
        let mut longer = good.bytes.clone();
        longer.push(0);
        push(longer, "a byte more".to_owned());
        for other in goods.iter().filter(|other| other.format != good.format) {
            push(other.bytes.clone(), format!("a file of {:?}", other.format));
        }
    }
    all
}

/// One random damage, or a few on top of each other.
pub(crate) fn random(goods: &[Good], rng: &mut Rng) -> Damaged {
    let good = &goods[rng.below(goods.len())];
    let mut bytes = good.bytes.clone();
    let mut what = String::new();
    if !good.sections.is_empty() && rng.below(8) == 0 {
        let mut order: Vec<usize> = (0..good.sections.len()).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, rng.below(i + 1));
        }
        bytes = reassemble(good, &order);
        what += &format!("sections in order {order:?}; ");
    }
    for _ in 0..=rng.below(3) {
        let at = rng.below(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
        if bytes.is_empty() {
            break;
        }
        match rng.below(8) {
            0 => {
                bytes.truncate(at);
                what += &format!("cut to {at}; ");
            }
            1..=4 => {
                let bit = rng.below(8);
                bytes[at] ^= 1 << bit;
                what += &format!("bit {bit} of {at}; ");
            }
            5 | 6 => {
                let end = bytes.len().min(at + 1 + rng.below(100));
                let fill = [0, 0xff, rng.next() as u8][rng.below(3)];
                bytes[at..end].fill(fill);
                what += &format!("{at}..{end} is {fill}; ");
            }
            _ => {
                let end = bytes.len().min(at + 1 + rng.below(100));
                let part = bytes[at..end].to_vec();
                let to = rng.below(bytes.len() - part.len() + 1);
                bytes[to..to + part.len()].copy_from_slice(&part);
                what += &format!("{at}..{end} copied to {to}; ");
            }
        }
    }
    if good.format == Format::Packed && rng.below(4) > 0 {
        packed::seal(&mut bytes, &good.records);
        what += "sealed";
    }
    Damaged { format: good.format, bytes, what }
}
