//! Tables and JSON.
//!
//! The JSON of `prove --json` is one object on one line:
//!
//! ```text
//!   verified           true; a run that fails prints an object with `error`, `kind` and `exit`
//!   limit_bytes        the limit in force
//!   limit_source       where it comes from, in words
//!   peak_rss_bytes     VmHWM of the process at the end
//!   in_core_limit_bytes    the smallest limit under which nothing leaves memory
//!   smallest_limit_bytes   the smallest limit that works
//!   over_limit         times the process was over it with nothing more to give back
//!   key_seconds        what making the key of the built-in circuit took before, mostly 0
//!   wall_seconds       from then to the verified proof
//!   domain_size        points of the evaluation domain
//!   stages             a list of: name, need_bytes, peak_bytes, live_peak_bytes,
//!                      held_peak_bytes, freed_bytes, exit_bytes,
//!                      wall_seconds, cpu_seconds, cpu_use, idle_core_seconds, could_have_run,
//!                      minor_faults, major_faults,
//!                      packed_bytes, spilled_bytes, loaded_bytes, read_ahead_hits, stalls,
//!                      stalled_seconds, over_limit
//!   ranks              of a proof by several: a list of rank, limit_bytes, peak_rss_bytes and
//!                      sent_bytes, the tiles that it sent to others
//!   spill              resident_bytes, packed_bytes, file_bytes, zram_bytes, the most that zram
//!                      took (zram_bytes_max), and totals of the run
//! ```
//!
//! The JSON of `prove --batch FILE --json` is one object on one line, also if proofs failed:
//!
//! ```text
//!   proofs             a list, in the order of the file, of: wtns, and
//!                      verified, proof, public, wall_seconds, and permit unless it was made
//!                      alone; or error, kind, exit
//!                      permit: name, bytes, peak_bytes, outgrown_bytes, moved_bytes, stalls,
//!                      stalled_nanos
//!   limit_bytes, limit_source, peak_rss_bytes, over_limit, wall_seconds, domain_size: as above
//! ```
//!
//! Fields may be added; none is renamed or taken away without a new major version.

use super::failure::{Failed, Failure};
use super::files::Outputs;
use plimsoll::groth16::plan::{PlannedStage, ProofPlan, Shape};
use plimsoll::limit::format_bytes;
use plimsoll::ntt::Moved;
use plimsoll::permit::PermitReport;
use plimsoll::spill::SpillStats;
use plimsoll::stage::StageReport;
use plimsoll::tiles::Share;
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The result of a proof.
#[derive(Debug, Serialize)]
pub(super) struct ProofReport {
    pub(super) verified: bool,
    pub(super) limit_bytes: u64,
    pub(super) limit_source: String,
    pub(super) peak_rss_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) in_core_limit_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) smallest_limit_bytes: Option<u64>,
    pub(super) over_limit: u64,
    pub(super) key_seconds: f64,
    pub(super) wall_seconds: f64,
    pub(super) domain_size: usize,
    pub(super) stages: Vec<StageReport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ranks: Vec<RankRow>,
    pub(super) spill: SpillStats,
}

/// What one rank of a proof took.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct RankRow {
    pub(super) rank: usize,
    pub(super) limit_bytes: u64,
    pub(super) peak_rss_bytes: u64,
    pub(super) sent_bytes: u64,
}

impl ProofReport {
    /// Returns the report as one line of JSON.
    pub(super) fn json(&self) -> Result<String, Failure> {
        json(self)
    }

    /// Returns the report as tables.
    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "{:<10} {:>12} {:>12} {:>12} {:>8} {:>10}\n",
            "stage", "need", "peak", "freed", "CPU use", "wall"
        );
        for stage in &self.stages {
            text += &format!(
                "{:<10} {:>12} {:>12} {:>12} {:>7.0}% {:>8.3} s\n",
                stage.name,
                size(stage.need_bytes),
                size(stage.peak_bytes),
                size(stage.freed_bytes),
                stage.cpu_use * 100.0,
                stage.wall_seconds,
            );
        }
        text += &self.spill_table();
        for row in &self.ranks {
            text += &format!(
                "\nrank {:<3} peak {} under {}; sent {}",
                row.rank,
                size(row.peak_rss_bytes),
                size(row.limit_bytes),
                size(row.sent_bytes)
            );
        }
        text += &format!("\nproof made and verified in {}\n", seconds(self.wall_seconds));
        if self.key_seconds > 0.0 {
            text += &format!("before that, {} to make the key\n", seconds(self.key_seconds));
        }
        text += &format!("peak {} under a limit of {}\n", size(self.peak_rss_bytes), {
            &self.limit_source
        });
        if let (Some(in_core), Some(least)) = (self.in_core_limit_bytes, self.smallest_limit_bytes)
        {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            text += &format!(
                "nothing leaves memory from --limit {}MiB on; the smallest that works is {}MiB\n",
                mib(in_core),
                mib(least)
            );
        }
        text
    }

    /// What left memory and came back, stage by stage; nothing when all stayed.
    fn spill_table(&self) -> String {
        let moved = |s: &&StageReport| s.packed_bytes + s.spilled_bytes + s.loaded_bytes > 0;
        if !self.stages.iter().any(|stage| moved(&stage)) {
            return String::new();
        }
        let mut text = format!(
            "\n{:<10} {:>12} {:>12} {:>12} {:>12} {:>7} {:>8}\n",
            "stage", "packed", "spilled", "brought back", "ahead of use", "stalls", "stalled"
        );
        for stage in self.stages.iter().filter(moved) {
            text += &format!(
                "{:<10} {:>12} {:>12} {:>12} {:>12} {:>7} {:>6.2} s\n",
                stage.name,
                size(stage.packed_bytes),
                size(stage.spilled_bytes),
                size(stage.loaded_bytes),
                stage.read_ahead_hits,
                stage.stalls,
                stage.stalled_seconds,
            );
        }
        if self.spill.zram_bytes_max > 0 {
            let zram = size(self.spill.zram_bytes_max);
            text += &format!("zram took {zram} of RAM at most, counted under the limit\n");
        }
        text
    }
}

/// The result of a batch.
#[derive(Debug, Serialize)]
pub(super) struct BatchReport {
    pub(super) proofs: Vec<BatchRow>,
    pub(super) limit_bytes: u64,
    pub(super) limit_source: String,
    pub(super) peak_rss_bytes: u64,
    pub(super) over_limit: u64,
    pub(super) wall_seconds: f64,
    pub(super) domain_size: usize,
}

/// A proof of a batch.
#[derive(Debug, Serialize)]
pub(super) struct BatchRow {
    wtns: PathBuf,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome {
    Made {
        verified: bool,
        proof: PathBuf,
        public: PathBuf,
        wall_seconds: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        permit: Option<PermitReport>,
    },
    Failed(Failed),
}

impl BatchRow {
    pub(super) fn made(
        wtns: &Path,
        out: &Outputs,
        took: Duration,
        permit: Option<PermitReport>,
    ) -> Self {
        let [proof, public] = out.paths().map(Path::to_owned);
        let wall_seconds = took.as_secs_f64();
        let outcome = Outcome::Made { verified: true, proof, public, wall_seconds, permit };
        Self { wtns: wtns.to_owned(), outcome }
    }

    pub(super) fn failed(wtns: &Path, failure: &Failure) -> Self {
        Self { wtns: wtns.to_owned(), outcome: Outcome::Failed(failure.row()) }
    }

    fn is_made(&self) -> bool {
        matches!(self.outcome, Outcome::Made { .. })
    }
}

impl BatchReport {
    /// Returns the report as one line of JSON.
    pub(super) fn json(&self) -> Result<String, Failure> {
        json(self)
    }

    fn made(&self) -> usize {
        self.proofs.iter().filter(|row| row.is_made()).count()
    }

    /// Returns the report as a table.
    pub(super) fn table(&self) -> String {
        let mut text =
            format!("{:>12} {:>12} {:>12} {:>10}  witness\n", "permit", "peak", "moved", "wall");
        for row in &self.proofs {
            let wtns = row.wtns.display();
            text += &match &row.outcome {
                Outcome::Made { wall_seconds, permit, .. } => format!(
                    "{:>12} {:>12} {:>12} {wall_seconds:>8.3} s  {wtns}\n",
                    permit.as_ref().map_or("alone".into(), |permit| size(permit.bytes)),
                    permit.as_ref().map_or(String::new(), |permit| size(permit.peak_bytes)),
                    permit.as_ref().map_or(String::new(), |permit| size(permit.moved_bytes)),
                ),
                Outcome::Failed(failed) => format!("{:>49}  {wtns}\n", failed.kind),
            };
        }
        text += &format!(
            "\n{} of {} proofs made and verified in {}\n",
            self.made(),
            self.proofs.len(),
            seconds(self.wall_seconds)
        );
        text += &format!("peak {} under a limit of {}\n", size(self.peak_rss_bytes), {
            &self.limit_source
        });
        text
    }

    /// Returns what the command fails with when all proofs were made over the limit.
    pub(super) fn over_limit(&self, failure: &Failure) -> Failure {
        Failure::Batch { text: failure.to_string(), row: failure.row() }
    }

    /// Returns what the command fails with when `first` was the first failure.
    pub(super) fn failure(&self, first: &Failure) -> Failure {
        let (all, made) = (self.proofs.len(), self.made());
        Failure::Batch {
            text: format!("{} of {all} proofs were not made; the first: {first}", all - made),
            row: first.row(),
        }
    }
}

/// Writes a line to standard error. Not `eprintln!`, which panics where nobody reads.
pub(super) fn tell(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Seconds, or milliseconds where there is less than one.
fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1e3) } else { format!("{seconds:.1} s") }
}

fn size(bytes: u64) -> String {
    format_bytes(bytes).to_string()
}

fn json(row: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string(row);
    // Only numbers and names: nothing in it can fail to be written.
    let text = text.map_err(|why| Failure::NoProof(format!("the report is not JSON: {why}")))?;
    Ok(text + "\n")
}

/// Writes a result to standard output. A reader that has left (`| head`) is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(why) if why.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Input(format!("standard output cannot be written to: {why}")))
        }
        _ => Ok(()),
    }
}

/// One planned stage, as JSON.
#[derive(Debug, Serialize)]
struct StageRow {
    name: &'static str,
    before_bytes: u64,
    need_bytes: u64,
    peak_bytes: u64,
    resident_bytes: u64,
    away_bytes: u64,
    packed_bytes_max: u64,
    spilled_bytes_max: u64,
    written_bytes: u64,
    read_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    sent_bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "that is how serde calls it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A plan, as JSON.
#[derive(Debug, Serialize)]
struct PlanRow {
    domain_size: usize,
    threads: usize,
    out_of_core: bool,
    chunk_points: usize,
    segment_variables: usize,
    stripe_bytes: u64,
    block_bytes: u64,
    base_bytes: u64,
    limit_bytes: Option<u64>,
    peak_bytes: u64,
    smallest_limit_bytes: u64,
    /// Of several ranks: the tiles that each sends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sent_bytes_by_rank: Vec<u64>,
    stages: Vec<StageRow>,
}

/// A plan, the limit it is for, and the plan with the smallest limit.
#[derive(Debug)]
pub(super) struct PlanReport<'a> {
    /// What is planned for, in words.
    pub(super) what: String,
    pub(super) shape: &'a Shape,
    pub(super) plan: &'a ProofPlan,
    pub(super) limit_bytes: Option<usize>,
    /// Whether packed vectors may take any memory.
    pub(super) can_pack: bool,
    pub(super) smallest_limit_bytes: u64,
}

impl PlanReport<'_> {
    fn row(&self) -> PlanRow {
        let limit = self.limit_bytes.unwrap_or(usize::MAX);
        let plan = self.plan;
        let split = plan.split();
        // Nothing is moved where everything finds room; what left in one stage comes back later.
        let moves = plan.stages().iter().any(|stage| plan.away_bytes(stage, limit) > 0);
        let stage = |stage: &PlannedStage| {
            let away = plan.away_bytes(stage, limit);
            let moved = if moves { stage.moved } else { Moved::default() };
            let alive = stage.before_bytes + stage.need_bytes + stage.made_bytes;
            let packed = if self.can_pack { away.min(stage.packable_bytes) } else { 0 };
            StageRow {
                name: stage.name.text(),
                before_bytes: stage.before_bytes as u64,
                need_bytes: stage.need_bytes as u64,
                peak_bytes: (plan.peak_bytes(stage) - away) as u64,
                resident_bytes: (alive - away) as u64,
                away_bytes: away as u64,
                packed_bytes_max: packed as u64,
                spilled_bytes_max: away as u64,
                written_bytes: moved.written_bytes,
                read_bytes: moved.read_bytes,
                sent_bytes: stage.sent_bytes,
            }
        };
        let stages: Vec<StageRow> = plan.stages().iter().map(stage).collect();
        let shares = Share::first_of(plan.ranks()).all().filter(|share| share.ranks() > 1);
        PlanRow {
            domain_size: self.shape.domain_size,
            threads: plan.threads(),
            out_of_core: split.is_some(),
            chunk_points: plan.chunk_len(),
            segment_variables: plan.segment_len(),
            stripe_bytes: split.map_or(0, |split| split.stripe_bytes() as u64),
            block_bytes: split.map_or(0, |split| split.block_bytes() as u64),
            base_bytes: plan.base_bytes() as u64,
            limit_bytes: self.limit_bytes.map(|bytes| bytes as u64),
            peak_bytes: stages.iter().map(|stage| stage.peak_bytes).max().unwrap_or(0),
            smallest_limit_bytes: self.smallest_limit_bytes,
            sent_bytes_by_rank: shares.map(|share| plan.sent_bytes(self.shape, share)).collect(),
            stages,
        }
    }

    /// Returns the plan as one line of JSON.
    pub(super) fn json(&self) -> Result<String, Failure> {
        json(&self.row())
    }

    /// Returns the plan as a table: what each stage holds, and out of core what it moves.
    pub(super) fn table(&self) -> String {
        let row = self.row();
        let way = if row.out_of_core { "out of core" } else { "in core" };
        let mut text = format!(
            "plan for {}\ndomain of {} points, {} threads, {way}\n\n{:<10}",
            self.what, row.domain_size, row.threads, "stage"
        );
        let heads: &[&str] = match row.out_of_core {
            false => &["held before", "need", "peak"],
            true => &["resident", "packed", "spilled", "peak", "written", "read"],
        };
        heads.iter().for_each(|head| text += &format!(" {head:>12}"));
        for stage in &row.stages {
            text += &format!("\n{:<10}", stage.name);
            let cells: &[u64] = match row.out_of_core {
                false => &[stage.before_bytes, stage.need_bytes, stage.peak_bytes],
                true => &[
                    stage.resident_bytes,
                    stage.packed_bytes_max,
                    stage.spilled_bytes_max,
                    stage.peak_bytes,
                    stage.written_bytes,
                    stage.read_bytes,
                ],
            };
            cells.iter().for_each(|bytes| text += &format!(" {:>12}", size(*bytes)));
        }
        text += "\n\n";
        if row.out_of_core {
            text += &format!(
                "transforms in stripes of {}, blocks of {}; assignment in segments of {}\n\
                 packed: what may pack of what finds no room; spilled: were nothing to pack;\n\
                 written and read: at most, were nothing of it to stay in memory\n\n",
                size(row.stripe_bytes),
                size(row.block_bytes),
                size((row.segment_variables * size_of::<ark_bn254::Fr>()) as u64),
            );
        }
        if let Some(most) = row.sent_bytes_by_rank.iter().max() {
            text += &format!(
                "these figures are for each of {} ranks, which sends at most {} of tiles to the \
                 others\n",
                row.sent_bytes_by_rank.len(),
                size(*most)
            );
        }
        let mib = row.smallest_limit_bytes.div_ceil(1 << 20);
        text += &format!("the program itself: {}\n", size(row.base_bytes));
        text += &format!("predicted peak:     {}\n", size(row.peak_bytes));
        text += &format!("smallest limit:     {mib}MiB\n");
        text
    }
}
