//! Base backups that hold what has changed since another one: which one they add to, and how a data folder is made of them.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use crate::backup::{
    BackupError, Format, PassedOver, Point, Repository,
    bases::bases,
    files,
    format::layout::{BACKUP_MANIFEST, BASE},
    hash::sha256,
};
use cdc_model::units::{SystemId, counted};
use cdc_pipeline::{client::postgres::Postgres, config::Tools};
use cdc_postgres::{
    backup_manifest::{self, Listed},
    programs,
    version::Version,
};

/// So many base backups may stand on one another before a full one is taken.
const DEPTH: usize = 7;

/// What a base backup will hold.
#[derive(Debug)]
pub(super) enum Choice {
    /// Everything; why, where an incremental one was looked for.
    Full(Option<String>),
    /// What has changed since that of a point.
    Since(Box<Point>),
}

/// What the server says of itself that decides whether a base backup can add to another one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    pub(super) system_id: SystemId,
    pub(super) version: Version,
    pub(super) data_checksums: bool,
    /// Whether it notes which blocks change (`summarize_wal`).
    pub(super) summarizes: bool,
}

impl Server {
    pub(super) async fn of(pg: &Postgres) -> Result<Server, BackupError> {
        let version: Version = pg.value(Version::SQL).await?;
        let is_on =
            async |name: &str| Ok::<_, BackupError>(pg.text(&format!("show {name}")).await?.as_deref() == Some("on"));
        Ok(Server {
            system_id: pg.system_id().await?,
            version,
            data_checksums: is_on("data_checksums").await?,
            summarizes: version.has_incremental_backups() && is_on("summarize_wal").await?,
        })
    }
}

/// Chooses by itself: a server that notes which blocks change has asked for incremental base backups.
pub(super) fn choose(repository: &Repository, server: &Server) -> Result<Choice, BackupError> {
    if !server.summarizes || repository.format() == Format::One {
        return Ok(Choice::Full(None));
    }
    let finished: Vec<Result<Point, PassedOver>> = repository.finished()?;
    let of_server = |point: &Point| point.manifest.pg.get().is_some_and(|pg| pg.system_id == server.system_id);
    let Some(newest) = finished.into_iter().rev().find(|found| found.as_ref().map_or(true, of_server)) else {
        return Ok(Choice::Full(Some("there is none that it could add to".into())));
    };
    let newest = match newest {
        Ok(point) => point,
        Err(damaged) => return Ok(Choice::Full(Some(damaged.to_string()))),
    };
    if !repository.seal().unlock_if_named()? {
        let why = "what has changed since one that is encrypted is known to whoever has its identity".to_owned();
        return Ok(Choice::Full(Some(why)));
    }
    let below = bases(&newest)?;
    for point in below.iter().chain([&newest]) {
        if !point.has_its_files()? {
            return Ok(Choice::Full(Some(format!("files of {} are missing", point.id()))));
        }
    }
    match why_full(&newest, &below, server) {
        Some(why) => Ok(Choice::Full(Some(why))),
        None => Ok(Choice::Since(Box::new(newest))),
    }
}

/// Why nothing is added to the base backup of the newest point; none if something is.
fn why_full(newest: &Point, below: &[Point], server: &Server) -> Option<String> {
    let pg = newest.manifest.pg.get()?;
    if pg.version.major() != server.version.major() {
        return Some(format!("{} is of PostgreSQL {}", newest.id(), pg.version.major()));
    }
    if pg.data_checksums != server.data_checksums {
        return Some(format!("page checksums were switched on or off since {}", newest.id()));
    }
    if below.len() + 1 >= DEPTH {
        return Some(format!("{} stand on one another", counted(below.len() + 1, "base backup")));
    }
    let stored = |point: &Point| point.manifest.files.iter().filter(|f| f.path == BASE).map(|f| f.size).sum::<u64>();
    let increments: u64 = below.iter().skip(1).chain((!below.is_empty()).then_some(newest)).map(stored).sum();
    let full = stored(below.first().unwrap_or(newest));
    // All of them have to be kept and restored: then a full one costs less.
    (increments > full)
        .then(|| format!("what was added to {} takes more than it does", below.first().unwrap_or(newest).id()))
}

/// The bytes that a restore of a point reads: those of its base backup, and of all that it adds to.
pub(crate) fn bytes_to_restore(point: &Point) -> Result<u64, BackupError> {
    let below = bases(point)?;
    let facts = below.iter().chain([point]).filter_map(|point| point.manifest.pg.get());
    Ok(facts.map(|pg| pg.base_raw_bytes).sum())
}

/// The bytes that a restored data folder takes, with those that are needed beside it meanwhile, at most.
pub(crate) fn room_to_restore(point: &Point) -> Result<u64, BackupError> {
    let read = bytes_to_restore(point)?;
    let pg = point.postgres()?;
    Ok(match pg.adds_to {
        None => read,
        // What is linked takes no room: of the result that leaves what is put together of several sources.
        Some(_) if pg.version.combines_by_links() => read + read / 2,
        Some(_) => 2 * read,
    })
}

/// Makes a data folder, missing or empty, of extracted base backups, the full one first, by PostgreSQL's own program.
pub(super) fn combine(
    point: &Point,
    sources: &[Utf8PathBuf],
    tools: &Tools,
    into: &Utf8Path,
) -> Result<(), BackupError> {
    let pg = point.postgres()?;
    let tool = "pg_combinebackup";
    let paths: Vec<&Utf8Path> = sources.iter().map(Utf8PathBuf::as_path).collect();
    let mut command = tools.command(tool, &[("LC_ALL", "C")]);
    command.args(programs::combine_backups(&paths, into, pg.version.combines_by_links()));
    let output = command.output().map_err(BackupError::io("run", Utf8Path::new(&tools.name(tool))))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(BackupError::Tool {
            tool: tools.name(tool),
            status: output.status.to_string(),
            detail: programs::last_line(&said).to_owned(),
        });
    }
    Ok(())
}

/// What a data folder that was combined must hold, by the manifest that was written with it: it must be sound, reach as far as the point
/// does, name the same files, and agree with the point's own manifest about those that the point holds as they are.
pub(super) fn expected(point: &Point, folder: &Utf8Path) -> Result<BTreeMap<String, Listed>, BackupError> {
    let path = folder.join(backup_manifest::NAME);
    let wrong = |what: String| BackupError::malformed(&path, what);
    let bytes = files::read(&path)?;
    let (before, noted) = backup_manifest::vouched(&bytes).ok_or_else(|| wrong("it has no checksum".into()))?;
    let found = sha256(before);
    if found != noted {
        return Err(BackupError::checksum(&path, noted, found));
    }
    let own = point.file(BACKUP_MANIFEST)?;
    let own_path = point.folder.join(BACKUP_MANIFEST);
    let range = |bytes: &[u8]| backup_manifest::wal_range(bytes);
    let (combined, wanted) =
        (range(&bytes).map_err(&wrong)?, range(&own).map_err(|e| BackupError::malformed(&own_path, e))?);
    if combined != wanted {
        return Err(wrong(format!("its WAL is {combined:?}, and that of the point {wanted:?}")));
    }
    let there = backup_manifest::files(&bytes).map_err(&wrong)?;
    let own = backup_manifest::files(&own).map_err(|e| BackupError::malformed(&own_path, e))?;
    disagreement(&own, &there).map_or(Ok(there), |what| Err(wrong(what)))
}

/// What is wrong with the list of a combined folder's files, by that of the newest backup in it.
fn disagreement(own: &BTreeMap<String, Listed>, combined: &BTreeMap<String, Listed>) -> Option<String> {
    let mut names = std::collections::BTreeSet::new();
    for (name, listed) in own {
        let whole = backup_manifest::combined_name(name);
        let is_changed = whole.is_some() || name == backup_manifest::LABEL;
        let name = whole.as_ref().unwrap_or(name);
        match combined.get(name) {
            None => return Some(format!("it lacks {name}")),
            Some(found) if !is_changed && found != listed => return Some(format!("{name} is another file")),
            Some(_) => {}
        }
        names.insert(name.clone());
    }
    let stranger = combined.keys().find(|name| !names.contains(*name))?;
    Some(format!("{stranger} is not in the backup"))
}
