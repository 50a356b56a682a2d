//! Rescuing WAL that never reached the archive, and fixing where the WAL ends.

use camino::Utf8Path;

use super::Coordinated;
use crate::{
    backup::{Store, is_there, wal::SegmentState},
    recovery::{
        RecoveryError,
        wal::{Tail, WalView},
    },
};
use cdc_model::{
    moment::{self, HALF_WAY},
    units::{IfThere, Lsn, counted},
    vocabulary::Loss,
};
use cdc_postgres::wal::{SegmentName, WalFile};

impl Coordinated {
    /// Copies what is missing in the archive: finished segments and histories into the archive, the last one, which is
    /// partial, into the salvage folder that replay looks into first.
    pub(super) async fn salvage(&mut self) -> Result<(), RecoveryError> {
        let view = self.view(true)?;
        let timeline = self.old_timeline;
        let readable = view.tail(timeline).await;
        // Without a fence the WAL is that of a server that goes on: what it wrote after the end was found is no loss.
        let fenced = self.pipeline.course.fences();
        if fenced && let Some(lost) = lost(self, &view, readable.as_ref())? {
            self.learned.change(|l| l.lost = Some(lost))?;
        }
        let mut tail = readable?;
        let last = self.segment_size.segment_of(tail.last);
        self.drop_stale(&view)?;
        let mut salvaged = Vec::new();
        for (name, path) in view.loose().iter().filter(|(_, path)| path.starts_with(self.old_wal())) {
            let finished = name.timeline == timeline && name.number(self.segment_size).is_some_and(|n| n < last);
            if finished {
                view.archive().add_segment(path, SegmentState::Complete)?;
            } else {
                self.keep(path, *name)?;
            }
            salvaged.push(name.to_string());
            moment::pass(HALF_WAY).await?;
        }
        for timeline in view.timelines() {
            let path = self.old_wal().join(WalFile::History(timeline).to_string());
            if is_there(&path)? && !view.archive().has(&WalFile::History(timeline))? {
                view.archive().add_segment(&path, SegmentState::Complete)?;
            }
        }
        // Clients also commit while segments are copied then: the end is what the copies hold.
        if !fenced {
            tail = self.view(false)?.tail(timeline).await?;
        }
        self.learned.change(|l| (l.salvaged, l.end) = (salvaged, Some(tail)))
    }

    /// Reads the end of the WAL again, from the archive and the salvage folder alone.
    pub(super) async fn salvaged(&self, step: &str) -> Result<String, RecoveryError> {
        let Some(end) = &self.learned.end else { return Err(RecoveryError::unmet(step, "a fixed end of WAL", "none")) };
        let found = self.view(false)?.tail(self.old_timeline).await?;
        // Without the fence the server goes on, and so does its archive.
        let moved = !self.pipeline.course.fences() && found.last > end.last;
        if found.last != end.last && !moved {
            return Err(RecoveryError::unmet(
                step,
                format!("the last valid record at {} without the old server's files", end.last),
                format!("{} ({})", found.last, found.ended),
            ));
        }
        let lost = self.learned.lost.as_ref().map(|l| format!("; accepted as lost: {l}")).unwrap_or_default();
        let copied = self.learned.salvaged.len();
        Ok(format!(
            "{} salvaged; the last valid record of timeline {} starts at {}{lost}",
            counted(copied, "segment"),
            self.old_timeline,
            end.last
        ))
    }

    /// Removes salvaged copies of segments that the server finished and archived after all.
    fn drop_stale(&self, view: &WalView) -> Result<(), RecoveryError> {
        let unlisted = |e| RecoveryError::io("list", &self.salvaged, e);
        let Some(entries) = self.salvaged.read_dir_utf8().if_there().map_err(unlisted)? else { return Ok(()) };
        for entry in entries {
            let entry = entry.map_err(unlisted)?;
            let Ok(file) = entry.file_name().parse::<WalFile>() else { continue };
            if view.archive().has(&file)? {
                std::fs::remove_file(entry.path()).map_err(|e| RecoveryError::io("remove", entry.path(), e))?;
            }
        }
        Ok(())
    }

    /// Keeps a copy that only the server's account can read: that of the data folder, which fetches it for replay.
    fn keep(&self, from: &Utf8Path, name: SegmentName) -> Result<(), RecoveryError> {
        // The repository's folder, or the one that holds the records of recoveries.
        let root = self.salvaged.ancestors().nth(2).unwrap_or(&self.salvaged);
        let store = Store::owned(root, self.owner.ids());
        store.folder(&self.salvaged)?;
        Ok(store.copy(from, &self.salvaged.join(name.to_string()))?)
    }
}

/// What of the old server's WAL cannot be read and is in no archive; an error unless the loss was accepted.
pub(super) fn lost(
    state: &Coordinated,
    view: &WalView,
    tail: Result<&Tail, &RecoveryError>,
) -> Result<Option<String>, RecoveryError> {
    // A target that was found lies before whatever is lost.
    if state.aim.at.is_some() {
        return Ok(None);
    }
    let Some(lost) = what_is_lost(state, view, tail)? else { return Ok(None) };
    if state.request.accept_loss.contains(&Loss::Wal) {
        return Ok(Some(lost));
    }
    Err(RecoveryError::Refused {
        what: lost,
        hint: format!(
            "every transaction acknowledged after that position is lost; agree to it with {}, or choose an earlier target",
            Loss::Wal.option()
        ),
    })
}

fn what_is_lost(
    state: &Coordinated,
    view: &WalView,
    tail: Result<&Tail, &RecoveryError>,
) -> Result<Option<String>, RecoveryError> {
    let timeline = state.old_timeline;
    let old = state.old_wal();
    let tail = match tail {
        Ok(tail) => tail,
        Err(error) => return Ok(Some(format!("no WAL of timeline {timeline} can be read: {error}"))),
    };
    let Some(control) = &state.control_data else {
        return Ok(Some(format!(
            "{}: the control file cannot be read; WAL is readable up to {}",
            state.pgdata, tail.last
        )));
    };
    if tail.last < control.checkpoint {
        return Ok(Some(format!(
            "WAL of timeline {timeline} between {} and at least {} (the server's last checkpoint): {}",
            tail.last, control.checkpoint, tail.ended
        )));
    }
    if let Some(at) = view.beyond(timeline, tail)? {
        return Ok(Some(format!(
            "WAL of timeline {timeline} after {}: {}, although there is WAL at {at}",
            tail.last, tail.ended
        )));
    }
    // The segment the server wrote last is always in its own folder, archived or not.
    let last: Lsn = tail.last;
    let name = SegmentName::of(timeline, last, state.segment_size);
    if !is_there(&old.join(name.to_string()))? {
        return Ok(Some(format!("{old} lacks segment {name}: WAL after {last}, the end of the archive, is unknown")));
    }
    Ok(None)
}
