//! Several ranks: what the plan says of them, and a command that was started as one of many.

use super::{code, fixture, json, plimsoll, stderr};

#[test]
fn the_plan_of_ranks_says_what_each_holds_and_sends() {
    let plan =
        |ranks| json(&plimsoll(&["plan", "--constraints", "4194302", "--json", "--ranks", ranks]));
    let [one, two, four] = ["1", "2", "4"].map(plan);
    assert!(one.get("sent_bytes_by_rank").is_none());
    let sent = |plan: &serde_json::Value| {
        let sent = plan["sent_bytes_by_rank"].as_array().expect("a list").clone();
        sent.iter().map(|bytes| bytes.as_u64().expect("bytes")).collect::<Vec<_>>()
    };
    // Nine vectors of 2^22 elements: a rank keeps its own part of its part.
    let vectors = 9 * (32 << 22);
    assert_eq!(sent(&two), [vectors / 4; 2]);
    assert_eq!(sent(&four), [vectors * 3 / 16; 4]);
    let smallest = |plan: &serde_json::Value| plan["smallest_limit_bytes"].as_u64().expect("bytes");
    assert!(smallest(&four) < smallest(&one) + (64 << 20), "{four}");
    let table = plimsoll(&["plan", "--ranks", "4"]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("for each of 4 ranks"), "{table}");
    let many = plimsoll(&["plan", "--constraints", "64", "--ranks", "100"]);
    assert!(code(&many) == Some(2) && stderr(&many).contains("at most"), "{}", stderr(&many));
}

#[test]
#[cfg(not(feature = "mpi"))]
fn one_of_many_processes_makes_no_proof_of_its_own() {
    use super::cache;
    use std::process::Command;
    for size in ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"] {
        let prove = |count: &str| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
            command.args(["prove", "--compressions", "1", "--quiet"]);
            command.env("XDG_CACHE_HOME", cache()).env(size, count);
            command.output().expect("the plimsoll program")
        };
        let output = prove("4");
        let said = stderr(&output);
        assert!(code(&output) == Some(2) && output.stdout.is_empty(), "{said}");
        assert!(said.contains("one of 4 processes") && said.contains("--features mpi"), "{said}");
        if size == "PMI_SIZE" {
            let output = prove("1");
            assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        }
    }
}

#[test]
fn shards_that_are_there_are_not_made_again_and_join_to_a_proof() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (zkey, wtns) = (fixture("multiplier.zkey"), fixture("multiplier.wtns"));
    let mut join = vec!["join".to_owned(), "--zkey".to_owned(), zkey.clone()];
    join.extend(["--wtns".to_owned(), wtns.clone(), "--out".to_owned(), path("proof")]);
    for (query, parts) in [("A", 2), ("B1", 1), ("B2", 2), ("L", 1), ("H", 1)] {
        for part in 1..=parts {
            let out = path(&format!("{query}-{part}.json"));
            let part = format!("{part}/{parts}");
            let shard = ["shard", "--zkey", &zkey, "--wtns", &wtns, "--query", query, "--part"];
            let shard = [&shard[..], &[part.as_str(), "--out", out.as_str()]].concat();
            for said in ["wrote", "is there already"] {
                let output = plimsoll(&shard);
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(code(&output) == Some(0) && text.contains(said), "{text}{output:?}");
            }
            join.push(out);
        }
    }
    let words: Vec<&str> = join.iter().map(String::as_str).collect();
    let incomplete = plimsoll(&words[..words.len() - 1]);
    assert!(stderr(&incomplete).contains("query H"), "{}", stderr(&incomplete));
    assert_eq!(code(&incomplete), Some(2));
    let joined = plimsoll(&words);
    assert_eq!(code(&joined), Some(0), "{}", stderr(&joined));
    let [public, proof] = ["proof/public.json", "proof/proof.json"].map(path);
    let verified = plimsoll(&["verify", &zkey, &public, &proof]);
    assert_eq!(code(&verified), Some(0), "{}", stderr(&verified));
}
