//! Writes `cdc-drill.toml`.

use camino::Utf8Path;
use toml::{Table, Value};

use super::write::write_atomically;
use crate::stack::StackError;
use cdc_model::units::shell_word;
use cdc_pipeline::config::{Config, Hook, MEANS_VARIABLE, RegistryStorage};

/// The hooks of one server of a stack.
pub(super) fn hook(binary: &Utf8Path, dir: &Utf8Path, name: &str) -> Hook {
    let command =
        |verb: &str| format!("{} stack {verb} {name} --dir {}", shell_word(binary.as_str()), shell_word(dir.as_str()));
    Hook {
        disturb: Some(format!("{} --by \"${MEANS_VARIABLE}\"", command("disturb"))),
        settle: Some(command("settle")),
        ..Hook::new(command("start"), command("stop"), command("running"))
    }
}

/// The configuration as text. It holds the password: its file is readable by its owner only.
pub(super) fn render(config: &Config) -> Result<String, StackError> {
    let mut root = Table::new();
    let mut section = |name: &str, pairs: &[(&str, &str)]| {
        let table: Table = pairs.iter().map(|(k, v)| ((*k).to_owned(), Value::from(*v))).collect();
        root.insert(name.to_owned(), Value::Table(table));
    };
    let postgres = &config.postgres;
    section(
        "postgres",
        &[("url", postgres.url.expose()), ("pgdata", postgres.pgdata.as_str()), ("bin", postgres.bin.as_str())],
    );
    section("kafka", &[("bootstrap", &config.kafka.bootstrap)]);
    section("connect", &[("url", &config.connect.url), ("offsets_topic", &config.connect.offsets_topic)]);
    section("registry", &[("url", &config.registry.url)]);
    section("repository", &[("path", config.repository.path.as_str())]);
    if let Some(folder) = &config.recovery.folder {
        section("recovery", &[("folder", folder.as_str())]);
    }
    let failed = |e: toml::ser::Error| StackError::Setting {
        what: "configuration".to_owned(),
        expected: "values that TOML can hold".to_owned(),
        found: e.to_string(),
    };
    if let (Some(Value::Table(connect)), Some(class)) = (root.get_mut("connect"), &config.connect.schema_resolver) {
        connect.insert("schema_resolver".to_owned(), Value::from(class.as_str()));
    }
    if let Some(Value::Table(registry)) = root.get_mut("registry") {
        registry.insert("flavour".to_owned(), Value::try_from(config.registry.flavour).map_err(failed)?);
        if let Some(storage) = &config.registry.storage {
            registry.insert("storage".to_owned(), storage_value(storage));
        }
    }
    root.insert("control".to_owned(), Value::try_from(&config.control).map_err(failed)?);
    let text = toml::to_string(&root).map_err(failed)?;
    Ok(format!("# Written by `cdc-drill stack up`. Every command reads it by `--config`; it holds a password.\n{text}"))
}

fn storage_value(storage: &RegistryStorage) -> Value {
    let (kind, inner) = match storage {
        RegistryStorage::H2 { path } => ("h2", ("path", Value::from(path.as_str()))),
        RegistryStorage::Kafkasql { topics } => {
            ("kafkasql", ("topics", Value::Array(topics.iter().map(|t| Value::from(t.as_str())).collect())))
        }
    };
    let inner: Table = [(inner.0.to_owned(), inner.1)].into_iter().collect();
    Value::Table([(kind.to_owned(), Value::Table(inner))].into_iter().collect())
}

/// Writes the configuration into the stack's folder.
pub(super) fn write(config: &Config, path: &Utf8Path) -> Result<(), StackError> {
    write_atomically(path, &render(config)?, 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::Secret;
    use cdc_pipeline::config::*;

    #[test]
    fn what_is_written_is_read_back() {
        let temp = tempfile::tempdir().unwrap();
        let dir = camino::Utf8Path::from_path(temp.path()).unwrap();
        let topics = vec!["a".to_owned(), "b".to_owned()];
        let config = Config {
            postgres: PostgresConfig::new(Secret::new("postgres://u:p@h:1/d"), "/d".into(), "/b".into()),
            kafka: KafkaConfig::plain("h:2"),
            connect: ConnectConfig {
                schema_resolver: Some("a.Resolver".to_owned()),
                ..ConnectConfig::plain("http://h:3", "o")
            },
            registry: RegistryConfig::plain(
                "http://h:4",
                RegistryFlavour::Apicurio,
                Some(RegistryStorage::Kafkasql { topics: topics.clone() }),
            ),
            repository: RepositoryConfig::at("/r".into()),
            backup: BackupConfig::default(),
            recovery: RecoveryConfig::default(),
            prove: ProveConfig::default(),
            control: [("postgres".to_owned(), hook("/b/cdc-drill".into(), "/it's".into(), "postgres"))].into(),
            monitor: MonitorConfig::default(),
            objectives: ObjectivesConfig::default(),
            notify: None,
            attach: None,
        };
        let path = dir.join("cdc-drill.toml");
        write(&config, &path).unwrap();
        let read = Config::load(&path).unwrap();
        assert_eq!(read.postgres.url.expose(), config.postgres.url.expose());
        assert_eq!(read.connect.schema_resolver.as_deref(), Some("a.Resolver"));
        assert_eq!(read.registry.storage, Some(RegistryStorage::Kafkasql { topics }));
        assert_eq!(read.control["postgres"].stop, r"/b/cdc-drill stack stop postgres --dir '/it'\''s'");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}
