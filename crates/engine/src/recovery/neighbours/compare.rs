//! Before and after, as a pure function.

use super::look::{Neighbour, TopicSeen};
use cdc_model::{
    event::{About, CheckReport, Finding, FindingKind},
    units::{Verdict, counted},
};
use cdc_pipeline::client::connect::StoredOffset;

/// Claims that every neighbour is as it was, or has gone on from there: the same topics by id, not shorter; the same or a
/// later stored offset; the same slot, not moved back; configuration and state as before.
pub(crate) fn compare(before: &[Neighbour], after: &[Neighbour]) -> CheckReport {
    let mut sheet = Sheet::default();
    for was in before {
        match after.iter().find(|n| n.name == was.name) {
            None => sheet.wrong(FindingKind::Dead, was, "the connector", "none of that name"),
            Some(now) => sheet.neighbour(was, now),
        }
    }
    let Sheet { compared, notes, findings, undecided } = sheet;
    let report = CheckReport::new("neighbours", compared, notes, findings);
    match report.verdict {
        Verdict::Passed if undecided => CheckReport { verdict: Verdict::Inconclusive, ..report },
        _ => report,
    }
}

#[derive(Default)]
struct Sheet {
    compared: u64,
    notes: Vec<String>,
    findings: Vec<Finding>,
    /// Whether something that was seen before could not be looked at again.
    undecided: bool,
}

impl Sheet {
    fn wrong(&mut self, kind: FindingKind, of: &Neighbour, expected: impl Into<String>, found: impl Into<String>) {
        let (expected, found) = (Some(expected.into()), Some(found.into()));
        let subject = Some(About::Connector(of.name.clone()));
        self.findings.push(Finding { subject, expected, found, ..Finding::new(kind) });
    }

    fn neighbour(&mut self, was: &Neighbour, now: &Neighbour) {
        self.compared += 2;
        if now.config != was.config {
            self.wrong(FindingKind::Setting, was, "its configuration as before", "another one");
        }
        if now.state != was.state {
            self.wrong(FindingKind::Dead, was, was.state.clone(), now.state.clone());
        }
        if let Some(why) = was.unseen.as_ref().or(now.unseen.as_ref()) {
            self.undecided |= was.unseen.is_none();
            self.notes.push(format!("connector {}: topics and stored offsets are not compared: {why}", was.name));
            self.slot(was, now);
            return;
        }
        for (name, topic) in &was.topics {
            self.topic(was, name, topic, now.topics.get(name));
        }
        for offset in &was.offsets {
            self.offset(was, offset, now.offsets.iter().find(|o| o.partition == offset.partition));
        }
        let slot = self.slot(was, now);
        let records = |n: &Neighbour| n.topics.values().flat_map(|t| &t.ends).map(|end| end.0).sum::<i64>();
        let ids: Vec<String> = was.topics.iter().map(|(name, t)| format!("{name} {}", t.id)).collect();
        self.notes.push(format!(
            "connector {}: {}; topics (ids) {}; ends of topics {} -> {}; stored offset {} -> {}; {slot}",
            was.name,
            now.state,
            if ids.is_empty() { "none".to_owned() } else { ids.join(", ") },
            records(was),
            records(now),
            position(was.offsets.first()),
            position(now.offsets.first()),
        ));
    }

    fn topic(&mut self, of: &Neighbour, name: &str, was: &TopicSeen, now: Option<&TopicSeen>) {
        self.compared += 1;
        let mut wrong = |kind, expected: String, found: String| {
            let (subject, topic) = (Some(About::Connector(of.name.clone())), Some(name.to_owned()));
            let (expected, found) = (Some(expected), Some(found));
            self.findings.push(Finding { subject, topic, expected, found, ..Finding::new(kind) });
        };
        match now {
            None => wrong(FindingKind::Lost, format!("topic id {}", was.id), "no such topic".into()),
            Some(now) if now.id != was.id => {
                wrong(FindingKind::Setting, format!("topic id {}", was.id), format!("topic id {}", now.id));
            }
            Some(now) => {
                let shrunk = was.ends.iter().zip(&now.ends).position(|(was, now)| now < was);
                if let Some(partition) = shrunk.filter(|_| now.ends.len() == was.ends.len()) {
                    let (was, now) = (was.ends[partition], now.ends[partition]);
                    wrong(FindingKind::Lost, format!("partition {partition} to {was} at least"), now.to_string());
                } else if now.ends.len() != was.ends.len() {
                    let count = |t: &TopicSeen| counted(t.ends.len(), "partition");
                    wrong(FindingKind::Setting, count(was), count(now));
                }
            }
        }
    }

    fn offset(&mut self, of: &Neighbour, was: &StoredOffset, now: Option<&StoredOffset>) {
        self.compared += 1;
        if was.offset == now.and_then(|n| n.offset.clone()) {
            return;
        }
        let back = match (lsn(Some(was)), lsn(now)) {
            (Some(was), Some(now)) => now < was,
            _ => true,
        };
        if back {
            self.wrong(
                FindingKind::Position,
                of,
                format!("a stored offset from {} on", position(Some(was))),
                position(now),
            );
        }
    }

    fn slot(&mut self, was: &Neighbour, now: &Neighbour) -> String {
        let Some(before) = &was.slot else {
            return format!(
                "slot not compared: {}",
                was.slot_unseen.as_deref().unwrap_or("its server had none before")
            );
        };
        if let Some(why) = &now.slot_unseen {
            self.undecided = true;
            return format!("slot {} was seen before and cannot be looked at now: {why}", before.name);
        }
        self.compared += 1;
        let shown = |at: Option<cdc_model::units::Lsn>| at.map_or("nothing".to_owned(), |at| at.to_string());
        let Some(after) = &now.slot else {
            self.wrong(FindingKind::Position, was, format!("slot {}", before.name), "its server has none of that name");
            return format!("slot {} is gone", before.name);
        };
        let (from, to) = (before.confirmed_flush_lsn, after.confirmed_flush_lsn);
        if to < from || after.plugin != before.plugin || after.database != before.database {
            self.wrong(FindingKind::Position, was, format!("slot {} from {} on", before.name, shown(from)), shown(to));
        }
        if before.active && !after.active {
            self.wrong(FindingKind::Dead, was, format!("slot {} active", before.name), "not active");
        }
        format!("slot {} {} -> {}", before.name, shown(from), shown(to))
    }
}

fn lsn(offset: Option<&StoredOffset>) -> Option<i64> {
    offset?.offset.as_ref()?.get("lsn")?.as_i64()
}

fn position(offset: Option<&StoredOffset>) -> String {
    lsn(offset).map_or("none".to_owned(), |at| cdc_model::units::Lsn(at.cast_unsigned()).to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use cdc_model::units::{Lsn, Offset, SlotName};
    use cdc_pipeline::client::postgres::Slot;
    use rstest::rstest;
    use serde_json::json;

    fn neighbour() -> Neighbour {
        let offset = json!({"partition": {"server": "b"}, "offset": {"lsn": 100, "txId": 7}});
        let topic = TopicSeen { id: "abc".into(), ends: vec![Offset(4), Offset(9)] };
        Neighbour {
            name: "b".into(),
            config: [("slot.name".to_owned(), "b".to_owned())].into(),
            state: "connector RUNNING, task 0 RUNNING".into(),
            topics: [("b.public.t".to_owned(), topic)].into(),
            offsets: vec![serde_json::from_value(offset).unwrap()],
            slot: Some(Slot {
                name: SlotName::new("b"),
                slot_type: "logical".into(),
                plugin: Some("pgoutput".into()),
                database: Some("d".into()),
                active: true,
                active_pid: Some(1),
                restart_lsn: Some(Lsn(90)),
                confirmed_flush_lsn: Some(Lsn(100)),
                wal_status: Some("reserved".into()),
                invalidation_reason: None,
            }),
            slot_unseen: None,
            unseen: None,
        }
    }

    #[test]
    fn topics_and_offsets_that_cannot_be_looked_at_are_named() {
        let unseen = |was: Neighbour| Neighbour {
            topics: BTreeMap::new(),
            offsets: Vec::new(),
            unseen: Some("a name that no address takes".into()),
            ..was
        };
        let check = compare(&[unseen(neighbour())], &[unseen(neighbour())]);
        assert_eq!((check.verdict, check.compared), (Verdict::Passed, 3));
        assert!(check.notes[0].contains("not compared: a name that no address takes"), "{:?}", check.notes);
        let check = compare(&[neighbour()], &[unseen(neighbour())]);
        assert_eq!((check.verdict, check.findings_total), (Verdict::Inconclusive, 0), "they were seen before");
        let mut stopped = unseen(neighbour());
        stopped.state = "connector STOPPED, no tasks".into();
        assert_eq!(compare(&[unseen(neighbour())], &[stopped]).verdict, Verdict::Failed, "what was seen counts");
    }

    fn set_lsn(n: &mut Neighbour, lsn: i64) {
        n.offsets[0].offset.as_mut().unwrap().insert("lsn".into(), json!(lsn));
    }

    #[test]
    fn one_that_stands_still_or_goes_on_is_untouched() {
        let was = [neighbour()];
        let check = compare(&was, &was);
        assert_eq!((check.verdict, check.compared), (Verdict::Passed, 5));
        let mut on = neighbour();
        set_lsn(&mut on, 180);
        on.topics.get_mut("b.public.t").unwrap().ends[1] = Offset(12);
        on.slot.as_mut().unwrap().confirmed_flush_lsn = Some(Lsn(170));
        let check = compare(&was, &[on]);
        assert_eq!(check.verdict, Verdict::Passed, "{:?}", check.findings);
        assert!(
            check.notes[0]
                .contains("b.public.t abc; ends of topics 13 -> 16; stored offset 0/64 -> 0/B4; slot b 0/64 -> 0/AA")
        );
    }

    #[test]
    fn a_slot_that_cannot_be_looked_at_again_is_undecided_and_named() {
        let mut now = neighbour();
        (now.slot, now.slot_unseen) = (None, Some("its server says nothing within 15 s".into()));
        let check = compare(&[neighbour()], &[now.clone()]);
        assert_eq!((check.verdict, check.findings_total, check.compared), (Verdict::Inconclusive, 0, 4));
        assert!(check.notes[0].contains("cannot be looked at now: its server says nothing"), "{:?}", check.notes);
        now.topics.clear();
        assert_eq!(compare(&[neighbour()], &[now.clone()]).verdict, Verdict::Failed, "what was seen counts");
        assert_eq!(compare(&[now], &[neighbour()]).verdict, Verdict::Passed, "there was nothing to compare it with");
    }

    #[rstest]
    #[case(|n: &mut Neighbour| n.topics.get_mut("b.public.t").unwrap().id = "xyz".into(), FindingKind::Setting)]
    #[case(|n: &mut Neighbour| n.topics.clear(), FindingKind::Lost)]
    #[case(|n: &mut Neighbour| n.topics.get_mut("b.public.t").unwrap().ends[0] = Offset(3), FindingKind::Lost)]
    #[case(|n: &mut Neighbour| { n.topics.get_mut("b.public.t").unwrap().ends.pop(); }, FindingKind::Setting)]
    #[case(|n: &mut Neighbour| set_lsn(n, 99), FindingKind::Position)]
    #[case(|n: &mut Neighbour| n.offsets.clear(), FindingKind::Position)]
    #[case(|n: &mut Neighbour| n.slot = None, FindingKind::Position)]
    #[case(|n: &mut Neighbour| n.slot.as_mut().unwrap().confirmed_flush_lsn = Some(Lsn(99)), FindingKind::Position)]
    #[case(|n: &mut Neighbour| n.slot.as_mut().unwrap().active = false, FindingKind::Dead)]
    #[case(|n: &mut Neighbour| n.state = "connector STOPPED, no tasks".into(), FindingKind::Dead)]
    #[case(|n: &mut Neighbour| { n.config.insert("a".into(), "b".into()); }, FindingKind::Setting)]
    #[case(|n: &mut Neighbour| n.name = "c".into(), FindingKind::Dead)]
    fn a_touch_is_noticed(#[case] touch: fn(&mut Neighbour), #[case] kind: FindingKind) {
        let mut now = neighbour();
        touch(&mut now);
        let check = compare(&[neighbour()], &[now]);
        assert_eq!(check.verdict, Verdict::Failed);
        assert_eq!(check.findings.iter().map(|f| f.kind).collect::<Vec<_>>(), [kind]);
    }
}
