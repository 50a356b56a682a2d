//! The manifest that a base backup ends with (`backup_manifest`): its files, and the WAL that it needs.

use std::collections::BTreeMap;

use serde::Deserialize;

use cdc_model::units::{Lsn, Timeline};

/// The manifest's name within a backup.
pub const NAME: &str = "backup_manifest";
/// What the name of a file begins with of which an incremental backup holds the changed blocks.
pub const INCREMENTAL: &str = "INCREMENTAL.";
/// The name of the file that says where replay begins.
pub const LABEL: &str = "backup_label";

/// The WAL a backup needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct WalRange {
    /// The timeline on which the backup ended.
    #[serde(rename = "Timeline")]
    pub timeline: Timeline,
    /// Where the WAL begins.
    #[serde(rename = "Start-LSN")]
    pub start: Lsn,
    /// Where it ends.
    #[serde(rename = "End-LSN")]
    pub end: Lsn,
}

/// The size of a file and its SHA-256, where the manifest has one.
pub type Listed = (u64, Option<String>);

/// The WAL that a manifest names.
pub fn wal_range(manifest: &[u8]) -> Result<WalRange, String> {
    #[derive(Deserialize)]
    struct Ranges {
        #[serde(rename = "WAL-Ranges")]
        ranges: Vec<WalRange>,
    }
    if manifest.is_empty() {
        return Err("the base backup holds no backup_manifest".into());
    }
    let ranges: Ranges = serde_json::from_slice(manifest).map_err(|e| e.to_string())?;
    let (first, last) = ranges.ranges.first().zip(ranges.ranges.last()).ok_or("it names no WAL")?;
    Ok(WalRange { timeline: last.timeline, start: first.start, end: last.end })
}

/// What a manifest's last line vouches for: the bytes before it, and their SHA-256 in hexadecimal digits; none where there is no
/// such line.
pub fn vouched(manifest: &[u8]) -> Option<(&[u8], String)> {
    const LINE: &[u8] = b"\"Manifest-Checksum\"";
    let at = manifest.windows(LINE.len()).rposition(|window| window == LINE)?;
    let line = std::str::from_utf8(&manifest[at + LINE.len()..]).ok()?;
    let noted = line.trim_start_matches([':', ' ', '"']).split('"').next()?;
    Some((&manifest[..at], noted.to_owned()))
}

/// The file that a file of an incremental backup becomes when it is combined with the backups before it: `base/1/INCREMENTAL.2619` is
/// `base/1/2619`; none for a file that the backup holds as it is.
pub fn combined_name(name: &str) -> Option<String> {
    let (folder, file) = name.rsplit_once('/').map_or(("", name), |(folder, file)| (folder, file));
    let file = file.strip_prefix(INCREMENTAL)?;
    Some(if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") })
}

/// The files that a manifest names, by their paths below the data folder.
pub fn files(manifest: &[u8]) -> Result<BTreeMap<String, Listed>, String> {
    #[derive(Deserialize)]
    struct BackupManifest {
        #[serde(rename = "Files")]
        files: Vec<ManifestFile>,
    }

    #[derive(Deserialize)]
    struct ManifestFile {
        #[serde(rename = "Path", default)]
        path: Option<String>,
        /// For names that are not UTF-8.
        #[serde(rename = "Encoded-Path", default)]
        encoded_path: Option<String>,
        #[serde(rename = "Size")]
        size: u64,
        #[serde(rename = "Checksum-Algorithm", default)]
        algorithm: Option<String>,
        #[serde(rename = "Checksum", default)]
        checksum: Option<String>,
    }
    let manifest: BackupManifest = serde_json::from_slice(manifest).map_err(|e| e.to_string())?;
    let mut expected = BTreeMap::new();
    for file in manifest.files {
        let Some(path) = file.path else {
            return Err(format!("file name that is not UTF-8: {}", file.encoded_path.unwrap_or_default()));
        };
        let sha256 = file.checksum.filter(|_| file.algorithm.as_deref() == Some("SHA256"));
        expected.insert(path, (file.size, sha256));
    }
    Ok(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_vouches_for_what_is_before_it() {
        let manifest = b"{ \"Files\": [],\n\"Manifest-Checksum\": \"0a1b\"}\n";
        assert_eq!(vouched(manifest), Some((&b"{ \"Files\": [],\n"[..], "0a1b".to_owned())));
        assert_eq!(vouched(b"{ \"Files\": []}"), None);
        assert_eq!(vouched(b""), None);
    }

    #[test]
    fn changed_blocks_are_of_the_file_beside() {
        assert_eq!(combined_name("base/5/INCREMENTAL.2619_fsm").as_deref(), Some("base/5/2619_fsm"));
        assert_eq!(combined_name("INCREMENTAL.x").as_deref(), Some("x"));
        assert_eq!(combined_name("base/5/2619"), None);
        assert_eq!(combined_name("INCREMENTAL.d/2619"), None);
    }

    #[test]
    fn positions_come_from_the_manifest() {
        let text = br#"{"PostgreSQL-Backup-Manifest-Version": 2, "Files": [], "WAL-Ranges": [
            {"Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000120"}], "Manifest-Checksum": "x"}"#;
        let range = wal_range(text).unwrap();
        assert_eq!((range.timeline, range.start, range.end), (Timeline::FIRST, Lsn(0x2000028), Lsn(0x2000120)));
        assert!(wal_range(b"").is_err());
        assert!(wal_range(br#"{"WAL-Ranges": []}"#).is_err());
    }
}
