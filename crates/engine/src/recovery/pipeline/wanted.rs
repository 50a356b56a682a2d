//! What a publication must be after a recovery, and the statements that make it so. Pure: it knows what is there, what was
//! recorded and the catalogue as values.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    backup::{Publication as Saved, PublishedTable},
    recovery::RecoveryError,
};
use cdc_model::units::TableName;
use cdc_pipeline::debezium::{
    Captured, Choice, Connector, Coverage, Member, Membership, Operation, Operations, Relation, RelationKind, Stream,
};
use cdc_postgres::sql::identifier;

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
    /// One statement a change.
    pub(super) fn statements(&self) -> Vec<String> {
        let name = identifier(&self.name);
        self.changes.iter().map(|change| change.statement(&name)).collect()
    }

    /// What the publication is made of when the changes are done; `there` is what it is made of before.
    pub(super) fn applied(&self, there: Option<Membership>) -> Membership {
        let defaults = Membership { operations: Operations::all_where(|_| true), ..Membership::default() };
        let mut membership = there.unwrap_or(defaults);
        for change in &self.changes {
            match change {
                PublicationChange::Create { all_tables, tables, schemas, options } => {
                    membership.all_tables = *all_tables;
                    add(&mut membership, tables, schemas);
                    if let Some((operations, via_root)) = options {
                        (membership.operations, membership.via_root) = (operations.clone(), *via_root);
                    }
                }
                PublicationChange::Add { tables, schemas } => add(&mut membership, tables, schemas),
                PublicationChange::Publish(operations) => membership.operations = operations.clone(),
                PublicationChange::ViaRoot(via_root) => membership.via_root = *via_root,
            }
        }
        membership
    }
}

fn add(membership: &mut Membership, tables: &[PublishedTable], schemas: &[String]) {
    membership.tables.extend(tables.iter().map(|t| (t.name.clone(), as_member(t))));
    membership.schemas.extend(schemas.iter().cloned());
}

fn as_member(table: &PublishedTable) -> Member {
    Member { filter: table.filter.clone(), columns: table.columns.clone().unwrap_or_default() }
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

/// What is known of a connector's publication.
pub(super) struct Known<'k> {
    /// As it is.
    pub(super) there: Option<&'k Saved>,
    /// As a recovery point recorded it, and the point's id.
    pub(super) recorded: Option<(&'k Saved, &'k str)>,
    /// As it was when the recovery began.
    pub(super) found: Option<&'k Saved>,
    /// The tables of its database.
    pub(super) relations: &'k [Relation],
    /// The schemas of its database.
    pub(super) schemas: &'k BTreeSet<String>,
    /// The columns of tables that have a list of columns; a table that is not among them is not known.
    pub(super) columns: &'k BTreeMap<TableName, BTreeSet<String>>,
}

impl Known<'_> {
    /// The changes that make the publication what it was, of what still exists, or, where nobody recorded it, what the connector
    /// captures. What it has beyond that is left to it. An error where it would become wider than it was: an earlier release's
    /// point does not have row filters and lists of columns.
    pub(super) fn repair(&self, capture: &Connector) -> Result<PublicationRepair, RecoveryError> {
        // A point precedes the target; what was found stands in for what no point tells.
        let exact = self.recorded.filter(|(saved, _)| saved.named.is_some() || saved.all_tables);
        let wanted = match (exact, self.found, self.recorded) {
            (Some((saved, _)), ..) | (None, Some(saved), _) | (None, None, Some((saved, _))) => self.as_saved(saved),
            (None, None, None) => Wanted::by_lists(capture, self.relations),
        };
        let repair = match self.there {
            None => wanted.create(),
            Some(there) => wanted.correct(capture, &membership(there), self.relations),
        };
        match self.recorded {
            Some((saved, point)) if exact.is_none() && self.found.is_none() && repair.gives_tables() => {
                Err(RecoveryError::impossible(
                    format!("publication {} in recovery point {point}", saved.name),
                    "its row filters, lists of columns and schemas: without them it could send more than it did",
                    "its tables alone: the point is of an earlier release",
                    format!(
                        "make the publication as it was (create publication, or alter publication {} add table), or take another recovery point",
                        identifier(&saved.name)
                    ),
                ))
            }
            _ => Ok(repair),
        }
    }

    /// What a publication was, of what still exists.
    fn as_saved(&self, saved: &Saved) -> Wanted {
        let exists = |name: &TableName| self.relations.iter().any(|r| r.name == *name);
        // An older point has the tables alone, as the server resolved them.
        let (tables, schemas) = match &saved.named {
            Some(named) => (named.tables.clone(), named.schemas.clone()),
            None => {
                let tables = saved.tables.iter().filter(|_| !saved.all_tables).cloned();
                (tables.map(|name| PublishedTable { name, filter: None, columns: None }).collect(), Vec::new())
            }
        };
        Wanted {
            name: saved.name.clone(),
            all_tables: saved.all_tables,
            tables: tables.into_iter().filter(|t| exists(&t.name)).filter_map(|t| self.with_columns(t)).collect(),
            schemas: schemas.into_iter().filter(|schema| self.schemas.contains(schema)).collect(),
            options: Some((operations(saved), saved.via_root)),
        }
    }

    /// A table whose list has the columns that are still there; `None` where none of them is.
    fn with_columns(&self, mut table: PublishedTable) -> Option<PublishedTable> {
        if let (Some(listed), Some(there)) = (&mut table.columns, self.columns.get(&table.name)) {
            listed.retain(|column| there.contains(column));
            if listed.is_empty() {
                return None;
            }
        }
        Some(table)
    }

    /// In what the publication sends less or more of its tables than the recovery point has, and is left so.
    pub(super) fn differences(&self) -> Vec<String> {
        let (Some(there), Some((saved, point))) = (self.there, self.recorded) else { return Vec::new() };
        let (Some(now), Some(then)) = (&there.named, &saved.named) else { return Vec::new() };
        let of = |name: &TableName| now.tables.iter().find(|t| t.name == *name);
        let pairs = then.tables.iter().filter_map(|then| Some((then, of(&then.name)?)));
        let name = &there.name;
        pairs
            .filter(|(then, now)| then != now)
            .map(|(then, now)| {
                format!(
                    "publication {name} sends {} {}; recovery point {point} has it with {}: it is left as it is",
                    then.name,
                    restriction(now),
                    restriction(then)
                )
            })
            .collect()
    }
}

/// What a table is published with: `all columns, where (id < 1000)`.
fn restriction(table: &PublishedTable) -> String {
    let columns = match &table.columns {
        Some(columns) => format!("columns {}", columns.join(", ")),
        None => "all columns".to_owned(),
    };
    match &table.filter {
        Some(filter) => format!("{columns} where {filter}"),
        None => format!("{columns} of all rows"),
    }
}

/// What a recorded publication was made of, as far as the record has it.
pub(super) fn membership(saved: &Saved) -> Membership {
    let named = saved.named.clone().unwrap_or_default();
    Membership {
        all_tables: saved.all_tables,
        tables: named.tables.iter().map(|t| (t.name.clone(), as_member(t))).collect(),
        schemas: named.schemas.into_iter().collect(),
        operations: operations(saved),
        via_root: saved.via_root,
    }
}

fn operations(saved: &Saved) -> Operations {
    Operations::all_where(|operation| match operation {
        Operation::Insert => saved.insert,
        Operation::Update => saved.update,
        Operation::Delete => saved.delete,
        Operation::Truncate => saved.truncate,
    })
}

/// The first table whose changes somebody waits for, and which would never arrive. One that the connector itself adds to its
/// publication when it starts is none.
pub(super) fn obstacle<'c>(capture: &Connector, coverage: &'c Coverage) -> Option<&'c Captured> {
    let added = |table: &Captured| {
        let outside = matches!(&table.stream, Stream::Nowhere(names) if names.is_empty());
        capture.owns_publication && outside && table.relation.kind != RelationKind::Unlogged
    };
    coverage.unstreamed().find(|table| must_stream(capture, table) && !added(table))
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

impl Wanted {
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

    /// The changes that add what a publication lacks. Of tables those that the connector takes: others are another reader's
    /// matter, and it may have been taken out on purpose.
    fn correct(self, capture: &Connector, there: &Membership, relations: &[Relation]) -> PublicationRepair {
        let mut changes = Vec::new();
        // It may have every table there is and will be.
        if !there.all_tables {
            let published = there.resolved(relations);
            let all = Coverage::of(&Connector::of(&Default::default()), relations, Some(&published));
            let sent = |table: &TableName| !all.unstreamed().any(|t| t.relation.name == *table);
            let below = |table: &TableName| relations.iter().any(|r| r.partition_of.as_ref() == Some(table));
            let taken = |table: &TableName| capture.lists.table(table) != Choice::Left || below(table);
            let tables: Vec<_> = self.tables.into_iter().filter(|t| taken(&t.name) && !sent(&t.name)).collect();
            let schemas: Vec<_> = self.schemas.into_iter().filter(|s| !there.schemas.contains(s)).collect();
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

    fn create(self) -> PublicationRepair {
        let Wanted { name, all_tables, tables, schemas, options } = self;
        PublicationRepair { name, changes: vec![PublicationChange::Create { all_tables, tables, schemas, options }] }
    }
}

impl PublicationRepair {
    /// The row filters that tables are given.
    pub(super) fn filters(&self) -> impl Iterator<Item = (&TableName, &str)> {
        let tables = self.changes.iter().flat_map(|change| match change {
            PublicationChange::Create { tables, .. } | PublicationChange::Add { tables, .. } => tables.as_slice(),
            PublicationChange::Publish(_) | PublicationChange::ViaRoot(_) => &[],
        });
        tables.filter_map(|table| Some((&table.name, table.filter.as_deref()?)))
    }

    /// Whether a publication is given tables by name.
    fn gives_tables(&self) -> bool {
        self.changes.iter().any(|change| match change {
            PublicationChange::Create { tables, .. } | PublicationChange::Add { tables, .. } => !tables.is_empty(),
            PublicationChange::Publish(_) | PublicationChange::ViaRoot(_) => false,
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::NamedMembers;
    use cdc_model::units::Failure;
    use cdc_pipeline::debezium::Inheritance;

    fn name(text: &str) -> TableName {
        TableName::new("public", text)
    }

    fn schemas() -> BTreeSet<String> {
        ["public", "s"].map(str::to_owned).into()
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

    /// A publication of these tables.
    fn of(tables: &[&str]) -> Saved {
        let named = NamedMembers { tables: tables.iter().map(|t| published(t, None, None)).collect(), schemas: vec![] };
        saved(Some(named), &[])
    }

    fn takes(list: &str) -> Connector {
        Connector::of(&[("table.include.list".to_owned(), list.to_owned())].into())
    }

    fn everything() -> Connector {
        Connector::of(&Default::default())
    }

    /// What is known: as it is, as recorded, as found.
    fn repair(
        there: Option<&Saved>,
        recorded: Option<&Saved>,
        found: Option<&Saved>,
        capture: &Connector,
    ) -> Result<PublicationRepair, RecoveryError> {
        let columns = [(name("o"), ["id".to_owned(), "re\"gion".to_owned()].into())].into();
        let recorded = recorded.map(|saved| (saved, "P"));
        Known { there, recorded, found, relations: &relations(), schemas: &schemas(), columns: &columns }
            .repair(capture)
    }

    fn statements(there: Option<&Saved>, recorded: Option<&Saved>) -> Vec<String> {
        repair(there, recorded, None, &everything()).unwrap().statements()
    }

    #[test]
    fn a_publication_is_made_as_it_was() {
        let filtered = published("o", Some("(id < 1000)"), Some(&["id", "re\"gion", "dropped"]));
        let named = NamedMembers { tables: vec![filtered, published("gone", None, None)], schemas: vec!["s".into()] };
        let mut was = saved(Some(named), &["o", "gone"]);
        assert_eq!(
            statements(None, Some(&was)),
            [
                r#"create publication "pub" for table only "public"."o" ("id", "re""gion") where ((id < 1000)), tables in schema "s" with (publish = 'insert, update, delete, truncate', publish_via_partition_root = false)"#
            ]
        );
        // A schema that is gone would fail the statement when the topics are gone already.
        was.named = Some(NamedMembers { tables: vec![], schemas: vec!["s".into(), "gone".into()] });
        assert!(
            statements(None, Some(&was))[0].starts_with(r#"create publication "pub" for tables in schema "s" with"#)
        );
        // Where a list of columns names none that is left, the table would be published with all others.
        was.named = Some(NamedMembers { tables: vec![published("o", None, Some(&["dropped"]))], schemas: vec![] });
        assert!(statements(None, Some(&was))[0].starts_with(r#"create publication "pub" with"#));
    }

    #[test]
    fn a_point_without_filters_and_columns_makes_no_publication_wider() {
        let (old, exact) = (saved(None, &["ev_1", "ev_2"]), of(&["o"]));
        for there in [None, Some(of(&["o"]))] {
            let refused = repair(there.as_ref(), Some(&old), None, &everything()).unwrap_err();
            assert_eq!(refused.exit(), cdc_model::units::Exit::PlanImpossible);
            assert!(refused.to_string().contains("recovery point P"), "{refused}");
        }
        // Nothing is lost where it has all tables, where what is there sends them, and where it was found.
        let all = Saved { all_tables: true, ..saved(None, &["a"]) };
        assert!(statements(None, Some(&all))[0].starts_with(r#"create publication "pub" for all tables with"#));
        assert_eq!(statements(Some(&of(&["ev"])), Some(&old)), [""; 0]);
        let made = repair(None, Some(&old), Some(&exact), &everything()).unwrap().statements();
        assert!(made[0].contains(r#"for table only "public"."o" with"#), "{made:?}");
    }

    #[test]
    fn what_was_found_counts_where_nothing_was_recorded() {
        let named = NamedMembers { tables: vec![published("o", Some("(id < 5)"), None)], schemas: vec![] };
        let made = repair(None, None, Some(&saved(Some(named), &[])), &everything()).unwrap().statements();
        assert!(made[0].contains(r#"table only "public"."o" where ((id < 5))"#), "{made:?}");
    }

    #[test]
    fn what_a_publication_lacks_is_added() {
        let named = NamedMembers {
            tables: vec![published("ev", None, None), published("a", None, None)],
            schemas: vec!["s".into()],
        };
        let was = Saved { truncate: false, ..saved(Some(named), &[]) };
        let inserts = Saved { update: false, delete: false, via_root: true, ..of(&["ev"]) };
        assert_eq!(
            statements(Some(&inserts), Some(&was)),
            [
                r#"alter publication "pub" add table only "public"."a", tables in schema "s""#,
                r#"alter publication "pub" set (publish = 'insert, update, delete, truncate')"#,
                r#"alter publication "pub" set (publish_via_partition_root = false)"#,
            ]
        );
        let mut complete = of(&["a", "ev_1", "ev_2"]);
        complete.named.as_mut().unwrap().schemas = vec!["s".into()];
        assert_eq!(statements(Some(&complete), Some(&was)), [""; 0]);
        // What the connector does not take may have been taken out on purpose.
        let others = repair(Some(&of(&["ev"])), Some(&of(&["ev", "a", "o"])), None, &takes("public.a")).unwrap();
        assert_eq!(others.statements(), [r#"alter publication "pub" add table only "public"."a""#]);
    }

    #[test]
    fn a_repair_leads_to_what_it_says() {
        let (was, there) = (of(&["ev", "a"]), Saved { insert: false, via_root: true, ..of(&["ev"]) });
        for there in [None, Some(&there)] {
            let repair = repair(there, Some(&was), None, &everything()).unwrap();
            assert_eq!(repair.applied(there.map(membership)), membership(&was));
        }
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
        let added = |there: &Saved| {
            let (recorded, columns) = (of(&["log"]), BTreeMap::new());
            let recorded = Some((&recorded, "P"));
            let known = Known {
                there: Some(there),
                recorded,
                found: None,
                relations: &relations,
                schemas: &schemas(),
                columns: &columns,
            };
            known.repair(&everything()).unwrap().statements()
        };
        assert_eq!(added(&of(&["a"])), [r#"alter publication "pub" add table only "public"."log""#]);
        assert!(added(&of(&["a", "log"])).is_empty());
    }

    #[test]
    fn where_nothing_was_recorded_the_lists_say_what_is_published() {
        let made = |capture: &Connector| repair(None, None, None, capture).unwrap().statements().remove(0);
        let by_lists = |list: &str| made(&takes(list));
        let default = "dbz_publication";
        assert_eq!(by_lists("public.a"), format!(r#"create publication "{default}" for table only "public"."a""#));
        assert_eq!(by_lists("public.ev.*"), format!(r#"create publication "{default}" for table only "public"."ev""#));
        assert!(by_lists("public.ev").ends_with("publish_via_partition_root = true)"), "{}", by_lists("public.ev"));
        assert_eq!(made(&everything()), format!(r#"create publication "{default}" for all tables"#));
    }

    #[test]
    fn another_filter_or_list_of_columns_is_named() {
        let with = |filter, columns| {
            let tables = vec![published("o", filter, columns), published("a", None, None)];
            saved(Some(NamedMembers { tables, schemas: vec![] }), &[])
        };
        let differences = |there: &Saved, recorded: &Saved| {
            let (relations, columns) = (relations(), BTreeMap::new());
            let recorded = Some((recorded, "P"));
            Known {
                there: Some(there),
                recorded,
                found: None,
                relations: &relations,
                schemas: &schemas(),
                columns: &columns,
            }
            .differences()
        };
        let (all, some) = (with(None, None), with(Some("(id < 5)"), Some(&["id"])));
        assert_eq!(
            differences(&all, &some),
            [
                "publication pub sends public.o all columns of all rows; recovery point P has it with columns id where (id < 5): it is left as it is"
            ]
        );
        assert_eq!(differences(&some, &all).len(), 1);
        assert_eq!(differences(&some, &some), [""; 0]);
    }

    #[test]
    fn a_connector_that_owns_its_publication_adds_its_tables() {
        let publication = of(&["a"]);
        let published = membership(&publication).resolved(&relations());
        let mut capture = takes("public.a,public.o");
        let missing = |capture: &Connector| {
            let coverage = Coverage::of(capture, &relations(), Some(&published));
            obstacle(capture, &coverage).map(|t| t.relation.name.to_string())
        };
        assert_eq!(missing(&capture), Some("public.o".into()));
        capture.owns_publication = true;
        assert_eq!(missing(&capture), None);
    }
}
