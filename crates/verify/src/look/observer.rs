//! What a look consists of, for drills and for the command alike.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Systems,
    connectors::{connectors, status},
    orphans::orphans,
    registry::{registry_behind, uses_registry},
    server::server,
    tables::tables,
    topics::{Ends, ends, folded},
};
use crate::{
    VerifyError,
    decode::{record::Schemas, table::Columns},
    fold::TopicFold,
    observation::{Observation, TableView},
    read::{Stretch, TopicPlan, Visibility},
};
use cdc_model::units::{Lsn, Offset, TopicPartition};
use cdc_pipeline::client::ClientError;

/// What to look at, and how.
#[derive(Clone, Debug, Default)]
pub struct LookOptions {
    /// The connectors; empty for every Debezium PostgreSQL connector of the worker on the configured server.
    pub connectors: Vec<String>,
    /// Whether nobody writes: then every record counts. Else those count that were there before the tables' snapshot was taken, or
    /// whose transactions it sees.
    pub at_rest: bool,
    /// Keeps every event, with the token in the column of this name.
    pub token_column: Option<String>,
    /// Consumer groups whose offsets on the data topics are wanted.
    pub groups: Vec<String>,
    /// How the subjects begin that are wanted; empty for all.
    pub subject_prefix: String,
}

/// Looks at a pipeline, once or again and again: topics are read on from where the look before ended.
#[derive(Debug)]
pub struct Observer<'s> {
    systems: &'s Systems,
    options: LookOptions,
    seen: Observation,
    schemas: Arc<Schemas>,
    columns: BTreeMap<String, Arc<Columns>>,
    /// For each connector what its tables' snapshot sees, and the ends of topics before it was taken.
    snapshots: BTreeMap<String, (Option<Visibility>, Ends)>,
}

impl<'s> Observer<'s> {
    /// Finds the connectors; nothing else is looked at yet.
    pub async fn new(systems: &'s Systems, options: LookOptions) -> Result<Observer<'s>, VerifyError> {
        let (connectors, unidentified) = connectors(systems, &options.connectors).await?;
        Ok(Observer {
            systems,
            options,
            seen: Observation { connectors, unidentified, ..Observation::default() },
            schemas: systems.schemas(),
            columns: BTreeMap::new(),
            snapshots: BTreeMap::new(),
        })
    }

    /// What was seen last.
    pub fn seen(&self) -> &Observation {
        &self.seen
    }

    /// Hands over what was seen last.
    pub fn into_seen(self) -> Observation {
        self.seen
    }

    /// Looks at everything. What cannot be read is part of what is seen, but for the broker, without which there is nothing to see.
    pub async fn look(&mut self) -> Result<(), VerifyError> {
        self.positions().await;
        self.tables().await?;
        self.topics().await?;
        self.surroundings().await?;
        Ok(())
    }

    /// What the worker and the server say: states and stored offsets, then slots and the end of WAL.
    pub async fn positions(&mut self) {
        for view in &mut self.seen.connectors {
            status(self.systems, view).await;
        }
        let (server, slots) = server(self.systems).await;
        self.seen.server = Some(server);
        self.seen.slots = slots;
    }

    /// Takes the tables of all connectors, each database in one snapshot, and looks for topics that are of none of them.
    pub async fn tables(&mut self) -> Result<(), ClientError> {
        self.snapshots.clear();
        let mut found: Vec<TableView> = Vec::new();
        for view in &mut self.seen.connectors {
            let settings = view.settings.clone();
            let start = settings.capture.topics.start();
            let topics = self.systems.kafka.topics().await?;
            let own: BTreeSet<String> = topics.into_keys().filter(|t| t.starts_with(&start)).collect();
            // Before the snapshot: what stands in a topic now is of transactions that the snapshot sees.
            let before = ends(self.systems, &own).await?;
            match tables(self.systems, &settings).await {
                Ok(snapshot) => {
                    let (visible, read) = snapshot.describe(view);
                    self.snapshots.insert(settings.name.clone(), (visible, before));
                    found.extend(read);
                }
                Err(error) => self.seen.server = Some(Err(error.to_string())),
            }
        }
        self.seen.tables = found;
        if !matches!(self.seen.server, Some(Err(_))) {
            orphans(self.systems, &mut self.seen.connectors, &self.seen.tables).await?;
        }
        Ok(())
    }

    /// Reads on to the ends of the tables' topics.
    pub async fn topics(&mut self) -> Result<(), VerifyError> {
        let topics: BTreeSet<String> = self.seen.tables.iter().map(|t| t.topic.clone()).collect();
        let ends = ends(self.systems, &topics).await?;
        let mut folds = std::mem::take(&mut self.seen.topics);
        for table in &self.seen.tables {
            let known = self.columns.insert(table.topic.clone(), table.columns.clone());
            let same = known.is_some_and(|columns| columns.list == table.columns.list);
            // A table with other columns, or a topic that was made anew, is folded from its beginning.
            if !same || folds.get(&table.topic).is_some_and(|fold| was_made_anew(&table.topic, fold, &ends)) {
                folds.remove(&table.topic);
            }
        }
        let mut plans = Vec::new();
        let mut stretches = Vec::new();
        let shared = self.seen.shared_topics();
        for table in self.seen.tables.iter().filter(|t| !shared.contains_key(t.topic.as_str())) {
            let Some(connector) = self.seen.connectors.iter().find(|c| c.settings.name == table.connector) else {
                continue;
            };
            let snapshot = self.snapshots.get(&table.connector).filter(|_| !self.options.at_rest);
            let token = self.options.token_column.as_deref();
            plans.push(TopicPlan {
                topic: table.topic.clone(),
                settings: connector.settings.clone(),
                name: table.name.clone(),
                columns: table.columns.clone(),
                log: token.is_some(),
                token_column: token.and_then(|column| table.columns.of_name(column)),
                visible: snapshot.and_then(|(visible, _)| visible.clone()),
            });
            for (partition, (low, high)) in ends.iter().filter(|(tp, _)| tp.topic == table.topic) {
                let fold = folds.get(&table.topic).into_iter().flat_map(|fold| &fold.partitions);
                let fold = fold.into_iter().find(|p| p.partition == partition.partition);
                let from = fold.map_or(*low, |f| Offset(f.next.max(low.0)));
                let settled = match self.options.at_rest {
                    true => *high,
                    false => self.before_the_snapshot(table, partition),
                };
                stretches.push(Stretch { partition: partition.clone(), from, to: Offset(high.0.max(from.0)), settled });
            }
        }
        self.seen.ends = ends;
        self.seen.topics = folded(self.systems, &self.schemas, plans, stretches, folds).await?;
        Ok(())
    }

    /// The end of a partition before its table's snapshot was taken.
    fn before_the_snapshot(&self, table: &TableView, partition: &TopicPartition) -> Offset {
        let before = self.snapshots.get(&table.connector).and_then(|(_, ends)| ends.get(partition));
        before.map_or(Offset(0), |(_, high)| *high)
    }

    /// Settings of the data topics, offsets of groups, and the registry where records depend on it.
    pub async fn surroundings(&mut self) -> Result<(), ClientError> {
        self.registry().await;
        self.specs().await?;
        let partitions: Vec<TopicPartition> = self.seen.ends.keys().cloned().collect();
        for group in &self.options.groups {
            let offsets = self.systems.kafka.group_offsets(group, &partitions).await?;
            self.seen.groups.insert(group.clone(), offsets.into_iter().collect());
        }
        Ok(())
    }

    async fn registry(&mut self) {
        if uses_registry(&self.seen) {
            let registry = registry_behind(self.systems, &self.options.subject_prefix, &self.seen).await;
            self.seen.registry = Some(registry.map_err(|e| e.to_string()));
        }
    }

    async fn specs(&mut self) -> Result<(), ClientError> {
        let topics: BTreeSet<String> = self.seen.tables.iter().map(|t| t.topic.clone()).collect();
        let specs = self.systems.kafka.topic_specs(&topics.into_iter().collect::<Vec<_>>()).await?;
        self.seen.specs = specs.into_iter().map(|s| (s.name.clone(), s)).collect();
        Ok(())
    }

    /// What a person should know about this look.
    pub fn note(&mut self, note: String) {
        self.seen.notes.push(note);
    }

    /// The server's end of WAL now; none where it does not answer.
    pub async fn end_of_wal(&self) -> Option<Lsn> {
        server(self.systems).await.0.ok().map(|server| server.lsn)
    }

    /// Whether records that came since the table's snapshot do not all say which transaction they are of: those of an
    /// incremental snapshot, and of a transform that leaves the row only, whose tombstones never do.
    pub(crate) fn is_unplaced(&self, table: &TableView) -> bool {
        let connector = self.seen.connectors.iter().find(|c| c.settings.name == table.connector);
        let settled =
            |partition: i32| self.before_the_snapshot(table, &TopicPartition { topic: table.topic.clone(), partition });
        let folds = self.seen.topics.get(&table.topic).into_iter().flat_map(|fold| &fold.partitions);
        connector.is_some_and(|c| c.settings.unwrap.is_some())
            || folds.into_iter().any(|p| p.unplaced.is_some_and(|offset| offset >= settled(p.partition).0))
    }
}

/// Whether a topic ends before what was read of it.
fn was_made_anew(topic: &str, fold: &TopicFold, ends: &Ends) -> bool {
    fold.partitions.iter().any(|p| {
        let partition = TopicPartition { topic: topic.to_owned(), partition: p.partition };
        ends.get(&partition).is_none_or(|(_, high)| high.0 < p.next)
    })
}
