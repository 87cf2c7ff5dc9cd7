//! Lanes: spans side by side, so that in one lane each span lies inside or after the one before.
//!
//! ```text
//!   heard:  [a-----------]              lane 0  [a-----------]
//!             [b--]  [c------]                    [b--]              b is inside a
//!                                       lane 1           [c------]   c neither inside nor after
//! ```
//!
//! Clocks are read one after the other: an inner span may seem to begin some microseconds before
//! the one around it. Within [`SLACK_US`] that is mended; beyond it, it is another lane.
//!
//! Invariants: in a lane any two spans are disjoint or one contains the other; `depth` is the
//! number of spans in the lane that contain it; no span is lost.
//!
//! Source of the rule: the Trace Event Format, "complete events": those of one thread must nest.

use super::span::{Span, TRACKS_MAX};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

/// Microseconds by which an inner span may seem to begin too early.
const SLACK_US: u64 = 200;

/// A number for this thread, from 0 in the order in which threads first ask.
pub(super) fn track_of_this_thread() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    thread_local! {
        static TRACK: Cell<Option<u32>> = const { Cell::new(None) };
    }
    TRACK.with(|track| {
        track.get().unwrap_or_else(|| {
            let number = NEXT.fetch_add(1, Ordering::Relaxed) % TRACKS_MAX;
            track.set(Some(number));
            number
        })
    })
}

/// One lane: the ends of the spans that are open at the time looked at.
struct Lane {
    track: u32,
    open: Vec<u64>,
}

/// Puts every span in a lane: sets `track` to the lane's number, and `depth`.
pub(super) fn into_lanes(spans: &mut [Span]) {
    for span in spans.iter_mut() {
        // A span of no length has no place in a picture; a microsecond is the clock's own step.
        span.duration_us = span.duration_us.max(1);
    }
    raise_early_starts(spans);
    spans.sort_by_key(|span| (span.start_us, std::cmp::Reverse(span.end_us()), span.depth));
    let mut lanes: Vec<Lane> = Vec::new();
    for span in spans.iter_mut() {
        let (start, end) = (span.start_us, span.end_us());
        for lane in lanes.iter_mut().filter(|lane| lane.track == span.track) {
            while lane.open.last().is_some_and(|last| *last <= start) {
                lane.open.pop();
            }
        }
        let fits = |lane: &Lane| {
            lane.track == span.track && lane.open.last().is_none_or(|last| end <= *last)
        };
        let index = lanes.iter().position(fits).unwrap_or_else(|| {
            lanes.push(Lane { track: span.track, open: Vec::new() });
            lanes.len() - 1
        });
        span.track = index as u32;
        span.depth = lanes[index].open.len() as u16;
        lanes[index].open.push(end);
    }
}

/// Raises the start of a span to that of a longer one that begins just after it and ends no sooner.
fn raise_early_starts(spans: &mut [Span]) {
    spans.sort_by_key(|span| (span.track, span.start_us, std::cmp::Reverse(span.end_us())));
    for i in 0..spans.len() {
        let (track, start, end) = (spans[i].track, spans[i].start_us, spans[i].end_us());
        let outer = spans[i + 1..]
            .iter()
            .take_while(|next| next.track == track && next.start_us - start <= SLACK_US)
            .filter(|next| next.start_us > start && next.end_us() >= end)
            .find(|next| next.start_us < end)
            .map(|next| next.start_us);
        if let Some(outer) = outer {
            spans[i].duration_us = end - outer;
            spans[i].start_us = outer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn span(start_us: u64, end_us: u64, track: u32) -> Span {
        let name = Arc::from(format!("{start_us}-{end_us}"));
        let duration_us = end_us - start_us;
        Span { name, start_us, duration_us, track, depth: 0, count: 1, peak_bytes: 0 }
    }

    fn check(spans: &[Span]) {
        for a in spans {
            let mut around = 0;
            for b in spans.iter().filter(|b| b.track == a.track && !std::ptr::eq(*b, a)) {
                let apart = b.end_us() <= a.start_us || a.end_us() <= b.start_us;
                let inside = b.start_us >= a.start_us && b.end_us() <= a.end_us();
                let outside = b.start_us <= a.start_us && b.end_us() >= a.end_us();
                assert!(apart || inside || outside, "{a:?} and {b:?} cross");
                around += usize::from(outside && (!inside || b.depth < a.depth));
            }
            assert_eq!(usize::from(a.depth), around, "{a:?}");
        }
    }

    #[test]
    fn spans_of_random_places_nest_in_their_lanes() {
        let replay = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        for seed in replay.map_or(0..200u64, |seed| seed..seed + 1) {
            eprintln!("SEED={seed}");
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let mut random = |below: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % below
            };
            let mut spans: Vec<Span> = (0..60)
                .map(|_| {
                    let start = random(5_000);
                    span(start, start + random(3_000), random(3) as u32)
                })
                .collect();
            into_lanes(&mut spans);
            assert_eq!(spans.len(), 60);
            check(&spans);
        }
    }

    #[test]
    fn an_inner_span_that_seems_early_is_inside() {
        let mut spans = vec![span(100, 500, 0), span(60, 300, 0), span(600, 700, 0)];
        into_lanes(&mut spans);
        check(&spans);
        assert!(spans.iter().all(|span| span.track == 0));
        assert_eq!(spans[1].depth, 1);
        assert_eq!((spans[1].start_us, spans[1].end_us()), (100, 300));
    }
}
