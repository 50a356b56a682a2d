//! `loss`, `ghosts`, `duplicates`, `order` and `atomicity`: what became of transactions in the topics.

use std::collections::{HashMap, HashSet};

use super::history::{Events, History, Represented, about_change, about_event, keys_of, logged, tokenless_notes};
use crate::{
    decode::record::Op,
    fold::Logged,
    observation::{Expectation, Observation},
};
use cdc_model::{
    event::{CheckReport, Finding, FindingKind},
    units::{Lsn, counted},
    vocabulary::CheckId,
};
use cdc_workload::ledger::Outcome;

const NO_LEDGER: &str = "no ledger was given: transactions are not known";

/// Every acknowledged transaction after the last recovery is in the topics: as its events, or in a snapshot's read or a
/// later event that shows or explains its rows.
pub(super) fn loss(seen: &Observation, expected: &Expectation<'_>) -> CheckReport {
    let Some(history) = History::new(expected) else { return CheckId::Loss.inconclusive(NO_LEDGER.into()) };
    let events = Events::new(seen, expected);
    let represented = Represented::new(seen, expected, &history, &events);
    let mut findings = Vec::new();
    let (mut transactions, mut rows) = (0, 0);
    for (place, entry) in history.kept.iter().enumerate().filter(|(_, e)| e.epoch >= history.current) {
        let mut counted = false;
        for change in &entry.changes {
            let Some(there) = represented.change(place, change) else { continue };
            counted = true;
            rows += 1;
            if !there {
                let wanted = format!("the {:?} of an {} transaction", change.op, outcome(entry.outcome));
                findings.push(Finding {
                    topic: seen.tables.iter().find(|t| t.name == change.table).map(|t| t.topic.clone()),
                    expected: Some(format!("{wanted}, as its event, a snapshot's read, or what came later")),
                    found: Some("neither".into()),
                    ..about_change(FindingKind::Lost, &history, entry, change)
                });
            }
        }
        transactions += u64::from(counted);
    }
    let mut notes = vec![format!(
        "{transactions} with {rows} looked for in {}",
        counted(events.total, "event"),
        transactions = counted(transactions, "transaction"),
        rows = counted(rows, "row change")
    )];
    notes.extend(tokenless_notes(&represented));
    notes.extend(history.undecided_note());
    CheckId::Loss.report(transactions, notes, findings)
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Acknowledged => "acknowledged",
        Outcome::Unknown => "unanswered but committed",
        Outcome::Failed => "failed",
    }
}

/// Nothing of an abandoned timeline, and nothing that was rolled back, is in any data topic; and no row stands in a topic
/// that is not in its table.
pub(super) fn ghosts(seen: &Observation, expected: &Expectation<'_>) -> CheckReport {
    let history = History::new(expected);
    let mut findings = Vec::new();
    let mut compared = 0;
    for table in &seen.tables {
        let Some(fold) = seen.topics.get(&table.topic) else { continue };
        for event in logged(expected, &table.topic, fold) {
            compared += 1;
            let Some(history) = &history else { continue };
            let tokens = [event.token_after.as_deref(), event.token_before.as_deref()];
            let Some(gone) = tokens.into_iter().flatten().find_map(|t| history.gone.get(t)) else { continue };
            let why = if gone.outcome == Outcome::Failed { "was rolled back" } else { "the target gave up" };
            findings.push(Finding {
                token: Some(gone.token.clone()),
                expected: Some("no event of an abandoned timeline".into()),
                found: Some(format!("{:?} with the token of a transaction that {why}", event.op)),
                ..about_event(FindingKind::Ghost, table, fold, event)
            });
        }
    }
    let tokens = history.as_ref().map_or(0, |h| h.gone.len());
    // Without tokens a ghost shows only by its row.
    let (rows, looked_at) = super::state::ghost_rows(seen, expected);
    compared += looked_at;
    findings.extend(rows);
    let notes = vec![format!(
        "{compared} and rows looked through for {tokens} that must be nowhere",
        compared = counted(compared, "event"),
        tokens = counted(tokens, "token")
    )];
    CheckId::Ghosts.report(compared, notes, findings)
}

/// What makes two streamed events the same change.
type Change<'o> = (&'o [u8], Op, u64, u64);

fn change_of<'o>(event: &'o Logged) -> Option<Change<'o>> {
    Some((event.key.as_deref()?, event.op, event.lsn?, event.tx?))
}

fn declared(expected: &Expectation<'_>, lsn: Option<u64>) -> bool {
    lsn.is_some_and(|lsn| expected.redelivery.iter().any(|(from, to)| Lsn(lsn) >= *from && Lsn(lsn) <= *to))
}

/// A streamed change is in its topic once; more often only inside the declared windows of redelivery.
pub(super) fn duplicates(seen: &Observation, expected: &Expectation<'_>) -> CheckReport {
    let mut findings = Vec::new();
    let (mut compared, mut allowed) = (0, 0u64);
    for table in &seen.tables {
        let Some(fold) = seen.topics.get(&table.topic) else { continue };
        let mut first: HashMap<Change<'_>, &Logged> = HashMap::new();
        let again: HashSet<(i32, i64)> = fold.redelivered().into_iter().collect();
        for event in logged(expected, &table.topic, fold).filter(|e| !e.snapshot) {
            compared += 1;
            let earlier = match change_of(event) {
                Some(change) => first.insert(change, event),
                None => again.contains(&(event.partition, event.offset)).then_some(event),
            };
            let Some(earlier) = earlier else { continue };
            if declared(expected, event.lsn) {
                allowed += 1;
                continue;
            }
            findings.push(Finding {
                expected: Some("one delivery of this change".into()),
                found: Some(format!("another one, at partition {} offset {}", earlier.partition, earlier.offset)),
                ..about_event(FindingKind::Duplicate, table, fold, event)
            });
        }
    }
    let notes = vec![format!("{compared} streamed events compared; {allowed} repeated inside the declared windows")];
    CheckId::Duplicates.report(compared, notes, findings)
}

/// Per key, streamed events follow their positions in the WAL as they follow their offsets, within one epoch.
pub(super) fn order(seen: &Observation, expected: &Expectation<'_>) -> CheckReport {
    let mut findings = Vec::new();
    let mut compared = 0;
    for table in &seen.tables {
        let Some(fold) = seen.topics.get(&table.topic) else { continue };
        let mut last: HashMap<(i32, &[u8]), &Logged> = HashMap::new();
        let mut delivered: HashSet<Change<'_>> = HashSet::new();
        for event in logged(expected, &table.topic, fold).filter(|e| !e.snapshot) {
            let (Some(key), Some(lsn)) = (event.key.as_deref(), event.lsn) else { continue };
            compared += 1;
            let repeated = change_of(event).is_some_and(|change| !delivered.insert(change));
            let before = last.insert((event.partition, key), event);
            let Some(before) = before.filter(|b| b.lsn > Some(lsn)) else { continue };
            // A repeated delivery goes back by nature; whether it may is for `duplicates` to say.
            if repeated {
                continue;
            }
            findings.push(Finding {
                expected: Some(format!("an event after {}", Lsn(before.lsn.unwrap_or(0)))),
                found: Some(format!(
                    "{} of key {} behind the event at offset {}",
                    Lsn(lsn),
                    keys_of(table, fold).of_record(key),
                    before.offset
                )),
                ..about_event(FindingKind::OutOfOrder, table, fold, event)
            });
        }
    }
    let notes = vec![format!("{compared} streamed events of keyed tables compared")];
    CheckId::Order.report(compared, notes, findings)
}

/// No transaction is half visible in the topics at the end.
pub(super) fn atomicity(seen: &Observation, expected: &Expectation<'_>) -> CheckReport {
    let Some(history) = History::new(expected) else {
        return CheckId::Atomicity.inconclusive(NO_LEDGER.into());
    };
    let events = Events::new(seen, expected);
    let represented = Represented::new(seen, expected, &history, &events);
    let mut findings = Vec::new();
    let mut compared = 0;
    for (place, entry) in history.kept.iter().enumerate().filter(|(_, e)| e.epoch >= history.current) {
        let changes: Vec<_> = entry.changes.iter().filter_map(|c| Some((c, represented.change(place, c)?))).collect();
        if changes.len() < 2 {
            continue;
        }
        compared += 1;
        let there = changes.iter().filter(|(_, there)| *there).count();
        if there == 0 || there == changes.len() {
            continue;
        }
        if let Some((change, _)) = changes.iter().find(|(_, there)| !there) {
            findings.push(Finding {
                expected: Some(format!("all {} of the transaction, or none", counted(changes.len(), "row change"))),
                found: Some(format!("{there} of them")),
                ..about_change(FindingKind::Half, &history, entry, change)
            });
        }
    }
    let mut notes =
        vec![format!("{compared} of several row changes compared", compared = counted(compared, "transaction"))];
    notes.extend(tokenless_notes(&represented));
    CheckId::Atomicity.report(compared, notes, findings)
}
