//! A drill as one SVG that stands alone: how it went, the recovery as a waterfall, the verdict of each check and control. For a
//! README, a wiki or the account of an incident; it follows the reader's light or dark scheme.

use std::fmt::Write;

use super::{
    model::{DrillReport, RunReport},
    waterfall,
    words::{compared, escape, findings, lost, regained, sign},
};
use cdc_model::units::Verdict;

const MARGIN: f64 = 20.0;
/// In SVG units: the waterfall with a margin on either side.
const WIDTH: f64 = waterfall::WIDTH + 2.0 * MARGIN;
const LINE: f64 = 22.0;
const HEAD: f64 = 74.0;
/// Checks stand side by side.
const CHECKS_A_LINE: usize = 3;

const STYLE: &str = "\
svg{--ink:#1b1f24;--soft:#5b6570;--rule:#d8dee4;--bar:#4a7bd0;--skip:#c3cbd4;--good:#1a7f37;--bad:#c62828;--unknown:#9a6700;--card:#fff}\
@media(prefers-color-scheme:dark){svg{--ink:#e6edf3;--soft:#9aa5b1;--rule:#30363d;--bar:#5b8def;--skip:#48515b;--good:#3fb950;--bad:#ff7b72;--unknown:#d29922;--card:#0d1117}}\
text{font:13px system-ui,sans-serif;fill:var(--ink)}.card{fill:var(--card);stroke:var(--rule)}.name{font-size:17px;font-weight:600}.soft{fill:var(--soft)}\
.passed{fill:var(--good)}.failed{fill:var(--bad)}.inconclusive{fill:var(--unknown)}.tick,.number{fill:var(--soft);font-size:12px}.label{font-size:12px}\
.number{paint-order:stroke;stroke:var(--card);stroke-width:4px}.grid{stroke:var(--rule)}.bar{fill:var(--bar)}.bar.skipped,.bar.omitted,.bar.planned{fill:var(--skip)}\
.bar.failed{fill:var(--bad)}.rto{stroke:var(--good);stroke-width:1.5}.objective{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:5 4}";

/// The drill `scenario/variant` of a report; the first one if none is named. `None` where there is no such drill.
pub fn picture(report: &RunReport, drill: Option<&str>) -> Option<String> {
    let wanted = |d: &&DrillReport| drill.is_none_or(|name| name == d.name());
    report.drills.iter().find(wanted).map(draw)
}

fn draw(drill: &DrillReport) -> String {
    let mut out = String::new();
    let chart = waterfall::height(&drill.recovery);
    let mut y = HEAD + chart + if chart > 0.0 { 30.0 } else { 8.0 };
    let mut body = String::new();
    let mut x = MARGIN;
    for (index, check) in drill.checks.iter().enumerate() {
        if index > 0 && index % CHECKS_A_LINE == 0 {
            (x, y) = (MARGIN, y + LINE);
        }
        let what = match check.verdict {
            Verdict::Passed => format!("{}, {}", check.id, compared(check)),
            Verdict::Failed => format!("{}, {}", check.id, findings(check)),
            Verdict::Inconclusive => check.id.clone(),
        };
        text(&mut body, x, y, "", &check.verdict, &what);
        x += (WIDTH - 2.0 * MARGIN) / CHECKS_A_LINE as f64;
    }
    if !drill.checks.is_empty() {
        y += LINE * 1.4;
    }
    for control in &drill.controls {
        let what = match control.verdict {
            Verdict::Passed => {
                format!("control {}: red as it must be ({}: {})", control.id, control.check, control.kind.word())
            }
            Verdict::Failed => format!("control {}: green, which fails", control.id),
            Verdict::Inconclusive => format!("control {}: inconclusive", control.id),
        };
        text(&mut body, MARGIN, y, "", &control.verdict, &what);
        y += LINE;
    }
    let height = y - LINE + MARGIN + 4.0;
    let name = drill.name();
    let _ = write!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" width="{WIDTH}" height="{height:.0}" role="img"><title>{} {}</title><style>{STYLE}</style><rect class="card" x="0.5" y="0.5" width="{}" height="{:.0}" rx="8"/>"#,
        escape(&name),
        drill.verdict,
        WIDTH - 1.0,
        height - 1.0
    );
    text(&mut out, MARGIN, 32.0, "name", &drill.verdict, &format!("{name}: {}", drill.verdict));
    let _ = write!(out, r#"<text class="soft" x="{MARGIN}" y="56">{}</text>"#, escape(&outcome(drill)));
    let _ = write!(out, r#"<g transform="translate({MARGIN} {HEAD})">{}</g>"#, waterfall::drawing(&drill.recovery));
    out.push_str(&body);
    out.push_str("</svg>\n");
    out
}

/// What happened, in one line.
fn outcome(drill: &DrillReport) -> String {
    let all =
        [Some(drill.title.clone()), Some(regained(drill.recovery.rto_seconds)), drill.rpo.measured_loss().map(lost)];
    all.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn text(out: &mut String, x: f64, y: f64, class: &str, verdict: &Verdict, words: &str) {
    let _ = write!(
        out,
        r#"<text class="{class}" x="{x:.0}" y="{y:.0}"><tspan class="{verdict}">{}</tspan> {}</text>"#,
        sign(verdict),
        escape(words)
    );
}
