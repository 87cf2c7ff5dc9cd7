//! What the kernel says of this machine's swap, and whether this process may use it.

use plimsoll_arena::process::{Scratch, Swap, SwapKind, Tree};

/// Why a process is refused where the swap is for others.
const NONE_FOR_CGROUP: &str = "this cgroup may use none of it (memory.swap.max, or v1's limit of \
                               memory and swap together, leaves nothing)";

/// Below this many bytes in use, what zram takes for them says nothing: its own tables are more.
const JUDGED_BYTES_MIN: u64 = 1 << 20;

/// Reads the kernel's swap. A double in tests.
pub(super) type Look = fn(&mut Scratch) -> Result<Swap, String>;

/// What in a file of the kernel's could not be read.
fn unread(scratch: &Scratch) -> String {
    let (path, _) = scratch.unread();
    format!("{} cannot be read", String::from_utf8_lossy(path))
}

/// Looks at this machine's swap.
pub(super) fn look(scratch: &mut Scratch) -> Result<Swap, String> {
    match scratch.swap(Tree::MACHINE) {
        Ok(swap) if swap.kind == SwapKind::None => Err("there is no swap".to_owned()),
        Ok(swap) => Ok(swap),
        Err(_) => Err(unread(scratch)),
    }
}

/// Says whether this process may use the swap at all.
///
/// # Errors
///
/// Why not, in words.
pub(super) fn may_swap() -> Result<(), String> {
    let mut scratch = Box::new(Scratch::new());
    match scratch.swap_bound(Tree::MACHINE) {
        Ok(Some(0)) => Err(NONE_FOR_CGROUP.to_owned()),
        Ok(_) => Ok(()),
        Err(_) => Err(unread(&scratch)),
    }
}

/// Returns what 1024 bytes in the swap take of the RAM; nothing where the swap is not zram alone.
pub(super) fn zram_per_1024(swap: &Swap) -> u64 {
    match swap.kind {
        SwapKind::Zram if swap.used_bytes < JUDGED_BYTES_MIN => 1 << 10,
        SwapKind::Zram => swap.zram_bytes / (swap.used_bytes >> 10),
        SwapKind::Disk | SwapKind::None => 0,
    }
}
