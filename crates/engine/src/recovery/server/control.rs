//! `pg_controldata`.

use camino::Utf8Path;

use crate::recovery::RecoveryError;
use cdc_model::units::IfThere;
use cdc_pipeline::config::Tools;
use cdc_postgres::{
    control::{self, ControlData},
    programs::PLAIN,
};

/// Asks a data folder's own control file.
pub(crate) async fn read_control_data(tools: &Tools, pgdata: &Utf8Path) -> Result<ControlData, RecoveryError> {
    let program = tools.name("pg_controldata");
    let wrong = |detail: String| RecoveryError::Program { program: program.clone(), detail };
    let output = tokio::process::Command::from(tools.command("pg_controldata", &PLAIN))
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

/// A data folder's control file; `None` where there is none. One that cannot be read may have changed or not.
pub(crate) fn control_file_in(pgdata: &Utf8Path) -> Result<Option<Vec<u8>>, RecoveryError> {
    let path = control::file(pgdata);
    std::fs::read(&path).if_there().map_err(|error| {
        RecoveryError::impossible(
            path.as_str(),
            "a control file that can be read, or none",
            error.to_string(),
            "it tells whether the old server has run meanwhile; move it out of the data folder if its disk is damaged",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_prefix_of_tools_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let tools = crate::backup::fixture::noting(folder);
        assert!(read_control_data(&tools, Utf8Path::new("/data")).await.is_err());
        let expected = "env TZ=UTC LC_ALL=C /pg/bin/pg_controldata /data";
        assert_eq!(crate::backup::fixture::calls(folder), [expected]);
    }

    #[test]
    fn a_control_file_that_cannot_be_read_is_not_one_that_has_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let pgdata = Utf8Path::from_path(folder.path()).unwrap();
        assert_eq!(control_file_in(pgdata).unwrap(), None);
        let looped = pgdata.join("global");
        std::os::unix::fs::symlink(&looped, &looped).unwrap();
        assert!(control_file_in(pgdata).unwrap_err().to_string().contains("global/pg_control"));
    }
}
