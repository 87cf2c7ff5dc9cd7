//! Can this kernel, in this container, page for us? If not, why, and what helps.
//!
//! ```text
//!   /dev/userfaultfd -> userfaultfd(2) -> userfaultfd(2), user mode only -> none
//!   UFFD_FEATURE_MOVE, Linux 6.8
//!   a trial: one page moved from a range of ours to another and back
//! ```
//!
//! Through the first two doors the kernel serves faults inside system calls too. Through the
//! third, a read(2) into an evicted buffer fails with `EFAULT` and `O_DIRECT` likewise, which no
//! program expects: the pager therefore refuses that door unless told to take it.
//!
//! Invariant: a probe leaves nothing open and changes nothing.

use nix::libc;
use plimsoll_arena::os::{Linux, Os, OsError};

use super::space::GRANULE_BYTES;
use super::sys::errno;
use super::tables::Mapping;
use super::uffd::{Closed, Door, FEATURE_MOVE, MODE_DESTINATION, MODE_MISSING, Uffd};

/// Why there is no paging here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Obstacle {
    /// No userfaultfd is to be had.
    #[error(
        "userfaultfd is refused: /dev/userfaultfd: {}, system call: {}, for user mode: {}; give \
         the user read and write access to /dev/userfaultfd (`setfacl -m u:USER:rw`, or `docker \
         run --device /dev/userfaultfd`), or set vm.unprivileged_userfaultfd=1 and allow \
         `userfaultfd` in the seccomp profile",
        text(*device), text(*syscall), text(*user_mode)
    )]
    Refused {
        /// Error number of opening the device.
        device: i32,
        /// Error number of the system call.
        syscall: i32,
        /// Error number of the system call for user mode.
        user_mode: i32,
    },

    /// Only the door for user mode is open.
    #[error(
        "userfaultfd is allowed for faults in user mode only, so that read(2) into an evicted \
         buffer would fail; give the user access to /dev/userfaultfd, or CAP_SYS_PTRACE, or set \
         vm.unprivileged_userfaultfd=1; or accept it if no system call touches paged memory"
    )]
    UserModeOnly,

    /// The kernel is too old.
    #[error("this kernel cannot move pages (UFFDIO_MOVE): Linux 6.8 or newer is needed")]
    NoMove,

    /// A granule is less than a page.
    #[error(
        "the kernel's pages are {page_bytes} bytes and the pager moves 64 KiB at a time: use a \
         kernel with pages of 64 KiB or less, or run without the pager"
    )]
    PageSize {
        /// Bytes of a page.
        page_bytes: usize,
    },

    /// The process may open no more files.
    #[error(
        "no descriptor is free for the pager ({}), which needs four: raise `ulimit -n`",
        text(*errno)
    )]
    Descriptors {
        /// `EMFILE` or `ENFILE`.
        errno: i32,
    },

    /// The kernel has it, and it does not work.
    #[error("{call} failed with OS error {errno} in a trial; run without the pager")]
    Trial {
        /// The system call.
        call: &'static str,
        /// Its error number.
        errno: i32,
    },
}

impl From<OsError> for Obstacle {
    fn from(why: OsError) -> Self {
        Self::Trial { call: why.call, errno: why.errno }
    }
}

fn text(errno: i32) -> std::io::Error {
    std::io::Error::from_raw_os_error(errno)
}

/// Whether the door for user mode will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserMode {
    /// No: system calls may touch paged memory.
    #[default]
    Refuse,
    /// Yes: none does.
    Accept,
}

/// What the kernel offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// How faults are had, or why not.
    pub door: Result<Door, Obstacle>,
    /// Whether transparent huge pages may be asked for.
    pub huge_pages: bool,
}

/// Tries out what the pager needs.
pub fn probe() -> Probe {
    let enabled = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    let huge_pages = enabled.is_ok_and(|text| !text.contains("[never]"));
    Probe { door: open(UserMode::Accept).and_then(|uffd| trial(&uffd)), huge_pages }
}

/// Opens a userfaultfd that can move pages.
pub(crate) fn open(user_mode: UserMode) -> Result<Uffd, Obstacle> {
    page_fits(Linux.page_bytes())?;
    let refused = |closed: Closed| match closed.user_mode {
        errno @ (libc::EMFILE | libc::ENFILE) => Obstacle::Descriptors { errno },
        user_mode => {
            Obstacle::Refused { device: closed.device, syscall: closed.syscall, user_mode }
        }
    };
    let uffd = match Uffd::open(FEATURE_MOVE).map_err(refused)? {
        Ok(uffd) => uffd,
        Err(libc::EINVAL) => return Err(Obstacle::NoMove),
        Err(errno) => return Err(Obstacle::Trial { call: "UFFDIO_API", errno }),
    };
    if uffd.features & FEATURE_MOVE == 0 {
        return Err(Obstacle::NoMove);
    }
    if uffd.door == Door::UserModeOnly && user_mode == UserMode::Refuse {
        return Err(Obstacle::UserModeOnly);
    }
    Ok(uffd)
}

/// Pages must divide granules, which are what is moved.
fn page_fits(page_bytes: usize) -> Result<(), Obstacle> {
    let fits = page_bytes > 0 && GRANULE_BYTES.is_multiple_of(page_bytes);
    if fits { Ok(()) } else { Err(Obstacle::PageSize { page_bytes }) }
}

/// Whether what is mapped from now on is locked in memory: then nothing of it can be dropped.
pub(crate) fn locks_new_memory() -> Result<bool, OsError> {
    let page = Mapping::new(Linux.page_bytes(), Linux.page_bytes())?;
    // SAFETY: the page is ours, and nothing is in it.
    let returned = unsafe { Linux.advise(page.base().as_ptr(), page.bytes(), libc::MADV_DONTNEED) };
    Ok(returned != 0 && errno() == libc::EINVAL)
}

/// Moves a page there and back.
fn trial(uffd: &Uffd) -> Result<Door, Obstacle> {
    let page = Linux.page_bytes();
    let (data, frame) = (Mapping::new(page, page)?, Mapping::new(page, page)?);
    for (range, mode) in [(&data, MODE_MISSING), (&frame, MODE_DESTINATION)] {
        uffd.register(range.start(), page, mode)
            .map_err(|errno| Obstacle::Trial { call: "UFFDIO_REGISTER", errno })?;
    }
    // SAFETY: the range is committed and ours.
    unsafe { Linux.populate(frame.base(), page)? };
    for (to, from) in [(&data, &frame), (&frame, &data)] {
        // SAFETY: both ranges are ours, and nobody has a reference into them.
        let (_, error) = unsafe { uffd.move_pages(to.start(), from.start(), page) };
        if let Some(errno) = error {
            return Err(Obstacle::Trial { call: "UFFDIO_MOVE", errno });
        }
    }
    Ok(uffd.door)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_up_to_a_granule_will_do() {
        for page_bytes in [4 << 10, 16 << 10, 64 << 10] {
            assert_eq!(page_fits(page_bytes), Ok(()));
        }
        let refused = page_fits(256 << 10).expect_err("larger than a granule");
        assert!(refused.to_string().contains("262144"), "{refused}");
    }
}
