//! The options that say where cold memory goes.

use super::failure::Failure;
use clap::Args;
use plimsoll::Runtime;
use plimsoll::error::Error;
use plimsoll::limit::{LimitSpec, parse_bytes};
use plimsoll::spill::{Encryption, SpillOptions};
use plimsoll_arena::process::{LIMIT_VARIABLE, SPILL_DIR_VARIABLE, variable};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A folder that is on a disk on most machines, unlike /tmp.
const DEFAULT_FOLDER: &str = "/var/tmp";

/// Where spill files go unless the command line says so.
pub(super) fn default_folder() -> PathBuf {
    let named = variable(SPILL_DIR_VARIABLE).or_else(|| variable("TMPDIR"));
    named.map_or_else(|| DEFAULT_FOLDER.into(), |folder| OsStr::from_bytes(folder).into())
}

/// The limit of a proof for which none was asked: the environment's, or all that there is.
pub(super) fn auto_unless_set() -> Option<LimitSpec> {
    variable(LIMIT_VARIABLE).is_none().then_some(LimitSpec::Auto)
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Where cold memory goes")]
pub(super) struct SpillArgs {
    /// Folder for the spill file, on a disk. The file has no name there and is gone with the
    /// process. Default: $PLIMSOLL_SPILL_DIR, $TMPDIR, or /var/tmp.
    #[arg(long, value_name = "DIR", conflicts_with = "no_spill")]
    spill_dir: Option<PathBuf>,

    /// Most that the spill file may take of the disk; all that is free by default.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, conflicts_with = "no_spill")]
    spill_quota: Option<u64>,

    /// Most memory that packed vectors may take; what the limit leaves by default. 0: none.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    packed_limit: Option<u64>,

    /// Encrypt what is spilled, with a key that only this process has.
    #[arg(long, conflicts_with = "no_spill")]
    encrypt_spill: bool,

    /// Write no spill file: what does not fit in memory, packed, is over the limit.
    #[arg(long)]
    no_spill: bool,
}

impl SpillArgs {
    /// Whether packed vectors may take any memory.
    pub(super) fn can_pack(&self) -> bool {
        self.packed_limit != Some(0)
    }

    fn options(&self, folder: Option<PathBuf>) -> SpillOptions {
        let options = folder.map_or_else(SpillOptions::packed_only, SpillOptions::new);
        let packed = self.packed_limit.map_or(usize::MAX, |bytes| bytes as usize);
        options
            .quota_bytes(self.spill_quota.unwrap_or(u64::MAX))
            .packed_limit_bytes(packed)
            .encryption(if self.encrypt_spill { Encryption::On } else { Encryption::Off })
    }

    /// Makes the runtime that a command runs under.
    ///
    /// A folder that was asked for must do. The default one need not: without it, a proof that
    /// fits in memory is made all the same.
    pub(super) fn runtime(&self, limit: Option<LimitSpec>) -> Result<Runtime, Failure> {
        let build = |options| {
            let builder = Runtime::builder().spill(options);
            match limit {
                Some(limit) => builder.limit(limit).build(),
                None => builder.build(),
            }
        };
        if self.no_spill {
            return Ok(build(self.options(None))?);
        }
        if let Some(folder) = &self.spill_dir {
            return Ok(build(self.options(Some(folder.clone())))?);
        }
        match build(self.options(Some(default_folder()))) {
            Err(Error::Spill(why)) => {
                eprintln!("note: no spill file: {why}; choose a folder with --spill-dir");
                Ok(build(self.options(None))?)
            }
            built => Ok(built?),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::args::{Arguments, Command};
    use clap::Parser;

    #[test]
    fn what_is_spilled_is_encrypted_if_asked_for() {
        for (word, expected) in [("--encrypt-spill", "encryption: On"), ("-q", "encryption: Off")] {
            let arguments = Arguments::try_parse_from(["plimsoll", "prove", word]).unwrap();
            let Command::Prove(args) = arguments.command else { unreachable!("it says prove") };
            let options = format!("{:?}", args.spill.options(Some("/var/tmp".into())));
            assert!(options.contains(expected), "{word}: {options}");
        }
    }
}
