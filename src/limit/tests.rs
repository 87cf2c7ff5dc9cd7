//! The limit's words: a table of texts, the resolution over fixtures, and properties.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};

use super::*;
use plimsoll_arena::process::{Allowance, CgroupVersion, Group};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Runs a property under the seed in `SEED`, or a fresh one, and names it on failure.
fn check<S: Strategy>(strategy: S, property: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let seed = match std::env::var("SEED") {
        Ok(text) => text.parse().expect("SEED is a decimal number"),
        Err(_) => RandomState::new().hash_one(0),
    };
    let config = Config {
        cases: 2000,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..Config::default()
    };
    match TestRunner::new(config).run(&strategy, property) {
        Err(TestError::Fail(reason, value)) => {
            panic!("SEED={seed} fails with {value:?}: {reason}")
        }
        other => other.unwrap(),
    }
}

fn meter(fixture: &str) -> Meter {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture);
    Meter::at(&root).unwrap()
}

fn spec(text: &str) -> LimitSpec {
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[test]
fn sizes_read_to_the_byte() {
    let table = [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        (" 4096 b ", 4096),
        ("1K", 1024),
        ("1k", 1024),
        ("1KiB", 1024),
        ("1kB", 1000),
        ("1KB", 1000),
        ("512MiB", 512 * MIB),
        ("800MB", 800_000_000),
        ("12GiB", 12 * GIB),
        ("12 GiB", 12 * GIB),
        ("12gib", 12 * GIB),
        ("12Gi", 12 * GIB),
        ("64 ki", 64 * 1024),
        ("1.5GiB", 3 * GIB / 2),
        ("1.50000000000000000000000GiB", 3 * GIB / 2),
        ("0.1GiB", 107_374_182),
        ("0.999999999999999999KiB", 1023),
        ("0.0015kB", 1),
        ("2T", 2048 * GIB),
        ("3PiB", 3 << 50),
        ("15.99EiB", 18435214858663483146),
        ("18446744073709551615", u64::MAX),
        ("00012", 12),
        ("1.0", 1),
    ];
    for (text, bytes) in table {
        assert_eq!(parse_bytes(text).unwrap(), bytes, "{text:?}");
    }
}

#[test]
fn refused_texts_say_why_and_show_the_right_form() {
    let table = [
        ("", "empty"),
        ("  ", "empty"),
        ("-1GiB", "negative"),
        ("-5%", "negative"),
        ("GiB", "number"),
        ("+5", "number"),
        (".5GiB", "number"),
        ("5.GiB", "number"),
        ("1,5GiB", "number"),
        ("1_000", "number"),
        ("1.2.3GiB", "number"),
        ("12 34", "number"),
        ("NaN", "number"),
        ("inf", "number"),
        ("%", "number"),
        ("5x%", "number"),
        ("12GiBs", "unknown unit"),
        ("12Gib2", "unknown unit"),
        ("1e9", "unknown unit"),
        ("12 foo", "unknown unit"),
        ("1.5", "too fine"),
        ("1.0000000000000000001GiB", "too fine"),
        ("0.001%", "too fine"),
        ("100.01%", "over 100%"),
        ("700%", "over 100%"),
        ("99999999999999999999999%", "over 100%"),
        ("0", "zero"),
        ("0GiB", "zero"),
        ("0.0001kB", "zero"),
        ("0%", "zero"),
        ("16EiB", "over 16 EiB"),
        ("18446744073709551616", "over 16 EiB"),
        ("99999999999999999999999GiB", "over 16 EiB"),
    ];
    for (text, why) in table {
        let error = text.parse::<LimitSpec>().unwrap_err().to_string();
        assert!(error.contains(why), "{text:?}: {error}");
        assert!(text.trim().is_empty() || error.contains(text), "{text:?}: {error}");
        assert!(["12GiB", "1.5GiB", "75%"].iter().any(|form| error.contains(form)), "{error}");
    }
    assert_eq!(parse_bytes("75%").unwrap_err().kind, MisreadKind::UnknownUnit);
}

#[test]
fn errors_quote_no_more_than_a_line_and_no_control_characters() {
    let long = "9".repeat(100_000);
    assert!(long.parse::<LimitSpec>().unwrap_err().to_string().len() < 200);
    assert!("\u{1b}[2J".parse::<LimitSpec>().unwrap_err().to_string().is_ascii());
    assert!(!"\u{1b}[2J".parse::<LimitSpec>().unwrap_err().to_string().contains('\u{1b}'));
}

#[test]
fn sizes_show_in_two_decimals() {
    let table = [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (5 * GIB / 4, "1.25 GiB"),
        (12 * GIB, "12.00 GiB"),
        (1024 * 1024 - 6, "1023.99 KiB"),
        (1024 * 1024 - 1, "1.00 MiB"),
        (u64::MAX, "16.00 EiB"),
    ];
    for (bytes, text) in table {
        assert_eq!(format_bytes(bytes).to_string(), text);
    }
    assert_eq!(format!("[{:>10}]", format_bytes(GIB)), "[  1.00 GiB]");
    assert_eq!(format!("[{:<10}]", format_bytes(GIB)), "[1.00 GiB  ]");
}

#[test]
fn specs_show_as_text_that_reads_back() {
    let table = [
        ("auto", "auto"),
        ("none", "none"),
        ("AUTO", "auto"),
        ("1.5GiB", "1536MiB"),
        ("800MB", "781250KiB"),
        ("4097", "4097"),
        ("75%", "75%"),
        ("100 %", "100%"),
        ("37.5%", "37.5%"),
        ("0.01%", "0.01%"),
        ("1.050%", "1.05%"),
    ];
    for (text, shown) in table {
        assert_eq!(spec(text).to_string(), shown, "{text:?}");
        assert_eq!(spec(shown), spec(text), "{text:?}");
    }
    assert_eq!(LimitSpec::default(), LimitSpec::Auto);
    assert_eq!(Share::of_hundredths(0), None);
    assert_eq!(Share::of_hundredths(10_001), None);
}

#[test]
fn limits_name_their_source() {
    // MemTotal 32 GiB, MemAvailable 24 GiB; cgroup limits 4 (v1), 6 (v2), 5 (high), 2 GiB.
    let table = [
        ("cgroup-v1", "2GiB", "2.00 GiB (asked for)"),
        ("cgroup-v1", "75%", "3.00 GiB (asked for)"),
        ("cgroup-v1", "12GiB", "3.88 GiB (cgroup /a allows 4.00 GiB, less a margin)"),
        ("cgroup-v2", "12GiB", "5.81 GiB (cgroup /a allows 6.00 GiB, less a margin)"),
        ("cgroup-v2-high", "12GiB", "4.84 GiB (cgroup /svc allows 5.00 GiB, less a margin)"),
        ("cgroup-v1-unlimited", "50%", "16.00 GiB (asked for)"),
        ("cgroup-v1-unlimited", "100%", "24.00 GiB (memory available now)"),
        ("cgroup-none", "auto", "24.00 GiB (memory available now)"),
        ("cgroup-none", "24GiB", "24.00 GiB (asked for)"),
        ("cgroup-none", "1MiB", "1.00 MiB (asked for)"),
    ];
    for (fixture, text, shown) in table {
        let limit = Limit::resolve(spec(text), &meter(fixture)).unwrap().unwrap();
        assert_eq!(limit.to_string(), shown, "{fixture}, {text}");
    }
    assert_eq!(Limit::resolve(LimitSpec::None, &meter("cgroup-v1")).unwrap(), None);
    // Others hold 2 GiB of the cgroup, less what is this process's own.
    let limit = Limit::resolve(LimitSpec::Auto, &meter("cgroup-v2")).unwrap().unwrap();
    let own = meter("cgroup-v2").resident().unwrap().anon_bytes();
    let LimitSource::Cgroup { others_bytes, .. } = limit.source else { panic!("{limit}") };
    assert_eq!(others_bytes, 2 * GIB - own);
    assert_eq!(limit.bytes, 6 * GIB - 6 * GIB / 32 - others_bytes);
    assert!(limit.to_string().contains("less a margin and 1."), "{limit}");
}

#[test]
fn a_limit_below_the_floor_is_an_error_that_says_what_to_do() {
    let error = Limit::resolve(spec("4096"), &meter("cgroup-none")).unwrap_err().to_string();
    assert!(error.contains("4.00 KiB (asked for)"), "{error}");
    assert!(error.contains("1.00 MiB") && error.contains("ask for more"), "{error}");
    let resolved = LimitSpec::Auto.resolve(&allowance(GIB, GIB, Some(16 * MIB)));
    let error = Limit::of(resolved, "/p".into()).unwrap_err();
    assert!(error.to_string().contains("give the cgroup or container more"), "{error}");
    let error = Limit::resolve(spec("auto"), &meter("cgroup-damaged")).unwrap_err();
    assert!(matches!(error, LimitError::Meter(_)), "{error:?}");
}

#[test]
fn the_live_machine_resolves() {
    let meter = Meter::live().unwrap();
    for text in ["auto", "64MiB", "50%"] {
        let limit = Limit::resolve(spec(text), &meter).unwrap().unwrap();
        assert!(limit.bytes <= meter.mem_total_bytes().unwrap(), "{limit}");
    }
}

fn allowance(total: u64, available: u64, limit: Option<u64>) -> Allowance {
    let group = limit.map(|limit_bytes| Group {
        version: CgroupVersion::V2,
        limit_bytes: Some(limit_bytes),
        high_bytes: None,
        usage_bytes: None,
        anon_bytes: None,
    });
    Allowance { total_bytes: total, available_bytes: available, group, own_bytes: 0 }
}

/// Numbers of bytes of every magnitude, with those at powers of two more often.
fn bytes() -> impl Strategy<Value = u64> {
    let near =
        (0_u32..64, -2_i64..=2).prop_map(|(bit, off)| (1_u64 << bit).wrapping_add_signed(off));
    prop_oneof![near, (any::<u64>(), 0_u32..64).prop_map(|(bits, shift)| bits >> shift)]
}

fn specs() -> impl Strategy<Value = LimitSpec> {
    prop_oneof![
        Just(LimitSpec::Auto),
        Just(LimitSpec::None),
        bytes().prop_map(|bytes| LimitSpec::Bytes(bytes.max(1))),
        (1..=10_000_u16).prop_map(|part| LimitSpec::Share(Share::of_hundredths(part).unwrap())),
    ]
}

#[test]
fn a_size_shown_reads_back_within_half_a_hundredth_of_its_unit() {
    check(bytes(), |bytes| {
        let shown = format_bytes(bytes).to_string();
        let unit = match shown.split_once(' ').map(|(_, unit)| unit) {
            Some("B") => 1,
            Some(unit) => parse_bytes(&format!("1{unit}")).unwrap(),
            None => return Err(TestCaseError::fail(shown)),
        };
        match parse_bytes(&shown) {
            // Half a hundredth, and the byte lost when the text is read and rounded down.
            Ok(read) => prop_assert!(read.abs_diff(bytes) <= unit / 200 + 1, "{shown}"),
            Err(_) => prop_assert_eq!(shown, "16.00 EiB"),
        }
        prop_assert_eq!(bytes < 1024, unit == 1);
        Ok(())
    });
}

#[test]
fn every_spec_reads_back_exactly() {
    check(specs(), |spec| {
        prop_assert_eq!(spec.to_string().parse::<LimitSpec>().unwrap(), spec);
        Ok(())
    });
}

#[test]
fn no_text_panics_and_every_accepted_text_is_stable() {
    let near = "[-+]?[0-9]{0,22}[.,_]?[0-9]{0,22} ?[kKmMgGtTpPeE%]?[iI]?[bB]?[% x]?";
    check(prop_oneof![".*", near, "[0-9]{1,4}(\\.[0-9]{1,3})? ?[KMGT]?(i?B)?%?"], |text| {
        let _ = parse_bytes(&text);
        match text.parse::<LimitSpec>() {
            Ok(spec) => prop_assert_eq!(spec.to_string().parse::<LimitSpec>().unwrap(), spec),
            Err(error) => prop_assert!(error.to_string().len() < 700),
        }
        Ok(())
    });
}

#[test]
fn a_limit_exceeds_none_of_its_bounds() {
    let bounds = (bytes(), bytes(), proptest::option::of(bytes()));
    check((specs(), bounds), |(spec, (total, available, limit))| {
        let whole = limit.unwrap_or(u64::MAX).min(total);
        let asked = match spec {
            LimitSpec::Auto | LimitSpec::None => u64::MAX,
            LimitSpec::Bytes(bytes) => bytes,
            LimitSpec::Share(share) => share.of_bytes(whole),
        };
        let allowed = limit.map_or(u64::MAX, |l| l.saturating_sub((l / 32).max(16 * MIB)));
        let least = asked.min(allowed).min(available);
        let resolved = spec.resolve(&allowance(total, available, limit));
        match Limit::of(resolved, "/p".into()) {
            Ok(None) => prop_assert_eq!(spec, LimitSpec::None),
            Ok(Some(resolved)) => {
                prop_assert_eq!(resolved.bytes, least);
                prop_assert!(resolved.bytes >= LIMIT_BYTES_MIN);
            }
            Err(LimitError::BelowFloor { limit }) => {
                prop_assert_eq!(limit.bytes, least);
                prop_assert!(limit.bytes < LIMIT_BYTES_MIN);
            }
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        }
        Ok(())
    });
}
