//! Checking the archived WAL of a cluster: every file by itself, and that none is missing between the first and the last.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use camino::Utf8PathBuf;

use super::{DefectKind, report::Findings};
use crate::backup::{
    BackupError,
    format::Format,
    pruned::Pruned,
    wal::{Archive, Head, Held, Index},
};
use cdc_model::units::{Timeline, counted};
use cdc_postgres::wal::{SegmentName, SegmentSize, WalFile};

/// What an archive holds.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// The files that are there and whole, as far as was looked.
    pub(super) intact: BTreeSet<WalFile>,
    /// How many files were looked at, and their bytes.
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) size: Option<SegmentSize>,
    /// Files that are known to be missing.
    missing: BTreeSet<WalFile>,
}

impl Survey {
    /// Takes every file for whole that is there.
    pub(super) fn by_names(files: &[Held]) -> Result<Survey, BackupError> {
        let intact = files.iter().map(|held| held.file).collect();
        Ok(Survey { size: Archive::size_of(files.iter())?, intact, ..Survey::default() })
    }

    /// The segments of a timeline that are whole.
    pub(super) fn segments(&self, timeline: Timeline) -> impl DoubleEndedIterator<Item = SegmentName> + '_ {
        self.intact.iter().filter_map(move |file| match file {
            WalFile::Segment(name) if name.timeline == timeline => Some(*name),
            _ => None,
        })
    }

    /// The timelines of which there is a whole segment, ascending.
    pub(super) fn timelines(&self) -> BTreeSet<Timeline> {
        let segments = self.intact.iter().filter(|file| matches!(file, WalFile::Segment(_)));
        segments.map(WalFile::timeline).collect()
    }
}

/// Looks at everything in an archive.
/// `other` is the archive in the other format, while an upgrade has not ended: its files are no strangers. What `pruned` covers may
/// be missing; where it is not known what was pruned, what is missing at the beginning may have been.
pub(super) fn survey(
    archive: &Archive,
    other: Option<&Archive>,
    deep: bool,
    pruned: Option<&Pruned>,
    found: &mut Findings,
) -> Result<Survey, BackupError> {
    let mut survey = Survey::default();
    let mut there = walk(archive, other, found)?;
    fill(archive, &mut there)?;
    match archive.format() {
        Format::One => by_index(archive, &there, deep, &mut survey, found)?,
        Format::Two => by_name(archive, &there, deep, pruned, &mut survey, found)?,
    }
    survey.size = match Archive::size_of(there.values().flatten()) {
        Ok(size) => size,
        // Every segment was found to be damaged.
        Err(BackupError::Checksum { .. } | BackupError::Malformed { .. }) => None,
        Err(error) => return Err(error),
    };
    holes(archive, &there, pruned, &mut survey, found);
    Ok(survey)
}

/// The files of the archive that are where they belong; strangers are found on the way.
fn walk(
    archive: &Archive,
    other: Option<&Archive>,
    found: &mut Findings,
) -> Result<BTreeMap<WalFile, Vec<Held>>, BackupError> {
    let mut there: BTreeMap<WalFile, Vec<Held>> = BTreeMap::new();
    let mut known: BTreeSet<Utf8PathBuf> = archive.own_files()?.into_iter().collect();
    if let Some(other) = other {
        known.extend(other.own_files()?);
        for timeline in other.timelines()? {
            known.extend(other.stored(timeline)?.into_iter().map(|held| held.path));
        }
    }
    for timeline in archive.timelines()? {
        for held in archive.stored(timeline)? {
            known.insert(held.path.clone());
            there.entry(held.file).or_default().push(held);
        }
    }
    // What was archived since the listing is no stranger either.
    found.strangers(archive.folder(), &|path| known.contains(path) || archive.is_place_of_one(path))?;
    Ok(there)
}

/// Adds segments that the listing passed by. They get their names in order: one that came while a folder was listed may be in the list
/// without its predecessors, which are there by now.
fn fill(archive: &Archive, there: &mut BTreeMap<WalFile, Vec<Held>>) -> Result<(), BackupError> {
    // Where every segment is damaged, no hole is looked for.
    let Ok(Some(size)) = Archive::size_of(there.values().flatten()) else { return Ok(()) };
    let mut ends: BTreeMap<Timeline, (u64, u64)> = BTreeMap::new();
    for file in there.keys() {
        if let WalFile::Segment(name) = file
            && let Some(number) = name.number(size)
        {
            let (first, last) = ends.entry(name.timeline).or_insert((number, number));
            (*first, *last) = (number.min(*first), number.max(*last));
        }
    }
    for (timeline, (first, last)) in ends {
        for number in first..=last {
            let file = WalFile::Segment(SegmentName::new(timeline, number, size));
            if let Entry::Vacant(entry) = there.entry(file) {
                let copies = archive.stored_copies(&file)?;
                if !copies.is_empty() {
                    entry.insert(copies);
                }
            }
        }
    }
    Ok(())
}

/// Format 2: an object says itself what it is.
fn by_name(
    archive: &Archive,
    there: &BTreeMap<WalFile, Vec<Held>>,
    deep: bool,
    pruned: Option<&Pruned>,
    survey: &mut Survey,
    found: &mut Findings,
) -> Result<(), BackupError> {
    for (file, copies) in there {
        let mut whole: Vec<&Held> = Vec::new();
        for held in copies {
            survey.files += 1;
            survey.bytes += held.size;
            match held.inspect(archive.system_id(), deep) {
                Ok(()) => whole.push(held),
                Err(error) => found.absorb(error)?,
            }
        }
        if whole.len() < 2 {
            survey.intact.extend(whole.first().map(|_| *file));
            continue;
        }
        let contents: Result<BTreeSet<String>, BackupError> = whole.iter().map(|held| held.content()).collect();
        match contents?.len() {
            1 => {
                survey.intact.insert(*file);
                for held in &whole[1..] {
                    found.defect(
                        DefectKind::Incomplete,
                        &held.path,
                        "one object for each file",
                        "another of this file",
                    );
                }
            }
            _ => {
                for held in &whole {
                    found.defect(DefectKind::Checksum, &held.path, "one content for each file", "two that differ");
                }
            }
        }
    }
    let head = match archive.head() {
        Ok(head) => head,
        Err(error) => {
            found.absorb(error)?;
            return Ok(());
        }
    };
    let Some(head) = head else {
        if !there.is_empty() {
            let path = archive.head_path();
            found.defect(DefectKind::Incomplete, path, "a note of what was archived last", "nothing");
        }
        return Ok(());
    };
    let lasts: BTreeSet<&str> = head.segments.values().map(|ends| ends.last.as_str()).collect();
    for object in head.objects() {
        let Some(file) = Head::file_of(object) else { continue };
        let may_be_gone = match (pruned, file) {
            (Some(pruned), _) => pruned.covers_wal(archive.system_id(), &file),
            (None, WalFile::History(_)) => false,
            (None, _) => !lasts.contains(object),
        };
        // One that is not in the listing may have been archived since.
        if !there.contains_key(&file) && !may_be_gone && archive.stored_copies(&file)?.is_empty() {
            let folder = archive.place(&file);
            let path = folder.with_file_name(object);
            found.defect(DefectKind::WalGap, path, "what was archived", "nothing");
            survey.missing.insert(file);
        }
    }
    Ok(())
}

/// Format 1: the index of a timeline says what each of its files is. Where the two disagree, what the file itself says tells which
/// of them is damaged.
fn by_index(
    archive: &Archive,
    there: &BTreeMap<WalFile, Vec<Held>>,
    deep: bool,
    survey: &mut Survey,
    found: &mut Findings,
) -> Result<(), BackupError> {
    for timeline in archive.timelines()? {
        let index: Index = archive.read_index(timeline)?;
        let files: Vec<&Held> =
            there.iter().filter(|(file, _)| file.timeline() == timeline).flat_map(|(_, held)| held).collect();
        if index.is_missing && !files.is_empty() {
            let names = format!("a line for {}", counted(files.len(), "file"));
            found.defect(DefectKind::Incomplete, &index.path, names, "nothing");
            continue;
        }
        for number in &index.unreadable {
            found.defect(DefectKind::Checksum, &index.path, "an index", format!("line {number}, which is none"));
        }
        for (file, line) in &index.lines {
            if !there.contains_key(file) {
                // A line whose name was changed names a file that never was.
                let at = line.wrong_name(file);
                match at {
                    Some(wrong) => found.defect(DefectKind::Checksum, &index.path, "an index", wrong),
                    None => found.defect(DefectKind::WalGap, archive.place(file), "what was archived", "nothing"),
                }
                survey.missing.insert(*file);
            }
        }
        for held in files {
            survey.files += 1;
            survey.bytes += held.size;
            match held.judged_by_index(archive.system_id(), deep, &index) {
                Ok(None) => {
                    survey.intact.insert(held.file);
                }
                Ok(Some(wrong)) => {
                    survey.intact.insert(held.file);
                    found.defect(DefectKind::Checksum, &index.path, "an index", wrong);
                }
                Err(error) => found.absorb(error)?,
            }
        }
    }
    Ok(())
}

/// What is missing between the first and the last segment of each timeline.
fn holes(
    archive: &Archive,
    there: &BTreeMap<WalFile, Vec<Held>>,
    pruned: Option<&Pruned>,
    survey: &mut Survey,
    found: &mut Findings,
) {
    let Some(size) = survey.size else { return };
    let mut numbers: BTreeMap<Timeline, BTreeSet<u64>> = BTreeMap::new();
    for file in there.keys().chain(&survey.missing) {
        if let WalFile::Segment(name) = file
            && let Some(number) = name.number(size)
        {
            numbers.entry(name.timeline).or_default().insert(number);
        }
    }
    for (timeline, mut numbers) in numbers {
        let first_kept = pruned.and_then(|pruned| pruned.first_kept(archive.system_id(), timeline)?.number(size));
        if let Some(first) = first_kept {
            // What is there before it is about to go, and nothing that is missing there is missed.
            numbers.retain(|number| *number >= first);
            if let Some(next) = numbers.first().copied() {
                for number in first..next {
                    let file = WalFile::Segment(SegmentName::new(timeline, number, size));
                    found.defect(DefectKind::WalGap, archive.place(&file), format!("segment {file}"), "nothing");
                }
            }
        }
        let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else { continue };
        for number in (*first..=*last).filter(|number| !numbers.contains(number)) {
            let file = WalFile::Segment(SegmentName::new(timeline, number, size));
            found.defect(DefectKind::WalGap, archive.place(&file), format!("segment {file}"), "nothing");
        }
        let history = WalFile::History(timeline);
        let known = there.contains_key(&history) || survey.missing.contains(&history);
        if timeline != Timeline::FIRST && !known {
            found.defect(DefectKind::WalGap, archive.place(&history), "the history of the timeline", "nothing");
        }
    }
}
