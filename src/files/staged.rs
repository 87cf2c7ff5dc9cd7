//! A file that appears whole or not at all.
//!
//! ```text
//!   begin    a new file of another name in the same folder
//!   seal     what was written is on the disk (`write`: begin, fill, seal)
//!   commit   its final name, in one rename; then the folder is synced
//!   drop     without `commit`: nothing is left
//! ```
//!
//! Invariant: whatever fails, what was under the final name is as it was.
//!
//! It must never replace something that is not a regular file, and never follow a link that
//! someone put where the temporary file goes (`O_EXCL`, by the crate tempfile).

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Why a file did not appear. Nothing of it is left, and what was under its name is as it was.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", .path.display())]
pub struct StagedError {
    /// The file's final name.
    pub path: PathBuf,
    /// What went wrong.
    pub fault: StagedFault,
}

/// What went wrong with a file that was to appear.
#[derive(Debug, thiserror::Error)]
pub enum StagedFault {
    /// The system says so.
    #[error("cannot be written: {0}; nothing was left there, choose another place")]
    Write(#[source] io::Error),
    /// The name is taken by something that must not be replaced.
    #[error("there is something there that is not a regular file; choose another place")]
    NotRegular,
    /// The name is taken by a file, and only a new one was wanted.
    #[error("there is a file there already; choose another name, or remove it")]
    Exists,
}

/// A file under a temporary name. Drop removes it; [`StagedFile::commit`] gives it its final name.
#[derive(Debug)]
pub struct StagedFile {
    /// As the caller gave it, for errors.
    path: PathBuf,
    /// Links resolved, so that the file behind one is replaced and not the link.
    target: PathBuf,
    file: NamedTempFile,
    bytes: u64,
    /// Whether all that was written is on the disk.
    is_sealed: bool,
}

impl StagedFile {
    /// Makes an empty file beside `path`, of `mode` less the umask.
    ///
    /// # Errors
    ///
    /// [`StagedFault::Write`] or [`StagedFault::NotRegular`]; nothing is left then.
    pub fn begin(path: &Path, mode: u32) -> Result<Self, StagedError> {
        let failed = |fault| StagedError { path: path.to_owned(), fault };
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if fs::metadata(&target).is_ok_and(|meta| !meta.is_file()) {
            return Err(failed(StagedFault::NotRegular));
        }
        if target.file_name().is_none() {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "the path names no file");
            return Err(failed(StagedFault::Write(error)));
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".plimsoll").permissions(Permissions::from_mode(mode));
        let file = builder.tempfile_in(folder_of(&target));
        let file = file.map_err(|error| failed(StagedFault::Write(error)))?;
        Ok(Self { path: path.to_owned(), target, file, bytes: 0, is_sealed: false })
    }

    /// Fills a file beside `path`, of `mode` less the umask, and syncs it.
    ///
    /// # Errors
    ///
    /// As [`StagedFile::begin`], and what `fill` says.
    pub fn write(
        path: &Path,
        mode: u32,
        fill: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
    ) -> Result<Self, StagedError> {
        let mut staged = Self::begin(path, mode)?;
        let filled = {
            let mut out = BufWriter::with_capacity(1 << 20, staged.file.as_file_mut());
            fill(&mut out).and_then(|()| out.flush())
        };
        filled.map_err(|error| staged.failed(error))?;
        staged.seal()?;
        Ok(staged)
    }

    /// Syncs what was written to the disk.
    ///
    /// # Errors
    ///
    /// [`StagedFault::Write`].
    pub fn seal(&mut self) -> Result<(), StagedError> {
        let file = self.file.as_file();
        let bytes = file.sync_all().and_then(|()| file.metadata());
        self.bytes = bytes.map_err(|error| self.failed(error))?.len();
        self.is_sealed = true;
        Ok(())
    }

    fn failed(&self, error: io::Error) -> StagedError {
        StagedError { path: self.path.clone(), fault: StagedFault::Write(error) }
    }

    /// The name that the caller gave.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The place that the file will have.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Bytes of the file when it was sealed.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives the file its final name, after [`StagedFile::seal`] if that was not called.
    ///
    /// # Errors
    ///
    /// [`StagedFault::Write`]; a file that was there before is then unchanged.
    pub fn commit(mut self) -> Result<(), StagedError> {
        if !self.is_sealed {
            self.seal()?;
        }
        let Self { path, target, file, .. } = self;
        let kept = file.persist(&target).map(drop).map_err(|why| why.error);
        kept.map_err(|error| StagedError { path, fault: StagedFault::Write(error) })?;
        sync_folder_of(&target);
        Ok(())
    }

    /// [`StagedFile::commit`] if nothing has that name.
    ///
    /// # Errors
    ///
    /// [`StagedFault::Exists`] or [`StagedFault::Write`].
    pub fn commit_new(mut self) -> Result<(), StagedError> {
        if !self.is_sealed {
            self.seal()?;
        }
        let Self { path, target, file, .. } = self;
        let kept = file.persist_noclobber(&target).map(drop).map_err(|why| why.error);
        kept.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => StagedError { path, fault: StagedFault::Exists },
            _ => StagedError { path, fault: StagedFault::Write(error) },
        })?;
        sync_folder_of(&target);
        Ok(())
    }
}

impl Write for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.is_sealed = false;
        self.file.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_file_mut().flush()
    }
}

/// The file is whole under its name by now. A folder that cannot be synced (some network file
/// systems) only means that a power cut may bring back what was there before.
fn sync_folder_of(path: &Path) {
    if let Ok(folder) = File::open(folder_of(path)) {
        let _ = folder.sync_all();
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
