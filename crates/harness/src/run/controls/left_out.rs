//! Reports of steps that are left out: the engine does not know of them.

use cdc_engine::recovery::StepInfo;
use cdc_model::event::{StepReport, StepResult};

/// Passes on the reports of steps, and adds those of the steps that are left out, each before that of the next step of the playbook.
pub(in crate::run) struct LeftOut<'a> {
    on: &'a mut (dyn FnMut(StepReport) + Send),
    /// The playbook's steps, and whether each is left out; known once the recovery has begun.
    all: Box<dyn Fn() -> Vec<(StepInfo, bool)> + Send + 'a>,
    /// How many of them were reported.
    reported: usize,
    /// Seconds from the recovery's beginning to the last step's end.
    seconds: f64,
}

impl<'a> LeftOut<'a> {
    pub(super) fn new(
        on: &'a mut (dyn FnMut(StepReport) + Send),
        all: impl Fn() -> Vec<(StepInfo, bool)> + Send + 'a,
    ) -> LeftOut<'a> {
        LeftOut { on, all: Box::new(all), reported: 0, seconds: 0.0 }
    }

    /// A step has ended.
    pub(in crate::run) fn step(&mut self, report: StepReport) {
        self.up_to(Some(&report.name));
        self.reported += 1;
        self.seconds = report.started_seconds + report.seconds;
        (self.on)(report);
    }

    /// The recovery has reached its end.
    pub(in crate::run) fn end(mut self) {
        self.up_to(None);
    }

    /// Reports what is left out before a step, or before the end.
    fn up_to(&mut self, next: Option<&str>) {
        for (info, left_out) in (self.all)().into_iter().skip(self.reported) {
            if !left_out || next == Some(info.id) {
                break;
            }
            self.reported += 1;
            (self.on)(StepReport {
                name: info.id.to_owned(),
                destroys: Vec::new(),
                precondition: info.precondition.to_owned(),
                started_seconds: self.seconds,
                seconds: 0.0,
                result: StepResult::Omitted,
                detail: "left out on purpose".to_owned(),
                hooks: Vec::new(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(name: &str) -> StepReport {
        StepReport {
            name: name.to_owned(),
            destroys: Vec::new(),
            precondition: String::new(),
            started_seconds: 1.0,
            seconds: 0.5,
            result: StepResult::Done,
            detail: String::new(),
            hooks: Vec::new(),
        }
    }

    #[test]
    fn what_is_left_out_is_reported_in_its_place_and_not_behind_a_failure() {
        let info = |id| StepInfo { id, does: "", precondition: "", postcondition: "" };
        let all =
            || vec![(info("a"), true), (info("b"), false), (info("c"), true), (info("d"), false), (info("e"), true)];
        let shown = |names: &[&str], ends: bool| {
            let mut seen = Vec::new();
            let mut on = |report: StepReport| seen.push((report.name, report.result, report.started_seconds));
            let mut reports = LeftOut::new(&mut on, all);
            names.iter().for_each(|name| reports.step(report(name)));
            if ends {
                reports.end();
            } else {
                drop(reports);
            }
            seen
        };
        let (omitted, done) = (StepResult::Omitted, StepResult::Done);
        let row = |name: &str, result, at| (name.to_owned(), result, at);
        let whole = [row("a", omitted, 0.0), row("b", done, 1.0), row("c", omitted, 1.5), row("d", done, 1.0)];
        assert_eq!(shown(&["b", "d"], false), whole);
        assert_eq!(shown(&["b", "d"], true).last(), Some(&row("e", omitted, 1.5)));
        assert_eq!(shown(&["b"], false), whole[..2], "the recovery went no further than `b`");
    }
}
