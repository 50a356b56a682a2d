//! Room on the file systems that a recovery writes to, counted before it begins.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt};

use camino::{Utf8Path, Utf8PathBuf};

use crate::recovery::RecoveryError;
use cdc_model::units::IfThere;
use cdc_pipeline::config::free_bytes;

/// Something that is going to be written.
#[derive(Clone, Debug)]
struct Need {
    what: String,
    folder: Utf8PathBuf,
    bytes: u64,
}

/// Everything that is going to be written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Room {
    needs: Vec<Need>,
}

/// One file system: what it has, and what it is to take.
#[derive(Debug)]
struct Volume {
    folder: Utf8PathBuf,
    free: u64,
    needs: Vec<Need>,
}

impl Room {
    /// Counts something that is written into a folder, which need not be there yet.
    pub(crate) fn need(&mut self, what: &str, folder: &Utf8Path, bytes: u64) {
        self.needs.push(Need { what: what.to_owned(), folder: folder.to_owned(), bytes });
    }

    /// Requires room for everything. What lies on one file system, whatever its folders are called, shares the room there.
    /// Where there is not, `leftovers` is asked for what could be removed.
    pub(crate) fn refuse_none(&self, leftovers: impl Fn() -> Vec<(Utf8PathBuf, u64)>) -> Result<(), RecoveryError> {
        let mut volumes: BTreeMap<u64, Volume> = BTreeMap::new();
        for need in &self.needs {
            let (folder, device) = nearest(&need.folder)?;
            let volume = match volumes.entry(device) {
                std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
                std::collections::btree_map::Entry::Vacant(new) => {
                    let free = free_bytes(&folder);
                    let free = free.map_err(|e| RecoveryError::io("look at free space of", &folder, e))?;
                    new.insert(Volume { folder, free, needs: Vec::new() })
                }
            };
            volume.needs.push(need.clone());
        }
        match volumes.values().find(|volume| volume.needed() > volume.free) {
            Some(volume) => Err(volume.too_small(&leftovers())),
            None => Ok(()),
        }
    }
}

impl Volume {
    fn needed(&self) -> u64 {
        self.needs.iter().map(|need| need.bytes).sum()
    }

    fn too_small(&self, leftovers: &[(Utf8PathBuf, u64)]) -> RecoveryError {
        let parts: Vec<String> =
            self.needs.iter().map(|n| format!("{} MB for {} in {}", megabytes(n.bytes), n.what, n.folder)).collect();
        let left: Vec<String> =
            leftovers.iter().map(|(path, bytes)| format!("{path} ({} MB)", megabytes(*bytes))).collect();
        let hint = match left.is_empty() {
            true => "make room there; the old data folder is kept beside the restored one".to_owned(),
            false => format!(
                "earlier recoveries left {}; `recover finish` removes what those that ended have set aside",
                left.join(", ")
            ),
        };
        RecoveryError::impossible(
            format!("free space of the file system of {}", self.folder),
            format!("{} MB: {}", megabytes(self.needed()), parts.join(", ")),
            format!("{} MB", self.free >> 20),
            hint,
        )
    }
}

/// Rounded up: nobody should read that nothing is needed.
fn megabytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// The folder itself or the nearest one above it that is there, and the file system that it is on.
fn nearest(folder: &Utf8Path) -> Result<(Utf8PathBuf, u64), RecoveryError> {
    for above in folder.ancestors().filter(|above| !above.as_str().is_empty()) {
        let meta = std::fs::metadata(above).if_there().map_err(|e| RecoveryError::io("look at", above, e))?;
        if let Some(meta) = meta {
            return Ok((above.to_owned(), meta.dev()));
        }
    }
    Err(RecoveryError::io("look at", folder, std::io::ErrorKind::NotFound.into()))
}

/// Bytes of everything in a folder that may change meanwhile, without what is below the names in `except`.
pub(crate) fn size_below(folder: &Utf8Path, except: &[&str]) -> Result<u64, RecoveryError> {
    let unlisted = |e| RecoveryError::io("list", folder, e);
    let Some(entries) = folder.read_dir_utf8().if_there().map_err(unlisted)? else { return Ok(0) };
    let mut bytes = 0;
    for entry in entries {
        let path = entry.map_err(unlisted)?.into_path();
        if except.contains(&path.file_name().unwrap_or_default()) {
            continue;
        }
        let meta = std::fs::symlink_metadata(&path).if_there().map_err(|e| RecoveryError::io("look at", &path, e))?;
        bytes += match meta {
            Some(meta) if meta.is_dir() => size_below(&path, &[])?,
            Some(meta) => meta.len(),
            None => 0,
        };
    }
    Ok(bytes)
}

/// What earlier recoveries left beside a data folder, known to a record or not: folders that were set aside or never put in place,
/// and WAL that was laid out.
pub(crate) fn left_beside(pgdata: &Utf8Path) -> Result<Vec<(Utf8PathBuf, u64)>, RecoveryError> {
    let parent = pgdata.parent().unwrap_or(pgdata);
    let name = pgdata.file_name().unwrap_or_default();
    let starts = [format!("{name}.aside-"), format!("{name}.restoring-"), ".wal-".to_owned()];
    let unlisted = |e| RecoveryError::io("list", parent, e);
    let mut found = Vec::new();
    for entry in parent.read_dir_utf8().if_there().map_err(unlisted)?.into_iter().flatten() {
        let entry = entry.map_err(unlisted)?;
        if starts.iter().any(|start| entry.file_name().starts_with(start.as_str())) {
            found.push((entry.path().to_owned(), size_below(entry.path(), &[])?));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::server::layout::tests::folder;
    use cdc_model::units::Failure;

    #[test]
    fn what_lies_on_one_file_system_shares_its_room() {
        let (_made, root) = folder();
        let free = free_bytes(&root).unwrap();
        let mut room = Room::default();
        room.need("the data folder", &root.join("not/there/yet"), free / 3 * 2);
        room.refuse_none(Vec::new).unwrap();
        room.need("salvaged WAL", &root, free / 3 * 2);
        let error = room.refuse_none(|| vec![(root.join("data.aside-x"), 5 << 20)]).unwrap_err();
        assert_eq!(error.exit(), cdc_model::units::Exit::PlanImpossible);
        let error = error.in_full();
        for part in ["the data folder", "salvaged WAL", "data.aside-x (5 MB)", "recover finish"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn each_file_system_is_looked_at() {
        let (_made, root) = folder();
        let mut room = Room::default();
        room.need("much", &root, 1);
        // Nothing can be stored there.
        room.need("something", Utf8Path::new("/proc/self/fdinfo"), 1);
        assert!(room.refuse_none(Vec::new).unwrap_err().to_string().contains("/proc/self/fdinfo"));
    }

    #[test]
    fn what_is_left_beside_a_data_folder_is_found_by_its_name() {
        let (_made, root) = folder();
        for name in ["data", "data.aside-1", "data.restoring-2", ".wal-x", "database", ".cdc-drill"] {
            std::fs::create_dir(root.join(name)).unwrap();
            std::fs::write(root.join(name).join("file"), "12345").unwrap();
        }
        let found = left_beside(&root.join("data")).unwrap();
        let names: Vec<_> = found.iter().map(|(path, bytes)| (path.file_name().unwrap(), *bytes)).collect();
        assert_eq!(names, [(".wal-x", 5), ("data.aside-1", 5), ("data.restoring-2", 5)]);
        assert_eq!(size_below(&root, &["data"]).unwrap(), 25);
    }
}
