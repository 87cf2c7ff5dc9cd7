//! The page: names stay text, figures are the recording's, the size has a bound.

use super::*;
use crate::record::{KnownLimits, Recording, Span};
use crate::stage::planned::{MovedValue, Planned, Step};
use std::sync::Arc;

fn page(run: &Recording) -> String {
    let mut out = Vec::new();
    write(run, &mut out).expect("a Vec takes everything");
    String::from_utf8(out).expect("UTF-8")
}

/// What the page's data says, read back as a browser would.
fn embedded(page: &str) -> serde_json::Value {
    let start = "<script type=\"application/json\" id=\"run\">";
    let from = page.find(start).expect("the data") + start.len();
    let end = page[from..].find("</script>").expect("its end");
    serde_json::from_str(&page[from..from + end]).expect("JSON")
}

const NASTY: &str = "</script><b onload='x'>\"&<!--";

fn nasty() -> Recording {
    let total: StageTotal = serde_json::from_value(serde_json::json!({
        "name": NASTY, "depth": 0, "count": 1, "wall_seconds": 1.0, "cpu_seconds": 0.5,
        "peak_bytes": 5, "need_bytes": 0, "freed_bytes": 0, "packed_bytes": 0,
        "spilled_bytes": 0, "loaded_bytes": 0, "stalled_seconds": 0.9,
        "allocator": {"live_bytes": 1, "live_peak_bytes": 3 << 20, "cached_bytes": 0,
            "held_bytes": 0, "faults": 77},
    }))
    .expect("a total");
    let span = Span {
        name: Arc::from(NASTY),
        start_us: 0,
        duration_us: 1_000_000,
        track: 0,
        depth: 0,
        count: 1,
        peak_bytes: 5,
    };
    let mut step = Step::new(NASTY, true, 1);
    step.leave.push(MovedValue { value: NASTY.to_owned(), bytes: 3 << 20 });
    step.prefetch.push(NASTY.to_owned());
    Recording {
        format: Recording::FORMAT,
        title: NASTY.to_owned(),
        limit_source: NASTY.to_owned(),
        schedules: vec![Planned::new(NASTY, [9 << 20, 7 << 20, 5 << 20], vec![step])],
        threads: 2,
        duration_us: 1_000_000,
        peak_bytes: 5,
        totals: vec![total],
        spans: vec![span],
        holders: vec![crate::record::HeldAtPeak { name: NASTY.to_owned(), bytes: 5 }],
        ..Recording::default()
    }
}

#[test]
fn names_stay_text_everywhere() {
    let page = page(&nasty());
    assert!(!page.contains("<b onload"), "a name became markup");
    assert!(!page.contains("<!--"), "a name began a comment");
    assert_eq!(page.matches("</script>").count(), 2, "the data's and the script's own");
    let data = embedded(&page);
    for name in [&data["title"], &data["spans"][0]["name"], &data["holders"][0]["name"]] {
        assert_eq!(name, NASTY);
    }
    assert!(page.contains("&lt;/script&gt;&lt;b onload=&#39;x&#39;&gt;&quot;&amp;&lt;!--"));
}

#[test]
fn the_page_asks_nothing_of_any_network() {
    let page = page(&nasty());
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    for word in ["http://", "https://", "src=", "@import", "url(", "fetch(", "XMLHttp"] {
        assert!(!outside.contains(word), "{word}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn an_empty_recording_is_a_page_too() {
    let run = Recording { format: Recording::FORMAT, threads: 1, ..Recording::default() };
    let page = page(&run);
    assert_eq!(embedded(&page)["peak_bytes"], 0);
    assert!(page.contains("No stage ended") && !page.contains("NaN"));
}

#[test]
fn the_allocators_part_of_a_stage_has_its_row_and_only_where_it_was_recorded() {
    let mut run = nasty();
    let shown = page(&run);
    assert!(shown.contains("<td>3.00 MiB</td><td>-</td>") && shown.contains("<td>77</td></tr>"));
    assert_eq!(embedded(&shown)["totals"][0]["allocator"]["live_peak_bytes"], 3 << 20);
    run.totals[0].allocator = None;
    let shown = page(&run);
    assert!(!shown.contains("Global allocator"));
    // A recording of an older program has no such field.
    assert!(embedded(&shown)["totals"][0].get("allocator").is_none());
}

#[test]
fn times_have_the_unit_that_suits_them() {
    assert_eq!([time(0.0123), time(1.5), time(3_599.9)], ["12.3 ms", "1.50 s", "59:59 min"]);
}

#[test]
fn a_schedule_is_drawn_with_its_figures() {
    let page = page(&nasty());
    let section = page.split("<h2>Schedule").nth(1).expect("the schedule has a section");
    for figure in ["9.00 MiB", "7.00 MiB", "5.00 MiB", ": waits for the disk", "leaves (3.00 MiB)"]
    {
        assert!(section.contains(figure), "{figure}");
    }
    assert_eq!(section.matches("<rect").count(), 1, "a bar for each start");
    assert_eq!(embedded(&page)["schedules"][0]["steps"][0]["leave"][0]["bytes"], 3 << 20);
    assert!(!self::page(&Recording::default()).contains("Schedule of"));
}

#[test]
fn what_a_schedule_leaves_out_is_told() {
    let many = |count: usize| {
        let steps = vec![Step::new("a task whose name is far too long", false, 1); count];
        let run = Recording {
            schedules: vec![Planned::new("g", [9, 7, 5], steps)],
            ..Recording::default()
        };
        page(&run).split("<h2>Schedule").nth(1).expect("a section").to_owned()
    };
    let (all, one, some) = (many(60), many(61), many(63));
    assert!(
        all.contains(">a task whose name is far \u{2026}<") && !all.contains("left out"),
        "{all}"
    );
    assert!(one.contains("The last task is left out of the picture."), "{one}");
    assert!(some.contains("The last 3 tasks are left out of the picture."), "{some}");
    assert_eq!([&all, &some].map(|section| section.matches("<rect").count()), [60, 60]);
}

#[test]
fn who_runs_a_finished_program_is_told_which_limits_there_are() {
    let mut run = nasty();
    run.limit_bytes = Some(8);
    let said = |run: &Recording| -> Vec<String> {
        run.advice().iter().map(|advice| format!("{:?}: {}", advice.kind, advice.text)).collect()
    };
    let to_author = said(&run).concat();
    assert!(
        to_author.contains("less of that lowers") && to_author.contains("Cores"),
        "{to_author}"
    );
    run.known_limits =
        Some(KnownLimits { in_core_bytes: (85 << 20) - 1, smallest_bytes: 34 << 20 });
    let in_core = said(&run).concat();
    assert!(!in_core.contains("less of that") && !in_core.contains("Cores"), "{in_core}");
    let enough = "Nothing left memory: a limit of 85MiB is enough for that. The smallest limit";
    assert!(in_core.contains(enough) && in_core.contains("works is 34MiB."), "{in_core}");
    run.totals[0].spilled_bytes = 3 << 20;
    let spilled = said(&run).concat();
    let cost = "0 B were packed and 3.00 MiB spilled, and threads waited 0.90 s in all";
    assert!(spilled.contains(cost) && spilled.contains("From a limit of 85MiB on"), "{spilled}");
    assert!(spilled.contains("use a faster disk") && !spilled.contains("prefetch"), "{spilled}");
}
