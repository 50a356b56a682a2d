//! Publications: looked at before anything is touched, and put right before any slot is made.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Pipeline, Source,
    wanted::{Known, PublicationRepair, membership, obstacle, unstreamed},
};
use crate::{
    backup::{Point, Publication as Saved, parts::postgres},
    recovery::{Playbook, RecoveryError, Request, Target},
};
use cdc_model::{
    moment::{self, HALF_WAY},
    units::{TableName, counted},
};
use cdc_pipeline::{
    client::{ClientError, catalogue, postgres::Postgres},
    debezium::{Captured, Choice, Connector, Coverage, Member, Relation, Stream},
};

impl Pipeline {
    /// Makes each source's publication hold what the recovery point recorded (of what still exists), or, where it
    /// recorded nothing, what was found, or else what the connector captures. Returns how many were changed.
    pub(crate) async fn publish(&self, point: Option<&Point>) -> Result<usize, RecoveryError> {
        let mut changed = 0;
        for source in &self.sources {
            let server = self.session(source).await?;
            let repair = Looked::at(&server, source, point, self.found.publication(source)).await?.repair()?;
            for statement in &repair.statements() {
                server.run(statement).await?;
            }
            changed += usize::from(!repair.changes.is_empty());
            moment::pass(HALF_WAY).await?;
        }
        Ok(changed)
    }

    /// Requires that each publication sends what its connector's list of tables names.
    pub(crate) async fn published(&self, step: &str) -> Result<String, RecoveryError> {
        let mut tables = 0;
        for source in &self.sources {
            let coverage = coverage(&self.session(source).await?, &source.capture).await?;
            if let Some(missing) = obstacle(&source.capture, &coverage) {
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
        Ok(format!(
            "{}, {tables} in them",
            counted(self.sources.len(), "publication"),
            tables = counted(tables, "captured table")
        ))
    }

    /// Looks at what `publish` will make of the publications, by the same function, and notes what a person should know of that:
    /// the statements, what is left different from the recovery point, and what a snapshot writes that is not published.
    /// Refuses where the step would fail, or what it leaves would soon differ from the tables. Of a database that goes back to an
    /// earlier moment that is not known yet, and is noted.
    pub(crate) async fn plan_publications(
        &mut self,
        request: &Request,
        point: Option<&Point>,
    ) -> Result<(), RecoveryError> {
        let stays = request.playbook != Playbook::Coordinated;
        let is_known = stays || request.target == Target::Latest;
        let mut notes = Vec::new();
        for source in &self.sources {
            let looked = match self.look_at_publication(source, point).await {
                Ok(looked) => looked,
                // A dead server, or a damaged catalogue, is what such a recovery is for.
                Err(error) if !stays => {
                    notes.push(format!(
                        "publication {} is not looked at before it is restored: {error}",
                        source.publication
                    ));
                    continue;
                }
                Err(error) => return Err(error),
            };
            match looked.plan(source, stays) {
                Ok(found) => notes.extend(found),
                Err(error) if is_known => return Err(error),
                Err(error) => notes.push(format!("if it is so at the target too, step publication fails: {error}")),
            }
        }
        self.found.notes.extend(notes);
        Ok(())
    }

    async fn look_at_publication(&self, source: &Source, point: Option<&Point>) -> Result<Looked, RecoveryError> {
        let server = self.session(source).await?;
        let looked = Looked::at(&server, source, point, self.found.publication(source)).await?;
        looked.refuse_filters(&server).await?;
        Ok(looked)
    }
}

/// Everything that decides about a source's publication.
struct Looked {
    capture: Connector,
    there: Option<Saved>,
    /// As the recovery point has it, and the point's id.
    recorded: Option<(Saved, String)>,
    found: Option<Saved>,
    relations: Vec<Relation>,
    schemas: BTreeSet<String>,
    /// The columns of tables that a record lists columns of, and of those that the publication lists columns of.
    columns: BTreeMap<TableName, BTreeSet<String>>,
}

impl Looked {
    async fn at(
        server: &Postgres,
        source: &Source,
        point: Option<&Point>,
        found: Option<&Saved>,
    ) -> Result<Looked, RecoveryError> {
        let there = publication_of(server, &source.publication).await?;
        let recorded = recorded(source, point)?;
        let all = [there.as_ref(), recorded.as_ref().map(|(saved, _)| saved), found];
        let listed = all.into_iter().flatten().filter_map(|saved| saved.named.as_ref()).flat_map(|named| &named.tables);
        let listed: BTreeSet<&TableName> = listed.filter(|t| t.columns.is_some()).map(|t| &t.name).collect();
        let columns = columns(server, &listed).await?;
        Ok(Looked {
            capture: source.capture.clone(),
            there,
            recorded,
            found: found.cloned(),
            relations: catalogue::relations(server).await?,
            schemas: schemas(server).await?,
            columns,
        })
    }

    fn known(&self) -> Known<'_> {
        Known {
            there: self.there.as_ref(),
            recorded: self.recorded.as_ref().map(|(saved, point)| (saved, point.as_str())),
            found: self.found.as_ref(),
            relations: &self.relations,
            schemas: &self.schemas,
            columns: &self.columns,
        }
    }

    fn repair(&self) -> Result<PublicationRepair, RecoveryError> {
        self.known().repair(&self.capture)
    }

    /// What a person should know of the repair. Where the database `stays` as it is, the repair is all that can change what the
    /// publication sends: operations that the connector would write and that it leaves out are refused.
    fn plan(&self, source: &Source, stays: bool) -> Result<Vec<String>, RecoveryError> {
        let repair = self.repair()?;
        let after = repair.applied(self.there.as_ref().map(membership)).resolved(&self.relations);
        let coverage = Coverage::of(&self.capture, &self.relations, Some(&after));
        let name = &source.publication;
        if let Some(table) = obstacle(&self.capture, &coverage) {
            let renamed = matches!(&table.stream, Stream::Nowhere(names) if !names.is_empty());
            let hint = match renamed {
                true => "let the connector's lists take these tables too, or change publish_via_partition_root",
                false => "add the table to the publication, or take it out of the connector's list of tables",
            };
            return Err(RecoveryError::impossible(
                format!("table {} of connector {}", table.relation.name, source.name),
                format!("a table whose changes publication {name} sends under its name"),
                unstreamed(table),
                hint,
            ));
        }
        let silent = &coverage.unpublished_operations;
        let mut notes = Vec::new();
        if !silent.is_empty() {
            if stays {
                return Err(RecoveryError::impossible(
                    format!("publication {name} of connector {}", source.name),
                    format!("one that publishes {}", self.capture.operations),
                    format!(
                        "no {silent}: such changes never arrive, and the topics would differ from the tables again"
                    ),
                    format!(
                        "alter publication {name} set (publish = ...), or name in skipped.operations what is not to be captured"
                    ),
                ));
            }
            notes.push(format!(
                "publication {name} of connector {} does not publish {silent}: such changes never arrive, also after this recovery",
                source.name
            ));
        }
        let why = match (&self.recorded, &self.found) {
            (Some((_, point)), _) => format!("as recovery point {point} has it"),
            (None, Some(_)) => "as it was found".to_owned(),
            (None, None) => "for what the connector's lists take, as nothing was recorded of it".to_owned(),
        };
        let changes = repair.statements();
        notes.extend(
            changes
                .iter()
                .map(|change| format!("publication {name} of {} is put right {why}: {change}", source.database)),
        );
        notes.extend(self.known().differences());
        let silent: Vec<String> =
            coverage.unstreamed().filter(|t| t.snapshot).map(|t| t.relation.name.to_string()).collect();
        if !silent.is_empty() {
            notes.push(format!(
                "connector {} takes {}, and publication {name} does not send their changes: what the snapshot writes of them will not follow the tables",
                source.name,
                silent.join(", ")
            ));
        }
        notes.extend(coverage.tables.iter().filter_map(|table| self.unpublished_rows(source, table)));
        Ok(notes)
    }

    /// What of a table a snapshot writes although its publication leaves it out.
    fn unpublished_rows(&self, source: &Source, table: &Captured) -> Option<String> {
        let Stream::Own(Member { filter, columns }) = &table.stream else { return None };
        let name = &table.relation.name;
        let lists = &self.capture.lists;
        let hidden: Vec<&str> = match (columns.is_empty(), self.columns.get(name)) {
            (false, Some(all)) => {
                let all = all.iter().filter(|column| !columns.contains(column));
                all.filter(|column| lists.column(name, column) != Choice::Left).map(String::as_str).collect()
            }
            _ => Vec::new(),
        };
        let columns = (!hidden.is_empty()).then(|| format!("columns {}", hidden.join(", ")));
        let rows = filter.as_ref().map(|filter| format!("rows outside of {filter}"));
        let what: Vec<String> = columns.into_iter().chain(rows).filter(|_| table.snapshot).collect();
        (!what.is_empty()).then(|| {
            format!(
                "publication {} does not send {} of {name}, and the snapshot writes them to its topic all the same (column.exclude.list keeps columns out of it)",
                source.publication,
                what.join(" and ")
            )
        })
    }

    /// Requires that row filters which will be given to a publication again can be evaluated over the tables as they are.
    async fn refuse_filters(&self, server: &Postgres) -> Result<(), RecoveryError> {
        let Ok(repair) = self.repair() else { return Ok(()) };
        for (table, filter) in repair.filters() {
            let sql = format!("select from only {} where {filter} limit 0", table.quoted());
            match server.run(&sql).await {
                Ok(_) => {}
                // What the role may not read is another refusal's matter.
                Err(ClientError::Answer { found, .. }) if found.contains("permission denied") => {}
                Err(ClientError::Answer { found, .. }) => {
                    return Err(RecoveryError::impossible(
                        format!("row filter of {table} in publication {}", repair.name),
                        format!("one that the table has the columns for: {filter}"),
                        found,
                        "make the publication as it must be now, and run the recovery again",
                    ));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// What [`Pipeline::publish`] would change of a source's publication as it is now.
pub(crate) async fn publication_repair(
    server: &Postgres,
    source: &Source,
    point: Option<&Point>,
) -> Result<PublicationRepair, RecoveryError> {
    Looked::at(server, source, point, None).await?.repair()
}

/// A publication of the session's database, by what it is made of.
pub(super) async fn publication_of(server: &Postgres, name: &str) -> Result<Option<Saved>, RecoveryError> {
    Ok(postgres::publications(server).await?.into_iter().find(|p| p.name == name))
}

/// A source's publication in a recovery point, and the point's id.
fn recorded(source: &Source, point: Option<&Point>) -> Result<Option<(Saved, String)>, RecoveryError> {
    let Some(point) = point else { return Ok(None) };
    let databases = point.publications()?.into_iter().filter(|d| d.database == source.database);
    let found = databases.flat_map(|d| d.publications).find(|p| p.name == source.publication);
    Ok(found.map(|saved| (saved, point.id().to_string())))
}

/// The columns of these tables.
async fn columns(
    server: &Postgres,
    tables: &BTreeSet<&TableName>,
) -> Result<BTreeMap<TableName, BTreeSet<String>>, RecoveryError> {
    if tables.is_empty() {
        return Ok(BTreeMap::new());
    }
    let sql = "select n.nspname, c.relname, a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid \
               join pg_namespace n on n.oid = c.relnamespace \
               where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p')";
    let mut columns: BTreeMap<TableName, BTreeSet<String>> = BTreeMap::new();
    for row in server.texts(sql).await? {
        let mut cells = row.into_iter().map(Option::unwrap_or_default);
        let mut next = || cells.next().unwrap_or_default();
        let table = TableName::new(next(), next());
        if tables.contains(&table) {
            columns.entry(table).or_default().insert(next());
        }
    }
    Ok(columns)
}

async fn schemas(server: &Postgres) -> Result<BTreeSet<String>, RecoveryError> {
    let rows = server.texts("select nspname from pg_namespace").await?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

/// What a connector captures of the session's database now.
pub(crate) async fn coverage(server: &Postgres, capture: &Connector) -> Result<Coverage, RecoveryError> {
    let relations = catalogue::relations(server).await?;
    let publication = catalogue::publication(server, &capture.publication).await?;
    Ok(Coverage::of(capture, &relations, publication.as_ref()))
}

/// The tables of a database that a connector captures, without the partitions of others of them.
pub async fn captured_tables(server: &Postgres, capture: &Connector) -> Result<BTreeSet<TableName>, RecoveryError> {
    Ok(coverage(server, capture).await?.disjoint().cloned().collect())
}
