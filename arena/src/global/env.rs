//! `PLIMSOLL_LIMIT`, read without allocating.
//!
//! ```text
//!   8GiB   512MiB   1.5GB   8589934592   75%   0
//! ```
//!
//! A number, with an optional fraction, and a unit: B, KiB, MiB, GiB, TiB (powers of 1024), kB,
//! MB, GB, TB (of 1000), or % of the machine's memory. Zero means no limit, like no variable at
//! all. Anything else is reported once on standard error and changes nothing: a typing mistake
//! must not end a proof of ten hours.
//!
//! Must never allocate, lock, format or panic: it runs inside the first large allocation.

use std::ffi::CStr;

/// Name of the variable.
pub const LIMIT_VARIABLE: &str = "PLIMSOLL_LIMIT";

/// Longest value that is shown in the report, in bytes.
const SHOWN_MAX: usize = 64;

/// The limit the environment asks for, in bytes; `usize::MAX` for none.
pub(super) fn limit_bytes() -> usize {
    let Some(text) = variable(LIMIT_VARIABLE.as_bytes()) else { return usize::MAX };
    parse(text, physical_bytes()).unwrap_or_else(|| {
        report(text);
        usize::MAX
    })
}

/// Memory of the machine, in bytes.
pub(super) fn physical_bytes() -> usize {
    // SAFETY: sysconf has no preconditions.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    usize::try_from(pages).unwrap_or(0).saturating_mul(os_page_bytes())
}

/// Size of an OS page in bytes.
pub(super) fn os_page_bytes() -> usize {
    // SAFETY: sysconf has no preconditions.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).ok().filter(|bytes| bytes.is_power_of_two()).unwrap_or(4096)
}

/// The value of a variable, straight from the process's environment. `getenv` would do as well,
/// but promises less about what it takes on the way.
fn variable(name: &[u8]) -> Option<&'static [u8]> {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    // SAFETY: the C library defines it; it may be null before the library is set up.
    let mut at = unsafe { environ };
    if at.is_null() {
        return None;
    }
    loop {
        // SAFETY: the array ends with a null pointer, before which the loop returns.
        let text = unsafe { *at };
        if text.is_null() {
            return None;
        }
        // SAFETY: entries are C strings, which stay unless the program changes its environment
        // from another thread just now, which no reader of it survives.
        let text = unsafe { CStr::from_ptr(text) }.to_bytes();
        if let Some(value) = text.strip_prefix(name).and_then(|rest| rest.strip_prefix(b"=")) {
            return Some(value);
        }
        // SAFETY: the entry was not the last, null one.
        at = unsafe { at.add(1) };
    }
}

/// Bytes that `text` asks for, or `None` when it is not understood.
fn parse(text: &[u8], physical_bytes: usize) -> Option<usize> {
    let text = text.trim_ascii();
    let digits = text.iter().take_while(|c| c.is_ascii_digit() || **c == b'.').count();
    let (number, unit) = text.split_at(digits);
    let (thousandths, whole) = (decimal(number)?, 1000u128);
    let scale: u128 = match unit.trim_ascii() {
        b"" | b"B" => 1,
        b"kB" | b"KB" => 1000,
        b"MB" => 1_000_000,
        b"GB" => 1_000_000_000,
        b"TB" => 1_000_000_000_000,
        b"KiB" | b"K" => 1 << 10,
        b"MiB" | b"M" => 1 << 20,
        b"GiB" | b"G" => 1 << 30,
        b"TiB" | b"T" => 1 << 40,
        b"%" if thousandths <= 100 * whole => {
            return usize::try_from(thousandths * physical_bytes as u128 / (100 * whole)).ok();
        }
        _ => return None,
    };
    let bytes = usize::try_from(thousandths.checked_mul(scale)? / whole).ok()?;
    Some(if bytes == 0 { usize::MAX } else { bytes })
}

/// A decimal number in thousandths; digits after the third are dropped.
fn decimal(text: &[u8]) -> Option<u128> {
    let mut parts = text.split(|c| *c == b'.');
    let (whole, fraction) = (parts.next()?, parts.next().unwrap_or(b""));
    if whole.is_empty() || whole.len() > 20 || parts.next().is_some() {
        return None;
    }
    let digits = |text: &[u8]| text.iter().fold(0u128, |sum, c| sum * 10 + u128::from(c - b'0'));
    let mut three = [b'0'; 3];
    for (to, from) in three.iter_mut().zip(fraction) {
        *to = *from;
    }
    Some(digits(whole) * 1000 + digits(&three))
}

fn report(value: &[u8]) {
    let shown = &value[..value.len().min(SHOWN_MAX)];
    write_error(b"plimsoll: PLIMSOLL_LIMIT is not understood and ignored: \"");
    write_error(shown);
    write_error(b"\"; write a size such as 8GiB, or a share such as 75%\n");
}

fn write_error(text: &[u8]) {
    // SAFETY: the pointer and the length are those of one slice; a short or failed write is let be.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_written() {
        let read = |text: &str| parse(text.as_bytes(), 1 << 30);
        assert_eq!(read("8GiB"), Some(8 << 30));
        assert_eq!(read(" 1.5 MiB "), Some(3 << 19));
        assert_eq!(read("2MB"), Some(2_000_000));
        assert_eq!(read("4096"), Some(4096));
        assert_eq!(read("75%"), Some(805_306_368));
        assert_eq!(read("0"), Some(usize::MAX));
    }

    #[test]
    fn nonsense_is_refused() {
        let huge = "9".repeat(40);
        for text in ["", "GiB", "8 GiBs", "-1", "1.2.3", "101%", ".", "1e9", "0x10", &huge] {
            assert_eq!(parse(text.as_bytes(), 1 << 30), None, "{text:?}");
        }
        assert_eq!(parse("99999999999TiB".as_bytes(), 1 << 30), None);
    }
}
