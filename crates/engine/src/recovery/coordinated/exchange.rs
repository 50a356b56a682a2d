//! Two renames put the restored data folder into the place of the old one. How far they came is told by the folders.

use camino::{Utf8Path, Utf8PathBuf};

use super::record::{Goal, LEARNED, Learned, Restored};
use crate::{
    backup::is_there,
    recovery::{
        RecoveryError,
        memory::{Memory, Place},
    },
};
use cdc_model::units::IfThere;

/// How far the two renames came that put a restored data folder into the place of the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    /// The old folder is in its place, the restored one beside it.
    Before,
    /// The old one is set aside, and its place is empty.
    Half,
    /// The restored one is in the place.
    After,
}

impl Exchange {
    /// By the folders that are there. `restored` is what the record says of them.
    pub(super) fn of(pgdata: &Utf8Path, restored: &Restored) -> Result<Exchange, RecoveryError> {
        let Restored { fresh, aside, .. } = restored;
        match (is_there(pgdata)?, is_there(aside)?, is_there(fresh)?) {
            (true, false, true) => Ok(Exchange::Before),
            (false, true, true) => Ok(Exchange::Half),
            // Somebody may have removed what was set aside.
            (true, _, false) => Ok(Exchange::After),
            (old, set_aside, new) => Err(RecoveryError::impossible(
                pgdata.as_str(),
                format!("two of three folders: {pgdata}, {aside} and {fresh}"),
                format!("{}, {} and {}", word(old), word(set_aside), word(new)),
                "the recovery set the first aside as the second and put the third in its place; move them back to one of these states",
            )),
        }
    }
}

/// Where the data folder of the cluster stands: between the two renames, where the old one was set aside.
pub(crate) fn standing(memory: &Memory) -> Result<Utf8PathBuf, RecoveryError> {
    let goal: Goal = memory.decided()?;
    let learned: Learned = memory.learned(LEARNED)?.unwrap_or_default();
    Ok(match &learned.restored {
        Some(restored) if Exchange::of(&goal.pgdata, restored)? == Exchange::Half => restored.aside.clone(),
        _ => goal.pgdata,
    })
}

/// Whether the old data folder is set aside and the restored one is not in its place yet.
pub(crate) fn is_half_exchanged(memory: &Memory) -> Result<bool, RecoveryError> {
    Ok(standing(memory)? != memory.decided::<Goal>()?.pgdata)
}

/// Where the old data folder was set aside, or is about to be.
pub(crate) fn set_aside(memory: &Memory) -> Result<Option<Utf8PathBuf>, RecoveryError> {
    let learned: Option<Learned> = memory.learned(LEARNED)?;
    Ok(learned.and_then(|learned| learned.restored).map(|restored| restored.aside))
}

fn word(there: bool) -> &'static str {
    if there { "there" } else { "missing" }
}

/// A recovery that was killed between its last two renames leaves no data folder, and the old one beside it. What one has set aside
/// that ended well is older than what is gone now.
pub(super) fn refuse_half_exchanged(place: &Place, pgdata: &Utf8PathBuf) -> Result<(), RecoveryError> {
    let (Some(parent), Some(name)) = (pgdata.parent(), pgdata.file_name()) else { return Ok(()) };
    if is_there(pgdata)? {
        return Ok(());
    }
    let start = format!("{name}.aside-");
    let unlisted = |e| RecoveryError::io("list", parent, e);
    let Some(beside) = parent.read_dir_utf8().if_there().map_err(unlisted)? else { return Ok(()) };
    let mut aside = None;
    for entry in beside {
        let entry = entry.map_err(unlisted)?;
        if let Some(recovery) = entry.file_name().strip_prefix(&start)
            && !place.ended_well(recovery)?
        {
            aside = aside.max(Some(entry.into_path()));
        }
    }
    let Some(aside) = aside else { return Ok(()) };
    Err(RecoveryError::impossible(
        pgdata.as_str(),
        "a data folder",
        format!(
            "none; a recovery ended between setting the old one aside and putting the new one in its place: {aside}"
        ),
        format!("mv {aside} {pgdata}, and run the recovery again"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::{
        memory::{Ending, tests as memory_tests},
        server::{Replay, refuse_tablespaces},
    };

    #[test]
    fn the_folders_tell_how_far_the_exchange_came() {
        let made = tempfile::tempdir().unwrap();
        let folder = Utf8PathBuf::from_path_buf(made.path().to_owned()).unwrap();
        let (pgdata, fresh, aside) = (folder.join("data"), folder.join("data.restoring"), folder.join("data.aside"));
        let restored = Restored {
            replay: Replay::default(),
            timeline: cdc_model::units::Timeline::literal(2),
            switch: None,
            fresh: fresh.clone(),
            aside: aside.clone(),
            rows: 0,
        };
        for bits in 0..8u8 {
            for (bit, path) in [&pgdata, &aside, &fresh].into_iter().enumerate() {
                let _ = std::fs::remove_dir(path);
                if bits >> bit & 1 == 1 {
                    std::fs::create_dir(path).unwrap();
                }
            }
            let expected = match bits {
                0b101 => Some(Exchange::Before),
                0b110 => Some(Exchange::Half),
                0b011 | 0b001 => Some(Exchange::After),
                _ => None,
            };
            assert_eq!(Exchange::of(&pgdata, &restored).ok(), expected, "{bits:03b}");
        }
    }

    #[test]
    fn a_folder_between_two_renames_is_named() {
        let made = tempfile::tempdir().unwrap();
        let folder = Utf8PathBuf::from_path_buf(made.path().to_owned()).unwrap();
        let (pgdata, (_folder, place)) = (folder.join("data"), memory_tests::place());
        let refuse_half_exchanged = |pgdata| refuse_half_exchanged(&place, pgdata);
        assert!(refuse_half_exchanged(&pgdata).is_ok(), "another error's matter");
        let memory = memory_tests::begin(&place);
        fs_err::create_dir(folder.join(format!("data.aside-{}", memory.id()))).unwrap();
        assert!(refuse_half_exchanged(&pgdata).is_err(), "it did not end");
        memory.close(Ending::Verified).unwrap();
        assert!(refuse_half_exchanged(&pgdata).is_ok(), "what is gone now is what that recovery restored");
        for stamp in ["20261123T010000Z", "20261123T020000Z"] {
            fs_err::create_dir(folder.join(format!("data.aside-{stamp}"))).unwrap();
        }
        let error = refuse_half_exchanged(&pgdata).unwrap_err().to_string();
        assert!(error.contains("data.aside-20261123T020000Z"), "{error}");
        fs_err::create_dir(&pgdata).unwrap();
        assert!(refuse_half_exchanged(&pgdata).is_ok());
    }

    #[test]
    fn folders_that_cannot_be_looked_at_are_neither_absent_nor_empty() {
        let made = tempfile::tempdir().unwrap();
        let pgdata = Utf8PathBuf::from_path_buf(made.path().join("data")).unwrap();
        assert!(refuse_tablespaces(&pgdata).is_ok());
        fs_err::create_dir(&pgdata).unwrap();
        for looped in [pgdata.join("pg_tblspc"), pgdata.with_file_name("other")] {
            std::os::unix::fs::symlink(&looped, &looped).unwrap();
        }
        assert!(refuse_tablespaces(&pgdata).unwrap_err().to_string().contains("pg_tblspc"));
        let (_folder, place) = memory_tests::place();
        let error = refuse_half_exchanged(&place, &pgdata.with_file_name("other")).unwrap_err();
        assert!(error.to_string().contains("other"));
    }
}
