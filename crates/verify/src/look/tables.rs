//! The captured tables of a connector, in one snapshot.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Systems,
    catalogue::{Facts, columns, facts},
    rows::rows,
    topics::filled,
};
use crate::{
    decode::{settings::ConnectorSettings, table::Columns},
    observation::{ConnectorView, Rows, TableView},
    read::Visibility,
};
use cdc_model::units::TableName;
use cdc_pipeline::{
    client::{ClientError, catalogue, postgres::Postgres},
    debezium::{Captured, Coverage, Inheritance, Member, Relation, RelationKind, Stream},
};
use cdc_postgres::sql::{identifier, literal};

/// The tables of one connector in one snapshot of its database.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// What the snapshot sees.
    visible: Option<Visibility>,
    /// The captured tables and their rows.
    tables: Vec<TableView>,
    /// Whether the publication exists.
    publication: bool,
    /// What the connector captures.
    coverage: Coverage,
    /// Tables whose changes should arrive and never do, and somebody waits for: see [`ConnectorView`].
    unpublished: Vec<TableName>,
    /// The other tables whose changes never arrive.
    uncaptured: Vec<TableName>,
}

impl Snapshot {
    /// Puts what was seen of the connector into its view; hands back the snapshot and the tables.
    pub(super) fn describe(self, view: &mut ConnectorView) -> (Option<Visibility>, Vec<TableView>) {
        view.publication = self.publication;
        view.coverage = self.coverage;
        view.unpublished = self.unpublished;
        view.uncaptured = self.uncaptured;
        (self.visible, self.tables)
    }
}

/// Reads the captured tables of a connector, all in one snapshot.
pub(super) async fn tables(systems: &Systems, settings: &ConnectorSettings) -> Result<Snapshot, ClientError> {
    let session = systems.session(&settings.database).await?;
    session.run("begin transaction isolation level repeatable read read only").await?;
    let visible = session.text("select pg_current_snapshot()::text").await?;
    let exported = session.text("select pg_export_snapshot()").await?.unwrap_or_default();
    let publication = catalogue::publication(&session, &settings.publication).await?;
    let relations = catalogue::relations(&session).await?;
    let coverage = Coverage::of(&settings.capture, &relations, publication.as_ref());
    let facts = facts(&session).await?;
    let names = &settings.capture.topics;
    let beside = coverage.tables.iter().filter(|t| !matches!(t.stream, Stream::Own(_)));
    let filled = filled(systems, beside.map(|t| names.topic(&t.relation.name)).collect()).await?;
    // Records of a captured table are not those of another one whose topic has the same name.
    let own = coverage.tables.iter().filter(|t| matches!(t.stream, Stream::Own(_)));
    let taken: BTreeSet<String> = own.map(|t| names.topic(&t.relation.name)).collect();
    let has_records = |t: &TableName| {
        let topic = names.topic(t);
        filled.contains_key(&topic) && !taken.contains(&topic)
    };
    let lists = &settings.capture.lists;
    let awaited = |t: &&Captured| {
        let listed = match t.relation.kind {
            // A pattern need not mean a table that cannot be published.
            RelationKind::Unlogged => lists.names(&t.relation.name),
            _ => lists.names_tables(),
        };
        listed || has_records(&t.relation.name)
    };
    let (unpublished, uncaptured): (Vec<_>, Vec<_>) = coverage.unstreamed().partition(awaited);
    let named =
        |found: Vec<&Captured>| -> Vec<TableName> { found.into_iter().map(|t| t.relation.name.clone()).collect() };
    let (unpublished, uncaptured) = (named(unpublished), named(uncaptured));
    let counter = systems.session(&settings.database).await?;
    counter.run("begin transaction isolation level repeatable read read only").await?;
    counter.run(&format!("set transaction snapshot {}", literal(&exported))).await?;
    let mut tables = Vec::new();
    for captured in &coverage.tables {
        let name = &captured.relation.name;
        let member = match &captured.stream {
            Stream::Own(member) => member.clone(),
            // A snapshot writes to its topic all the same.
            Stream::Elsewhere(_) if lists.names(name) && has_records(name) => Member::default(),
            _ => continue,
        };
        let Some(facts) = facts.get(name) else { continue };
        let table = Readable { relation: &captured.relation, facts, member };
        let columns = columns(&session, (name, facts), &table.member, settings).await?;
        // A table that cannot be read must not end the transaction that reads the others.
        session.run("savepoint before").await?;
        let rows = table.rows(&session, &columns).await;
        session.run("rollback to savepoint before").await?;
        counter.run("savepoint before").await?;
        let count = counter.value::<u64>(&table.count()).await.map_err(|e| e.to_string());
        counter.run("rollback to savepoint before").await?;
        let primary_key = facts.primary_key.iter().filter_map(|name| columns.of_name(name)).collect();
        let (rows, unstreamed) = match rows {
            Ok((rows, unstreamed)) => (Ok(rows), unstreamed),
            Err(error) => (Err(error.to_string()), Rows::default()),
        };
        tables.push(TableView {
            topic: names.topic(name),
            name: name.clone(),
            database: settings.database.clone(),
            connector: settings.name.clone(),
            primary_key,
            replica_identity: facts.replica_identity,
            columns: Arc::new(columns),
            rows,
            unstreamed,
            count,
        });
    }
    let visible = visible.as_deref().and_then(Visibility::parse);
    Ok(Snapshot { visible, tables, publication: publication.is_some(), coverage, unpublished, uncaptured })
}

/// A captured table that is read.
struct Readable<'t> {
    relation: &'t Relation,
    facts: &'t Facts,
    member: Member,
}

impl Readable<'_> {
    /// The rows whose changes are streamed to its topic, and those whose changes are not and which a snapshot writes there.
    async fn rows(&self, session: &Postgres, columns: &Columns) -> Result<(Rows, Rows), ClientError> {
        let streamed = rows(session, &self.select(columns, &self.streamed()), columns.list.len()).await?;
        let unstreamed = match self.unstreamed() {
            Some(from) => rows(session, &self.select(columns, &from), columns.list.len()).await?,
            None => Rows::default(),
        };
        Ok((streamed, unstreamed))
    }

    fn select(&self, columns: &Columns, from: &str) -> String {
        let names: Vec<String> = columns.list.iter().map(|c| identifier(&c.name)).collect();
        format!("select {} {from}", names.join(", "))
    }

    fn count(&self) -> String {
        format!("select count(*) {}", self.streamed())
    }

    /// A row of a table that inherits from this one is that one's. Those of a partitioned table are its own.
    fn streamed(&self) -> String {
        let only = if self.relation.kind == RelationKind::Partitioned { "" } else { "only " };
        let filter = self.member.filter.as_ref().map(|f| format!(" where {f}")).unwrap_or_default();
        format!("from {only}{}{filter}", self.relation.name.quoted())
    }

    /// A snapshot reads without ONLY and without the publication's row filter.
    fn unstreamed(&self) -> Option<String> {
        let parent = self.relation.inheritance == Inheritance::Parent;
        let own = parent.then(|| format!("tableoid = {}::oid", self.facts.oid));
        let filter = self.member.filter.as_ref().map(|f| format!("coalesce({f}, false)"));
        let streamed: Vec<String> = own.into_iter().chain(filter).collect();
        let only = if parent || self.relation.kind == RelationKind::Partitioned { "" } else { "only " };
        (!streamed.is_empty())
            .then(|| format!("from {only}{} where not ({})", self.relation.name.quoted(), streamed.join(" and ")))
    }
}
