//! What an answer says about a finding: pure, and by itself.

use cdc_model::{
    event::{
        Confirmation::{self, CannotTell, Confirmed, Refuted},
        Evidence, Finding,
    },
    units::{Offset, is_secret_setting},
};

/// A setting of a connector must be another than it was. A secret is compared and never shown.
pub(super) fn setting_left(key: &str, was: Option<&String>, is: Option<&String>) -> Confirmation {
    let shown = match is {
        _ if is_secret_setting(key) => "***",
        Some(value) => value,
        None => "unset",
    };
    match was == is {
        true => Refuted(format!("the worker has {key} = {shown}, as it was")),
        false => Confirmed(format!("the worker has {key} = {shown}, not as it was")),
    }
}

/// The broker must say what the finding found, and not what it expected.
pub(super) fn setting_confirms(about: &str, finding: &Finding, now: Option<&str>) -> Confirmation {
    let Some(Evidence::Setting { expected, found }) = &finding.evidence else {
        return CannotTell("the finding carries no setting to compare with".into());
    };
    let said = format!("the broker has {about}: {}", now.unwrap_or("none"));
    match now {
        now if expected.as_deref() == now => Refuted(format!("{said}, as expected")),
        now if found.as_deref() == now => Confirmed(said),
        _ => CannotTell(format!("{said}, neither as expected nor as found")),
    }
}

/// How many of these records are among the values.
pub(super) fn remaining(before: &[String], values: &[Vec<u8>]) -> u64 {
    values.iter().filter(|value| before.iter().any(|record| record.as_bytes() == value.as_slice())).count() as u64
}

/// The topic must have as many of the records from before as the finding found, and some; `left` is none where it is gone.
pub(super) fn history_confirms(topic: &str, finding: &Finding, left: Option<u64>) -> Confirmation {
    let said = match left {
        None => format!("the broker has no topic {topic}"),
        Some(left) => format!("{topic} has {left} of the records from before the recovery"),
    };
    let Some(Evidence::History { left: found }) = &finding.evidence else {
        return CannotTell(format!("{said}, and the finding carries no count of them"));
    };
    match left == *found && left != Some(0) {
        true => Confirmed(said),
        false => Refuted(format!("{said}, the finding says {}", finding.found.as_deref().unwrap_or("nothing"))),
    }
}

/// What the group committed must be what the finding found, and not what it expected.
pub(super) fn committed_confirms(place: &str, finding: &Finding, now: Option<Offset>) -> Confirmation {
    let said = format!("committed by {place}: {}", now.map_or("none".to_owned(), |offset| offset.to_string()));
    let Some(Evidence::Committed { expected, found }) = &finding.evidence else {
        return CannotTell(format!("{said}, and the finding carries no offset to compare with"));
    };
    match *found == now && now != Some(*expected) {
        true => Confirmed(said),
        false => Refuted(format!("{said}, the finding says {}", finding.found.as_deref().unwrap_or("nothing"))),
    }
}

/// A partition without records has nothing that could be skipped.
pub(super) fn begins_confirm(
    group: &str,
    topic: &str,
    partitions: &[(Option<Offset>, (Offset, Offset))],
) -> Confirmation {
    let mut with_records = partitions.iter().filter(|(_, (low, high))| low < high).peekable();
    if with_records.peek().is_none() {
        return CannotTell(format!("{topic} has no record that {group} could miss"));
    }
    let others: Vec<String> = with_records
        .filter(|(committed, (low, _))| *committed != Some(*low))
        .map(|(committed, (low, _))| {
            format!("{} where {low} is the first", committed.map_or("nothing".into(), |c| c.to_string()))
        })
        .collect();
    match others.is_empty() {
        true => Refuted(format!("{group} committed the first offset of every partition of {topic}")),
        false => Confirmed(format!("{group} committed in {topic}: {}", others.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::event::FindingKind;

    fn finding(evidence: Evidence) -> Finding {
        Finding { evidence: Some(evidence), ..Finding::new(FindingKind::Position) }
    }

    #[test]
    fn a_setting_that_is_as_expected_is_not_confirmed() {
        let setting = |expected: Option<&str>, found: Option<&str>| {
            finding(Evidence::Setting { expected: expected.map(str::to_owned), found: found.map(str::to_owned) })
        };
        let changed = setting(Some("3"), Some("1"));
        assert!(setting_confirms("partitions of t", &changed, Some("1")).is_confirmed());
        assert!(!setting_confirms("partitions of t", &changed, Some("3")).is_confirmed());
        assert!(!setting_confirms("partitions of t", &changed, Some("2")).is_confirmed());
        let gone = setting(Some("a topic"), None);
        assert!(setting_confirms("t", &gone, None).is_confirmed());
        assert!(!setting_confirms("t", &gone, Some("a topic")).is_confirmed());
        let written = setting(None, Some("unset"));
        assert!(!setting_confirms("t", &written, None).is_confirmed(), "a value `unset` is not an unset value");
        assert!(!setting_confirms("t", &Finding::new(FindingKind::Setting), Some("1")).is_confirmed());
    }

    #[test]
    fn a_connectors_setting_is_left_when_it_is_another_and_a_secret_is_never_shown() {
        let (old, new) = ("old-secret".to_owned(), "new-secret".to_owned());
        assert!(!setting_left("snapshot.mode", Some(&old), Some(&old)).is_confirmed());
        assert!(setting_left("snapshot.mode", Some(&old), None).to_string().contains("unset"));
        let same = setting_left("database.password", Some(&old), Some(&old)).to_string();
        let other = setting_left("database.password", Some(&old), Some(&new)).to_string();
        assert!(!same.contains("secret") && !other.contains("secret"), "{same} {other}");
    }

    #[test]
    fn a_history_that_was_cleared_is_not_confirmed() {
        let before = ["one".to_owned(), "two".to_owned()];
        let values = |texts: &[&str]| texts.iter().map(|t| t.as_bytes().to_vec()).collect::<Vec<_>>();
        assert_eq!(remaining(&before, &values(&["one", "two", "new"])), 2);
        let stale = |left| finding(Evidence::History { left });
        assert!(history_confirms("t", &stale(Some(2)), Some(2)).is_confirmed());
        for left in [None, Some(0), Some(1)] {
            assert!(!history_confirms("t", &stale(Some(2)), left).is_confirmed(), "{left:?}");
        }
        assert!(!history_confirms("t", &stale(Some(0)), Some(0)).is_confirmed());
        assert!(history_confirms("t", &stale(None), None).is_confirmed());
        assert!(!history_confirms("t", &stale(None), Some(2)).is_confirmed());
        let words = Finding { found: Some("2 records".into()), ..Finding::new(FindingKind::Position) };
        assert!(!history_confirms("t", &words, Some(2)).is_confirmed(), "words are no evidence");
    }

    #[test]
    fn a_group_that_begins_at_the_first_record_is_not_confirmed() {
        let marks = |low, high| (Offset(low), Offset(high));
        let at = |offset| Some(Offset(offset));
        assert!(begins_confirm("g", "t", &[(None, marks(0, 7))]).is_confirmed());
        assert!(begins_confirm("g", "t", &[(at(4), marks(0, 7)), (at(0), marks(0, 2))]).is_confirmed());
        assert!(!begins_confirm("g", "t", &[(at(0), marks(0, 7))]).is_confirmed());
        assert!(
            !begins_confirm("g", "t", &[(at(0), marks(0, 7)), (None, marks(0, 0))]).is_confirmed(),
            "nothing to miss there"
        );
        assert!(!begins_confirm("g", "t", &[]).is_confirmed(), "no such topic");

        let committed = |expected, found| finding(Evidence::Committed { expected: Offset(expected), found });
        let wrong = committed(0, at(428));
        assert!(committed_confirms("g", &wrong, at(428)).is_confirmed());
        for now in [None, at(0), at(7)] {
            assert!(!committed_confirms("g", &wrong, now).is_confirmed(), "{now:?}");
        }
        let none = committed(0, None);
        assert!(committed_confirms("g", &none, None).is_confirmed());
        assert!(!committed_confirms("g", &none, at(0)).is_confirmed());
        assert!(!committed_confirms("g", &committed(5, at(5)), at(5)).is_confirmed(), "as expected");
    }
}
