//! Where a run's plan comes from, and where the run is recorded for the next one
//! (`PLIMSOLL_PLAN`).
//!
//! ```text
//!   learn:FILE   the run is recorded                                     record.rs
//!   FILE         the run goes by the plan in a file                      replay.rs
//!   auto:FOLDER  by the plan in a folder for runs of its shape; if there is none, the run is
//!                recorded: its next proof goes by what was recorded, and so do later runs
//! ```
//!
//! A run's shape is the size of the first large block that it asks for. Its plan is a file without
//! a name while it is written, and gets one when the first proof is over. A plan that a run strays
//! from for good is removed, so that a later run learns anew.
//!
//! Workers do this when they look around: threads of the program only note what blocks come and go.
//!
//! Must never: allocate but in tables of its own once the run has begun, or follow a link.

use std::ffi::CStr;
use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use plimsoll_arena::os::OsError;

use super::core::Core;
use super::plan::Plan;
use super::record::{FILE_BYTES_MAX, Record, Recorder};
use super::replay::Course;
use super::sync::Lock;
use super::sys::say;
use super::tables::Table;
use super::trace::{Events, TraceFault};

/// Where a run's plan comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanUse {
    /// What the run touches is written to this file, which is replaced.
    Learn(PathBuf),
    /// The run goes by the plan in this file.
    Follow(PathBuf),
    /// By the plan in this folder for runs of its shape; if there is none, it is learnt.
    Auto(PathBuf),
}

impl PlanUse {
    /// The file or folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Learn(path) | Self::Follow(path) | Self::Auto(path) => path,
        }
    }
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The file or folder cannot be used.
    #[error("OS error {errno}; name what the process may read and write")]
    Io {
        /// Its error number.
        errno: i32,
    },
    /// It holds no plan.
    #[error(transparent)]
    Trace(#[from] TraceFault),
    /// It is too long to be kept in memory.
    #[error("{bytes} bytes are too many for a plan; at most {FILE_BYTES_MAX} are read")]
    TooLong {
        /// Its length.
        bytes: u64,
    },
    /// The kernel refuses memory for it.
    #[error(transparent)]
    Memory(#[from] OsError),
}

impl From<std::io::Error> for PlanError {
    fn from(why: std::io::Error) -> Self {
        Self::Io { errno: why.raw_os_error().unwrap_or(0) }
    }
}

impl From<Errno> for PlanError {
    fn from(why: Errno) -> Self {
        Self::Io { errno: why as i32 }
    }
}

/// Reads what a file says as a plan.
fn read(file: &File) -> Result<Plan, PlanError> {
    let about = file.metadata()?;
    let bytes = about.len();
    if !about.is_file() {
        return Err(PlanError::Io { errno: libc::EINVAL });
    }
    if bytes > FILE_BYTES_MAX {
        return Err(PlanError::TooLong { bytes });
    }
    let mut text = Table::<u8>::new(bytes as usize)?;
    file.read_exact_at(&mut text, 0)?;
    let events = Events::of(&text)?;
    Ok(Plan::of(|| events.clone())?)
}

/// What is done about a plan while the run goes on.
pub(crate) struct Planning {
    recorder: Option<Recorder>,
    folder: Option<OwnedFd>,
    /// A [`Stage`], which the one who is `busy` changes.
    stage: AtomicU32,
    busy: AtomicBool,
}

/// How far a run is with its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The run's shape is not known yet.
    Shapeless,
    /// It is recorded, since its folder has no plan for it.
    Learning,
    /// The same, and the record has its name.
    Named,
    /// It goes by a plan, or is recorded for others.
    Settled,
    /// It strayed from its plan for good, and that was said.
    Over,
}

impl Planning {
    /// Makes what a run needs, and tells the tables.
    pub(crate) fn start(wanted: &PlanUse, core: &mut Core) -> Result<Self, PlanError> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let (mut recorder, mut folder, mut stage) = (None, None, Stage::Settled);
        match wanted {
            PlanUse::Learn(path) => {
                let file =
                    options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
                // One that was there keeps its mode.
                file.set_permissions(Permissions::from_mode(0o600))?;
                recorder = Some(Recorder::to(file, core.budget)?);
            }
            PlanUse::Follow(path) => core.replay.follow(read(&options.open(path)?)?),
            PlanUse::Auto(path) => {
                folder = Some(options.open(path)?.into());
                let file =
                    options.write(true).mode(0o600).custom_flags(libc::O_TMPFILE).open(path)?;
                recorder = Some(Recorder::to(file, core.budget)?);
                stage = Stage::Shapeless;
            }
        }
        if recorder.is_some() {
            core.record = Record::on()?;
        }
        let stage = AtomicU32::new(stage as u32);
        Ok(Self { recorder, folder, stage, busy: AtomicBool::new(false) })
    }

    fn stage(&self) -> Stage {
        let stages = [Stage::Shapeless, Stage::Learning, Stage::Named, Stage::Settled, Stage::Over];
        stages[self.stage.load(Ordering::Relaxed) as usize]
    }

    fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u32, Ordering::Relaxed);
    }

    /// Gives the record of a run the name of its shape, unless another run was faster.
    fn name(&self, file: &File, shape: u64) {
        if let Some(folder) = &self.folder {
            let source = text(format_args!("/proc/self/fd/{}", file.as_raw_fd()));
            let name = shape_name(shape);
            let follow = AtFlags::AT_SYMLINK_FOLLOW;
            if let Err(why) = linkat(AT_FDCWD, of(&source), folder, of(&name), follow)
                && why != Errno::EEXIST
            {
                say(format_args!(
                    "the plan cannot be kept for later runs: OS error {}",
                    why as i32
                ));
            }
        }
    }

    /// The plan in the folder for a shape.
    fn find(&self, shape: u64) -> Result<Plan, PlanError> {
        let Some(folder) = &self.folder else { return Err(Errno::ENOENT.into()) };
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        read(&openat(folder, of(&shape_name(shape)), flags, Mode::empty())?.into())
    }

    /// Removes the plan in the folder for a shape.
    fn remove(&self, shape: u64) {
        if let Some(folder) = &self.folder {
            // Another run may have done so.
            _ = unlinkat(folder, of(&shape_name(shape)), UnlinkatFlags::NoRemoveDir);
        }
    }

    /// Writes what was recorded, and does what is due. One worker does it at a time.
    pub(crate) fn tend(&self, core: &Lock<Core>) {
        // Acquire, and release below: what one did is seen by the next.
        if self.busy.swap(true, Ordering::Acquire) {
            return;
        }
        if let Some(recorder) = &self.recorder
            && !recorder.save(|words| core.lock().record.take(words))
        {
            core.lock().record = Record::default();
        }
        self.see_to(core);
        self.busy.store(false, Ordering::Release);
    }

    fn see_to(&self, core: &Lock<Core>) {
        let (proofs, course) = {
            let core = core.lock();
            (*core.replay.proofs(), core.replay.course())
        };
        match (self.stage(), proofs.shape(), &self.recorder) {
            (Stage::Shapeless, Some(shape), _) => match self.find(shape) {
                Ok(plan) => self.follow(core, plan),
                Err(why) => {
                    if why != Errno::ENOENT.into() {
                        // It is damaged, or none of ours.
                        self.remove(shape);
                    }
                    self.set_stage(Stage::Learning);
                }
            },
            (Stage::Learning, Some(shape), Some(recorder)) if proofs.is_over() => {
                self.name(recorder.file(), shape);
                self.set_stage(Stage::Named);
            }
            (Stage::Named, _, Some(recorder)) if proofs.has_next() => {
                match read(recorder.file()) {
                    Ok(plan) => self.follow(core, plan),
                    Err(why) => say(format_args!("the next proof has no plan: {why}")),
                }
                self.set_stage(Stage::Settled);
            }
            (Stage::Settled, shape, _) if course == Course::Left => {
                say(format_args!("the run does not do what its plan says, and goes on without it"));
                if let Some(shape) = shape {
                    self.remove(shape);
                }
                self.set_stage(Stage::Over);
            }
            _ => {}
        }
    }

    /// The run goes by a plan from now on, and is recorded no more.
    fn follow(&self, core: &Lock<Core>, plan: Plan) {
        let mut core = core.lock();
        core.record = Record::default();
        core.replay.follow(plan);
        self.set_stage(Stage::Settled);
    }
}

/// The longest name, with the zero that ends it.
const NAME_BYTES: usize = 64;

/// A name that ends with a zero.
fn text(what: fmt::Arguments<'_>) -> [u8; NAME_BYTES] {
    let mut bytes = [0; NAME_BYTES];
    // What does not fit is cut: no name here is as long.
    _ = (&mut bytes[..NAME_BYTES - 1]).write_fmt(what);
    bytes
}

fn of(text: &[u8; NAME_BYTES]) -> &CStr {
    CStr::from_bytes_until_nul(text).unwrap_or_default()
}

/// The name of the plan of runs of a shape.
fn shape_name(shape: u64) -> [u8; NAME_BYTES] {
    text(format_args!("{shape}.plan"))
}
