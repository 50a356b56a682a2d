//! The results as a table for people, as lines for programs, and as JUnit.

use std::{collections::BTreeMap, io::Write};

use camino::{Utf8Path, Utf8PathBuf};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::drill::Outcome;

/// Where results are written as they come.
pub(super) struct Table {
    folder: Utf8PathBuf,
    outcomes: Vec<Outcome>,
}

impl Table {
    pub(super) fn new(name: &str) -> Table {
        let folder = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("target/engine-drills").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("drills.tsv"), "scenario\ttable\tstep\tmoment\tkind\tresult\tseconds\twhy\n")
            .unwrap();
        Table { folder, outcomes: Vec::new() }
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        let (drill, result) = (&outcome.drill, &outcome.result);
        let why = result.why().replace(['\t', '\n'], " ");
        eprintln!("{:>6.1} s  {drill}: {} {why}", outcome.seconds, result.word());
        let line = format!(
            "{}\t{}\t{}\t{}\t{}\t{}\t{:.1}\t{why}\n",
            drill.scenario.id,
            drill.scenario.table,
            drill.step,
            drill.moment,
            drill.kind.word(),
            result.word(),
            outcome.seconds
        );
        let mut file = std::fs::OpenOptions::new().append(true).open(self.folder.join("drills.tsv")).unwrap();
        file.write_all(line.as_bytes()).unwrap();
        self.outcomes.push(outcome);
    }

    /// Writes the rest; the counts by scenario.
    pub(super) fn close(mut self) -> (Vec<Outcome>, String) {
        self.outcomes.sort_by_key(|outcome| outcome.drill.to_string());
        let mut counts: BTreeMap<(&str, &str), [usize; 3]> = BTreeMap::new();
        for outcome in &self.outcomes {
            let count = counts.entry((&outcome.drill.scenario.id, outcome.drill.kind.word())).or_default();
            count[["green", "red", "inconclusive"].iter().position(|w| *w == outcome.result.word()).unwrap()] += 1;
        }
        let mut text = "| scenario | kind | green | red | inconclusive |\n|---|---|---|---|---|\n".to_owned();
        for ((scenario, kind), [green, red, inconclusive]) in counts {
            text += &format!("| {scenario} | {kind} | {green} | {red} | {inconclusive} |\n");
        }
        let head = "\n| scenario | step | moment | kind | result | seconds |\n|---|---|---|---|---|---|\n";
        let rows = self.outcomes.iter().map(|outcome| {
            let (drill, word) = (&outcome.drill, outcome.result.word());
            let (id, step, moment, kind) = (&drill.scenario.id, &drill.step, &drill.moment, drill.kind.word());
            format!("| {id} | {step} | {moment} | {kind} | {word} | {:.1} |\n", outcome.seconds)
        });
        let all = format!("{text}{head}{}", rows.collect::<String>());
        std::fs::write(self.folder.join("drills.md"), all).unwrap();
        std::fs::write(self.folder.join("junit.xml"), self.junit()).unwrap();
        (self.outcomes, format!("{text}\n{}", self.folder))
    }

    fn junit(&self) -> String {
        let mut report = Report::new("engine-drills");
        let mut suites: BTreeMap<&str, TestSuite> = BTreeMap::new();
        for outcome in &self.outcomes {
            let status = match outcome.result.word() {
                "green" => TestCaseStatus::success(),
                "red" => TestCaseStatus::non_success(NonSuccessKind::Failure),
                _ => TestCaseStatus::non_success(NonSuccessKind::Error),
            };
            let mut case = TestCase::new(outcome.drill.to_string(), status);
            case.set_time(std::time::Duration::from_secs_f64(outcome.seconds));
            if !outcome.result.why().is_empty() {
                case.status.set_message(outcome.result.why());
            }
            let id = outcome.drill.scenario.id.as_str();
            suites.entry(id).or_insert_with(|| TestSuite::new(id)).add_test_case(case);
        }
        report.add_test_suites(suites.into_values());
        report.to_string().unwrap()
    }
}
