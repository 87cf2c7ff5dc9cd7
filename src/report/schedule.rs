//! Schedules of graphs as pictures: a bar for each task, from its start to its end, in steps.
//!
//! ```text
//!   quotient  |      [==== disk ========]          |   88 MiB   96 MiB
//!   msm A     |        [= cores ]                  |    6 MiB  102 MiB
//! ```
//!
//! Invariants: names go through [`text`]; at most [`ROWS_MAX`] rows are drawn.

use super::markup::{size, text};
use crate::record::Recording;
use crate::stage::planned::{MovedValue, Planned, Step};
use std::io::{self, Write};

/// Starts that are drawn; the data has them all.
const ROWS_MAX: usize = 60;

/// Units of the picture: a row, the names' column, the bars' column, all of it.
const ROW: usize = 22;
const NAMES: usize = 190;
const BARS: usize = 560;
const WIDTH: usize = 1000;

/// What the colors of the bars say.
const LEGEND: &str = "<ul class=\"legend\">\
    <li><i style=\"background:var(--cpu)\"></i>needs the cores</li>\
    <li><i style=\"background:var(--disk)\"></i>waits for the disk</li></ul>";

/// Characters of a name that fit beside its bar.
const NAME_MAX: usize = 26;

pub(super) fn write(run: &Recording, out: &mut impl Write) -> io::Result<()> {
    for planned in &run.schedules {
        write!(
            out,
            "<section>\n<h2>Schedule of \"{}\"</h2>\n{LEGEND}\n<div class=\"scroll\">\
             <div class=\"chart schedule\">",
            text(&planned.graph)
        )?;
        picture(planned, out)?;
        write!(
            out,
            "</div></div>\n<p class=\"note\">{} tasks in {}: at most {} are booked at once, and \
             {} is the smallest budget that would do. Steps have no length in time: a task of the \
             disk is taken to be longer than those of the cores.",
            planned.steps.len(),
            size(planned.budget_bytes),
            size(planned.peak_bytes),
            size(planned.smallest_bytes),
        )?;
        match planned.steps.len().saturating_sub(ROWS_MAX) {
            0 => {}
            1 => write!(out, " The last task is left out of the picture.")?,
            hidden => write!(out, " The last {hidden} tasks are left out of the picture.")?,
        }
        out.write_all(b"</p>\n")?;
        out.write_all(b"</section>\n")?;
    }
    Ok(())
}

fn picture(planned: &Planned, out: &mut impl Write) -> io::Result<()> {
    let rows = planned.steps.len().min(ROWS_MAX);
    let height = (rows + 1) * ROW;
    writeln!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"order of tasks\">\n\
         <text x=\"{}\" y=\"15\" text-anchor=\"end\">room</text>\
         <text x=\"{WIDTH}\" y=\"15\" text-anchor=\"end\">booked</text>",
        WIDTH - 110,
    )?;
    for (place, step) in planned.steps.iter().take(rows).enumerate() {
        row(place, step, rows, out)?;
    }
    out.write_all(b"</svg>")
}

fn row(place: usize, step: &Step, rows: usize, out: &mut impl Write) -> io::Result<()> {
    let top = (place + 1) * ROW;
    let at = |place: usize| NAMES + place.min(rows) * BARS / rows.max(1);
    let (left, right) = (at(place), at(place.saturating_add(step.steps.max(1))));
    let color = if step.is_of_disk { "var(--disk)" } else { "var(--cpu)" };
    let mut name: String = step.task.chars().take(NAME_MAX).collect();
    if name.len() < step.task.len() {
        name.pop();
        name.push('\u{2026}');
    }
    let line = top + 15;
    writeln!(
        out,
        "<g><title>{}</title><text class=\"stage\" x=\"0\" y=\"{line}\">{}</text>\
         <rect x=\"{left}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"3\" fill=\"{color}\"/>\
         <text x=\"{}\" y=\"{line}\" text-anchor=\"end\">{}</text>\
         <text x=\"{WIDTH}\" y=\"{line}\" text-anchor=\"end\">{}</text></g>",
        text(&notes(step)),
        text(&name),
        top + 4,
        right.saturating_sub(left).max(2),
        ROW - 8,
        WIDTH - 110,
        size(step.room_bytes),
        size(step.booked_bytes),
    )
}

/// What a reader sees who points at a row.
fn notes(step: &Step) -> String {
    let kind = if step.is_of_disk { "waits for the disk" } else { "needs the cores" };
    let mut notes = format!("{}: {kind}", step.task);
    if step.room_bytes < step.best_bytes {
        notes += &format!("; could use {}", size(step.best_bytes));
    }
    for (what, moved) in [("leaves", &step.leave), ("comes", &step.come)] {
        for MovedValue { value, bytes } in moved {
            notes += &format!("; {value} {what} ({})", size(*bytes));
        }
    }
    for value in &step.prefetch {
        notes += &format!("; {value} is read ahead");
    }
    notes
}
