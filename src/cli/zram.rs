//! `plimsoll zram`: the script that sets up compressed swap in RAM, on machines that have only this
//! program.
//!
//! ```text
//!   plimsoll zram up --size 4GiB   ->   execve sh -c TEXT /usr/bin/plimsoll zram up --size 4GiB
//!                                             |    |      \---- $0 ------/ \------ "$@" ------/
//!                                             |    \ scripts/zram-setup.sh, from the library
//!                                             \ takes this process's place
//! ```
//!
//! The shell is no child: the terminal, the three streams, signals and the exit code are its own.
//! No file is written, so a read-only folder or a `noexec` mount is no obstacle, and nothing is
//! left to remove. The script gets the program's path, since it prints commands to run next
//! (`sudo`'s `PATH` may not have the program) and writes one into a systemd unit.
//!
//! Must never: interpret a word that is the script's.

use clap::Args;
use plimsoll::doctor::ZRAM_SETUP;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// The script's exit code for a program that is missing, here the shell.
const EXIT_NO_PROGRAM: u8 = 5;

#[derive(Debug, Args)]
pub(super) struct ZramArgs {
    /// A command of the script and its options.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORD")]
    words: Vec<OsString>,
}

/// Becomes the script; comes back only where there is no shell.
pub(super) fn run(args: &ZramArgs) -> ExitCode {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("plimsoll"));
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(ZRAM_SETUP).arg(program).arg("zram").args(&args.words);
    let why = shell.exec();
    eprintln!("error: the shell `sh` did not start: {why}; put one on the PATH");
    ExitCode::from(EXIT_NO_PROGRAM)
}
