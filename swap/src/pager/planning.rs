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
//! A run's shape is the size of the first large block that it asks for. Its record is a file
//! without a name, until the first proof is over. A plan that a run strays from for good is
//! removed, so that a later run learns anew. A run that never seems to end a proof is not recorded
//! for ever.
//!
//! Workers do this when they look around: threads of the program only note what blocks come and go.
//!
//! Must never: allocate but in tables of its own once the run has begun, or in a folder follow a
//! link, or remove what it has not read itself.

use std::ffi::CStr;
use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

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
use super::space::GRANULE_BYTES;
use super::sync::Lock;
use super::sys::say;
use super::tables::Table;
use super::trace::{Events, TraceFault};

/// A plan may take one part in so many of what the pager may hold, and this at least.
const PLAN_SHARE: u64 = 32;
const PLAN_BYTES_MIN: u64 = 4 << 20;

/// A run that has no shape is recorded up to this length.
const SHAPELESS_BYTES_MAX: u64 = 16 << 20;

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
    #[error(
        "{bytes} bytes are too many for a plan under this limit; at most {most_bytes} are read"
    )]
    TooLong {
        /// Its length.
        bytes: u64,
        /// A share of what the pager may hold.
        most_bytes: u64,
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

/// Which file it is, whatever its name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(file: &File) -> std::io::Result<Self> {
        let about = file.metadata()?;
        Ok(Self { device: about.dev(), inode: about.ino() })
    }
}

/// Reads what a file says as a plan, under a budget of so many granules: it may take a 32nd of
/// them, as a file and as a plan.
fn read(file: &File, budget: u64) -> Result<Plan, PlanError> {
    let about = file.metadata()?;
    let bytes = about.len();
    if !about.is_file() {
        return Err(PlanError::Io { errno: libc::EINVAL });
    }
    let share = budget * GRANULE_BYTES as u64 / PLAN_SHARE;
    let most_bytes = FILE_BYTES_MAX.min(share.max(PLAN_BYTES_MIN));
    if bytes > most_bytes {
        return Err(PlanError::TooLong { bytes, most_bytes });
    }
    let mut text = Table::<u8>::new(bytes as usize)?;
    file.read_exact_at(&mut text, 0)?;
    let events = Events::of(&text)?;
    Ok(Plan::of(|| events.clone(), (most_bytes / 8) as u32)?)
}

/// What is done about a plan while the run goes on.
pub(crate) struct Planning {
    recorder: Option<Recorder>,
    folder: Option<OwnedFd>,
    state: Lock<PlanState>,
}

/// What changes while the run goes on.
#[derive(Clone, Copy, Debug)]
struct PlanState {
    stage: Stage,
    /// Somebody sees to it.
    is_busy: bool,
    /// The file in the folder that was read, or named.
    known: Option<FileId>,
    /// Bytes of the record when it was named.
    named_at: u64,
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
                recorder = Some(Recorder::to(file, core.budget())?);
            }
            PlanUse::Follow(path) => {
                core.replay.follow(read(&options.open(path)?, core.budget())?);
            }
            PlanUse::Auto(path) => {
                folder = Some(options.open(path)?.into());
                let file =
                    options.write(true).mode(0o600).custom_flags(libc::O_TMPFILE).open(path)?;
                recorder = Some(Recorder::to(file, core.budget())?);
                stage = Stage::Shapeless;
            }
        }
        if recorder.is_some() {
            core.record = Record::on()?;
        }
        let state = PlanState { stage, is_busy: false, known: None, named_at: 0 };
        Ok(Self { recorder, folder, state: Lock::new(state) })
    }

    /// Gives the record of a run the name of its shape, unless another run was faster.
    fn name(&self, file: &File, shape: u64) -> Option<FileId> {
        let folder = self.folder.as_ref()?;
        let source = text(format_args!("/proc/self/fd/{}", file.as_raw_fd()));
        let (name, follow) = (shape_name(shape), AtFlags::AT_SYMLINK_FOLLOW);
        match linkat(AT_FDCWD, of(&source), folder, of(&name), follow) {
            Ok(()) => FileId::of(file).ok(),
            Err(Errno::EEXIST) => None,
            Err(why) => {
                say(format_args!(
                    "the plan cannot be kept for later runs: OS error {}",
                    why as i32
                ));
                None
            }
        }
    }

    /// The file of the plan in the folder for a shape.
    fn find(&self, shape: u64) -> Result<File, Errno> {
        let Some(folder) = &self.folder else { return Err(Errno::ENOENT) };
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        Ok(openat(folder, of(&shape_name(shape)), flags, Mode::empty())?.into())
    }

    /// Removes the plan in the folder for a shape, if it still is the file that was known.
    fn remove(&self, shape: u64, known: Option<FileId>) {
        let Some(folder) = &self.folder else { return };
        let found = self.find(shape).ok().and_then(|file| FileId::of(&file).ok());
        if known.is_some() && found == known {
            // Another run may have done so just now.
            _ = unlinkat(folder, of(&shape_name(shape)), UnlinkatFlags::NoRemoveDir);
        }
    }

    /// Writes what was recorded, and does what is due. One worker does it at a time.
    pub(crate) fn tend(&self, core: &Lock<Core>) {
        let mut state = {
            let mut state = self.state.lock();
            if std::mem::replace(&mut state.is_busy, true) {
                return;
            }
            *state
        };
        if let Some(recorder) = &self.recorder
            && !recorder.save(|words| core.lock().record.take(words))
        {
            // It is no plan of a proof.
            state.stage = Stage::Settled;
            stop_recording(core);
        }
        self.see_to(core, &mut state);
        state.is_busy = false;
        *self.state.lock() = state;
    }

    fn see_to(&self, core: &Lock<Core>, state: &mut PlanState) {
        let (proofs, course, budget) = {
            let core = core.lock();
            (*core.replay.proofs(), core.replay.course(), core.budget())
        };
        let written = self.recorder.as_ref().map_or(0, Recorder::bytes);
        match (state.stage, proofs.shape(), &self.recorder) {
            (Stage::Shapeless, Some(shape), _) => self.look_for(core, shape, budget, state),
            (Stage::Shapeless, None, _) if written > SHAPELESS_BYTES_MAX => {
                state.stage = Stage::Settled;
                stop_recording(core);
            }
            (Stage::Learning, Some(shape), Some(recorder)) if proofs.is_over() => {
                state.known = self.name(recorder.file(), shape);
                (state.stage, state.named_at) = (Stage::Named, written);
            }
            (Stage::Named, _, Some(recorder)) if proofs.has_next() => {
                match read(recorder.file(), budget) {
                    Ok(plan) => follow(core, plan),
                    Err(why) => say(format_args!("the next proof has no plan: {why}")),
                }
                state.stage = Stage::Settled;
                stop_recording(core);
            }
            // What comes after the proof is none, or none like it.
            (Stage::Named, ..) if written > state.named_at * 2 => {
                state.stage = Stage::Settled;
                stop_recording(core);
            }
            (Stage::Settled, shape, _) if course == Course::Left => {
                say(format_args!("the run does not do what its plan says, and goes on without it"));
                let left = core.lock().replay.take_left();
                drop(left);
                if let Some(shape) = shape {
                    self.remove(shape, state.known);
                }
                state.stage = Stage::Over;
            }
            _ => {}
        }
    }

    /// Goes by the plan in the folder for a shape, or learns one.
    fn look_for(&self, core: &Lock<Core>, shape: u64, budget: u64, state: &mut PlanState) {
        state.stage = Stage::Learning;
        let file = match self.find(shape) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return,
            Err(why) => {
                say(format_args!("the plan in the folder cannot be read: OS error {}", why as i32));
                return;
            }
        };
        state.known = FileId::of(&file).ok();
        match read(&file, budget) {
            Ok(plan) => {
                follow(core, plan);
                stop_recording(core);
                state.stage = Stage::Settled;
            }
            Err(why @ PlanError::Trace(_)) => {
                say(format_args!("the plan in the folder is removed: {why}"));
                self.remove(shape, state.known);
            }
            Err(why) => say(format_args!("the plan in the folder cannot be read: {why}")),
        }
    }
}

/// The run goes by a plan from now on.
fn follow(core: &Lock<Core>, plan: Plan) {
    core.lock().replay.follow(plan);
}

/// The run is recorded no more, and runs as fast as it can.
fn stop_recording(core: &Lock<Core>) {
    let record = std::mem::take(&mut core.lock().record);
    drop(record);
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
