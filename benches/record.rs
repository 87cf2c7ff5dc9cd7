//! What recording costs: the same stages with the recorder on and off.
//!
//! ```text
//!   stages/time      seconds of a round that is recorded, beside one that is not
//!   sampler/time     seconds of CPU the sampler took, beside the round's wall time
//!   logs/memory      bytes the logs hold, beside the 64 MiB that one vector of 2^21 scalars takes
//! ```
//!
//! A round is 400 stages of about 1.7 ms, each writing a pooled vector and multiplying its words;
//! rounds with and without the recorder take turns, and the least of each counts.
//!
//! Run: `cargo bench --bench record`; seconds long, small: `PLIMSOLL_BENCH_SMOKE=1`.

mod common;

use common::{Effort, Figure, Unit};
use plimsoll::Runtime;
use plimsoll::record::Recorder;
use std::hint::black_box;
use std::time::Instant;

/// Words of a stage's vector: 2 MiB.
const WORDS: usize = 1 << 18;

/// Passes over it: 1.7 ms in all.
const PASSES: usize = 16;

fn round(runtime: &Runtime, stages: usize) {
    for _ in 0..stages {
        let stage = runtime.stage("work", (WORDS * 8) as u64).expect("room");
        let mut words = runtime.pool().try_zeroed::<u64>(WORDS).expect("room");
        for pass in 0..PASSES as u64 {
            for word in words.iter_mut() {
                *word = word.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(pass);
            }
        }
        black_box(&words);
        drop(words);
        drop(stage);
    }
}

fn main() {
    let effort = common::effort();
    common::print_machine("record", effort);
    let (stages, rounds) = if effort == Effort::Full { (400, 9) } else { (3, 1) };
    let runtime = Runtime::builder().limit_bytes(1 << 30).build().expect("a runtime");
    round(&runtime, stages);
    let (mut plain, mut recorded) = (f64::INFINITY, f64::INFINITY);
    let (mut sampler, mut sampled, mut held) = (0.0, 0.0, 0);
    for _ in 0..rounds {
        let started = Instant::now();
        round(&runtime, stages);
        plain = plain.min(started.elapsed().as_secs_f64());

        let recorder = Recorder::builder().watch(&runtime).start().expect("a recorder");
        held = recorder.held_bytes();
        let started = Instant::now();
        round(&runtime, stages);
        let seconds = started.elapsed().as_secs_f64();
        recorded = recorded.min(seconds);
        let recording = recorder.finish().expect("a recording");
        sampler += recording.sampler_cpu_seconds;
        sampled += seconds;
        let heard: u64 = recording.totals.iter().map(|total| total.count).sum();
        assert_eq!(heard, stages as u64, "every stage was heard");
    }
    let figure = |case, ours, peer, unit, peer_name| {
        Figure { bench: "record", case, ours, peer, unit, peer_name }.print();
    };
    figure("stages/time", recorded, plain, Unit::Seconds, "not-recorded");
    figure("sampler/time", sampler, sampled, Unit::Seconds, "wall-time");
    figure("logs/memory", held as f64, (64u64 << 20) as f64, Unit::Bytes, "one-vector");
}
