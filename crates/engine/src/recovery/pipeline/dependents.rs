//! What depends on a cluster beside its connectors and goes wrong when the cluster goes back: servers that stream from it, and
//! registries that store in it. Looked at before anything is touched.

use std::collections::{BTreeMap, BTreeSet};

use super::Pipeline;
use crate::recovery::{RecoveryError, Request};
use cdc_model::vocabulary::Loss;
use cdc_pipeline::client::postgres::Postgres;

/// Each walsender, with the database it is connected to, which only `replication=database` has, and the slot it streams from.
const WALSENDERS: &str = "select r.pid::text, r.application_name, coalesce(r.client_hostname, host(r.client_addr)), r.state, \
    a.datname, s.slot_name, s.slot_type \
    from pg_stat_replication r left join pg_stat_activity a on a.pid = r.pid \
    left join pg_replication_slots s on s.active_pid = r.pid order by r.application_name, r.pid";

/// Databases that clients can connect to.
const DATABASES: &str = "select datname from pg_database where datallowconn order by 1";

/// The columns of tables that have the names of a registry's.
const COLUMNS: &str = "select n.nspname, c.relname, a.attname \
    from pg_class c join pg_namespace n on n.oid = c.relnamespace \
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
    where c.relkind in ('r', 'p') and c.relname in ('apicurio', 'content', 'versions')";

/// What tells the tables of an Apicurio registry from an application's of the same names: each table has one of these columns.
/// Registries before 3.0 wrote `prop_name`.
const REGISTRY_TABLES: [(&str, &[&str]); 3] =
    [("apicurio", &["propname", "prop_name"]), ("content", &["contentid"]), ("versions", &["globalid"])];

/// A process of the server that sends WAL, as `pg_stat_replication` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Walsender {
    pid: String,
    /// `application_name`; of a standby that is its `cluster_name`, or `walreceiver`.
    application: String,
    /// Where it is connected from; none for a socket of the server's own machine.
    client: Option<String>,
    /// `startup`, `catchup`, `streaming`, `backup` or `stopping`; none where this role may not see it.
    state: Option<String>,
    database: Option<String>,
    slot: Option<String>,
    /// Whether its slot is a logical one.
    logical: bool,
}

impl Walsender {
    fn of(row: Vec<Option<String>>) -> Walsender {
        let mut cells = row.into_iter();
        let mut next = || cells.next().flatten();
        Walsender {
            pid: next().unwrap_or_default(),
            application: next().unwrap_or_default(),
            client: next(),
            state: next(),
            database: next(),
            slot: next(),
            logical: next().as_deref() == Some("logical"),
        }
    }

    /// What becomes of the one that it sends to; nothing is said of the readers of logical slots, which are found otherwise, and of
    /// their sessions before they stream.
    fn note(&self) -> Option<String> {
        let idle = self.slot.is_none() && self.database.is_some() && self.state.as_deref() == Some("startup");
        if self.logical || idle {
            return None;
        }
        let name = match self.application.as_str() {
            "" => format!("without an application_name (process {})", self.pid),
            name => name.to_owned(),
        };
        let slot = self.slot.as_deref().map_or("no slot".to_owned(), |slot| format!("slot {slot}"));
        let client = self.client.as_deref().unwrap_or("a socket of the server's machine");
        let seen = match &self.state {
            Some(state) => format!("{name} (from {client}, state {state}, {slot})"),
            None => format!("{name} (address and state not shown to this role, {slot})"),
        };
        Some(match self.state.as_deref() {
            Some("backup") => {
                format!("{seen} takes a base backup of this server: it breaks off when the server stops")
            }
            _ => format!(
                "standby or WAL receiver {seen} streams from this server: it will not follow the restored server; make it anew from \
                 that, and keep its HA manager (Patroni, repmgr, pg_auto_failover) from promoting it while the server is down"
            ),
        })
    }
}

/// Where a registry stores.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RegistryStore {
    database: String,
    schema: String,
}

impl std::fmt::Display for RegistryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "database {}, schema {}", self.database, self.schema)
    }
}

/// The schemas among these columns (schema, table, column) in which an Apicurio registry has its tables.
fn registry_schemas(columns: &[(String, String, String)]) -> Vec<String> {
    let mut tables: BTreeMap<&str, BTreeSet<(&str, &str)>> = BTreeMap::new();
    for (schema, table, column) in columns {
        tables.entry(schema).or_default().insert((table, column));
    }
    let is_registry = |held: &BTreeSet<(&str, &str)>| {
        REGISTRY_TABLES.iter().all(|(table, any)| any.iter().any(|column| held.contains(&(*table, *column))))
    };
    tables.iter().filter(|(_, held)| is_registry(held)).map(|(schema, _)| (*schema).to_owned()).collect()
}

/// Requires that no registry loses what it was given, unless that loss is accepted. `gives_up` says whether the target leaves out what
/// the cluster has; at the end of its WAL a registry is down for the time of the recovery, and no more than that.
fn judge(stores: &[RegistryStore], gives_up: bool, accept_loss: bool) -> Result<Option<String>, RecoveryError> {
    if stores.is_empty() {
        return Ok(None);
    }
    let places: Vec<String> = stores.iter().map(ToString::to_string).collect();
    let places = places.join("; ");
    if !gives_up {
        return Ok(Some(format!(
            "the tables of an Apicurio registry ({places}) go to the end of the WAL with the cluster: the registry that uses them does not \
             answer while the server is down"
        )));
    }
    if accept_loss {
        return Ok(Some(format!(
            "accepted as lost: what the Apicurio registry in {places} has been given since the target; it goes back with the cluster"
        )));
    }
    Err(RecoveryError::impossible(
        places,
        "no registry that stores in the PostgreSQL cluster that goes back",
        "the tables of an Apicurio registry (its `sql` storage): schemas registered since the target would be lost, and their ids, \
         which records of topics name, given to others",
        format!(
            "move the registry's storage to another server (its export and import keep ids), or drop the tables if no registry uses them; \
             {} lets the registry go back with the cluster",
            Loss::Registry.option()
        ),
    ))
}

impl Pipeline {
    /// Notes the servers that stream from the cluster, and requires that no registry stores in it where the target `gives_up` what it
    /// has, unless the request accepts the loss. `server` is the live cluster; of one that does not answer the note says that neither
    /// was looked at.
    pub(crate) async fn plan_dependents(
        &mut self,
        request: &Request,
        gives_up: bool,
        server: Option<&Postgres>,
    ) -> Result<(), RecoveryError> {
        let Some(server) = server else {
            let unseen = "whether standbys stream from the server, and whether a registry stores in one of its databases, is not \
                          known, as it does not answer: a standby will not follow the restored server, and such a registry goes back with it";
            self.found.notes.push(unseen.to_owned());
            return Ok(());
        };
        let (stores, unseen) = self.registry_stores(server).await;
        let accepted = judge(&stores, gives_up, request.accept_loss.contains(&Loss::Registry))?;
        self.found.notes.extend(accepted.into_iter().chain(unseen));
        match server.texts(WALSENDERS).await {
            Ok(rows) => self.found.notes.extend(rows.into_iter().filter_map(|row| Walsender::of(row).note())),
            // A damaged catalogue is what such a recovery is for.
            Err(error) => {
                self.found.notes.push(format!("whether standbys stream from the server is not known: {error}"));
            }
        }
        Ok(())
    }

    /// The registries that store in the cluster, and the databases that could not be looked at.
    async fn registry_stores(&self, server: &Postgres) -> (Vec<RegistryStore>, Vec<String>) {
        let unseen = |of: &str, error| format!("whether a registry stores in {of} is not known: {error}");
        let databases = match server.texts(DATABASES).await {
            Ok(rows) => rows.into_iter().filter_map(|row| row.into_iter().next().flatten()),
            Err(error) => return (Vec::new(), vec![unseen("a database of the server", error)]),
        };
        let (mut stores, mut notes) = (Vec::new(), Vec::new());
        for database in databases {
            let columns = async {
                let session =
                    Postgres::connect_database(&self.config.postgres.url, &database, "cdc-drill-recovery").await?;
                session.texts(COLUMNS).await
            };
            match columns.await {
                Ok(rows) => {
                    let columns: Vec<_> = rows.into_iter().filter_map(column).collect();
                    let schemas = registry_schemas(&columns).into_iter();
                    stores.extend(schemas.map(|schema| RegistryStore { database: database.clone(), schema }));
                }
                Err(error) => notes.push(unseen(&format!("database {database}"), error)),
            }
        }
        (stores, notes)
    }
}

fn column(row: Vec<Option<String>>) -> Option<(String, String, String)> {
    let [schema, table, column] = <[Option<String>; 3]>::try_from(row).ok()?;
    Some((schema?, table?, column?))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use cdc_model::units::{Exit, Failure};

    fn row(cells: [&str; 7]) -> Vec<Option<String>> {
        cells.into_iter().map(|cell| (!cell.is_empty()).then(|| cell.to_owned())).collect()
    }

    #[rstest]
    #[case::standby(["7", "node2", "10.0.0.2", "streaming", "", "node2_slot", "physical"],
        Some("standby or WAL receiver node2 (from 10.0.0.2, state streaming, slot node2_slot) streams from this server"))]
    #[case::without_a_slot(["7", "walreceiver", "", "catchup", "", "", ""],
        Some("standby or WAL receiver walreceiver (from a socket of the server's machine, state catchup, no slot)"))]
    #[case::hidden_from_the_role(["7", "", "", "", "", "", ""],
        Some("without an application_name (process 7) (address and state not shown to this role, no slot)"))]
    #[case::about_to_stream(["7", "node2", "10.0.0.2", "startup", "", "", ""], Some("node2 (from 10.0.0.2, state startup"))]
    #[case::base_backup(["7", "pg_basebackup", "10.0.0.3", "backup", "", "", ""], Some("takes a base backup of this server"))]
    #[case::connector(["7", "Debezium Streaming", "10.0.0.4", "streaming", "shop", "cdc", "logical"], None)]
    #[case::connector_before_it_streams(["7", "Debezium Streaming", "10.0.0.4", "startup", "shop", "", ""], None)]
    #[case::physical_over_a_database(["7", "odd", "10.0.0.4", "streaming", "shop", "", ""], Some("receiver odd"))]
    fn who_streams_is_named_but_for_readers_of_logical_slots(#[case] cells: [&str; 7], #[case] part: Option<&str>) {
        let note = Walsender::of(row(cells)).note();
        match (part, &note) {
            (Some(part), Some(note)) => assert!(note.contains(part), "{note}"),
            (part, note) => assert_eq!((part, note), (None, &None)),
        }
    }

    fn columns(of: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
        of.iter().map(|(s, t, c)| ((*s).to_owned(), (*t).to_owned(), (*c).to_owned())).collect()
    }

    #[rstest]
    #[case::as_3_has_it(&[("a", "apicurio", "propname"), ("a", "content", "contentid"), ("a", "versions", "globalid")], &["a"])]
    #[case::as_2_has_it(&[("b", "apicurio", "prop_name"), ("b", "content", "contentid"), ("b", "versions", "globalid")], &["b"])]
    #[case::an_applications_own(&[("a", "content", "contentid"), ("a", "versions", "globalid")], &[])]
    #[case::of_the_same_name(&[("a", "apicurio", "id"), ("a", "content", "contentid"), ("a", "versions", "globalid")], &[])]
    #[case::over_several_schemas(&[("a", "apicurio", "propname"), ("b", "content", "contentid"), ("b", "versions", "globalid")], &[])]
    #[case::no_table(&[], &[])]
    fn a_registry_is_known_by_its_tables_in_one_schema(#[case] held: &[(&str, &str, &str)], #[case] schemas: &[&str]) {
        assert_eq!(registry_schemas(&columns(held)), schemas);
    }

    #[test]
    fn a_registry_goes_back_only_where_that_is_accepted() {
        let store = |database: &str| RegistryStore { database: database.into(), schema: "public".into() };
        assert_eq!(judge(&[], true, false).unwrap(), None);
        let stores = [store("registry"), store("other")];
        let both = "database registry, schema public; database other, schema public";
        let refused = judge(&stores, true, false).unwrap_err();
        let text = refused.in_full();
        assert_eq!(refused.exit(), Exit::PlanImpossible);
        assert!(text.contains(both) && text.contains("--accept-loss registry"), "{text}");
        let note = judge(&stores, true, true).unwrap().unwrap();
        assert!(note.starts_with("accepted as lost") && note.contains(both), "{note}");
        for accept_loss in [false, true] {
            let note = judge(&stores, false, accept_loss).unwrap().unwrap();
            assert!(note.contains(both) && !note.contains("lost"), "{note}");
        }
    }
}
