//! The committed list of sums, and the stamp that says a cache folder is whole.

use std::{collections::BTreeMap, fs::File, io::Read};

use camino::Utf8Path;
use sha2::{Digest, Sha256};

use crate::stack::StackError;
use cdc_model::units::{counted, hex};

/// The stamp's name in a finished cache folder.
const STAMP: &str = "stamp.json";

/// Checks every pinned file below `folder`. A file that was not pinned is refused too: it would land on a class path.
pub(super) fn check(folder: &Utf8Path, sums: &str) -> Result<(), StackError> {
    let mut pinned: BTreeMap<&str, &str> = BTreeMap::new();
    for (expected, file) in sums.lines().filter_map(|line| line.split_once("  ")) {
        pinned.insert(file, expected);
    }
    for file in files(folder)?.keys() {
        if !pinned.contains_key(file.as_str()) {
            return Err(StackError::Checksum {
                file: file.clone(),
                expected: "no such file".into(),
                found: "a file that is not pinned".into(),
            });
        }
    }
    for (file, expected) in pinned {
        let path = folder.join(file);
        let found = if path.exists() { sha256(&path)? } else { "no such file".to_owned() };
        if found != expected {
            return Err(StackError::Checksum { file: file.to_owned(), expected: expected.to_owned(), found });
        }
    }
    Ok(())
}

fn sha256(path: &Utf8Path) -> Result<String, StackError> {
    let failed = |e| StackError::io("read", path, e);
    let mut file = File::open(path).map_err(failed)?;
    let mut sha = Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(hex(&sha.finalize())),
            n => sha.update(&buffer[..n]),
        }
    }
}

/// Every file below a folder, by path relative to it, with its size.
pub(super) fn files(folder: &Utf8Path) -> Result<BTreeMap<String, u64>, StackError> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(next) = left.pop() {
        let failed = |e| StackError::io("list", &next, e);
        for entry in next.read_dir_utf8().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                left.push(entry.path().to_owned());
            } else if let Ok(relative) = entry.path().strip_prefix(folder) {
                let size = entry.metadata().map_err(failed)?.len();
                found.insert(relative.to_string(), size);
            }
        }
    }
    Ok(found)
}

/// Writes down what a finished folder holds.
pub(super) fn stamp(folder: &Utf8Path) -> Result<(), StackError> {
    let path = folder.join(STAMP);
    let text = serde_json::to_vec(&files(folder)?).unwrap_or_default();
    std::fs::write(&path, text).map_err(|e| StackError::io("write", &path, e))
}

/// Whether a folder still holds what its stamp says, by names and sizes; if not, what is wrong with it.
pub(super) fn whole(folder: &Utf8Path) -> Result<(), String> {
    let path = folder.join(STAMP);
    let text = std::fs::read(&path).map_err(|e| format!("{path}: {e}"))?;
    let stamped: BTreeMap<String, u64> = serde_json::from_slice(&text).map_err(|e| format!("{path}: {e}"))?;
    for (file, size) in stamped {
        match std::fs::symlink_metadata(folder.join(&file)) {
            Ok(meta) if meta.len() == size => {}
            Ok(meta) => {
                return Err(format!("{file}: expected {size}, found {}", meta.len(), size = counted(size, "byte")));
            }
            Err(e) => return Err(format!("{file}: {e}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::Failure;

    fn folder() -> (tempfile::TempDir, camino::Utf8PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let path = camino::Utf8PathBuf::from_path_buf(temp.path().to_owned()).unwrap();
        (temp, path)
    }

    // The sum of `abc`, from FIPS 180.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_right_file_passes_and_a_wrong_missing_or_strange_one_does_not() {
        let (_temp, path) = folder();
        std::fs::create_dir(path.join("d")).unwrap();
        std::fs::write(path.join("d/a"), "abc").unwrap();
        let sums = format!("{ABC}  d/a\n");
        check(&path, &sums).unwrap();
        std::fs::write(path.join("d/a"), "abd").unwrap();
        let error = check(&path, &sums).unwrap_err();
        assert!(error.to_string().contains("d/a") && error.to_string().contains(ABC), "{error}");
        assert_eq!(error.exit(), cdc_model::units::Exit::ChecksumMismatch);
        std::fs::remove_file(path.join("d/a")).unwrap();
        assert!(check(&path, &sums).unwrap_err().to_string().contains("no such file"));
        std::fs::write(path.join("d/a"), "abc").unwrap();
        std::fs::write(path.join("d/b"), "x").unwrap();
        assert!(check(&path, &sums).unwrap_err().to_string().contains("not pinned"));
    }

    #[test]
    fn a_stamp_notices_a_lost_and_a_cut_file() {
        let (_temp, path) = folder();
        std::fs::write(path.join("a"), "abc").unwrap();
        assert!(whole(&path).is_err());
        stamp(&path).unwrap();
        whole(&path).unwrap();
        std::fs::write(path.join("a"), "ab").unwrap();
        assert!(whole(&path).unwrap_err().contains("expected 3 bytes"));
        std::fs::remove_file(path.join("a")).unwrap();
        assert!(whole(&path).is_err());
    }
}
