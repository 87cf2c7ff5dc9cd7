//! Encryption of what goes to the file, with a key that only this process ever has.
//!
//! A sealed frame is AES-256-GCM over the whole frame, header and padding included, in place. The
//! key is drawn from the kernel when the store is made and wiped when it goes; nonces count up, so
//! none is used twice under a key. Nonce and tag stay in memory beside the frame's place: the file
//! holds ciphertext and nothing else, and a frame that was changed, moved or replaced is refused.
//!
//! AES-GCM because the processors that provers run on have instructions for it.
//!
//! Source: NIST SP 800-38D.

use crate::Error;
use crate::error::corrupt;
use aes_gcm::aead::{AeadInPlace, KeyInit, OsRng};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use std::sync::atomic::{AtomicU64, Ordering};

/// Nonce and tag of one sealed frame.
#[derive(Clone, Copy)]
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
    pub(crate) fn draw() -> Self {
        Self { cipher: Aes256Gcm::new(&Aes256Gcm::generate_key(OsRng)), count: AtomicU64::new(0) }
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
