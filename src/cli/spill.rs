//! The options that say where cold memory goes.

use super::failure::Failure;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use plimsoll::Runtime;
use plimsoll::error::Error;
use plimsoll::limit::{LimitSpec, parse_bytes};
use plimsoll::permit::SharedLimit;
use plimsoll::spill::{Encryption, SpillOptions, SpillTier};
use plimsoll_arena::process::{LIMIT_VARIABLE, SPILL_DIR_VARIABLE, variable};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What the command comes to use itself, threads and buffers for I/O not counted: 6.4 MiB in core
/// and 6.9 MiB out of core were measured, 6.7 MiB of it code. Code that is not optimised is larger.
const PROGRAM_BYTES: u64 = if cfg!(debug_assertions) { 21 << 19 } else { 15 << 19 };

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

    /// How vectors are spilled. file: around the page cache, where the file system can. mapped: for
    /// file systems without O_DIRECT, and for persistent memory; an error of the disk then ends the
    /// command with SIGBUS. kernel: no file and no folder, but the swap that is set up, such as
    /// `plimsoll zram up`; on a disk only with --encrypt-spill. Default: file.
    #[arg(long, value_name = "TIER", value_parser = tiers(), conflicts_with = "no_spill")]
    spill_tier: Option<SpillTier>,

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

/// Reads a tier by its name.
fn tiers() -> impl TypedValueParser<Value = SpillTier> {
    let named = |word: String| SpillTier::ALL.into_iter().find(|tier| tier.name() == word);
    PossibleValuesParser::new(SpillTier::ALL.map(SpillTier::name))
        .try_map(move |word| named(word).ok_or("no such tier"))
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
            .tier(self.spill_tier.unwrap_or_default())
            .quota_bytes(self.spill_quota.unwrap_or(u64::MAX))
            .packed_limit_bytes(packed)
            .encryption(if self.encrypt_spill { Encryption::On } else { Encryption::Off })
    }

    /// Makes the runtime that a command runs under.
    ///
    /// Besides the command itself, libraries take `library_bytes`.
    ///
    /// A folder or a tier that was asked for must do. The default one need not: without it, a proof
    /// that fits in memory is made all the same.
    pub(super) fn runtime(
        &self,
        limit: Option<LimitSpec>,
        shared: Option<SharedLimit>,
        library_bytes: u64,
    ) -> Result<Runtime, Failure> {
        let build = |options| {
            let program_bytes = PROGRAM_BYTES + library_bytes;
            let mut builder = Runtime::builder().spill(options).program_bytes(program_bytes);
            if let Some(limit) = limit {
                builder = builder.limit(limit);
            }
            if let Some(shared) = &shared {
                builder = builder.shared_limit(shared.clone());
            }
            builder.build()
        };
        if self.no_spill {
            return Ok(build(self.options(None))?);
        }
        if self.spill_tier == Some(SpillTier::Kernel) {
            if self.spill_dir.is_some() {
                let why = "the spill tier `kernel` makes no file: leave --spill-dir out";
                return Err(Failure::Input(why.to_owned()));
            }
            return Ok(build(self.options(None))?);
        }
        let folder = self.spill_dir.clone().unwrap_or_else(default_folder);
        let asked = self.spill_dir.is_some() || self.spill_tier.is_some();
        match build(self.options(Some(folder))) {
            Err(Error::Spill(why)) if !asked => {
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
    use clap::error::ErrorKind;

    #[test]
    fn what_is_spilled_is_encrypted_if_asked_for() {
        for (word, expected) in [("--encrypt-spill", "encryption: On"), ("-q", "encryption: Off")] {
            let arguments = Arguments::try_parse_from(["plimsoll", "prove", word]).unwrap();
            let Command::Prove(args) = arguments.command else { unreachable!("it says prove") };
            let options = format!("{:?}", args.spill.options(Some("/var/tmp".into())));
            assert!(options.contains(expected), "{word}: {options}");
        }
    }

    #[test]
    fn the_tier_is_the_one_that_was_named_and_a_file_otherwise() {
        let tier = |words: &[&str]| {
            let words = [&["plimsoll", "prove"], words].concat();
            let arguments = Arguments::try_parse_from(words).map_err(|why| why.kind())?;
            let Command::Prove(args) = arguments.command else { unreachable!("it says prove") };
            Ok(format!("{:?}", args.spill.options(Some("/var/tmp".into()))))
        };
        for (words, expected) in [
            (&[][..], "tier: File"),
            (&["--spill-tier", "file"], "tier: File"),
            (&["--spill-tier", "mapped"], "tier: Mapped"),
            (&["--spill-tier", "kernel"], "tier: Kernel"),
        ] {
            let options = tier(words).unwrap();
            assert!(options.contains(expected), "{words:?}: {options}");
        }
        assert_eq!(tier(&["--spill-tier", "floppy"]), Err(ErrorKind::InvalidValue));
    }
}
