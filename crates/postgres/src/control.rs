//! The control file of a data folder, and what `pg_controldata` prints of it.

use std::io::{self, Read};

use camino::{Utf8Path, Utf8PathBuf};

use cdc_model::units::{Lsn, SystemId, Timeline, system_id_text};

/// Where a data folder has its control file.
pub fn file(pgdata: &Utf8Path) -> Utf8PathBuf {
    pgdata.join("global/pg_control")
}

/// The system identifier of a data folder: the first eight bytes of its control file, in the byte order of the machine that wrote
/// them (x86-64 and arm64: little-endian).
pub fn system_id(pgdata: &Utf8Path) -> io::Result<SystemId> {
    let mut bytes = [0u8; 8];
    std::fs::File::open(file(pgdata))?.read_exact(&mut bytes)?;
    Ok(SystemId(u64::from_le_bytes(bytes)))
}

/// The same, of a control file that was read; none where it is too short.
pub fn system_id_in(bytes: &[u8]) -> Option<SystemId> {
    Some(SystemId(u64::from_le_bytes(*bytes.first_chunk()?)))
}

/// What a data folder's control file says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ControlData {
    /// The cluster's identity.
    #[serde(with = "system_id_text")]
    pub system_id: SystemId,
    /// The timeline of the last checkpoint.
    pub timeline: Timeline,
    /// Where the last checkpoint's record starts.
    pub checkpoint: Lsn,
    /// Bytes in a WAL segment.
    pub segment_size: u64,
    /// What the cluster was doing when the file was written: `shut down`, `in production`.
    #[serde(default)]
    pub state: String,
}

impl ControlData {
    /// Reads what `pg_controldata` prints with `LC_ALL=C`; `None` where something is missing.
    pub fn parse(text: &str) -> Option<ControlData> {
        let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':').map(str::trim));
        Some(ControlData {
            system_id: field("Database system identifier")?.parse().ok()?,
            timeline: field("Latest checkpoint's TimeLineID")?.parse().ok()?,
            checkpoint: field("Latest checkpoint location")?.parse().ok()?,
            segment_size: field("Bytes per WAL segment")?.parse().ok()?,
            state: field("Database cluster state")?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let text = "pg_control version number:            1800\nDatabase system identifier:           7412\n\
                    Database cluster state:               shut down\nLatest checkpoint location:           0/3000060\nLatest checkpoint's REDO location:    0/3000028\n\
                    Latest checkpoint's TimeLineID:       2\nBytes per WAL segment:                16777216\n";
        let data = ControlData::parse(text).unwrap();
        assert_eq!(
            (data.system_id, data.timeline, data.checkpoint.0),
            (SystemId(7412), Timeline::literal(2), 0x300_0060)
        );
        assert_eq!((data.segment_size, data.state.as_str()), (16 << 20, "shut down"));
        assert_eq!(ControlData::parse(&text.replace("TimeLineID", "timeline")), None);
    }

    #[test]
    fn a_control_file_begins_with_the_system_identifier() {
        let folder = tempfile::tempdir().unwrap();
        let pgdata = Utf8Path::from_path(folder.path()).unwrap();
        assert_eq!(system_id(pgdata).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::create_dir(pgdata.join("global")).unwrap();
        std::fs::write(file(pgdata), [&7412u64.to_le_bytes()[..], b"the rest"].concat()).unwrap();
        assert_eq!(system_id(pgdata).unwrap(), SystemId(7412));
        std::fs::write(file(pgdata), b"short").unwrap();
        assert_eq!(system_id(pgdata).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
