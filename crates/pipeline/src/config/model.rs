//! The configuration file `cdc-drill.toml`, as `stack up` writes it and as a person writes it for a pipeline of their own.

use std::{collections::BTreeMap, num::NonZeroU32};

use bytesize::ByteSize;
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{
    BucketAddress, ConfigError, Hook, MonitorConfig, NotifyConfig, ObjectivesConfig, OperatorConfig, RestAuth, Verb,
    secrets,
};
use cdc_model::units::{Secret, redact_url};

/// Everything the commands need to reach a pipeline.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The source database.
    pub postgres: PostgresConfig,
    /// The broker.
    pub kafka: KafkaConfig,
    /// The Connect worker.
    pub connect: ConnectConfig,
    /// The schema registry.
    pub registry: RegistryConfig,
    /// Where recovery points and WAL live.
    pub repository: RepositoryConfig,
    /// How long recovery points are kept, and how much room they may take.
    #[serde(default)]
    pub backup: BackupConfig,
    /// What recoveries remember.
    #[serde(default)]
    pub recovery: RecoveryConfig,
    /// How proofs are signed.
    #[serde(default)]
    pub prove: ProveConfig,
    /// How to stop and start what the engine must stop and start, by server: `postgres`, `registry`.
    #[serde(default)]
    pub control: BTreeMap<String, Hook>,
    /// What `status` judges by.
    #[serde(default)]
    pub monitor: MonitorConfig,
    /// What was promised of a recovery.
    #[serde(default)]
    pub objectives: ObjectivesConfig,
    /// The command that hears of what ended.
    #[serde(default)]
    pub notify: Option<NotifyConfig>,
    /// Says that the pipeline is somebody's, and what may be done to it. Without it, it is a sandbox.
    #[serde(default)]
    pub attach: Option<AttachConfig>,
}

/// What may be done to a pipeline that exists for a purpose of its own. By default: nothing but looking.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachConfig {
    /// The kinds of change that are permitted.
    #[serde(default)]
    pub allow: Vec<Permission>,
    /// The PostgreSQL system identifiers that may be changed.
    #[serde(default)]
    pub system_ids: Vec<String>,
    /// The Kafka cluster ids that may be changed.
    #[serde(default)]
    pub clusters: Vec<String>,
    /// The topic prefixes whose connectors, topics and subjects may be changed.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// The name that the pipeline carries: `attach` says where.
    #[serde(default)]
    pub marker: Option<String>,
}

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// Recovery points: a restore point and a new WAL segment in the source.
    Backup,
    /// The playbooks.
    Recover,
    /// Faults.
    Inject,
}

impl Permission {
    /// The word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Permission::Backup => "backup",
            Permission::Recover => "recover",
            Permission::Inject => "inject",
        }
    }
}

/// The PostgreSQL cluster.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:port/database` of a superuser. Once the file is read, password and TLS settings that
    /// stand beside it are in it too.
    pub url: Secret,
    /// The cluster's data folder, as this machine sees it; empty when `[control.postgres] pgdata` prints it.
    #[serde(default)]
    pub pgdata: Utf8PathBuf,
    /// The folder with `postgres`, `pg_basebackup`, `pg_waldump`, `pg_verifybackup`, of the cluster's major version; by
    /// default they are found by `PATH`.
    #[serde(default)]
    pub bin: Utf8PathBuf,
    /// `postgresql.conf` where it is outside the data folder. Needed only while the server is down and no recovery point says so.
    #[serde(default)]
    pub config_file: Option<Utf8PathBuf>,
    /// A file whose first line is the password.
    #[serde(default)]
    pub password_file: Option<Utf8PathBuf>,
    /// An environment variable that holds the password.
    #[serde(default)]
    pub password_env: Option<String>,
    /// A file in the form of `.pgpass`.
    #[serde(default)]
    pub passfile: Option<Utf8PathBuf>,
    /// TLS, as libpq knows it: `prefer` by default.
    #[serde(default)]
    pub sslmode: Option<SslMode>,
    /// The authorities that `verify-ca` and `verify-full` trust, in PEM.
    #[serde(default)]
    pub sslrootcert: Option<Utf8PathBuf>,
}

/// How much of TLS is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// None.
    Disable,
    /// Where the server offers it; who it is is not looked at.
    Prefer,
    /// Always; who it is is looked at only where authorities are named.
    Require,
    /// Always, with a certificate of a named authority.
    VerifyCa,
    /// Always, with a certificate of a named authority for this host's name.
    VerifyFull,
}

impl SslMode {
    /// libpq's word.
    pub fn word(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }
}

impl PostgresConfig {
    /// A cluster whose address says all there is to say.
    pub fn new(url: Secret, pgdata: Utf8PathBuf, bin: Utf8PathBuf) -> PostgresConfig {
        PostgresConfig { url, pgdata, bin, ..PostgresConfig::default() }
    }

    /// Puts password and TLS into the address.
    fn settle(&mut self) -> Result<(), ConfigError> {
        let password =
            secrets::read("[postgres] password", self.password_file.as_deref(), self.password_env.as_deref())?;
        let password = match (&self.passfile, password) {
            (Some(file), _) => Some(secrets::from_passfile(&self.url, file)?),
            (None, password) => password,
        };
        let mut add = |name: &str, value: &str| self.url = secrets::with_parameter(&self.url, name, value);
        if let Some(password) = password {
            add("password", password.expose());
        }
        if let Some(mode) = self.sslmode {
            add("sslmode", mode.word());
        }
        if let Some(root) = &self.sslrootcert {
            add("sslrootcert", root.as_str());
            secrets::certificates("[postgres] sslrootcert", root)?;
        } else if matches!(self.sslmode, Some(SslMode::VerifyCa | SslMode::VerifyFull)) {
            let detail = "expected the authorities that verify-ca and verify-full trust, found none".to_owned();
            return Err(ConfigError::Secret { key: "[postgres] sslrootcert".into(), detail, hint: None });
        }
        Ok(())
    }
}

impl std::fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("url", &redact_url(self.url.expose()))
            .field("pgdata", &self.pgdata)
            .field("bin", &self.bin)
            .finish_non_exhaustive()
    }
}

/// The brokers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port[,host:port]`.
    pub bootstrap: String,
    /// TLS and credentials or neither; `plaintext` by default.
    #[serde(default)]
    pub security_protocol: Option<SecurityProtocol>,
    /// The authorities to trust, in PEM; the system's by default.
    #[serde(default)]
    pub ssl_ca: Option<Utf8PathBuf>,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    #[serde(default)]
    pub sasl_mechanism: Option<String>,
    /// The name for SASL.
    #[serde(default)]
    pub sasl_username: Option<String>,
    /// A file whose first line is the password for SASL.
    #[serde(default)]
    pub sasl_password_file: Option<Utf8PathBuf>,
    /// An environment variable that holds the password for SASL.
    #[serde(default)]
    pub sasl_password_env: Option<String>,
    /// The password, once read.
    #[serde(skip)]
    pub sasl_password: Option<Secret>,
}

/// Kafka's `security.protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecurityProtocol {
    /// Neither TLS nor credentials.
    Plaintext,
    /// TLS.
    Ssl,
    /// Credentials without TLS.
    SaslPlaintext,
    /// Both.
    SaslSsl,
}

impl SecurityProtocol {
    /// Kafka's word.
    pub fn word(self) -> &'static str {
        match self {
            SecurityProtocol::Plaintext => "plaintext",
            SecurityProtocol::Ssl => "ssl",
            SecurityProtocol::SaslPlaintext => "sasl_plaintext",
            SecurityProtocol::SaslSsl => "sasl_ssl",
        }
    }
}

impl KafkaConfig {
    /// Brokers that ask for nothing.
    pub fn plain(bootstrap: &str) -> KafkaConfig {
        KafkaConfig { bootstrap: bootstrap.to_owned(), ..KafkaConfig::default() }
    }

    fn settle(&mut self) -> Result<(), ConfigError> {
        let key = "[kafka] sasl_password";
        self.sasl_password = secrets::read(key, self.sasl_password_file.as_deref(), self.sasl_password_env.as_deref())?;
        if let Some(file) = &self.ssl_ca {
            secrets::certificates("[kafka] ssl_ca", file)?;
        }
        let asked = matches!(self.security_protocol, Some(SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl));
        let whole = self.sasl_mechanism.is_some() && self.sasl_username.is_some() && self.sasl_password.is_some();
        let any = self.sasl_mechanism.is_some() || self.sasl_username.is_some() || self.sasl_password.is_some();
        match (asked, whole, any) {
            (true, true, _) | (false, _, false) => Ok(()),
            (true, false, _) => Err(ConfigError::Secret {
                key: "[kafka]".into(),
                detail: "expected sasl_mechanism, sasl_username and sasl_password_file or sasl_password_env".into(),
                hint: None,
            }),
            // They would be left unused, and the connection made without them.
            (false, _, true) => Err(ConfigError::Secret {
                key: "[kafka] security_protocol".into(),
                detail: "expected sasl_ssl or sasl_plaintext beside credentials for SASL".into(),
                hint: None,
            }),
        }
    }
}

/// The Connect workers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectConfig {
    /// The REST interface: `http://host:port`, or those of several workers of one cluster, with commas between.
    pub url: String,
    /// The workers' `offset.storage.topic`.
    #[serde(default = "default_offsets_topic")]
    pub offsets_topic: String,
    /// A schema resolver, by class, that the workers have beside Apicurio's Avro converter: connectors made for them name it.
    #[serde(default)]
    pub schema_resolver: Option<String>,
    /// Who this program is to the workers.
    #[serde(default)]
    pub auth: RestAuth,
    /// Authorities to trust beside the system's own, in PEM.
    #[serde(default)]
    pub ca: Option<Utf8PathBuf>,
    /// Their certificates, once read.
    #[serde(skip)]
    pub ca_pem: Option<Vec<u8>>,
}

fn default_offsets_topic() -> String {
    "connect-offsets".to_owned()
}

impl ConnectConfig {
    /// Workers that ask for nothing.
    pub fn plain(url: &str, offsets_topic: &str) -> ConnectConfig {
        ConnectConfig { url: url.to_owned(), offsets_topic: offsets_topic.to_owned(), ..ConnectConfig::default() }
    }
}

/// The schema registry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// The base address, without the path of Apicurio's APIs (`http://host:port`); of a registry with Confluent's API alone that of the API. Or
    /// several with commas between.
    pub url: String,
    /// Which product it is: the APIs differ.
    pub flavour: RegistryFlavour,
    /// Where it keeps its schemas; needed to restore ids into an empty store.
    #[serde(default)]
    pub storage: Option<RegistryStorage>,
    /// Who this program is to the registry.
    #[serde(default)]
    pub auth: RestAuth,
    /// Authorities to trust beside the system's own, in PEM.
    #[serde(default)]
    pub ca: Option<Utf8PathBuf>,
    /// Their certificates, once read.
    #[serde(skip)]
    pub ca_pem: Option<Vec<u8>>,
}

impl RegistryConfig {
    /// A registry that asks for nothing.
    pub fn plain(url: &str, flavour: RegistryFlavour, storage: Option<RegistryStorage>) -> RegistryConfig {
        let (url, auth) = (url.to_owned(), RestAuth::default());
        RegistryConfig { url, flavour, storage, auth, ca: None, ca_pem: None }
    }
}

/// The registry product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegistryFlavour {
    /// Apicurio Registry 3, by its own API and Confluent's.
    Apicurio,
    /// A registry with Confluent's API alone; the address is that of the API.
    Confluent,
}

/// The registry's store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RegistryStorage {
    /// An H2 database in files whose names begin with this path.
    H2 {
        /// The path without H2's own endings: `/data/registry/db`.
        path: Utf8PathBuf,
    },
    /// Topics of the broker.
    Kafkasql {
        /// Every topic the registry keeps state in.
        topics: Vec<String>,
    },
}

/// Where recovery points live.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryConfig {
    /// The repository's folder, or the address of a bucket: see [`BucketAddress`].
    pub path: Utf8PathBuf,
    /// For whom its content is encrypted, `age1…`: `backup init` makes it so, and everybody else refuses one that is not. Nobody when empty.
    #[serde(default)]
    pub recipients: Vec<String>,
    /// A file with the identity that reads what is encrypted, for its owner alone. `CDC_DRILL_IDENTITY` names one elsewhere.
    #[serde(default)]
    pub identity_file: Option<Utf8PathBuf>,
}

impl RepositoryConfig {
    /// A repository of which nothing else is said.
    pub fn at(path: Utf8PathBuf) -> RepositoryConfig {
        RepositoryConfig { path, recipients: Vec::new(), identity_file: None }
    }

    /// Where an `archive_command` leaves finished WAL that cannot run this program. Whoever reads the archive takes in first
    /// what is there. Only repositories in folders have one.
    pub fn spool(&self) -> Utf8PathBuf {
        self.path.join("spool")
    }
}

/// What recovery points hold, how long they are kept, and how much room the repository may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupConfig {
    /// What they hold of topics.
    #[serde(default)]
    pub topics: TopicsBackup,
    /// Keep the points of the last days, and what reaches back to the first of them; 7 by default. Not beside `keep`.
    #[serde(default)]
    pub keep_days: Option<NonZeroU32>,
    /// Keep this many of the newest points that hold all parts, and what is newer than the oldest of them.
    #[serde(default)]
    pub keep: Option<NonZeroU32>,
    /// What the repository may take on disk: `2 GiB`, which is the default.
    #[serde(default = "default_budget")]
    pub budget: ByteSize,
    /// Whether a point has counts and digests of the published tables, for which each is read once; by default it has.
    #[serde(default = "yes")]
    pub fingerprints: bool,
}

fn yes() -> bool {
    true
}

fn default_budget() -> ByteSize {
    ByteSize::gib(2)
}

impl Default for BackupConfig {
    fn default() -> BackupConfig {
        BackupConfig {
            topics: TopicsBackup::default(),
            keep_days: None,
            keep: None,
            budget: default_budget(),
            fingerprints: true,
        }
    }
}

impl BackupConfig {
    fn check(&self, path: &Utf8Path) -> Result<(), ConfigError> {
        match (self.keep_days, self.keep) {
            (Some(_), Some(_)) => Err(ConfigError::Parse {
                path: path.to_owned(),
                message: "[backup]: expected keep_days or keep, found both".into(),
            }),
            _ => Ok(()),
        }
    }
}

/// What recovery points hold of topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TopicsBackup {
    /// Settings, and the positions of consumer groups.
    #[default]
    Settings,
    /// The records of the connectors' topics as well.
    Data,
}

/// How proofs of recovery points are signed, and how signatures are looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProveConfig {
    /// A program and its arguments that sign the file `{file}` into `{signature}`: `["ssh-keygen", "-Y", "sign", ...]`.
    #[serde(default)]
    pub sign: Vec<String>,
    /// A program and its arguments that end with 0 where `{signature}` is a good signature of `{file}`.
    #[serde(default)]
    pub verify: Vec<String>,
}

/// What recoveries remember, and what they do in the end.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoveryConfig {
    /// The folder of their records; `recoveries` in the repository by default.
    #[serde(default)]
    pub folder: Option<Utf8PathBuf>,
    /// What becomes of the new timeline when a coordinated recovery has ended.
    #[serde(default)]
    pub point: PointAfter,
    /// The hooks that keep an operator from undoing what a recovery does.
    #[serde(default)]
    pub operator: Option<OperatorConfig>,
}

/// Whether a recovery that has ended takes a recovery point of the timeline that it made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PointAfter {
    /// It says that one should be taken.
    #[default]
    Suggest,
    /// It takes one.
    Take,
}

impl Config {
    /// The folder of the records of recoveries.
    pub fn recoveries(&self) -> Utf8PathBuf {
        self.recovery.folder.clone().unwrap_or_else(|| self.repository.path.join("recoveries"))
    }

    /// A text without the secrets that the configuration has read.
    pub fn mask(&self, text: &str) -> String {
        let rest = [&self.connect.auth, &self.registry.auth].into_iter();
        let rest = rest.flat_map(|auth| auth.password.iter().chain(&auth.token));
        let known = self.kafka.sasl_password.iter().chain(rest).map(|secret| secret.expose().to_owned());
        let url = secrets::password_of(&self.postgres.url);
        known
            .chain(url)
            .filter(|secret| !secret.is_empty())
            .fold(redact_url(text), |text, secret| text.replace(&secret, "***"))
    }

    /// This configuration with the data folder known, asking the hook that prints it where the file does not name it.
    pub async fn settled(&self) -> Result<Config, ConfigError> {
        let mut config = self.clone();
        if !config.postgres.pgdata.as_str().is_empty() {
            return Ok(config);
        }
        let hook = config.control.get("postgres").filter(|h| h.pgdata.is_some());
        let hook = hook.ok_or_else(|| ConfigError::DataFolder("not in the configuration".into()))?;
        let call = hook.expect("postgres", Verb::Pgdata).await?;
        let line = call.said.last().map(String::as_str).unwrap_or_default();
        if !line.starts_with('/') {
            return Err(ConfigError::DataFolder(format!("{} printed `{line}`, expected an absolute path", call.hook)));
        }
        config.postgres.pgdata = line.into();
        Ok(config)
    }

    /// Reads a configuration file; relative paths in it are relative to the file's folder.
    pub fn load(path: &Utf8Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
        let wrong = |error: toml::de::Error| {
            let line = error.span().map(|span| text[..span.start.min(text.len())].lines().count().max(1));
            let at = line.map(|l| format!("line {l}: ")).unwrap_or_default();
            ConfigError::Parse { path: path.to_owned(), message: format!("{at}{}", error.message()) }
        };
        secrets::refuse_written(&toml::from_str(&text).map_err(wrong)?, path)?;
        let mut config: Config = toml::from_str(&text).map_err(wrong)?;
        config.backup.check(path)?;
        // Absolute: hooks and the server's own commands run in other folders than this process.
        let base =
            camino::absolute_utf8(path.parent().filter(|p| !p.as_str().is_empty()).unwrap_or(Utf8Path::new(".")))
                .map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
        let absolute = |p: &mut Utf8PathBuf| {
            if p.is_relative() && !p.as_str().is_empty() && !BucketAddress::is_one(p) {
                *p = base.join(&*p);
            }
        };
        absolute(&mut config.postgres.pgdata);
        absolute(&mut config.postgres.bin);
        absolute(&mut config.repository.path);
        if let Some(RegistryStorage::H2 { path }) = &mut config.registry.storage {
            absolute(path);
        }
        let (connect, registry) = (&mut config.connect, &mut config.registry);
        let files = [
            &mut config.postgres.config_file,
            &mut config.repository.identity_file,
            &mut config.recovery.folder,
            &mut config.postgres.password_file,
            &mut config.postgres.passfile,
            &mut config.postgres.sslrootcert,
            &mut config.kafka.ssl_ca,
            &mut config.kafka.sasl_password_file,
            &mut connect.ca,
            &mut connect.auth.password_file,
            &mut connect.auth.token_file,
            &mut registry.ca,
            &mut registry.auth.password_file,
            &mut registry.auth.token_file,
        ];
        files.into_iter().flatten().for_each(absolute);
        if let Ok(url) = std::env::var("CDC_DRILL_POSTGRES_URL") {
            config.postgres.url = Secret::new(url);
        }
        config.settle_secrets()?;
        Ok(config)
    }

    /// Reads what the named files and variables hold.
    fn settle_secrets(&mut self) -> Result<(), ConfigError> {
        self.postgres.settle()?;
        self.kafka.settle()?;
        self.connect.auth.settle("connect.auth")?;
        self.registry.auth.settle("registry.auth")?;
        let pem = |key: &str, file: &Option<Utf8PathBuf>| {
            file.as_deref().map(|file| secrets::certificates(key, file)).transpose()
        };
        self.connect.ca_pem = pem("[connect] ca", &self.connect.ca)?;
        self.registry.ca_pem = pem("[registry] ca", &self.registry.ca)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::{Exit, Failure};

    fn config(hook: &str) -> Config {
        let text = format!(
            "[postgres]\nurl='postgres://h/d'\n[kafka]\nbootstrap='h:1'\n[connect]\nurl='http://h'\n[registry]\nurl='http://h'\n\
             flavour='apicurio'\n[repository]\npath='/r'\n[control.postgres]\nstart=''\nstop=''\nrunning=''\n{hook}"
        );
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn what_was_read_is_masked_in_every_text() {
        let mut config = config("");
        config.postgres.url = Secret::new("postgres://me:hunter%402@h/d");
        config.kafka.sasl_password = Some(Secret::new("of-kafka"));
        config.connect.auth.token = Some(Secret::new("of-connect"));
        config.registry.auth.password = Some(Secret::new("of-registry"));
        let text = "hunter@2, of-kafka, of-connect and of-registry; postgres://you:else@h/d of me";
        let masked = config.mask(text);
        assert_eq!(masked, "***, ***, *** and ***; postgres://you:***@h/d of me");
        config.postgres.url = Secret::new("postgres://postgres:postgres@h/d");
        assert_eq!(config.mask("postgres is down"), "postgres is down");
    }

    #[test]
    fn what_is_kept_has_defaults_and_one_rule() {
        let with = |section: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = Utf8Path::from_path(folder.path()).unwrap().join("c.toml");
            let text = "[postgres]\nurl='postgres://h/d'\n[kafka]\nbootstrap='h:1'\n[connect]\nurl='http://h'\n\
                [registry]\nurl='http://h'\nflavour='apicurio'\n[repository]\npath='/r'\n";
            std::fs::write(&path, format!("{text}{section}")).unwrap();
            Config::load(&path).map(|config| config.backup)
        };
        let default = with("").unwrap();
        assert_eq!((default, default.budget.as_u64()), (BackupConfig::default(), 2 << 30));
        let own = with("[backup]\nkeep = 2\nbudget = '500 MB'\n").unwrap();
        assert_eq!((own.keep, own.budget.as_u64()), (NonZeroU32::new(2), 500_000_000));
        let both = with("[backup]\nkeep = 2\nkeep_days = 3\n").unwrap_err();
        assert_eq!(both.exit(), Exit::Invalid);
        assert!(both.to_string().contains("keep_days or keep, found both"), "{both}");
        for wrong in ["keep = 0", "keep_days = 0", "budget = 'much'", "keep-days = 1"] {
            assert_eq!(with(&format!("[backup]\n{wrong}\n")).unwrap_err().exit(), Exit::Invalid, "{wrong}");
        }
    }

    #[tokio::test]
    async fn the_data_folder_is_what_the_hook_prints_last() {
        let settled = config("pgdata = 'echo some noise; echo /var/lib/pg'").settled().await.unwrap();
        assert_eq!(settled.postgres.pgdata, "/var/lib/pg");
        let wrong = |hook: &str| {
            let config = config(hook);
            async move { config.settled().await.unwrap_err() }
        };
        assert!(wrong("pgdata = 'echo pg'").await.to_string().contains("printed `pg`, expected an absolute path"));
        assert_eq!(wrong("pgdata = 'false'").await.exit(), Exit::Inconclusive);
        assert_eq!(wrong("").await.exit(), Exit::Invalid);
    }
}
