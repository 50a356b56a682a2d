//! What the types of the language cannot say: names that refer to something, numbers that fit, steps in an order that
//! can work. Every mistake is collected.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    error::{Problem, Seg, nearest},
    model::{
        Backup, CheckId, Control, DeleteAll, DowntimeObjective, Fault, FlipHeapBytes, Load, Must, Naive, PipelinePart,
        Prove, Recover, RegistryStorageKind, Scenario, SchemaRecovery, SetLevel, Sql, SqlTransaction, StackPart, Step,
        TopicsRepair, Variant, WhileRecovering, WorkloadPart,
    },
    plan::{
        captured, connector_config, connectors_of, control_id, pipeline_of, schema_of, stack_of, subject_of,
        workload_of,
    },
    template::{Template, transaction_control},
    words::{HumanDuration, TableRef, Target, WORD_MAX, is_word},
};
use crate::{
    event::FindingKind,
    units::{Exit, TableName},
};

/// A file that a scenario names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixture {
    /// As the scenario names it.
    pub path: Utf8PathBuf,
    /// Its text.
    pub text: String,
}

/// Finds a file that a scenario names; none when it is nowhere.
pub type Fixtures<'a> = dyn Fn(&Utf8Path) -> Option<Fixture> + 'a;

/// Longer than any runbook of a drill needs; a command that still runs then hangs, and the other drills wait for its servers.
const COMMAND_TIMEOUT_MAX: Duration = Duration::from_secs(1800);

/// The version of the language that this program reads.
const VERSION: u32 = 1;
/// Docker takes no smaller limit.
const SMALLEST_SERVER_MIB: u32 = 6;

/// The steps of a recovery that a control can leave out. The recovery engine defines the steps; a test holds the two equal.
pub fn steps_of(recover: &Recover) -> &'static [&'static str] {
    match recover {
        Recover::Coordinated(_) => &[
            "prepare",
            "stop-connectors",
            "fence",
            "salvage",
            "pin-timeline",
            "restore",
            "open",
            "delete-topics",
            "recreate-topics",
            "group-offsets",
            "delete-offsets",
            "clear-schema-history",
            "publication",
            "force-snapshot",
            "resume",
            "restore-config",
        ],
        Recover::Slot(slot) => match slot.topics {
            TopicsRepair::Purge => &[
                "stop-connectors",
                "drop-slot",
                "publication",
                "delete-topics",
                "recreate-topics",
                "group-offsets",
                "delete-offsets",
                "force-snapshot",
                "resume",
                "restore-config",
            ],
            TopicsRepair::Compensate => &[
                "stop-connectors",
                "drop-slot",
                "publication",
                "delete-offsets",
                "force-snapshot",
                "resume",
                "compensate",
                "restore-config",
            ],
        },
        Recover::Schema(_) | Recover::Exec(_) => &[],
    }
}

/// Checks a scenario to its end; empty when all is well.
pub fn validate(scenario: &Scenario, fixtures: &Fixtures<'_>) -> Vec<Problem> {
    let mut v = Validator {
        problems: Vec::new(),
        path: Vec::new(),
        fixtures,
        tables: Vec::new(),
        own_sql: false,
        own_command: false,
        several: false,
    };
    v.scenario(scenario);
    v.problems
}

struct Validator<'a> {
    problems: Vec<Problem>,
    path: Vec<Seg>,
    fixtures: &'a Fixtures<'a>,
    /// The captured tables of the variant at hand, where they are known by name.
    tables: Vec<TableName>,
    /// Whether the variant at hand brings its own SQL, of which nothing is known but its text.
    own_sql: bool,
    /// Whether that is a command, of which not even its text is known.
    own_command: bool,
    /// Whether the variant at hand has several connectors.
    several: bool,
}

/// What the steps seen so far have made.
#[derive(Default)]
struct Progress {
    backups: Vec<String>,
    /// Those of them that the playbooks can start from.
    points: Vec<String>,
    whole_backups: usize,
    registry_backups: usize,
    /// Taken by a command of the scenario's own.
    command_backups: usize,
    marks: Vec<String>,
    marks_before_backup: BTreeSet<String>,
    server_dead: bool,
    connector_stopped: bool,
    faults: usize,
}

impl Validator<'_> {
    fn at<R>(&mut self, seg: impl Into<Seg>, inner: impl FnOnce(&mut Self) -> R) -> R {
        self.path.push(seg.into());
        let result = inner(self);
        self.path.pop();
        result
    }

    fn problem(&mut self, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem { path: self.path.clone(), message: message.into(), hint: hint.into() });
    }

    fn word(&mut self, what: &str, text: &str) {
        if !is_word(text) {
            self.problem(
                format!("`{text}` cannot be the name of a {what}"),
                format!("use lower-case letters, digits and inner hyphens, at most {WORD_MAX}"),
            );
        }
    }

    fn scenario(&mut self, s: &Scenario) {
        if s.version != VERSION {
            self.at("version", |v| {
                v.problem(
                    format!("version {} of the scenario language", s.version),
                    format!("this program reads version {VERSION}"),
                );
            });
        }
        self.at("id", |v| v.word("scenario", &s.id));
        if s.title.trim().is_empty() {
            self.at("title", |v| v.problem("an empty title", "say in a sentence what the scenario is about"));
        }
        if s.variants.is_empty() {
            self.at("variants", |v| {
                v.problem("no variants", "a scenario without a variant runs nothing; add one with steps and checks")
            });
        }
        for (id, variant) in s.variants.iter() {
            self.at("variants", |v| v.at(id, |v| v.variant(s, id, variant)));
        }
    }

    fn variant(&mut self, s: &Scenario, id: &str, variant: &Variant) {
        self.word("variant", id);
        let stack = stack_of(&s.stack, &variant.stack);
        self.part("stack", variant.stack != StackPart::default(), |v| v.stack(&stack));
        let workload = workload_of(&s.workload, &variant.workload);
        self.part("workload", variant.workload != WorkloadPart::default(), |v| v.workload(s, variant, &workload));
        let pipeline = pipeline_of(&s.pipeline, &variant.pipeline);
        let own = &variant.pipeline;
        let pgbench = workload.pgbench.is_some();
        self.part("pipeline", own.schema.is_some(), |v| match schema_of(s, variant) {
            None if pgbench => {}
            None => v.problem("no `schema`", "name the SQL file that makes the tables: fixtures/sql/shop.sql"),
            Some(path) => _ = v.at("schema", |v| v.fixture("schema", &path)),
        });
        self.own_sql = workload.sql.is_some() || workload.command.is_some();
        self.own_command = workload.command.is_some();
        self.several = !pipeline.connectors.is_empty();
        self.tables = self.pipeline(&pipeline, own);
        let progress = self.at("steps", |v| v.steps(&variant.steps, &stack));
        self.at("checks", |v| v.checks(variant, &progress));
        self.at("objectives", |v| v.objectives(variant, pgbench));
        self.at("controls", |v| v.controls(variant));
    }

    /// Shows problems of a part at the variant when the variant has such a part of its own, else at the scenario's.
    fn part(&mut self, name: &str, own: bool, inner: impl FnOnce(&mut Self)) {
        let saved = self.path.clone();
        if !own {
            self.path.clear();
        }
        let before = self.problems.len();
        self.at(name, inner);
        self.path = saved;
        self.forget_repeated(before);
    }

    /// Several variants meet the same mistake in what they share; it is told once.
    fn forget_repeated(&mut self, before: usize) {
        let fresh = self.problems.split_off(before);
        for problem in fresh {
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
    }

    fn stack(&mut self, stack: &StackPart) {
        if let Some(mib) = stack.postgres.wal_segment_mib
            && !(mib.is_power_of_two() && mib <= 1024)
        {
            self.at("postgres", |v| {
                v.at("wal-segment-mib", |v| {
                    v.problem(format!("a WAL segment of {mib} MiB"), "PostgreSQL takes powers of two from 1 to 1024")
                });
            });
        }
        if let Some(0) = stack.postgres.max_slot_wal_keep_mib {
            self.at("postgres", |v| {
                v.at("max-slot-wal-keep-mib", |v| v.problem("a slot that may keep no WAL at all", "give at least 1"));
            });
        }
    }

    fn workload(&mut self, s: &Scenario, variant: &Variant, resolved: &WorkloadPart) {
        for part in [&s.workload, &variant.workload] {
            if part.pgbench.is_some() && (part.rows.is_some() || part.writers.is_some()) {
                self.at("pgbench", |v| {
                    v.problem("pgbench beside `rows` or `writers`", "pgbench has `scale` and `clients` instead")
                });
            }
        }
        for part in [&s.workload, &variant.workload] {
            let beside = [(part.pgbench.is_some(), "pgbench"), (part.rows.is_some(), "rows")];
            if let (Some(_), true) =
                (&part.command, part.pgbench.is_some() || part.rows.is_some() || part.sql.is_some())
            {
                self.at("command", |v| {
                    v.problem("`command` beside another kind", "a workload is of one kind; keep one of them")
                });
            }
            for (_, word) in beside.iter().filter(|(there, _)| part.sql.is_some() && *there) {
                self.at("sql", |v| {
                    v.problem(
                        format!("`sql` beside `{word}`"),
                        "a workload is of one kind; with `sql`, rows that are there first come from its `seed-file`",
                    )
                });
            }
        }
        match &resolved.pgbench {
            Some(p) if p.scale == 0 => {
                self.at("pgbench", |v| v.at("scale", |v| v.problem("a scale of 0", "give at least 1")))
            }
            Some(p) if p.clients == 0 => {
                self.at("pgbench", |v| v.at("clients", |v| v.problem("no clients", "give at least 1")))
            }
            Some(_) => {}
            None if resolved.rows == Some(0) => {
                self.at("rows", |v| v.problem("no rows", "give at least 1; a check that compares nothing fails"))
            }
            None if resolved.writers == Some(0) => self.at("writers", |v| v.problem("no writers", "give at least 1")),
            None => {}
        }
        if let Some(sql) = &resolved.sql {
            self.at("sql", |v| v.sql(sql));
        }
        if let Some(command) = &resolved.command {
            self.at("command", |v| {
                if let Some(path) = &command.seed_file {
                    v.at("seed-file", |v| _ = v.fixture("seed", path));
                }
                v.command(&command.command, command.timeout);
            });
        }
    }

    fn sql(&mut self, sql: &Sql) {
        if let Some(path) = &sql.seed_file {
            self.at("seed-file", |v| _ = v.fixture("seed", path));
        }
        if sql.transactions.is_empty() {
            self.at("transactions", |v| {
                v.problem("no transactions", "give at least one, with a name and its statements")
            });
        }
        let mut names = BTreeSet::new();
        for (index, transaction) in sql.transactions.iter().enumerate() {
            self.at("transactions", |v| {
                v.at(index, |v| {
                    v.transaction(transaction);
                    if !names.insert(transaction.name.as_str()) {
                        let twice = format!("a second transaction `{}`", transaction.name);
                        v.at("name", |v| v.problem(twice, "give each its own name"));
                    }
                });
            });
        }
    }

    fn transaction(&mut self, transaction: &SqlTransaction) {
        self.at("name", |v| v.word("transaction", &transaction.name));
        if transaction.weight == 0 {
            self.at("weight", |v| v.problem("a weight of 0", "give at least 1, or leave the transaction out"));
        }
        if transaction.statements.is_empty() {
            self.at("statements", |v| v.problem("no statements", "give at least one SQL statement"));
        }
        for (index, statement) in transaction.statements.iter().enumerate() {
            self.at("statements", |v| v.at(index, |v| v.statement(statement)));
        }
    }

    fn statement(&mut self, statement: &str) {
        if statement.trim().is_empty() {
            self.problem("an empty statement", "give one SQL statement");
        }
        if let Some(word) = transaction_control(statement) {
            self.problem(
                format!("`{word}` within a transaction of the workload"),
                "the writers begin and end each transaction themselves; leave it out",
            );
        }
        if let Err(error) = Template::parse(statement) {
            self.problem(error.message, error.hint);
        }
    }

    /// Checks the pipeline and returns the captured tables that are known by name.
    fn pipeline(&mut self, part: &PipelinePart, own: &PipelinePart) -> Vec<TableName> {
        let several = !part.connectors.is_empty();
        let own_connectors = own.connector.is_some() || !own.connectors.is_empty();
        let mut settings = None;
        self.part("pipeline", own_connectors, |v| match &part.connector {
            Some(_) if several => v.at("connectors", |v| {
                v.problem(
                    "`connectors` beside `connector`",
                    "name one file in `connector`, or all of them in `connectors`",
                );
            }),
            None if several => {}
            None => v.problem("no `connector`", "name the JSON file with the source connector's configuration"),
            Some(path) => settings = v.at("connector", |v| v.connector(path)),
        });
        self.topics(part, own);
        if part.tables.is_some() && several {
            self.part("pipeline", own.tables.is_some(), |v| {
                v.at("tables", |v| v.problem("`tables` beside `connectors`", "write `tables` at each connector"));
            });
        }
        if part.tables.as_ref().is_some_and(Vec::is_empty) {
            self.part("pipeline", own.tables.is_some(), |v| v.at("tables", Self::no_tables));
        }
        let tables = match (several, settings) {
            (true, _) => {
                let mut tables = Vec::new();
                self.part("pipeline", own_connectors, |v| tables = v.at("connectors", |v| v.several(part)));
                tables
            }
            (false, Some(file)) => self.only_connector(part, own, file),
            (false, None) => return Vec::new(),
        };
        self.levels(part, own, &tables);
        tables
    }

    fn no_tables(&mut self) {
        self.problem("an empty table list", "name at least one table, or leave `tables` out to take the connector's");
    }

    fn only_connector(
        &mut self,
        part: &PipelinePart,
        own: &PipelinePart,
        mut settings: BTreeMap<String, String>,
    ) -> Vec<TableName> {
        settings.extend(part.connector_settings.clone());
        if part.tables.is_none() && settings.get("table.include.list").is_some_and(|l| l.trim().is_empty()) {
            self.part("pipeline", own.connector.is_some(), |v| {
                v.at("connector", |v| v.problem("an empty `table.include.list`", "name at least one table to capture"));
            });
        }
        let tables = captured(part.tables.as_deref(), &settings);
        if self.own_sql && tables.is_empty() {
            self.part("pipeline", own.tables.is_some() || own.connector.is_some(), |v| {
                v.problem(
                    "no captured table is known by name",
                    "name the tables in `tables`, or one by one in the connector's `table.include.list`",
                );
            });
        }
        tables
    }

    /// Several connectors: each has a name, a file, and tables that no other captures. Returns all tables.
    fn several(&mut self, part: &PipelinePart) -> Vec<TableName> {
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let mut captors: BTreeMap<TableName, &str> = BTreeMap::new();
        for (index, (described, written)) in connectors_of(part).iter().zip(&part.connectors).enumerate() {
            let name = written.name.as_str();
            self.path.push(Seg::from(index));
            self.at("name", |v| v.word("connector", name));
            if !names.insert(name) {
                self.at("name", |v| {
                    v.problem(format!("another connector is named `{name}`"), "slots and topics are named after it");
                });
            }
            if described.tables.as_ref().is_some_and(Vec::is_empty) {
                self.at("tables", Self::no_tables);
            } else if let Some(file) = self.at("file", |v| v.connector(&described.file)) {
                let tables = captured(described.tables.as_deref(), &described.resolved(part, file));
                if tables.is_empty() {
                    self.at("file", |v| {
                        v.problem(
                            format!("no table that connector `{name}` captures is known by name"),
                            "name them in its `tables`, or one by one in its `table.include.list`",
                        );
                    });
                }
                self.disjoint(name, &tables, described.tables.is_some(), &captors);
                captors.extend(tables.into_iter().map(|table| (table, name)));
            }
            self.path.pop();
        }
        captors.into_keys().collect()
    }

    /// Each event has one topic: whoever reads two of a table takes each change twice.
    fn disjoint(&mut self, name: &str, tables: &[TableName], listed: bool, captors: &BTreeMap<TableName, &str>) {
        for (index, table) in tables.iter().enumerate() {
            let Some(other) = captors.get(table) else { continue };
            let message = match *other == name {
                true => format!("connector `{name}` captures table `{table}` twice"),
                false => format!("connectors `{other}` and `{name}` both capture table `{table}`"),
            };
            let hint = "leave the table to one of them";
            match listed {
                true => self.at("tables", |v| v.at(index, |v| v.problem(message, hint))),
                false => self.at("file", |v| v.problem(message, hint)),
            }
        }
    }

    fn topics(&mut self, part: &PipelinePart, own: &PipelinePart) {
        if part.partitions == Some(0) {
            self.part("pipeline", own.partitions.is_some(), |v| {
                v.at("partitions", |v| v.problem("no partitions", "give at least 1"))
            });
        }
        for name in part.topic_settings.keys() {
            let hint = match name.as_str() {
                "partitions" => "write `partitions` in `pipeline` itself",
                "replication.factor" => "the connector's file says so: `topic.creation.default.replication.factor`",
                long if long.starts_with("topic.creation.") => "write the broker's own name: `retention.ms`",
                _ => continue,
            };
            self.part("pipeline", !own.topic_settings.is_empty(), |v| {
                v.at("topic-settings", |v| {
                    v.at(name.as_str(), |v| v.problem(format!("`{name}` is no setting of a topic"), hint))
                });
            });
        }
    }

    fn fixture(&mut self, what: &str, path: &Utf8Path) -> Option<String> {
        let found = (self.fixtures)(path);
        if found.is_none() {
            self.problem(
                format!("{what} file `{path}` is nowhere"),
                "paths are looked up beside the scenario file, then from the folder that holds `fixtures/`, then among the built-in ones",
            );
        }
        found.map(|f| f.text)
    }

    fn connector(&mut self, path: &Utf8Path) -> Option<BTreeMap<String, String>> {
        let text = self.fixture("connector", path)?;
        match connector_config(&text) {
            Ok(settings) if settings.contains_key("connector.class") => Some(settings),
            Ok(_) => {
                self.problem(
                    format!("connector file `{path}` names no `connector.class`"),
                    "expected the configuration of a source connector",
                );
                None
            }
            Err(why) => {
                self.problem(format!("connector file `{path}`: {why}"), "expected one JSON object of settings");
                None
            }
        }
    }

    fn levels(&mut self, part: &PipelinePart, own: &PipelinePart, tables: &[TableName]) {
        let Some(compatibility) = &part.compatibility else { return };
        for subject in compatibility.subjects.keys().filter(|s| !tables.is_empty() && subject_of(s, tables).is_none()) {
            let prefix = subject.split('.').next().unwrap_or_default();
            let known: Vec<String> = tables.iter().map(|t| format!("{prefix}.{t}-value")).collect();
            let hint = match nearest(subject, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "subjects are `<prefix>.<schema>.<table>-key` and `-value`".into(),
            };
            self.part("pipeline", own.compatibility.is_some(), |v| {
                v.path.extend([Seg::from("compatibility"), Seg::from("subjects"), Seg::from(subject.as_str())]);
                v.problem(format!("`{subject}` is no subject of a captured table"), hint);
                v.path.truncate(v.path.len() - 3);
            });
        }
    }

    fn steps(&mut self, steps: &[Step], stack: &StackPart) -> Progress {
        let mut progress = Progress::default();
        if steps.is_empty() {
            self.problem("no steps", "a drill without steps shows nothing; begin with load, backup, load");
        }
        for (index, step) in steps.iter().enumerate() {
            self.at(index, |v| v.at(step.word(), |v| v.step(step, stack, &mut progress)));
        }
        progress
    }

    fn step(&mut self, step: &Step, stack: &StackPart, p: &mut Progress) {
        self.liveness(step, p);
        match step {
            Step::Load(load) => self.load(load),
            Step::Backup(backup) => self.backup(backup, p),
            Step::Mark(name) => {
                self.word("mark", name);
                if name == "latest" {
                    self.problem(
                        "a mark named `latest`",
                        "`target: latest` means the end of the WAL; take another name",
                    );
                }
                if p.marks.contains(name) {
                    self.problem(
                        format!("a second mark `{name}`"),
                        "PostgreSQL stops at the first of two restore points with one name; give each its own",
                    );
                }
                if p.whole_backups == 0 {
                    p.marks_before_backup.insert(name.clone());
                }
                p.marks.push(name.clone());
            }
            Step::Fault(fault) => self.fault(fault, stack, p),
            Step::Prove(prove) => match prove {
                Prove::SchemaRefused(table) => self.at("schema-refused", |v| v.table(table)),
                Prove::RecordsUnderOtherIds(0) => {
                    self.at("records-under-other-ids", |v| v.problem("0 records", "give at least 1"))
                }
                Prove::DeliveredBeyond(mark) | Prove::WalBeyond(mark) => {
                    self.is_marked(prove.word(), mark, p);
                }
                Prove::RecordsUnderOtherIds(_) | Prove::SlotMissing => {}
            },
            Step::Recover(recover) => self.at(recover.playbook(), |v| v.recover(recover, p)),
            Step::Sql(statement) if statement.trim().is_empty() => {
                self.problem("an empty statement", "give one SQL statement")
            }
            Step::ConsumerGroup(group) => self.at("name", |v| v.word("consumer group", &group.name)),
            Step::DeleteSchemaVersion(version) => self.at("table", |v| v.table(&version.table)),
            Step::StopConnector => p.connector_stopped = true,
            Step::StartConnector | Step::RestartConnector => p.connector_stopped = false,
            Step::Sql(_) | Step::Signals | Step::Quiesce => {}
        }
    }

    fn backup(&mut self, backup: &Backup, p: &mut Progress) {
        match (&backup.name, &backup.exec) {
            (None, None) => self.problem("a backup without a name", "give `name: nightly`"),
            (Some(name), None) => self.backup_name(name, p),
            (None, Some(exec)) => self.at("exec", |v| {
                v.backup_name(&exec.name, p);
                v.command(&exec.command, exec.timeout);
            }),
            (Some(_), Some(_)) => self.problem("`name` beside `exec`", "the name of such a backup stands in `exec`"),
        }
        if let (Some(_), Some(_)) = (&backup.exec, backup.only) {
            self.at("only", |v| {
                v.problem("`only` beside `exec`", "what a command saves is its own business; leave `only` out")
            });
        }
        p.whole_backups += usize::from(backup.only.is_none() && backup.exec.is_none());
        match backup.exec {
            Some(_) => p.command_backups += 1,
            None => {
                p.points.push(backup.name().to_owned());
                p.registry_backups += usize::from(matches!(backup.only, None | Some(super::BackupPart::Registry)));
            }
        }
    }

    fn backup_name(&mut self, name: &str, p: &mut Progress) {
        self.at("name", |v| v.word("backup", name));
        if p.backups.iter().any(|b| b == name) {
            self.at("name", |v| v.problem(format!("a second backup `{name}`"), "give each backup its own name"));
        }
        p.backups.push(name.to_owned());
    }

    /// A command of the scenario's own.
    fn command(&mut self, command: &str, timeout: Option<HumanDuration>) {
        if command.trim().is_empty() {
            self.at("command", |v| v.problem("an empty command", "give a command for `sh -c`: sh runbook.sh"));
        }
        if timeout.is_some_and(|t| t.0 > COMMAND_TIMEOUT_MAX) {
            let most = HumanDuration(COMMAND_TIMEOUT_MAX);
            self.at("timeout", |v| {
                v.problem(format!("a command that may take longer than {most}"), format!("give at most {most}"))
            });
        }
    }

    /// Steps that cannot work with what an earlier step did to the servers.
    fn liveness(&mut self, step: &Step, p: &Progress) {
        let needs_server =
            matches!(step, Step::Load(_) | Step::Backup(_) | Step::Mark(_) | Step::Sql(_) | Step::Quiesce);
        if p.server_dead && needs_server {
            self.problem(
                "the server was killed by an earlier step",
                "recover first, or move this step before `kill-postgres`",
            );
        }
        if p.connector_stopped && matches!(step, Step::Quiesce) {
            self.problem(
                "nothing reaches the topics while the connector is stopped",
                "put `start-connector` before it",
            );
        }
    }

    fn load(&mut self, load: &Load) {
        if load.transactions == 0 {
            self.at("transactions", |v| v.problem("no transactions", "give at least 1, or leave the step out"));
        }
        if load.tables.as_ref().is_some_and(Vec::is_empty) {
            self.at("tables", |v| {
                v.problem("an empty table list", "name at least one table, or leave `tables` out to write all")
            });
        }
        for (index, table) in load.tables.iter().flatten().enumerate() {
            self.at("tables", |v| v.at(index, |v| v.table(table)));
        }
        if !self.own_sql {
            return;
        }
        // Whether a statement of somebody else's updates or deletes is known to nobody before it has run.
        let (kind, hint) = match self.own_command {
            true => ("command", "the command decides what occurs"),
            false => ("sql", "its statements decide what occurs; only `roll-back` is the writers' own"),
        };
        let promised = |must: &Must| *must == Must::RollBack && kind == "sql";
        for (index, must) in load.must.iter().enumerate().filter(|(_, m)| !promised(m)) {
            self.at("must", |v| {
                v.at(index, |v| {
                    v.problem(format!("`{}` cannot be promised by a workload of `{kind}`", must.word()), hint)
                })
            });
        }
        if load.tables.is_some() {
            let hint = match self.own_command {
                true => "the command decides which tables are written",
                false => "the statements of `sql` decide which tables are written",
            };
            self.at("tables", |v| v.problem("a restriction to tables", hint));
        }
    }

    fn table(&mut self, TableRef(table): &TableRef) {
        if self.tables.is_empty() || self.tables.contains(table) {
            return;
        }
        let names: Vec<String> = self.tables.iter().map(|t| TableRef(t.clone()).to_string()).collect();
        let hint = match nearest(&TableRef(table.clone()).to_string(), names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("captured tables: {}", names.join(", ")),
        };
        self.problem(format!("table `{table}` is not captured"), hint);
    }

    fn fault(&mut self, fault: &Fault, stack: &StackPart, p: &mut Progress) {
        p.faults += 1;
        self.path.push(Seg::from(fault.word()));
        if self.several && fault.damages_registry() {
            self.one_connector("damage to the registry");
        }
        match fault {
            Fault::DeleteAll(DeleteAll { table }) => self.at("table", |v| v.table(table)),
            Fault::FlipHeapBytes(FlipHeapBytes { table, pages }) => {
                self.at("table", |v| v.table(table));
                if *pages == 0 {
                    self.at("pages", |v| v.problem("no pages", "give at least 1"));
                }
            }
            Fault::KillPostgres | Fault::PausePostgres | Fault::DisconnectPostgres => p.server_dead = true,
            Fault::StarvePostgres(starve) => {
                p.server_dead = true;
                if starve.mib < SMALLEST_SERVER_MIB {
                    let hint = format!("give at least {SMALLEST_SERVER_MIB}: an engine refuses less");
                    self.at("mib", |v| v.problem("too little memory for any process", hint));
                }
            }
            Fault::InvalidateSlot if stack.postgres.max_slot_wal_keep_mib.is_none() => self.problem(
                "slots of this stack keep WAL without limit, so none is ever invalidated",
                "set `stack: { postgres: { max-slot-wal-keep-mib: ... } }`",
            ),
            Fault::AlterColumn(alter) => {
                self.at("table", |v| v.table(&alter.table));
                if alter.column.trim().is_empty() {
                    self.at("column", |v| v.problem("no column", "name the column that is changed or added"));
                }
            }
            Fault::RegistryDeleteSubject(subject) => self.at("table", |v| v.table(&subject.table)),
            Fault::RegistrySetLevel(SetLevel { table: Some(table), .. }) => self.at("table", |v| v.table(table)),
            Fault::RegistryLoseStorage(_) if stack.registry.storage == Some(RegistryStorageKind::Kafkasql) => self
                .problem(
                    "a registry on kafkasql keeps its schemas in topics of the shared broker",
                    "use `stack: { registry: { storage: h2 } }`, whose file can be lost alone",
                ),
            Fault::DropSlot | Fault::InvalidateSlot | Fault::RegistrySetLevel(_) | Fault::RegistryLoseStorage(_) => {}
        }
        self.path.pop();
    }

    /// What drills with several connectors leave to those with one.
    fn one_connector(&mut self, what: &str) {
        self.problem(
            format!("{what} with several `connectors`"),
            "what a registry lost is proved on the records of one connector; give the variant a single `connector`",
        );
    }

    fn recover(&mut self, recover: &Recover, p: &mut Progress) {
        if self.own_command && recover.writers() == WhileRecovering::Continue {
            self.at("writers", |v| {
                v.problem("writers that continue", "a workload of `command` writes in loads only; leave `writers` out")
            });
        }
        if self.several && matches!(recover, Recover::Schema(_)) {
            self.one_connector("the schema playbook");
        }
        let (have, what) = match recover {
            Recover::Coordinated(_) => (p.whole_backups, "a whole recovery point"),
            Recover::Schema(_) => (p.registry_backups, "a recovery point with the registry"),
            // What a runbook starts from is its own business.
            Recover::Slot(_) | Recover::Exec(_) => (1, ""),
        };
        if have == 0 {
            self.problem(
                format!("recovery before the first backup: the {} playbook needs {what}", recover.playbook()),
                "put a `backup` step before it",
            );
        }
        if let Some(point) = recover.point()
            && !p.points.iter().any(|b| b == point)
        {
            let hint = match nearest(point, p.points.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "a backup must be taken by an earlier step".into(),
            };
            self.at("point", |v| v.problem(format!("no backup `{point}` before this step"), hint));
        }
        if let Recover::Coordinated(c) = recover {
            self.target(&c.target, p);
            if c.timeline == Some(0) {
                self.at("timeline", |v| v.problem("timeline 0", "timelines count from 1"));
            }
            p.server_dead = false;
        }
        if let Recover::Exec(runbook) = recover {
            self.known_mark(&runbook.target, p);
            self.command(&runbook.command, runbook.timeout);
            p.server_dead = false;
        }
        if p.server_dead && matches!(recover, Recover::Slot(_) | Recover::Schema(SchemaRecovery { .. })) {
            self.problem(
                "the server was killed by an earlier step",
                "only the coordinated playbook brings a server back",
            );
        }
        p.connector_stopped = false;
    }

    /// Whether the target is a mark of an earlier step, or none.
    fn known_mark(&mut self, target: &Target, p: &Progress) -> bool {
        let Target::Mark { mark, .. } = target else { return true };
        self.is_marked("target", mark, p)
    }

    /// Whether an earlier step sets the mark that the field names; a problem otherwise.
    fn is_marked(&mut self, field: &'static str, mark: &String, p: &Progress) -> bool {
        if p.marks.contains(mark) {
            return true;
        }
        let hint = match nearest(mark, p.marks.iter().map(String::as_str).chain(["latest"])) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("put `mark: {mark}` before this step"),
        };
        self.at(field, |v| v.problem(format!("no mark `{mark}` before this step"), hint));
        false
    }

    fn target(&mut self, target: &Target, p: &Progress) {
        let Target::Mark { mark, .. } = target else { return };
        if self.known_mark(target, p) && p.marks_before_backup.contains(mark) {
            self.at("target", |v| {
                v.problem(
                    format!("mark `{mark}` lies before the first backup"),
                    "recovery can only go forward from a backup; set the mark after one",
                )
            });
        }
    }

    fn checks(&mut self, variant: &Variant, p: &Progress) {
        if variant.checks.is_empty() {
            self.problem("no checks", "a drill that checks nothing proves nothing; name at least `state`");
        }
        let mut seen = BTreeSet::new();
        for (index, check) in variant.checks.iter().enumerate() {
            if !seen.insert(*check) {
                self.at(index, |v| v.problem(format!("check `{check}` twice"), "leave one out"));
            }
            if *check == CheckId::Compatibility && p.registry_backups + p.command_backups == 0 {
                self.at(index, |v| {
                    v.problem("`compatibility` without a recovery point to compare with", "add a `backup` step")
                });
            }
        }
    }

    fn objectives(&mut self, variant: &Variant, pgbench: bool) {
        let objectives = &variant.objectives;
        let downtimes = [("downtime", objectives.downtime), ("reference-downtime", objectives.reference_downtime)];
        let some = objectives.rto.is_some()
            || objectives.reference_rto.is_some()
            || downtimes.iter().any(|(_, limits)| limits.is_some())
            || objectives.rpo.is_some();
        if some && !recovers(variant) {
            self.problem("objectives without a recovery", "add a `recover` step or leave them out");
        }
        for (name, limits) in downtimes.into_iter().filter_map(|(name, limits)| Some((name, limits?))) {
            self.at(name, |v| v.downtime(variant, limits));
        }
        if variant.objectives.rpo.is_some() && pgbench {
            self.at("rpo", |v| {
                v.problem(
                    "an `rpo` for pgbench, which keeps no ledger of what was acknowledged",
                    "leave `rpo` out, or bring the statements as `workload: { sql: ... }`",
                )
            });
        }
    }

    /// A limit on what no recovery measures would never be missed.
    fn downtime(&mut self, variant: &Variant, limits: DowntimeObjective) {
        if limits == DowntimeObjective::default() {
            self.problem("a downtime of nothing", "name `database`, `connectors` or both");
        }
        if limits.database.is_some() && playbooks(variant).all(|playbook| playbook != "coordinated") {
            self.at("database", |v| {
                v.problem("a downtime of the database, which no recovery stops", "only a coordinated recovery stops it")
            });
        }
        if limits.connectors.is_some() && playbooks(variant).all(|playbook| playbook == "exec") {
            self.at("connectors", |v| {
                v.problem(
                    "a downtime of the connectors, which is not known of a command",
                    "leave it out, or limit `rto`",
                )
            });
        }
    }

    fn controls(&mut self, variant: &Variant) {
        let mut ids = BTreeSet::new();
        for (index, control) in variant.controls.iter().enumerate() {
            let id = control_id(control);
            self.at(index, |v| {
                v.control(variant, control);
                if !id.is_empty() && !ids.insert(id.clone()) {
                    v.problem(format!("a second control `{id}`"), "give it an `id` of its own");
                }
            });
        }
    }

    fn control(&mut self, variant: &Variant, control: &Control) {
        if let Some(id) = &control.id {
            self.at("id", |v| v.word("control", id));
        }
        if control.without.is_none() && control.naive.is_none() {
            self.problem(
                "a control that leaves nothing out",
                "give `without: recovery`, `without: <step>` or `naive: <procedure>`",
            );
        }
        if !recovers(variant) {
            self.problem("a control of a variant that recovers nothing", "add a `recover` step");
        }
        match (control.red, control.refuses) {
            (None, None) => self
                .problem("a control that expects nothing", "give `red: { check: ..., kind: ... }`, or `refuses: 11`"),
            (Some(_), Some(_)) => self.problem(
                "a control with both `red` and `refuses`",
                "a recovery that refuses leaves nothing to check; keep one",
            ),
            (Some(red), None) if !variant.checks.contains(&red.check) => {
                let listed: Vec<&str> = variant.checks.iter().map(|c| c.word()).collect();
                self.at("red", |v| {
                    v.at("check", |v| {
                        v.problem(
                            format!("check `{}` is not among the variant's checks", red.check),
                            format!("the variant checks {}", listed.join(", ")),
                        )
                    });
                });
            }
            (Some(red), None) if red.kind == FindingKind::RecoveryRefused => {
                self.at("red", |v| {
                    v.at("kind", |v| {
                        v.problem("no check reports `recovery-refused`", "write `refuses: 11` instead of `red`")
                    })
                });
            }
            (Some(_), None) => {}
            (None, Some(code)) => self.refusal(code, control.silent),
        }
        if let Some(without) = control.without.as_deref().filter(|w| *w != "recovery") {
            self.omission(variant, without);
        }
        if let (Some(Naive::Exec(_)), Some(_)) = (&control.naive, &control.without) {
            self.at("without", |v| {
                v.problem("`without` beside a command", "the command stands in for the whole recovery; leave it out")
            });
        }
        if let Some(naive) = &control.naive {
            self.at("naive", |v| v.naive(variant, naive));
        }
    }

    fn refusal(&mut self, code: u8, silent: bool) {
        let known = [Exit::RecoveryFailed, Exit::PlanImpossible, Exit::Refused].map(Exit::code);
        if !known.contains(&code) {
            self.at("refuses", |v| {
                v.problem(format!("no recovery refuses with exit code {code}"), "expected 11, 40 or 41")
            });
        }
        if silent {
            self.at("silent", |v| v.problem("a refusal is not silent", "leave `silent` out"));
        }
    }

    fn omission(&mut self, variant: &Variant, without: &str) {
        let steps = recoveries(variant).flat_map(|recover| steps_of(recover).iter().copied());
        let known: Vec<&str> = steps.chain(["recovery"]).collect();
        if known.contains(&without) {
            return;
        }
        let hint = match nearest(without, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known: {}", known.join(", ")),
        };
        self.at("without", |v| v.problem(format!("no step `{without}` in this variant's recovery"), hint));
    }

    fn naive(&mut self, variant: &Variant, naive: &Naive) {
        let has = |playbook: &str| playbooks(variant).any(|p| p == playbook);
        let flips = || variant.steps.iter().any(|s| matches!(s, Step::Fault(Fault::FlipHeapBytes(_))));
        let (fits, needs) = match naive {
            Naive::SlotByHand | Naive::ResnapshotWithoutPurge => {
                (has("slot") || has("coordinated"), "a slot or coordinated recovery")
            }
            Naive::ZeroDamagedPages => (flips(), "a `flip-heap-bytes` fault"),
            Naive::ReRegister | Naive::LowerLevelGlobally => (has("schema"), "a schema recovery"),
            Naive::RestartOnly | Naive::Exec(_) => (true, ""),
        };
        if let Naive::Exec(own) = naive {
            self.at("exec", |v| v.command(&own.command, own.timeout));
        }
        if !fits && recovers(variant) {
            self.problem(
                format!("`{}` instead of what?", naive.word()),
                format!("it stands in for {needs}, which this variant has not"),
            );
        }
    }
}

fn recovers(variant: &Variant) -> bool {
    playbooks(variant).next().is_some()
}

fn playbooks(variant: &Variant) -> impl Iterator<Item = &'static str> {
    recoveries(variant).map(Recover::playbook)
}

fn recoveries(variant: &Variant) -> impl Iterator<Item = &Recover> {
    variant.steps.iter().filter_map(|s| match s {
        Step::Recover(recover) => Some(recover),
        _ => None,
    })
}
