//! What `plimsoll prove` shows while it works, on standard error.
//!
//! ```text
//!   a terminal      3/9 msm A      [=============>                ]  43%
//!                   84.2 MiB of 128 MiB [==================>          ]  packed 11 MiB, ...
//!   anything else   a line when a stage begins:  3/9 msm A at 1.2 s, 84.2 MiB of 128 MiB
//!   --json, -q      nothing
//! ```
//!
//! Must never: write to standard output, or be waited for by the prover: the memory line is drawn
//! by a thread of its own, five times a second.

use super::args::ProveArgs;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use plimsoll::Runtime;
use plimsoll::limit::format_bytes;
use std::io::{IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time between two looks at memory.
const INTERVAL: Duration = Duration::from_millis(200);

/// Progress of a proof, as far as someone looks.
pub(super) struct Live {
    runtime: Runtime,
    started: Instant,
    shown: Shown,
}

enum Shown {
    Nothing,
    Lines,
    Bars { all: MultiProgress, stage: ProgressBar, memory: Memory },
}

/// The memory line and the thread that draws it.
struct Memory {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Live {
    /// Begins to show the proof that `runtime` makes.
    pub(super) fn start(args: &ProveArgs, runtime: &Runtime) -> Self {
        let shown = match (args.quiet || args.json, std::io::stderr().is_terminal()) {
            (true, _) => Shown::Nothing,
            (false, true) => bars(runtime),
            (false, false) => Shown::Lines,
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
                let seconds = self.started.elapsed().as_secs_f64();
                let memory = memory_text(&self.runtime);
                let line = format!("{}/{count} {name} at {seconds:.1} s, {memory}\n", index + 1);
                // Not `eprintln!`, which would panic where the reader has left.
                let _ = std::io::stderr().write_all(line.as_bytes());
            }
            Shown::Bars { stage, .. } => {
                stage.set_prefix(format!("{}/{count}", index + 1));
                stage.set_message(name.to_owned());
                stage.set_length(1);
                stage.set_position(0);
                stage.tick();
            }
        }
    }

    fn advance(&self, done: usize, total: usize) {
        if let Shown::Bars { stage, .. } = &self.shown {
            stage.set_length(total as u64);
            stage.set_position(done as u64);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // Templates are constants, tried by a test; a bar without one is plain.
    let style = ProgressStyle::with_template(template);
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

const STAGE: &str = "{prefix:>5} {msg:<9} [{bar:30}] {percent:>3}%";
const LIMITED: &str = "      memory    [{bar:30}] {msg}";
const UNLIMITED: &str = "      memory    {msg}";

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
            bar.set_position(of_thread.meter().rss_bytes().unwrap_or(0));
            let mut text = memory_text(&of_thread);
            if rate > 0.0 {
                text += &format!(", spilling {}/s", format_bytes(rate as u64));
            }
            bar.set_message(text);
        }
        bar.finish_and_clear();
    });
    // Without a thread the memory line stays empty; the proof goes on.
    Shown::Bars { all, stage, memory: Memory { stop: Some(stop), thread: thread.ok() } }
}

/// What the process has of its limit, and what is packed and spilled, where something is.
fn memory_text(runtime: &Runtime) -> String {
    let mut text = match runtime.meter().rss_bytes() {
        Ok(bytes) => format_bytes(bytes).to_string(),
        Err(_) => "memory not known".to_owned(),
    };
    if let Some(limit) = runtime.limit_bytes() {
        text += &format!(" of {}", format_bytes(limit));
    }
    let spill = runtime.spill_stats();
    if spill.packed_bytes > 0 {
        text += &format!(", {} packed", format_bytes(spill.packed_bytes));
    }
    if spill.file_bytes > 0 {
        text += &format!(", {} on disk", format_bytes(spill.file_bytes));
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
