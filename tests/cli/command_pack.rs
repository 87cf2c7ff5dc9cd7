//! Packed files as a user has them: the same bytes, the same proof, and what is said of wrong ones.

use super::{code, fixture, json, plimsoll, stderr};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A folder, and the path of a file in it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn at(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    /// A copy of a fixture, so that outputs have a place beside it.
    fn copied(&self, name: &str) -> String {
        fs::copy(fixture(name), self.at(name)).expect("copied");
        self.at(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).expect("a folder");
        let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("UTF-8");
        let mut names: Vec<String> = entries.map(|entry| name(entry.expect("an entry"))).collect();
        names.sort();
        names
    }
}

fn done(arguments: &[&str]) {
    let output = plimsoll(arguments);
    assert_eq!(code(&output), Some(0), "{arguments:?}: {}", stderr(&output));
}

/// What is said of a command that fails with `exit`.
fn refused(arguments: &[&str], exit: i32) -> String {
    let output = plimsoll(arguments);
    assert_eq!(code(&output), Some(exit), "{arguments:?}: {}", stderr(&output));
    stderr(&output)
}

#[test]
fn a_packed_witness_unpacks_to_the_same_bytes_and_proves_the_same_proof() {
    let folder = Folder::new();
    for circuit in ["multiplier", "publics"] {
        let (zkey, wtns) = (fixture(&format!("{circuit}.zkey")), format!("{circuit}.wtns"));
        let wtns = folder.copied(&wtns);
        let packed = format!("{wtns}.packed");
        done(&["pack", &wtns]);
        let mode = fs::metadata(&packed).expect("packed").permissions().mode();
        assert_eq!(mode & 0o077, 0, "others may read a witness: {mode:o}");
        let back = folder.at("back.wtns");
        done(&["unpack", &packed, &back, "--force"]);
        assert!(fs::read(&back).expect("bytes") == fs::read(&wtns).expect("bytes"));
        assert_eq!(fs::metadata(&back).expect("unpacked").permissions().mode() & 0o077, 0);
        let proof = |witness: &str, stdin: Stdio| {
            let (proof, public) = (folder.at("proof.json"), folder.at("public.json"));
            let output = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
                .args(["prove", "-q", "--seed", "5", "--zkey", &zkey, "--wtns", witness])
                .args(["--proof", &proof, "--public", &public])
                .stdin(stdin)
                .output()
                .expect("the plimsoll program");
            assert_eq!(code(&output), Some(0), "{witness}: {}", stderr(&output));
            [proof, public].map(|path| fs::read(path).expect("written"))
        };
        let expected = proof(&wtns, Stdio::null());
        assert!(proof(&packed, Stdio::null()) == expected);
        let piped = fs::File::open(&packed).expect("packed");
        assert!(proof("-", piped.into()) == expected);
    }
}

#[test]
fn json_and_bare_values_may_be_packed_too() {
    let folder = Folder::new();
    let zkey = fixture("multiplier.zkey");
    let bytes = fs::read(fixture("multiplier.wtns")).expect("bytes");
    fs::write(folder.at("bare"), &bytes[bytes.len() - 8 * 32..]).expect("written");
    let values = "[\"1\",\"1155\",\"3\",\"5\",\"7\",\"11\",\"15\",\"105\"]";
    fs::write(folder.at("w.json"), values).expect("written");
    for line in
        [&["bare", "--width", "32"][..], &["bare"], &["w.json"], &["w.json", "--width", "3"]]
    {
        let (input, packed) = (folder.at(line[0]), folder.at("packed"));
        done(&[&["pack", &input, &packed, "--force"], &line[1..]].concat());
        let out = folder.at("out");
        done(&["prove", "-q", "--zkey", &zkey, "--wtns", &packed, "--out", &out]);
    }
}

#[test]
fn raw_columns_pack_by_width_and_field() {
    let folder = Folder::new();
    let (input, packed) = (folder.at("trace.bin"), folder.at("trace.bin.packed"));
    let clock: Vec<u8> = (0..100_000u64).flat_map(u64::to_le_bytes).chain([1, 2, 3]).collect();
    fs::write(&input, &clock).expect("written");
    let report = json(&plimsoll(&["pack", "--json", &input, "--width", "8"]));
    assert_eq!(report["raw_bytes"], 800_003);
    let bytes = fs::metadata(&packed).expect("packed").len();
    assert_eq!(report["packed_bytes"].as_u64(), Some(bytes));
    assert!(bytes < 800_003 / 5, "{report}");
    let columns = report["columns"].as_array().expect("columns");
    let named = |at: usize| (columns[at]["name"].as_str(), columns[at]["elements"].as_u64());
    assert_eq!(named(0), (Some("data"), Some(100_000)));
    assert_eq!(named(1), (Some("tail"), Some(3)));
    fs::remove_file(&input).expect("removed");
    let report = json(&plimsoll(&["unpack", "--json", &packed]));
    assert_eq!(report["output"].as_str(), Some(input.as_str()));
    assert!(fs::read(&input).expect("unpacked") == clock);
    let wrong: [&[&str]; 3] =
        [&["--width", "6", "--field", "babybear"], &["--width", "0"], &["--width", "5000000"]];
    for words in wrong {
        refused(&[&["pack", &input, &folder.at("no")], words].concat(), 2);
    }
    assert!(!Path::new(&folder.at("no")).exists());
    done(&["pack", &input, "--force", "--field", "babybear", "--threads", "1"]);
    done(&["unpack", &packed, "--force"]);
    assert!(fs::read(&input).expect("unpacked") == clock);
}

/// A file of several times the limit is packed and unpacked, also where nothing of it packs.
#[test]
fn long_files_are_packed_and_unpacked_under_a_small_limit() {
    let folder = Folder::new();
    let (input, packed) = (folder.at("trace.bin"), folder.at("trace.bin.packed"));
    let words =
        |at: u64| if at >> 16 & 1 == 0 { at & 1 } else { at.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
    let bytes: Vec<u8> = (0..10u64 << 20).flat_map(|at| words(at).to_le_bytes()).collect();
    fs::write(&input, &bytes).expect("written");
    let limit = 40u64 << 20;
    let under = |words: &[&str]| {
        let limit = limit.to_string();
        let report = json(&plimsoll(&[words, &["--json", "--limit", &limit]].concat()));
        let peak = report["peak_rss_bytes"].as_u64().expect("bytes");
        assert!(peak <= limit.parse().expect("bytes"), "{words:?}: {report}");
    };
    under(&["pack", &input, "--width", "8"]);
    under(&["unpack", &packed, "--force"]);
    assert!(fs::read(&input).expect("unpacked") == bytes);
}

#[test]
fn nothing_is_replaced_unasked_and_nothing_is_left_of_a_failure() {
    let folder = Folder::new();
    let wtns = folder.copied("multiplier.wtns");
    let packed = format!("{wtns}.packed");
    done(&["pack", &wtns]);
    let before = fs::read(&packed).expect("packed");
    assert!(refused(&["pack", &wtns], 2).contains("--force"));
    assert!(refused(&["unpack", &packed], 2).contains("--force"));
    assert!(refused(&["pack", &packed], 2).contains("packed already"));
    assert!(refused(&["unpack", &wtns, &folder.at("x")], 2).contains("plimsoll pack"));
    assert!(refused(&["unpack", &wtns], 2).contains("name the output"));
    assert!(refused(&["pack", "/dev/null", &folder.at("x")], 2).contains("not a regular file"));
    assert!(refused(&["pack", "/no/such"], 2).contains("/no/such"));
    assert!(refused(&["pack", &wtns, "/no/such/x"], 2).contains("cannot be written"));
    fs::write(folder.at("bad.wtns"), b"wtns\x02\0\0\0\x02\0\0\0").expect("written");
    assert!(refused(&["pack", &folder.at("bad.wtns")], 2).contains("section table"));
    let said = refused(&["pack", &wtns, &folder.at("x"), "--limit", "3MiB"], 1);
    assert!(said.contains("limit"), "{said}");
    let mut damaged = before.clone();
    let at = damaged.len() / 2;
    damaged[at] ^= 4;
    fs::write(folder.at("damaged.packed"), &damaged).expect("written");
    let output = plimsoll(&["unpack", "--json", &folder.at("damaged.packed")]);
    let said: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!((said["exit"].as_i64(), said["kind"].as_str()), (Some(2), Some("file")), "{said}");
    assert_eq!(
        folder.names(),
        ["bad.wtns", "damaged.packed", "multiplier.wtns", "multiplier.wtns.packed"]
    );
    assert!(fs::read(&packed).expect("packed") == before);
}

/// Damage is named with its block, by `unpack` and by `prove`.
#[test]
fn a_damaged_block_is_named() {
    let folder = Folder::new();
    let wtns = folder.copied("multiplier.wtns");
    let packed = format!("{wtns}.packed");
    done(&["pack", &wtns]);
    let mut bytes = fs::read(&packed).expect("packed");
    // The last byte before the index is of the last block, the values'.
    let index = u64::from_le_bytes(
        bytes[bytes.len() - 56..bytes.len() - 48].try_into().expect("eight bytes"),
    );
    bytes[index as usize - 1] ^= 1;
    fs::write(&packed, &bytes).expect("written");
    let named = |output: &Output| {
        let said = stderr(output);
        assert_eq!(code(output), Some(2), "{said}");
        assert!(said.contains("column \"values\", block 0 (elements 0 to 8)"), "{said}");
    };
    named(&plimsoll(&["unpack", &packed, &folder.at("x")]));
    let zkey = fixture("multiplier.zkey");
    named(&plimsoll(&["prove", "--zkey", &zkey, "--wtns", &packed, "--out", &folder.at("out")]));
}
