//! One line on standard error, without allocating.
//!
//! The line is put together on the stack and leaves in one call of write(2), so that lines of
//! several threads do not mix. What does not fit is cut.
//!
//! Must never: allocate, lock, or panic.

use std::fmt::{self, Write as _};

/// Longest line in bytes, with its newline.
const LINE_BYTES_MAX: usize = 1024;

/// A line on the stack.
struct Line {
    bytes: [u8; LINE_BYTES_MAX],
    len: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - 1 - self.len;
        let taken = text.len().min(room);
        self.bytes[self.len..self.len + taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.len += taken;
        Ok(())
    }
}

/// Writes `plimsoll: ` and `what` as one line to standard error. It ignores a failed write.
pub fn say(what: fmt::Arguments<'_>) {
    write_line(format_args!("plimsoll: {what}"));
}

/// Says in a test that `part`, a test or a part of one, is skipped, and why: one line to standard
/// error. libtest holds back only what the print macros write, so the line is seen without flags.
#[doc(hidden)]
pub fn skipped(part: &str, why: impl fmt::Display) {
    write_line(format_args!("SKIPPED: {part}: {why}"));
}

fn write_line(what: fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; LINE_BYTES_MAX], len: 0 };
    // Writing into the line cannot fail; what does not fit is cut.
    let _ = line.write_fmt(what);
    line.bytes[line.len] = b'\n';
    // SAFETY: the first `len + 1` bytes of the buffer are read.
    unsafe { libc::write(libc::STDERR_FILENO, line.bytes.as_ptr().cast(), line.len + 1) };
}

/// Text of unknown origin, shown as far as it is printable ASCII and not too long.
pub(super) struct Shown<'a>(pub(super) &'a [u8]);

/// Longest text in bytes that is repeated.
const SHOWN_BYTES_MAX: usize = 64;

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0.iter().take(SHOWN_BYTES_MAX) {
            let printable = byte.is_ascii_graphic() || byte == b' ';
            f.write_char(if printable { char::from(byte) } else { '?' })?;
        }
        if self.0.len() > SHOWN_BYTES_MAX { f.write_str("...") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// In the environment of the child that is skipped.
    const CHILD: &str = "PLIMSOLL_TEST_SKIPPED";

    /// The child is this test without any flag that shows output.
    #[test]
    fn what_is_skipped_is_seen_though_the_test_passes() {
        if std::env::var_os(CHILD).is_some() {
            println!("held back");
            eprintln!("held back");
            return skipped("the child", format_args!("{} reasons", 2));
        }
        let mut child = Command::new(std::env::current_exe().expect("this binary"));
        let name = "process::say::tests::what_is_skipped_is_seen_though_the_test_passes";
        let output = child.args(["--exact", name]).env(CHILD, "1").output().expect("a child");
        let (out, err) = (output.stdout, output.stderr);
        let out = String::from_utf8(out).expect("UTF-8");
        assert!(output.status.success() && out.contains("1 passed"), "{out}");
        assert!(!out.contains("held back"), "{out}");
        assert_eq!(err, b"SKIPPED: the child: 2 reasons\n");
    }
}
