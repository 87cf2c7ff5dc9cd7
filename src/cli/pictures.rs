//! `plimsoll prove --timeline FILE --report FILE`: the recorder around a proof.
//!
//! The files' folders are tried before any work is done; the files are written when the run has
//! ended, proof or no proof.

use super::args::ProveArgs;
use super::failure::Failure;
use super::needs::check_writable;
use plimsoll::Runtime;
use plimsoll::record::{KnownLimits, RecordError, Recorder, Recording};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The pictures that were asked for.
pub(super) struct Pictures {
    timeline: Option<PathBuf>,
    report: Option<PathBuf>,
    recorder: Option<Recorder>,
    recording: Option<Result<Recording, RecordError>>,
    written: Vec<PathBuf>,
}

impl From<RecordError> for Failure {
    fn from(error: RecordError) -> Self {
        Self::Input(error.to_string())
    }
}

impl Pictures {
    /// Checks that the files that were asked for can be made.
    pub(super) fn check(args: &ProveArgs) -> Result<(), Failure> {
        for (path, option) in files(&args.timeline, &args.report) {
            if path.is_dir() {
                let shown = path.display();
                return Err(Failure::Input(format!("{shown} is a folder; give {option} a file")));
            }
            let folder = path.parent().filter(|folder| *folder != Path::new(""));
            check_writable(folder.unwrap_or(Path::new(".")), option)?;
        }
        Ok(())
    }

    /// Records, if a picture was asked for.
    pub(super) fn start(args: &ProveArgs, runtime: &Runtime) -> Result<Self, Failure> {
        let (timeline, report) = (args.timeline.clone(), args.report.clone());
        let mut pictures =
            Self { timeline, report, recorder: None, recording: None, written: Vec::new() };
        if pictures.timeline.is_some() || pictures.report.is_some() {
            let builder = Recorder::builder().title(&title(args)).watch(runtime);
            let builder = match args.threads {
                Some(threads) => builder.threads(threads as usize),
                None => builder,
            };
            pictures.recorder = Some(builder.start()?);
        }
        Ok(pictures)
    }

    /// Ends the recording.
    pub(super) fn stop(&mut self) {
        self.recording = self.recorder.take().map(Recorder::finish);
    }

    /// Writes the files, with the process's own peak and the limits that would do. What goes wrong
    /// is said: a proof is not lost for a picture.
    pub(super) fn write_or_warn(&mut self, peak_rss_bytes: u64, limits: Option<KnownLimits>) {
        let Some(recording) = self.recording.take() else { return };
        self.written = match recording.and_then(|run| self.write(run, peak_rss_bytes, limits)) {
            Ok(()) => {
                files(&self.timeline, &self.report).map(|(path, _)| path.to_owned()).collect()
            }
            Err(why) => {
                let line = format!("warning: {why}\n");
                // Not `eprintln!`, which would panic where the reader has left.
                let _ = std::io::stderr().write_all(line.as_bytes());
                Vec::new()
            }
        };
    }

    fn write(
        &self,
        mut recording: Recording,
        peak_rss_bytes: u64,
        limits: Option<KnownLimits>,
    ) -> Result<(), RecordError> {
        recording.settle_peak(peak_rss_bytes);
        recording.known_limits = limits;
        if let Some(path) = &self.timeline {
            recording.write_timeline(path)?;
        }
        if let Some(path) = &self.report {
            recording.write_report(path)?;
        }
        Ok(())
    }

    /// One line for each file written.
    pub(super) fn said(&self) -> String {
        self.written.iter().map(|path| format!("wrote {}\n", path.display())).collect()
    }
}

/// The files that were asked for, with the option of each.
fn files<'a>(
    timeline: &'a Option<PathBuf>,
    report: &'a Option<PathBuf>,
) -> impl Iterator<Item = (&'a Path, &'static str)> {
    let timeline = timeline.as_deref().map(|path| (path, "--timeline"));
    timeline.into_iter().chain(report.as_deref().map(|path| (path, "--report")))
}

fn title(args: &ProveArgs) -> String {
    match args.files.circom() {
        Some((zkey, _)) => {
            let name = zkey.file_name().unwrap_or_default();
            format!("plimsoll prove, {}", name.to_string_lossy())
        }
        None => format!("plimsoll prove, {} SHA-256 compressions", args.compressions),
    }
}
