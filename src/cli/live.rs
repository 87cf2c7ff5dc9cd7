//! What `plimsoll prove` shows while it works, on standard error.
//!
//! ```text
//!   bars    3/9 msm A      [=============>                ]  43%  1.2 s, 2 s left
//!           memory [=================>    ] 84.2 of 128.0 MiB, 11.0 packed, 3.1 on disk
//!   lines   a line when a stage begins:  3/9 msm A at 1.2 s, 84.2 of 128.0 MiB
//!   json    the same as JSON, and how far the stage is, at most five times a second:
//!           {"event":"stage","name":"msm A","index":2,"count":9,"seconds":1.2,"rss_bytes":..}
//!           {"event":"advance","done":4096,"total":65536,"seconds":1.4,"rss_bytes":..}
//!   none    nothing
//! ```
//!
//! Both bars fit 80 columns. What is left is the stage's, as long as it goes on as it went so far.
//!
//! Must never: write to standard output, or be waited for by the prover: the memory line is drawn
//! by a thread of its own, five times a second.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use plimsoll::Runtime;
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time between two looks at memory.
const INTERVAL: Duration = Duration::from_millis(200);

/// How progress is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(super) enum ProgressKind {
    /// Two bars: the stage, and memory.
    Bars,
    /// A line a stage.
    Lines,
    /// A line of JSON a step.
    Json,
    /// Nothing.
    None,
}

/// One line of JSON.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event<'a> {
    Stage { name: &'a str, index: usize, count: usize, seconds: f64, rss_bytes: u64 },
    Advance { done: usize, total: usize, seconds: f64, rss_bytes: u64 },
}

/// Progress of a proof, as far as someone looks.
pub(super) struct Live {
    runtime: Runtime,
    started: Instant,
    shown: Shown,
}

enum Shown {
    Nothing,
    Lines,
    /// When a line was written last.
    Json(Mutex<Instant>),
    Bars {
        all: MultiProgress,
        stage: ProgressBar,
        memory: Memory,
    },
}

/// The memory line and the thread that draws it.
struct Memory {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Live {
    /// Begins to show the proof that `runtime` makes: as asked for, or as fits a terminal or a log.
    pub(super) fn start(kind: Option<ProgressKind>, runtime: &Runtime) -> Self {
        let shown = match (kind, std::io::stderr().is_terminal()) {
            (Some(ProgressKind::None), _) => Shown::Nothing,
            (Some(ProgressKind::Json), _) => Shown::Json(Mutex::new(Instant::now())),
            (Some(ProgressKind::Bars), _) | (None, true) => bars(runtime),
            (Some(ProgressKind::Lines), _) | (None, false) => Shown::Lines,
        };
        Self { runtime: runtime.clone(), started: Instant::now(), shown }
    }

    /// Takes the bars away.
    pub(super) fn finish(self) {
        if let Shown::Bars { all, stage, memory } = self.shown {
            drop(memory);
            stage.finish_and_clear();
            // An error here is a terminal that has gone.
            let _ = all.clear();
        }
    }
}

impl Live {
    fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn write(&self, event: &Event<'_>) {
        if let Ok(line) = serde_json::to_string(event) {
            // Not `eprintln!`, which would panic where the reader has left.
            let _ = std::io::stderr().write_all((line + "\n").as_bytes());
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl plimsoll::groth16::prover::Progress for Live {
    fn stage(&self, name: &str, index: usize, count: usize) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Lines => {
                let (seconds, memory) = (self.seconds(), memory_text(&self.runtime));
                let line = format!("{}/{count} {name} at {seconds:.1} s, {memory}\n", index + 1);
                // Not `eprintln!`, which would panic where the reader has left.
                let _ = std::io::stderr().write_all(line.as_bytes());
            }
            Shown::Json(_) => {
                let (seconds, rss_bytes) = (self.seconds(), rss_bytes(&self.runtime));
                self.write(&Event::Stage { name, index, count, seconds, rss_bytes });
            }
            Shown::Bars { stage, .. } => {
                stage.set_prefix(format!("{}/{count}", index + 1));
                stage.set_message(name.to_owned());
                stage.set_length(1);
                stage.set_position(0);
                stage.reset_eta();
                stage.tick();
            }
        }
    }

    fn advance(&self, done: usize, total: usize) {
        match &self.shown {
            Shown::Bars { stage, .. } => {
                stage.set_length(total as u64);
                stage.set_position(done as u64);
            }
            Shown::Json(last) => {
                // Who holds the lock is writing a line just now.
                let Ok(mut last) = last.try_lock() else { return };
                if done == total || last.elapsed() >= INTERVAL {
                    *last = Instant::now();
                    let (seconds, rss_bytes) = (self.seconds(), rss_bytes(&self.runtime));
                    self.write(&Event::Advance { done, total, seconds, rss_bytes });
                }
            }
            Shown::Nothing | Shown::Lines => {}
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // Templates are constants, tried by a test; a bar without one is plain.
    let style = ProgressStyle::with_template(template);
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

const STAGE: &str = "{prefix:>5} {msg:<9} [{bar:30}] {percent:>3}%  {elapsed}, {eta} left";
const LIMITED: &str = "      memory    [{bar:12}] {wide_msg}";
const UNLIMITED: &str = "      memory    {wide_msg}";

fn bars(runtime: &Runtime) -> Shown {
    let all = MultiProgress::new();
    let stage = all.add(ProgressBar::new(0).with_style(style(STAGE)));
    let limit = runtime.limit_bytes();
    let template = if limit.is_some() { LIMITED } else { UNLIMITED };
    let bar = all.add(ProgressBar::new(limit.unwrap_or(0)).with_style(style(template)));
    let (stop, stopped) = channel();
    let of_thread = runtime.clone();
    let thread = std::thread::Builder::new().name("plimsoll-live".to_owned()).spawn(move || {
        let mut last = (Instant::now(), of_thread.spill_stats().spilled_total);
        while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
            let spill = of_thread.spill_stats();
            let seconds = last.0.elapsed().as_secs_f64().max(1e-3);
            let rate = (spill.spilled_total - last.1) as f64 / seconds;
            last = (Instant::now(), spill.spilled_total);
            bar.set_position(rss_bytes(&of_thread));
            let mut text = memory_text(&of_thread);
            if rate > 0.0 {
                text += &format!(", {}/s", mib(rate as u64));
            }
            bar.set_message(text);
        }
        bar.finish_and_clear();
    });
    // Without a thread the memory line stays empty; the proof goes on.
    Shown::Bars { all, stage, memory: Memory { stop: Some(stop), thread: thread.ok() } }
}

/// Resident bytes of the process; 0 if the kernel does not say.
fn rss_bytes(runtime: &Runtime) -> u64 {
    runtime.meter().rss_bytes().unwrap_or(0)
}

/// Mebibytes with one decimal.
fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / (1u64 << 20) as f64)
}

/// What the process has of its limit, and what is packed and spilled, where something is: in MiB,
/// and short, so that it fits a line.
fn memory_text(runtime: &Runtime) -> String {
    let mut text = mib(rss_bytes(runtime));
    if let Some(limit) = runtime.limit_bytes() {
        text += &format!(" of {}", mib(limit));
    }
    text += " MiB";
    let spill = runtime.spill_stats();
    if spill.packed_bytes > 0 {
        text += &format!(", {} packed", mib(spill.packed_bytes));
    }
    match (spill.file_bytes, spill.zram_bytes) {
        (0, _) => {}
        (spilled, 0) => text += &format!(", {} on disk", mib(spilled)),
        (spilled, zram) => text += &format!(", {} in {} of zram", mib(spilled), mib(zram)),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_parse() {
        for template in [STAGE, LIMITED, UNLIMITED] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
