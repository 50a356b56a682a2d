//! Whether a stretch of archived WAL is whole.

use std::collections::{BTreeMap, BTreeSet};

use super::{Archive, WalGap};
use crate::backup::BackupError;
use cdc_model::units::{Lsn, Timeline};
use cdc_postgres::wal::{SegmentName, SegmentSize, TimelineHistory};

impl Archive {
    /// The segments that replay from `from` to `to` reads on this timeline, with the stretch of WAL each is needed for;
    /// each names the file to use: that of the newest timeline that has one, as PostgreSQL chooses.
    pub fn required(
        &self,
        history: &TimelineHistory,
        size: SegmentSize,
        from: Lsn,
        to: Lsn,
    ) -> Result<Vec<(u64, Option<SegmentName>)>, BackupError> {
        let mut there: BTreeMap<Timeline, BTreeSet<SegmentName>> = BTreeMap::new();
        let line = history.newest_first();
        for (timeline, _) in &line {
            there.insert(*timeline, self.segments(*timeline)?);
        }
        let mut segments = Vec::new();
        for number in size.segment_of(from)..=size.segment_before(to).max(size.segment_of(from)) {
            // The timeline of the last byte that is needed of this segment; an older timeline's copy ends before it.
            let last = Lsn((size.start(number).0 + size.bytes()).min(to.0.max(from.0 + 1)) - 1);
            let oldest = history.owner(last);
            let fitting = line.iter().filter(|(t, begin)| *t >= oldest && size.segment_of(*begin) <= number);
            let found = fitting
                .map(|(t, _)| SegmentName::new(*t, number, size))
                .find(|name| there.get(&name.timeline).is_some_and(|s| s.contains(name)));
            segments.push((number, found));
        }
        Ok(segments)
    }

    /// Whether everything that replay from `from` to `to` reads on this timeline is in the archive; otherwise the first
    /// missing stretch. Names and presence only; see [`Held::check`](super::Held::check) for the bytes.
    pub(crate) fn continuity(&self, history: &TimelineHistory, from: Lsn, to: Lsn) -> Result<(), BackupError> {
        let gap = |segment: String, missing_from: Lsn, missing_to: Lsn| WalGap {
            system_id: self.system_id,
            timeline: history.timeline,
            missing_from,
            missing_to,
            segment,
            from,
            to,
        };
        let Some(size) = self.segment_size()? else {
            return Err(gap("any".into(), from, to).into());
        };
        let segments = self.required(history, size, from, to)?;
        let Some(first) = segments.iter().position(|(_, found)| found.is_none()) else { return Ok(()) };
        let run = segments[first..].iter().take_while(|(_, found)| found.is_none()).count();
        let (begin, end) = (segments[first].0, segments[first].0 + run as u64);
        let name = SegmentName::new(history.owner(size.start(begin).max(from)), begin, size);
        Err(gap(name.to_string(), size.start(begin).max(from), size.start(end).min(to)).into())
    }
}
