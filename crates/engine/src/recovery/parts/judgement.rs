//! Whether a connector may go on from stored offsets: nothing that it would skip, and nothing that its slot does not give any more.

use serde_json::{Map, Value};

use crate::recovery::slot::Timelines;
use cdc_model::units::{Lsn, Timeline};
use cdc_pipeline::client::{
    connect::{StoredOffset, stored_position},
    postgres::Slot,
};

/// What a connector's server and slot are now.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) timelines: Result<Timelines, String>,
    /// The end of its WAL.
    pub(super) end: Lsn,
    pub(super) slot: Option<Slot>,
    /// Whether a task of the connector lives, so that it is what streams from the slot.
    pub(super) has_live_task: bool,
}

/// Whose offsets are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose<'t> {
    /// Those of a recovery point: older than what the slot's consumer may have confirmed since. The timeline on which the server wrote
    /// then, or why that is not known.
    Point(Result<Timeline, &'t str>),
    /// Those that the worker has.
    Worker,
}

/// The positions of an offset: what was confirmed to the server is one of these.
fn latest(offset: &Map<String, Value>) -> Option<Lsn> {
    let number = |key: &str| offset.get(key).and_then(Value::as_u64);
    ["lsn", "lsn_proc", "lsn_commit"].into_iter().filter_map(number).max().map(Lsn)
}

/// The highest position among offsets.
pub(super) fn position(offsets: &[StoredOffset]) -> Option<Lsn> {
    offsets.iter().filter_map(|o| stored_position(o.offset.as_ref()?)).max()
}

/// Why a connector of PostgreSQL may not go on from these offsets; nothing speaks against them where this is empty.
pub(super) fn objections(offsets: &[StoredOffset], whose: Whose<'_>, server: &Server) -> Vec<String> {
    offsets
        .iter()
        .filter_map(|stored| stored.offset.as_ref())
        .flat_map(|offset| of_one(offset, whose, server))
        .collect()
}

fn of_one(offset: &Map<String, Value>, whose: Whose<'_>, server: &Server) -> Vec<String> {
    let Some(stored) = stored_position(offset) else {
        return vec!["a stored offset has no position (`lsn`)".to_owned()];
    };
    let mut found = Vec::new();
    if stored > server.end {
        found.push(format!(
            "stored offset {stored} lies behind the server's last position {}: what is written up to it would be skipped",
            server.end
        ));
    }
    found.extend(on_a_timeline(offset, stored, whose, server));
    match &server.slot {
        None => found.push("its slot is missing: changes since the offset are not given any more".to_owned()),
        Some(slot) => found.extend(by_slot(offset, stored, whose, slot, server)),
    }
    found
}

fn on_a_timeline(offset: &Map<String, Value>, stored: Lsn, whose: Whose<'_>, server: &Server) -> Option<String> {
    let unknown = |why: &str| {
        Some(format!("whether stored offset {stored} is of a timeline that the server has left is not known: {why}"))
    };
    let timelines = match &server.timelines {
        Ok(timelines) => timelines,
        Err(why) => return unknown(why),
    };
    if let Whose::Point(timeline) = whose {
        match timeline.map_err(str::to_owned).and_then(|timeline| Ok((timeline, timelines.left(timeline)?))) {
            Ok((timeline, Some(left))) if stored > left => {
                return Some(format!(
                    "stored offset {stored} is of timeline {timeline}, which the server left at {left}: what was written since, up to it, would be skipped"
                ));
            }
            Ok(_) => {}
            Err(why) => return unknown(&why),
        }
    }
    let written = offset.get("ts_usec").and_then(Value::as_i64);
    match timelines.left_behind(stored, written) {
        Ok(None) => None,
        Ok(Some(switch)) => Some(format!(
            "stored offset {stored} is of an abandoned timeline: timeline {} began at {}",
            switch.timeline, switch.at
        )),
        Err(why) => unknown(&why),
    }
}

fn by_slot(offset: &Map<String, Value>, stored: Lsn, whose: Whose<'_>, slot: &Slot, server: &Server) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(reason) = slot.invalidated() {
        found.push(format!("slot {} is invalidated ({reason})", slot.name));
    }
    if slot.active && !server.has_live_task {
        let pid = slot.active_pid.map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"));
        found.push(format!("{pid} streams from slot {}, and is not this connector's", slot.name));
    }
    // What the slot's consumer confirmed since is not given again. The worker's own offsets are not older than that: for them the slot may
    // have confirmed WAL that holds nothing for it.
    let first = match whose {
        Whose::Point(_) => {
            slot.confirmed_flush_lsn.filter(|confirmed| latest(offset).is_none_or(|latest| *confirmed > latest))
        }
        Whose::Worker => slot.restart_lsn.filter(|restart| *restart > stored),
    };
    if let Some(first) = first {
        found.push(format!(
            "slot {} is ahead: it gives nothing before {first}, and the offset is {stored}: changes between are not given again",
            slot.name
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use cdc_model::units::SlotName;

    /// A server on timeline 1 at 9000, whose slot has confirmed 5000.
    fn server() -> Server {
        let slot = Slot {
            name: SlotName::new("s"),
            slot_type: "logical".into(),
            plugin: None,
            database: None,
            active: false,
            active_pid: None,
            restart_lsn: Some(Lsn(0x4000)),
            confirmed_flush_lsn: Some(Lsn(0x5000)),
            wal_status: Some("reserved".into()),
            invalidation_reason: None,
        };
        Server { timelines: Ok(Timelines::first()), end: Lsn(0x9000), slot: Some(slot), has_live_task: false }
    }

    fn offset(lsn: u64, commit: u64) -> Vec<StoredOffset> {
        let offset = json!({"lsn": lsn, "lsn_commit": commit, "lsn_proc": lsn, "ts_usec": 1});
        vec![StoredOffset { partition: Map::new(), offset: offset.as_object().cloned() }]
    }

    const POINT: Whose<'static> = Whose::Point(Ok(Timeline::FIRST));

    #[test]
    fn an_offset_at_what_the_slot_confirmed_is_safe() {
        assert!(objections(&offset(0x5000, 0x5000), POINT, &server()).is_empty());
        assert!(objections(&offset(0x4800, 0x5000), POINT, &server()).is_empty(), "the commit was confirmed");
        assert!(objections(&offset(0x8000, 0x8000), POINT, &server()).is_empty());
        assert!(objections(&offset(0x4800, 0x4800), Whose::Worker, &server()).is_empty(), "nothing for it between");
        assert!(objections(&[], POINT, &server()).is_empty());
    }

    #[rstest]
    #[case::beyond_the_end(offset(0x9001, 0x9001), POINT, |_: &mut Server| (), "behind the server's last position")]
    #[case::slot_missing(offset(0x5000, 0), POINT, |s: &mut Server| s.slot = None, "slot is missing")]
    #[case::slot_ahead(offset(0x4fff, 0x4fff), POINT, |_: &mut Server| (), "is ahead")]
    #[case::own_slot_ahead(offset(0x3fff, 0x3fff), Whose::Worker, |_: &mut Server| (), "is ahead")]
    #[case::lost(offset(0x5000, 0), POINT, |s: &mut Server| s.slot.as_mut().unwrap().wal_status = Some("lost".into()), "invalidated")]
    #[case::taken(offset(0x5000, 0), POINT, |s: &mut Server| s.slot.as_mut().unwrap().active = true, "is not this connector's")]
    #[case::other_history(offset(0x5000, 0), Whose::Point(Ok(Timeline::literal(2))), |_: &mut Server| (), "timeline 2 is not in the history")]
    #[case::timeline_not_known(offset(0x5000, 0), Whose::Point(Err("no part")), |_: &mut Server| (), "is not known: no part")]
    #[case::server_silent(offset(0x5000, 0), POINT, |s: &mut Server| s.timelines = Err("silent".into()), "is not known: silent")]
    fn each_danger_is_an_objection(
        #[case] offsets: Vec<StoredOffset>,
        #[case] whose: Whose<'static>,
        #[case] change: fn(&mut Server),
        #[case] part: &str,
    ) {
        let mut server = server();
        change(&mut server);
        let found = objections(&offsets, whose, &server);
        assert!(found.len() == 1 && found[0].contains(part), "{found:?}");
    }

    #[test]
    fn an_offset_behind_the_fork_is_of_a_timeline_that_was_left() {
        let left = Server { timelines: Ok(Timelines::after(Lsn(0x6000), 10_000)), ..server() };
        let of = |lsn: u64, seconds: i64, whose| {
            let mut offsets = offset(lsn, lsn);
            offsets[0].offset.as_mut().unwrap().insert("ts_usec".into(), json!(seconds * 1_000_000));
            objections(&offsets, whose, &left)
        };
        assert!(of(0x6000, 5, POINT).is_empty(), "up to the fork both histories are one");
        let found = of(0x6001, 5, POINT);
        assert!(found.len() == 1 && found[0].contains("which the server left at"), "{found:?}");
        let found = of(0x6001, 15, POINT);
        assert!(
            found.len() == 1 && found[0].contains("which the server left at"),
            "the point was on timeline 1: {found:?}"
        );
        assert!(of(0x6001, 15, Whose::Point(Ok(Timeline::literal(2)))).is_empty());
        let found = of(0x6001, 5, Whose::Worker);
        assert!(found.len() == 1 && found[0].contains("of an abandoned timeline"), "{found:?}");
    }

    #[test]
    fn an_offset_without_a_position_is_not_safe() {
        let offsets = [StoredOffset { partition: Map::new(), offset: json!({"file": "x"}).as_object().cloned() }];
        assert_eq!(objections(&offsets, POINT, &server()), ["a stored offset has no position (`lsn`)"]);
    }
}
