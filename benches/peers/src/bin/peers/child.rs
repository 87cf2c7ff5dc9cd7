//! Processes that make proofs: started, watched, ended in time, read.
//!
//! ```text
//!   spawn --> every 10 ms: ended? VmRSS, deadline --> the line it printed
//!                 |                       |
//!                 +-- most resident       +-- kill: lost
//! ```

use plimsoll_peers::provers::Prover;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Seconds that any run may take when nothing is known of it yet.
pub(crate) const SECONDS_MAX: f64 = 600.0;

const SAMPLE: Duration = Duration::from_millis(10);

/// What a process printed of itself, and what was seen of it.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) first_seconds: f64,
    pub(crate) last_seconds: f64,
    pub(crate) total_seconds: f64,
    /// From start to end of the process, input and verifying included.
    pub(crate) wall_seconds: f64,
    /// VmHWM.
    pub(crate) peak_bytes: f64,
    /// Most of VmRSS in any sample.
    pub(crate) sampled_bytes: f64,
    pub(crate) hash: String,
    fields: BTreeMap<String, f64>,
}

impl Run {
    fn parse(text: &str, wall_seconds: f64, sampled_bytes: f64) -> Option<Self> {
        let line = text.lines().find(|line| line.starts_with("seconds="))?;
        let words: BTreeMap<_, _> =
            line.split_whitespace().filter_map(|field| field.split_once('=')).collect();
        let seconds: Vec<f64> = words
            .get("seconds")?
            .split(',')
            .map(|word| word.parse().ok())
            .collect::<Option<_>>()?;
        let fields = words
            .iter()
            .filter_map(|(name, value)| Some(((*name).to_owned(), value.parse().ok()?)))
            .collect::<BTreeMap<String, f64>>();
        Some(Self {
            first_seconds: *seconds.first()?,
            last_seconds: *seconds.last()?,
            total_seconds: seconds.iter().sum(),
            wall_seconds,
            peak_bytes: *fields.get("peak_bytes")?,
            sampled_bytes,
            hash: (*words.get("hash")?).to_owned(),
            fields,
        })
    }

    /// A number that not every child prints.
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.fields.get(name).copied()
    }
}

/// How the provers were compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// For any processor of this architecture.
    Portable,
    /// For this processor (`-C target-cpu=native`), as users of vector units build.
    Native,
}

impl Build {
    pub(crate) const ALL: [Self; 2] = [Self::Portable, Self::Native];

    /// What the name of a prover in a figure ends with.
    fn suffix(self) -> &'static str {
        match self {
            Self::Portable => "",
            Self::Native => "-native",
        }
    }
}

/// Where the binaries and the files are.
pub(crate) struct Children {
    build: Build,
    bins: PathBuf,
    pub(crate) folder: PathBuf,
}

impl Children {
    /// The binaries of a build: beside this program, or in `native/release` beside its folder.
    /// `None` if that build was not made.
    pub(crate) fn new(folder: &str, build: Build) -> Option<Self> {
        let own = std::env::current_exe().expect("a path of this program");
        let beside = own.parent().expect("a folder");
        let bins = match build {
            Build::Portable => beside.to_owned(),
            Build::Native => beside.parent().expect("a target folder").join("native/release"),
        };
        bins.join("plimsoll").exists().then(|| Self { build, bins, folder: folder.into() })
    }

    /// The name of a prover in figures of this build.
    pub(crate) fn name(&self, prover: Prover) -> String {
        format!("{}{}", prover.name(), self.build.suffix())
    }

    /// The words that make `proofs` proofs with the binary of an allocator.
    pub(crate) fn words(
        &self,
        binary: &str,
        prover: Prover,
        size: u32,
        proofs: usize,
    ) -> Vec<String> {
        vec![
            self.bins.join(binary).display().to_string(),
            prover.name().to_owned(),
            size.to_string(),
            proofs.to_string(),
            self.folder.display().to_string(),
        ]
    }

    /// Has the files made that a prover reads.
    pub(crate) fn prepare(&self, prover: Prover, size: u32) {
        let words = self.words("glibc", prover, size, 0);
        let made = Command::new(&words[0]).args(&words[1..]).status();
        assert!(made.is_ok_and(|status| status.success()), "{} has no input", prover.name());
    }

    /// Runs a command for `seconds` at most. `None`, with a line that says why, if it was killed or
    /// failed.
    pub(crate) fn run(
        &self,
        words: &[String],
        variables: &[(&str, &str)],
        seconds: f64,
    ) -> Option<Run> {
        let run = self.run_within(words, variables, Bounds { seconds, bytes: f64::INFINITY });
        run.inspect_err(|Lost { ended, seconds, said }| {
            println!("# lost after {seconds:.0} s, {ended:?}: {} ({said})", words.join(" "));
        })
        .ok()
    }

    /// Runs a command, and kills it where it goes out of bounds.
    pub(crate) fn run_within(
        &self,
        words: &[String],
        variables: &[(&str, &str)],
        bounds: Bounds,
    ) -> Result<Run, Lost> {
        let errors = self.folder.join("peers.stderr");
        let started = Instant::now();
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors).expect("a folder that can be written"))
            .spawn()
            .expect("the binaries beside this one");
        let (ended, sampled_bytes) = watch(&mut child, started, bounds);
        let wall_seconds = started.elapsed().as_secs_f64();
        let mut text = String::new();
        if let Some(mut output) = child.stdout.take() {
            let _ = output.read_to_string(&mut text);
        }
        let run = Run::parse(&text, wall_seconds, sampled_bytes).filter(|_| ended == Ended::Well);
        let said = std::fs::read_to_string(&errors).unwrap_or_default();
        let _ = std::fs::remove_file(errors);
        let said = said.lines().last().unwrap_or("it said nothing").to_owned();
        run.ok_or(Lost { ended, seconds: wall_seconds, said })
    }
}

/// What a process may take before it is killed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) seconds: f64,
    /// Resident, in any sample.
    pub(crate) bytes: f64,
}

/// A process without a proof: its end, when that was, and the last line of its errors.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) ended: Ended,
    pub(crate) seconds: f64,
    pub(crate) said: String,
}

/// How a process came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Well,
    Failed,
    AtTheDeadline,
    OverTheLimit,
}

fn watch(child: &mut Child, started: Instant, bounds: Bounds) -> (Ended, f64) {
    let kill = |child: &mut Child, ended| {
        let _ = child.kill();
        let _ = child.wait();
        ended
    };
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0.0f64;
    loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            return (if status.success() { Ended::Well } else { Ended::Failed }, most);
        }
        if started.elapsed().as_secs_f64() > bounds.seconds {
            return (kill(child, Ended::AtTheDeadline), most);
        }
        most = most.max(resident_bytes(&status).unwrap_or(0.0));
        if most > bounds.bytes {
            return (kill(child, Ended::OverTheLimit), most);
        }
        std::thread::sleep(SAMPLE);
    }
}

fn resident_bytes(status: &str) -> Option<f64> {
    let text = std::fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0)
}

/// Says what the figures depend on and cannot be seen in them.
pub(crate) fn print_machine() {
    let first = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().next().unwrap_or("none").trim().to_owned()
    };
    let order = Path::new("/sys/module/page_reporting/parameters/page_reporting_order");
    println!(
        "# kernel={} thp={} load={} threads={}",
        first("/proc/sys/kernel/osrelease"),
        first("/sys/kernel/mm/transparent_hugepage/enabled"),
        first("/proc/loadavg"),
        rayon::current_num_threads(),
    );
    // 10 is the largest order of pages: the kernel reports none of a larger one.
    let order: u32 = first(&order.display().to_string()).parse().unwrap_or(u32::MAX);
    if order <= 10 {
        println!(
            "# free pages are reported to the host (page_reporting_order={order}): the first touch \
             of a page may be as slow as the host gives it back, and huge pages meet more of it"
        );
    }
}
