//! Whether a stored position is of a timeline that the server has left: asked of the server, which has the history of its own
//! timeline and knows when each timeline began.

use std::collections::BTreeMap;

use cdc_model::units::{Lsn, Secret, Timeline};
use cdc_pipeline::client::postgres::Postgres;
use cdc_postgres::{
    sql::literal,
    wal::{TimelineHistory, WalFile},
};

/// Where the server left one timeline for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::recovery) struct Switch {
    /// The end of the one.
    pub(in crate::recovery) at: Lsn,
    /// The other.
    pub(in crate::recovery) timeline: Timeline,
}

/// The server's timelines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::recovery) struct Timelines {
    history: TimelineHistory,
    /// When the history file of each timeline was written, in milliseconds since 1970, or why that is not known. A server
    /// writes it when it begins the timeline.
    began: Result<BTreeMap<Timeline, i64>, String>,
}

impl Timelines {
    /// Asks the server; why it does not say.
    pub(in crate::recovery) async fn of(server: &Postgres, url: &Secret) -> Result<Timelines, String> {
        let timeline = server.timeline().await.map_err(|e| e.to_string())?;
        if timeline == Timeline::FIRST {
            return Ok(Timelines { history: TimelineHistory::first(), began: Ok(BTreeMap::new()) });
        }
        let text = history(server, url, timeline).await?;
        let history = TimelineHistory::parse(timeline, &text);
        let history = history.map_err(|why| format!("history of timeline {timeline}: {why}"))?;
        Ok(Timelines { history, began: began(server).await })
    }

    /// The switch that a position stored at `written`, in microseconds since 1970, lies behind although it was stored before it:
    /// the position is one of a timeline that the server has left. What lies behind a switch and was stored since is of a later
    /// timeline. An error says why that is not known.
    pub(in crate::recovery) fn left_behind(&self, stored: Lsn, written: Option<i64>) -> Result<Option<Switch>, String> {
        let next = self.history.ancestors.iter().skip(1).map(|a| a.timeline).chain([self.history.timeline]);
        let switches = self.history.ancestors.iter().zip(next).map(|(left, to)| Switch { at: left.end, timeline: to });
        let mut unknown = None;
        // The last one first: it is the one that a person remembers.
        for switch in switches.collect::<Vec<_>>().into_iter().rev().filter(|switch| stored > switch.at) {
            match self.is_older(written, switch.timeline) {
                Ok(true) => return Ok(Some(switch)),
                Ok(false) => {}
                Err(why) => unknown = Some(why),
            }
        }
        unknown.map_or(Ok(None), Err)
    }

    /// Where the server's history left a timeline; `None` where that is the timeline that it writes on. An error where the timeline is none
    /// of its history.
    pub(in crate::recovery) fn left(&self, timeline: Timeline) -> Result<Option<Lsn>, String> {
        if timeline == self.history.timeline {
            return Ok(None);
        }
        let left = self.history.ancestors.iter().find(|ancestor| ancestor.timeline == timeline);
        left.map(|ancestor| Some(ancestor.end)).ok_or_else(|| {
            format!(
                "timeline {timeline} is not in the history of timeline {}, on which the server writes",
                self.history.timeline
            )
        })
    }

    /// Whether something was written before the server began a timeline.
    fn is_older(&self, written: Option<i64>, timeline: Timeline) -> Result<bool, String> {
        let written = written.ok_or("the stored offset does not say when it was written")?;
        let began = self.began.as_ref().map_err(String::clone)?.get(&timeline);
        let began = began.ok_or_else(|| format!("the server has no history file of timeline {timeline}"))?;
        Ok(written / 1000 < *began)
    }
}

/// The text of a timeline's history, by the replication command, which needs REPLICATION and one of the server's walsenders; or
/// from the file, which needs a superuser.
async fn history(server: &Postgres, url: &Secret, timeline: Timeline) -> Result<String, String> {
    let asked = async {
        let walsender = Postgres::connect_walsender(url, "cdc-drill-recovery").await?;
        walsender.texts(&format!("TIMELINE_HISTORY {timeline}")).await
    };
    let refused = match asked.await {
        Ok(rows) => match rows.into_iter().next().and_then(|row| row.into_iter().nth(1).flatten()) {
            Some(text) => return Ok(text),
            None => format!("the server gave no history of timeline {timeline}"),
        },
        Err(error) => error.to_string(),
    };
    let file = format!("pg_wal/{}", WalFile::History(timeline));
    let read = server.text(&format!("select pg_read_file({})", literal(&file))).await;
    read.ok().flatten().ok_or(refused)
}

/// When each history file in the server's WAL folder was written. Members of `pg_monitor` may ask that.
async fn began(server: &Postgres) -> Result<BTreeMap<Timeline, i64>, String> {
    let sql = "select name, floor(extract(epoch from modification) * 1000)::bigint::text from pg_ls_waldir() \
               where name like '%.history'";
    let rows = server.texts(sql).await.map_err(|e| e.to_string())?;
    let of_row = |row: Vec<Option<String>>| {
        let mut cells = row.into_iter().flatten();
        match (cells.next()?.parse::<WalFile>().ok()?, cells.next()?.parse().ok()?) {
            (WalFile::History(timeline), millis) => Some((timeline, millis)),
            _ => None,
        }
    };
    Ok(rows.into_iter().filter_map(of_row).collect())
}

#[cfg(test)]
impl Timelines {
    /// Those of a server that never left its first timeline.
    pub(in crate::recovery) fn first() -> Timelines {
        Timelines { history: TimelineHistory::first(), began: Ok(BTreeMap::new()) }
    }

    /// Those of a server that left timeline 1 for timeline 2, `began` milliseconds after 1970.
    pub(in crate::recovery) fn after(left: Lsn, began: i64) -> Timelines {
        let timeline = Timeline::literal(2);
        let history = TimelineHistory {
            timeline,
            ancestors: vec![cdc_postgres::wal::TimelineEntry { timeline: Timeline::FIRST, end: left }],
        };
        Timelines { history, began: Ok(BTreeMap::from([(timeline, began)])) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1000;

    /// Timeline 3 left timeline 2 at 5000 at second 20, which had left timeline 1 at 1000 at second 10.
    fn timelines() -> Timelines {
        let history =
            TimelineHistory::parse(Timeline::literal(3), "1\t0/1000\tno recovery target specified\n2\t0/5000\tx\n")
                .unwrap();
        Timelines {
            history,
            began: Ok(BTreeMap::from([(Timeline::literal(2), 10_000), (Timeline::literal(3), 20_000)])),
        }
    }

    fn at(seconds: i64) -> Option<i64> {
        Some(seconds * 1000 * MS)
    }

    #[test]
    fn a_position_behind_a_switch_that_was_stored_before_it_is_of_a_timeline_that_was_left() {
        let found = |stored, written| timelines().left_behind(Lsn(stored), written).unwrap();
        let switch = |at, timeline: u32| Some(Switch { at: Lsn(at), timeline: Timeline::literal(timeline) });
        assert_eq!(found(0x900, at(5)), None);
        assert_eq!(found(0x2000, at(15)), None, "of timeline 2");
        assert_eq!(found(0x6000, at(25)), None, "of timeline 3");
        assert_eq!(found(0x6000, at(15)), switch(0x5000, 3));
        assert_eq!(found(0x2000, at(5)), switch(0x1000, 2), "of timeline 1, and below the last switch");
    }

    #[test]
    fn a_timeline_is_left_where_the_next_one_began() {
        assert_eq!(timelines().left(Timeline::literal(3)), Ok(None));
        assert_eq!(timelines().left(Timeline::literal(2)), Ok(Some(Lsn(0x5000))));
        assert_eq!(timelines().left(Timeline::literal(1)), Ok(Some(Lsn(0x1000))));
        assert!(
            timelines()
                .left(Timeline::literal(4))
                .unwrap_err()
                .contains("timeline 4 is not in the history of timeline 3")
        );
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        assert!(timelines().left_behind(Lsn(0x6000), None).is_err(), "no time in the offset");
        assert_eq!(timelines().left_behind(Lsn(0x900), None), Ok(None), "below every switch, whenever it was stored");
        let blind = Timelines { began: Err("permission denied".into()), ..timelines() };
        assert_eq!(blind.left_behind(Lsn(0x6000), at(15)), Err("permission denied".into()));
        let lacking = Timelines { began: Ok(BTreeMap::from([(Timeline::literal(3), 20_000)])), ..timelines() };
        assert!(lacking.left_behind(Lsn(0x2000), at(5)).unwrap_err().contains("timeline 2"));
        let first = Timelines { history: TimelineHistory::first(), began: Ok(BTreeMap::new()) };
        assert_eq!(first.left_behind(Lsn(0x6000), None), Ok(None));
    }
}
