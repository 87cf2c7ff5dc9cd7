//! The journal where it cannot be written, is no file, or cannot be told to be of this boot.

use super::root::{self, Root, Run, script, shells};
use plimsoll_arena::process::skipped;

/// The link to a device leads out of the root: nothing may be written there, nor the link go.
#[test]
fn a_journal_that_is_no_file_is_refused() {
    for command in ["up", "down", "status"] {
        let root = Root::new();
        root.write("run/folder/file", "");
        let link = root.path("run/null");
        std::os::unix::fs::symlink("/dev/null", &link).expect("a link");
        let before = root.sysctls();
        for state in ["/run/folder", "/run/null", "/run/folder/"] {
            let run = root.run(&[command, "--state", state]);
            assert!(run.code == 2 && run.is_one_line(state), "{command} {state}: {}", run.text());
        }
        assert!(link.is_symlink() && root.sysctls() == before);
    }
}

#[test]
fn a_folder_that_takes_no_new_file_is_one_line() {
    for shell in shells() {
        let root = Root::new();
        root.write("run/plimsoll-zram/state.lock/a-folder", "");
        let run = root.run_in(shell, &["up"]);
        assert!(run.code == 1 && run.is_one_line("read-only or full"), "{shell}: {}", run.text());
    }
}

#[test]
fn a_journal_that_cannot_be_begun_is_one_line() {
    for shell in shells() {
        let root = Root::new();
        let folder = root.path("run/plimsoll-zram");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::os::unix::fs::symlink("/nonexistent/file", folder.join("state")).expect("a link");
        let run = root.run_in(shell, &["up"]);
        assert!(run.code == 1 && run.is_one_line("file system full"), "{shell}: {}", run.text());
    }
}

/// `up` where no file may have more than 512 bytes, and the journal begins with a long line.
fn up_with_little_room(shell: &str, root: &Root, padding: usize) -> Run {
    for name in ["9".repeat(200), "8".repeat(padding)] {
        root.write(&format!("sys/block/zram{name}/disksize"), "4096\n");
    }
    let mut command = root::command("bash --posix");
    command.args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "bash"]);
    command.args(shell.split(' ')).arg(script()).args(["up", "--root"]);
    Run::of(command.arg(root.path("")))
}

#[test]
fn a_file_system_that_becomes_full_anywhere_leaves_all_as_before() {
    if !shells().contains(&"bash --posix") {
        skipped("a full file system", "needs bash, whose `ulimit -f` counts as POSIX says");
        return;
    }
    let shells = shells();
    let mut failed = 0;
    for padding in (60..240).step_by(3) {
        let root = Root::new();
        let sysctls = root.sysctls();
        let run = up_with_little_room(shells[padding % shells.len()], &root, padding);
        if run.code == 0 {
            continue;
        }
        failed += 1;
        assert!(run.code == 1 && run.is_one_line("full"), "{padding}: {}", run.text());
        assert_eq!((root.sysctls(), root.exists(root::STATE)), (sysctls, false), "{padding}");
        assert!(!root.read("proc/swaps").contains("zram1"), "{padding}");
    }
    assert!(failed > 40, "{failed} runs had too little room");
}

#[test]
fn without_proc_the_journal_is_kept() {
    for command in ["up", "down", "status"] {
        let root = Root::new();
        assert_eq!(root.run(&["up"]).code, 0);
        root.remove("proc/sys/kernel");
        let run = root.run(&[command]);
        assert!(run.code == 1 && run.is_one_line("boot_id"), "{command}: {}", run.text());
        assert!(root.exists(root::STATE));
    }
}
