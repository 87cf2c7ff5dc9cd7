//! The page: text that needs no script, and the data for the charts.
//!
//! ```text
//!   <style> page.css   <main> sentences, figures, tables   <script json> data   <script> page.js
//! ```
//!
//! Invariants: text goes through [`text`], the data through [`data`]; nothing else of a recording
//! reaches the page. In the data every `<` is `\u003c`: no end tag and no comment can begin.

use super::advice::Kind;
use super::markup::{size, text};
use super::schedule;
use crate::record::{Recording, StageTotal};
use std::io::{self, Write};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Stages in the table: those that took the most time. The data has them all.
const ROWS_MAX: usize = 60;

/// Writes JSON that may stand inside a script element.
struct ScriptSafe<'a, W>(&'a mut W);

impl<W: Write> Write for ScriptSafe<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| *byte == b'<') {
            self.0.write_all(&rest[..at])?;
            self.0.write_all(b"\\u003c")?;
            rest = &rest[at + 1..];
        }
        self.0.write_all(rest)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn data(run: &Recording, out: &mut impl Write) -> io::Result<()> {
    Ok(serde_json::to_writer(ScriptSafe(out), run)?)
}

/// A time in the unit that suits it.
fn time(seconds: f64) -> String {
    match seconds {
        s if s >= 90.0 => format!("{}:{:02} min", s as u64 / 60, s as u64 % 60),
        s if s >= 1.0 => format!("{s:.2} s"),
        s => format!("{:.1} ms", s * 1e3),
    }
}

pub(super) fn write(run: &Recording, out: &mut impl Write) -> io::Result<()> {
    let title = text(&run.title);
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{title}: plimsoll report</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <main>\n<header>\n<h1>{title}</h1>\n"
    )?;
    figures(run, out)?;
    out.write_all(b"</header>\n")?;
    advice(run, out)?;
    charts(run, out)?;
    stages(run, out)?;
    schedule::write(run, out)?;
    holders(run, out)?;
    footer(run, out)?;
    out.write_all(b"</main>\n<script type=\"application/json\" id=\"run\">")?;
    data(run, out)?;
    write!(out, "</script>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n")
}

fn figures(run: &Recording, out: &mut impl Write) -> io::Result<()> {
    let wall = run.duration_us as f64 / 1e6;
    let cpu = match (run.samples.first(), run.samples.last()) {
        (Some(first), Some(last)) => last.cpu_us.saturating_sub(first.cpu_us) as f64 / 1e6,
        _ => 0.0,
    };
    let busy = if wall > 0.0 { cpu / wall } else { 0.0 };
    let limit = match run.limit_bytes {
        Some(limit) if limit > 0 => (
            size(limit),
            format!("the peak is {:.1} % of it", run.peak_bytes as f64 / limit as f64 * 100.0),
        ),
        _ => ("none".to_owned(), "nothing was given back".to_owned()),
    };
    let exact = if run.peak_is_exact { "the kernel's high-water mark" } else { "highest sample" };
    let spilled = run.samples.last().map_or(0, |last| last.spilled_total_bytes);
    let loaded = run.samples.last().map_or(0, |last| last.loaded_total_bytes);
    let mut rows = vec![
        ("peak memory", size(run.peak_bytes), exact.to_owned()),
        ("limit", limit.0, limit.1),
        ("time", time(wall), format!("{} stages", stage_count(run))),
        ("cores busy", format!("{busy:.2} of {}", run.threads), "on average".to_owned()),
        ("spilled to disk", size(spilled), format!("{} brought back", size(loaded))),
    ];
    let zram = run.samples.iter().map(|sample| sample.zram_bytes).max().unwrap_or(0);
    if zram > 0 {
        rows.push(("zram took", size(zram), "of RAM, counted under the limit".to_owned()));
    }
    out.write_all(b"<dl class=\"figures\">\n")?;
    for (name, value, note) in &rows {
        let (value, note) = (text(value), text(note));
        writeln!(out, "<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>")?;
    }
    out.write_all(b"</dl>\n")
}

fn stage_count(run: &Recording) -> u64 {
    run.totals.iter().map(|total| total.count).sum()
}

fn advice(run: &Recording, out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"<section>\n<h2>What to do next</h2>\n<ul class=\"advice\">\n")?;
    for advice in run.advice() {
        let kind: Kind = advice.kind;
        writeln!(out, "<li><b>{}</b><span>{}</span></li>", kind.word(), text(&advice.text))?;
    }
    out.write_all(b"</ul>\n</section>\n")
}

fn charts(run: &Recording, out: &mut impl Write) -> io::Result<()> {
    let spilled = run.samples.iter().any(|sample| sample.spilled_bytes > 0);
    let mut chart = |id: &str, title: &str| {
        writeln!(
            out,
            "<figure><figcaption><h3>{title}</h3><ul class=\"legend\" id=\"{id}-legend\"></ul>\
             </figcaption><div class=\"chart\" id=\"{id}\"></div></figure>"
        )
    };
    chart("memory", "Memory")?;
    if spilled {
        chart("disk", "Spill file on disk")?;
    }
    chart("cpu", "Cores busy")?;
    out.write_all(
        b"<noscript><p class=\"note\">The charts need a script, which this browser does not run; \
          the tables below have the same figures.</p></noscript>\n",
    )
}

fn stages(run: &Recording, out: &mut impl Write) -> io::Result<()> {
    if run.totals.is_empty() {
        return out.write_all(
            b"<section>\n<h2>Stages</h2>\n<p class=\"note\">No stage ended in this run.</p>\n\
              </section>\n",
        );
    }
    let mut longest: Vec<usize> = (0..run.totals.len()).collect();
    let wall = |index: &usize| run.totals[*index].wall_seconds;
    longest.sort_by(|a, b| wall(b).total_cmp(&wall(a)));
    longest.truncate(ROWS_MAX);
    // Back in the order in which they came.
    longest.sort_unstable();
    out.write_all(
        b"<section>\n<h2>Stages</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th>stage</th>\
          <th>times</th><th>time</th><th>peak</th><th>need</th><th>given back</th>\
          <th>spilled</th><th>brought back</th><th>waited</th><th>cores busy</th>\
          <th>idle core-s</th></tr></thead>\n<tbody>\n",
    )?;
    for index in &longest {
        row(run, &run.totals[*index], out)?;
    }
    out.write_all(b"</tbody></table></div>\n")?;
    if longest.len() < run.totals.len() {
        let more = run.totals.len() - longest.len();
        writeln!(out, "<p class=\"note\">{more} shorter stages are left out of the table.</p>")?;
    }
    blocks(run, &longest, out)?;
    out.write_all(b"</section>\n")
}

/// The stages' part of the global allocator and its pager, where these were recorded.
fn blocks(run: &Recording, shown: &[usize], out: &mut impl Write) -> io::Result<()> {
    let totals = shown.iter().map(|index| &run.totals[*index]);
    let mut rows = totals.filter_map(|total| Some((total, total.allocator?))).peekable();
    if rows.peek().is_none() {
        return Ok(());
    }
    out.write_all(
        b"<h3>Global allocator and pager</h3>\n<div class=\"scroll\"><table class=\"blocks\">\n\
          <thead><tr><th>stage</th><th>live at its end</th><th>live at most</th><th>cached</th>\
          <th>resident</th><th>packed</th><th>spilled</th><th>brought back</th><th>faults</th>\
          </tr></thead>\n<tbody>\n",
    )?;
    for (total, had) in rows {
        let row = [
            had.live_bytes,
            had.live_peak_bytes,
            had.cached_bytes,
            had.held_bytes,
            total.packed_bytes,
            total.spilled_bytes,
            total.loaded_bytes,
        ];
        write!(out, "<tr><th>{}</th>", text(&total.name))?;
        for bytes in row {
            write!(out, "<td>{}</td>", or_none(bytes))?;
        }
        writeln!(out, "<td>{}</td></tr>", had.faults)?;
    }
    out.write_all(b"</tbody></table></div>\n")
}

/// A size, or a dash for none.
fn or_none(bytes: u64) -> String {
    if bytes > 0 { size(bytes) } else { "-".to_owned() }
}

fn row(run: &Recording, total: &StageTotal, out: &mut impl Write) -> io::Result<()> {
    let is_peak = run.stage_at_peak().is_some_and(|span| span.name == total.name);
    let class = if is_peak { " class=\"peak\"" } else { "" };
    let told = total.cpu_seconds > 0.0;
    let busy = run.cores_busy_in(total);
    let part = busy / run.threads.max(1) as f64 * 100.0;
    let cores = match told {
        true => {
            format!("<span class=\"meter\"><i style=\"width:{part:.0}%\"></i></span> {busy:.2}")
        }
        false => "-".to_owned(),
    };
    let idle = if told { format!("{:.2}", run.idle_core_seconds(total)) } else { "-".to_owned() };
    let waited = total.stalled_seconds;
    let waited = if waited > 0.0 { time(waited) } else { "-".to_owned() };
    writeln!(
        out,
        "<tr{class}><th>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
         <td>{}</td><td>{waited}</td><td>{cores}</td><td>{idle}</td></tr>",
        text(&total.name),
        total.count,
        time(total.wall_seconds),
        size(total.peak_bytes),
        or_none(total.need_bytes),
        or_none(total.freed_bytes),
        or_none(total.spilled_bytes),
        or_none(total.loaded_bytes),
    )
}

fn holders(run: &Recording, out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"<section>\n<h2>Largest holders at the peak</h2>\n")?;
    let largest = run.holders.iter().map(|held| held.bytes).max().unwrap_or(0);
    if largest == 0 {
        return out.write_all(
            b"<p class=\"note\">Not known: this program has no plimsoll runtime to ask.</p>\n\
              </section>\n",
        );
    }
    out.write_all(b"<table class=\"holders\"><tbody>\n")?;
    for held in &run.holders {
        let part = held.bytes as f64 / largest as f64 * 100.0;
        writeln!(
            out,
            "<tr><th>{}</th><td><span class=\"meter\"><i style=\"width:{part:.1}%\"></i></span>\
             </td><td>{}</td></tr>",
            text(&held.name),
            size(held.bytes),
        )?;
    }
    let at = time(run.holders_at_us as f64 / 1e6);
    write!(
        out,
        "</tbody></table>\n<p class=\"note\">Asked {at} after the start, at a sample within 2 % of \
         the highest.</p>\n</section>\n"
    )
}

fn footer(run: &Recording, out: &mut impl Write) -> io::Result<()> {
    let wall = (run.duration_us as f64 / 1e6).max(1e-6);
    let cost = run.sampler_cpu_seconds / wall * 100.0;
    write!(
        out,
        "<footer><p>{} samples, {} taken for each one kept (the highest), every {} ms; sampling \
         took {cost:.2} % of one core.",
        run.samples.len(),
        run.fold,
        run.interval_us as f64 / 1e3,
    )?;
    if run.merged_below_us > 0 {
        let below = time(run.merged_below_us as f64 / 1e6);
        write!(out, " Neighbouring stages shorter than {below} are drawn as one.")?;
    }
    if run.too_deep > 0 {
        write!(out, " {} spans nested too deep were left out.", run.too_deep)?;
    }
    if !run.limit_source.is_empty() {
        write!(out, " Limit: {}.", text(&run.limit_source))?;
    }
    out.write_all(b"</p></footer>\n")
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
