//! The contract on a fake kernel, what it does where swap is full or fails, and the real one where
//! there is swap.

use super::*;
use crate::backend::AlignedBytes;
use crate::extent::ExtentMap;
use crate::file::tests::{in_parts_and_meanwhile, pattern, refuses_what_is_not_whole_blocks};
use crate::store::{Content, Encryption, Store, Tiers};
use plimsoll_arena::os::{Failing, Fake, FakeCall};
use plimsoll_arena::process::skipped;

const SIZE_BYTES: u64 = 32 << 20;

fn swap(kind: SwapKind) -> Swap {
    Swap { kind, size_bytes: SIZE_BYTES, used_bytes: 0, zram_bytes: 0, zram_room_bytes: SIZE_BYTES }
}

fn disk(_: &mut Scratch) -> Result<Swap, String> {
    Ok(swap(SwapKind::Disk))
}

fn half_compressed(_: &mut Scratch) -> Result<Swap, String> {
    Ok(Swap { used_bytes: 8 << 20, zram_bytes: 4 << 20, ..swap(SwapKind::Zram) })
}

fn nearly_full(_: &mut Scratch) -> Result<Swap, String> {
    Ok(Swap { used_bytes: SIZE_BYTES - (1 << 20), ..swap(SwapKind::Disk) })
}

fn gone(_: &mut Scratch) -> Result<Swap, String> {
    Err("there is no swap".to_owned())
}

fn opened(look: Look) -> (Arc<Fake>, KernelSwap) {
    let fake = Arc::new(Fake::new());
    let opened = KernelSwap::open_on(fake.clone(), look, None).unwrap();
    (fake, opened)
}

/// Bytes of it in the fake's memory.
fn here(swap: &KernelSwap) -> usize {
    // SAFETY: a range of its reservation, in whole pages.
    unsafe { swap.os.mapped_bytes(swap.base, swap.len_bytes() as usize) }.unwrap()
}

/// An extent of `bytes`, written to.
fn written(swap: &KernelSwap, bytes: usize) -> (Extent, AlignedBytes) {
    let extent = ExtentMap::new(1 << 30).alloc(bytes as u64).unwrap();
    swap.reserve(extent).unwrap();
    let pattern = pattern(bytes, 7);
    swap.write_at(0, &pattern).unwrap();
    (extent, pattern)
}

fn keeps_bytes_out_of_memory(swap: &KernelSwap) {
    let bytes = 3 * WINDOW_BYTES;
    let (_, pattern) = written(swap, bytes);
    for (at, len) in [
        (0, bytes),
        (4096, WINDOW_BYTES),
        (WINDOW_BYTES - 4096, 8192),
        (WINDOW_BYTES, WINDOW_BYTES),
        (bytes - 4096, 4096),
    ] {
        for _ in 0..2 {
            let mut out = AlignedBytes::zeroed(len);
            swap.read_at(at as u64, &mut out).unwrap();
            assert!(out[..] == pattern[at..at + len], "{len} bytes at {at}");
        }
    }
    let mut out = AlignedBytes::zeroed(8192);
    for (what, at) in [("read", bytes as u64 - 4096), ("read", u64::MAX / 4096 * 4096)] {
        let past = swap.read_at(at, &mut out);
        assert!(matches!(past, Err(Error::Short { what: w, .. }) if w == what), "{past:?}");
        let past = swap.write_at(at, &out);
        assert!(matches!(past, Err(Error::Short { what: "write", .. })), "{past:?}");
    }
    let parts = ExtentMap::new(1 << 30).alloc(3 << 20).unwrap();
    swap.reserve(parts).unwrap();
    in_parts_and_meanwhile(swap, parts);
    refuses_what_is_not_whole_blocks(swap);
}

#[test]
fn bytes_are_kept_out_of_memory() {
    let (_fake, swap) = opened(disk);
    keeps_bytes_out_of_memory(&swap);
    assert_eq!(here(&swap), 0);
}

#[test]
fn the_kernels_own_swap_keeps_bytes() {
    match KernelSwap::open(None) {
        Ok(swap) => keeps_bytes_out_of_memory(&swap),
        Err(why) => skipped("the kernel's own swap", why),
    }
}

#[test]
fn what_is_forgotten_is_gone_and_neighbours_stay() {
    let (_fake, swap) = opened(disk);
    let (_, pattern) = written(&swap, 3 * 4096);
    let mut map = ExtentMap::new(1 << 30);
    let extents: Vec<_> = (0..3).map(|_| map.alloc(4096).unwrap()).collect();
    swap.forget(extents[1]);
    let mut out = AlignedBytes::zeroed(3 * 4096);
    swap.read_at(0, &mut out).unwrap();
    assert!(out[..4096] == pattern[..4096] && out[8192..] == pattern[8192..]);
    assert!(out[4096..8192].iter().all(|byte| *byte == 0));
    swap.release(Extent::between(0, 3 * 4096)).unwrap();
    swap.read_at(0, &mut out).unwrap();
    assert!(out.iter().all(|byte| *byte == 0));
}

#[test]
fn a_full_swap_takes_nothing_and_leaves_nothing_in_memory() {
    let (fake, swap) = opened(disk);
    let (_, bytes) = written(&swap, 4 * WINDOW_BYTES);
    fake.fail(FakeCall::PageOut, Failing::Always);
    let full = swap.write_at(0, &bytes);
    assert_eq!(full, Err(Error::SwapFull { asked_bytes: WINDOW_BYTES as u64 }));
    assert_eq!(here(&swap), 0, "what stayed was dropped");
    fake.fail(FakeCall::PageOut, Failing::Never);
    // Once in a while a page is in use for a moment.
    fake.fail_after(FakeCall::PageOut, 1);
    swap.write_at(0, &bytes).unwrap();
    assert_eq!(here(&swap), 0);
    let past = swap.reserve(Extent::between(0, STEP_BYTES as u64 + 4096));
    assert!(matches!(past, Err(Error::SwapFull { .. })), "{past:?}");
    let (_fake, swap) = opened(nearly_full);
    written(&swap, 1 << 20);
    let asked_bytes = 2 << 20;
    swap.reserve(Extent::between(0, asked_bytes)).unwrap();
    let full = swap.write_at(0, &pattern(asked_bytes as usize, 7));
    assert_eq!(full, Err(Error::SwapFull { asked_bytes }));
}

#[test]
fn a_store_goes_on_when_the_swap_has_room_again() {
    let (fake, swap) = opened(disk);
    let store = Store::builder().backend(Arc::new(swap)).build().unwrap();
    let bytes = pattern(1 << 20, 3);
    let save = || store.save(crate::codec::LaneSpec::U64, &bytes, Content::Uniform, Tiers::Any);
    fake.fail(FakeCall::PageOut, Failing::Always);
    assert!(matches!(save(), Err(Error::SwapFull { .. })));
    assert!(!store.poisoned());
    fake.fail(FakeCall::PageOut, Failing::Never);
    let saved = save().unwrap();
    let mut out = AlignedBytes::zeroed(bytes.len());
    store.load(&saved, &mut out).unwrap();
    assert!(out[..] == bytes[..]);
    fake.fail(FakeCall::PageIn, Failing::Always);
    let lost = store.load(&saved, &mut out);
    assert!(matches!(lost, Err(Error::Swap { what: "page in", .. })), "{lost:?}");
    fake.fail(FakeCall::PageIn, Failing::Never);
    fake.fail(FakeCall::Populate, Failing::Always);
    assert!(matches!(save(), Err(Error::Swap { .. })));
    assert!(store.poisoned(), "a failed write");
}

#[test]
fn no_swap_is_an_error_that_names_the_script() {
    let fake = Arc::new(Fake::new());
    let open = |look| KernelSwap::open_on(fake.clone(), look, None).unwrap_err().to_string();
    for word in ["there is no swap", "`plimsoll zram up`", "scripts/zram-setup.sh"] {
        assert!(open(gone).contains(word), "{}", open(gone));
    }
    fake.fail(FakeCall::PageOut, Failing::Always);
    assert!(open(disk).contains("full"), "{}", open(disk));
    fake.fail(FakeCall::PageOut, Failing::Never);
    fake.fail(FakeCall::Reserve, Failing::Always);
    assert!(open(disk).contains("ulimit -v"), "{}", open(disk));
    fake.fail(FakeCall::Reserve, Failing::Never);
    assert_eq!(fake.reserved_bytes(), 0, "nothing is left");
    // Half as much where there are too few addresses for all.
    let large = |_: &mut Scratch| Ok(Swap { size_bytes: 100 << 20, ..swap(SwapKind::Disk) });
    fake.fail_after(FakeCall::Reserve, 0);
    let opened = KernelSwap::open_on(fake.clone(), large, None).unwrap();
    assert_eq!((opened.reserved_bytes, fake.reserved_bytes()), (64 << 20, 64 << 20));
}

#[test]
fn a_secret_goes_to_a_disk_encrypted_only() {
    for (look, encryption, taken) in [
        (disk as Look, Encryption::Off, false),
        (disk, Encryption::On, true),
        (half_compressed, Encryption::Off, true),
    ] {
        let (_fake, swap) = opened(look);
        let store = Store::builder().backend(Arc::new(swap)).encryption(encryption);
        let store = store.build().unwrap();
        assert_eq!(store.takes_secrets().is_ok(), taken, "{encryption:?}");
    }
    let (_fake, mut swap) = opened(half_compressed);
    assert_eq!(swap.kept(), Kept::Zram);
    swap.look = gone;
    assert_eq!(swap.kept(), Kept::SwapDisk, "who does not know says the worse");
}

#[test]
fn zram_takes_memory_and_a_disk_takes_none() {
    let (_fake, swap) = opened(disk);
    assert_eq!(swap.memory_bytes(1 << 20), 0);
    let (_fake, swap) = opened(half_compressed);
    assert_eq!(swap.memory_bytes(1 << 20), 1 << 19);
    let (_fake, swap) = opened(|_| Ok(self::swap(SwapKind::Zram)));
    assert_eq!(swap.memory_bytes(1 << 20), 1 << 20, "nothing is known yet");
}
