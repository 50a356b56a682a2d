//! The recovery as a waterfall: one bar a step, in seconds from the recovery's start. Inline SVG, no script.

use std::fmt::Write;

use super::{
    model::RecoveryReport,
    words::{escape, regained},
};
use cdc_model::event::{StepReport, StepResult};

/// Widths and heights in SVG units; the drawing scales with the page.
pub(super) const WIDTH: f64 = 880.0;
const LABELS: f64 = 190.0;
const NUMBERS: f64 = 90.0;
const ROW: f64 = 24.0;
const TOP: f64 = 26.0;
/// A step of a few milliseconds must still be seen.
const BAR_MIN: f64 = 2.0;
/// About as many grid lines as the eye can use.
const TICKS: f64 = 6.0;

/// Draws a recovery; empty when it has no steps. `id` makes the drawing's ids unique within the page.
pub(super) fn svg(recovery: &RecoveryReport, id: &str) -> String {
    if recovery.steps.is_empty() {
        return String::new();
    }
    let name = recovery.playbook.as_deref().unwrap_or("unfinished");
    format!(
        r#"<svg class="waterfall" viewBox="0 0 {WIDTH} {}" role="img" aria-labelledby="{id}-title {id}-desc"><title id="{id}-title">Recovery steps of the {} playbook, in seconds</title><desc id="{id}-desc">{}; {}</desc>{}</svg>"#,
        height(recovery),
        escape(name),
        escape(&regained(recovery.rto_seconds)),
        escape(&told(&recovery.steps)),
        drawing(recovery),
    )
}

/// How high the drawing of a recovery is, in SVG units; 0 without steps.
pub(super) fn height(recovery: &RecoveryReport) -> f64 {
    match recovery.steps.len() {
        0 => 0.0,
        steps => TOP + ROW * steps as f64 + 6.0,
    }
}

/// The drawing itself, for an `svg` element that is `WIDTH` wide and has styles for its classes.
pub(super) fn drawing(recovery: &RecoveryReport) -> String {
    let mut out = String::new();
    if recovery.steps.is_empty() {
        return out;
    }
    let height = height(recovery);
    let end = recovery
        .steps
        .iter()
        .map(|s| s.started_seconds + s.seconds)
        .fold(recovery.rto_seconds.unwrap_or(0.0), f64::max);
    let end = if end > 0.0 { end } else { 1.0 };
    let x = |seconds: f64| LABELS + (WIDTH - LABELS - NUMBERS) * (seconds / end).clamp(0.0, 1.0);
    grid(&mut out, end, height, &x);
    if let Some(rto) = recovery.rto_seconds {
        line(&mut out, "rto", x(rto), height, "whole");
    }
    if let Some(objective) = recovery.rto_objective_seconds.filter(|o| *o <= end) {
        line(&mut out, "objective", x(objective), height, "objective");
    }
    for (index, step) in recovery.steps.iter().enumerate() {
        row(&mut out, index, step, &x);
    }
    out
}

fn told(steps: &[StepReport]) -> String {
    let told: Vec<String> =
        steps.iter().map(|s| format!("{} {:.2} s {}", s.name, s.seconds, result_word(s.result))).collect();
    told.join(", ")
}

pub(super) fn result_word(result: StepResult) -> &'static str {
    match result {
        StepResult::Planned => "planned",
        StepResult::Done => "done",
        StepResult::Skipped => "skipped",
        StepResult::Failed => "failed",
        StepResult::Omitted => "omitted",
    }
}

fn grid(out: &mut String, end: f64, height: f64, x: &dyn Fn(f64) -> f64) {
    let step = nice(end / TICKS);
    let digits = usize::from(step < 1.0) + usize::from(step < 0.1);
    let mut at = 0.0;
    while at <= end * 1.0001 {
        let place = x(at);
        let _ = write!(
            out,
            r#"<line class="grid" x1="{place:.1}" y1="{}" x2="{place:.1}" y2="{height}"/><text class="tick" x="{place:.1}" y="14" text-anchor="middle">{at:.digits$} s</text>"#,
            TOP - 6.0
        );
        at += step;
    }
}

/// The next larger of 1, 2 and 5 times a power of ten.
fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let lead = step / power;
    let rounded = match lead {
        l if l <= 1.0 => 1.0,
        l if l <= 2.0 => 2.0,
        l if l <= 5.0 => 5.0,
        _ => 10.0,
    };
    rounded * power
}

fn row(out: &mut String, index: usize, step: &StepReport, x: &dyn Fn(f64) -> f64) {
    let y = TOP + ROW * index as f64;
    let begin = x(step.started_seconds);
    let width = (x(step.started_seconds + step.seconds) - begin).max(BAR_MIN);
    let word = result_word(step.result);
    let number = match step.result {
        StepResult::Done => format!("{:.2} s", step.seconds),
        _ => format!("{:.2} s {word}", step.seconds),
    };
    let middle = y + ROW / 2.0 + 4.0;
    // Beside the bar where there is room, else before it.
    let (text_x, anchor) = match begin + width + NUMBERS > WIDTH {
        true => (begin - 6.0, "end"),
        false => (begin + width + 6.0, "start"),
    };
    let _ = write!(
        out,
        r#"<g><title>{}</title><text class="label" x="{}" y="{middle}" text-anchor="end">{}</text><rect class="bar {word}" x="{begin:.1}" y="{}" width="{width:.1}" height="{}" rx="2"/><text class="number" x="{text_x:.1}" y="{middle}" text-anchor="{anchor}">{number}</text></g>"#,
        escape(&format!("{}: {}", step.name, step.detail)),
        LABELS - 10.0,
        escape(&step.name),
        y + 4.0,
        ROW - 8.0,
    );
}

fn line(out: &mut String, class: &str, x: f64, height: f64, text: &str) {
    let _ = write!(
        out,
        r#"<line class="{class}" x1="{x:.1}" y1="{}" x2="{x:.1}" y2="{height}"><title>{text}</title></line>"#,
        TOP - 6.0
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grid_steps_are_round() {
        for (given, expected) in [(0.7, 1.0), (1.3, 2.0), (3.0, 5.0), (7.0, 10.0), (0.013, 0.02)] {
            assert!((nice(given) - expected).abs() < 1e-9, "{given}");
        }
    }

    #[test]
    fn a_recovery_without_steps_is_not_drawn() {
        assert_eq!(svg(&RecoveryReport::default(), "r"), "");
    }
}
