//! Asks the processor for bytes that are read soon.
//!
//! A loop that gathers from a table larger than the caches waits for one line after the other.
//! Where its next indices are known, it can ask for those lines some rounds ahead. It is a hint:
//! nothing is read, nothing can fault, and where the processor has no such instruction nothing
//! happens.

/// Bytes of a line of the cache.
const LINE_BYTES: usize = 64;

/// Asks for the lines that `value` lies in.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<i8>();
    let last = size_of::<T>().saturating_sub(1);
    for offset in (0..last).step_by(LINE_BYTES).chain([last]) {
        ask(start.wrapping_add(offset));
    }
}

#[inline(always)]
fn ask(_address: *const i8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: the instruction is in every x86-64, and reads no memory that a program can see,
    // wherever the address points.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(_address);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_size_may_be_asked_for() {
        super::prefetch(&());
        super::prefetch(&1u8);
        super::prefetch(&[0u64; 9]);
        super::prefetch(&[0u64; 100]);
    }
}
