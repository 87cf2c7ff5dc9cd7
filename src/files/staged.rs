//! A file that appears whole or not at all.
//!
//! ```text
//!   write    a new file of another name in the same folder, filled and synced
//!   commit   its final name, in one rename; then the folder is synced
//!   drop     without `commit`: nothing is left
//! ```
//!
//! Invariant: whatever fails, what was under the final name is as it was.
//!
//! It must never replace something that is not a regular file, and never follow a link that
//! someone put where the temporary file goes (`O_EXCL`, by the crate tempfile).

use super::file_error::{Fault, FileError};
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A file under a temporary name. Drop removes it; [`StagedFile::commit`] gives it its final name.
#[derive(Debug)]
pub struct StagedFile {
    /// As the caller gave it, for errors.
    path: PathBuf,
    /// Links resolved, so that the file behind one is replaced and not the link.
    target: PathBuf,
    file: NamedTempFile,
    bytes: u64,
}

impl StagedFile {
    /// Fills a file beside `path`, of `mode` less the umask, and syncs it.
    ///
    /// # Errors
    ///
    /// [`Fault::Write`] or [`Fault::NotRegular`]; nothing is left then.
    pub fn write(
        path: &Path,
        mode: u32,
        fill: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
    ) -> Result<Self, FileError> {
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if fs::metadata(&target).is_ok_and(|meta| !meta.is_file()) {
            return Err(FileError::new(path, "file", Fault::NotRegular));
        }
        let staged = || -> io::Result<(NamedTempFile, u64)> {
            if target.file_name().is_none() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"));
            }
            let mut builder = tempfile::Builder::new();
            builder.prefix(".plimsoll").permissions(Permissions::from_mode(mode));
            let mut file = builder.tempfile_in(folder_of(&target))?;
            let mut out = BufWriter::with_capacity(1 << 20, file.as_file_mut());
            fill(&mut out)?;
            out.flush()?;
            drop(out);
            file.as_file().sync_all()?;
            let bytes = file.as_file().metadata()?.len();
            Ok((file, bytes))
        };
        match staged() {
            Ok((file, bytes)) => Ok(Self { path: path.to_owned(), target, file, bytes }),
            Err(error) => Err(FileError::new(path, "file", Fault::Write(error))),
        }
    }

    /// The place that the file will have.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives the file its final name.
    ///
    /// # Errors
    ///
    /// [`Fault::Write`]; a file that was there before is then unchanged.
    pub fn commit(self) -> Result<(), FileError> {
        let Self { path, target, file, .. } = self;
        file.persist(&target)
            .map_err(|why| FileError::new(&path, "file", Fault::Write(why.error)))?;
        // The file is whole under its name by now. A folder that cannot be synced (some network
        // file systems) only means that a power cut may bring back what was there before.
        if let Ok(folder) = File::open(folder_of(&target)) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
