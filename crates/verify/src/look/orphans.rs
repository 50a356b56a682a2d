//! Topics with records that are compared with no table.

use std::collections::{BTreeMap, BTreeSet};

use super::{Systems, topics::filled};
use crate::observation::{ConnectorView, Orphan, OrphanKind, TableView};
use cdc_pipeline::{client::ClientError, debezium::Connector};

/// Looks for each connector's topics that have records and are compared with no table. A table that was dropped is in no
/// publication and in no catalogue; its rows are still in its topic.
pub(super) async fn orphans(
    systems: &Systems,
    connectors: &mut [ConnectorView],
    tables: &[TableView],
) -> Result<(), ClientError> {
    let there = systems.kafka.topics().await?;
    let taken: BTreeSet<&str> = tables.iter().map(|t| t.topic.as_str()).collect();
    // A worker that does not answer is another finding; without it more topics are unexplained.
    let worker = worker(systems).await.unwrap_or_default();
    for connector in connectors {
        let topics = there.keys().filter(|topic| !taken.contains(topic.as_str()));
        let others: Vec<&Connector> =
            worker.iter().filter(|(name, _)| *name != connector.settings.name).map(|(_, c)| c).collect();
        let without = orphaned(connector, &others, topics);
        let filled = filled(systems, without.iter().map(|o| o.topic.clone()).collect()).await?;
        let counted = without.into_iter().filter_map(|o| Some(Orphan { records: *filled.get(&o.topic)?, ..o }));
        connector.orphans = counted.collect();
    }
    Ok(())
}

/// Every connector of the worker, on whatever server.
async fn worker(systems: &Systems) -> Result<Vec<(String, Connector)>, ClientError> {
    let mut all = Vec::new();
    for name in systems.connect.connectors().await? {
        // One that was deleted since it was listed writes nothing.
        let Some((config, _)) = systems.connect.described(&name).await? else { continue };
        // A sink has no topics of its own.
        if config.get("topic.prefix").is_some_and(|prefix| !prefix.trim().is_empty()) {
            all.push((name, Connector::of(&config)));
        }
    }
    Ok(all)
}

/// Those of these topics that are of a connector's tables, by their names, and why they are compared with none. The topics of
/// other connectors may begin like this one's.
fn orphaned<'t>(
    connector: &ConnectorView,
    others: &[&Connector],
    topics: impl Iterator<Item = &'t String>,
) -> Vec<Orphan> {
    let (capture, coverage) = (&connector.settings.capture, &connector.coverage);
    let names = &capture.topics;
    let is_of = |other: &Connector, topic: &String| {
        // A prefix alone is the topic of schema changes.
        other.other_topics.contains(topic)
            || names.are_preceded_by(&other.topics, topic)
            || *topic == other.topics.prefix
    };
    let mut existing: BTreeMap<String, OrphanKind> = BTreeMap::new();
    let left = coverage.left.iter().map(|name| (name, OrphanKind::LeftOut(name.clone())));
    let elsewhere = coverage.tables.iter().map(|t| &t.relation.name);
    let elsewhere = elsewhere.map(|name| (name, OrphanKind::Elsewhere(name.clone())));
    for (name, kind) in left.chain(elsewhere) {
        existing.insert(names.topic(name), kind);
    }
    // Others say of these what is wrong, or that it is not known.
    let told = connector.unpublished.iter().chain(coverage.unknown.iter().map(|(name, _)| name));
    let told: BTreeSet<String> = told.map(|name| names.topic(name)).collect();
    let orphan = |topic: &String| {
        let gone = |table| OrphanKind::Gone { table, named: true };
        let kind = coverage.gone(capture, topic).map(gone).or_else(|| existing.get(topic).cloned());
        let kind = kind.or_else(|| {
            let of_another_use = capture.other_topics.contains(topic) || others.iter().any(|c| is_of(c, topic));
            if of_another_use || !topic.starts_with(&names.start()) {
                return None;
            }
            let table = |table| OrphanKind::Gone { table, named: false };
            Some(names.table(topic).map_or(OrphanKind::Unexplained, table))
        });
        Some(Orphan { topic: topic.clone(), kind: kind?, records: 0 })
    };
    topics.filter(|topic| !told.contains(*topic)).filter_map(orphan).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;

    use super::*;
    use crate::decode::settings::ConnectorSettings;
    use cdc_model::units::TableName;
    use cdc_pipeline::{
        client::connect::ConnectorConfig,
        debezium::{Coverage, Inheritance, Member, Publication, Relation, RelationKind},
    };

    fn config(settings: &[(&str, &str)]) -> ConnectorConfig {
        let fixed = [("connector.class", "Postgres"), ("plugin.name", "pgoutput"), ("topic.prefix", "shop")];
        fixed.iter().chain(settings).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    /// What a topic is taken for, where the database has `orders` and `order_lines`: `+` a ghost, `-` a table that is gone, `=` a
    /// table that the lists leave out or whose changes go elsewhere, each with its table; `?` unexplained.
    fn orphan(settings: &[(&str, &str)], others: &[&[(&str, &str)]], topic: &str) -> Option<String> {
        let config = config(settings);
        let settings = Arc::new(ConnectorSettings::parse("shop", &config).unwrap());
        let relations = ["orders", "order_lines"].map(|name| Relation {
            name: TableName::new("public", name),
            kind: RelationKind::Table,
            partition_of: None,
            inheritance: Inheritance::None,
        });
        let publication = Publication {
            members: relations.iter().map(|r| (r.name.clone(), Member::default())).collect(),
            ..Publication::default()
        };
        let view = ConnectorView {
            coverage: Coverage::of(&settings.capture, &relations, Some(&publication)),
            settings,
            config,
            status: Err("not asked".into()),
            offsets: Vec::new(),
            offsets_unread: None,
            publication: true,
            unpublished: Vec::new(),
            uncaptured: Vec::new(),
            orphans: Vec::new(),
            notes: Vec::new(),
        };
        let map = |pairs: &&[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let others: Vec<Connector> = others.iter().map(|pairs| Connector::of(&map(pairs))).collect();
        let found = orphaned(&view, &others.iter().collect::<Vec<_>>(), [topic.to_owned()].iter()).pop()?;
        Some(match found.kind {
            OrphanKind::Gone { table, named } => format!("{}{table}", if named { '+' } else { '-' }),
            OrphanKind::LeftOut(table) | OrphanKind::Elsewhere(table) => format!("={table}"),
            OrphanKind::Unexplained => "?".to_owned(),
        })
    }

    #[rstest]
    #[case::plain(".", "public.orders,public.items", "shop.public.items", "+public.items")]
    #[case::delimiter_in_the_name(
        "_",
        "public.orders,public.order_items",
        "shop_public_order_items",
        "+public.order_items"
    )]
    #[case::replaced_characters(
        ".",
        "public.orders,public.order items",
        "shop.public.order_items",
        "+public.order items"
    )]
    #[case::topic_of_a_table_left_out(
        ".",
        "public.orders,public.order lines",
        "shop.public.order_lines",
        "+public.order lines"
    )]
    #[case::cut(".", &format!("public.{}", "t".repeat(249)), &format!("shop.public.{}", "t".repeat(237)), &format!("+public.{}", "t".repeat(249)))]
    #[case::another_case(".", "PUBLIC.Items", "shop.public.items", "+public.items")]
    #[case::another_case_and_delimiter("_", "public.Order_Items", "shop_public_order_items", "+public.Order_Items")]
    #[case::left_out_by_another_list(".", "public.orders,other.items", "shop.other.items", "-other.items")]
    #[case::matched_by_a_pattern(".", "public.orders,public.i.*", "shop.public.items", "-public.items")]
    #[case::left_out(".", "public.orders", "shop.public.order_lines", "=public.order_lines")]
    #[case::not_to_be_divided("_", "public.orders", "shop_public_old_items", "?")]
    #[case::too_many_parts(".", "public.orders", "shop.a.b.c", "?")]
    fn a_topic_of_a_table_that_the_list_names_and_that_is_gone_is_a_ghost(
        #[case] delimiter: &str,
        #[case] list: &str,
        #[case] topic: &str,
        #[case] expected: &str,
    ) {
        let settings =
            [("topic.delimiter", delimiter), ("schema.include.list", "public"), ("table.include.list", list)];
        assert_eq!(orphan(&settings, &[], topic).as_deref(), Some(expected));
    }

    #[rstest]
    #[case::transactions("shop.transaction")]
    #[case::messages("shop.message")]
    #[case::heartbeats("shop.beat.shop")]
    #[case::schema_history("shop.history")]
    #[case::signals("shop.signals")]
    #[case::notifications("shop.notes")]
    #[case::another_prefix("web.public.items")]
    #[case::a_longer_prefix("shop.eu.public.items")]
    #[case::transactions_of_a_longer_prefix("shop.eu.transaction")]
    #[case::schema_changes_of_a_longer_prefix("shop.eu")]
    fn a_topic_of_another_use_is_none(#[case] topic: &str) {
        let settings = [
            ("table.include.list", "public.orders"),
            ("topic.heartbeat.prefix", "shop.beat"),
            ("signal.kafka.topic", "shop.signals"),
            ("notification.sink.topic.name", "shop.notes"),
            ("schema.history.internal.kafka.topic", "shop.history"),
        ];
        let others: [&[_]; 2] = [&[("topic.prefix", "shop.eu")], &[("topic.prefix", "sho")]];
        assert_eq!(orphan(&settings, &others, topic), None);
        assert_eq!(orphan(&settings, &others, "shop.public.items").as_deref(), Some("-public.items"));
    }

    #[test]
    fn signals_and_messages_are_told_by_their_defaults() {
        let settings = [("topic.delimiter", "-"), ("table.include.list", "public.orders")];
        assert_eq!(orphan(&settings, &[], "shop-signal"), None);
        assert_eq!(orphan(&settings, &[], "shop-transaction"), None);
        assert_eq!(orphan(&settings, &[], "shop.message"), None);
    }

    #[test]
    fn a_prefix_is_taken_as_it_is_written() {
        assert_eq!(orphan(&[("table.include.list", "public.items")], &[], "SHOP.public.items"), None);
    }

    #[test]
    fn a_listed_table_is_no_other_connector_s() {
        let settings = [("table.include.list", "public.items")];
        let others: [&[_]; 1] = [&[("topic.prefix", "shop.public")]];
        assert_eq!(orphan(&settings, &others, "shop.public.items").as_deref(), Some("+public.items"));
    }
}
