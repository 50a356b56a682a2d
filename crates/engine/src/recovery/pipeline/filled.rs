//! Which topics a connector's snapshot fills again: those of tables that it captures. The others stay as they are.

use std::collections::BTreeSet;

use super::{Pipeline, found::Source};
use crate::{
    backup::Point,
    recovery::{Playbook, RecoveryError, Request},
};
use cdc_model::units::TableName;
use cdc_pipeline::{
    client::{catalogue, postgres::Postgres},
    config::Config,
    debezium::{Choice, Connector, Relation},
};

/// The tables of a source's database, as far as they are known before anything is touched.
pub(super) struct Tables {
    known: Vec<TableName>,
    /// Whether there are no others: the database stays as it is.
    all: bool,
}

impl Tables {
    /// Those that the live server has, and, where it goes back or does not answer, those that the recovery point's publications
    /// had.
    pub(super) async fn look(
        config: &Config,
        source: &Source,
        request: &Request,
        server: Option<&Postgres>,
        point: Option<&Point>,
    ) -> Result<Tables, RecoveryError> {
        let goes_back = request.playbook == Playbook::Coordinated;
        let live = match server {
            Some(_) => relations(config, source).await.map(Some),
            None => Ok(None),
        };
        let live = match live {
            Ok(live) => live,
            // A damaged catalogue is what such a recovery is for.
            Err(_) if goes_back => None,
            Err(error) => return Err(error),
        };
        let mut known = names_of(live.as_deref().unwrap_or_default());
        if let (true, Some(point)) = (goes_back, point) {
            let databases = point.publications()?.into_iter().filter(|d| d.database == source.database);
            known.extend(databases.flat_map(|d| d.publications).flat_map(|p| p.tables));
        }
        Ok(Tables { known, all: !goes_back })
    }
}

async fn relations(config: &Config, source: &Source) -> Result<Vec<Relation>, RecoveryError> {
    let url = &config.postgres.url;
    let session = Postgres::connect_database(url, &source.database, "cdc-drill-recovery").await?;
    Ok(catalogue::relations(&session).await?)
}

fn names_of(relations: &[Relation]) -> Vec<TableName> {
    relations.iter().map(|r| r.name.clone()).collect()
}

impl Source {
    /// Divides topics into those of tables that the connector captures, and the others, which nothing would fill again.
    pub(super) fn divide(&mut self, candidates: BTreeSet<String>, tables: &Tables) {
        let (topics, left): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|topic| is_filled(&self.capture, topic, tables));
        self.topics = topics;
        self.left.extend(left);
    }
}

/// Whether the connector's snapshot fills a topic, or its table is gone and its list of tables still has it by name.
fn is_filled(connector: &Connector, topic: &str, tables: &Tables) -> bool {
    if !connector.renames_topics.is_empty() {
        return true;
    }
    let (names, lists) = (&connector.topics, &connector.lists);
    let taken = |table: &TableName| lists.table(table) == Choice::Taken;
    // The list names tables in either case, and a topic has its table's own.
    let is_named = |table: &TableName| taken(table) && names.topic(table).eq_ignore_ascii_case(topic);
    tables.known.iter().any(|table| taken(table) && names.topic(table) == topic)
        || (topic.starts_with(&names.start()) && lists.named().iter().any(is_named))
        || (!tables.all && names.table(topic).is_some_and(|table| taken(&table)))
}

impl Pipeline {
    /// Leaves out of the recovery what nothing fills again: of a database that has gone back, only now it is known which tables
    /// it has.
    pub(crate) async fn settle_topics(&mut self) -> Result<(), RecoveryError> {
        for index in 0..self.sources.len() {
            let source = &self.sources[index];
            let relations = catalogue::relations(&self.session(source).await?).await?;
            let tables = Tables { known: names_of(&relations), all: true };
            let source = &mut self.sources[index];
            let topics = std::mem::take(&mut source.topics);
            source.divide(topics.into_iter().collect(), &tables);
        }
        let kept: BTreeSet<&String> = self.sources.iter().flat_map(|s| &s.topics).collect();
        self.topics.retain(|t| kept.contains(&t.name));
        for group in &mut self.groups {
            group.offsets.retain(|(partition, _)| kept.contains(&partition.topic));
        }
        self.groups.retain(|g| !g.offsets.is_empty());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use cdc_pipeline::client::connect::ConnectorConfig;

    #[rstest]
    #[case::captured("shop.public.a", true, true)]
    #[case::name_that_topics_cannot_have("shop.public.O_rder", true, true)]
    #[case::taken_out_of_the_list("shop.public.b", true, false)]
    #[case::another_prefix("old.public.a", true, false)]
    #[case::transactions("shop.transaction", true, false)]
    #[case::named_and_gone("shop.public.gone", true, true)]
    #[case::named_in_another_case_and_gone("shop.public.GONE", true, true)]
    #[case::another_prefix_in_another_case("SHOP.public.gone", true, false)]
    #[case::dropped_long_ago("shop.public.ev_2019", true, false)]
    #[case::dropped_and_perhaps_there_again("shop.public.ev_2019", false, true)]
    #[case::never_of_this_connector("shop.public.b", false, false)]
    fn what_is_emptied_is_what_is_filled_again(#[case] topic: &str, #[case] all: bool, #[case] filled: bool) {
        let list = r"public.a,public\.gone,public\.ev_.*,public.O rder";
        let config = ConnectorConfig::from([
            ("topic.prefix".to_owned(), "shop".to_owned()),
            ("table.include.list".to_owned(), list.to_owned()),
        ]);
        let known = ["a", "b", "ev_2020", "O rder"].map(|name| TableName::new("public", name)).to_vec();
        assert_eq!(is_filled(&Connector::of(&config), topic, &Tables { known, all }), filled);
    }

    #[test]
    fn where_records_go_elsewhere_nobody_knows_which_topic_is_a_table_s() {
        let config = ConnectorConfig::from([
            ("transforms".to_owned(), "r".to_owned()),
            ("transforms.r.type".to_owned(), "org.apache.kafka.connect.transforms.RegexRouter".to_owned()),
        ]);
        assert!(is_filled(&Connector::of(&config), "anything", &Tables { known: vec![], all: true }));
    }
}
