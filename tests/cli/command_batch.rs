//! Many proofs with one key, and a limit that commands share.

use super::{code, fixture, json, plimsoll, stderr};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A folder and a batch file in it with these lines, where `{}` is the folder.
fn batch(lines: &[&str]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("folder");
    let at = folder.path().to_str().expect("UTF-8");
    let text: Vec<String> = lines.iter().map(|line| line.replace("{}", at)).collect();
    let list = format!("{at}/batch.txt");
    fs::write(&list, text.join("\n")).expect("written");
    (folder, list)
}

fn prove(list: &str, more: &[&str]) -> std::process::Output {
    let zkey = fixture("multiplier.zkey");
    plimsoll(&[&["prove", "--zkey", &zkey, "--batch", list, "--seed", "5"], more].concat())
}

#[test]
fn each_proof_of_a_batch_is_the_one_that_is_made_alone() {
    let wtns = fixture("multiplier.wtns");
    let (folder, list) = batch(&[
        "# two forms, and names with spaces",
        &format!("{wtns} {{}}/one"),
        "",
        &format!("{wtns}\t{{}}/the proof.json\t{{}}/the inputs.json"),
        &format!("  {wtns}   {{}}/p.json   {{}}/i.json"),
    ]);
    let report = json(&prove(&list, &["--json", "--limit", "1GiB"]));
    let proofs = report["proofs"].as_array().expect("a list");
    assert_eq!(proofs.len(), 3);
    for row in proofs {
        assert_eq!((row["verified"].as_bool(), row["wtns"].as_str()), (Some(true), Some(&*wtns)));
        assert!(row["permit"]["peak_bytes"].as_u64() <= row["permit"]["bytes"].as_u64(), "{row}");
    }
    let alone = folder.path().join("alone");
    let output = plimsoll(&[
        "prove",
        "--zkey",
        &fixture("multiplier.zkey"),
        "--wtns",
        &wtns,
        "--seed",
        "5",
        "--out",
        alone.to_str().expect("UTF-8"),
    ]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let read = |path: &Path| fs::read(path).expect("written");
    for name in ["one/proof.json", "the proof.json", "p.json"] {
        assert_eq!(read(&folder.path().join(name)), read(&alone.join("proof.json")), "{name}");
    }
    let table = prove(&list, &["--limit", "1GiB", "--at-once", "2"]);
    let text = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(text.contains("3 of 3 proofs made and verified"), "{text}{}", stderr(&table));
}

#[test]
fn a_proof_that_fails_fails_alone_and_is_told() {
    let (good, other) = (fixture("multiplier.wtns"), fixture("publics.wtns"));
    let (folder, list) = batch(&[
        &format!("{good} {{}}/first"),
        &format!("{other} {{}}/second"),
        "{}/none.wtns {}/third",
        &format!("{good} {{}}/fourth"),
    ]);
    let output = prove(&list, &["--json"]);
    assert_eq!(code(&output), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("2 of 4 proofs were not made"), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let kinds: Vec<_> = report["proofs"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| row["kind"].as_str().unwrap_or("made").to_owned())
        .collect();
    assert_eq!(kinds, ["made", "file", "file", "made"]);
    for (name, is_there) in [("first", true), ("second", false), ("fourth", true)] {
        assert_eq!(folder.path().join(name).join("proof.json").exists(), is_there, "{name}");
    }
}

#[test]
fn a_list_that_cannot_be_used_is_refused_before_any_work() {
    let wtns = fixture("multiplier.wtns");
    for (lines, said) in [
        (vec![wtns.clone()], "line 1 has 1 words"),
        (vec!["# nothing".to_owned()], "names no proof"),
        (
            vec![format!("{wtns} {{}}/a"), format!("{wtns} {{}}/a")],
            "over an input or another output",
        ),
        (vec![format!("{wtns} {{}}/p {{}}/p")], "cannot share a file"),
    ] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (_folder, list) = batch(&lines);
        let output = prove(&list, &[]);
        assert_eq!(code(&output), Some(2), "{lines:?}");
        assert!(stderr(&output).contains(said), "{lines:?}: {}", stderr(&output));
    }
    let output = prove("/nowhere/batch.txt", &[]);
    assert!(stderr(&output).contains("cannot be read"), "{}", stderr(&output));
}

#[test]
fn commands_that_share_a_limit_prove_within_it() {
    let (zkey, wtns) = (fixture("multiplier.zkey"), fixture("multiplier.wtns"));
    let name = format!("test-{}", std::process::id());
    let folder = tempfile::tempdir().expect("folder");
    let out = folder.path().to_str().expect("UTF-8").to_owned();
    let prove = |size: &str| {
        let shared = format!("{name}={size}");
        let files = ["--zkey", &zkey, "--wtns", &wtns, "--out", &out, "--json", "--limit", "1GiB"];
        plimsoll(&[&["prove", "--shared-limit", &shared], &files[..]].concat())
    };
    let report = json(&prove("1GiB"));
    assert_eq!(report["stages"].as_array().map(Vec::len), Some(8), "the permit's stages");
    let output = prove("1MiB");
    assert_eq!(code(&output), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("permit \"proof\""), "{}", stderr(&output));
    let output = prove("much");
    assert_eq!(code(&output), Some(2), "{}", stderr(&output));
    let user =
        String::from_utf8(std::process::Command::new("id").arg("-u").output().expect("id").stdout);
    let table = format!("/dev/shm/plimsoll-{}-{name}", user.expect("a number").trim());
    assert!(!Path::new(&table).exists(), "the last to leave removes it");
}

#[test]
fn many_at_once_keep_a_small_limit() {
    let wtns = fixture("multiplier.wtns");
    let lines: Vec<String> = (0..40).map(|line| format!("{wtns} {{}}/{line}")).collect();
    let (_folder, list) = batch(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let spill = tempfile::tempdir_in("/var/tmp").expect("folder");
    let spill = spill.path().to_str().expect("UTF-8");
    let at_once = ["--at-once", "300", "--threads", "2", "--spill-dir", spill, "--json"];
    // A proof over its limit is an exit code of its own.
    let report = json(&prove(&list, &[&at_once[..], &["--limit", "24MiB"]].concat()));
    let proofs = report["proofs"].as_array().expect("a list");
    assert!(proofs.iter().all(|row| row["verified"] == true), "{report}");
    assert_eq!(proofs.len(), 40);
}
