//! Which timeline owns which stretch of WAL.

use serde::{Deserialize, Serialize};

use cdc_model::units::{Lsn, Timeline};

/// One earlier timeline and where it was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// The timeline.
    pub timeline: Timeline,
    /// Where the next one branched off.
    pub end: Lsn,
}

/// A timeline with its ancestors, oldest first: what `<TLI>.history` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineHistory {
    /// The timeline itself.
    pub timeline: Timeline,
    /// Its ancestors.
    pub ancestors: Vec<TimelineEntry>,
}

impl TimelineHistory {
    /// The first timeline of a cluster: it has no history file.
    pub fn first() -> TimelineHistory {
        TimelineHistory { timeline: Timeline::FIRST, ancestors: Vec::new() }
    }

    /// Reads a history file: lines of `parent TLI <tab> switch LSN <tab> reason`, comments after `#`.
    pub fn parse(timeline: Timeline, text: &str) -> Result<TimelineHistory, String> {
        let mut ancestors: Vec<TimelineEntry> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let bad = |why: &str| format!("line {} (`{line}`): {why}", i + 1);
            let mut fields = line.split_whitespace();
            let parent = fields.next().and_then(|f| f.parse::<Timeline>().ok()).ok_or_else(|| bad("no timeline"))?;
            let end = fields.next().and_then(|f| f.parse::<Lsn>().ok()).ok_or_else(|| bad("no LSN"))?;
            if ancestors.last().is_some_and(|a| a.timeline >= parent || a.end > end) || parent >= timeline {
                return Err(bad("timelines must ascend"));
            }
            ancestors.push(TimelineEntry { timeline: parent, end });
        }
        Ok(TimelineHistory { timeline, ancestors })
    }

    /// Where this timeline branched off; 0/0 for the first.
    pub fn begin(&self) -> Lsn {
        self.ancestors.last().map_or(Lsn(0), |a| a.end)
    }

    /// The timeline that owns the byte at `lsn`.
    pub fn owner(&self, lsn: Lsn) -> Timeline {
        self.ancestors.iter().find(|a| lsn < a.end).map_or(self.timeline, |a| a.timeline)
    }

    /// This timeline and its ancestors with the LSN each begins at, newest first.
    pub fn newest_first(&self) -> Vec<(Timeline, Lsn)> {
        let mut begins = Vec::new();
        let mut begin = Lsn(0);
        for ancestor in &self.ancestors {
            begins.push((ancestor.timeline, begin));
            begin = ancestor.end;
        }
        begins.push((self.timeline, begin));
        begins.reverse();
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn ownership_follows_the_switches() {
        let history = TimelineHistory::parse(
            Timeline::literal(4),
            "1\t0/3000650\tat restore point \"rp1\"\n\n# note\n3\t0/5000000\tno recovery target\n",
        )
        .unwrap();
        assert_eq!(history.owner(Lsn(0x3000000)), Timeline::literal(1));
        assert_eq!(history.owner(Lsn(0x300064F)), Timeline::literal(1));
        assert_eq!(history.owner(Lsn(0x3000650)), Timeline::literal(3));
        assert_eq!(history.owner(Lsn(0x5000000)), Timeline::literal(4));
        assert_eq!(history.begin(), Lsn(0x5000000));
        assert_eq!(
            history.newest_first(),
            [(4, 0x5000000), (3, 0x3000650), (1, 0)].map(|(t, at): (u32, u64)| (Timeline::literal(t), Lsn(at)))
        );
    }

    #[rstest]
    #[case("x 0/1")]
    #[case("1 nonsense")]
    #[case("1")]
    #[case("2 0/5\n1 0/6")]
    #[case("1 0/6\n2 0/5")]
    #[case("3 0/5")]
    fn a_broken_history_is_refused(#[case] text: &str) {
        assert!(TimelineHistory::parse(Timeline::literal(3), text).is_err());
    }
}
