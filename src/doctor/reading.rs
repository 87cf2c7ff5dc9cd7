//! One file of the kernel: its text, or why there is none.
//!
//! A [`Reading`] has three ends, and checks treat each: a value; `Ok(None)`, the file is not there
//! (an older kernel, a feature not built in, a bare container); `Err`, it is there and cannot be
//! read or understood, with one line that names the file.
//!
//! Must never: read more of a file than its bound.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// Longest file in bytes that is read: 1 MiB. The longest here, `mountinfo`, has some 200 bytes a
/// mount.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A value, `None` where its file is not there, or one line that says why it cannot be read.
pub type Reading<T> = Result<Option<T>, String>;

/// The text of a file, without blanks at its ends.
pub(super) fn text(root: &Path, name: &str) -> Reading<String> {
    let read = || -> std::io::Result<String> {
        let mut text = String::new();
        File::open(root.join(name))?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    };
    match read() {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(why) if matches!(why.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(why) => Err(format!("/{name}: {why}")),
    }
}

/// `parse` of a file's text; where it gives nothing, the error names the file and its first line.
pub(super) fn parsed<T>(root: &Path, name: &str, parse: impl Fn(&str) -> Option<T>) -> Reading<T> {
    let Some(text) = text(root, name)? else { return Ok(None) };
    parse(&text).map(Some).ok_or_else(|| {
        let line: String = text.lines().next().unwrap_or("").chars().take(60).collect();
        format!("/{name}: not in the kernel's format: {line:?}")
    })
}

/// The file as one decimal number.
pub(super) fn number(root: &Path, name: &str) -> Reading<u64> {
    parsed(root, name, |text| text.parse().ok())
}
