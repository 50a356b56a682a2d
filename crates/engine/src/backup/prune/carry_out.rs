//! Removing what was decided to go, in steps that can be cut anywhere: first `pruned.json` says what goes, then it goes. Of a point the
//! manifest goes first: what is left of it is no point to anyone.

use std::collections::BTreeMap;

use super::{
    act::Act,
    decide::Decision,
    stock::{Stock, WalStock, segment_of},
};
use crate::backup::{BackupError, place, pruned::Tombstone, storage};
use cdc_model::units::{SystemId, Timeline};
use cdc_postgres::wal::{SegmentName, SegmentSize, WalFile};

/// The archived files that go, with their bytes.
pub(super) fn wal_going<'a>(stock: &'a Stock, decision: &Decision) -> Vec<(SystemId, &'a WalStock)> {
    let mut going = Vec::new();
    for (system_id, files) in &stock.wal {
        let mut ends: BTreeMap<Timeline, SegmentName> = BTreeMap::new();
        for file in files.iter().filter(|file| decision.takes(*system_id, file)) {
            if let (WalFile::Segment(name), false) = (file.file, file.is_salvaged) {
                let end = ends.entry(name.timeline).or_insert(name);
                *end = name.max(*end);
            }
        }
        let of_pruned = |file: &&WalStock| {
            let Some(name) = segment_of(&file.file) else { return false };
            // What is about segments goes with them, not before: nothing else would say that it was pruned.
            decision.takes(*system_id, file)
                && (file.is_salvaged
                    || ends.get(&name.timeline).is_some_and(|end| name <= *end)
                    || stock.pruned.covers_wal(*system_id, &file.file))
        };
        going.extend(files.iter().filter(of_pruned).map(|file| (*system_id, file)));
    }
    going
}

/// Everything that has to be done; nothing where nothing goes.
pub(super) fn acts(stock: &Stock, decision: &Decision, now: jiff::Timestamp) -> Result<Vec<Act>, BackupError> {
    let mut pruned = stock.pruned.clone();
    pruned.at = now.to_string();
    let mut folders = stock.unremoved_folders.clone();
    for (at, why) in &decision.going {
        let point = &stock.points[*at];
        folders.push(point.folder.clone());
        let tombstone = Tombstone {
            manifest: point.manifest.clone(),
            number: point.number,
            begin: point.begin_text.clone(),
            kind: point.kind,
            bytes: point.bytes,
            why: *why,
            at: now.to_string(),
        };
        pruned.points.insert(point.id.clone(), tombstone);
    }
    let wal = wal_going(stock, decision);
    for (system_id, file) in &wal {
        if let (WalFile::Segment(name), false) = (file.file, file.is_salvaged)
            && let Some(after) = stock.segment_sizes.get(system_id).and_then(|size| after(name, *size))
        {
            pruned.keep_from(*system_id, after);
        }
    }
    if folders.is_empty() && wal.is_empty() {
        return Ok(Vec::new());
    }
    let mut acts = vec![Act::Announce(pruned)];
    for folder in folders {
        let manifests = place::manifests(&folder)?.into_iter().map(|(path, _)| Act::File(path));
        acts.extend(manifests);
        acts.extend(storage::files_below(&folder)?.into_iter().map(|(path, _)| Act::File(path)));
        acts.push(Act::Folder(folder));
    }
    acts.extend(wal.into_iter().map(|(_, file)| Act::File(file.path.clone())));
    Ok(acts)
}

fn after(name: SegmentName, size: SegmentSize) -> Option<SegmentName> {
    Some(SegmentName::new(name.timeline, name.number(size)? + 1, size))
}
