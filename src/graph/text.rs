//! A schedule as text: a line for each start, with a bar from its start to its end.

use super::schedule::Schedule;
use crate::limit::format_bytes;
use crate::stage::planned::{MovedValue, Step};
use std::fmt;

/// Steps that have a column of their own; longer schedules are drawn to scale.
const COLUMNS_MAX: usize = 48;

/// Characters of a name.
const NAME_MAX: usize = 24;

impl fmt::Display for Schedule {
    /// One line for the whole, then one for each start.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.steps();
        writeln!(
            f,
            "graph \"{}\": {} tasks in {}, at most {} booked; the smallest budget is {}",
            self.name(),
            steps.len(),
            format_bytes(self.budget_bytes()),
            format_bytes(self.peak_bytes()),
            format_bytes(self.smallest_bytes()),
        )?;
        let width = steps.iter().map(|step| step.task.chars().count()).max().unwrap_or(0);
        let width = width.clamp(4, NAME_MAX);
        let columns = steps.len().min(COLUMNS_MAX);
        writeln!(
            f,
            "     {:<width$} {:<5} {:<columns$} {:>10} {:>10}",
            "task", "bound", "", "room", "booked"
        )?;
        for (place, step) in steps.iter().enumerate() {
            let name: String = step.task.chars().take(width).collect();
            writeln!(
                f,
                "{:>4} {name:<width$} {:<5} {:<columns$} {:>10} {:>10}{}",
                place + 1,
                if step.is_of_disk { "disk" } else { "cores" },
                bar(place, step.steps, steps.len(), columns),
                format_bytes(step.room_bytes),
                format_bytes(step.booked_bytes),
                notes(step),
            )?;
        }
        Ok(())
    }
}

/// Blanks before the start at `place` of `count`, then a mark for each of `steps`.
fn bar(place: usize, steps: usize, count: usize, columns: usize) -> String {
    let at = |place: usize| place * columns / count.max(1);
    let (start, end) = (at(place), at(place + steps).max(at(place) + 1));
    " ".repeat(start) + &"=".repeat(end - start)
}

fn notes(step: &Step) -> String {
    let mut text = String::new();
    if step.room_bytes < step.best_bytes {
        text += &format!("  of {} at best", format_bytes(step.best_bytes));
    }
    for (what, moved) in [("out", &step.leave), ("in", &step.come)] {
        for MovedValue { value, bytes } in moved {
            text += &format!("  {what}: {value} {}", format_bytes(*bytes));
        }
    }
    for value in &step.prefetch {
        text += &format!("  ahead: {value}");
    }
    text
}
