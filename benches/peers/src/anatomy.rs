//! What the resident bytes of this process are, at the moment when most of them cannot be paged.
//!
//! ```text
//!   /proc/self/smaps, a mapping        part
//!   a path                             file     text, libraries, variables not written to
//!   VmFlags dc                         pages    the pager's ranges: no child sees them
//!   VmFlags dd                         tables   of the allocator and the pager, and buffers
//!   [heap], or at a multiple of 64 MiB heap     glibc: small blocks and what is free between
//!   any other                          stacks   and variables
//! ```
//!
//! Off unless [`WATCH_VARIABLE`] is set: reading the mappings takes time and some memory.

use std::io::{BufRead, BufReader};
use std::sync::Mutex;
use std::time::Duration;

/// Set: watch.
pub const WATCH_VARIABLE: &str = "PLIMSOLL_BENCH_WATCH";

const SAMPLE: Duration = Duration::from_millis(20);

/// Small blocks may change by so much while one looks.
const STILL_BYTES: u64 = 256 << 10;

/// glibc's heaps of threads begin at multiples of this.
const HEAP_ALIGN: u64 = 64 << 20;

/// Resident bytes by what they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anatomy {
    /// Mapped files.
    pub file: u64,
    /// What the pager holds.
    pub pages: u64,
    /// Heaps of the system's allocator.
    pub heap: u64,
    /// Tables and buffers of the allocator and the pager.
    pub tables: u64,
    /// Stacks of threads, and variables.
    pub stacks: u64,
    /// Bytes of blocks in use in `heap`, as the system's allocator counts them.
    pub small: u64,
    /// What it may hold.
    pub budget: u64,
    /// Most bytes of small blocks that were in use at any time.
    pub small_most: u64,
}

impl Anatomy {
    /// What stays in memory whatever the limit is.
    #[must_use]
    pub fn unpaged(&self) -> u64 {
        self.file + self.heap + self.stacks + self.tables
    }

    /// Looks at the mappings.
    fn look() -> Option<Self> {
        let smaps = BufReader::new(std::fs::File::open("/proc/self/smaps").ok()?);
        let mut found = Self::default();
        let (mut start, mut name, mut resident) = (0, String::new(), 0);
        for line in smaps.lines() {
            let line = line.ok()?;
            let mut words = line.split_whitespace();
            let first = words.next()?;
            if let Some(flags) = line.strip_prefix("VmFlags:") {
                *found.part(start, &name, flags) += resident;
            } else if first == "Rss:" {
                resident = words.next()?.parse::<u64>().ok()? << 10;
            } else if let Some((from, _)) = first.split_once('-').filter(|_| !first.ends_with(':'))
            {
                start = u64::from_str_radix(from, 16).ok()?;
                name = words.nth(4).unwrap_or_default().to_owned();
            }
        }
        Some(found)
    }

    /// Where a mapping is counted.
    fn part(&mut self, start: u64, name: &str, flags: &str) -> &mut u64 {
        let has = |flag: &str| flags.split_whitespace().any(|word| word == flag);
        if name.starts_with('/') {
            &mut self.file
        } else if has("dc") {
            &mut self.pages
        } else if has("dd") {
            &mut self.tables
        } else if name == "[heap]" || (name.is_empty() && start.is_multiple_of(HEAP_ALIGN)) {
            &mut self.heap
        } else {
            &mut self.stacks
        }
    }
}

static MOST: Mutex<Option<Anatomy>> = Mutex::new(None);

/// What allocators count, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Small blocks in use.
    pub small: u64,
    /// What the pager holds.
    pub held: u64,
    /// What it may hold.
    pub budget: u64,
}

/// Watches this process until its end, if that is wanted.
pub fn watch(counts: fn() -> Counts) {
    if std::env::var_os(WATCH_VARIABLE).is_none() {
        return;
    }
    std::thread::spawn(move || {
        loop {
            let before = counts();
            let found = Anatomy::look();
            let Counts { small, held, budget } = counts();
            // The kernel counts one mapping after the other: what changed meanwhile is in no sum.
            let still = small.abs_diff(before.small) <= STILL_BYTES;
            let mut most = MOST.lock().expect("no other panics with it");
            let small_most = most.map_or(0, |most| most.small_most).max(small);
            let more = |found: &Anatomy| most.is_none_or(|most| found.unpaged() > most.unpaged());
            if let Some(found) = found.filter(|found| still && more(found)) {
                *most = Some(Anatomy { small, pages: held, budget, ..found });
            }
            if let Some(most) = most.as_mut() {
                most.small_most = small_most;
            }
            drop(most);
            std::thread::sleep(SAMPLE);
        }
    });
}

/// Fields of the moment when most could not be paged; nothing without [`watch`].
#[must_use]
pub fn fields() -> String {
    let Some(most) = *MOST.lock().expect("no other panics with it") else { return String::new() };
    let Anatomy { file, pages, heap, stacks, tables, small, budget, small_most } = most;
    let small = small.min(heap);
    let parts = [
        ("small_most", small_most),
        ("small", small),
        ("small_free", heap - small),
        ("tables", tables),
        ("stacks", stacks),
        ("file", file),
        ("pages", pages),
        ("pages_budget", budget),
    ];
    parts.iter().map(|(name, bytes)| format!(" watched_{name}_bytes={bytes}")).collect()
}
