//! What can go wrong with cold bytes, and what to do about it.
//!
//! One enum for the crate. Every variant is a value that can be compared and cloned, names the
//! place and the number that is wrong, and ends with what to do. No variant carries bytes of the
//! data: a witness must not be found in a log.
//!
//! ```text
//!   reading   Corrupt, Version     the bytes are not what was written: never use them
//!   framing   Frame                the buffer and the header do not go together
//!   extents   Quota, NotLive       no room under the quota; an extent given back wrongly
//!   disk      DiskFull             no space; before any byte is lost, if from a reservation
//!             Io, Short            a request failed, or ended early
//!             Map                  a window of the file cannot be mapped
//!             Unaligned            the caller's buffer or range is not made of whole blocks
//!             FileLimit            the process may write no file as long
//!             Open, RamDisk        no spill file can be made in this folder
//!             NoMapping            it can, and cannot be mapped
//!             NoKey                no random bytes to encrypt with
//!   swap      NoSwap, SwapFull     the kernel takes no pages, or no more of them
//!             SecretSwap           it would write a secret to a disk in the clear
//!             Swap                 a page cannot go or come
//!   codecs    Modulus              the caller's field is outside what can be packed
//! ```
//!
//! Invariant: after an error, an output buffer's contents are unspecified but initialised, the
//! range of a failed write holds anything, and nothing else has changed.

/// A failure to keep cold bytes, or to give them back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Stored bytes do not decode to what they claim to be.
    #[error(
        "stored bytes are damaged: {what}; they cannot be used, so recompute the vector or stop \
         the proof, and test the disk and the memory of this machine"
    )]
    Corrupt {
        /// The field or rule that does not hold.
        what: &'static str,
    },

    /// A frame of another version of the format.
    #[error(
        "the frame is of format version {found}, this build reads {expected}; spill files live as \
         long as one process, so do not pass them on"
    )]
    Version {
        /// The version in the header.
        found: u16,
        /// The version of this build.
        expected: u16,
    },

    /// A frame that cannot be made as asked.
    #[error("the frame cannot be written: {why}; size the buffer with `Header::frame_bytes`")]
    Frame {
        /// The rule that does not hold.
        why: &'static str,
    },

    /// The spill file may not grow by what was asked for.
    #[error(
        "the spill quota of {quota_bytes} bytes leaves no room for {asked_bytes} more: \
         {live_bytes} are live, the longest free run is {hole_bytes_max}; raise the quota, or \
         drop vectors"
    )]
    Quota {
        /// Bytes asked for.
        asked_bytes: u64,
        /// Bytes in live extents.
        live_bytes: u64,
        /// The longest extent that would be given.
        hole_bytes_max: u64,
        /// The quota.
        quota_bytes: u64,
    },

    /// A write failed before, and none is tried again.
    #[error(
        "the spill file takes no more since a write to it failed: {why}; what it holds can still \
         be read, so finish or stop the proof, then mend that"
    )]
    Poisoned {
        /// The first failure.
        why: Box<Error>,
    },

    /// There is no spill file, and the bytes do not pack or find no room packed.
    #[error(
        "{asked_bytes} bytes have nowhere to go: they do not pack, or packed memory is at its \
         limit, and there is no spill file; name a spill folder"
    )]
    NoFile {
        /// Bytes of the vector.
        asked_bytes: u64,
    },

    /// A vector was asked back with another length than it was saved with.
    #[error(
        "the vector has {expected} bytes, the room for it {found}; give it back its own length"
    )]
    Length {
        /// Its length.
        expected: usize,
        /// The room's.
        found: usize,
    },

    /// An extent was freed twice, in part, or to another map.
    #[error(
        "the extent of {bytes} bytes at {offset_bytes} is not live; give each extent back once, as \
         it was handed out, to the map that it came from"
    )]
    NotLive {
        /// Its first byte.
        offset_bytes: u64,
        /// Its length.
        bytes: u64,
    },

    /// The disk has no room, or this user's share of it is used up.
    #[error(
        "the disk is full: no room for {asked_bytes} bytes; free some, name a spill folder on \
         another disk, or lower the spill quota"
    )]
    DiskFull {
        /// Bytes asked for.
        asked_bytes: u64,
    },

    /// The process may not write so far into a file; the kernel would end it by a signal.
    #[error(
        "the process may write files of {limit_bytes} bytes at most (RLIMIT_FSIZE), and the spill \
         file needs more; raise that with `ulimit -f unlimited`"
    )]
    FileLimit {
        /// The most a file may have.
        limit_bytes: u64,
    },

    /// The operating system refused a request.
    #[error(
        "cannot {what} {bytes} bytes at {offset_bytes} of the spill file: {}; look at the kernel's \
         log, and name a spill folder on another disk",
        std::io::Error::from_raw_os_error(*os_error)
    )]
    Io {
        /// read, write, reserve or release.
        what: &'static str,
        /// Where.
        offset_bytes: u64,
        /// How many.
        bytes: u64,
        /// The number of errno(3).
        os_error: i32,
    },

    /// The operating system refused to map a part of the spill file.
    #[error(
        "cannot map {bytes} bytes at {offset_bytes} of the spill file: {}; raise vm.max_map_count, \
         or take the spill tier `file`",
        std::io::Error::from_raw_os_error(*os_error)
    )]
    Map {
        /// Where.
        offset_bytes: u64,
        /// How many.
        bytes: u64,
        /// The number of errno(3).
        os_error: i32,
    },

    /// A request was done in part and cannot be finished.
    #[error(
        "the {what} of {bytes} bytes at {offset_bytes} of the spill file ended early; reserve an \
         extent before using it, and look at the kernel's log"
    )]
    Short {
        /// read or write.
        what: &'static str,
        /// Where.
        offset_bytes: u64,
        /// How many were asked for.
        bytes: u64,
    },

    /// A request that is not made of whole blocks.
    #[error("the {what} is {rest_bytes} bytes past a multiple of 4096; use `AlignedBytes`")]
    Unaligned {
        /// offset, length or address.
        what: &'static str,
        /// What is left over.
        rest_bytes: u64,
    },

    /// The spill file cannot be made.
    #[error(
        "cannot make a spill file in {folder}: {}; name a folder that exists and may be written",
        std::io::Error::from_raw_os_error(*os_error)
    )]
    Open {
        /// The folder.
        folder: String,
        /// The number of errno(3).
        os_error: i32,
    },

    /// Files of this folder cannot be mapped.
    #[error(
        "a file in {folder} cannot be mapped: {}; take the spill tier `file`, or name a folder on \
         another file system",
        std::io::Error::from_raw_os_error(*os_error)
    )]
    NoMapping {
        /// The folder.
        folder: String,
        /// The number of errno(3).
        os_error: i32,
    },

    /// No key could be drawn.
    #[error(
        "the kernel gives no random bytes for a key: {}; allow getrandom(2) in this sandbox, or \
         spill without encryption to a disk that is encrypted",
        std::io::Error::from_raw_os_error(*os_error)
    )]
    NoKey {
        /// The number of errno(3).
        os_error: i32,
    },

    /// The kernel's swap cannot be used.
    #[error(
        "the kernel's swap cannot be used: {why}; set it up with `plimsoll zram up` \
         (scripts/zram-setup.sh) or allow it to this cgroup, or take the spill tier `file`"
    )]
    NoSwap {
        /// What is missing.
        why: String,
    },

    /// The kernel takes no more pages.
    #[error(
        "the kernel's swap is full: it did not take {asked_bytes} bytes, which stay in memory; \
         give it more room (`plimsoll zram status` shows what zram has), or take the spill tier \
         `file`"
    )]
    SwapFull {
        /// Bytes asked for.
        asked_bytes: u64,
    },

    /// Swap on a disk would have a secret in the clear, and keep it after the process.
    #[error(
        "a secret does not go to swap on a disk in the clear: encrypt what is spilled, swap to \
         zram alone (`plimsoll zram up`, `swapoff` for the rest), or take the spill tier `file`"
    )]
    SecretSwap,

    /// The kernel refused a request about pages in its swap.
    #[error(
        "cannot {what} {bytes} bytes of the kernel's swap: {}; look at the kernel's log, or take \
         the spill tier `file`",
        std::io::Error::from_raw_os_error(*os_error)
    )]
    Swap {
        /// page out, page in, take or drop.
        what: &'static str,
        /// How many.
        bytes: u64,
        /// The number of errno(3).
        os_error: i32,
    },

    /// The folder's files are in RAM.
    #[error(
        "{folder} is on {file_system}, which is RAM: spilling there frees nothing; name a folder \
         on a disk"
    )]
    RamDisk {
        /// The folder.
        folder: String,
        /// tmpfs or ramfs.
        file_system: &'static str,
    },

    /// A modulus that field packing does not take.
    #[error(
        "the modulus is refused: {why}; describe these lanes as `LaneSpec::Bytes` or \
         `LaneSpec::U64` instead"
    )]
    Modulus {
        /// The rule it breaks.
        why: &'static str,
    },
}

impl Error {
    /// Says whether it leaves a backend that was being written to as it was.
    pub(crate) fn is_want_of_swap(&self) -> bool {
        matches!(self, Self::NoSwap { .. } | Self::SwapFull { .. })
    }
}

/// A shorter way to say `Err(Error::Corrupt { .. })`.
#[cold]
pub(crate) fn corrupt<T>(what: &'static str) -> Result<T, Error> {
    Err(Error::Corrupt { what })
}
