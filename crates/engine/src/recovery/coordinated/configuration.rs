//! Where the server's configuration is, and what becomes of it.

use camino::{Utf8Path, Utf8PathBuf};

use super::Coordinated;
use crate::{
    backup::{Point, is_there, parts::postgres::listed},
    recovery::{
        RecoveryError,
        server::{Configuration, MAIN, Outside},
    },
};
use cdc_pipeline::{client::postgres::Postgres, config::Config};

/// Where `postgresql.conf` is, if not in the data folder: as the configuration names it, as the server says that runs, as the
/// recovery point has it, in this order. Distributions keep it in a folder of its own, which no base backup holds.
pub(super) async fn config_file(
    config: &Config,
    pgdata: &Utf8Path,
    server: Option<&Postgres>,
    point: &Point,
) -> Result<Option<Utf8PathBuf>, RecoveryError> {
    let own = pgdata.join(MAIN);
    let named = match (&config.postgres.config_file, server) {
        (Some(named), _) => Some(named.clone()),
        (None, Some(session)) => session.configuration_outside().await?.map(Utf8PathBuf::from),
        (None, None) => point.postgres()?.config_file.clone(),
    };
    if let Some(named) = named.filter(|named| *named != own) {
        if named.starts_with(pgdata) {
            return Err(RecoveryError::impossible(
                named.as_str(),
                format!("the server's configuration in {own}, or outside the data folder"),
                "a file of another name in the data folder",
                "what lies in the data folder is restored with it; move the file out, or give it the usual name",
            ));
        }
        return Ok(Some(named));
    }
    if is_there(&own)? || server.is_some() || listed(point)?.contains_key(MAIN) {
        return Ok(None);
    }
    Err(RecoveryError::impossible(
        own.as_str(),
        "the server's configuration, here or where [postgres] config_file names it",
        "neither, and the server is down",
        "distributions keep it elsewhere: config_file = \"/etc/postgresql/<version>/<name>/postgresql.conf\" on Debian",
    ))
}

/// A server whose main file is neither here nor in the recovery point does not start.
pub(crate) fn refuse_no_configuration(config_file: Option<&Utf8Path>, outside: &Outside) -> Result<(), RecoveryError> {
    match config_file.filter(|file| outside.missing.iter().any(|missing| missing == file.as_str())) {
        None => Ok(()),
        Some(file) => Err(RecoveryError::impossible(
            file.as_str(),
            "the server's configuration, on this machine or in the recovery point",
            "neither",
            "write it again, or name another file in [postgres] config_file",
        )),
    }
}

impl Coordinated {
    /// Which files of the configuration are not what they were when the base backup was taken: they stay as they are now.
    pub(super) fn configuration_differs(&self) -> Result<Vec<String>, RecoveryError> {
        let now = Configuration::of(&self.pgdata, self.layout.config_file.is_some());
        let listed = listed(&self.point)?;
        let as_listed = |name: &Utf8Path, checksum: String| listed.get(name.as_str()) == Some(&Some(checksum));
        let differing = now.checksums().filter(|(name, checksum)| !as_listed(name, checksum.clone()));
        let differing: Vec<String> = differing.map(|(name, _)| name.to_string()).collect();
        if differing.is_empty() {
            return Ok(Vec::new());
        }
        let files = differing.join(", ");
        Ok(vec![format!("configuration changed since the recovery point, and kept as it is now: {files}")])
    }
}
