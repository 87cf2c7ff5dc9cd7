//! The kernel's small files, read without allocating.
//!
//! ```text
//!   Tree "/" or a fixture   + "proc/meminfo"  -> path in the scratch -> lines, one at a time
//! ```
//!
//! A [`Reader`] holds what reading needs, so that nobody allocates and small stacks do.
//!
//! Invariants: a line longer than [`LINE_BYTES_MAX`] and a path longer than a path may be are
//! errors, never cut; a file that is absent is told apart from one that cannot be read. A cgroup
//! that was removed after its file was opened (`ENODEV`) is absent.
//!
//! Must never: allocate, keep a file open, or guess a number that cannot be read.

use std::ffi::CStr;

/// Longest line in bytes that is understood.
const LINE_BYTES_MAX: usize = 4096;

/// Longest path in bytes, with its end.
const PATH_BYTES_MAX: usize = 4096;

/// Longest piece of a file, in bytes, that an error repeats: about one line of a terminal.
const EXCERPT_BYTES_MAX: usize = 80;

/// Most bytes of one file that are read: 16 MiB, some 100 000 lines of `mountinfo`, which is the
/// kernel's default bound on mounts. Keeps a wrong path from being read for ever.
const FILE_BYTES_MAX: usize = 16 << 20;

/// A short text on the stack; longer ones are cut.
#[derive(Clone, Copy)]
pub(super) struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    /// No text.
    pub(super) const EMPTY: Self = Self { bytes: [0; N], len: 0 };

    pub(super) fn of(text: &[u8]) -> Self {
        let mut made = Self::EMPTY;
        made.push(text);
        made
    }

    /// Appends a text; false, and nothing is changed, where it does not fit.
    pub(super) fn append(&mut self, text: &[u8]) -> bool {
        let fits = text.len() <= N - self.len;
        if fits {
            self.push(text);
        }
        fits
    }

    fn push(&mut self, text: &[u8]) {
        let taken = text.len().min(N - self.len);
        self.bytes[self.len..self.len + taken].copy_from_slice(&text[..taken]);
        self.len += taken;
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Returns the text.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl<const N: usize> std::fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&String::from_utf8_lossy(self.as_bytes()), f)
    }
}

/// Why a file could not be read or understood. [`Scratch::unread`](super::Scratch::unread) names
/// the file and the text in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// A system call failed with this error number.
    Call(i32),
    /// The file holds something else than this.
    Malformed(&'static str),
    /// The file lacks this field.
    Missing(&'static str),
    /// A line, or the file, is longer than any of the kernel's.
    TooLong,
}

/// A path with its end.
pub(super) type PathText = Text<PATH_BYTES_MAX>;

impl PathText {
    /// Puts a path together, of parts that follow one another; false where it is too long.
    pub(super) fn join(&mut self, parts: &[&[u8]]) -> bool {
        self.clear();
        // One byte is left for the end.
        let fits = parts.iter().all(|part| self.append(part)) && self.len < PATH_BYTES_MAX;
        self.truncate(PATH_BYTES_MAX - 1);
        self.bytes[self.len] = 0;
        fits
    }

    fn as_c(&self) -> Option<&CStr> {
        CStr::from_bytes_with_nul(&self.bytes[..=self.len]).ok()
    }

    fn open(&self, more_flags: i32) -> Result<File, i32> {
        let path = self.as_c().ok_or(libc::EINVAL)?;
        let flags = libc::O_RDONLY | libc::O_CLOEXEC | more_flags;
        // SAFETY: the path is a C string.
        let file = unsafe { libc::open(path.as_ptr(), flags) };
        if file < 0 { Err(errno()) } else { Ok(File(file)) }
    }

    /// Says whether the path leads to a directory.
    pub(super) fn is_directory(&self) -> bool {
        self.open(libc::O_DIRECTORY | libc::O_PATH).is_ok()
    }
}

/// The directory that is taken for `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tree<'a>(pub(super) &'a [u8]);

impl<'a> Tree<'a> {
    /// This machine.
    pub const MACHINE: Tree<'static> = Tree(b"");

    /// Takes `root` for `/`.
    #[must_use]
    pub fn at(root: &'a [u8]) -> Self {
        Self(root.strip_suffix(b"/").unwrap_or(root))
    }
}

/// What reading a file needs in memory: its path, and one line of it.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathText,
    line: Text<LINE_BYTES_MAX>,
    /// What of it was not understood, cut to one line's length.
    unread: Text<EXCERPT_BYTES_MAX>,
}

impl Reader {
    pub(super) const fn new() -> Self {
        Self { path: Text::EMPTY, line: Text::EMPTY, unread: Text::EMPTY }
    }

    /// The file that was looked at last, and what of it was not understood.
    pub(super) fn unread(&self) -> (&[u8], &[u8]) {
        (self.path.as_bytes(), self.unread.as_bytes())
    }

    /// Calls `each` for the lines of a file, without their newlines and without empty ones, until
    /// it returns something. What it cannot understand becomes an error that shows the line.
    pub(super) fn find_line<R>(
        &mut self,
        parts: &[&[u8]],
        mut each: impl FnMut(&[u8]) -> Result<Option<R>, Unread>,
    ) -> Result<Found<R>, Unread> {
        let fits = self.path.join(parts);
        let Self { path, line, unread } = self;
        unread.clear();
        if !fits {
            return Err(Unread::TooLong);
        }
        let file = match path.open(0) {
            Ok(file) => file,
            Err(libc::ENOENT | libc::ENOTDIR | libc::ENODEV) => return Ok(Found::NoFile),
            Err(errno) => return Err(Unread::Call(errno)),
        };
        let mut read_bytes = 0;
        line.clear();
        loop {
            let read = match file.read(&mut line.bytes[line.len..]) {
                Ok(read) => read,
                Err(libc::ENODEV) => return Ok(Found::NoFile),
                Err(errno) => return Err(Unread::Call(errno)),
            };
            line.len += read;
            read_bytes += read;
            let mut done = 0;
            let text = line.as_bytes();
            while done < text.len() {
                let end = text[done..].iter().position(|byte| *byte == b'\n');
                let one = match end {
                    Some(end) => &text[done..done + end],
                    None if read == 0 => &text[done..],
                    None => break,
                };
                let found = if one.is_empty() { Ok(None) } else { each(one) };
                match found {
                    Ok(None) => {}
                    Ok(Some(found)) => return Ok(Found::Line(found)),
                    Err(why) => {
                        *unread = Text::of(one.trim_ascii());
                        return Err(why);
                    }
                }
                done += one.len() + 1;
            }
            if read == 0 {
                return Ok(Found::Nothing);
            }
            line.bytes.copy_within(done..line.len, 0);
            line.len -= done;
            if line.len == LINE_BYTES_MAX || read_bytes > FILE_BYTES_MAX {
                return Err(Unread::TooLong);
            }
        }
    }

    /// Reads a file of one number; `None` where there is no file, and where it says `max`.
    pub(super) fn number(
        &mut self,
        parts: &[&[u8]],
        expected: &'static str,
    ) -> Result<Option<u64>, Unread> {
        let malformed = Unread::Malformed(expected);
        let found = self.find_line(parts, |line| match line.trim_ascii() {
            b"max" => Ok(Some(None)),
            text => decimal(text).map(|number| Some(Some(number))).ok_or(malformed),
        })?;
        match found {
            Found::Line(number) => Ok(number),
            Found::NoFile => Ok(None),
            Found::Nothing => Err(malformed),
        }
    }

    /// Reads `name: count kB` lines of a file into bytes; `None` for a name that no line has.
    pub(super) fn kib_fields<const N: usize>(
        &mut self,
        parts: &[&[u8]],
        names: [&str; N],
    ) -> Result<[Option<u64>; N], Unread> {
        let mut values = [None; N];
        let found = self.find_line(parts, |line| {
            for (name, value) in names.iter().zip(&mut values) {
                if value.is_none() {
                    *value = kib_of(line, name)?;
                }
            }
            Ok(values.iter().all(Option::is_some).then_some(()))
        })?;
        match found {
            Found::NoFile => Err(Unread::Call(libc::ENOENT)),
            Found::Nothing | Found::Line(()) => Ok(values),
        }
    }
}

/// What looking for a line came to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<R> {
    /// There is no such file.
    NoFile,
    /// The file has no such line.
    Nothing,
    /// What was made of the line.
    Line(R),
}

/// An open file, closed when dropped.
struct File(i32);

impl File {
    fn read(&self, out: &mut [u8]) -> Result<usize, i32> {
        loop {
            // SAFETY: the buffer has that many bytes.
            let read = unsafe { libc::read(self.0, out.as_mut_ptr().cast(), out.len()) };
            match usize::try_from(read) {
                Ok(read) => return Ok(read),
                Err(_) if errno() == libc::EINTR => {}
                Err(_) => return Err(errno()),
            }
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: the descriptor is this value's own, and used by nobody any more.
        unsafe { libc::close(self.0) };
    }
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// A number of decimal digits and nothing else, if it fits.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// The count of a line `field:   <count> kB` in bytes; `None` for another field's line.
fn kib_of(line: &[u8], field: &str) -> Result<Option<u64>, Unread> {
    let rest = line.strip_prefix(field.as_bytes()).and_then(|rest| rest.strip_prefix(b":"));
    let Some(rest) = rest else { return Ok(None) };
    let count =
        rest.trim_ascii().strip_suffix(b" kB").and_then(|count| decimal(count.trim_ascii()));
    match count.and_then(|kib| kib.checked_mul(1024)) {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(Unread::Malformed("a count of kB")),
    }
}
