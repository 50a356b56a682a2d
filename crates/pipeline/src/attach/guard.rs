//! The questions that come before any change.

use camino::Utf8Path;

use super::AttachError;
use crate::{
    client::{
        ClientError,
        connect::Connect,
        kafka::Kafka,
        postgres::{Found, Postgres},
    },
    config::{AttachConfig, Config, Permission},
};
use cdc_model::units::{IfThere, SystemId};
use cdc_postgres::control;

/// The word that the comment on the database must hold.
pub fn marker_comment(marker: &str) -> String {
    format!("cdc-drill-target={marker}")
}

/// The topic that must be there.
pub fn marker_topic(marker: &str) -> String {
    format!("cdc-drill-target.{marker}")
}

/// Requires that the configuration permits this kind of change, and that the pipeline is the one it was written for. Without
/// `[attach]` there is nothing to ask. Changes nothing.
pub async fn permit(config: &Config, what: Permission) -> Result<(), AttachError> {
    let Some(attach) = &config.attach else { return Ok(()) };
    let marker = permitted(attach, what)?;
    is_source(config, attach, Some(marker), &config.postgres.pgdata, what, None).await?;
    is_broker(config, attach, marker).await
}

/// The same for a recovery. `named` is the system identifier that was named for a cluster whose server and control file are gone; it
/// must be one of those listed.
pub async fn permit_recovery(config: &Config, named: Option<SystemId>) -> Result<(), AttachError> {
    let Some(attach) = &config.attach else { return Ok(()) };
    let marker = permitted(attach, Permission::Recover)?;
    let data = &config.postgres.pgdata;
    let source = is_source(config, attach, Some(marker), data, Permission::Recover, named).await;
    source.map_err(|error| match (error, named) {
        (AttachError::Client(silent @ ClientError::Unreachable { .. }), None) => {
            AttachError::Lost { pgdata: data.clone(), cause: silent }
        }
        (other, _) => other,
    })?;
    is_broker(config, attach, marker).await
}

/// The same for a recovery that began and did not end. Its database may have gone back to before it was marked, so the comment is not asked
/// for; `data` is where the cluster's data folder stands, `system_id` what the cluster was known by when the recovery began.
pub async fn permit_again(
    config: &Config,
    what: Permission,
    data: &Utf8Path,
    system_id: Option<SystemId>,
) -> Result<(), AttachError> {
    let Some(attach) = &config.attach else { return Ok(()) };
    let marker = permitted(attach, what)?;
    is_source(config, attach, None, data, what, system_id).await?;
    is_broker(config, attach, marker).await
}

/// What needs no question to a server; the marker's name.
fn permitted(attach: &AttachConfig, what: Permission) -> Result<&str, AttachError> {
    let listed = |all: &[Permission]| match all.is_empty() {
        true => "nothing: read-only".to_owned(),
        false => all.iter().map(|p| p.word()).collect::<Vec<_>>().join(", "),
    };
    if !attach.allow.contains(&what) {
        return Err(AttachError::refused(
            "[attach] allow",
            format!("`{}`", what.word()),
            listed(&attach.allow),
            format!("allow = [\"{}\"] permits it; ask whoever the pipeline belongs to", what.word()),
        ));
    }
    attach.marker.as_deref().filter(|m| !m.is_empty()).ok_or_else(|| {
        AttachError::refused(
            "[attach] marker",
            "the name that the pipeline carries",
            "none",
            "put it on the pipeline first: a comment on the database and a topic; docs/attach.md says how",
        )
    })
}

/// Requires that the server, or the data folder of one that gives no session, or else the cluster that was `named`, is one of those
/// listed, and that the database carries the marker, where one is given.
async fn is_source(
    config: &Config,
    attach: &AttachConfig,
    marker: Option<&str>,
    data: &Utf8Path,
    what: Permission,
    named: Option<SystemId>,
) -> Result<(), AttachError> {
    let session = match Postgres::find(&config.postgres.url, "cdc-drill guard").await {
        Found::Session(session) => session,
        // A recovery begins where the server is dead, or hangs; its folder still says who it was.
        Found::Silence(error) | Found::Unready(error) if what == Permission::Recover => {
            let id = control_file_id(data)?.or(named).ok_or(error)?;
            return listed("PostgreSQL system identifier", "system_ids", &attach.system_ids, &id.to_string());
        }
        // A database that was dropped carries no comment any more; the server says who it is, and the topic is asked for.
        Found::Refuses(error) if what == Permission::Recover => {
            let beside = Postgres::beside_a_dropped_database(&config.postgres.url).await.ok_or(error)?;
            let id = Postgres::connect(&beside, "cdc-drill guard").await?.system_id().await?;
            return listed("PostgreSQL system identifier", "system_ids", &attach.system_ids, &id.to_string());
        }
        Found::Silence(error) | Found::Unready(error) | Found::Refuses(error) => return Err(error.into()),
    };
    listed("PostgreSQL system identifier", "system_ids", &attach.system_ids, &session.system_id().await?.to_string())?;
    let Some(marker) = marker else { return Ok(()) };
    let sql = "select shobj_description(oid, 'pg_database') from pg_database where datname = current_database()";
    let comment = session.text(sql).await?.unwrap_or_default();
    let word = marker_comment(marker);
    if comment.split_whitespace().any(|w| w == word) {
        return Ok(());
    }
    Err(AttachError::refused(
        format!("comment on the database of {}", session.address()),
        format!("the word `{word}`"),
        if comment.is_empty() { "no comment".to_owned() } else { "a comment without it".to_owned() },
        "is this the right place? if so, `comment on database` puts the marker there",
    ))
}

/// The system identifier that a data folder's control file has; `None` where there is no such file.
fn control_file_id(pgdata: &Utf8Path) -> Result<Option<SystemId>, AttachError> {
    let read = control::system_id(pgdata).if_there();
    read.map_err(|cause| AttachError::ControlFile { path: control::file(pgdata), cause })
}

async fn is_broker(config: &Config, attach: &AttachConfig, marker: &str) -> Result<(), AttachError> {
    let kafka = Kafka::of(&config.kafka)?;
    let id = kafka.cluster_id().await?.unwrap_or_default();
    listed("Kafka cluster id", "clusters", &attach.clusters, &id)?;
    let topic = marker_topic(marker);
    if !kafka.topics().await?.contains_key(&topic) {
        return Err(AttachError::refused(
            format!("topics of {}", config.kafka.bootstrap),
            format!("topic `{topic}`"),
            "none of that name",
            "is this the right place? if so, make an empty topic of that name",
        ));
    }
    let root = Connect::of(&config.connect).root().await?;
    let workers = root["kafka_cluster_id"].as_str().unwrap_or("none");
    if workers != id {
        return Err(AttachError::refused(
            format!("Connect workers at {}", config.connect.url),
            format!("workers of Kafka cluster {id}"),
            format!("workers of {workers}"),
            "[kafka] and [connect] name different pipelines",
        ));
    }
    Ok(())
}

fn listed(what: &str, key: &str, all: &[String], found: &str) -> Result<(), AttachError> {
    if all.iter().any(|one| one == found) {
        return Ok(());
    }
    let expected = if all.is_empty() { format!("one that {key} lists; it lists none") } else { all.join(" or ") };
    let hint = format!("is this the right place? if so, list it in [attach] {key}");
    Err(AttachError::refused(what, expected, found, hint))
}

/// Requires that each of these lies in a listed namespace. `what` names their kind: `topic`.
pub fn within<'a>(config: &Config, what: &str, names: impl IntoIterator<Item = &'a str>) -> Result<(), AttachError> {
    let Some(attach) = &config.attach else { return Ok(()) };
    let inside = |name: &str| {
        attach.namespaces.iter().any(|n| name == n || name.strip_prefix(n).is_some_and(|rest| rest.starts_with('.')))
    };
    let strangers: Vec<&str> = names.into_iter().filter(|name| !inside(name)).collect();
    let Some(first) = strangers.first() else { return Ok(()) };
    let more = if strangers.len() > 1 { format!(" and {} more", strangers.len() - 1) } else { String::new() };
    let expected = match attach.namespaces.is_empty() {
        true => "a namespace that [attach] namespaces lists; it lists none".to_owned(),
        false => format!("one in {}", attach.namespaces.join(" or ")),
    };
    Err(AttachError::refused(
        what,
        expected,
        format!("`{first}`{more}"),
        "the change would touch what does not belong to this pipeline",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::Failure;
    use rstest::rstest;

    fn config(attach: &str) -> Config {
        let nobody = "127.0.0.1:1";
        let text = format!(
            "[postgres]\nurl='postgres://u@{nobody}/d'\n[kafka]\nbootstrap='{nobody}'\n[connect]\nurl='http://{nobody}'\n\
             [registry]\nurl='http://{nobody}'\nflavour='apicurio'\n[repository]\npath='/r'\n{attach}"
        );
        toml::from_str(&text).unwrap()
    }

    #[rstest]
    #[case("[attach]", "[attach] allow: expected `recover`, found nothing: read-only")]
    #[case("[attach]\nallow=['backup','inject']", "expected `recover`, found backup, inject")]
    #[case("[attach]\nallow=['recover']", "[attach] marker")]
    #[case("[attach]\nallow=['recover']\nmarker=''", "[attach] marker")]
    #[tokio::test]
    async fn what_is_not_permitted_is_refused_before_anybody_is_asked(#[case] attach: &str, #[case] part: &str) {
        let error = permit(&config(attach), Permission::Recover).await.unwrap_err();
        assert_eq!(error.exit().code(), 41, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }

    #[tokio::test]
    async fn a_dead_server_is_known_by_its_control_file_and_only_for_recovery() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("global")).unwrap();
        std::fs::write(folder.path().join("global/pg_control"), 77u64.to_le_bytes()).unwrap();
        let mut config = config("[attach]\nallow=['recover','backup']\nmarker='m'\nsystem_ids=['78']");
        config.postgres.pgdata = folder.path().to_str().unwrap().into();
        let error = permit(&config, Permission::Recover).await.unwrap_err().to_string();
        assert!(error.contains("PostgreSQL system identifier: expected 78, found 77"), "{error}");
        assert_eq!(permit(&config, Permission::Backup).await.unwrap_err().exit().code(), 13);
    }

    #[tokio::test]
    async fn a_control_file_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config("[attach]\nallow=['recover']\nmarker='m'\nsystem_ids=['78']");
        config.postgres.pgdata = folder.path().to_str().unwrap().into();
        let error = permit(&config, Permission::Recover).await.unwrap_err();
        assert!(matches!(error, AttachError::Client(_)), "no folder says who the server was: {error}");
        let lost = permit_recovery(&config, None).await.unwrap_err();
        assert!(lost.exit().code() == 41 && lost.in_full().contains("--system-id"), "{lost}");
        let other = permit_recovery(&config, Some(SystemId(77))).await.unwrap_err().to_string();
        assert!(other.contains("expected 78, found 77"), "{other}");
        let own = permit_recovery(&config, Some(SystemId(78))).await.unwrap_err().to_string();
        assert!(own.contains("Kafka"), "the cluster is known, and the brokers are asked: {own}");
        let looped = folder.path().join("global");
        std::os::unix::fs::symlink(&looped, &looped).unwrap();
        let error = permit(&config, Permission::Recover).await.unwrap_err();
        assert!(error.to_string().contains("global/pg_control"), "{error}");
        assert_eq!(error.exit().code(), 13);
    }

    #[test]
    fn a_namespace_ends_at_a_dot() {
        let config = config("[attach]\nnamespaces=['shop']");
        within(&config, "topic", ["shop", "shop.public.orders"]).unwrap();
        let error = within(&config, "topic", ["shop.a", "shopping.b", "c"]).unwrap_err().to_string();
        assert!(error.contains("topic: expected one in shop, found `shopping.b` and 1 more"), "{error}");
        within(&super::tests::config(""), "topic", ["anything"]).unwrap();
    }
}
