//! Encryption of what goes to the file, with a key that only this process ever has.
//!
//! Sealing encrypts the whole frame in place with AES-256-GCM, header and padding included. The
//! store draws its key from the kernel at its start. Nonces count up, so none is used twice under a
//! key. Nonce and tag stay in memory beside the frame's place. The file so holds ciphertext and
//! nothing else, and opening fails for a frame that was changed, moved or replaced.
//!
//! AES-GCM because the processors that provers run on have instructions for it.
//!
//! When the store goes, the drawn bytes and the cipher's round keys are wiped. The hash key of
//! GHASH is not on processors with carry-less multiplication, since its crate keeps it in a union
//! that has no drop; it opens nothing, and forging takes the process's own memory anyway.
//!
//! Source: NIST SP 800-38D.

use crate::Error;
use crate::error::corrupt;
use aes_gcm::aead::rand_core::RngCore;
use aes_gcm::aead::{AeadInPlace, KeyInit, OsRng};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use std::sync::atomic::{AtomicU64, Ordering};
use zeroize::Zeroizing;

/// Nonce and tag of one sealed frame.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sealed {
    count: u64,
    tag: Tag,
}

/// The key of one store.
pub(crate) struct Key {
    cipher: Aes256Gcm,
    count: AtomicU64,
}

fn nonce(count: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&count.to_le_bytes());
    nonce
}

impl Key {
    /// Draws a key from the kernel.
    ///
    /// # Errors
    ///
    /// [`Error::NoKey`] if the kernel gives no random bytes.
    pub(crate) fn draw() -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        let drawn = OsRng.try_fill_bytes(&mut *bytes);
        drawn.map_err(|why| Error::NoKey { os_error: why.raw_os_error().unwrap_or(0) })?;
        let cipher = Aes256Gcm::new((&*bytes).into());
        Ok(Self { cipher, count: AtomicU64::new(0) })
    }

    /// Encrypts `frame` in place.
    ///
    /// # Errors
    ///
    /// [`Error::Frame`] for a frame of 64 GiB or more, which the cipher does not take.
    pub(crate) fn seal(&self, frame: &mut [u8]) -> Result<Sealed, Error> {
        // A count is never used twice: 2^64 frames are not written in the life of a process.
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let sealed = self.cipher.encrypt_in_place_detached(&Nonce::from(nonce(count)), &[], frame);
        match sealed {
            Ok(tag) => Ok(Sealed { count, tag }),
            Err(_) => Err(Error::Frame { why: "it is too long to be encrypted" }),
        }
    }

    /// Decrypts `frame` in place.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if any bit of it is not what was sealed.
    pub(crate) fn open(&self, sealed: &Sealed, frame: &mut [u8]) -> Result<(), Error> {
        let nonce = Nonce::from(nonce(sealed.count));
        match self.cipher.decrypt_in_place_detached(&nonce, &[], frame, &sealed.tag) {
            Ok(()) => Ok(()),
            Err(_) => corrupt("an encrypted frame is not what was written"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::ZeroizeOnDrop;

    /// `aes-gcm` does not pass its `zeroize` feature on: without ours this does not compile.
    #[test]
    fn round_keys_are_wiped_when_dropped() {
        fn wiped<T: ZeroizeOnDrop>() {}
        wiped::<aes::Aes256>();
    }

    #[test]
    fn any_bit_of_text_or_tag_and_any_other_nonce_or_key_is_refused() {
        let key = Key::draw().expect("random bytes");
        let plain: Vec<u8> = (0..100).collect();
        let mut frame = plain.clone();
        let sealed = key.seal(&mut frame).expect("short");
        let refused = |key: &Key, sealed: &Sealed, frame: &[u8]| {
            let opened = key.open(sealed, &mut frame.to_vec());
            assert!(matches!(opened, Err(Error::Corrupt { .. })), "{opened:?}");
        };
        for bit in 0..8 * frame.len() {
            let mut frame = frame.clone();
            frame[bit / 8] ^= 1 << (bit % 8);
            refused(&key, &sealed, &frame);
        }
        for bit in 0..128 {
            let mut other = sealed;
            other.tag[bit / 8] ^= 1 << (bit % 8);
            refused(&key, &other, &frame);
        }
        refused(&key, &Sealed { count: sealed.count + 1, ..sealed }, &frame);
        refused(&Key::draw().expect("random bytes"), &sealed, &frame);
        let mut same = plain.clone();
        assert_ne!(key.seal(&mut same).expect("short").count, sealed.count);
        assert_ne!(same, frame, "a nonce was used twice");
        key.open(&sealed, &mut frame).expect("as it was sealed");
        assert_eq!(frame, plain);
    }
}
