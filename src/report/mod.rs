//! Reports: a recording as one page that explains itself.
//!
//! ```text
//!   summary      peak, limit, time, cores
//!   what to do   advice.rs: sentences, each with its numbers
//!   memory       tiers stacked against the limit; stages as bands; reclaim marks; the peak
//!   disk, CPU    the spill file; cores busy against cores there
//!   tables       stages; the largest holders at the peak
//! ```
//!
//! ```
//! use plimsoll::record::Recorder;
//!
//! let recording = Recorder::builder().title("demo").start()?.finish()?;
//! let mut page = Vec::new();
//! recording.report_to(&mut page)?; // or `write_report(path)`
//! assert!(!page.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The page is one file with style, script and data inside. It loads nothing from any network, and
//! its policy forbids it to. The tables and sentences are text and need no script. The script draws
//! the charts from the embedded JSON, which is the recording itself, so a test can check what it
//! draws.
//!
//! Invariants: no name reaches the page unescaped, neither as text nor in the JSON; the JSON's
//! `peak_bytes` is [`Recording::peak_bytes`]; the page's size is bounded, since the recording is.
//!
//! Must never: load anything, or run a script that is not this module's own.

mod advice;
mod markup;
mod page;
mod schedule;

use crate::record::{RecordError, Recording};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

pub use advice::{Advice, Kind};

impl Recording {
    /// Writes the report to `path`.
    ///
    /// # Errors
    ///
    /// [`RecordError::Write`], naming the file.
    pub fn write_report(&self, path: &Path) -> Result<(), RecordError> {
        let write = || -> io::Result<()> {
            let mut out = BufWriter::new(File::create(path)?);
            page::write(self, &mut out)?;
            out.flush()
        };
        write().map_err(|source| RecordError::Write { path: path.to_path_buf(), source })
    }

    /// Writes the report to `out`.
    ///
    /// # Errors
    ///
    /// What `out` says.
    pub fn report_to(&self, out: &mut impl Write) -> io::Result<()> {
        page::write(self, out)
    }

    /// Says what to do next about memory, idle cores and waiting, the most useful first.
    #[must_use]
    pub fn advice(&self) -> Vec<Advice> {
        advice::of(self)
    }
}
