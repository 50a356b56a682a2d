//! What a publication was made of, and what the server makes of that.

use std::collections::{BTreeMap, BTreeSet};

use super::{Member, Operations, Publication, Relation, RelationKind};
use cdc_model::units::TableName;

/// A publication as its owner declared it, in contrast to [`Publication`], which has the tables as the server resolves them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// `FOR ALL TABLES`.
    pub all_tables: bool,
    /// The tables that it names, each with its row filter and list of columns; an empty list stands for all columns.
    pub tables: BTreeMap<TableName, Member>,
    /// The schemas that it names, each with all of its tables.
    pub schemas: BTreeSet<String>,
    /// What it publishes.
    pub operations: Operations,
    /// `publish_via_partition_root`.
    pub via_root: bool,
}

impl Membership {
    /// The publication as the server resolves it over these tables, by the rules of `pg_get_publication_tables`: with
    /// `publish_via_partition_root` a partition stands under the topmost published table above it; without it, partitions with
    /// rows stand for partitioned tables.
    pub fn resolved(&self, relations: &[Relation]) -> Publication {
        let by_name: BTreeMap<&TableName, &Relation> = relations.iter().map(|r| (&r.name, r)).collect();
        let ancestors = |relation: &Relation| {
            let above = relation.partition_of.as_ref();
            let above = std::iter::successors(above, |name| by_name.get(*name).and_then(|r| r.partition_of.as_ref()));
            above.cloned().collect::<Vec<TableName>>()
        };
        let named =
            |name: &TableName| self.all_tables || self.tables.contains_key(name) || self.schemas.contains(&name.schema);
        let mut resolved = Publication {
            all_tables: self.all_tables,
            operations: self.operations.clone(),
            via_root: self.via_root,
            ..Publication::default()
        };
        for relation in relations.iter().filter(|r| r.kind != RelationKind::Unlogged) {
            let published_above = ancestors(relation).iter().any(named);
            if !named(&relation.name) && !published_above {
                continue;
            }
            let partitioned = relation.kind == RelationKind::Partitioned;
            if partitioned {
                resolved.partitioned.insert(relation.name.clone());
            }
            let is_member = if self.via_root { !published_above } else { !partitioned };
            if is_member {
                let member = self.tables.get(&relation.name).cloned().unwrap_or_default();
                resolved.members.insert(relation.name.clone(), member);
            }
        }
        resolved
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::debezium::Inheritance;

    /// `a`, unlogged `u`, `ev` with the partitions `ev_1` and `ev_2`, the latter with `ev_2a` in schema `s`.
    fn relations() -> Vec<Relation> {
        use RelationKind::{Partitioned, Table, Unlogged};
        let of = |name: &str, kind, partition_of: Option<&str>| Relation {
            name: name.parse().unwrap(),
            kind,
            partition_of: partition_of.map(|name| name.parse().unwrap()),
            inheritance: Inheritance::None,
        };
        vec![
            of("public.a", Table, None),
            of("public.ev", Partitioned, None),
            of("public.ev_1", Table, Some("public.ev")),
            of("public.ev_2", Partitioned, Some("public.ev")),
            of("public.u", Unlogged, None),
            of("s.ev_2a", Table, Some("public.ev_2")),
        ]
    }

    #[rstest]
    #[case::root(&["public.ev"], &[], false, "public.ev_1 s.ev_2a", "public.ev public.ev_2")]
    #[case::root_via_root(&["public.ev"], &[], true, "public.ev", "public.ev public.ev_2")]
    #[case::middle_via_root(&["public.ev_2"], &[], true, "public.ev_2", "public.ev_2")]
    #[case::leaf_via_root(&["public.ev_1"], &[], true, "public.ev_1", "")]
    #[case::both_via_root(&["public.ev_1", "public.ev"], &[], true, "public.ev", "public.ev public.ev_2")]
    #[case::schema(&[], &["s"], false, "s.ev_2a", "")]
    #[case::schema_of_the_root(&[], &["public"], false, "public.a public.ev_1 s.ev_2a", "public.ev public.ev_2")]
    #[case::schema_via_root(&[], &["public"], true, "public.a public.ev", "public.ev public.ev_2")]
    fn tables_stand_under_the_names_that_the_server_gives_them(
        #[case] tables: &[&str],
        #[case] schemas: &[&str],
        #[case] via_root: bool,
        #[case] members: &str,
        #[case] partitioned: &str,
    ) {
        let tables = tables.iter().map(|t| (t.parse().unwrap(), Member::default())).collect();
        let schemas = schemas.iter().map(|s| (*s).to_owned()).collect();
        let resolved = Membership { tables, schemas, via_root, ..Membership::default() }.resolved(&relations());
        let mut shown: Vec<String> = resolved.members.keys().map(ToString::to_string).collect();
        shown.sort();
        assert_eq!(shown.join(" "), members);
        let shown: Vec<String> = resolved.partitioned.iter().map(ToString::to_string).collect();
        assert_eq!(shown.join(" "), partitioned);
    }

    #[test]
    fn all_tables_are_those_that_can_be_published() {
        let all = |via_root| Membership { all_tables: true, via_root, ..Membership::default() }.resolved(&relations());
        let names = |p: &Publication| p.members.keys().map(|t| t.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&all(true)), ["a", "ev"]);
        assert_eq!(names(&all(false)), ["a", "ev_1", "ev_2a"]);
    }

    #[test]
    fn a_member_keeps_its_filter_and_columns() {
        let member = Member { filter: Some("(id > 1)".into()), columns: vec!["id".into()] };
        let tables = [("public.a".parse().unwrap(), member.clone())].into();
        let resolved = Membership { tables, ..Membership::default() }.resolved(&relations());
        assert_eq!(resolved.members.values().collect::<Vec<_>>(), [&member]);
    }
}
