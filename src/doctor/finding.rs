//! What a check says, and how it puts sizes, shares and paths into words.
//!
//! Invariant: a finding is one line, whatever the file or the path it quotes holds.

use crate::limit::format_bytes;
use std::path::Path;

/// How bad a finding is, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Level {
    /// As it should be.
    Ok,
    /// Proofs are made, slower or with more risk than need be; or it could not be found out.
    Warn,
    /// Something that the runtime offers does not work here.
    Fail,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Finding {
    /// The subject, one or two words; the same in every run.
    pub name: &'static str,
    /// How bad it is.
    pub level: Level,
    /// The value found, and why it is good or not.
    pub says: String,
    /// The command or the step that mends it; `None` exactly when the level is [`Level::Ok`].
    pub mend: Option<String>,
}

impl Finding {
    pub(super) fn ok(name: &'static str, says: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, says: one_line(says.into()), mend: None }
    }

    pub(super) fn warn(
        name: &'static str,
        says: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        let mend = Some(one_line(mend.into()));
        Self { name, level: Level::Warn, says: one_line(says.into()), mend }
    }

    pub(super) fn fail(
        name: &'static str,
        says: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { level: Level::Fail, ..Self::warn(name, says, mend) }
    }

    /// A file that is there and cannot be read or understood.
    pub(super) fn unread(name: &'static str, why: &str) -> Self {
        Self::warn(name, why, "run it on the host, or as the user that runs the prover")
    }
}

/// `text` with a question mark for each control character: what a file or a path holds can neither
/// break a line nor move a terminal's cursor.
fn one_line(text: String) -> String {
    if text.chars().any(char::is_control) {
        return text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    }
    text
}

/// A path as one word of a shell's command line.
pub(super) fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// A size as text, the way the whole command shows it.
pub(super) fn size(bytes: u64) -> String {
    format_bytes(bytes).to_string()
}

/// `part` of `whole` in percent, rounded down; 100 where there is no whole.
pub(super) fn percent(part: u64, whole: u64) -> u64 {
    (u128::from(part) * 100).checked_div(u128::from(whole)).map_or(100, |share| share as u64)
}
