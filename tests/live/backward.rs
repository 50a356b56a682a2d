//! What a real registry says of changes of a column under BACKWARD: renames of nullable columns, drops of such columns and
//! widenings pass through the connector; another type and a new required column are refused with 409. And a recovery that is
//! killed while it lets such a change in leaves no level lowered behind the next one.

use std::{
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use camino::Utf8PathBuf;
use cdc_engine::backup::Repository;
use cdc_harness::stack::{
    ConnectorRequest, LocalStack, Native, OwnerLock, Programs, Silent, StackSpec, debezium_config,
};
use cdc_model::{
    units::{Subject, TableName},
    vocabulary::RegistryStorageKind,
};
use cdc_pipeline::client::{
    ClientError,
    connect::Connect,
    kafka::Kafka,
    postgres::Postgres,
    registry::Registry,
    wait::{self, Poll},
};
use serde_json::{Value, json};

use super::{
    PROGRAM,
    sandbox::{DEADLINE, expect},
};

/// Records come within two seconds; beside other tests on a busy machine it takes longer.
const NAME: &str = "backward";
/// The tables, each with a change that the level allows.
const ALLOWED: [(&str, &str); 3] = [
    ("renamed", "alter table renamed rename column note to remark"),
    ("dropped", "alter table dropped drop column note"),
    ("widened", "alter table widened alter column amount type bigint"),
];

struct Pipeline {
    sql: Postgres,
    connect: Connect,
    kafka: Kafka,
    registry: Registry,
    stack: LocalStack,
    _owner: OwnerLock,
    // The servers run below it: it goes last.
    _folder: tempfile::TempDir,
}

fn value_subject(table: &str) -> Subject {
    Subject::new(format!("{NAME}.public.{table}-value"))
}

impl Pipeline {
    /// Three tables with one row each, under BACKWARD, and a connector that has read them.
    async fn start() -> Pipeline {
        let folder = tempfile::tempdir().unwrap();
        // The servers' account has to get through.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("stack")).unwrap();
        let backend = Native::new(Programs::ensure(&Silent).await.unwrap());
        let mut stack = LocalStack::create(&path, StackSpec::whole(RegistryStorageKind::H2), &backend).unwrap();
        let owner = stack.own().unwrap();
        // Before the first segment is archived.
        Repository::init(&stack.config().unwrap().repository.path).unwrap();
        stack.start_all(&Silent).await.unwrap();
        stack.write_config().unwrap();
        let config = stack.config().unwrap();
        let sql = Postgres::connect(&config.postgres.url, "test").await.unwrap();
        for (table, _) in ALLOWED {
            let rows = "(id integer primary key, amount integer not null, note text)";
            sql.run(&format!("create table {table} {rows}; insert into {table} values (1, 1, 'first')")).await.unwrap();
        }
        let pipeline = Pipeline {
            sql,
            connect: Connect::of(&config.connect),
            kafka: Kafka::of(&config.kafka).unwrap(),
            registry: Registry::of(&config.registry),
            stack,
            _owner: owner,
            _folder: folder,
        };
        pipeline.registry.set_global_level("BACKWARD").await.unwrap();
        let tables = ALLOWED.map(|(table, _)| TableName::new("public", table)).to_vec();
        let database = pipeline.sql.text("select current_database()").await.unwrap().unwrap();
        let request = ConnectorRequest { name: NAME.into(), database, tables };
        pipeline.connect.put_config(NAME, &debezium_config(&config, &request).unwrap()).await.unwrap();
        for (table, _) in ALLOWED {
            pipeline.records(table, 1).await;
        }
        pipeline
    }

    fn file(&self) -> Utf8PathBuf {
        self.stack.dir().join("cdc-drill.toml")
    }

    async fn records(&self, table: &str, wanted: i64) {
        let topic = format!("{NAME}.public.{table}");
        let what = format!("{wanted} records in {topic}");
        let arrived = wait::until(&what, DEADLINE, || async {
            if let Some(failure) = self.connect.status(NAME).await?.failure() {
                return Ok::<_, ClientError>(Poll::Hopeless(failure));
            }
            let ends: i64 = self.kafka.watermarks(&topic).await?.iter().map(|(_, end)| end.0).sum();
            Ok(if ends >= wanted { Poll::Ready(()) } else { Poll::NotYet(ends.to_string()) })
        });
        arrived.await.unwrap();
    }

    /// The subject's newest schema.
    async fn newest(&self, table: &str) -> Value {
        let subject = value_subject(table);
        let last = *self.registry.versions(&subject, false).await.unwrap().last().unwrap();
        let version = self.registry.version(&subject, last, false).await.unwrap().unwrap();
        serde_json::from_str(&version.schema).unwrap()
    }

    /// Offers a schema, as a connector does that has seen a changed table: `None` when it is taken, else the status.
    async fn offered(&self, table: &str, schema: &Value) -> Option<u16> {
        let subject = value_subject(table);
        let text = schema.to_string();
        let compatible = self.registry.compatible(&subject, &text).await.unwrap();
        let refused = self.registry.register(&subject, &text, &[]).await.err().map(|error| error.status().unwrap());
        assert_eq!(compatible, refused.is_none(), "asked and registered: {text}");
        refused
    }
}

/// The fields of the row's record, which stands inside the envelope.
fn row_fields(schema: &mut Value) -> Option<&mut Vec<Value>> {
    if schema["name"] == "Value" {
        return schema["fields"].as_array_mut();
    }
    match schema {
        Value::Object(object) => object.values_mut().find_map(row_fields),
        Value::Array(list) => list.iter_mut().find_map(row_fields),
        _ => None,
    }
}

fn with_type(mut schema: Value, field: &str, ty: &str) -> Value {
    let fields = row_fields(&mut schema).unwrap();
    fields.iter_mut().find(|f| f["name"] == field).unwrap()["type"] = json!(ty);
    schema
}

fn with_field(mut schema: Value, field: Value) -> Value {
    row_fields(&mut schema).unwrap().push(field);
    schema
}

#[tokio::test(flavor = "multi_thread")]
async fn renames_drops_and_widenings_pass_and_other_types_and_new_required_columns_do_not() {
    let pipeline = Pipeline::start().await;
    for (table, change) in ALLOWED {
        let before = pipeline.newest(table).await;
        pipeline.sql.run(change).await.unwrap();
        pipeline.sql.run(&format!("insert into {table} (id, amount) values (2, 2)")).await.unwrap();
        pipeline.records(table, 2).await;
        let after = pipeline.newest(table).await;
        assert_ne!(before, after, "{table}: the change made a new version");
        let versions = pipeline.registry.versions(&value_subject(table), false).await.unwrap();
        assert_eq!(versions.len(), 2, "{table}");
    }
    let status = pipeline.connect.status(NAME).await.unwrap();
    assert!(status.all_running(), "{}", status.summary());

    let schema = pipeline.newest("dropped").await;
    let refused = [
        ("int to text", with_type(schema.clone(), "amount", "string")),
        ("a new required column", with_field(schema.clone(), json!({ "name": "extra", "type": "string" }))),
    ];
    for (what, schema) in refused {
        assert_eq!(pipeline.offered("dropped", &schema).await, Some(409), "{what}");
    }
    let optional = json!({ "name": "extra", "type": ["null", "string"], "default": null });
    assert_eq!(pipeline.offered("dropped", &with_field(schema, optional)).await, None, "a new nullable column");

    // And as a connector meets it: the task fails of the refusal.
    pipeline.registry.set_subject_level(&value_subject("renamed"), "BACKWARD").await.unwrap();
    expect(0, &format!("backup create --config {}", pipeline.file()), "");
    pipeline
        .sql
        .run("alter table renamed alter column amount type text; insert into renamed values (3, 'x')")
        .await
        .unwrap();
    let failure = wait::until("the task to fail", DEADLINE, || async {
        let status = pipeline.connect.status(NAME).await?;
        Ok::<_, ClientError>(match status.failure() {
            Some(failure) => Poll::Ready(failure),
            None => Poll::NotYet(status.summary()),
        })
    });
    let failure = failure.await.unwrap();
    assert!(failure.to_lowercase().contains("incompatible") || failure.contains("409"), "{failure}");
    a_killed_accept_leaves_no_level_lowered(&pipeline).await;
    pipeline.stack.stop_all().await.unwrap();
}

/// The subject whose change is refused has a level of its own, which a recovery lowers; it is killed just then.
async fn a_killed_accept_leaves_no_level_lowered(pipeline: &Pipeline) {
    let subject = value_subject("renamed");
    let level = || async { pipeline.registry.subject_level(&subject).await.unwrap() };
    let accept = format!("recover run schema --config {} --on-conflict accept --yes", pipeline.file());
    let mut child = Command::new(PROGRAM)
        .args(accept.split(' '))
        .env("CDC_DRILL_BIN", PROGRAM)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lowered = wait::until("the level to be lowered", DEADLINE, || async {
        Ok::<_, ClientError>(match level().await.as_deref() {
            Some("NONE") => Poll::Ready(()),
            other => Poll::NotYet(format!("{other:?}")),
        })
    });
    lowered.await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(level().await.as_deref(), Some("NONE"), "killed before it was put back");

    let plan = format!("recover plan schema --config {} --on-conflict accept", pipeline.file());
    expect(0, &plan, "left at level NONE by recovery");
    assert_eq!(level().await.as_deref(), Some("NONE"), "a plan changes nothing");
    expect(0, &accept, "put back to BACKWARD");
    assert_eq!(level().await.as_deref(), Some("BACKWARD"));
    let again = expect(0, &plan, "");
    assert!(!again.err.contains("left at level"), "{}", again.err);
}
