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
    let mut line = Line { bytes: [0; LINE_BYTES_MAX], len: 0 };
    // Writing into the line cannot fail; what does not fit is cut.
    let _ = line.write_fmt(format_args!("plimsoll: {what}"));
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
