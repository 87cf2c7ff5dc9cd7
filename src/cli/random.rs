//! Randomness of a command, which leaves nothing of its state behind.
//!
//! ```text
//!   --seed N  or  the operating system  ->  ChaCha20  ->  secret, r, s, or a key's randomness
//!                                              \-> overwritten when dropped
//! ```
//!
//! Who finds the state of the generator can draw r and s again and learn the witness, or forge
//! proofs with the key. `rand_chacha` 0.3 does not wipe it. Drop puts a generator of a known seed
//! in its place, buffer included, and has the compiler believe that somebody looks.
//!
//! Must never: be copied, cloned or moved once something was drawn.

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

/// A generator. Drop overwrites its state.
pub(super) struct Random(ChaCha20Rng);

impl Random {
    /// From a seed, for tests, or from the operating system.
    pub(super) fn new(seed: Option<u64>) -> Self {
        Self(match seed {
            Some(seed) => ChaCha20Rng::seed_from_u64(seed),
            None => ChaCha20Rng::from_entropy(),
        })
    }

    pub(super) fn rng(&mut self) -> &mut ChaCha20Rng {
        &mut self.0
    }

    /// Overwrites the state: for as soon as nothing more is drawn.
    pub(super) fn wipe(&mut self) {
        self.0 = ChaCha20Rng::from_seed([0; 32]);
        std::hint::black_box(&mut self.0);
    }
}

impl Drop for Random {
    fn drop(&mut self) {
        self.wipe();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngCore;

    #[test]
    fn what_is_drawn_after_wiping_does_not_depend_on_the_seed() {
        let known = ChaCha20Rng::from_seed([0; 32]);
        let mut random = Random::new(Some(7));
        let drawn = random.rng().next_u64();
        assert_ne!(*random.rng(), known);
        random.wipe();
        assert_eq!(*random.rng(), known);
        assert_eq!(Random::new(Some(7)).rng().next_u64(), drawn, "a seed gives the same again");
    }
}
