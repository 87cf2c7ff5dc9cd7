//! A program that depends on `plimsoll` alone: it builds a runtime with every choice there is, and
//! names every type that it is handed.

use plimsoll::pool::{self, Ledger, LedgerStats, OverLimit, PoolStats, Prefault};
use plimsoll::spill::{
    Backend, Encryption, Extent, Field32Spec, FieldSpec, LaneSpec, Lanes, RamDisk, SpillOptions,
    SpillStats, StoreError,
};
use plimsoll::{Bump, Error, Plain, Pool, PoolVec, Runtime, Secrecy, Spillable};
use std::sync::{Arc, Mutex, PoisonError};

/// An element of a program's own: a 32-bit field in Montgomery form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
struct BabyBear(u32);

// SAFETY: a `u32` and nothing else.
unsafe impl Plain for BabyBear {}

impl Lanes for BabyBear {
    fn lanes() -> LaneSpec {
        Field32Spec::new(0x7800_0001).map_or(LaneSpec::U32, LaneSpec::Field32)
    }
}

/// A place to spill to of a program's own.
#[derive(Default)]
struct Elsewhere(Mutex<Vec<u8>>);

impl Elsewhere {
    fn with<T>(&self, end: u64, act: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let len = bytes.len().max(end as usize);
        bytes.resize(len, 0);
        act(&mut bytes)
    }
}

impl Backend for Elsewhere {
    fn read_at(&self, offset_bytes: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let at = offset_bytes as usize;
        self.with(0, |bytes| out.copy_from_slice(&bytes[at..at + out.len()]));
        Ok(())
    }

    fn write_at(&self, offset_bytes: u64, written: &[u8]) -> Result<(), StoreError> {
        let (at, end) = (offset_bytes as usize, offset_bytes + written.len() as u64);
        self.with(end, |bytes| bytes[at..end as usize].copy_from_slice(written));
        Ok(())
    }

    fn reserve(&self, extent: Extent) -> Result<(), StoreError> {
        self.with(extent.end_bytes(), |_| Ok(()))
    }

    fn release(&self, _: Extent) -> Result<(), StoreError> {
        Ok(())
    }

    fn len_bytes(&self) -> u64 {
        self.with(0, |bytes| bytes.len() as u64)
    }
}

const LEN: usize = 1 << 16;

/// Sends a vector of the runtime's away and back.
fn round_trip<T: Lanes + PartialEq>(runtime: &Runtime, values: &[T]) -> Result<SpillStats, Error> {
    let vector: PoolVec<T> = runtime.pool_of(Secrecy::Secret).try_copied(values)?;
    let handle: Spillable<T> = runtime.spillable(vector);
    let limit = runtime.set_limit_bytes(Some(1));
    assert!(!handle.is_resident());
    runtime.set_limit_bytes(limit);
    assert!(*handle.read()? == *values);
    assert!(handle.take()? == values);
    Ok(runtime.spill_stats())
}

#[test]
fn a_runtime_is_built_with_every_choice_there_is() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let options = SpillOptions::new(folder.path())
        .encryption(Encryption::On)
        .ram_disk(RamDisk::Accept)
        .quota_bytes(1 << 30)
        .packed_limit_bytes(0)
        .io_threads(1);
    let runtime = Runtime::builder().own_limit().spill(options).build()?;
    let values: Vec<BabyBear> = (0..LEN as u32).map(BabyBear).collect();
    assert_eq!(round_trip(&runtime, &values)?.spilled_total, 4 * LEN as u64);

    let elsewhere = Arc::new(Elsewhere::default());
    let backend = Arc::clone(&elsewhere) as Arc<dyn Backend>;
    let options = SpillOptions::packed_only().backend(backend).packed_limit_bytes(0);
    let runtime = Runtime::builder().own_limit().spill(options).build()?;
    round_trip(&runtime, &values)?;
    assert!(elsewhere.len_bytes() > 0, "it went there");
    Ok(())
}

#[test]
fn figures_and_errors_have_names() -> Result<(), Error> {
    let runtime = Runtime::builder().own_limit().limit_bytes(1 << 30).build()?;
    let bump = Bump::new(runtime.pool());
    assert_eq!(bump.try_alloc_copy(&[1u8, 2])?, [1, 2]);
    let pool: PoolStats = runtime.secret_pool().stats();
    let ledger: LedgerStats = runtime.stats();
    assert_eq!((pool.live_bytes, ledger.missed), (0, 0));

    let refused: pool::Error = runtime.pool().try_zeroed::<u8>(1 << 31).expect_err("too much");
    let pool::Error::OverLimit(OverLimit { asked_bytes, .. }) = refused else {
        panic!("{refused}");
    };
    assert_eq!(asked_bytes, 1 << 31);
    assert!(matches!(runtime.explain("here", refused), Error::OverLimit { .. }));
    let too_large = runtime.pool().try_zeroed::<u64>(usize::MAX).expect_err("no such length");
    assert!(matches!(Error::from(too_large), Error::Arena(pool::Error::TooLarge { .. })));
    let spill = Runtime::builder().spill(SpillOptions::new("/nowhere")).build();
    assert!(matches!(spill, Err(Error::Spill(StoreError::Open { .. }))), "{spill:?}");
    assert!(FieldSpec::new([0; 4]).is_err());
    Ok(())
}

#[test]
fn a_pool_beside_the_runtime_shares_its_ledger() -> Result<(), Error> {
    let runtime = Runtime::builder().own_limit().build()?;
    let ledger: &Arc<Ledger> = runtime.pool().ledger();
    let builder = Pool::builder().ledger(Arc::clone(ledger)).secrecy(Secrecy::Secret);
    let own = builder.prefault(Prefault::OnTouch).reserve_bytes(1 << 30).build()?;
    let held = ledger.held_bytes();
    let vector = own.try_filled(LEN, 1u64)?;
    assert!(ledger.held_bytes() >= held + 8 * LEN && vector.secrecy() == Secrecy::Secret);
    Ok(())
}

#[test]
fn this_program_needs_no_other_crate_of_the_project() {
    let used = include_str!("api.rs").lines().filter(|line| line.contains("plimsoll_"));
    assert_eq!(used.count(), 1, "the line above alone");
}
