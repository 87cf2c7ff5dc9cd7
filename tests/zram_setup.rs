//! `scripts/zram-setup.sh` on a fixture root, against golden texts, and on a real device.
//!
//! ```text
//!   tests/fixtures/zram/root     proc, sys, dev and the programs in bin: copied for each test
//!   tests/fixtures/zram/golden   what a command printed, ran and changed below that root
//! ```
//!
//! `BLESS=1` rewrites the golden texts. The script runs under each shell that is here of dash, bash
//! and busybox; all must say the same. Tests of a real device need root and a kernel with zram;
//! without, they print `SKIPPED` and the reason.

#[path = "zram_setup/journal.rs"]
mod journal;
#[path = "zram_setup/live.rs"]
mod live;
#[path = "zram_setup/root.rs"]
mod root;

use root::{Root, Run, script, shells};

/// Runs the words in a fresh root for each shell, after `prepare`; compares with the golden text.
fn golden(name: &str, prepare: impl Fn(&Root), words: &[&str]) {
    let path = root::fixtures().join("golden").join(format!("{name}.txt"));
    for shell in shells() {
        let root = Root::new();
        prepare(&root);
        let before = root.files();
        let run = root.run_in(shell, words);
        let shown = format!(
            "$ zram-setup.sh {}\n{}exit code {}\n{}",
            words.join(" "),
            run.text(),
            run.code,
            root.changes(&before)
        );
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &shown).expect("a golden text");
        }
        let wanted = std::fs::read_to_string(&path).expect("a golden text; BLESS=1 writes it");
        assert_eq!(shown, wanted, "{name} under {shell}; BLESS=1 accepts it");
    }
}

fn as_it_is(_: &Root) {}

fn is_up(root: &Root) {
    assert_eq!(root.run(&["up"]).code, 0);
    root.remove("log");
}

/// A device made by `up` that holds data: bytes stored, compressed, in RAM; pages same and huge.
fn holds(numbers: [u64; 5]) -> impl Fn(&Root) {
    move |root| {
        is_up(root);
        let [stored, compressed, used, same, huge] = numbers;
        let limit = 8_u64 << 30;
        let text = format!("{stored} {compressed} {used} {limit} {used} {same} 0 {huge} {huge}\n");
        root.write("sys/block/zram1/mm_stat", &text);
    }
}

#[test]
fn plan_says_what_up_would_do() {
    golden("plan", as_it_is, &["plan"]);
    golden("plan-primary", as_it_is, &["plan", "--primary", "--size", "20GiB"]);
    golden("plan-json", as_it_is, &["plan", "--json"]);
    golden("plan-no-device", |root| root.remove("sys/block"), &["plan", "--size", "1.5GiB"]);
    let swaps = "Filename\n/dev/sda2 partition 1 0 -2\n/dev/zram0 partition 1 0 5\n";
    golden("plan-other-swaps", |root| root.write("proc/swaps", swaps), &["plan"]);
    golden("plan-systemd", as_it_is, &["plan", "--emit", "systemd", "--primary"]);
    golden("plan-generator", as_it_is, &["plan", "--emit", "zram-generator"]);
    let sizes = ["--size", "24GB", "--mem-limit", "4GiB"];
    golden(
        "plan-generator-bytes",
        as_it_is,
        &[&["plan", "--emit=zram-generator"], &sizes[..]].concat(),
    );
}

#[test]
fn up_writes_what_the_plan_says_and_down_takes_it_back() {
    golden("up-dry-run", as_it_is, &["up", "--dry-run"]);
    golden("up", as_it_is, &["up"]);
    golden("up-primary", as_it_is, &["up", "--primary", "--swappiness", "180", "--json"]);
    golden("up-twice", is_up, &["up"]);
    golden("down-dry-run", is_up, &["down", "--dry-run"]);
    golden("down", is_up, &["down"]);
    golden("down-nothing", as_it_is, &["down", "--json"]);
}

#[test]
fn status_judges() {
    golden("status-down", as_it_is, &["status"]);
    golden("status-unknown", is_up, &["status"]);
    let gib = 1 << 30;
    golden("status-useless", holds([gib, gib, gib + (3 << 20), 0, 262_144]), &["status"]);
    golden("status-little", holds([gib, gib / 4 * 3, gib / 4 * 3, 0, 40_000]), &["status"]);
    golden("status-good", holds([3 * gib, gib, gib, 1000, 2000]), &["status"]);
    golden("status-full", holds([9 * gib, 7 * gib, 8 * gib - 4096, 0, 9]), &["status"]);
    golden("status-json", holds([3 * gib, gib, gib, 1000, 2000]), &["status", "--json"]);
}

#[test]
fn a_second_up_changes_nothing_at_all() {
    let root = Root::new();
    is_up(&root);
    let before = root.files();
    for _ in 0..2 {
        assert_eq!(root.run(&["up"]).code, 0);
        assert_eq!(root.changes(&before), "");
    }
}

#[test]
fn a_second_up_puts_back_what_drifted_and_down_still_knows_the_first_value() {
    let root = Root::new();
    is_up(&root);
    root.write("proc/sys/vm/page-cluster", "5\n");
    let run = root.run(&["up", "--swappiness", "3"]);
    assert!(run.stdout.contains("swappiness page-cluster set again"), "{}", run.text());
    assert_eq!(root.read("proc/sys/vm/swappiness"), "3\n");
    assert_eq!(root.read("proc/sys/vm/page-cluster"), "0\n");
    assert_eq!(root.run(&["down"]).code, 0);
    assert_eq!(root.read("proc/sys/vm/swappiness"), "60\n");
    assert_eq!(root.read("proc/sys/vm/page-cluster"), "3\n");
}

#[test]
fn a_sysctl_that_somebody_changed_is_left() {
    let root = Root::new();
    is_up(&root);
    root.write("proc/sys/vm/swappiness", "77\n");
    let run = root.run(&["down"]);
    assert_eq!(run.code, 0, "{}", run.text());
    assert!(run.stderr.contains("vm.swappiness is 77 now"), "{}", run.text());
    assert_eq!(root.read("proc/sys/vm/swappiness"), "77\n");
    assert_eq!(root.read("proc/sys/vm/page-cluster"), "3\n");
}

#[test]
fn other_settings_are_refused_while_it_is_up() {
    let root = Root::new();
    is_up(&root);
    let before = root.files();
    for words in
        [&["up", "--size", "1GiB"][..], &["up", "--primary"], &["up", "--algorithm", "lzo"]]
    {
        let run = root.run(words);
        assert!(run.code == 1 && run.is_one_line("run `down` first"), "{}", run.text());
        assert_eq!(root.changes(&before), "");
    }
}

#[test]
fn bad_arguments_are_one_line_and_code_2() {
    let root = Root::new();
    let before = root.files();
    let sizes = ["", "0", "-1", "5", "4095", "1e9", "12 GiBs", "0%", "1.2.3", "lots", "9999999TiB"];
    for size in sizes.iter().chain(&["161GiB", "99999999999999999999999999", "$(id)", "1\n2"]) {
        for option in ["--size", "--mem-limit"] {
            let run = root.run(&["up", option, size]);
            assert!(run.code == 2 && run.is_one_line(option), "{size}: {}", run.text());
        }
    }
    let words: [&[&str]; 16] = [
        &["up", "--swappiness", "11"],
        &["up", "--swappiness", "010"],
        &["up", "--swappiness", "0"],
        &["up", "--swappiness", "10", "--primary"],
        &["up", "--swappiness", "181", "--primary"],
        &["up", "--priority", "32768"],
        &["up", "--priority", "-1"],
        &["up", "--algorithm", "lz4; id"],
        &["up", "--size"],
        &["up", "down"],
        &["frobnicate"],
        &["up", "--emit", "systemd"],
        &["plan", "--emit", "rc"],
        &["up", "--force"],
        &["status", "--dry-run"],
        &["up", "--state", "here"],
    ];
    for words in words {
        let run = root.run(words);
        assert!(run.code == 2 && run.is_one_line(""), "{words:?}: {}", run.text());
    }
    assert_eq!(root.changes(&before), "");
}

#[test]
fn odd_sizes_are_whole_pages() {
    for (text, bytes) in [
        ("1048577", 1_048_576_u64),
        ("1.5GiB", 1_610_612_736),
        ("800MB", 799_997_952),
        ("12.5%", 2 << 30),
        ("2 gib", 2 << 30),
        ("160G", 160 << 30),
        ("1000%", 160 << 30),
    ] {
        let root = Root::new();
        assert_eq!(root.run(&["up", "--size", text]).code, 0);
        assert_eq!(root.read("sys/block/zram1/disksize"), format!("{bytes}\n"), "{text}");
    }
}

/// A machine that cannot: the code, a part of the one line, and nothing changed but the journal.
fn refused(code: i32, text: &str, words: &[&str], prepare: impl Fn(&Root)) -> Run {
    let root = Root::new();
    prepare(&root);
    root.run(&["status"]);
    let sysctls = root.sysctls();
    let run = root.run(words);
    assert!(run.code == code && run.is_one_line(text), "{}", run.text());
    assert_eq!(root.sysctls(), sysctls);
    run
}

#[test]
fn a_machine_that_cannot_is_one_line_and_a_code() {
    let control = "sys/class/zram-control";
    refused(5, "no zram", &["up"], |root| root.remove(control));
    refused(5, "no mkswap", &["up"], |root| root.remove("bin/mkswap"));
    refused(1, "no 'lz5'; it has: lzo-rle lzo lz4", &["up", "--algorithm", "lz5"], as_it_is);
    refused(1, "none of lz4", &["up"], |root| {
        root.write("sys/block/zram1/comp_algorithm", "[842]\n");
    });
    refused(1, "hot_add gave 'no'", &["up"], |root| {
        root.write("sys/class/zram-control/hot_add", "no\n")
    });
    refused(1, "/dev/zram1 did not appear", &["up"], |root| root.remove("dev/zram1"));
    refused(1, "swapon /dev/zram1 failed", &["up"], |root| root.write("no-swapon", ""));
    refused(1, "is it read-only or full", &["up"], |root| root.write("run", "a file"));
    refused(1, "no field MemTotal", &["plan"], |root| root.write("proc/meminfo", ""));
    let run = refused(1, "does not take a size of 32.00 GiB", &["up"], |root| {
        root.remove("sys/block/zram1/disksize");
        root.write("sys/block/zram1/disksize/busy", "");
    });
    assert!(run.stderr.contains("table of 128.00 MiB"), "{}", run.text());
    refused(1, "holds 11.99 GiB and only 12.00 GiB", &["down"], |root| {
        is_up(root);
        root.write("proc/swaps", "F\n/dev/zram1\tpartition\t33554432\t12572000\t100\n");
    });
}

#[test]
fn a_failed_up_leaves_no_device_and_no_journal() {
    for shell in shells() {
        let root = Root::new();
        root.write("no-swapon", "");
        assert_eq!(root.run_in(shell, &["up"]).code, 1);
        assert_eq!(root.read("sys/class/zram-control/hot_remove"), "1\n");
        assert!(!root.exists(root::STATE));
    }
}

#[test]
fn more_than_fits_in_ram_needs_force() {
    let root = Root::new();
    is_up(&root);
    root.write("proc/swaps", "F\n/dev/zram1\tpartition\t33554432\t12572000\t100\n");
    assert_eq!(root.run(&["down"]).code, 1);
    assert!(root.exists(root::STATE) && !root.exists("log"));
    let run = root.run(&["down", "--force"]);
    assert_eq!(run.code, 0, "{}", run.text());
    assert!(root.read("log").contains("swapoff /dev/zram1"));
}

#[test]
fn a_busy_device_is_tried_again() {
    for tries in [3, 10] {
        let root = Root::new();
        let file = root.path("sys/block/zram1/disksize");
        std::fs::remove_file(&file).expect("the fixture's file");
        std::fs::create_dir(&file).expect("a folder cannot be written to");
        if tries == 3 {
            root.write("busy", file.to_str().expect("a UTF-8 path"));
        }
        let run = root.run(&["up"]);
        assert_eq!(run.code, i32::from(tries == 10), "{}", run.text());
        let slept = root.read("log").lines().filter(|line| line.starts_with("sleep")).count();
        assert_eq!(slept, if tries == 3 { 3 } else { 9 });
    }
}

#[test]
fn a_modular_zram_is_loaded_and_unloaded() {
    let root = Root::new();
    let control = root.path("sys/class/zram-control");
    std::fs::rename(&control, root.path("hidden")).expect("the fixture's folder");
    let modprobe = "#!/bin/sh\necho \"modprobe $*\" >>\"$ROOT/log\"\n\
        [ \"$1\" = -r ] || mv \"$ROOT/hidden\" \"$ROOT/sys/class/zram-control\"\n";
    root.write_program("modprobe", modprobe);
    assert_eq!(root.run(&["up"]).code, 0);
    assert!(root.read("log").starts_with("modprobe zram num_devices=0\n"));
    assert_eq!(root.run(&["down"]).code, 0);
    assert!(root.read("log").ends_with("modprobe -r zram\n"), "{}", root.read("log"));
}

#[test]
fn killed_in_a_program_then_down_is_as_before() {
    for shell in shells() {
        for program in ["mkswap", "swapon"] {
            let root = Root::new();
            let sysctls = root.sysctls();
            let run = root.run_with(shell, &["up"], &[("KILL_IN", program)]);
            assert_eq!(run.code, -1, "killed by a signal: {}", run.text());
            let status = root.run(&["status"]);
            assert!(status.code == 3 && status.stdout.contains("cut short"), "{}", status.text());
            assert_eq!(root.run(&["down"]).code, 0);
            assert_eq!(root.read("sys/class/zram-control/hot_remove"), "1\n");
            assert_eq!((root.sysctls(), root.exists(root::STATE)), (sysctls, false));
            assert!(!root.read("proc/swaps").contains("zram1"));
        }
    }
}

#[test]
fn killed_after_any_line_of_the_journal_then_down_is_as_before() {
    let whole = Root::new();
    let sysctls = whole.sysctls();
    is_up(&whole);
    let journal = whole.read(root::STATE);
    let lines: Vec<&str> = journal.lines().collect();
    for count in 2..=lines.len() {
        for written in [false, true] {
            let root = Root::new();
            for line in lines[..count].iter().filter(|line| written && line.starts_with("sysctl")) {
                let words: Vec<&str> = line.split(' ').collect();
                root.write(&format!("proc/sys/vm/{}", words[1]), &format!("{}\n", words[3]));
            }
            root.write(root::STATE, &(lines[..count].join("\n") + "\n"));
            assert_eq!(root.run(&["down"]).code, 0);
            assert_eq!(root.sysctls(), sysctls, "{count} lines");
            let removed = root.read("sys/class/zram-control/hot_remove") == "1\n";
            assert_eq!(removed, lines[..count].contains(&"device 1"));
        }
    }
}

#[test]
fn a_device_without_a_line_goes_only_if_it_is_the_one_new_empty_one() {
    let cut = |before: &str| {
        let root = Root::new();
        let boot = root.read("proc/sys/kernel/random/boot_id");
        root.write(root::STATE, &format!("version 1\nboot {boot}before {before}\ndevice "));
        root
    };
    let removed = |root: &Root| {
        assert_eq!(root.run(&["down"]).code, 0);
        root.read("sys/class/zram-control/hot_remove").trim().to_owned()
    };
    assert_eq!(removed(&cut("zram0")), "1");
    assert_eq!(removed(&cut("zram0 zram1")), "");
    assert_eq!(removed(&cut("")), "");
    let root = cut("zram0");
    root.write("sys/block/zram1/disksize", "4096\n");
    assert_eq!(removed(&root), "");
}

#[test]
fn a_device_that_took_our_number_is_left_alone() {
    let root = Root::new();
    is_up(&root);
    root.write("sys/block/zram1/diskseq", "99\n");
    let run = root.run(&["down"]);
    assert!(run.stderr.contains("left alone"), "{}", run.text());
    assert_eq!(root.read("sys/class/zram-control/hot_remove"), "\n");
    assert_eq!(root.read("proc/sys/vm/swappiness"), "60\n");
}

#[test]
fn a_journal_of_another_boot_is_dropped() {
    for command in ["up", "down"] {
        let root = Root::new();
        is_up(&root);
        root.write("proc/sys/kernel/random/boot_id", "another\n");
        root.write("proc/sys/vm/swappiness", "10\n");
        let run = root.run(&[command]);
        assert!(run.code == 0 && run.stdout.contains("earlier boot"), "{}", run.text());
        assert_eq!(root.read("sys/class/zram-control/hot_remove"), "\n");
        assert_eq!(root.read("proc/sys/vm/swappiness"), "10\n");
    }
}

#[test]
fn help_names_every_command_and_option() {
    let run = Root::new().run(&["--help"]);
    assert_eq!(run.code, 0);
    let text = std::fs::read_to_string(script()).expect("the script");
    for line in
        text.lines().filter(|line| line.trim_start().starts_with("--") && !line.contains('?'))
    {
        let option = line.trim_start().split([' ', ')']).next().expect("a word");
        assert!(run.stdout.contains(option), "{option}");
    }
    assert!(run.stdout.lines().all(|line| line.len() <= 80));
}
