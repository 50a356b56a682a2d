//! Publications: what each must hold after a recovery, compared and put right before any slot is made.

use std::collections::BTreeSet;

use super::{Pipeline, Source};
use crate::{
    backup::{
        Point,
        parts::postgres::{Publication as Saved, PublishedTable},
    },
    client::{catalogue, postgres::Postgres},
    debezium::{Captured, Connector, Coverage, Operation, Operations, Publication, Relation, RelationKind, Stream},
    recovery::RecoveryError,
    units::TableName,
};

/// The changes that make a publication what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicationRepair {
    /// The publication.
    pub(crate) name: String,
    /// In their order; none where it is as it must be.
    pub(crate) changes: Vec<PublicationChange>,
}

/// One change to a publication, one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PublicationChange {
    Create {
        all_tables: bool,
        tables: Vec<PublishedTable>,
        schemas: Vec<String>,
        /// What it publishes and whether by the roots of partitions; the server's defaults if `None`.
        options: Option<(Operations, bool)>,
    },
    Add {
        tables: Vec<PublishedTable>,
        schemas: Vec<String>,
    },
    Publish(Operations),
    ViaRoot(bool),
}

impl PublicationRepair {
    fn statements(&self) -> Vec<String> {
        let name = identifier(&self.name);
        self.changes.iter().map(|change| change.statement(&name)).collect()
    }
}

impl PublicationChange {
    fn statement(&self, name: &str) -> String {
        match self {
            PublicationChange::Create { all_tables, tables, schemas, options } => {
                let members = members(tables, schemas);
                let subject = match (all_tables, members.is_empty()) {
                    (true, _) => " for all tables".to_owned(),
                    (false, true) => String::new(),
                    (false, false) => format!(" for {members}"),
                };
                let options = options.as_ref().map(|(operations, via_root)| {
                    format!(" with (publish = '{operations}', publish_via_partition_root = {via_root})")
                });
                format!("create publication {name}{subject}{}", options.unwrap_or_default())
            }
            PublicationChange::Add { tables, schemas } => {
                format!("alter publication {name} add {}", members(tables, schemas))
            }
            PublicationChange::Publish(operations) => {
                format!("alter publication {name} set (publish = '{operations}')")
            }
            PublicationChange::ViaRoot(via_root) => {
                format!("alter publication {name} set (publish_via_partition_root = {via_root})")
            }
        }
    }
}

/// What a publication must be.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    name: String,
    all_tables: bool,
    tables: Vec<PublishedTable>,
    schemas: Vec<String>,
    /// What it publishes and whether by the roots of partitions, where that is known.
    options: Option<(Operations, bool)>,
}

impl Pipeline {
    /// Makes each source's publication hold what the recovery point recorded (of what still exists), or, where it
    /// recorded nothing, what the connector captures. Returns how many were changed.
    pub(crate) async fn publish(&self, point: Option<&Point>) -> Result<usize, RecoveryError> {
        let mut changed = 0;
        for source in &self.sources {
            let server = self.session(source).await?;
            let repair = publication_repair(&server, source, point).await?;
            for statement in &repair.statements() {
                server.run(statement).await?;
            }
            changed += usize::from(!repair.changes.is_empty());
        }
        Ok(changed)
    }

    /// Requires that each publication sends what its connector's list of tables names.
    pub(crate) async fn published(&self, step: &str) -> Result<String, RecoveryError> {
        let mut tables = 0;
        for source in &self.sources {
            let coverage = coverage(&self.session(source).await?, &source.capture).await?;
            if let Some(missing) = coverage.unstreamed().find(|t| must_stream(&source.capture, t)) {
                return Err(RecoveryError::unmet(
                    step,
                    format!(
                        "changes of table {} from publication {} of {}",
                        missing.relation.name, source.publication, source.database
                    ),
                    unstreamed(missing),
                ));
            }
            tables += coverage.tables.iter().filter(|t| matches!(t.stream, Stream::Own(_))).count();
        }
        Ok(format!("{} publications, {tables} captured tables in them", self.sources.len()))
    }

    /// Requires that no publication sends the changes of a captured table under names that the connector's lists leave out: adding
    /// the table to it would not help. Asked before anything is touched.
    pub(crate) async fn refuse_renamed_changes(&self) -> Result<(), RecoveryError> {
        for source in &self.sources {
            let coverage = coverage(&self.session(source).await?, &source.capture).await?;
            let renamed = |t: &&Captured| matches!(&t.stream, Stream::Nowhere(names) if !names.is_empty());
            let must = |t: &&Captured| must_stream(&source.capture, t);
            if let Some(table) = coverage.unstreamed().filter(renamed).find(must) {
                return Err(RecoveryError::impossible(
                    format!("table {} of connector {}", table.relation.name, source.name),
                    format!("a table whose changes publication {} sends under its name", source.publication),
                    unstreamed(table),
                    "let the connector's lists take these tables too, or change publish_via_partition_root",
                ));
            }
        }
        Ok(())
    }

    /// A session in the source's database.
    pub(crate) async fn session(&self, source: &Source) -> Result<Postgres, RecoveryError> {
        let url = &self.config.postgres.url;
        Ok(Postgres::connect_database(url, &source.database, "cdc-drill-recovery").await?)
    }
}

/// What [`Pipeline::publish`] would change of a source's publication as it is now.
pub(crate) async fn publication_repair(
    server: &Postgres,
    source: &Source,
    point: Option<&Point>,
) -> Result<PublicationRepair, RecoveryError> {
    let relations = catalogue::relations(server).await?;
    let wanted = wanted(source, point, &relations)?;
    Ok(match catalogue::publication(server, &wanted.name).await? {
        None => wanted.create(),
        Some(there) => {
            let schemas = schemas(server, &wanted.name).await?;
            wanted.correct(&there, &relations, &schemas)
        }
    })
}

/// What a connector captures of the session's database now.
pub(crate) async fn coverage(server: &Postgres, capture: &Connector) -> Result<Coverage, RecoveryError> {
    let relations = catalogue::relations(server).await?;
    let publication = catalogue::publication(server, &capture.publication).await?;
    Ok(Coverage::of(capture, &relations, publication.as_ref()))
}

/// The tables of a database that a connector captures, without the partitions of others of them.
pub(crate) async fn captured_tables(
    server: &Postgres,
    capture: &Connector,
) -> Result<BTreeSet<TableName>, RecoveryError> {
    Ok(coverage(server, capture).await?.disjoint().cloned().collect())
}

/// Whether somebody waits for a table's changes: where no list of tables says which are taken, one may be left out of the
/// publication on purpose; and a pattern need not mean a table that cannot be published.
pub(crate) fn must_stream(capture: &Connector, table: &Captured) -> bool {
    match table.relation.kind {
        RelationKind::Unlogged => capture.lists.names(&table.relation.name),
        _ => capture.lists.names_tables(),
    }
}

/// Why a table's changes never arrive.
pub(crate) fn unstreamed(table: &Captured) -> String {
    match &table.stream {
        Stream::Nowhere(names) if !names.is_empty() => {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            format!("its changes come as those of {}, which the connector's lists leave out", names.join(", "))
        }
        _ if table.relation.kind == RelationKind::Unlogged => "it is unlogged, and no publication can have it".into(),
        _ => "it is not in the publication".into(),
    }
}

async fn schemas(server: &Postgres, publication: &str) -> Result<BTreeSet<String>, RecoveryError> {
    let sql = format!(
        "select n.nspname from pg_publication p join pg_publication_namespace s on s.pnpubid = p.oid \
         join pg_namespace n on n.oid = s.pnnspid where p.pubname = {}",
        literal(publication)
    );
    let rows = server.texts(&sql).await?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

fn wanted(source: &Source, point: Option<&Point>, relations: &[Relation]) -> Result<Wanted, RecoveryError> {
    let saved = match point {
        Some(point) => point.publications()?,
        None => Vec::new(),
    };
    let saved = saved
        .into_iter()
        .filter(|d| d.database == source.database)
        .flat_map(|d| d.publications)
        .find(|p| p.name == source.publication);
    Ok(match saved {
        Some(saved) => Wanted::as_saved(saved, relations),
        None => Wanted::by_lists(&source.capture, relations),
    })
}

impl Wanted {
    /// What a recovery point recorded, of what still exists.
    fn as_saved(saved: Saved, relations: &[Relation]) -> Wanted {
        let exists = |name: &TableName| relations.iter().any(|r| r.name == *name);
        let operations = Operations::all_where(|operation| match operation {
            Operation::Insert => saved.insert,
            Operation::Update => saved.update,
            Operation::Delete => saved.delete,
            Operation::Truncate => saved.truncate,
        });
        // An older point has the tables alone, as the server resolved them.
        let (tables, schemas) = match saved.named {
            Some(named) => (named.tables, named.schemas),
            None => {
                let tables = saved.tables.into_iter().filter(|_| !saved.all_tables);
                (tables.map(|name| PublishedTable { name, filter: None, columns: None }).collect(), Vec::new())
            }
        };
        Wanted {
            name: saved.name,
            all_tables: saved.all_tables,
            tables: tables.into_iter().filter(|t| exists(&t.name)).collect(),
            schemas,
            options: Some((operations, saved.via_root)),
        }
    }

    /// What a connector's lists take. A partitioned table that they take without its partitions must be sent under its own name.
    fn by_lists(capture: &Connector, relations: &[Relation]) -> Wanted {
        let coverage = Coverage::of(capture, relations, None);
        let published =
            |name: &&TableName| coverage.table(name).is_some_and(|t| t.relation.kind != RelationKind::Unlogged);
        let tables = coverage.disjoint().filter(published).cloned();
        let tables = tables.map(|name| PublishedTable { name, filter: None, columns: None }).collect();
        let by_partitions = |t: &Captured| match &t.stream {
            Stream::Elsewhere(names) => names.iter().all(|name| coverage.table(name).is_some()),
            _ => true,
        };
        let via_root = capture.by_root || !coverage.tables.iter().all(by_partitions);
        Wanted {
            name: capture.publication.clone(),
            all_tables: capture.lists.take_all(),
            tables,
            schemas: Vec::new(),
            options: via_root.then(|| (Operations::all_where(|_| true), true)),
        }
    }

    fn create(self) -> PublicationRepair {
        let Wanted { name, all_tables, tables, schemas, options } = self;
        PublicationRepair { name, changes: vec![PublicationChange::Create { all_tables, tables, schemas, options }] }
    }

    /// The changes that add what a publication lacks; what it has beyond that is left to it.
    fn correct(self, there: &Publication, relations: &[Relation], schemas: &BTreeSet<String>) -> PublicationRepair {
        let mut changes = Vec::new();
        // It may have every table there is and will be.
        if !there.all_tables {
            let all = Coverage::of(&Connector::of(&Default::default()), relations, Some(there));
            let sent = |table: &TableName| !all.unstreamed().any(|t| t.relation.name == *table);
            let tables: Vec<_> = self.tables.into_iter().filter(|t| !sent(&t.name)).collect();
            let schemas: Vec<_> = self.schemas.into_iter().filter(|s| !schemas.contains(s)).collect();
            if !(tables.is_empty() && schemas.is_empty()) {
                changes.push(PublicationChange::Add { tables, schemas });
            }
        }
        if let Some((operations, via_root)) = self.options {
            if !operations.without(&there.operations).is_empty() {
                let both = Operations::all_where(|o| operations.has(o) || there.operations.has(o));
                changes.push(PublicationChange::Publish(both));
            }
            if via_root != there.via_root {
                changes.push(PublicationChange::ViaRoot(via_root));
            }
        }
        PublicationRepair { name: self.name, changes }
    }
}

fn members(tables: &[PublishedTable], schemas: &[String]) -> String {
    let schemas = schemas.iter().map(|schema| format!("tables in schema {}", identifier(schema)));
    tables.iter().map(member).chain(schemas).collect::<Vec<_>>().join(", ")
}

/// A member as a statement names it. Tables that inherit from one are members of their own.
fn member(table: &PublishedTable) -> String {
    let columns = table.columns.as_ref().map(|columns| {
        let columns: Vec<String> = columns.iter().map(|column| identifier(column)).collect();
        format!(" ({})", columns.join(", "))
    });
    let filter = table.filter.as_ref().map(|filter| format!(" where ({filter})"));
    format!("table only {}{}{}", table.name.quoted(), columns.unwrap_or_default(), filter.unwrap_or_default())
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as an SQL literal.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backup::parts::postgres::NamedMembers,
        debezium::{Inheritance, Member},
    };

    fn name(text: &str) -> TableName {
        TableName::new("public", text)
    }

    /// `a`, `o`, and `ev` with the partitions `ev_1` and `ev_2`.
    fn relations() -> Vec<Relation> {
        let relation = |table: &str, kind, partition_of: Option<&str>| Relation {
            name: name(table),
            kind,
            partition_of: partition_of.map(name),
            inheritance: Inheritance::None,
        };
        use RelationKind::{Partitioned, Table};
        vec![
            relation("a", Table, None),
            relation("ev", Partitioned, None),
            relation("ev_1", Table, Some("ev")),
            relation("ev_2", Table, Some("ev")),
            relation("o", Table, None),
        ]
    }

    fn saved(named: Option<NamedMembers>, tables: &[&str]) -> Saved {
        Saved {
            name: "pub".into(),
            all_tables: false,
            insert: true,
            update: true,
            delete: true,
            truncate: true,
            via_root: false,
            tables: tables.iter().map(|t| name(t)).collect(),
            named,
        }
    }

    fn published(table: &str, filter: Option<&str>, columns: Option<&[&str]>) -> PublishedTable {
        let columns = columns.map(|c| c.iter().map(|c| (*c).to_owned()).collect());
        PublishedTable { name: name(table), filter: filter.map(str::to_owned), columns }
    }

    fn there(tables: &[&str]) -> Publication {
        Publication {
            operations: Operations::all_where(|_| true),
            members: tables.iter().map(|t| (name(t), Member::default())).collect(),
            ..Publication::default()
        }
    }

    #[test]
    fn a_publication_is_made_as_it_was() {
        let filtered = published("o", Some("(id < 1000)"), Some(&["id", "re\"gion"]));
        let named = NamedMembers { tables: vec![filtered, published("gone", None, None)], schemas: vec!["s".into()] };
        let wanted = Wanted::as_saved(saved(Some(named), &["o", "gone"]), &relations());
        assert_eq!(
            wanted.create().statements(),
            [
                r#"create publication "pub" for table only "public"."o" ("id", "re""gion") where ((id < 1000)), tables in schema "s" with (publish = 'insert, update, delete, truncate', publish_via_partition_root = false)"#
            ]
        );
    }

    #[test]
    fn a_point_that_recorded_no_members_gives_the_tables_that_it_has() {
        let wanted = || Wanted::as_saved(saved(None, &["ev_1", "ev_2"]), &relations());
        assert!(wanted().correct(&there(&["ev_1", "ev_2"]), &relations(), &BTreeSet::new()).changes.is_empty());
        assert!(
            wanted().create().statements()[0]
                .contains(r#"for table only "public"."ev_1", table only "public"."ev_2" with"#)
        );
    }

    #[test]
    fn what_a_publication_lacks_is_added() {
        let named = NamedMembers {
            tables: vec![published("ev", None, None), published("a", None, None)],
            schemas: vec!["s".into()],
        };
        let mut was = saved(Some(named), &[]);
        was.truncate = false;
        let wanted = || Wanted::as_saved(was.clone(), &relations());
        let inserts = Publication {
            operations: Operations::all_where(|o| matches!(o, Operation::Insert | Operation::Truncate)),
            via_root: true,
            ..there(&["ev"])
        };
        assert_eq!(
            wanted().correct(&inserts, &relations(), &BTreeSet::new()).statements(),
            [
                r#"alter publication "pub" add table only "public"."a", tables in schema "s""#,
                r#"alter publication "pub" set (publish = 'insert, update, delete, truncate')"#,
                r#"alter publication "pub" set (publish_via_partition_root = false)"#,
            ]
        );
        let complete = there(&["a", "ev_1", "ev_2"]);
        assert!(wanted().correct(&complete, &relations(), &["s".to_owned()].into()).changes.is_empty());
    }

    #[test]
    fn a_table_without_partitions_is_added_once() {
        let log = Relation {
            name: name("log"),
            kind: RelationKind::Partitioned,
            partition_of: None,
            inheritance: Inheritance::None,
        };
        let relations: Vec<Relation> = relations().into_iter().chain([log]).collect();
        let added = |there: Publication| {
            let named = NamedMembers { tables: vec![published("log", None, None)], schemas: vec![] };
            let wanted = Wanted::as_saved(saved(Some(named), &[]), &relations);
            wanted.correct(&there, &relations, &BTreeSet::new()).statements()
        };
        assert_eq!(added(there(&["a"])), [r#"alter publication "pub" add table only "public"."log""#]);
        let partitioned = [name("log")].into();
        assert!(added(Publication { partitioned, ..there(&["a"]) }).is_empty());
    }

    #[test]
    fn where_nothing_was_recorded_the_lists_say_what_is_published() {
        let by_lists = |list: &str| {
            let config = [("table.include.list".to_owned(), list.to_owned())].into();
            Wanted::by_lists(&Connector::of(&config), &relations()).create().statements().remove(0)
        };
        let default = "dbz_publication";
        assert_eq!(by_lists("public.a"), format!(r#"create publication "{default}" for table only "public"."a""#));
        assert_eq!(by_lists("public.ev.*"), format!(r#"create publication "{default}" for table only "public"."ev""#));
        assert!(by_lists("public.ev").ends_with("publish_via_partition_root = true)"), "{}", by_lists("public.ev"));
        let all = Wanted::by_lists(&Connector::of(&Default::default()), &relations()).create().statements().remove(0);
        assert_eq!(all, format!(r#"create publication "{default}" for all tables"#));
    }
}
