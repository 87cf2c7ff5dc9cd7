//! `plimsoll zram` against the script that it carries: the same words, texts, codes and files.
//!
//! The script itself is tested in `tests/zram_setup.rs`, on the same fixture root.

#[expect(dead_code, reason = "tests/zram_setup.rs uses the rest")]
#[path = "../zram_setup/root.rs"]
mod root;

use root::{Root, Run, script};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program, as it names itself.
fn program() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_plimsoll")).canonicalize().expect("the plimsoll program")
}

fn zram() -> Command {
    let mut command = Command::new(program());
    command.arg("zram");
    command
}

/// What is to be the same: the code, both outputs, and every file of the root. A unit of systemd's
/// has the program's path in quotation marks.
fn shown(run: &Run, root: &Root) -> String {
    let path = program().display().to_string();
    let text = run.text().replace(&format!("{path}\" zram"), "SCRIPT\"");
    let text = text.replace(&format!("{path} zram"), "SCRIPT");
    let text = text.replace(&*root.path("").to_string_lossy(), "ROOT/");
    format!("{text}code {}\n{:#?}", run.code, root.files())
}

#[test]
fn it_says_and_does_what_the_script_does() {
    let [ours, theirs] = [Root::new(), Root::new()];
    let runs: [&[&str]; 12] = [
        &["plan", "--primary", "--size", "1.5GiB"],
        &["plan", "--emit", "systemd", "--primary"],
        &["up", "--dry-run"],
        &["status"],
        &["up", "--json"],
        &["up", "--size=800MB"],
        &["status", "--json"],
        &["down"],
        &["down", "down"],
        &["up", "--size", ""],
        &["up", "--state", "two words"],
        &["frobnicate"],
    ];
    for words in runs {
        let run = ours.run_of(&mut zram(), words);
        let by_script = theirs.run(words);
        assert_eq!(shown(&run, &ours), shown(&by_script, &theirs), "{words:?}");
    }
}

#[test]
fn help_is_the_scripts_under_our_name() {
    let run = Run::of(zram().arg("--help"));
    let by_script = Run::of(Command::new(script()).arg("--help"));
    assert_eq!((run.code, by_script.code), (0, 0));
    let renamed = by_script.stdout.replacen("zram-setup.sh", "plimsoll zram", 1);
    assert_eq!(run.stdout, renamed);
    let bare = Run::of(&mut zram());
    assert_eq!((bare.code, bare.stderr), (2, run.stdout));
}

#[test]
fn the_commands_it_prints_run() {
    let root = Root::new();
    let plan = root.run_of(&mut zram(), &["plan", "--size", "2 GiB"]);
    let line = plan.stdout.lines().find_map(|line| line.strip_prefix("To do it:"));
    let line = format!("{} --root \"$ROOT\"", line.expect("the command to run next").trim());
    let mut shell = Command::new("sh");
    let run = Run::of(shell.args(["-c", &line]).env("ROOT", root.path("")));
    assert!(run.code == 0 && run.stdout.contains("2.00 GiB of swap"), "{line}: {}", run.text());
}

#[test]
fn a_kill_ends_the_program_and_down_is_as_before() {
    let root = Root::new();
    let sysctls = root.sysctls();
    let run = root.run_of(zram().env("KILL_IN", "mkswap"), &["up"]);
    assert_eq!(run.code, -1, "killed by a signal: {}", run.text());
    assert!(root.exists(root::STATE));
    assert_eq!(root.run_of(&mut zram(), &["down"]).code, 0);
    assert_eq!((root.sysctls(), root.exists(root::STATE)), (sysctls, false));
}

#[test]
fn without_a_shell_it_is_one_line_and_code_5() {
    let run = Run::of(zram().arg("up").env("PATH", "/nonexistent"));
    assert_eq!(run.code, 5, "{}", run.text());
    assert!(run.stdout.is_empty() && run.stderr.lines().count() == 1, "{}", run.text());
    assert!(run.stderr.contains("`sh` did not start"), "{}", run.text());
}
