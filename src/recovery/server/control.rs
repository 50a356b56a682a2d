//! `pg_controldata`.

use camino::Utf8Path;

use crate::{config::Tools, recovery::RecoveryError, units::Lsn};

/// What a data folder's control file says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ControlData {
    /// The cluster's identity.
    pub(crate) system_id: String,
    /// The timeline of the last checkpoint.
    pub(crate) timeline: u32,
    /// Where the last checkpoint's record starts.
    pub(crate) checkpoint: Lsn,
    /// Bytes in a WAL segment.
    pub(crate) segment_size: u64,
}

impl ControlData {
    /// Asks the folder's own control file.
    pub(crate) async fn read(tools: &Tools, pgdata: &Utf8Path) -> Result<ControlData, RecoveryError> {
        let program = tools.name("pg_controldata");
        let wrong = |detail: String| RecoveryError::Program { program: program.clone(), detail };
        let output = tokio::process::Command::from(tools.command("pg_controldata", &[("LC_ALL", "C")]))
            .arg(pgdata.as_str())
            .output()
            .await
            .map_err(|e| wrong(e.to_string()))?;
        if !output.status.success() {
            return Err(wrong(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        ControlData::parse(&text).ok_or_else(|| wrong(format!("cannot understand what it says about {pgdata}")))
    }

    fn parse(text: &str) -> Option<ControlData> {
        let field = |name: &str| {
            text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':').map(str::trim).map(str::to_owned))
        };
        Some(ControlData {
            system_id: field("Database system identifier")?,
            timeline: field("Latest checkpoint's TimeLineID")?.parse().ok()?,
            checkpoint: field("Latest checkpoint location")?.parse().ok()?,
            segment_size: field("Bytes per WAL segment")?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_prefix_of_tools_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let tools = crate::backup::fixture::noting(Utf8Path::from_path(folder.path()).unwrap());
        assert!(ControlData::read(&tools, Utf8Path::new("/data")).await.is_err());
        assert_eq!(
            crate::backup::fixture::calls(Utf8Path::from_path(folder.path()).unwrap()),
            ["env LC_ALL=C /pg/bin/pg_controldata /data"]
        );
    }

    #[test]
    fn fields_are_found_by_name() {
        let text = "pg_control version number:            1800\nDatabase system identifier:           7412\n\
                    Latest checkpoint location:           0/3000060\nLatest checkpoint's REDO location:    0/3000028\n\
                    Latest checkpoint's TimeLineID:       2\nBytes per WAL segment:                16777216\n";
        let data = ControlData::parse(text).unwrap();
        assert_eq!((data.system_id.as_str(), data.timeline, data.checkpoint.0), ("7412", 2, 0x300_0060));
        assert_eq!(data.segment_size, 16 << 20);
    }
}
