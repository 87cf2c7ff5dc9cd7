//! The span log: bounds, sums, and what merging may not lose.

use super::*;

fn report(name: &str, wall_us: u64, peak_bytes: u64) -> StageReport {
    StageReport {
        name: name.to_owned(),
        wall_seconds: wall_us as f64 / 1e6,
        peak_bytes,
        ..StageReport::default()
    }
}

fn place(start_us: u64, end_us: u64, track: u32, depth: u16) -> SpanPlace {
    SpanPlace { start_us, end_us, track, depth }
}

#[test]
fn a_hundred_thousand_spans_keep_counts_peaks_and_room() {
    let mut log = SpanLog::new();
    let reserved = (log.spans.capacity(), log.totals.capacity());
    for i in 0..100_000u64 {
        let long = if i % 1000 == 0 { 20_000 } else { 10 };
        let name = format!("stage {}", i % 2000);
        let at = place(i * 30_000, i * 30_000 + long, (i % 3) as u32, (i % 2) as u16);
        log.push(&report(&name, long, i), None, at);
    }
    assert_eq!((log.spans.capacity(), log.totals.capacity()), reserved, "no growth");
    assert!(log.merged_below_us() > 0);
    let (spans, totals) = log.into_parts();
    assert!(spans.len() <= SPANS_MAX);
    assert_eq!(spans.iter().map(|span| span.count).sum::<u64>(), 100_000);
    assert_eq!(spans.iter().map(|span| span.peak_bytes).max(), Some(99_999));
    assert_eq!(totals.len(), NAMES_MAX + 1);
    assert_eq!(totals.iter().map(|total| total.count).sum::<u64>(), 100_000);
    assert_eq!(&*totals[NAMES_MAX].name, MORE_NAMES);
    assert!(spans.windows(2).all(|pair| pair[0].start_us <= pair[1].start_us));
}

#[test]
fn all_tracks_and_depths_at_once_still_fit() {
    let mut log = SpanLog::new();
    for i in 0..50_000u64 {
        let at = place(i, i + 1, (i % 200) as u32, (i / 200 % 16) as u16);
        log.push(&report("s", 1, 0), None, at);
    }
    let deep = log.too_deep();
    let (spans, _) = log.into_parts();
    assert!(spans.len() <= SPANS_MAX);
    assert_eq!(spans.iter().map(|span| span.count).sum::<u64>() + deep, 50_000);
    assert!(deep > 0);
}

#[test]
fn long_spans_stay_whole_among_small_ones() {
    let mut log = SpanLog::new();
    log.push(&report("long", 1 << 30, 7), None, place(0, 1 << 30, 0, 0));
    for i in 0..20_000u64 {
        log.push(&report("small", 5, 0), None, place(i * 10, i * 10 + 5, 0, 1));
    }
    let (spans, _) = log.into_parts();
    let long: Vec<&Span> = spans.iter().filter(|span| &*span.name == "long").collect();
    assert_eq!(long.len(), 1);
    assert_eq!((long[0].count, long[0].duration_us, long[0].peak_bytes), (1, 1 << 30, 7));
}

#[test]
fn long_names_are_cut_between_characters() {
    let name = "\u{fc}".repeat(100);
    let short = shortened(&name);
    assert!(short.len() <= NAME_BYTES_MAX && short.ends_with("..."));
    assert_eq!(&*shortened("msm A"), "msm A");
}
