//! Where keys of the built-in circuit are kept, and how a missing one is made.

use super::failure::Failure;
use super::needs::make_folder;
use indicatif::{ProgressBar, ProgressStyle};
use plimsoll_arena::process::variable;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Time between two looks at how long the key takes.
const TICK: Duration = Duration::from_millis(200);

/// Goes up when the built-in circuit changes: an old key is then not looked at.
const CIRCUIT_VERSION: u32 = 1;

/// The two files of one built-in circuit.
#[derive(Clone, Debug)]
pub(super) struct KeyPaths {
    pub(super) key: PathBuf,
    pub(super) matrices: PathBuf,
}

impl KeyPaths {
    /// Names the files for `compressions` in `folder`, or in the user's cache folder.
    pub(super) fn of(compressions: u64, folder: Option<&Path>) -> Result<Self, Failure> {
        let folder = match folder {
            Some(folder) => folder.to_owned(),
            None => cache_folder()?,
        };
        let name = format!("sha256-chain-v{CIRCUIT_VERSION}-{compressions}");
        Ok(Self {
            key: folder.join(format!("{name}.pk")),
            matrices: folder.join(format!("{name}.matrices")),
        })
    }

    /// Says whether both files are there.
    pub(super) fn exist(&self) -> bool {
        self.key.is_file() && self.matrices.is_file()
    }

    /// Waits until no other process makes this key, and keeps them waiting until dropped.
    pub(super) fn lock(&self) -> Result<std::fs::File, Failure> {
        let path = self.key.with_extension("lock");
        let locked = std::fs::File::create(&path).and_then(|file| file.lock().map(|()| file));
        locked.map_err(|why| {
            let shown = path.display();
            Failure::Input(format!("{shown}: cannot be locked: {why}; choose another --key-dir"))
        })
    }

    /// Makes the folder.
    pub(super) fn create_folder(&self) -> Result<(), Failure> {
        make_folder(self.key.parent().unwrap_or(Path::new(".")), "--key-dir")
    }

    /// Makes the key if it is not there; returns the seconds that this took. Standard error says
    /// that it is made, and on a terminal for how long by now, unless `is_quiet`.
    pub(super) fn make_if_missing(
        &self,
        compressions: u64,
        threads: Option<u64>,
        is_quiet: bool,
    ) -> Result<f64, Failure> {
        if self.exist() {
            return Ok(0.0);
        }
        self.create_folder()?;
        let folder = self.key.parent().unwrap_or(Path::new("."));
        let started = Instant::now();
        let line = format!(
            "making the key for {compressions} compressions, this once; it is kept in {}",
            folder.display()
        );
        let bar = if is_quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        if !is_quiet && bar.is_hidden() {
            eprintln!("{line}");
        }
        let style = ProgressStyle::with_template("{elapsed:>5} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(line);
        bar.enable_steady_tick(TICK);
        let made = make_in_child(compressions, folder, threads);
        bar.finish_and_clear();
        made.map(|()| started.elapsed().as_secs_f64())
    }
}

fn cache_folder() -> Result<PathBuf, Failure> {
    let absolute = |name| {
        let path = variable(name).map(|text| PathBuf::from(OsStr::from_bytes(text)));
        path.filter(|path| path.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("plimsoll"))
        .ok_or_else(|| {
            Failure::Input("neither XDG_CACHE_HOME nor HOME is set; pass --key-dir DIR".into())
        })
}

/// Makes the key in a process of its own: the generator needs many times the memory of a proof,
/// and none of it stays in ours.
fn make_in_child(compressions: u64, folder: &Path, threads: Option<u64>) -> Result<(), Failure> {
    let program = std::env::current_exe()
        .map_err(|why| Failure::Input(format!("cannot find the plimsoll program: {why}")))?;
    let mut child = Command::new(program);
    child.args(["setup", "--if-missing"]).args(["--compressions", &compressions.to_string()]);
    child.arg("--key-dir").arg(folder);
    if let Some(threads) = threads {
        child.args(["--threads", &threads.to_string()]);
    }
    let status = child.stdin(Stdio::null()).stdout(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::Input(format!(
            "making the key failed ({status}); it takes about 1 KiB of memory a constraint: run \
             `plimsoll setup --compressions {compressions}` where there is that much"
        ))),
        Err(why) => Err(Failure::Input(format!("the setup process did not start: {why}"))),
    }
}
