//! p3-uni-stark over BabyBear, hashing with Keccak, with three AIRs.
//!
//! | AIR | columns | blow-up | bytes of a row |
//! |---|---|---|---|
//! | Keccak-f | 2633 | 2 | 10 500 |
//! | BLAKE3 | about 9 000 | 2 | 37 000 |
//! | cubes: `x_j' = x_j^3 + x_(j+1)` | 32 | 8 | 128 |
//!
//! The configuration is that of Plonky3's own example for the Keccak AIR, on a 31-bit field with an
//! extension of degree 4. The trace is made inside the proof, as a prover's user does.

use p3_air::{Air, AirBuilder, BaseAir, WindowAccess};
use p3_baby_bear::BabyBear;
use p3_blake3_air::Blake3Air;
use p3_challenger::{HashChallenger, SerializingChallenger32};
use p3_commit::ExtensionMmcs;
use p3_dft::Radix2DitParallel;
use p3_field::PrimeCharacteristicRing;
use p3_field::extension::BinomialExtensionField;
use p3_fri::{FriParameters, TwoAdicFriPcs};
use p3_keccak::{Keccak256Hash, KeccakF, VECTOR_LEN};
use p3_keccak_air::{KeccakAir, NUM_ROUNDS};
use p3_matrix::dense::RowMajorMatrix;
use p3_merkle_tree::MerkleTreeMmcs;
use p3_symmetric::{CompressionFunctionFromHasher, PaddingFreeSponge, SerializingHasher};
use p3_uni_stark::{Proof, StarkConfig, prove, verify};

type Challenge = BinomialExtensionField<BabyBear, 4>;
type Sponge = PaddingFreeSponge<KeccakF, 25, 17, 4>;
type Leaf = SerializingHasher<Sponge>;
type Node = CompressionFunctionFromHasher<Sponge, 2, 4>;
type Tree = MerkleTreeMmcs<[BabyBear; VECTOR_LEN], [u64; VECTOR_LEN], Leaf, Node, 2, 4>;
type ChallengeTree = ExtensionMmcs<BabyBear, Challenge, Tree>;
type Dft = Radix2DitParallel<BabyBear>;
type Pcs = TwoAdicFriPcs<BabyBear, Dft, Tree, ChallengeTree>;
type Challenger = SerializingChallenger32<BabyBear, HashChallenger<u8, Keccak256Hash, 32>>;
type Config = StarkConfig<Pcs, Challenge, Challenger>;

/// Columns of the narrow AIR.
const NARROW: usize = 32;

/// What is proved.
pub(super) enum Input {
    Keccak(Vec<[u64; 25]>),
    Blake3(Vec<[u32; 24]>),
    /// Rows of the narrow AIR.
    Cubes(usize),
}

fn config(log_blowup: Option<usize>) -> (Config, usize) {
    let sponge = Sponge::new(KeccakF {});
    let tree = Tree::new(Leaf::new(sponge), Node::new(sponge), 3);
    let mut fri = FriParameters::new_benchmark(ChallengeTree::new(tree.clone()));
    // Threads race for the proof of work, and any winner's will do: without it the proof is the
    // same every time.
    fri.query_proof_of_work_bits = 0;
    fri.log_blowup = log_blowup.unwrap_or(fri.log_blowup);
    let log_blowup = fri.log_blowup;
    let pcs = Pcs::new(Dft::default(), tree, fri);
    (Config::new(pcs, Challenger::from_hasher(vec![], Keccak256Hash {})), log_blowup)
}

/// Words that repeat after a long time.
fn words() -> impl FnMut() -> u64 {
    let mut word = 0u64;
    move || {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        word.rotate_left(23)
    }
}

impl Input {
    /// Keccak-f permutations of 24 rows each.
    pub(super) fn keccak(log_size: u32) -> Self {
        let mut next = words();
        let count = (1usize << log_size) / NUM_ROUNDS;
        Self::Keccak((0..count).map(|_| std::array::from_fn(|_| next())).collect())
    }

    /// BLAKE3 compressions of a row each.
    pub(super) fn blake3(log_size: u32) -> Self {
        let mut next = words();
        let count = 1usize << log_size;
        Self::Blake3((0..count).map(|_| std::array::from_fn(|_| next() as u32)).collect())
    }

    /// Rows of 32 elements.
    pub(super) fn cubes(log_size: u32) -> Self {
        Self::Cubes(1 << log_size)
    }

    fn config(&self) -> (Config, usize) {
        config(matches!(self, Self::Cubes(_)).then_some(3))
    }

    pub(super) fn prove(&self, bytes: &mut Vec<u8>) {
        let (config, log_blowup) = self.config();
        let proof = match self {
            Self::Keccak(inputs) => {
                let trace = p3_keccak_air::generate_trace_rows(inputs.clone(), log_blowup);
                prove(&config, &KeccakAir {}, trace, &[])
            }
            Self::Blake3(inputs) => {
                let trace = p3_blake3_air::generate_trace_rows(inputs.clone(), log_blowup);
                prove(&config, &Blake3Air {}, trace, &[])
            }
            Self::Cubes(rows) => prove(&config, &Cubes, Cubes::trace(*rows, log_blowup), &[]),
        };
        bincode::serialize_into(bytes, &proof.expect("a proof")).expect("a vector takes bytes");
    }

    pub(super) fn verify(&self, bytes: &[u8]) -> bool {
        let proof: Proof<Config> = bincode::deserialize(bytes).expect("bytes of a proof");
        let config = self.config().0;
        match self {
            Self::Keccak(_) => verify(&config, &KeccakAir {}, &proof, &[]),
            Self::Blake3(_) => verify(&config, &Blake3Air {}, &proof, &[]),
            Self::Cubes(_) => verify(&config, &Cubes, &proof, &[]),
        }
        .is_ok()
    }
}

/// The narrow AIR.
struct Cubes;

impl Cubes {
    /// A trace with room for its extension.
    fn trace(rows: usize, log_blowup: usize) -> RowMajorMatrix<BabyBear> {
        let mut values = Vec::with_capacity((rows * NARROW) << log_blowup);
        let mut next = words();
        values.extend((0..NARROW).map(|_| BabyBear::from_u64(next())));
        for row in 1..rows {
            let before = (row - 1) * NARROW;
            for column in 0..NARROW {
                let x: BabyBear = values[before + column];
                values.push(x.cube() + values[before + (column + 1) % NARROW]);
            }
        }
        RowMajorMatrix::new(values, NARROW)
    }
}

impl<F> BaseAir<F> for Cubes {
    fn width(&self) -> usize {
        NARROW
    }
}

impl<AB: AirBuilder> Air<AB> for Cubes {
    fn eval(&self, builder: &mut AB) {
        let main = builder.main();
        let (row, next) = (main.current_slice(), main.next_slice());
        let mut transition = builder.when_transition();
        for column in 0..NARROW {
            let x: AB::Expr = row[column].into();
            transition.assert_eq(x.cube() + row[(column + 1) % NARROW].into(), next[column]);
        }
    }
}
