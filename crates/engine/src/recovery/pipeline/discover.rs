//! Finds everything that reads from a cluster or from its topics.

use std::{
    collections::{BTreeMap, BTreeSet},
    slice,
};

use super::{
    Pipeline, absent,
    active::groups_on,
    filled::Tables,
    found::{Found, Source},
    protected::is_protected,
    publication::publication_of,
    worker::{Worker, refuse_left_out},
};
use crate::{
    backup::{Point, Publication, SavedConnector},
    recovery::{Playbook, RecoveryError, Request},
};
use cdc_model::units::SlotName;
use cdc_pipeline::{
    client::{
        ClientError,
        cluster::Cluster,
        connect::Connect,
        kafka::{Kafka, TopicSpec},
        postgres::Postgres,
        registry::Registry,
    },
    config::Config,
};

/// What becomes possible under another name.
const RENAME: &str =
    "make it again under a name without `/`, `\\` and `%`: the worker of Kafka 4.0 and later takes no others";

impl Pipeline {
    /// Looks; touches nothing. `server` is the live cluster, where it lives; `point` stands in for what a dead one cannot
    /// tell. Refuses connectors that are left out of a recovery that concerns them.
    pub(crate) async fn discover(
        config: &Config,
        request: &Request,
        server: Option<&Postgres>,
        point: Option<&Point>,
    ) -> Result<Pipeline, RecoveryError> {
        let connect = Connect::of(&config.connect);
        let kafka = Kafka::of(&config.kafka)?;
        // Before the worker, which is of no use without it and does not say so.
        kafka.takes_connections().await?;
        let saved = point.and_then(|p| p.postgres().ok());
        let mut known = saved.map(|p| p.slots.clone()).unwrap_or_default();
        let slots = match server {
            Some(server) => server.slots().await?,
            None => known.clone(),
        };
        // One that is lost still tells whose it was.
        known.retain(|was| slots.iter().all(|is| is.name != was.name));
        known.extend(slots.iter().cloned());
        let system_id = match server {
            Some(server) => Some(server.system_id().await?),
            None => saved.map(|p| p.system_id),
        };
        let subscriptions = match server {
            Some(server) => subscriptions_of(server).await?,
            None => Vec::new(),
        };
        let mut worker = Worker::look(&connect).await?;
        let saved_connectors = absent::saved(point)?;
        let point_id = point.map(|p| p.id().to_string()).unwrap_or_default();
        let (absent, mut notes) = worker.lacks(&saved_connectors, &point_id);
        if request.restore_connectors {
            worker.connectors.extend(absent.iter().map(absent::as_described));
        }
        let there = kafka.topics().await?;
        let cluster = Cluster::new(&config.postgres.url, system_id, known).map_err(|_| {
            RecoveryError::impossible(
                "[postgres] url",
                "a PostgreSQL address",
                "something else",
                "postgres://user@host:port/database",
            )
        })?;
        let (mut sources, unidentified) = worker.sources_on(&cluster, request).await?;
        notes.extend(worker.changed_notes(&sources, &saved_connectors, &point_id));
        let missing = match request.restore_connectors {
            true => Vec::new(),
            false => worker.missing(&cluster, &absent).await,
        };
        if request.playbook != Playbook::Schema {
            absent::refuse_none(sources.len(), &missing, &point_id)?;
        }
        refuse_left_out(&sources, request)?;
        if sources.iter().any(Source::needs_registry) {
            // Without it the topics that are emptied cannot be filled again.
            Registry::of(&config.registry).subjects(false).await?;
        }
        let (mut writers, untold) = worker.writers(&connect, &absent).await?;
        notes.extend(untold);
        for source in &mut sources {
            let written = writers.entry(source.name.clone()).or_default().iter().cloned().collect();
            let tables = Tables::look(config, source, request, server, point).await?;
            let candidates = candidates(config, source, &worker, written, &there, point)?;
            source.divide(candidates, &tables);
        }
        let names: BTreeSet<String> = sources.iter().flat_map(|s| s.topics.iter().cloned()).collect();
        let names: Vec<String> = names.into_iter().collect();
        let sinks = worker.sinks_on(&names)?;
        let concerned = sources.iter().map(|s| &s.name).chain(sinks.iter().map(|s| &s.name));
        for name in concerned.clone() {
            refuse_unaddressable(&connect, name, RENAME).await?;
        }
        let restored = match request.restore_connectors {
            true => absent::restored(&absent, concerned),
            false => BTreeMap::new(),
        };
        notes.extend(restored.keys().map(|name| absent::restored_note(name, &point_id)));
        let read = |c: &&SavedConnector| c.kind == "sink" && c.topics.iter().any(|t| names.contains(t));
        let sinks_missing = absent.iter().filter(|_| !request.restore_connectors).filter(read);
        let missing = missing.into_iter().chain(sinks_missing);
        notes.extend(missing.map(|connector| absent::missing_note(connector, &names, &point_id)));
        let topics = specs(&kafka, &names, point).await?;
        let (groups, active) = groups_on(&kafka, &topics, &there, &sinks, false).await?;
        let used: BTreeSet<&SlotName> = sources.iter().map(|s| &s.slot).collect();
        let other_slots = slots.iter().filter(|s| !used.contains(&s.name)).cloned().collect();
        let histories: BTreeSet<String> = sources.iter().filter_map(|s| s.schema_history.clone()).collect();
        let histories = kafka.topic_specs(&histories.into_iter().collect::<Vec<_>>()).await?;
        let mut offsets = BTreeMap::new();
        for source in sources.iter().filter(|s| !restored.contains_key(&s.name)) {
            offsets.insert(source.name.clone(), connect.offsets(&source.name).await?);
        }
        let publications = match server {
            Some(_) => publications_of(config, &sources, request).await?,
            None => BTreeMap::new(),
        };
        let there: Vec<String> = topics.iter().map(|t| &t.name).filter(|n| there.contains_key(*n)).cloned().collect();
        let topic_ids = kafka.topic_ids(&there).await?;
        let found = Found {
            sources,
            sinks,
            topics,
            topic_ids,
            histories,
            groups,
            offsets,
            slots,
            other_slots,
            subscriptions,
            unidentified,
            publications,
            writers,
            restored,
            notes,
        };
        Ok(Pipeline { active, ..Pipeline::of(config, found)? })
    }
}

/// A connector that its worker cannot be asked about can neither be stopped nor resumed, nor be given offsets.
pub(crate) async fn refuse_unaddressable(connect: &Connect, name: &str, hint: &str) -> Result<(), RecoveryError> {
    match connect.addressable(name).await {
        Err(ClientError::Unaddressable { why, .. }) => Err(RecoveryError::impossible(
            format!("connector {name}"),
            "a name by which its worker stops and resumes it",
            format!("one that its worker refuses in an address: {why}"),
            hint,
        )),
        other => Ok(other?),
    }
}

/// The sources' publications, by connector. One that cannot be read because the catalogue is damaged is not known.
async fn publications_of(
    config: &Config,
    sources: &[Source],
    request: &Request,
) -> Result<BTreeMap<String, Publication>, RecoveryError> {
    let mut publications = BTreeMap::new();
    for source in sources {
        let url = &config.postgres.url;
        let looked = async {
            let session = Postgres::connect_database(url, &source.database, "cdc-drill-recovery").await?;
            publication_of(&session, &source.publication).await
        };
        match looked.await {
            Ok(found) => publications.extend(found.map(|found| (source.name.clone(), found))),
            Err(_) if request.playbook == Playbook::Coordinated => {}
            Err(error) => return Err(error),
        }
    }
    Ok(publications)
}

/// The topics that a source may have written: those that the worker remembers, and those that have a table's name.
fn candidates(
    config: &Config,
    source: &Source,
    worker: &Worker,
    written: Vec<String>,
    there: &BTreeMap<String, i32>,
    point: Option<&Point>,
) -> Result<BTreeSet<String>, RecoveryError> {
    let own = &source.capture.topics;
    let foreign = |topic: &str| {
        worker.topic_names().any(|(name, other)| name != source.name && own.are_preceded_by(&other, topic))
    };
    let start = own.start();
    // The transaction topic has one part more than the prefix; a table's has two.
    let of_table = |topic: &str| {
        let rest = topic.strip_prefix(&start).unwrap_or_default();
        rest.contains(own.delimiter.as_str()) && !foreign(topic)
    };
    let saved = match point {
        Some(point) => point.topics()?.into_iter().map(|t| t.spec.name).collect(),
        None => Vec::new(),
    };
    let named = written.into_iter().chain(there.keys().chain(saved.iter()).filter(|t| of_table(t)).cloned());
    let history = source.schema_history.as_deref();
    Ok(named
        .filter(|t| !is_protected(config, t, slice::from_ref(own)) && history != Some(t.as_str()))
        .filter(|t| there.contains_key(t) || saved.contains(t))
        .collect())
}

/// The topics' settings as they are now; the recovery point's for those that are gone.
async fn specs(kafka: &Kafka, names: &[String], point: Option<&Point>) -> Result<Vec<TopicSpec>, RecoveryError> {
    let mut specs = kafka.topic_specs(names).await?;
    if let Some(point) = point {
        let gone = |t: &TopicSpec| names.contains(&t.name) && !specs.iter().any(|s| s.name == t.name);
        let saved: Vec<TopicSpec> = point.topics()?.into_iter().map(|t| t.spec).filter(gone).collect();
        specs.extend(saved);
    }
    specs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(specs)
}

async fn subscriptions_of(server: &Postgres) -> Result<Vec<String>, RecoveryError> {
    let rows = server.texts("select subname from pg_subscription order by 1").await?;
    Ok(rows.into_iter().filter_map(|r| r.into_iter().next().flatten()).collect())
}
