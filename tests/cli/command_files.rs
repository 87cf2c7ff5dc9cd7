//! Where the files of a proof come from and go to, and what is said of wrong ones.

use super::{code, fixture, json, plimsoll, stderr};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder, and the paths of two files in it.
fn folder() -> (tempfile::TempDir, String, String) {
    let folder = tempfile::tempdir().expect("folder");
    let at = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (proof, public) = (at("p.json"), at("i.json"));
    (folder, proof, public)
}

fn verify(key: &str, public: &str, proof: &str) -> Output {
    plimsoll(&["verify", &fixture(key), public, proof])
}

/// Runs `plimsoll prove` on the multiplier's key with `input` on standard input.
fn prove_piped(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
        .args(["prove", "--zkey", &fixture("multiplier.zkey")])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the plimsoll program");
    // A program that has refused the input already reads none.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    child.wait_with_output().expect("its end")
}

/// The error that `prove --json` prints for a failure.
fn failure(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let value: Value = serde_json::from_str(&text).expect("one JSON object");
    assert_eq!(value["exit"].as_i64(), code(output).map(i64::from), "{value}");
    assert!(stderr(output).contains(value["error"].as_str().expect("a text")), "{value}");
    value
}

#[test]
fn rapidsnarks_command_line_and_options_give_proofs_that_verify() {
    let (zkey, wtns) = (fixture("multiplier.zkey"), fixture("multiplier.wtns"));
    let (_folder, proof, public) = folder();
    let lines: [&[&str]; 2] = [
        &["prove", &zkey, &wtns, &proof, &public],
        &["prove", "--zkey", &zkey, "--wtns", &wtns, "--proof", &proof, "--public", &public],
    ];
    for line in lines {
        let output = plimsoll(line);
        assert_eq!(code(&output), Some(0), "{line:?}: {}", stderr(&output));
        for key in ["multiplier.zkey", "multiplier.vkey.json"] {
            let output = verify(key, &public, &proof);
            assert_eq!(code(&output), Some(0), "{key}: {}", stderr(&output));
        }
        fs::remove_file(&proof).and_then(|()| fs::remove_file(&public)).expect("both are there");
    }
}

#[test]
fn a_proof_is_judged_by_its_key_and_inputs() {
    let (proof, public) = (fixture("multiplier.proof.json"), fixture("multiplier.public.json"));
    let output = verify("multiplier.vkey.json", &public, &proof);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let (_folder, other, _) = folder();
    fs::write(&other, "[\"7\"]").expect("written");
    let output = verify("multiplier.vkey.json", &other, &proof);
    assert_eq!(code(&output), Some(1), "{}", stderr(&output));
    let output = plimsoll(&["verify", "--json", &fixture("multiplier.vkey.json"), &other, &proof]);
    assert_eq!(failure(&output)["kind"], "not_verified");
    // Another circuit's key, and two files in the other order.
    for (key, one, two) in
        [("publics.vkey.json", &public, &proof), ("multiplier.vkey.json", &proof, &public)]
    {
        let output = verify(key, one, two);
        assert_eq!(code(&output), Some(2), "{}", stderr(&output));
    }
}

#[test]
fn the_verifying_key_is_snarkjss() {
    for circuit in ["multiplier", "publics"] {
        let expected = fs::read_to_string(fixture(&format!("{circuit}.vkey.json"))).expect("text");
        let (_folder, path, _) = folder();
        let zkey = fixture(&format!("{circuit}.zkey"));
        assert_eq!(code(&plimsoll(&["vkey", &zkey, &path])), Some(0));
        assert_eq!(fs::read_to_string(&path).expect("text"), expected.trim_end());
        let printed = plimsoll(&["vkey", &zkey]);
        assert_eq!(String::from_utf8_lossy(&printed.stdout).trim_end(), expected.trim_end());
    }
}

#[test]
fn a_witness_comes_through_pipes_and_in_json() {
    let bytes = fs::read(fixture("multiplier.wtns")).expect("bytes");
    let values = "[\"1\",\"1155\",\"3\",\"5\",\"7\",\"11\",\"15\",\"105\"]";
    let (folder, proof, public) = folder();
    let out = ["--proof", &proof, "--public", &public];
    for (path, input) in [("-", &bytes[..]), ("/dev/stdin", &bytes), ("-", values.as_bytes())] {
        let output = prove_piped(&[&["--wtns", path], &out[..]].concat(), input);
        assert_eq!(code(&output), Some(0), "{path}: {}", stderr(&output));
        assert_eq!(code(&verify("multiplier.zkey", &public, &proof)), Some(0));
    }
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let mut child = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
        .args(["prove", "--zkey", &fixture("multiplier.zkey"), "--wtns"])
        .arg(&fifo)
        .args(out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the plimsoll program");
    let mut said = std::io::BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).expect("a line");
    assert!(line.contains("waiting for somebody to write"), "{line}");
    fs::write(&fifo, &bytes).expect("somebody does");
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut said, &mut rest).expect("its end");
    assert!(child.wait().expect("its end").success(), "{rest}");
    assert_eq!(code(&verify("multiplier.zkey", &public, &proof)), Some(0), "{rest}");
}

#[test]
fn a_failure_is_told_in_json_too() {
    let zkey = fixture("multiplier.zkey");
    let prove = |rest: &[&str]| plimsoll(&[&["prove", "--json", "--zkey", &zkey], rest].concat());
    let other = fixture("publics.wtns");
    assert_eq!(failure(&prove(&["--wtns", &other]))["kind"], "file");
    let wtns = fixture("multiplier.wtns");
    assert_eq!(failure(&prove(&["--wtns", &wtns, "--limit", "2MiB"]))["kind"], "over_limit");
    assert_eq!(failure(&prove(&["--wtns", &wtns, "--proof", "/dev/null/p"]))["kind"], "input");
    let output = plimsoll(&["plan", "--json", "--zkey", "/no/such/file"]);
    assert_eq!(failure(&output)["kind"], "file");
}

#[test]
fn what_is_wrong_with_the_command_line_is_found_before_a_key_is_made() {
    let (folder, _, _) = folder();
    let keys = folder.path().join("keys");
    let keys_text = keys.to_str().expect("UTF-8");
    let wrong = [["--limit", "48"], ["--report", "/no/such/run.html"], ["--proof", "/no/such/p"]];
    for words in wrong {
        let line = ["prove", "--compressions", "1", "--key-dir", keys_text];
        let output = plimsoll(&[&line[..], &words].concat());
        assert!(matches!(code(&output), Some(1 | 2)), "{words:?}: {}", stderr(&output));
        assert!(!keys.exists(), "{words:?}: a key was made first");
    }
}

#[test]
fn an_output_folder_is_made_and_a_bad_one_is_named() {
    let (zkey, wtns) = (fixture("multiplier.zkey"), fixture("multiplier.wtns"));
    let (folder, _, _) = folder();
    let out = folder.path().join("not/yet");
    let out_text = out.to_str().expect("UTF-8");
    let output = plimsoll(&["prove", "--zkey", &zkey, "--wtns", &wtns, "--out", out_text]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert!(out.join("proof.json").is_file() && out.join("public.json").is_file());
    let output = plimsoll(&["prove", &zkey, &wtns, "/no/such/p.json", "/no/such/i.json"]);
    let said = stderr(&output);
    assert!(code(&output) == Some(2) && said.contains("/no/such: cannot be written"), "{said}");
    assert!(!said.contains(".plimsoll"), "a name that is nobody's: {said}");
    let output = plimsoll(&["prove", &zkey, &wtns, out_text, out_text]);
    assert_eq!(code(&output), Some(2), "{}", stderr(&output));
}

#[test]
fn the_circuit_says_whether_witness_or_key_is_at_fault() {
    let (folder, proof, public) = folder();
    let write = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("written");
        path
    };
    let r1cs = fixture("multiplier.r1cs");
    let mut values = fs::read(fixture("multiplier.wtns")).expect("bytes");
    let at = values.len() - 32;
    values[at] += 1;
    let wrong_witness = write("wrong.wtns", &values);
    let mut key = fs::read(fixture("multiplier.zkey")).expect("bytes");
    swap_points(&mut key);
    let wrong_key = write("wrong.zkey", &key);
    let (zkey, wtns) = (fixture("multiplier.zkey"), fixture("multiplier.wtns"));
    let cases: [(&Path, &Path, &str, &str); 2] = [
        (Path::new(&zkey), &wrong_witness, "unsatisfied", "constraint 1 "),
        (&wrong_key, Path::new(&wtns), "wrong_key", "make the key again"),
    ];
    for (zkey, wtns, kind, text) in cases {
        let run = |more: &[&str]| {
            Command::new(env!("CARGO_BIN_EXE_plimsoll"))
                .args(["prove", "--json", "--proof", &proof, "--public", &public, "--zkey"])
                .arg(zkey)
                .arg("--wtns")
                .arg(wtns)
                .args(more)
                .output()
                .expect("the plimsoll program")
        };
        let unsure = failure(&run(&[]));
        assert_eq!(unsure["kind"], "not_verified");
        assert!(unsure["error"].as_str().is_some_and(|said| said.contains("--r1cs")), "{unsure}");
        let sure = failure(&run(&["--r1cs", &r1cs]));
        assert_eq!(sure["kind"], kind, "{sure}");
        assert!(sure["error"].as_str().is_some_and(|said| said.contains(text)), "{sure}");
        assert!(!Path::new(&proof).exists());
    }
}

/// Swaps the points of variables 2 and 3 in section 5 (A) of a zkey.
fn swap_points(key: &mut [u8]) {
    let mut at = 12;
    loop {
        let id = u32::from_le_bytes(key[at..at + 4].try_into().expect("four"));
        let bytes = u64::from_le_bytes(key[at + 4..at + 12].try_into().expect("eight"));
        at += 12;
        if id == 5 {
            let (two, three) = key[at + 2 * 64..at + 4 * 64].split_at_mut(64);
            assert_ne!(two, three, "the swap would change nothing");
            two.swap_with_slice(three);
            return;
        }
        at += bytes as usize;
    }
}

#[test]
fn progress_is_told_as_lines_of_json() {
    let (zkey, wtns) = (fixture("multiplier.zkey"), fixture("multiplier.wtns"));
    let (_folder, proof, public) = folder();
    let output =
        plimsoll(&["prove", &zkey, &wtns, &proof, &public, "--json", "--progress", "json"]);
    json(&output);
    let lines: Vec<Value> = stderr(&output)
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    let stages: Vec<&Value> = lines.iter().filter(|line| line["event"] == "stage").collect();
    assert_eq!(stages.len(), 8);
    assert!(stages.iter().all(|stage| stage["rss_bytes"].as_u64() > Some(0)), "{stages:?}");
    assert!(lines.iter().any(|line| line["event"] == "advance"), "{lines:?}");
}

#[test]
fn counts_are_read_as_people_write_them() {
    let peak = |count: &str| json(&plimsoll(&["plan", "--json", "--constraints", count]));
    let plain = peak("1000000");
    for count in ["1e6", "1M", "1_000_000"] {
        assert_eq!(peak(count)["domain_size"], plain["domain_size"]);
    }
    let output = plimsoll(&["plan", "--constraints", "1.5"]);
    assert!(code(&output) == Some(2) && stderr(&output).contains("2^20"), "{}", stderr(&output));
}

/// Under `ulimit -v` a proof is made, or an error says that there are too few addresses; and a
/// larger limit is never worse than a smaller one.
#[test]
fn a_bounded_address_space_ends_in_a_proof_or_an_error_that_names_it() {
    let (zkey, wtns) = (fixture("multiplier.zkey"), fixture("multiplier.wtns"));
    let (_folder, proof, public) = folder();
    let mut made_with = None;
    for kib in [200_000, 350_000, 450_000, 500_000, 600_000, 700_000, 800_000, 850_000, 3_000_000] {
        let output = Command::new("sh")
            .args(["-c", &format!("ulimit -c 0; ulimit -v {kib}; exec \"$@\""), "sh"])
            .args([env!("CARGO_BIN_EXE_plimsoll"), "prove", "-q", "--threads", "2"])
            .args([&zkey, &wtns, &proof, &public])
            .output()
            .expect("a shell");
        let said = stderr(&output);
        match code(&output) {
            Some(0) => made_with = made_with.or(Some(kib)),
            Some(1 | 2) => {
                assert_eq!(made_with, None, "{kib} KiB: {said}");
                assert!(said.contains("ulimit -v"), "{kib} KiB: {said}");
            }
            other => panic!("{kib} KiB: {other:?}: {said}"),
        }
    }
    assert!(made_with.is_some_and(|kib| kib <= 800_000), "{made_with:?}");
}
