//! The `plimsoll` command: parse, call, print.
//!
//! Exit codes: 0 done; 1 no proof (over the limit, nowhere to spill, witness not a solution, not
//! verified); 2 bad input (arguments, files, a limit that is no limit). `doctor`: 0, 1 or 2 by its
//! worst finding; `check`: 1 when a peak rose, 2 when nothing could be compared; `zram`: 0 to 5.
//! Results go to standard output, progress and errors to standard error; with `--json` an error
//! goes to both, also one in the arguments.

#![forbid(unsafe_code)]

mod args;
mod batch;
mod check;
mod compare;
mod counts;
mod doctor;
mod failure;
mod files;
mod keys;
mod layout;
mod live;
mod needs;
mod pack;
mod pictures;
mod plan;
mod prove;
mod proved;
mod random;
mod ranks;
mod report;
mod setup;
mod shard;
mod spill;
mod trace;
mod verify;
mod zram;

use args::{Arguments, Command};
use clap::Parser;
use std::process::ExitCode;

/// Runs the command that the process's arguments name.
fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return misused(&error),
    };
    let done = match &arguments.command {
        Command::Prove(args) => prove::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Vkey(args) => verify::run_vkey(args),
        Command::Shard(args) => shard::run(args),
        Command::Join(args) => shard::run_join(args),
        Command::Setup(args) => setup::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Pack(args) => pack::run(args),
        Command::Unpack(args) => pack::run_unpack(args),
        Command::Doctor(args) => return doctor::run(args),
        Command::Check(args) => return check::run(args),
        Command::Report(args) => compare::run(args),
        Command::Trace(args) => trace::run(args),
        Command::Zram(args) => return zram::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let failure::Failure::Told { exit } = failure {
                return ExitCode::from(exit);
            }
            report::tell(format_args!("error: {failure}"));
            if arguments.command.wants_json() {
                // What cannot be written to is told by the exit code alone.
                let _ = report::print(&failure.json());
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Says what is wrong with the arguments, as JSON, too, if one of them is `--json`; or prints the
/// help that they ask for.
fn misused(error: &clap::Error) -> ExitCode {
    // What cannot be written to is told by the exit code alone.
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    let failure = failure::Failure::misused(&error.render().to_string());
    if std::env::args_os().any(|word| word == "--json") {
        let _ = report::print(&failure.json());
    }
    ExitCode::from(failure.exit_code())
}
