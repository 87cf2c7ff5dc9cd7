//! The grammar by example, and against arithmetic on random texts.

use super::*;

#[test]
fn kubernetes_suffixes_and_ours_are_one_grammar() {
    for (text, bytes) in [
        ("8Gi", 8 << 30),
        ("8GiB", 8 << 30),
        ("8g", 8 << 30),
        ("100Mi", 100 << 20),
        ("64ki", 64 << 10),
        ("2mb", 2_000_000),
        (" 1.5 MiB ", 3 << 19),
        ("1Ei", 1 << 60),
    ] {
        assert_eq!(parse_size(text.as_bytes()), Ok(bytes), "{text:?}");
    }
    for text in ["8ib", "8 GiBs", "1e9", "0x10", "8Gib2"] {
        assert!(parse_size(text.as_bytes()).is_err(), "{text:?}");
    }
}

#[test]
fn none_is_no_limit_and_zero_is_an_error() {
    assert_eq!(LimitSpec::parse(b" None "), Ok(LimitSpec::None));
    for text in ["0", "0GiB", "0.0", "0%", "0.0001kB"] {
        assert_eq!(LimitSpec::parse(text.as_bytes()), Err(MisreadKind::Zero), "{text:?}");
    }
    assert_eq!(LimitSpec::parse(b"1.5"), Err(MisreadKind::TooFine));
    assert_eq!(LimitSpec::parse(b"\xff\0"), Err(MisreadKind::NotANumber));
}

/// Random sizes from `SEED`, against the definition in 128 bits; and random texts, of which none
/// may panic and each that is read is written and read back as the same.
#[test]
fn random_texts_are_read_as_the_grammar_says() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7u64);
    let mut state = seed;
    let mut below = |limit: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    for _ in 0..20_000 {
        let (whole, power) = (below(1 << 31) >> below(31), below(7) as u32);
        let (digits, binary) = (below(5) as u32, below(2) == 0);
        let fraction = below(10u64.pow(digits));
        let prefix = ["", "K", "m", "G", "t", "P", "e"][power as usize];
        let suffix = [["B", "b", "B"], ["", "i", "iB"]][usize::from(binary)][below(3) as usize];
        let suffix = if prefix.is_empty() { "" } else { suffix };
        let point = if digits == 0 {
            String::new()
        } else {
            format!(".{fraction:0width$}", width = digits as usize)
        };
        let text = format!("{whole}{point}{prefix}{suffix}");
        let unit = if binary { 1024u128 } else { 1000 }.pow(power);
        let scale = 10u128.pow(digits);
        let exact = (u128::from(whole) * scale + u128::from(fraction)) * unit / scale;
        let expected = match u64::try_from(exact) {
            _ if unit == 1 && fraction > 0 => Err(MisreadKind::TooFine),
            Ok(bytes) => Ok(bytes),
            Err(_) => Err(MisreadKind::Overflow),
        };
        assert_eq!(parse_size(text.as_bytes()), expected, "SEED={seed}: {text}");
    }
    let letters = b"0123456789..%kKMGTPEiB autonef-+_,\xff";
    for _ in 0..50_000 {
        let text: Vec<u8> =
            (0..below(12)).map(|_| letters[below(letters.len() as u64) as usize]).collect();
        if let Ok(spec) = LimitSpec::parse(&text) {
            let again = LimitSpec::parse(spec.to_string().as_bytes());
            assert_eq!(again, Ok(spec), "SEED={seed}: {text:?}");
        }
    }
}
