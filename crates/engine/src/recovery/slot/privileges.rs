//! What the role may do, asked before anything is touched: a privilege that is missing half-way leaves a pipeline that stands
//! still.

use std::collections::BTreeSet;

use super::diagnosis::Diagnosis;
use crate::{
    backup::PublishedTable,
    recovery::{
        RecoveryError,
        pipeline::{PublicationChange, PublicationRepair, Source, captured_tables, publication_repair},
        repair::Repair,
    },
};
use cdc_model::units::TableName;
use cdc_pipeline::client::postgres::Postgres;
use cdc_postgres::{sql::literal, version::Version};

/// What the role may do with a captured table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Table {
    name: TableName,
    reads: bool,
    /// It may lock the table against writers.
    locks: bool,
}

/// What the role may do in a source's database, beside what the playbook has to do there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rights {
    superuser: bool,
    /// It may create objects in the database.
    creates: bool,
    /// It is the publication's owner, or a member of it.
    owns_publication: bool,
    /// The tables of which it is the owner, or a member of it.
    owned: BTreeSet<TableName>,
    drops_slots: bool,
    /// The slot is there and must be dropped.
    slot: bool,
    /// A stranger's session that it may not end.
    stranger: Option<i32>,
    tables: Vec<Table>,
}

/// Requires what the playbook needs on the pipeline as it is; `diagnosed` is what was found wrong with each source, and
/// `compensates` whether deletes are written instead of emptied topics.
pub(crate) async fn refuse_unprivileged(
    repair: &Repair,
    diagnosed: &[(String, Vec<Diagnosis>)],
    compensates: bool,
) -> Result<(), RecoveryError> {
    for source in &repair.pipeline.sources {
        let server = repair.pipeline.session(source).await?;
        let found = diagnosed.iter().find(|(name, _)| *name == source.name).map_or(&[][..], |(_, found)| found);
        let publication = publication_repair(&server, source, repair.point.as_ref()).await?;
        let lacking = rights(&server, source, found).await?.lacking(&publication, compensates);
        if !lacking.is_empty() {
            let role = server.text("select current_user").await?.unwrap_or_default();
            return Err(RecoveryError::impossible(
                format!("role {role} in {}", server.address()),
                format!("the privileges to replace the slot of connector {}", source.name),
                format!("none for: {}", lacking.join("; ")),
                "grant what is missing, or name another role in [postgres] url",
            ));
        }
    }
    Ok(())
}

async fn rights(server: &Postgres, source: &Source, diagnosed: &[Diagnosis]) -> Result<Rights, RecoveryError> {
    let is = |answer: Option<String>| answer.as_deref() == Some("t");
    let owner = format!(
        "select pg_has_role(pubowner, 'usage') from pg_publication where pubname = {}",
        literal(&source.publication)
    );
    let slots = server.slots().await?;
    let stranger = diagnosed.iter().find_map(|d| match d {
        Diagnosis::Stolen { pid, .. } => Some(*pid),
        _ => None,
    });
    Ok(Rights {
        superuser: is(server.text("select rolsuper from pg_roles where rolname = current_user").await?),
        creates: is(server.text("select has_database_privilege(current_database(), 'create')").await?),
        owns_publication: is(server.text(&owner).await?),
        owned: owned(server).await?,
        drops_slots: server.may_drop_slots().await?,
        slot: slots.iter().any(|slot| slot.name == source.slot),
        stranger: match stranger {
            Some(pid) if !may_end(server, pid).await? => Some(pid),
            _ => None,
        },
        tables: tables(server, source).await?,
    })
}

/// As `pg_terminate_backend` decides it. A session that has ended needs no ending.
async fn may_end(server: &Postgres, pid: i32) -> Result<bool, RecoveryError> {
    let sql = format!(
        "select me.rolsuper or not them.rolsuper and (pg_has_role(them.oid, 'usage') or pg_has_role('pg_signal_backend', 'usage')) \
         from pg_stat_activity a join pg_roles them on them.oid = a.usesysid \
         cross join (select rolsuper from pg_roles where rolname = current_user) me where a.pid = {pid}"
    );
    Ok(server.text(&sql).await?.is_none_or(|may| may == "t"))
}

async fn owned(server: &Postgres) -> Result<BTreeSet<TableName>, RecoveryError> {
    let sql = "select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               where c.relkind in ('r', 'p') and pg_has_role(c.relowner, 'usage')";
    let of_row = |row: Vec<Option<String>>| {
        let mut cells = row.into_iter().flatten();
        Some(TableName::new(cells.next()?, cells.next()?))
    };
    Ok(server.texts(sql).await?.into_iter().filter_map(of_row).collect())
}

async fn tables(server: &Postgres, source: &Source) -> Result<Vec<Table>, RecoveryError> {
    let version: Version = server.value(Version::SQL).await?;
    let locking =
        if version.has_maintain() { "update, delete, truncate, maintain" } else { "update, delete, truncate" };
    let sql = format!(
        "select n.nspname, c.relname, \
         has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select'), \
         has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, '{locking}') \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p') order by 1, 2"
    );
    let captured = captured_tables(server, &source.capture).await?;
    let of_row = |row: Vec<Option<String>>| {
        let mut cells = row.into_iter().flatten();
        let name = TableName::new(cells.next()?, cells.next()?);
        let mut may = || cells.next().is_some_and(|may| may == "t");
        Some(Table { name, reads: may(), locks: may() })
    };
    let all = server.texts(&sql).await?.into_iter().filter_map(of_row);
    Ok(all.filter(|table| captured.contains(&table.name)).collect())
}

impl Rights {
    /// What the role may not do and would have to; `publication` is what the playbook would change of the publication.
    fn lacking(&self, publication: &PublicationRepair, compensates: bool) -> Vec<String> {
        let mut lacking = Vec::new();
        if self.slot && !self.drops_slots {
            lacking.push("dropping replication slots (the attribute REPLICATION)".to_owned());
        }
        if let Some(pid) = self.stranger {
            lacking.push(format!(
                "ending process {pid}, which streams from the slot (membership in pg_signal_backend; a superuser's session needs a superuser)"
            ));
        }
        for change in &publication.changes {
            lacking.extend(self.lacking_for(change, &publication.name));
        }
        for table in &self.tables {
            lacking.extend((!table.reads).then(|| format!("reading table {} (SELECT)", table.name)));
            let lock = format!("locking table {} against writers (UPDATE, DELETE or TRUNCATE)", table.name);
            lacking.extend((compensates && !table.locks).then_some(lock));
        }
        lacking
    }

    /// As `CREATE PUBLICATION` and `ALTER PUBLICATION` decide it.
    fn lacking_for(&self, change: &PublicationChange, name: &str) -> Vec<String> {
        if self.superuser {
            return Vec::new();
        }
        let altering = |what: &str| (!self.owns_publication).then(|| format!("{what} publication {name} (ownership)"));
        let unowned = |tables: &[PublishedTable]| {
            let tables = tables.iter().filter(|t| !self.owned.contains(&t.name));
            let names: Vec<String> = tables.map(|t| t.name.to_string()).collect();
            (!names.is_empty()).then(|| format!("publishing {} (ownership)", names.join(", ")))
        };
        let publishing_schemas = |schemas: &[String]| {
            let superuser = || format!("publishing all tables in schema {} (superuser)", schemas.join(", "));
            (!schemas.is_empty()).then(superuser)
        };
        let lacking = match change {
            PublicationChange::Create { all_tables, tables, schemas, .. } => {
                let create = format!("creating publication {name} (CREATE on the database)");
                let all = format!("creating publication {name} for all tables (superuser)");
                let create = if *all_tables { Some(all) } else { (!self.creates).then_some(create) };
                [create, unowned(tables), publishing_schemas(schemas)]
            }
            PublicationChange::Add { tables, schemas } => {
                [altering("adding tables to"), unowned(tables), publishing_schemas(schemas)]
            }
            PublicationChange::Publish(_) => [altering("changing the operations of"), None, None],
            PublicationChange::ViaRoot(_) => [altering("changing publish_via_partition_root of"), None, None],
        };
        lacking.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use cdc_pipeline::debezium::Operations;

    /// Of a role with REPLICATION that may read its table.
    fn enough() -> Rights {
        Rights {
            superuser: false,
            creates: false,
            owns_publication: false,
            owned: BTreeSet::new(),
            drops_slots: true,
            slot: true,
            stranger: None,
            tables: vec![Table { name: TableName::new("public", "t"), reads: true, locks: false }],
        }
    }

    fn repair(changes: Vec<PublicationChange>) -> PublicationRepair {
        PublicationRepair { name: "p".into(), changes }
    }

    #[test]
    fn a_role_needs_what_the_pipeline_needs_and_no_more() {
        let lacking = |change: fn(&mut Rights)| {
            let mut rights = enough();
            change(&mut rights);
            rights.lacking(&repair(Vec::new()), false)
        };
        assert_eq!(lacking(|_| {}), [""; 0]);
        assert!(lacking(|r| r.drops_slots = false)[0].contains("REPLICATION"));
        assert_eq!(lacking(|r| (r.drops_slots, r.slot) = (false, false)), [""; 0], "no slot to drop");
        assert!(lacking(|r| r.stranger = Some(7))[0].contains("process 7"));
        assert!(lacking(|r| r.tables[0].reads = false)[0].contains("reading table public.t"));
        assert!(enough().lacking(&repair(Vec::new()), true)[0].contains("locking table public.t"));
    }

    fn create(all_tables: bool, tables: &[&str], schemas: &[&str]) -> PublicationChange {
        let (tables, schemas) = named(tables, schemas);
        PublicationChange::Create { all_tables, tables, schemas, options: None }
    }

    fn add(tables: &[&str], schemas: &[&str]) -> PublicationChange {
        let (tables, schemas) = named(tables, schemas);
        PublicationChange::Add { tables, schemas }
    }

    fn named(tables: &[&str], schemas: &[&str]) -> (Vec<PublishedTable>, Vec<String>) {
        let table = |t: &&str| PublishedTable { name: TableName::new("public", *t), filter: None, columns: None };
        (tables.iter().map(table).collect(), schemas.iter().map(|s| (*s).to_owned()).collect())
    }

    /// What a role lacks that may do nothing but connect, one that owns the publication and table `t` and may create, and a superuser.
    #[rstest]
    #[case::create(create(false, &["t"], &[]), &["CREATE on the database", "publishing public.t"], &[])]
    #[case::create_with_a_table_that_is_not_captured(create(false, &["t", "x"], &[]), &["CREATE", "publishing public.t, public.x"], &["publishing public.x"])]
    #[case::create_for_all(create(true, &[], &[]), &["for all tables (superuser)"], &["for all tables (superuser)"])]
    #[case::create_for_a_schema(create(false, &[], &["s"]), &["CREATE", "schema s (superuser)"], &["schema s (superuser)"])]
    #[case::add(add(&["t"], &[]), &["adding tables to publication p", "publishing public.t"], &[])]
    #[case::add_a_schema(add(&[], &["s"]), &["adding tables", "schema s (superuser)"], &["schema s (superuser)"])]
    #[case::operations(PublicationChange::Publish(Operations::all_where(|_| true)), &["changing the operations of publication p"], &[])]
    #[case::via_root(PublicationChange::ViaRoot(true), &["changing publish_via_partition_root of publication p"], &[])]
    fn a_role_needs_what_the_repair_of_the_publication_needs(
        #[case] change: PublicationChange,
        #[case] nobody: &[&str],
        #[case] owner: &[&str],
    ) {
        let owns =
            Rights { creates: true, owns_publication: true, owned: [TableName::new("public", "t")].into(), ..enough() };
        let superuser = Rights { superuser: true, ..enough() };
        for (rights, expected) in [(enough(), nobody), (owns, owner), (superuser, &[][..])] {
            let lacking = rights.lacking(&repair(vec![change.clone()]), false);
            let all = lacking.len() == expected.len() && lacking.iter().zip(expected).all(|(l, e)| l.contains(e));
            assert!(all, "{lacking:?}, expected {expected:?}");
        }
    }
}
