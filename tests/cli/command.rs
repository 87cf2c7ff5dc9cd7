//! The command as a user runs it: exit codes, JSON, files, and the limit that is kept.

#[path = "command_batch.rs"]
mod batch;
#[path = "command_files.rs"]
mod files;
#[path = "kernel_tier.rs"]
mod kernel_tier;
#[path = "command_pack.rs"]
mod pack;
#[path = "command_ranks.rs"]
mod ranks;
#[path = "command_trace.rs"]
mod trace;

use plimsoll_arena::process::skipped;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Runs `plimsoll` with `arguments`, keys in a folder that all tests share.
fn plimsoll(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_plimsoll"))
        .args(arguments)
        .env("XDG_CACHE_HOME", cache())
        .output()
        .expect("the plimsoll program")
}

/// A cache folder with the key of one compression in it.
fn cache() -> &'static Path {
    static CACHE: OnceLock<PathBuf> = OnceLock::new();
    CACHE.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cache");
        let made = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
            .args(["setup", "--compressions", "1"])
            .env("XDG_CACHE_HOME", &folder)
            .output()
            .expect("the plimsoll program");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        folder
    })
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(code(output), Some(0), "{text}{}", stderr(output));
    serde_json::from_str(&text).expect("one JSON object")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn fixture(name: &str) -> String {
    format!("{}/../../tests/fixtures/circom/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn smallest_limit(arguments: &[&str]) -> u64 {
    let plan = json(&plimsoll(&[&["plan", "--json"], arguments].concat()));
    plan["smallest_limit_bytes"].as_u64().expect("bytes")
}

#[test]
fn prove_reports_the_same_in_a_table_and_in_json() {
    let output = plimsoll(&["prove", "--compressions", "1"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    for word in ["stage", "need", "peak", "freed", "CPU use", "wall", "quotient", "msm B2"] {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }
    let report = json(&plimsoll(&["prove", "--compressions", "1", "--json"]));
    assert_eq!(report["verified"], Value::Bool(true));
    for field in ["limit_bytes", "peak_rss_bytes", "wall_seconds"] {
        assert!(report[field].as_f64().is_some_and(|n| n > 0.0), "{field}: {report}");
    }
    let stages = report["stages"].as_array().expect("stages");
    assert_eq!(stages.len(), 8);
    assert!(stages.iter().all(|stage| stage["peak_bytes"].as_u64() > Some(0)), "{report}");
}

#[test]
fn the_limit_is_kept_from_the_smallest_to_twice_it_for_twenty_seeds() {
    let least = smallest_limit(&["--compressions", "1"]);
    for seed in 0..20u64 {
        let limit = (least + least * seed / 19).to_string();
        let seed = seed.to_string();
        let arguments =
            ["prove", "--compressions", "1", "--json", "--limit", &limit, "--seed", &seed];
        let report = json(&plimsoll(&arguments));
        let peak = report["peak_rss_bytes"].as_u64().expect("bytes");
        let limit: u64 = limit.parse().expect("bytes");
        assert!(peak <= limit, "seed {seed}: peak {peak} over the limit {limit}");
        let planned: u64 = least * 2;
        assert!(peak * 4 > planned / 2, "the plan is far too large: {peak} of {least}");
    }
}

#[test]
fn the_limit_is_kept_for_circom_keys_and_with_many_threads() {
    for name in circuits() {
        let (zkey, wtns) = (fixture(&format!("{name}.zkey")), fixture(&format!("{name}.wtns")));
        let out = tempfile::tempdir().expect("folder");
        let folder = out.path().to_str().expect("UTF-8");
        for threads in ["1", "8"] {
            let least = smallest_limit(&["--zkey", &zkey, "--threads", threads]).to_string();
            let arguments = [
                "prove",
                "--zkey",
                &zkey,
                "--wtns",
                &wtns,
                "--out",
                folder,
                "--json",
                "--limit",
                &least,
                "--threads",
                threads,
            ];
            let report = json(&plimsoll(&arguments));
            assert!(report["peak_rss_bytes"].as_u64() <= least.parse().ok(), "{report}");
        }
    }
    let least = smallest_limit(&["--compressions", "1", "--threads", "8"]).to_string();
    let arguments = ["prove", "--compressions", "1", "--json", "--limit", &least, "--threads", "8"];
    let report = json(&plimsoll(&arguments));
    assert!(report["peak_rss_bytes"].as_u64() <= least.parse().ok(), "{report}");
}

#[test]
fn a_limit_below_the_smallest_is_refused_with_what_would_do() {
    let output = plimsoll(&["prove", "--compressions", "1", "--limit", "8MiB"]);
    assert_eq!(code(&output), Some(1));
    assert!(output.stdout.is_empty());
    let text = stderr(&output);
    assert!(text.contains("smallest limit") && text.contains("largest holders"), "{text}");
    // What the error names does do.
    let named = text.rsplit(' ').next().expect("the last word").trim();
    let output = plimsoll(&["prove", "--compressions", "1", "--limit", named]);
    assert_eq!(code(&output), Some(0), "{named}: {}", stderr(&output));
}

#[test]
fn the_same_seed_gives_the_same_proof_at_every_limit_and_thread_count() {
    let least = smallest_limit(&["--compressions", "1", "--threads", "2"]).to_string();
    let mut proofs = Vec::new();
    for (limit, threads) in [(least.as_str(), "1"), (least.as_str(), "2"), ("auto", "2")] {
        let out = tempfile::tempdir().expect("folder");
        let folder = out.path().to_str().expect("UTF-8");
        let arguments = [
            "prove",
            "--compressions",
            "1",
            "--seed",
            "11",
            "--limit",
            limit,
            "--threads",
            threads,
            "--out",
            folder,
        ];
        let output = plimsoll(&arguments);
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        let read = |name| std::fs::read(out.path().join(name)).expect("written");
        proofs.push((read("proof.json"), read("public.json")));
    }
    assert!(proofs.windows(2).all(|pair| pair[0] == pair[1]), "the proofs differ");
}

#[test]
fn where_cold_memory_goes_is_what_the_options_say() {
    let circuit = ["--compressions", "3"];
    assert_eq!(code(&plimsoll(&[&["setup", "--if-missing"], &circuit[..]].concat())), Some(0));
    let least = smallest_limit(&circuit).to_string();
    let out = tempfile::tempdir().expect("folder");
    let folder = out.path().to_str().expect("UTF-8");
    let prove = |options: &[&str]| {
        let common = ["prove", "--json", "--seed", "1", "--limit", &least, "--out", folder];
        plimsoll(&[&common, &circuit[..], options].concat())
    };
    let proof = || std::fs::read(out.path().join("proof.json")).expect("written");
    let sum = |report: &Value, field: &str| -> u64 {
        let stages = report["stages"].as_array().expect("stages");
        stages.iter().map(|stage| stage[field].as_u64().expect(field)).sum()
    };
    let both = json(&prove(&[]));
    let expected = proof();
    assert!(sum(&both, "packed_bytes") > 0 && sum(&both, "spilled_bytes") > 0, "{both}");
    assert!(sum(&both, "read_ahead_hits") > 0, "{both}");
    assert!(sum(&both, "stalls") > 0, "{both}");
    let table = ["prove", "--seed", "1", "--limit", &least];
    let table = plimsoll(&[&table, &circuit[..]].concat());
    let text = String::from_utf8_lossy(&table.stdout);
    assert_eq!(code(&table), Some(0), "{}", stderr(&table));
    for column in ["packed", "spilled", "brought back", "ahead of use", "stalls", "stalled"] {
        assert!(text.contains(column), "{column} is missing:\n{text}");
    }
    for options in [
        &["--packed-limit", "0"][..],
        &["--packed-limit", "0", "--encrypt-spill"],
        &["--packed-limit", "0", "--spill-tier", "mapped"],
        &["--packed-limit", "0", "--spill-tier", "mapped", "--encrypt-spill"],
    ] {
        let file_only = json(&prove(options));
        assert_eq!(sum(&file_only, "packed_bytes"), 0, "{file_only}");
        assert!(sum(&file_only, "spilled_bytes") > sum(&both, "spilled_bytes"), "{file_only}");
        assert!(proof() == expected, "{options:?}: another proof");
    }
    for (options, exit, word) in [
        (&["--packed-limit", "0", "--spill-quota", "1MiB"][..], 1, "spill quota of 1048576"),
        (&["--no-spill"], 1, "nowhere to go"),
        (&["--spill-tier", "mapped", "--spill-quota", "1MiB"], 1, "spill quota of 1048576"),
        (&["--spill-tier", "mapped", "--spill-dir", "/dev/shm"], 2, "which is RAM"),
        (&["--spill-tier", "mapped", "--no-spill"], 2, "cannot be used with"),
        (&["--spill-tier", "kernel", "--spill-dir", "/var/tmp"], 2, "makes no file"),
        (&["--spill-tier", "floppy"], 2, "file, mapped, kernel"),
        (&["--spill-dir", "/dev/shm"], 2, "which is RAM"),
        (&["--spill-dir", "/nowhere"], 2, "/nowhere"),
        (&["--spill-dir", "/sys"], 2, "/sys"),
    ] {
        let refused = prove(options);
        let text = stderr(&refused);
        assert_eq!(code(&refused), Some(exit), "{options:?}: {text}");
        assert!(text.contains(word), "{options:?}: {text}");
    }
}

#[test]
fn setup_names_its_floor_and_keeps_to_it() {
    for (compressions, threads) in [("1", "2"), ("2", "1")] {
        let folder = tempfile::tempdir().expect("folder");
        let key_dir = folder.path().to_str().expect("UTF-8");
        let setup = |limit: &str| {
            let sizes = ["--compressions", compressions, "--threads", threads];
            plimsoll(&[&["setup", "--key-dir", key_dir, "--limit", limit], &sizes[..]].concat())
        };
        let refused = setup("20MiB");
        let text = stderr(&refused);
        assert_eq!(code(&refused), Some(1), "{text}");
        let floor = text.split(' ').find(|word| word.ends_with("MiB,")).expect("the floor");
        let floor = floor.trim_end_matches(',').to_owned();
        let keys = std::fs::read_dir(folder.path()).expect("a folder");
        let keys = keys.filter(|file| {
            file.as_ref().expect("a file").path().extension().is_some_and(|e| e == "pk")
        });
        assert_eq!(keys.count(), 0, "a key in spite of it");
        let made = setup(&floor);
        let text = String::from_utf8_lossy(&made.stdout).into_owned();
        assert_eq!(code(&made), Some(0), "{floor}: {}", stderr(&made));
        assert!(text.contains(&format!("--limit takes {floor} and more")), "{text}");
        // VmHWM, as the command read it at its end.
        let peak = text.split("peak ").nth(1).and_then(|rest| rest.split(" MiB").next());
        let peak: f64 = peak.and_then(|number| number.parse().ok()).expect("a peak in MiB");
        let floor: f64 = floor.trim_end_matches("MiB").parse().expect("MiB");
        assert!(peak <= floor, "{peak} MiB, over the floor of {floor}");
        assert!(peak * 1.6 > floor, "the floor of {floor} MiB is far too high for {peak}");
    }
}

#[test]
fn nonsense_limits_exit_with_2_and_name_the_text() {
    for text in ["", "12XiB", "-5GiB", "0", "110%", "many", "99999999999999999999TiB", "1 2"] {
        let argument = format!("--limit={text}");
        let output = plimsoll(&["prove", "--compressions", "1", &argument]);
        assert_eq!(code(&output), Some(2), "{text:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(text), "{text:?}: {}", stderr(&output));
    }
}

#[test]
fn a_circom_proof_is_written_and_wrong_files_leave_nothing() {
    for name in circuits() {
        let (zkey, wtns) = (fixture(&format!("{name}.zkey")), fixture(&format!("{name}.wtns")));
        let out = tempfile::tempdir().expect("folder");
        let folder = out.path().to_str().expect("UTF-8");
        let output = plimsoll(&["prove", "--zkey", &zkey, "--wtns", &wtns, "--out", folder]);
        assert_eq!(code(&output), Some(0), "{name}: {}", stderr(&output));
        let proof = std::fs::read_to_string(out.path().join("proof.json")).expect("written");
        assert!(proof.contains("groth16") && proof.contains("bn128"), "{proof}");

        let empty = tempfile::tempdir().expect("folder");
        let folder = empty.path().to_str().expect("UTF-8");
        let output = plimsoll(&["prove", "--zkey", &wtns, "--wtns", &zkey, "--out", folder]);
        assert_eq!(code(&output), Some(2), "{}", stderr(&output));
        assert_eq!(std::fs::read_dir(empty.path()).expect("folder").count(), 0);
    }
}

/// The circuits that have fixtures.
fn circuits() -> Vec<String> {
    let folder = fixture("");
    let files = std::fs::read_dir(folder).expect("fixtures");
    let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    let mut circuits: Vec<String> =
        names.filter_map(|name| Some(name.strip_suffix(".zkey")?.to_owned())).collect();
    circuits.sort();
    assert!(circuits.len() >= 2, "two circuits at least: {circuits:?}");
    circuits
}

#[test]
fn witnesses_of_other_circuits_and_unsatisfied_ones_are_refused() {
    let circuits = circuits();
    let (one, two) = (&circuits[0], &circuits[1]);
    let out = tempfile::tempdir().expect("folder");
    let folder = out.path().to_str().expect("UTF-8");
    let zkey = fixture(&format!("{one}.zkey"));
    let other = fixture(&format!("{two}.wtns"));
    let output = plimsoll(&["prove", "--zkey", &zkey, "--wtns", &other, "--out", folder]);
    assert!(matches!(code(&output), Some(1 | 2)), "{}", stderr(&output));

    // The last value of the witness, plus one: a number below the modulus, and no solution.
    let mut witness = std::fs::read(fixture(&format!("{one}.wtns"))).expect("fixture");
    let at = witness.len() - 32;
    witness[at] ^= 1;
    let wrong = out.path().join("wrong.wtns");
    std::fs::write(&wrong, witness).expect("written");
    let wrong = wrong.to_str().expect("UTF-8");
    let output = plimsoll(&["prove", "--zkey", &zkey, "--wtns", wrong, "--out", folder]);
    assert_eq!(code(&output), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("does not satisfy"), "{}", stderr(&output));
    assert!(!out.path().join("proof.json").exists());
}

#[test]
fn missing_files_and_unwritable_folders_exit_with_2() {
    let name = &circuits()[0];
    let (zkey, wtns) = (fixture(&format!("{name}.zkey")), fixture(&format!("{name}.wtns")));
    let missing = plimsoll(&["prove", "--zkey", "/nowhere.zkey", "--wtns", &wtns]);
    assert_eq!(code(&missing), Some(2));
    assert!(stderr(&missing).contains("/nowhere.zkey"), "{}", stderr(&missing));
    let alone = plimsoll(&["prove", "--zkey", &zkey]);
    assert_eq!(code(&alone), Some(2));
    let output = plimsoll(&["prove", "--zkey", &zkey, "--wtns", &wtns, "--out", "/proc/nowhere"]);
    assert_eq!(code(&output), Some(2));
    assert!(stderr(&output).contains("/proc/nowhere"), "{}", stderr(&output));
    let file = plimsoll(&["prove", "--zkey", &zkey, "--wtns", &wtns, "--out", &zkey]);
    assert_eq!(code(&file), Some(2));
}

#[test]
fn plan_names_a_size_a_key_and_a_limit_that_is_too_small() {
    let text = plimsoll(&["plan", "--constraints", "1048576"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("quotient") && text.contains("smallest limit"), "{text}");
    let zkey = fixture(&format!("{}.zkey", circuits()[0]));
    assert!(smallest_limit(&["--zkey", &zkey]) > 0);
    let output = plimsoll(&["plan", "--constraints", "1048576", "--limit", "20MiB"]);
    assert_eq!(code(&output), Some(1));
    // A key that no test makes.
    let output = plimsoll(&["plan", "--compressions", "9"]);
    assert_eq!(code(&output), Some(2));
    assert!(stderr(&output).contains("plimsoll setup"), "{}", stderr(&output));
}

/// What a proof has moved by the end of a stage is at most what its plan says; an I/O thread may
/// come to a write of one stage in the next.
#[test]
fn a_proof_moves_no_more_than_its_plan() {
    let circuit = ["--compressions", "3"];
    let setup = plimsoll(&[&["setup", "--if-missing"], &circuit[..]].concat());
    assert_eq!(code(&setup), Some(0), "{}", stderr(&setup));
    let least = smallest_limit(&circuit);
    let mut moved = 0;
    for (limit, packed_limit) in [(least, "0"), (least, "1GiB"), (least + (1 << 20), "0")] {
        let limit = limit.to_string();
        let options = ["--limit", &limit, "--packed-limit", packed_limit, "--json"];
        let plan = json(&plimsoll(&[&["plan"], &circuit[..], &options].concat()));
        let proof = json(&plimsoll(&[&["prove"], &circuit[..], &options].concat()));
        let stages = |report: &Value| report["stages"].as_array().expect("stages").clone();
        let (mut may_write, mut may_read, mut written, mut read) = (0, 0, 0, 0);
        for (planned, done) in stages(&plan).iter().zip(stages(&proof)) {
            assert_eq!(planned["name"], done["name"]);
            let count = |report: &Value, field: &str| report[field].as_u64().expect("bytes");
            let (planned, done) = (|f| count(planned, f), |f| count(&done, f));
            written += done("packed_bytes") + done("spilled_bytes");
            read += done("loaded_bytes");
            may_write += planned("written_bytes");
            may_read += planned("read_bytes");
            assert!(written <= may_write && read <= may_read, "{written}, {read}: {plan} {proof}");
            assert!(done("peak_bytes") <= planned("peak_bytes"), "peak: {plan} {proof}");
            let may_pack = planned("packed_bytes_max") > 0;
            assert!(!may_pack || packed_limit != "0", "packed: {plan}");
            assert!(done("packed_bytes") == 0 || packed_limit != "0", "packed: {proof}");
        }
        moved += written;
        let text = plimsoll(&[&["plan"], &circuit[..], &options[..4]].concat());
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        for word in ["resident", "packed", "spilled", "written", "read", "smallest limit"] {
            assert!(text.contains(word), "{word} is missing:\n{text}");
        }
    }
    assert!(moved > 0, "these limits make it move something");
}

/// A memory cgroup of this machine, removed when dropped.
struct Capped {
    folder: PathBuf,
}

impl Capped {
    /// Makes a cgroup with a hard limit, or says why there can be none here.
    fn new(name: &str, bytes: u64) -> Result<Self, String> {
        let (parent, file) = if Path::new("/sys/fs/cgroup/memory/tasks").exists() {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            ("/sys/fs/cgroup", "memory.max")
        };
        let folder = Path::new(parent).join(format!("plimsoll-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).map_err(|why| format!("no cgroup in {parent}: {why}"))?;
        let capped = Self { folder };
        std::fs::write(capped.folder.join(file), bytes.to_string())
            .map_err(|why| format!("no limit in {}: {why}", capped.folder.display()))?;
        Ok(capped)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let script = "echo $$ > \"$0/cgroup.procs\" && exec \"$@\"";
        Command::new("sh")
            .args(["-c", script])
            .arg(&self.folder)
            .arg(env!("CARGO_BIN_EXE_plimsoll"))
            .args(arguments)
            .env("XDG_CACHE_HOME", cache())
            .output()
            .expect("a shell")
    }
}

impl Drop for Capped {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.folder);
    }
}

#[test]
fn under_a_real_cap_auto_finds_the_cap_and_the_proof_is_made() {
    let cap = smallest_limit(&["--compressions", "1"]) + (48 << 20);
    let capped = match Capped::new("auto", cap) {
        Ok(capped) => capped,
        Err(why) => {
            skipped("a real cap", why);
            return;
        }
    };
    let report = json(&capped.run(&["prove", "--compressions", "1", "--json"]));
    assert!(report["limit_bytes"].as_u64() <= Some(cap), "{report}");
    let source = report["limit_source"].as_str().expect("words");
    assert!(source.contains("cgroup"), "{source}");
}

#[test]
fn arguments_that_are_not_understood_are_told_as_json_too() {
    for (words, said) in [
        (&["prove", "--json", "--limt", "5"][..], "unexpected argument '--limt' found"),
        (&["plan", "--threads", "0", "--json"], "invalid value '0' for '--threads <N>'"),
    ] {
        let output = plimsoll(words);
        assert_eq!(code(&output), Some(2), "{words:?}");
        let row: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
        assert_eq!((row["kind"].as_str(), row["exit"].as_u64()), (Some("input"), Some(2)));
        assert!(row["error"].as_str().is_some_and(|text| text.starts_with(said)), "{row}");
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
    let output = plimsoll(&["prove", "--json", "--help"]);
    assert_eq!(code(&output), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Usage:"));
    let output = plimsoll(&["prove", "--limt", "5"]);
    assert_eq!((code(&output), output.stdout.len()), (Some(2), 0));
}
