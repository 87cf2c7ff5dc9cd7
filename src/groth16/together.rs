//! What the ranks of one proof do together: a prover's side of an exchange.
//!
//! ```text
//!   all       every step whose result decides whether the others go on: all go on, or none
//!   go_on     in a long step: whether to break it off, since another rank has failed
//!   same      keys, versions, assignments: a number that must be the same everywhere
//!   least     the smallest number of all ranks
//!   turn      rows to columns, columns to rows
//!   gather    partial sums to rank 0;  broadcast: the proof to the others
//! ```
//!
//! Alone, each of these is what it is given. So the prover has one text for one rank and for many.
//!
//! Invariant: an error of [`Together::all`] is the same on every rank and names the one that
//! failed, and nothing is exchanged after it.

use crate::Runtime;
use crate::groth16::error::ProveError;
use crate::ranks::{Exchange, ExchangeError, Refusal, RefusalKind, ShareTurn};
use crate::tiles::{Share, Texture, Tiles};
use ark_bn254::Fr;
use plimsoll_arena::sync::unpoisoned;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use zeroize::Zeroizing;

/// The ranks that make one proof, seen from one of them.
pub(crate) struct Together<'a> {
    exchange: Option<Mutex<&'a mut dyn Exchange>>,
    share: Share,
    tile_bytes: AtomicU64,
}

impl<'a> Together<'a> {
    /// One rank, which has nobody to ask.
    pub(crate) fn alone() -> Self {
        Self { exchange: None, share: Share::WHOLE, tile_bytes: AtomicU64::new(0) }
    }

    /// The rank of `exchange`.
    pub(crate) fn over(exchange: &'a mut dyn Exchange) -> Result<Self, ProveError> {
        let (rank, ranks) = (exchange.rank(), exchange.ranks());
        let share = Share::new(rank, ranks).ok_or(ExchangeError::NoSuchRank { rank, ranks })?;
        let exchange = (ranks > 1).then(|| Mutex::new(exchange));
        Ok(Self { exchange, share, tile_bytes: AtomicU64::new(0) })
    }

    /// This rank's share of what is shared out.
    pub(crate) fn share(&self) -> Share {
        self.share
    }

    /// Bytes of tiles that this rank has sent.
    pub(crate) fn tile_bytes(&self) -> u64 {
        self.tile_bytes.load(Ordering::Relaxed)
    }

    fn with<T>(
        &self,
        ask: impl FnOnce(&mut dyn Exchange) -> Result<T, ExchangeError>,
    ) -> Option<Result<T, ProveError>> {
        let exchange = self.exchange.as_ref()?;
        let mut exchange = unpoisoned(exchange.lock());
        Some(ask(&mut **exchange).map_err(ProveError::from))
    }

    /// Returns `mine` if no rank has an error, and the error of the lowest rank that has one
    /// otherwise.
    pub(crate) fn all<T>(&self, mine: Result<T, ProveError>) -> Result<T, ProveError> {
        let told = match &mine {
            Ok(_) => Ok(()),
            Err(ProveError::Ranks(ExchangeError::Refused(refusal)))
                if refusal.kind == RefusalKind::CalledOff =>
            {
                Err(refusal.clone())
            }
            // All have it: it came out of an exchange.
            Err(ProveError::Ranks(_)) => return mine,
            Err(error) => Err(refusal(self.share.rank(), error)),
        };
        match self.with(|exchange| exchange.agree(told)) {
            Some(Err(error)) => Err(error),
            _ => mine,
        }
    }

    /// Fails where another rank cannot go on: then [`Together::all`], which must come next, says
    /// why. To be asked between the pieces of a long step.
    pub(crate) fn go_on(&self) -> Result<(), ProveError> {
        let Some(Ok(true)) = self.with(|exchange| Ok(exchange.is_called_off())) else {
            return Ok(());
        };
        let why = "another rank cannot go on".to_owned();
        let refusal = Refusal { rank: self.share.rank(), kind: RefusalKind::CalledOff, why };
        Err(ExchangeError::from(refusal).into())
    }

    /// Checks that `number`, which tells one `what` from another, is the same on all ranks.
    pub(crate) fn same(&self, what: &str, number: u64) -> Result<(), ProveError> {
        let mut first = number.to_le_bytes().to_vec();
        let Some(heard) = self.with(|exchange| exchange.broadcast(&mut first)) else {
            return Ok(());
        };
        heard?;
        let rank = self.share.rank();
        let why = || format!("{what} differs from that of rank 0; give all ranks the same");
        let told = match first == number.to_le_bytes() {
            true => Ok(()),
            false => Err(Refusal { rank, kind: RefusalKind::Input, why: why() }),
        };
        self.with(|exchange| exchange.agree(told)).unwrap_or(Ok(()))
    }

    /// Returns the smallest `number` of all ranks.
    pub(crate) fn least(&self, number: u64) -> Result<u64, ProveError> {
        let mut bytes = number.to_le_bytes().to_vec();
        let asked = self.with(|exchange| {
            if let Some(all) = exchange.gather(&bytes)? {
                let numbers = all.iter().filter_map(|bytes| bytes.as_slice().try_into().ok());
                let least = numbers.map(u64::from_le_bytes).min().unwrap_or(number);
                bytes = least.to_le_bytes().to_vec();
            }
            exchange.broadcast(&mut bytes)
        });
        asked.transpose()?;
        Ok(bytes.as_slice().try_into().map_or(number, u64::from_le_bytes))
    }

    /// Makes a turn of a vector. Alone it is the vector itself.
    pub(crate) fn turn(
        &self,
        runtime: &Runtime,
        turn: ShareTurn,
        tiles: Tiles<Fr>,
        texture: Texture,
    ) -> Result<Tiles<Fr>, ProveError> {
        let Some(exchange) = &self.exchange else { return Ok(tiles) };
        let mut exchange = unpoisoned(exchange.lock());
        let turned = turn.make(runtime, tiles, texture, &mut **exchange)?;
        let bytes = turn.sent_blocks(self.share) * turn.whole.block_len() * size_of::<Fr>();
        self.tile_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(turned)
    }

    /// Brings the bytes of all ranks to rank 0, in order. Alone they are its own.
    pub(crate) fn gather(
        &self,
        bytes: Zeroizing<Vec<u8>>,
    ) -> Result<Option<Vec<Zeroizing<Vec<u8>>>>, ProveError> {
        let Some(gathered) = self.with(|exchange| exchange.gather(&bytes)) else {
            return Ok(Some(vec![bytes]));
        };
        Ok(gathered?.map(|all| all.into_iter().map(Zeroizing::new).collect()))
    }

    /// Gives all ranks the bytes of rank 0.
    pub(crate) fn broadcast(&self, mut bytes: Vec<u8>) -> Result<Vec<u8>, ProveError> {
        let asked = self.with(|exchange| exchange.broadcast(&mut bytes));
        asked.transpose()?;
        Ok(bytes)
    }
}

/// What a rank tells the others of its error.
fn refusal(rank: usize, error: &ProveError) -> Refusal {
    let kind = match error {
        ProveError::Unsatisfied { .. } | ProveError::NotVerified => RefusalKind::Witness,
        error if error.is_short_of_memory() => RefusalKind::Memory,
        _ => RefusalKind::Input,
    };
    Refusal { rank, kind, why: error.to_string() }
}
