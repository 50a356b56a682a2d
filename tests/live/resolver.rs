//! The schema resolver that the local stack compiles, beside Apicurio's own.

use std::{path::Path, process::Command};

use cdc_harness::stack::{Programs, Silent};

/// What a program wrote to standard error where it failed.
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// It answers as Apicurio's resolver does, asks the registry as often, and asks less of the schema's text.
#[tokio::test]
async fn the_resolver_answers_as_apicurios_and_keeps_no_answer_longer() {
    let programs = Programs::ensure(&Silent).await.unwrap();
    let plugin = programs.plugins().join("debezium-connector-postgres");
    let class_path = format!("{plugin}/*:{}/*", programs.kafka_jars());
    let classes = tempfile::tempdir().unwrap();
    let classes = classes.path().to_str().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live/CachingSchemaResolverCheck.java");
    run(Command::new("javac")
        .args(["--release", "17", "-nowarn", "-proc:none", "-cp", &class_path, "-d", classes])
        .arg(source));
    run(Command::new(programs.java().as_std_path()).args([
        "-cp",
        &format!("{classes}:{class_path}"),
        "CachingSchemaResolverCheck",
    ]));
}
