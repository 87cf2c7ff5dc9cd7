//! A copy of the fixture root, and the script run in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The journal, below a root.
pub(crate) const STATE: &str = "run/plimsoll-zram/state";

/// The project's folder: the crate's own, or one above it.
fn project() -> &'static Path {
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    folders.find(|folder| folder.join("scripts").is_dir()).expect("a folder of the project")
}

pub(crate) fn fixtures() -> PathBuf {
    project().join("tests/fixtures/zram")
}

pub(crate) fn script() -> PathBuf {
    project().join("scripts/zram-setup.sh")
}

/// The shells that are here, of those the script is for.
pub(crate) fn shells() -> Vec<&'static str> {
    let is_here =
        |shell: &&str| command(shell).args(["-c", ":"]).status().is_ok_and(|ended| ended.success());
    ["dash", "bash", "bash --posix", "busybox sh"].into_iter().filter(is_here).collect()
}

/// A shell, which may be two words.
pub(crate) fn command(shell: &str) -> Command {
    let mut words = shell.split(' ');
    let mut command = Command::new(words.next().expect("a shell"));
    command.args(words);
    command
}

/// What a run of the script gave.
#[derive(Debug)]
pub(crate) struct Run {
    /// Exit code; -1 if a signal ended it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().expect("a shell");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Both outputs, those of standard error marked; the script's own path as `SCRIPT`.
    pub(crate) fn text(&self) -> String {
        let errors: String = self.stderr.lines().map(|line| format!("stderr: {line}\n")).collect();
        (self.stdout.clone() + &errors).replace(&*script().to_string_lossy(), "SCRIPT")
    }

    /// Whether there is one line of error and no other, and it has `text` in it.
    pub(crate) fn is_one_line(&self, text: &str) -> bool {
        self.stdout.is_empty()
            && self.stderr.starts_with("zram-setup: ")
            && self.stderr.lines().count() == 1
            && self.stderr.contains(text)
    }
}

/// A copy of the fixture root that is removed on drop.
pub(crate) struct Root {
    folder: TempDir,
}

impl Root {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        copy(&fixtures().join("root"), folder.path());
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|why| panic!("{name}: {why}"))
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).unwrap_or_else(|why| panic!("{name}: {why}"));
    }

    pub(crate) fn write_program(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = format!("bin/{name}");
        self.write(&path, text);
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.path(&path), mode).expect("a mode");
    }

    pub(crate) fn remove(&self, name: &str) {
        let path = self.path(name);
        if path.is_dir() {
            std::fs::remove_dir_all(path).expect("a folder");
        } else if path.exists() {
            std::fs::remove_file(path).expect("a file");
        }
    }

    pub(crate) fn run(&self, words: &[&str]) -> Run {
        self.run_in("sh", words)
    }

    pub(crate) fn run_in(&self, shell: &str, words: &[&str]) -> Run {
        self.run_with(shell, words, &[])
    }

    pub(crate) fn run_with(&self, shell: &str, words: &[&str], env: &[(&str, &str)]) -> Run {
        self.run_of(command(shell).arg(script()).envs(env.iter().copied()), words)
    }

    /// Runs the program with the words, in this root.
    pub(crate) fn run_of(&self, program: &mut Command, words: &[&str]) -> Run {
        Run::of(program.args(words).arg("--root").arg(self.folder.path()))
    }

    /// Every file but the programs, with its text.
    pub(crate) fn files(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        walk(self.folder.path(), &mut |path| {
            let name = path.strip_prefix(self.folder.path()).expect("a file of the root");
            let text = std::fs::read_to_string(path).expect("a text");
            found.insert(name.display().to_string(), text);
        });
        found.retain(|name, _| !name.starts_with("bin/") && !name.ends_with(".lock"));
        found
    }

    /// What is different from `before`: each file with its new text, or `gone`.
    pub(crate) fn changes(&self, before: &BTreeMap<String, String>) -> String {
        let after = self.files();
        let mut shown = String::new();
        for (name, text) in &after {
            if before.get(name) != Some(text) {
                let text: String = text.lines().map(|line| format!("    {line}\n")).collect();
                shown += &format!("{name}:\n{text}");
            }
        }
        for name in before.keys().filter(|name| !after.contains_key(*name)) {
            shown += &format!("{name}: gone\n");
        }
        shown
    }

    pub(crate) fn sysctls(&self) -> BTreeMap<String, String> {
        let mut files = self.files();
        files.retain(|name, _| name.starts_with("proc/sys/vm/"));
        files
    }
}

fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { walk(&path, visit) } else { visit(&path) }
    }
}

fn copy(from: &Path, to: &Path) {
    walk(from, &mut |path| {
        let target = to.join(path.strip_prefix(from).expect("a file of the fixture"));
        std::fs::create_dir_all(target.parent().expect("a folder")).expect("a folder");
        std::fs::copy(path, target).expect("a copy");
    });
}
