//! docs/ops.md against the program: what it quotes is said, and what is said is there.
//!
//! ```text
//!   | it says | ...     `quoted`, `another ... of X`   -> pieces: runs of words without X, N, ...
//!   sources             fail CODE "..." and #[error("...")], continued lines joined
//!   piece               must be in the sources; each message must have one
//! ```

use std::path::Path;

/// Messages for who writes a program against the library, which no command of ours gives; and those
/// that are other messages, or a place and another message.
const OF_THE_LIBRARY: [&str; 37] = [
    "over_limit(stage",
    "rank {rank}: {why}",
    "the vector cannot be shared out: {0}",
    ".0.path.display()",
    ".path.display()",
    "\"{0}\"",
    "run `plimsoll setup` again",
    "the vector was taken out of its handle",
    "the bump arena's limit",
    "rewind",
    "spill files live as long as one process",
    "the frame cannot be written",
    "give it back its own length",
    "is not live",
    "use `AlignedBytes`",
    "describe these lanes as",
    "sysconf(PAGE_SIZE)",
    "asked for, there are",
    "give whole elements",
    "describe them otherwise",
    "its points are in the other group",
    "twiddle storage holds",
    "pad with zeros to the",
    "the coset offset is zero",
    "the plan is for",
    "both must be powers of two",
    "cannot be addressed",
    "pass slices of equal length",
    "does not fit this curve",
    "a pool",
    "{text:?} {kind}",
    "uses a value of another graph",
    "and a task before it takes that",
    "name the smaller one first",
    "ask the graph that it was made in",
    "schedule it again",
    "task \"{task}\": {error}",
];

const SCRIPTS: [&str; 2] = ["scripts/zram-setup.sh", "scripts/capped.sh"];

const ERRORS: [&str; 18] = [
    "arena/src/error.rs",
    "arena/src/process/words.rs",
    "src/columns/error.rs",
    "src/error.rs",
    "src/files/staged.rs",
    "src/graph/error.rs",
    "src/groth16/error.rs",
    "src/groth16/file_error.rs",
    "src/groth16/file_kind.rs",
    "src/groth16/setup.rs",
    "src/limit.rs",
    "src/meter.rs",
    "src/msm/mod.rs",
    "src/ntt/mod.rs",
    "src/ntt/plan.rs",
    "src/permit/shared/error.rs",
    "src/ranks/error.rs",
    "swap/src/error.rs",
];

const OTHERS: [&str; 24] = [
    "arena/src/process/limit.rs",
    "arena/src/process/over.rs",
    "src/cli/check/run.rs",
    "src/cli/failure.rs",
    "src/cli/files.rs",
    "src/cli/keys.rs",
    "src/cli/layout.rs",
    "src/cli/main.rs",
    "src/cli/needs.rs",
    "src/cli/pack.rs",
    "src/cli/pictures.rs",
    "src/cli/plan.rs",
    "src/cli/prove.rs",
    "src/cli/proved.rs",
    "src/cli/ranks.rs",
    "src/cli/setup.rs",
    "src/cli/spill.rs",
    "src/cli/verify.rs",
    "src/cli/zram.rs",
    "src/doctor/kernel.rs",
    "src/doctor/machine.rs",
    "src/groth16/shard.rs",
    "src/groth16/together.rs",
    "src/permit/shared/mod.rs",
];

/// The file with continued lines joined, so that a message is in one piece.
fn joined(name: &str) -> String {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name));
    let mut out = String::new();
    let mut continues = false;
    for line in text.unwrap_or_else(|why| panic!("{name}: {why}")).lines() {
        let line = if continues { line.trim_start() } else { line };
        continues = line.ends_with('\\');
        match line.strip_suffix('\\') {
            Some(line) => out += line,
            None => out = out + line + "\n",
        }
    }
    // Two words of a shell command.
    out.replace("\" \"", " ").replace("\\\"", "\"")
}

/// Whether a word of docs/ops.md stands for whatever is there.
fn is_placeholder(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '/');
    let short = word.len() == 1 && word.chars().all(|c| c.is_ascii_uppercase());
    let known = ["DIR", "FILE", "NAME=N", "NAME", "LIMIT", "1.00", "MiB", "tmpfs"];
    short || word.is_empty() || known.contains(&word) || word.contains('/')
}

/// Runs of words of everything quoted in the first column of the tables headed `it says`.
fn pieces() -> Vec<String> {
    let mut pieces = Vec::new();
    let mut in_table = false;
    for line in joined("docs/ops.md").lines() {
        in_table = line.starts_with("| it says") || (in_table && line.starts_with('|'));
        let Some(cell) = line.split('|').nth(1).filter(|_| in_table) else { continue };
        for quoted in cell.split('`').skip(1).step_by(2) {
            let mut run: Vec<&str> = Vec::new();
            for word in quoted.split(' ').chain(["..."]) {
                if !is_placeholder(word) {
                    run.push(word);
                } else if !run.is_empty() {
                    pieces.push(std::mem::take(&mut run).join(" "));
                }
            }
        }
    }
    pieces
}

/// The messages of a script, or of the errors of a file.
fn messages(name: &str) -> Vec<String> {
    let text = joined(name);
    let (start, end) = if name.ends_with(".sh") { ("fail ", "\n") } else { ("#[error(", ")]\n") };
    let cut = |part: &str| part.split(end).next().unwrap_or_default().to_owned();
    text.split(start).skip(1).map(cut).filter(|message| message.contains('"')).collect()
}

#[test]
fn what_the_manual_quotes_is_said() {
    let files = SCRIPTS.iter().chain(&ERRORS).chain(&OTHERS);
    let sources: String = files.map(|name| joined(name)).collect();
    let pieces = pieces();
    assert!(pieces.len() > 100, "{} pieces", pieces.len());
    let unsaid: Vec<_> = pieces.iter().filter(|piece| !sources.contains(*piece)).collect();
    assert!(unsaid.is_empty(), "nothing says {unsaid:#?}");
}

#[test]
fn what_is_said_is_in_the_manual() {
    // Shorter ones are in too many messages to explain any.
    let pieces: Vec<String> = pieces().into_iter().filter(|piece| piece.len() >= 6).collect();
    let mut missing = Vec::new();
    for name in SCRIPTS.iter().chain(&ERRORS) {
        for message in messages(name) {
            let known = |piece: &str| message.contains(piece);
            if !pieces.iter().any(|piece| known(piece)) && !OF_THE_LIBRARY.into_iter().any(known) {
                missing.push(format!("{name}: {message}"));
            }
        }
    }
    assert!(missing.is_empty(), "docs/ops.md does not explain {missing:#?}");
}
