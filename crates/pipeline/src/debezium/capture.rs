//! What a connector captures of a database: its lists, the catalogue and the publication put together.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Choice, Connector, Operations, Unknown, Unmatched};
use cdc_model::units::TableName;

/// A table of the catalogue, as far as capture goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    /// Its name.
    pub name: TableName,
    /// What it is.
    pub kind: RelationKind,
    /// The table that it is a partition of.
    pub partition_of: Option<TableName>,
    /// Whether other tables inherit from it.
    pub inheritance: Inheritance,
}

/// What a relation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RelationKind {
    /// A table with rows of its own, a partition among them.
    Table,
    /// A partitioned table, whose rows are its partitions'.
    Partitioned,
    /// An unlogged table: its changes are in no WAL, and no publication can have it.
    Unlogged,
}

/// Whether a table has children by `INHERITS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inheritance {
    /// It has none; partitions do not count.
    None,
    /// It has. A query without ONLY, as a snapshot makes it, reads their rows too; their changes are streamed as theirs.
    Parent,
}

/// A publication, as the server resolves it: partitions or their roots, members of schemas and of all tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publication {
    /// `FOR ALL TABLES`.
    pub all_tables: bool,
    /// What it publishes.
    pub operations: Operations,
    /// `publish_via_partition_root`.
    pub via_root: bool,
    /// Its tables.
    pub members: BTreeMap<TableName, Member>,
    /// The partitioned tables in it: added as such, as partitions of others, with their schema, or with all tables. The server
    /// lists partitions in their place, and nothing where there are none.
    pub partitioned: BTreeSet<TableName>,
}

/// A table of a publication.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The row filter, as an SQL expression.
    pub filter: Option<String>,
    /// The columns that are published.
    pub columns: Vec<String>,
}

/// A table that a connector's lists take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// The table.
    pub relation: Relation,
    /// The tables that it is a partition of, from the nearest on.
    pub partition_of: Vec<TableName>,
    /// Where its changes go.
    pub stream: Stream,
    /// Whether a snapshot reads it.
    pub snapshot: bool,
}

/// Where the changes of a table go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// To the topic of its name.
    Own(Member),
    /// To the topics of these, all of which the lists take: its partitions', or its root's. None where it is partitioned and has
    /// no partitions.
    Elsewhere(Vec<TableName>),
    /// Nowhere: it is in no publication, or its changes come under the names of these tables, which the lists leave out.
    Nowhere(Vec<TableName>),
}

/// What a connector captures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// The tables that its lists take, by name.
    pub tables: Vec<Captured>,
    /// Tables that its lists leave out.
    pub left: Vec<TableName>,
    /// Tables of which nobody can say, and why.
    pub unknown: Vec<(TableName, Unknown)>,
    /// Entries of the lists that no table matches, in the lists' order.
    pub unmatched: Vec<Unmatched>,
    /// What the connector would write and the publication does not send.
    pub unpublished_operations: Operations,
}

impl Coverage {
    /// Puts a connector's lists, the tables of its database and its publication together. Where there is no publication, every
    /// table that the lists take counts as published: that it is missing is another finding.
    pub fn of(connector: &Connector, relations: &[Relation], publication: Option<&Publication>) -> Coverage {
        let mut coverage = Coverage::default();
        let choices = relations.iter().map(|r| (&r.name, (r, connector.lists.table(&r.name))));
        let catalogue = Catalogue { relations: choices.collect() };
        for relation in relations {
            match catalogue.choice(&relation.name) {
                None | Some(Choice::Left) => coverage.left.push(relation.name.clone()),
                Some(Choice::Unknown(unknown)) => coverage.unknown.push((relation.name.clone(), unknown.clone())),
                Some(Choice::Taken) => coverage.tables.push(Captured {
                    partition_of: catalogue.ancestors(relation).cloned().collect(),
                    stream: catalogue.stream(relation, publication),
                    snapshot: connector.lists.snapshot(&relation.name) == Choice::Taken,
                    relation: relation.clone(),
                }),
            }
        }
        coverage.unmatched = connector.lists.unmatched(relations.iter().map(|r| &r.name));
        if let Some(publication) = publication {
            coverage.unpublished_operations = connector.operations.without(&publication.operations);
        }
        coverage
    }

    /// The tables whose changes should arrive, and never do.
    pub fn unstreamed(&self) -> impl Iterator<Item = &Captured> {
        self.tables.iter().filter(|t| matches!(t.stream, Stream::Nowhere(_)))
    }

    /// The tables that are no partitions of others that are taken as well: each row is in one of them.
    pub fn disjoint(&self) -> impl Iterator<Item = &TableName> {
        let taken: BTreeSet<&TableName> = self.tables.iter().map(|t| &t.relation.name).collect();
        let below = move |t: &&Captured| t.partition_of.iter().any(|name| taken.contains(name));
        self.tables.iter().filter(move |t| !below(t)).map(|t| &t.relation.name)
    }

    /// The table of a topic that the connector's list of tables has by its name, and the database has no more. What a topic's name
    /// does not tell, the list does: several tables may share one, and a name need not divide into schema and table.
    pub fn gone(&self, connector: &Connector, topic: &str) -> Option<TableName> {
        let (topics, lists) = (&connector.topics, &connector.lists);
        if !topic.starts_with(&topics.start()) {
            return None;
        }
        let left = self.left.iter().chain(self.unknown.iter().map(|(name, _)| name));
        let there: Vec<&TableName> = self.tables.iter().map(|t| &t.relation.name).chain(left).collect();
        let writes = |t: &Captured| matches!(t.stream, Stream::Own(_)) && topics.topic(&t.relation.name) == topic;
        if self.tables.iter().any(writes) {
            return None;
        }
        // Names match in either case; the topic has the table's own.
        let is_there = |name: &TableName| there.iter().any(|t| t.to_string().eq_ignore_ascii_case(&name.to_string()));
        let read =
            topics.table(topic).filter(|name| lists.names(name) && !there.iter().any(|t| topics.topic(t) == topic));
        let listed = lists.named().into_iter().filter(|name| topics.topic(name).eq_ignore_ascii_case(topic));
        let mut candidates = read.into_iter().chain(listed.filter(|name| !is_there(name)));
        candidates.find(|name| lists.table(name) != Choice::Left)
    }

    /// A table that the lists take.
    pub fn table(&self, name: &TableName) -> Option<&Captured> {
        self.tables.iter().find(|t| t.relation.name == *name)
    }
}

/// The tables of a database, by name, and what the lists say of each.
struct Catalogue<'r> {
    relations: BTreeMap<&'r TableName, (&'r Relation, Choice)>,
}

impl<'r> Catalogue<'r> {
    fn choice(&self, name: &TableName) -> Option<&Choice> {
        self.relations.get(name).map(|(_, choice)| choice)
    }

    /// The tables that a partition is of, from the nearest on.
    fn ancestors(&self, relation: &'r Relation) -> impl Iterator<Item = &'r TableName> {
        let parent = move |name: &TableName| self.relations.get(name).and_then(|(r, _)| r.partition_of.as_ref());
        std::iter::successors(relation.partition_of.as_ref(), move |name| parent(name))
    }

    /// The partitions below a partitioned table that have rows.
    fn leaves(&self, root: &TableName) -> Vec<&'r TableName> {
        let all = self.relations.values().map(|(relation, _)| *relation);
        let below = all.filter(|r| r.kind != RelationKind::Partitioned && self.ancestors(r).any(|a| a == root));
        below.map(|r| &r.name).collect()
    }

    fn stream(&self, relation: &'r Relation, publication: Option<&Publication>) -> Stream {
        let owned = |names: Vec<&TableName>| names.into_iter().cloned().collect();
        let Some(publication) = publication else {
            return match relation.kind {
                RelationKind::Partitioned => Stream::Elsewhere(owned(self.leaves(&relation.name))),
                _ => Stream::Own(Member::default()),
            };
        };
        if let Some(member) = publication.members.get(&relation.name) {
            return Stream::Own(member.clone());
        }
        let published = |name: &TableName| publication.members.contains_key(name);
        let taken = |name: &TableName| self.choice(name) == Some(&Choice::Taken);
        let partitions = match relation.kind {
            RelationKind::Partitioned => self.leaves(&relation.name),
            _ => Vec::new(),
        };
        let childless = partitions.is_empty();
        let sources = if childless { vec![&relation.name] } else { partitions };
        // The names that their changes come under; none for one that is not published.
        let names: Vec<Option<&TableName>> =
            sources.into_iter().map(|name| self.published_as(name, published)).collect();
        // Of a partitioned table without partitions the server lists nothing, unless a table above it is published as a whole.
        if childless && names == [None] && publication.partitioned.contains(&relation.name) {
            return Stream::Elsewhere(Vec::new());
        }
        let published: BTreeSet<&TableName> = names.iter().copied().flatten().collect();
        match names.iter().all(|name| name.is_some_and(taken)) {
            true => Stream::Elsewhere(owned(published.into_iter().collect())),
            false => Stream::Nowhere(owned(published.into_iter().filter(|name| !taken(name)).collect())),
        }
    }

    /// The name under which the changes of a table arrive: its own, or that of the nearest published table above it.
    fn published_as(&self, name: &'r TableName, published: impl Fn(&TableName) -> bool) -> Option<&'r TableName> {
        let relation = self.relations.get(name).map(|(relation, _)| *relation);
        let above = relation.into_iter().flat_map(|relation| self.ancestors(relation));
        std::iter::once(name).chain(above).find(|name| published(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debezium::Operation;
    use rstest::rstest;

    fn name(text: &str) -> TableName {
        TableName::new("public", text)
    }

    /// `a` and `b`; `city` with a child `capital`; `ev` partitioned into `ev_1` and `ev_2`, the latter into `ev_2a`; `log` with
    /// the partition `log_1`, which is partitioned and has none.
    fn relations() -> Vec<Relation> {
        let relation = |table, kind, partition_of: Option<&str>, inheritance| Relation {
            name: name(table),
            kind,
            partition_of: partition_of.map(name),
            inheritance,
        };
        use Inheritance::{None as Childless, Parent};
        use RelationKind::{Partitioned, Table, Unlogged};
        vec![
            relation("a", Table, None, Childless),
            relation("b", Table, None, Childless),
            relation("capital", Table, None, Childless),
            relation("city", Table, None, Parent),
            relation("ev", Partitioned, None, Childless),
            relation("ev_1", Table, Some("ev"), Childless),
            relation("ev_2", Partitioned, Some("ev"), Childless),
            relation("ev_2a", Table, Some("ev_2"), Childless),
            relation("log", Partitioned, None, Childless),
            relation("log_1", Partitioned, Some("log"), Childless),
            relation("u", Unlogged, None, Childless),
        ]
    }

    fn publication(members: &[&str]) -> Publication {
        Publication {
            operations: Operations::all_where(|_| true),
            members: members.iter().map(|m| (name(m), Member::default())).collect(),
            ..Publication::default()
        }
    }

    fn coverage(list: &str, publication: Option<&Publication>) -> Coverage {
        let list = BTreeMap::from([("table.include.list".to_owned(), list.to_owned())]);
        Coverage::of(&Connector::of(&list), &relations(), publication)
    }

    /// `a=own`, `ev=elsewhere(ev_1 ev_2a)`, `ev=nowhere(ev_1)` for each table taken.
    fn shown(coverage: &Coverage) -> Vec<String> {
        let list = |names: &[TableName]| names.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(" ");
        let of = |c: &Captured| {
            let stream = match &c.stream {
                Stream::Own(_) => "own".to_owned(),
                Stream::Elsewhere(names) => format!("elsewhere({})", list(names)),
                Stream::Nowhere(names) => format!("nowhere({})", list(names)),
            };
            format!("{}={stream}", c.relation.name.name)
        };
        coverage.tables.iter().map(of).collect()
    }

    #[rstest]
    #[case::published("public.a", &["a", "b"], &["a=own"])]
    #[case::not_published("public.a,public.b", &["b"], &["a=nowhere()", "b=own"])]
    #[case::unlogged("public.u", &["a"], &["u=nowhere()"])]
    #[case::partitions_and_root_listed("public.ev.*", &["ev_1", "ev_2a"], &["ev=elsewhere(ev_1 ev_2a)", "ev_1=own", "ev_2=elsewhere(ev_2a)", "ev_2a=own"])]
    #[case::root_listed_alone_and_published_by_partitions("public.ev", &["ev_1", "ev_2a"], &["ev=nowhere(ev_1 ev_2a)"])]
    #[case::root_listed_and_published_by_root("public.ev", &["ev"], &["ev=own"])]
    #[case::partition_listed_and_published_by_root("public.ev_1", &["ev"], &["ev_1=nowhere(ev)"])]
    #[case::partition_of_a_partition_by_root("public.ev,public.ev_2a", &["ev"], &["ev=own", "ev_2a=elsewhere(ev)"])]
    #[case::partitioned_partition_by_root("public.ev.*", &["ev"], &["ev=own", "ev_1=elsewhere(ev)", "ev_2=elsewhere(ev)", "ev_2a=elsewhere(ev)"])]
    #[case::partitions_by_the_nearest_root("public.ev.*", &["ev_1", "ev_2"], &["ev=elsewhere(ev_1 ev_2)", "ev_1=own", "ev_2=own", "ev_2a=elsewhere(ev_2)"])]
    #[case::one_partition_not_published("public.ev.*", &["ev_1"], &["ev=nowhere()", "ev_1=own", "ev_2=nowhere()", "ev_2a=nowhere()"])]
    #[case::one_partition_not_listed("public.ev,public.ev_1", &["ev_1", "ev_2a"], &["ev=nowhere(ev_2a)", "ev_1=own"])]
    fn changes_go_where_publication_and_lists_let_them(
        #[case] list: &str,
        #[case] members: &[&str],
        #[case] expected: &[&str],
    ) {
        assert_eq!(shown(&coverage(list, Some(&publication(members)))), expected);
    }

    #[rstest]
    #[case::in_it(&[], &["log", "log_1"], &["log=elsewhere()", "log_1=elsewhere()"])]
    #[case::in_it_by_root(&["log"], &["log", "log_1"], &["log=own", "log_1=elsewhere(log)"])]
    #[case::not_in_it(&["a"], &[], &["log=nowhere()", "log_1=nowhere()"])]
    fn a_table_without_partitions_has_no_changes_to_publish(
        #[case] members: &[&str],
        #[case] partitioned: &[&str],
        #[case] expected: &[&str],
    ) {
        let partitioned = partitioned.iter().map(|p| name(p)).collect();
        let publication = Publication { partitioned, ..publication(members) };
        assert_eq!(shown(&coverage("public.log.*", Some(&publication))), expected);
    }

    #[test]
    fn without_a_publication_what_the_lists_take_counts_as_published() {
        assert_eq!(shown(&coverage("public.(a|ev)", None)), ["a=own", "ev=elsewhere(ev_1 ev_2a)"]);
    }

    #[test]
    fn what_is_left_out_and_what_nobody_can_say_are_apart() {
        let coverage = coverage(r"public\.a,public\.[b-c]\p{IsLatin}*", Some(&publication(&["a", "b"])));
        assert_eq!(shown(&coverage), ["a=own"]);
        assert!(coverage.left.is_empty(), "{:?}", coverage.left);
        let unknown: BTreeSet<&str> = coverage.unknown.iter().map(|(t, _)| t.name.as_str()).collect();
        assert!(unknown.contains("b") && unknown.contains("city"), "{unknown:?}");
    }

    #[rstest]
    #[case::no_schema_and_misspelt("table.include.list", "public.a,b,public.custmers", &["b", "public.custmers"])]
    #[case::patterns("table.include.list", r"public\.ev_.*,public\.x.*", &[r"public\.x.*"])]
    #[case::not_understood("table.include.list", r"public.a,public\.\p{IsGreek}+", &[])]
    #[case::misspelt_exclusion("table.exclude.list", "public.a,public.scret", &["public.scret"])]
    #[case::schemas("schema.include.list", "public,sales", &["sales"])]
    #[case::snapshots("snapshot.include.collection.list", "public.a,public.aa", &["public.aa"])]
    fn expressions_that_match_nothing_are_named(#[case] setting: &str, #[case] list: &str, #[case] expected: &[&str]) {
        let config = BTreeMap::from([(setting.to_owned(), list.to_owned())]);
        let unmatched = Coverage::of(&Connector::of(&config), &relations(), None).unmatched;
        assert!(unmatched.iter().all(|entry| entry.setting == setting));
        assert_eq!(unmatched.iter().map(|entry| entry.expression.as_str()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_inclusion_that_another_list_undoes_matches_nothing() {
        let lists = [("schema.include.list", "sales|public"), ("table.include.list", "public.a,other.b")];
        let config = lists.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let relations =
            [Relation { name: TableName::new("other", "b"), ..relations()[1].clone() }, relations()[0].clone()];
        let unmatched = Coverage::of(&Connector::of(&config), &relations, None).unmatched;
        assert_eq!(unmatched.iter().map(|entry| entry.expression.as_str()).collect::<Vec<_>>(), ["other.b"]);
    }

    #[test]
    fn operations_that_the_connector_would_write_and_nobody_sends() {
        let inserts =
            Publication { operations: Operations::all_where(|o| o == Operation::Insert), ..publication(&["a"]) };
        assert_eq!(coverage("public.a", Some(&inserts)).unpublished_operations.to_string(), "update, delete");
        assert!(coverage("public.a", Some(&publication(&["a"]))).unpublished_operations.is_empty());
        assert!(coverage("public.a", None).unpublished_operations.is_empty());
    }
}
