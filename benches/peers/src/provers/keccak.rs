//! p3-uni-stark with the Keccak AIR over BabyBear, hashing with Keccak.
//!
//! The configuration is that of Plonky3's own example for this AIR, on a 31-bit field with an
//! extension of degree 4. The trace is made inside the proof, as a prover's user does.

use p3_baby_bear::BabyBear;
use p3_challenger::{HashChallenger, SerializingChallenger32};
use p3_commit::ExtensionMmcs;
use p3_dft::Radix2DitParallel;
use p3_field::extension::BinomialExtensionField;
use p3_fri::{FriParameters, TwoAdicFriPcs};
use p3_keccak::{Keccak256Hash, KeccakF, VECTOR_LEN};
use p3_keccak_air::{KeccakAir, NUM_ROUNDS, generate_trace_rows};
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

pub(super) struct Input {
    permutations: Vec<[u64; 25]>,
}

fn config() -> (Config, usize) {
    let sponge = Sponge::new(KeccakF {});
    let tree = Tree::new(Leaf::new(sponge), Node::new(sponge), 3);
    let mut fri = FriParameters::new_benchmark(ChallengeTree::new(tree.clone()));
    // Threads race for the proof of work, and any winner's will do: without it the proof is the
    // same every time.
    fri.query_proof_of_work_bits = 0;
    let log_blowup = fri.log_blowup;
    let pcs = Pcs::new(Dft::default(), tree, fri);
    (Config::new(pcs, Challenger::from_hasher(vec![], Keccak256Hash {})), log_blowup)
}

impl Input {
    pub(super) fn new(log_size: u32) -> Self {
        let mut word = 0u64;
        let mut next = || {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            word.rotate_left(23)
        };
        let count = (1usize << log_size) / NUM_ROUNDS;
        Self { permutations: (0..count).map(|_| std::array::from_fn(|_| next())).collect() }
    }

    pub(super) fn prove(&self, bytes: &mut Vec<u8>) {
        let (config, log_blowup) = config();
        let trace = generate_trace_rows::<BabyBear>(self.permutations.clone(), log_blowup);
        let proof = prove(&config, &KeccakAir {}, trace, &[]).expect("a proof");
        bincode::serialize_into(bytes, &proof).expect("a vector takes bytes");
    }

    pub(super) fn verify(&self, bytes: &[u8]) -> bool {
        let proof: Proof<Config> = bincode::deserialize(bytes).expect("bytes of a proof");
        verify(&config().0, &KeccakAir {}, &proof, &[]).is_ok()
    }
}
