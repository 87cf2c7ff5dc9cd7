//! Proofs under one limit after the other: the same bytes, the limit kept, what it cost.

use crate::line;
use crate::sides::{Case, Run, Tiers};
use std::path::Path;

/// Percent of a peak that the limits are.
const SHARES: [f64; 8] = [100.0, 80.0, 60.0, 50.0, 40.0, 25.0, 12.5, 6.0];

/// A limit, and what a proof under it took of the peer's time and peak.
struct Point {
    share: f64,
    time: f64,
    peak: f64,
}

/// Those at or above the smallest that there can be, and that one in place of those below.
fn shares(smallest: f64) -> Vec<f64> {
    let mut shares = SHARES.map(|share| share.max(smallest)).to_vec();
    shares.dedup();
    shares
}

/// Proves under `limit` and prints it; the proof must be the peer's.
fn prove(case: &Case, name: &str, limit: u64, peer: &Run) -> Run {
    let ours = case.run("ours", Some(limit)).expect("a result");
    assert_eq!(ours.proof, peer.proof, "{name}: the proofs differ");
    assert!(ours.peak <= limit as f64, "{name}: {} bytes under a limit of {limit}", ours.peak);
    line(name, "s", ours.seconds, peer.seconds);
    line(name, "bytes", ours.peak, peer.peak);
    let Tiers { packed, spilled, loaded, read_ahead_hits } = ours.tiers;
    println!(
        "# {name}: limit={limit} packed={packed} spilled={spilled} brought_back={loaded} \
         read_ahead_hits={read_ahead_hits}"
    );
    ours
}

/// Under shares of the peer's peak, and the smallest limit of our plan in place of those below.
pub(crate) fn of_peer(case: &Case, picture: Option<&Path>) {
    case.run("setup", None);
    let peer = case.run("peer", None).expect("a result");
    let smallest = case.run("smallest", None).expect("a limit").peak;
    let mut points = Vec::new();
    for share in shares(smallest / peer.peak * 100.0) {
        let name = format!("limit-{}%/2^{}", (share * 1e3).round() / 1e3, case.log_n);
        let limit = (peer.peak * share / 100.0).ceil() as u64;
        let ours = prove(case, &name, limit, &peer);
        points.push(Point {
            share,
            time: ours.seconds / peer.seconds,
            peak: ours.peak / peer.peak * 100.0,
        });
    }
    bars(&points);
    if let Some(path) = picture {
        std::fs::write(path, curve(case.log_n, &points)).expect("the picture is written");
    }
}

/// Under shares of what ours takes in core, and the smallest limit of its plan in place of those
/// below.
pub(crate) fn of_ours(case: &Case) {
    case.run("setup", None);
    let peer = case.run("peer", None).expect("a result");
    let in_core = case.run("ours", None).expect("a result");
    let kind = case.kind.name();
    line(&format!("{kind}-in-core/2^{}", case.log_n), "s", in_core.seconds, peer.seconds);
    line(&format!("{kind}-in-core/2^{}", case.log_n), "bytes", in_core.peak, peer.peak);
    let smallest = case.run("smallest", None).expect("a limit").peak;
    let mut points = Vec::new();
    let mut tiers = Tiers::default();
    for share in shares(smallest / in_core.peak * 100.0) {
        let limit = (in_core.peak * share / 100.0).ceil() as u64;
        let name = format!("{kind}-limit-{share:.3}%/2^{}", case.log_n);
        let ours = prove(case, &name, limit, &peer);
        tiers = tiers.plus(ours.tiers);
        let time = ours.seconds / in_core.seconds;
        points.push(Point { share, time, peak: ours.peak / in_core.peak * 100.0 });
    }
    bars(&points);
    let reached = [tiers.packed, tiers.spilled, tiers.loaded, tiers.read_ahead_hits];
    assert!(reached.iter().all(|count| *count > 0), "a tier was never reached: {tiers:?}");
}

fn bars(points: &[Point]) {
    for Point { share, time, .. } in points {
        println!("# {share:>6.1} %  {:<60} {time:.2}", "=".repeat((time * 40.0) as usize));
    }
}

/// Draws time and peak, of ark-groth16's, over the limit, in percent of its peak.
fn curve(log_n: u32, points: &[Point]) -> String {
    let (left, bottom, wide, high) = (60.0, 280.0, 560.0, 240.0);
    let x = |share: f64| left + wide * (share.ln() - 5f64.ln()) / (100f64.ln() - 5f64.ln());
    let y = |value: f64| bottom - high * value / 1.25;
    let path = |value: &dyn Fn(&Point) -> f64| {
        let places = points.iter().map(|p| format!("{:.1},{:.1}", x(p.share), y(value(p))));
        places.collect::<Vec<_>>().join(" ")
    };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 660 340\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"660\" height=\"340\" fill=\"white\"/>\n\
         <text x=\"60\" y=\"22\">Groth16, 2^{log_n} constraints: time and peak of ours under a \
         limit, over ark-groth16's in core</text>\n"
    );
    for value in [0.0, 0.25, 0.5, 0.75, 1.0, 1.25] {
        let at = y(value);
        text += &format!(
            "<line x1=\"{left}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>\n",
            left + wide,
            left - 8.0,
            at + 4.0
        );
    }
    for Point { share, .. } in points {
        let (at, share) = (x(*share), (share * 1e3).round() / 1e3);
        text += &format!(
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{share}%</text>\n",
            bottom + 18.0
        );
    }
    let (time, memory) = (path(&|p| p.time), path(&|p| p.peak / 100.0));
    text += &format!(
        "<polyline points=\"{time}\" fill=\"none\" stroke=\"#c0392b\" stroke-width=\"2\"/>\n\
         <polyline points=\"{memory}\" fill=\"none\" stroke=\"#2471a3\" stroke-width=\"2\" \
         stroke-dasharray=\"5 3\"/>\n\
         <text x=\"60\" y=\"326\">limit, of ark-groth16's peak (log scale)</text>\n\
         <text x=\"400\" y=\"326\" fill=\"#c0392b\">time</text>\n\
         <text x=\"450\" y=\"326\" fill=\"#2471a3\">peak memory (dashed)</text>\n</svg>\n"
    );
    text
}
