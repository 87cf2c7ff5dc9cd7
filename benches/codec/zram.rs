//! The kernel's zram as a peer: a device of our own, lz4, gone when dropped.
//!
//! ```text
//!   hot_add -> comp_algorithm lz4 -> disksize -> pwrite O_DIRECT, pread O_DIRECT -> reset, remove
//! ```
//!
//! `stored_bytes` is the second number of `mm_stat`. Must never touch a device that it did not add.
//!
//! Source: admin-guide/blockdev/zram of the kernel's documentation.

use crate::peers::Packer;
use plimsoll_swap::backend::AlignedBytes;
use std::fs::{File, OpenOptions, read_to_string};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

const CONTROL: &str = "/sys/class/zram-control";

/// Tries of what a busy device refuses: udev holds a new one for a moment.
const TRIES: usize = 20;

/// A request: what the kernel's own write-back hands a device at most.
const REQUEST_BYTES: usize = 1 << 20;

const PAGE_BYTES: usize = 4096;

/// A device that [`ZramDevice::new`] added; drop removes it.
pub(crate) struct ZramDevice {
    number: u32,
    file: Option<File>,
    /// The last page of a column that is not whole pages.
    page: AlignedBytes,
}

impl ZramDevice {
    /// Adds a device for `bytes`.
    ///
    /// # Errors
    ///
    /// Words for the reader: no root, no zram, no lz4.
    pub(crate) fn new(bytes: usize) -> Result<Self, String> {
        let number = read_to_string(format!("{CONTROL}/hot_add"))
            .map_err(|why| format!("{CONTROL}/hot_add: {why}; run as root where zram exists"))?;
        let number = number.trim().parse().map_err(|_| format!("hot_add gave {number:?}"))?;
        let bytes = bytes.next_multiple_of(PAGE_BYTES).max(PAGE_BYTES);
        let mut device = Self { number, file: None, page: AlignedBytes::zeroed(PAGE_BYTES) };
        let failed = |what: &str| format!("{what}: the kernel refused it");
        device.set("comp_algorithm", "lz4").map_err(|why| failed(&format!("lz4: {why}")))?;
        device
            .set("disksize", &bytes.to_string())
            .map_err(|why| failed(&format!("disksize: {why}")))?;
        let path = format!("/dev/zram{number}");
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).custom_flags(libc::O_DIRECT).open(&path)
        };
        device.file = Some(retried(open).map_err(|why| format!("{path}: {why}"))?);
        Ok(device)
    }

    fn knob(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/sys/block/zram{}/{name}", self.number))
    }

    fn set(&self, name: &str, value: &str) -> io::Result<()> {
        retried(|| std::fs::write(self.knob(name), value))
    }

    fn file(&self) -> &File {
        self.file.as_ref().expect("open until dropped")
    }
}

fn retried<T>(mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut tries = 1;
    loop {
        match work() {
            Err(why) if tries < TRIES && why.raw_os_error() == Some(libc::EBUSY) => {
                tries += 1;
                sleep(Duration::from_millis(100));
            }
            done => return done,
        }
    }
}

impl Packer for ZramDevice {
    fn name(&self) -> &'static str {
        "kernel-zram"
    }

    fn pack(&mut self, column: &[u8]) {
        let (whole, rest) = column.split_at(column.len() / PAGE_BYTES * PAGE_BYTES);
        for (index, request) in whole.chunks(REQUEST_BYTES).enumerate() {
            let at = (index * REQUEST_BYTES) as u64;
            self.file().write_all_at(request, at).expect("a device takes pages");
        }
        if !rest.is_empty() {
            self.page[..rest.len()].copy_from_slice(rest);
            let at = whole.len() as u64;
            self.file().write_all_at(&self.page, at).expect("a device takes pages");
        }
    }

    fn stored_bytes(&self) -> usize {
        let text = read_to_string(self.knob("mm_stat")).expect("the device is ours");
        let word = text.split_whitespace().nth(1).and_then(|word| word.parse().ok());
        word.expect("numbers in mm_stat")
    }

    fn unpack(&mut self, _column: &[u8], out: &mut [u8]) {
        let whole_bytes = out.len() / PAGE_BYTES * PAGE_BYTES;
        let (whole, rest) = out.split_at_mut(whole_bytes);
        for (index, request) in whole.chunks_mut(REQUEST_BYTES).enumerate() {
            let at = (index * REQUEST_BYTES) as u64;
            self.file().read_exact_at(request, at).expect("a device gives pages back");
        }
        if !rest.is_empty() {
            let file = self.file.as_ref().expect("open until dropped");
            let read = file.read_exact_at(&mut self.page, whole_bytes as u64);
            read.expect("a device gives pages back");
            rest.copy_from_slice(&self.page[..rest.len()]);
        }
    }
}

impl Drop for ZramDevice {
    fn drop(&mut self) {
        drop(self.file.take());
        let removed = self.set("reset", "1").and_then(|()| {
            let number = self.number.to_string();
            retried(|| std::fs::write(format!("{CONTROL}/hot_remove"), &number))
        });
        if let Err(why) = removed {
            let number = self.number;
            eprintln!("/dev/zram{number} could not be removed: {why}");
            eprintln!("remedy: echo 1 > /sys/block/zram{number}/reset");
            eprintln!("        echo {number} > {CONTROL}/hot_remove");
        }
    }
}
