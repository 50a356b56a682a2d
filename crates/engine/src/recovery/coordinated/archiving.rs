//! Proof that the restored server's WAL reaches the archive: without it the next recovery ends where this one did.

use super::Coordinated;
use crate::{
    backup::{BackupError, parts::postgres::await_archived},
    recovery::{RecoveryError, wal::Scanned},
};
use cdc_model::{
    event::CheckReport,
    units::{Lsn, Timeline},
};
use cdc_pipeline::{client::postgres::Postgres, config::PointAfter};
use cdc_postgres::wal::{SegmentName, TimelineEntry, TimelineHistory, WalFile};

const CHECK: &str = "archiving";
/// How the restore points begin that are looked for in the archive.
const MARK: &str = "cdc-drill-recovered";

impl Coordinated {
    /// Sets a restore point on the new timeline, and reads it back from the archive alone. None where nothing was restored. What cannot
    /// be proven is inconclusive: the recovery itself stands.
    pub(crate) async fn prove_archiving(&self) -> Option<CheckReport> {
        let restored = self.learned.restored.as_ref()?;
        let switch = restored.switch?;
        let TimelineHistory { timeline: left, mut ancestors } = self.aim.followed();
        ancestors.push(TimelineEntry { timeline: left, end: switch });
        let history = TimelineHistory { timeline: restored.timeline, ancestors };
        let suggested = format!(
            "take a recovery point of timeline {} now (`backup create`): those that are there lead to it only through its history",
            restored.timeline
        );
        let next = (self.pipeline.config.recovery.point == PointAfter::Suggest).then_some(suggested);
        Some(match self.read_back(&history).await {
            Ok(seen) => CheckReport::new(CHECK, 1, [Some(seen), next].into_iter().flatten().collect(), Vec::new()),
            Err(error) => {
                let why = format!("WAL of timeline {} is not proven to reach the archive: {error}", restored.timeline);
                let mut report = CheckReport::inconclusive(CHECK, why);
                report.notes.extend(next);
                report
            }
        })
    }

    async fn read_back(&self, history: &TimelineHistory) -> Result<String, RecoveryError> {
        let timeline = history.timeline;
        let session = Postgres::connect(&self.pipeline.config.postgres.url, "cdc-drill-recovery").await?;
        let found = session.timeline().await?;
        if found != timeline {
            return Err(RecoveryError::unmet(CHECK, format!("timeline {timeline}"), found.to_string()));
        }
        let mode = session.text("show archive_mode").await?.unwrap_or_default();
        if mode == "off" {
            return Err(RecoveryError::unmet(CHECK, "archive_mode = on", "archive_mode = off"));
        }
        // Each look has one of its own: a name that is there twice is no target.
        let name = format!("{MARK}-{}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%6fZ"));
        let end: Lsn = session.value(&format!("select pg_create_restore_point('{name}')")).await?;
        session.run("select pg_switch_wal()").await?;
        let archive = self.repository.archive(self.system_id);
        let last = Lsn(end.0.saturating_sub(1));
        await_archived(&session, &archive, history, last, last).await?;
        let segment = SegmentName::of(timeline, last, self.segment_size);
        for file in [WalFile::Segment(segment), WalFile::History(timeline)] {
            let held = archive.find(&file)?;
            let missing = || BackupError::checksum(archive.place(&file), "the archived file", "nothing");
            held.ok_or_else(missing)?.check_stored()?;
        }
        self.marked(timeline, segment, &name).await?;
        Ok(format!(
            "segment {segment} with restore point {name}, set on timeline {timeline}, is read back from the archive"
        ))
    }

    /// Requires that the archive alone shows a restore point.
    async fn marked(&self, timeline: Timeline, segment: SegmentName, name: &str) -> Result<(), RecoveryError> {
        let from = segment.start(self.segment_size).unwrap_or_default();
        let (marks, scanned) = self.view(false)?.marks(timeline, from).await?;
        if marks.iter().any(|(mark, _)| mark == name) {
            return Ok(());
        }
        let found = match scanned {
            Scanned::Unread(why) => why,
            Scanned::All | Scanned::Stopped => format!("{} other restore points", marks.len()),
        };
        Err(RecoveryError::unmet(CHECK, format!("restore point {name} in segment {segment}"), found))
    }
}
