//! What the benches share: the line they print, processes of our own, the kernel's figures.
//!
//! ```text
//!   bench --- spawns ---> itself, with PLIMSOLL_BENCH_PEER=name and `--child WORDS`
//!     |                     |
//!     +---- "go" ---------->|  does one round and answers one line
//!     |<--- "0.0123 64" ----+
//!     +---- (closes) ------>   ends
//! ```
//!
//! One process for each allocator, because a process has one; all of them stay alive and take turns
//! (A B C A B C), because the machine is shared and a slow second must not fall on one peer alone.
//!
//! A child that fails says why on stderr and ends; the parent then panics with its name: a bench
//! that cannot measure must not print a figure.
//!
//! Never: print a figure of work whose checksum was not looked at.

#![allow(dead_code, reason = "each bench uses its part of what is shared")]

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The environment variable that names the peer a child measures.
pub(crate) const PEER_VARIABLE: &str = "PLIMSOLL_BENCH_PEER";

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Seconds; a ratio below 1 is better.
    Seconds,
    /// Bytes; a ratio below 1 is better.
    Bytes,
    /// Nanoseconds; a ratio below 1 is better.
    Nanoseconds,
    /// Bytes a second; a ratio above 1 is better.
    BytesPerSecond,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Bytes => "bytes",
            Self::Nanoseconds => "ns",
            Self::BytesPerSecond => "B/s",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::Seconds => format!("{value:.3e}"),
            Self::Bytes => format!("{value:.0}"),
            Self::Nanoseconds => format!("{value:.1}"),
            Self::BytesPerSecond => format!("{value:.3e}"),
        }
    }
}

/// One figure of ours beside one of a peer.
#[derive(Clone, Debug)]
pub(crate) struct Figure<'a> {
    /// Name of the bench.
    pub(crate) bench: &'a str,
    /// Name of the case.
    pub(crate) case: &'a str,
    /// Our figure.
    pub(crate) ours: f64,
    /// The peer's figure.
    pub(crate) peer: f64,
    /// Unit of both.
    pub(crate) unit: Unit,
    /// Who the peer is.
    pub(crate) peer_name: &'a str,
}

impl Figure<'_> {
    /// Prints the figure as one line of `key=value` pairs.
    pub(crate) fn print(&self) {
        println!(
            "bench={} case={} ours={} peer={} ratio={:.3} unit={} peer_name={}",
            self.bench,
            self.case,
            self.unit.show(self.ours),
            self.unit.show(self.peer),
            self.ours / self.peer,
            self.unit.name(),
            self.peer_name,
        );
    }
}

/// How long a run may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Full sizes, minutes: `cargo bench`.
    Full,
    /// Small sizes, seconds: shows that the bench works. For `cargo test --benches`, `--test`, or
    /// `PLIMSOLL_BENCH_SMOKE=1`.
    Smoke,
}

/// Reads the effort off the command line: `cargo bench` passes `--bench`, `cargo test` does not.
pub(crate) fn effort() -> Effort {
    let asked = std::env::var_os("PLIMSOLL_BENCH_SMOKE").is_some_and(|value| value != "0");
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    if asked || has("--test") || !has("--bench") { Effort::Smoke } else { Effort::Full }
}

/// Whether the command line asks for `case`: it names a part of it, or no case at all.
pub(crate) fn wanted(case: &str) -> bool {
    let parts: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    parts.is_empty() || parts.iter().any(|part| case.contains(part.as_str()))
}

/// The folder of files: `PLIMSOLL_BENCH_FOLDER`, default /var/tmp.
pub(crate) fn folder() -> PathBuf {
    std::env::var_os("PLIMSOLL_BENCH_FOLDER").map_or_else(|| "/var/tmp".into(), PathBuf::from)
}

/// Prints what the figures depend on, as comments.
pub(crate) fn print_machine(bench: &str, effort: Effort) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let first_line = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_else(|_| "unknown".to_owned());
        text.lines().next().unwrap_or("unknown").to_owned()
    };
    let thp = first_line("/sys/kernel/mm/transparent_hugepage/enabled");
    println!("# bench={bench} effort={effort:?} threads={threads}");
    println!("# kernel={} thp={thp}", first_line("/proc/sys/kernel/osrelease"));
    println!("# load={}", first_line("/proc/loadavg"));
}

/// Writes a power of two or a multiple of one in the words of the case names: `512MiB`.
pub(crate) fn size_name(bytes: usize) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

/// Returns the median; of an even number, the lower of the two in the middle; of none, `None`.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

/// Returns the smallest value; infinity of none.
pub(crate) fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Reads a `Name:  123 kB` line of a file under /proc, in bytes.
fn kilobytes_line(path: &str, name: &str) -> usize {
    let text = std::fs::read_to_string(path).expect("this bench needs /proc");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let word = line.and_then(|rest| rest.split_whitespace().next());
    let kilobytes: usize = word.and_then(|word| word.parse().ok()).expect("a number of kB");
    kilobytes << 10
}

/// Returns the bytes of anonymous memory this process has resident. It walks the page tables, so
/// it is exact where the counters of `statm` lag, and it leaves out the program's own code.
pub(crate) fn anonymous_bytes() -> usize {
    kilobytes_line("/proc/self/smaps_rollup", "Anonymous")
}

/// Returns the largest resident set this process ever had, in bytes.
pub(crate) fn peak_rss_bytes() -> usize {
    kilobytes_line("/proc/self/status", "VmHWM")
}

/// Returns the bytes of file pages this process has resident: its program and libraries.
pub(crate) fn file_rss_bytes() -> usize {
    kilobytes_line("/proc/self/status", "RssFile")
}

/// Returns the memory the machine could still give, in bytes.
pub(crate) fn available_bytes() -> usize {
    kilobytes_line("/proc/meminfo", "MemAvailable")
}

/// Returns the page faults of this process that needed no disk.
pub(crate) fn minor_faults() -> u64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a rusage of our own, which the call fills.
    let returned = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    assert_eq!(returned, 0, "getrusage of this process");
    // SAFETY: all its fields are integers: zeroes are valid, and so is what the kernel wrote.
    let usage = unsafe { usage.assume_init() };
    u64::try_from(usage.ru_minflt).unwrap_or(0)
}

/// Words of the pattern: 16 KiB, a third of the first cache.
pub(crate) const PATTERN_LEN: usize = 2048;

/// The pattern, which starts where a page starts, as our vectors and most of the peers' do. How
/// fast memcpy(3) is depends on where both of its ends lie, and malloc puts a plain `Vec` anywhere.
#[derive(Debug)]
#[repr(C, align(4096))]
struct PatternWords([u64; PATTERN_LEN]);

/// The words that are written, and what they must sum to.
#[derive(Debug)]
pub(crate) struct Pattern {
    words: Box<PatternWords>,
    sum: u64,
}

impl Pattern {
    /// Makes the pattern: no two words alike, none zero.
    pub(crate) fn new() -> Self {
        // Multiples of the golden ratio.
        let word = |index: usize| (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let words = Box::new(PatternWords(std::array::from_fn(word)));
        let sum = sum(&words.0);
        Self { words, sum }
    }

    /// Returns the words.
    pub(crate) fn words(&self) -> &[u64] {
        &self.words.0
    }

    /// Asserts that every word of `vector` is the pattern's.
    pub(crate) fn check(&self, vector: &[u64]) {
        let expected = self.sum.wrapping_mul((vector.len() / PATTERN_LEN) as u64);
        assert_eq!(sum(vector), expected, "checksum of what was written");
    }

    /// Asserts it of sixteen words: cheap enough to be timed.
    pub(crate) fn check_some(&self, vector: &[u64]) {
        for index in (0..vector.len()).step_by(vector.len() / 16 + 1) {
            assert_eq!(vector[index], self.words.0[index % PATTERN_LEN], "word {index}");
        }
    }
}

fn sum(words: &[u64]) -> u64 {
    words.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

/// A process of this same program that measures one peer. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Helper {
    name: String,
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts the program again as peer `name` with `variables` and `--child WORDS`.
    pub(crate) fn spawn(name: &str, variables: &[(&str, &str)], words: &[String]) -> Self {
        let program = std::env::current_exe().expect("the path of this program");
        let mut child = Command::new(program)
            .arg("--child")
            .args(words)
            .env(PEER_VARIABLE, name)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can start itself");
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("piped above"));
        Self { name: name.to_owned(), child, requests, answers }
    }

    /// Reads the next answer: numbers, in one line.
    ///
    /// # Panics
    ///
    /// When the process ended instead: its own words are on stderr.
    pub(crate) fn answer(&mut self) -> Vec<f64> {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("a pipe to read");
        assert!(!line.is_empty(), "peer {} ended before it answered", self.name);
        line.split_whitespace().map(|word| word.parse().expect("a number")).collect()
    }

    /// Asks for one more round and reads its answer.
    pub(crate) fn round(&mut self) -> Vec<f64> {
        let requests = self.requests.as_mut().expect("open until dropped");
        requests.write_all(b"go\n").expect("the peer listens");
        self.answer()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.requests.take()); // the end of its input is the end of its loop
        // It ends by itself; whatever its exit code, its figures were read before.
        let _ = self.child.wait();
    }
}

/// Returns the words after `--child`, in a process that [`Helper::spawn`] started.
pub(crate) fn child_words() -> Option<Vec<String>> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--child");
    arguments.next().map(|_| arguments.collect())
}

/// In a child: sends one line of numbers.
pub(crate) fn send(numbers: &[f64]) {
    let words: Vec<String> = numbers.iter().map(|number| format!("{number:e}")).collect();
    println!("{}", words.join(" "));
}

/// In a child: waits for the next request. False at the end.
pub(crate) fn asked() -> bool {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).is_ok_and(|bytes| bytes > 0)
}
