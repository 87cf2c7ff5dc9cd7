//! `PLIMSOLL_LIMIT`, read without allocating.
//!
//! ```text
//!   8GiB   512MiB   1.5GB   8589934592   75%   auto   0
//! ```
//!
//! A number, with an optional fraction, and a unit in any case: B, K or KiB up to EiB (powers of
//! 1024), kB up to EB (of 1000), or % of the machine's memory or its cgroup's limit, whichever is
//! lower. `auto` is what the cgroup and the machine allow. Zero means no limit, like no variable
//! at all. Anything else is reported once on standard error and changes nothing: a typing mistake
//! must not end a proof of ten hours.
//!
//! Invariants:
//!
//! * a size is taken as it is written;
//! * `share of s = min(floor(s * min(machine, cgroup)), auto)`;
//! * `auto = min(machine, cgroup - max(16 MiB, cgroup / 32), available)`, as `--limit` has it;
//! * the variable is looked at once: whoever asks later is told the same.
//!
//! Must never allocate, lock, format or panic: it runs inside the first large allocation.

use super::whole::Whole;
use std::ffi::CStr;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// Name of the variable.
pub const LIMIT_VARIABLE: &str = "PLIMSOLL_LIMIT";

/// Longest value that is shown in the report, in bytes.
const SHOWN_MAX: usize = 64;

/// What is kept free below a cgroup's limit, at least, in bytes, and its share of the limit: the
/// same as `plimsoll::limit` keeps, for the reasons given there.
const CGROUP_MARGIN_BYTES_MIN: usize = 16 << 20;
const CGROUP_MARGIN_DIVISOR: usize = 32;

/// The limit once it was read; 0 before.
static LIMIT_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The limit that `PLIMSOLL_LIMIT` asks for, in bytes; `None` for none.
///
/// The first call looks at the environment, and reports a value that is not understood on standard
/// error. Allocates nothing.
pub fn limit_from_environment() -> Option<usize> {
    Some(limit_bytes()).filter(|bytes| *bytes != usize::MAX)
}

/// The size that another variable asks for, such as `512MiB`; `None` without the variable, and when
/// it is empty.
///
/// A value that is not understood is reported on standard error at each call. Allocates nothing.
pub fn size_from_environment(name: &str) -> Option<usize> {
    let text = variable(name.as_bytes())?;
    let bytes = size(text.trim_ascii());
    if bytes.is_none() {
        report(name, text, b"\"; write a size such as 8GiB\n");
    }
    bytes
}

/// The limit the environment asks for, in bytes; `usize::MAX` for none.
pub(super) fn limit_bytes() -> usize {
    let known = LIMIT_BYTES.load(Relaxed);
    if known != 0 {
        return known;
    }
    let text = variable(LIMIT_VARIABLE.as_bytes());
    let asked = text.map(|text| parse(text, Whole::of_machine));
    let bytes = asked.flatten().unwrap_or(usize::MAX);
    // Of two threads that read at once, one reports, and both go by what it found.
    match LIMIT_BYTES.compare_exchange(0, bytes, Relaxed, Relaxed) {
        Ok(_) => {
            if let (Some(text), Some(None)) = (text, asked) {
                let remedy = b"\"; write a size such as 8GiB, a share such as 75%, or auto\n";
                report(LIMIT_VARIABLE, text, remedy);
            }
            bytes
        }
        Err(known) => known,
    }
}

/// The value of a variable, if it is not empty, straight from the process's environment. `getenv`
/// would do as well, but promises less about what it takes on the way.
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
            return Some(value).filter(|value| !value.trim_ascii().is_empty());
        }
        // SAFETY: the entry was not the last, null one.
        at = unsafe { at.add(1) };
    }
}

/// Bytes that `text` asks for, at least 1 and `usize::MAX` for no limit, or `None` when it is not
/// understood.
fn parse(text: &[u8], whole: impl FnOnce() -> Whole) -> Option<usize> {
    let text = text.trim_ascii();
    if text.eq_ignore_ascii_case(b"auto") {
        return Some(auto(&whole()));
    }
    let Some(number) = text.strip_suffix(b"%") else {
        let bytes = size(text)?;
        return Some(if bytes == 0 { usize::MAX } else { bytes });
    };
    let (thousandths, all) = (decimal(number.trim_ascii_end())?, 100_000);
    if thousandths == 0 || thousandths > all {
        return None;
    }
    let whole = whole();
    let of = whole.machine_bytes.min(whole.cgroup_bytes) as u128;
    let bytes = usize::try_from(thousandths * of / all).ok()?;
    Some(bytes.min(auto(&whole)).max(1))
}

/// A number and a unit, in bytes.
fn size(text: &[u8]) -> Option<usize> {
    let digits = text.iter().take_while(|c| c.is_ascii_digit() || **c == b'.').count();
    let (number, unit) = text.split_at(digits);
    let thousandths = decimal(number)?.checked_mul(scale(unit.trim_ascii())?)?;
    usize::try_from(thousandths / 1000).ok()
}

/// Bytes of a unit.
fn scale(unit: &[u8]) -> Option<u128> {
    let Some((prefix, rest)) = unit.split_first() else { return Some(1) };
    if unit.eq_ignore_ascii_case(b"B") {
        return Some(1);
    }
    let power = b"kmgtpe".iter().position(|known| *known == prefix.to_ascii_lowercase())? as u32;
    let step: u128 = if rest.is_empty() || rest.eq_ignore_ascii_case(b"iB") {
        1024
    } else if rest.eq_ignore_ascii_case(b"B") {
        1000
    } else {
        return None;
    };
    Some(step.pow(power + 1))
}

/// What the machine and the cgroup allow now.
fn auto(whole: &Whole) -> usize {
    let margin = CGROUP_MARGIN_BYTES_MIN.max(whole.cgroup_bytes / CGROUP_MARGIN_DIVISOR);
    let allowed = match whole.cgroup_bytes {
        usize::MAX => usize::MAX,
        bytes => bytes.saturating_sub(margin),
    };
    whole.machine_bytes.min(allowed).min(whole.available_bytes).max(1)
}

/// A decimal number in thousandths; digits after the third are dropped.
fn decimal(text: &[u8]) -> Option<u128> {
    let mut parts = text.split(|c| *c == b'.');
    let (whole, fraction) = (parts.next()?, parts.next().unwrap_or(b""));
    let digits = whole.iter().chain(fraction).all(u8::is_ascii_digit);
    if whole.is_empty() || whole.len() > 20 || parts.next().is_some() || !digits {
        return None;
    }
    let digits = |text: &[u8]| text.iter().fold(0u128, |sum, c| sum * 10 + u128::from(c - b'0'));
    let mut three = [b'0'; 3];
    for (to, from) in three.iter_mut().zip(fraction) {
        *to = *from;
    }
    Some(digits(whole) * 1000 + digits(&three))
}

fn report(name: &str, value: &[u8], remedy: &[u8]) {
    let shown = &value[..value.len().min(SHOWN_MAX)];
    for part in
        [b"plimsoll: ", name.as_bytes(), b" is not understood and ignored: \"", shown, remedy]
    {
        write_error(part);
    }
}

fn write_error(text: &[u8]) {
    // SAFETY: the pointer and the length are those of one slice; a short or failed write is let be.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, cgroup_bytes: usize, available_bytes: usize) -> Option<usize> {
        let whole = Whole { machine_bytes: 1 << 30, available_bytes, cgroup_bytes };
        parse(text.as_bytes(), || whole)
    }

    #[test]
    fn sizes_are_read_as_written() {
        let read = |text: &str| read(text, 100 << 20, 50 << 20);
        assert_eq!(read("8GiB"), Some(8 << 30));
        assert_eq!(read("8g"), Some(8 << 30));
        assert_eq!(read(" 1.5 MiB "), Some(3 << 19));
        assert_eq!(read("2mb"), Some(2_000_000));
        assert_eq!(read("1PB"), Some(1_000_000_000_000_000));
        assert_eq!(read("4096"), Some(4096));
        assert_eq!(read("0"), Some(usize::MAX));
    }

    #[test]
    fn shares_are_of_the_machine_or_its_cgroup_and_bounded_by_what_there_is() {
        let none = usize::MAX;
        assert_eq!(read("75%", none, none), Some(805_306_368));
        assert_eq!(read("50%", 400 << 20, none), Some(200 << 20));
        assert_eq!(read("50%", 4 << 30, none), Some(512 << 20));
        assert_eq!(read("50%", none, 100 << 20), Some(100 << 20));
        assert_eq!(read("100%", 400 << 20, none), Some(384 << 20));
    }

    #[test]
    fn auto_is_what_the_cgroup_and_the_machine_allow() {
        let none = usize::MAX;
        assert_eq!(read("auto", none, none), Some(1 << 30));
        assert_eq!(read("AUTO ", none, 700 << 20), Some(700 << 20));
        assert_eq!(read("auto", 640 << 20, none), Some(620 << 20));
        assert_eq!(read("auto", 320 << 20, none), Some(304 << 20));
        assert_eq!(read("auto", 1 << 20, none), Some(1));
    }

    #[test]
    fn nonsense_is_refused() {
        let huge = "9".repeat(40);
        for text in [
            "",
            "GiB",
            "8 GiBs",
            "-1",
            "1.2.3",
            "101%",
            "0%",
            ".",
            "1e9",
            "0x10",
            "iB",
            "8ib",
            "automatic",
            &huge,
        ] {
            assert_eq!(read(text, usize::MAX, usize::MAX), None, "{text:?}");
        }
        assert_eq!(read("99999999999TiB", usize::MAX, usize::MAX), None);
    }
}
