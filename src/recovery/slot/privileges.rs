//! What the role may do, asked before anything is touched: a privilege that is missing half-way leaves a pipeline that stands
//! still.

use super::diagnosis::Diagnosis;
use crate::{
    client::postgres::Postgres,
    recovery::{
        RecoveryError,
        pipeline::{Source, captured_tables, literal},
        repair::Repair,
    },
    units::TableName,
};

/// The version from which MAINTAIN is a privilege, and one that locks a table.
const MAINTAIN_SINCE: u32 = 170_000;

/// What the role may do with a captured table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Table {
    name: TableName,
    published: bool,
    /// It is the table's owner, or a member of it.
    owns: bool,
    reads: bool,
    /// It may lock the table against writers.
    locks: bool,
}

/// What the role may do in a source's database, beside what the playbook has to do there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rights {
    publication: Publication,
    /// Whether the publication is to have every table there is.
    all_tables: bool,
    superuser: bool,
    /// It may create objects in the database.
    creates: bool,
    drops_slots: bool,
    /// The slot is there and must be dropped.
    slot: bool,
    /// A stranger's session that it may not end.
    stranger: Option<i32>,
    tables: Vec<Table>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Publication {
    Missing,
    OfAll,
    /// Whether the role is its owner, or a member of it.
    OfSome {
        owns: bool,
    },
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
        let lacking = rights(&server, source, found).await?.lacking(&source.publication, compensates);
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
    let sql = format!(
        "select puballtables, pg_has_role(pubowner, 'usage') from pg_publication where pubname = {}",
        literal(&source.publication)
    );
    let publication = match server.texts(&sql).await?.into_iter().next().as_deref() {
        None => Publication::Missing,
        Some([Some(all), _]) if all == "t" => Publication::OfAll,
        Some([_, owns]) => Publication::OfSome { owns: is(owns.clone()) },
        Some(_) => Publication::Missing,
    };
    let slots = server.slots().await?;
    let stranger = diagnosed.iter().find_map(|d| match d {
        Diagnosis::Stolen { pid, .. } => Some(*pid),
        _ => None,
    });
    Ok(Rights {
        publication,
        all_tables: source.capture.lists.take_all(),
        superuser: is(server.text("select rolsuper from pg_roles where rolname = current_user").await?),
        creates: is(server.text("select has_database_privilege(current_database(), 'create')").await?),
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

async fn tables(server: &Postgres, source: &Source) -> Result<Vec<Table>, RecoveryError> {
    let version: u32 = server.value("show server_version_num").await?;
    let locking =
        if version >= MAINTAIN_SINCE { "update, delete, truncate, maintain" } else { "update, delete, truncate" };
    let sql = format!(
        "select n.nspname, c.relname, \
         exists (select from pg_publication_tables p where p.pubname = {} and p.schemaname = n.nspname and p.tablename = c.relname), \
         pg_has_role(c.relowner, 'usage'), \
         has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select'), \
         has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, '{locking}') \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p') order by 1, 2",
        literal(&source.publication)
    );
    let captured = captured_tables(server, &source.capture).await?;
    let of_row = |row: Vec<Option<String>>| {
        let mut cells = row.into_iter().flatten();
        let name = TableName::new(cells.next()?, cells.next()?);
        let mut may = || cells.next().is_some_and(|may| may == "t");
        Some(Table { name, published: may(), owns: may(), reads: may(), locks: may() })
    };
    let all = server.texts(&sql).await?.into_iter().filter_map(of_row);
    Ok(all.filter(|table| captured.contains(&table.name)).collect())
}

impl Rights {
    /// What the role may not do and would have to.
    fn lacking(&self, publication: &str, compensates: bool) -> Vec<String> {
        let mut lacking = Vec::new();
        if self.slot && !self.drops_slots {
            lacking.push("dropping replication slots (the attribute REPLICATION)".to_owned());
        }
        if let Some(pid) = self.stranger {
            lacking.push(format!(
                "ending process {pid}, which streams from the slot (membership in pg_signal_backend; a superuser's session needs a superuser)"
            ));
        }
        let unowned = |only_unpublished: bool| {
            let tables = self.tables.iter().filter(move |t| !t.owns && (!only_unpublished || !t.published));
            let names: Vec<String> = tables.map(|t| t.name.to_string()).collect();
            (!names.is_empty()).then(|| format!("publishing {} (ownership)", names.join(", ")))
        };
        match self.publication {
            Publication::OfAll => {}
            Publication::Missing if self.all_tables => {
                let superuser = format!("creating publication {publication} for all tables (superuser)");
                lacking.extend((!self.superuser).then_some(superuser));
            }
            Publication::Missing => {
                let create = format!("creating publication {publication} (CREATE on the database)");
                lacking.extend((!self.creates).then_some(create));
                lacking.extend(unowned(false));
            }
            Publication::OfSome { owns } => {
                let incomplete = !self.all_tables && self.tables.iter().any(|t| !t.published);
                let alter = format!("adding tables to publication {publication} (ownership)");
                lacking.extend((incomplete && !owns).then_some(alter));
                lacking.extend(unowned(true).filter(|_| incomplete));
            }
        }
        for table in &self.tables {
            lacking.extend((!table.reads).then(|| format!("reading table {} (SELECT)", table.name)));
            let lock = format!("locking table {} against writers (UPDATE, DELETE or TRUNCATE)", table.name);
            lacking.extend((compensates && !table.locks).then_some(lock));
        }
        lacking
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a role with REPLICATION that may read its table, on a pipeline whose publication is as it should be.
    fn enough() -> Rights {
        Rights {
            publication: Publication::OfSome { owns: false },
            all_tables: false,
            superuser: false,
            creates: false,
            drops_slots: true,
            slot: true,
            stranger: None,
            tables: vec![Table {
                name: TableName::new("public", "t"),
                published: true,
                owns: false,
                reads: true,
                locks: false,
            }],
        }
    }

    fn lacking(change: impl FnOnce(&mut Rights)) -> Vec<String> {
        let mut rights = enough();
        change(&mut rights);
        rights.lacking("p", false)
    }

    #[test]
    fn a_role_needs_what_the_pipeline_needs_and_no_more() {
        assert_eq!(lacking(|_| {}), [""; 0]);
        assert!(lacking(|r| r.drops_slots = false)[0].contains("REPLICATION"));
        assert_eq!(lacking(|r| (r.drops_slots, r.slot) = (false, false)), [""; 0], "no slot to drop");
        assert!(lacking(|r| r.stranger = Some(7))[0].contains("process 7"));
        assert!(lacking(|r| r.tables[0].reads = false)[0].contains("reading table public.t"));
        assert!(enough().lacking("p", true)[0].contains("locking table public.t"));
        assert_eq!(lacking(|r| r.publication = Publication::OfAll), [""; 0]);
        let missing = lacking(|r| r.publication = Publication::Missing);
        assert!(missing.len() == 2 && missing[0].contains("CREATE") && missing[1].contains("publishing public.t"));
        let of_all = lacking(|r| (r.publication, r.all_tables) = (Publication::Missing, true));
        assert!(of_all.len() == 1 && of_all[0].contains("superuser"), "{of_all:?}");
        let incomplete = lacking(|r| r.tables[0].published = false);
        assert!(incomplete.len() == 2 && incomplete[0].contains("adding tables"), "{incomplete:?}");
        let owner = |r: &mut Rights| {
            r.tables[0] = Table { published: false, owns: true, ..r.tables[0].clone() };
            r.publication = Publication::OfSome { owns: true };
        };
        assert_eq!(lacking(owner), [""; 0]);
    }
}
