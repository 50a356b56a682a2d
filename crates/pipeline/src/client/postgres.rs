//! PostgreSQL over its own protocol.

use std::ops::Deref;

use camino::Utf8Path;
use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::{
    Config, SimpleQueryMessage,
    config::Host,
    error::{ErrorPosition, SqlState},
};

use super::{ClientError, connect::encode, limits::asking, listener::is_anybody_at, tls::Wanted, walsender};
use cdc_model::units::{Lsn, Secret, SlotName, SystemId, Timeline, redact_url, without_tls};
use cdc_postgres::{
    script::{self, Place},
    version::Version,
};

/// What a session prints its values by: row images are canonical in these settings and no others.
const FORMS: &[(&str, &str)] = &[
    ("client_encoding", "UTF8"),
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO,MDY"),
    ("IntervalStyle", "postgres"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
    ("lc_monetary", "C"),
];
/// What else the statements of this program depend on. `alter database ... set` and `alter role ... set` are made for a
/// person's applications; a session of this program starts from PostgreSQL's own defaults, which the start-up packet sets
/// over them. Row security is off in the sense of `pg_dump`: rows that a policy would hide are an error, not a smaller table.
const CONDUCT: &[(&str, &str)] = &[
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_deferrable", "off"),
    ("row_security", "off"),
    ("search_path", "\"$user\",public"),
    ("standard_conforming_strings", "on"),
    ("quote_all_identifiers", "off"),
];
/// The same, which servers before PostgreSQL 17 do not know and refuse.
const CONDUCT_SINCE_17: &[(&str, &str)] = &[("transaction_timeout", "0")];

/// Settings as `options` of the start-up packet and `PGOPTIONS` take them.
fn options(settings: &[&[(&str, &str)]]) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace(' ', "\\ ");
    let each = settings.iter().copied().flatten().map(|(name, value)| format!("-c {name}={}", escaped(value)));
    each.collect::<Vec<_>>().join(" ")
}

/// `PGOPTIONS` for a program of PostgreSQL's that works for this one. What servers before PostgreSQL 17 refuse is not in it:
/// unlike a session, a program is not started twice.
pub fn program_options() -> String {
    options(&[CONDUCT])
}

/// Whose statements a session runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Statements {
    /// This program's.
    Own,
    /// A person's, as their application would: the settings of its database and role are part of them.
    Application,
}

/// One session. Dereferences to [`tokio_postgres::Client`] for queries.
pub struct Postgres {
    client: tokio_postgres::Client,
    address: String,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Deref for Postgres {
    type Target = tokio_postgres::Client;
    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

/// A replication slot as `pg_replication_slots` shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Slot {
    /// Its name.
    pub name: SlotName,
    /// `logical` or `physical`.
    pub slot_type: String,
    /// The output plugin of a logical slot.
    pub plugin: Option<String>,
    /// The database of a logical slot.
    pub database: Option<String>,
    /// Whether a walsender streams from it now.
    pub active: bool,
    /// The process that streams from it.
    pub active_pid: Option<i32>,
    /// The oldest WAL it holds back.
    pub restart_lsn: Option<Lsn>,
    /// The last position its consumer confirmed.
    pub confirmed_flush_lsn: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Why it was invalidated (PostgreSQL 17 and later).
    pub invalidation_reason: Option<String>,
}

impl Slot {
    /// Why nobody can ever stream from it again; `None` for a slot that is not invalidated.
    pub fn invalidated(&self) -> Option<&str> {
        let removed = (self.wal_status.as_deref() == Some("lost")).then_some("wal_removed");
        self.invalidation_reason.as_deref().or(removed)
    }
}

/// An address as libpq knows it, without what it says about TLS.
pub fn address(url: &Secret) -> Result<Config, ClientError> {
    parsed(url).map(|(config, _)| config)
}

fn parsed(url: &Secret) -> Result<(Config, Wanted), ClientError> {
    let split = without_tls(url.expose());
    let wrong = |detail: String| ClientError::unreachable("postgres", url.expose(), detail);
    let config = split.address.parse().map_err(|e: tokio_postgres::Error| wrong(cause(&e)))?;
    Ok((config, Wanted::of(split.mode.as_deref(), split.root).map_err(wrong)?))
}

/// What a program of PostgreSQL's needs in its environment to reach an address.
#[derive(Debug)]
pub struct ProgramSettings {
    /// `PGHOST`, `PGPORT`, `PGUSER`, `PGDATABASE`, `PGSSLMODE`, `PGSSLROOTCERT`: what was said of them.
    pub open: Vec<(&'static str, String)>,
    /// `PGPASSWORD`, which must not be an argument.
    pub password: Option<Secret>,
}

impl ProgramSettings {
    /// Of an address.
    pub fn of(url: &Secret) -> Result<ProgramSettings, ClientError> {
        let config = address(url)?;
        let split = without_tls(url.expose());
        let host = match (config.get_hostaddrs().first(), config.get_hosts().first()) {
            (Some(address), _) => address.to_string(),
            (None, Some(Host::Tcp(name))) => name.clone(),
            (None, Some(Host::Unix(folder))) => folder.to_string_lossy().into_owned(),
            (None, None) => "localhost".to_owned(),
        };
        let port = config.get_ports().first().unwrap_or(&5432).to_string();
        let mut open = vec![("PGHOST", host), ("PGPORT", port)];
        open.extend(config.get_user().map(|user| ("PGUSER", user.to_owned())));
        open.extend(config.get_dbname().map(|name| ("PGDATABASE", name.to_owned())));
        open.extend(split.mode.map(|mode| ("PGSSLMODE", mode)));
        open.extend(split.root.map(|root| ("PGSSLROOTCERT", root)));
        let password = config.get_password().map(|p| Secret::new(String::from_utf8_lossy(p)));
        Ok(ProgramSettings { open, password })
    }

    /// The open ones as pairs.
    pub fn pairs(&self) -> Vec<(&str, &str)> {
        self.open.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }
}

/// Who is at an address.
#[derive(Debug)]
pub enum Found {
    /// A server; a session with it.
    Session(Postgres),
    /// A server that does not let this client in: it is full, asks for other credentials or another kind of connection, or has no such
    /// database.
    Refuses(ClientError),
    /// A server, or something that looks like one, without a session: it starts or ends, or it hangs.
    Unready(ClientError),
    /// Nobody.
    Silence(ClientError),
}

/// Why a session did not open.
enum Refusal {
    /// The server does not know a setting; what it says.
    UnknownSetting(String),
    /// The server refuses the password.
    Password { said: String, error: ClientError },
    /// The server has no such database.
    NoDatabase(ClientError),
    /// Anything else.
    Error(ClientError),
}

/// Databases that `initdb` makes and sessions may be opened on.
const MAINTENANCE_DATABASES: [&str; 2] = ["postgres", "template1"];

impl Refusal {
    fn into_error(self, address: &str) -> ClientError {
        match self {
            Refusal::Password { error, .. } | Refusal::NoDatabase(error) | Refusal::Error(error) => error,
            Refusal::UnknownSetting(found) => {
                ClientError::answer("postgres", address, "open a session", "PostgreSQL 15 or later", found).for_good()
            }
        }
    }
}

impl Postgres {
    /// Opens a session. `url` as for libpq; the session speaks UTC and ISO and prints values in full precision, so that row
    /// images are canonical, and whatever else its statements depend on is as PostgreSQL has it by default.
    pub async fn connect(url: &Secret, application: &str) -> Result<Postgres, ClientError> {
        let (mut config, wanted) = parsed(url)?;
        config.application_name(application).connect_timeout(asking::POSTGRES_CONNECT.now());
        Self::open(config, &wanted, redact_url(url.expose()), Statements::Own).await
    }

    /// Looks who is at an address. Only silence is silence: a server that refuses this client is one that lets others in.
    pub async fn find(url: &Secret, application: &str) -> Found {
        let error = match Self::connect(url, application).await {
            Ok(session) => return Found::Session(session),
            Err(refused @ ClientError::Answer { .. }) => return Found::Refuses(refused),
            Err(error) => error,
        };
        match address(url) {
            // What cannot be asked is not silent.
            Err(wrong) => Found::Refuses(wrong),
            Ok(config) if is_anybody_at(&config).await => Found::Unready(error),
            Ok(_) => Found::Silence(error),
        }
    }

    /// Opens a session for statements that are not this program's: it prints values as [`Self::connect`] has it, and search
    /// path, time limits and the like are those of the database and the role.
    pub async fn connect_as_application(url: &Secret, application: &str) -> Result<Postgres, ClientError> {
        let (mut config, wanted) = parsed(url)?;
        config.application_name(application).connect_timeout(asking::POSTGRES_CONNECT.now());
        Self::open(config, &wanted, redact_url(url.expose()), Statements::Application).await
    }

    /// Opens a session on another database of the same server.
    pub async fn connect_database(url: &Secret, database: &str, application: &str) -> Result<Postgres, ClientError> {
        let (mut config, wanted) = parsed(url)?;
        config.application_name(application).connect_timeout(asking::POSTGRES_CONNECT.now()).dbname(database);
        let address = format!("{} (database {database})", redact_url(url.expose()));
        Self::open(config, &wanted, address, Statements::Own).await
    }

    /// Opens a session through a unix socket in `folder`; `url` gives user, password and database.
    pub async fn connect_socket(
        url: &Secret,
        folder: &Utf8Path,
        port: u16,
        application: &str,
    ) -> Result<Postgres, ClientError> {
        Self::connect_on_this_machine(url, folder.as_str(), port, application).await
    }

    /// Opens a session with a server of this machine at an address of its own: a host, or the folder of its unix socket. `url` gives
    /// user, password and database.
    pub async fn connect_on_this_machine(
        url: &Secret,
        host: &str,
        port: u16,
        application: &str,
    ) -> Result<Postgres, ClientError> {
        let given = address(url)?;
        let mut config = Config::new();
        config.host(host).port(port).application_name(application).connect_timeout(asking::POSTGRES_CONNECT.now());
        if let Some(user) = given.get_user() {
            config.user(user);
        }
        if let Some(password) = given.get_password() {
            config.password(password);
        }
        if let Some(database) = given.get_dbname() {
            config.dbname(database);
        }
        // Nobody but the server itself is at the other end of the socket.
        let wanted =
            Wanted::of(Some("disable"), None).map_err(|e| ClientError::unreachable("postgres", "socket", e))?;
        Self::open(config, &wanted, format!("{host}, port {port}, of this machine"), Statements::Own).await
    }

    /// Opens a session with a walsender of the database, which understands replication commands too, by [`Postgres::texts`].
    /// The role must have REPLICATION.
    pub async fn connect_walsender(url: &Secret, application: &str) -> Result<Postgres, ClientError> {
        let (mut config, wanted) = parsed(url)?;
        config.application_name(application).options(options(&[CONDUCT])).ssl_mode(wanted.mode);
        let address = format!("{} (walsender)", redact_url(url.expose()));
        let unreachable = |detail: String| ClientError::unreachable("postgres", &address, detail);
        let tls = wanted.connector().map_err(unreachable)?;
        let opened = tokio::time::timeout(asking::POSTGRES_SESSION.now(), walsender::open(&config, tls))
            .await
            .map_err(|_| unreachable(format!("no session within {} s", asking::POSTGRES_SESSION.now().as_secs())))?;
        let (client, connection) = opened.map_err(|failed| match failed {
            walsender::Failed::Wire(error) => unreachable(error.to_string()),
            walsender::Failed::Tls(error) => unreachable(error),
            walsender::Failed::Session(error) => unopened(&address, &error),
        })?;
        Ok(Postgres::of(client, connection, address))
    }

    /// The server's words where it refuses the password of an address, or has no such role to compare it with; none where it lets the
    /// role in.
    pub async fn refused_password(url: &Secret) -> Result<Option<String>, ClientError> {
        let (mut config, wanted) = parsed(url)?;
        config.application_name("cdc-drill login").connect_timeout(asking::POSTGRES_CONNECT.now());
        let address = redact_url(url.expose());
        match Self::start(&config, &wanted, &address, &[]).await {
            Ok(_) => Ok(None),
            Err(Refusal::Password { said, .. }) => Ok(Some(said)),
            Err(refusal) => Err(refusal.into_error(&address)),
        }
    }

    /// The address with a database that every server has, where the one that it names is not there: somebody has dropped it. None where
    /// it is there, and where nobody can tell.
    pub async fn beside_a_dropped_database(url: &Secret) -> Option<Secret> {
        let opened = async |url: &Secret| {
            let (mut config, wanted) = parsed(url).ok()?;
            config.application_name("cdc-drill look").connect_timeout(asking::POSTGRES_CONNECT.now());
            Some(Self::start(&config, &wanted, &redact_url(url.expose()), &[]).await)
        };
        if !matches!(opened(url).await?, Err(Refusal::NoDatabase(_))) {
            return None;
        }
        for name in MAINTENANCE_DATABASES {
            let beside = with_database(url, name);
            if let Some(Ok(_)) = opened(&beside).await {
                return Some(beside);
            }
        }
        None
    }

    async fn open(
        config: Config,
        wanted: &Wanted,
        address: String,
        statements: Statements,
    ) -> Result<Postgres, ClientError> {
        let settings: &[&[(&str, &str)]] = match statements {
            Statements::Own => &[FORMS, CONDUCT, CONDUCT_SINCE_17],
            Statements::Application => &[FORMS],
        };
        match Self::start(&config, wanted, &address, settings).await {
            // Which version a server is it tells only once the session is there.
            Err(Refusal::UnknownSetting(_)) => {
                let known: Vec<_> = settings.iter().copied().filter(|s| *s != CONDUCT_SINCE_17).collect();
                Self::start(&config, wanted, &address, &known).await.map_err(|refusal| refusal.into_error(&address))
            }
            Err(refusal) => Err(refusal.into_error(&address)),
            Ok(session) => Ok(session),
        }
    }

    async fn start(
        config: &Config,
        wanted: &Wanted,
        address: &str,
        settings: &[&[(&str, &str)]],
    ) -> Result<Postgres, Refusal> {
        let mut config = config.clone();
        // Of a setting that is given twice the last counts.
        let own = options(settings);
        let all = config.get_options().map_or_else(|| own.clone(), |given| format!("{given} {own}"));
        // A pooler may refuse options, even empty ones.
        if !all.is_empty() {
            config.options(all);
        }
        config.ssl_mode(wanted.mode);
        let unreachable = |detail: String| Refusal::Error(ClientError::unreachable("postgres", address, detail));
        let tls = wanted.connector().map_err(unreachable)?;
        // The library's own limit ends where the server's kernel has taken the connection in.
        let opened = tokio::time::timeout(asking::POSTGRES_SESSION.now(), config.connect(tls)).await.map_err(|_| {
            unreachable(format!("connected, and no session within {} s", asking::POSTGRES_SESSION.now().as_secs()))
        })?;
        let (client, connection) = opened.map_err(|e| match e.code() {
            Some(&SqlState::UNDEFINED_OBJECT) => Refusal::UnknownSetting(cause(&e)),
            Some(&SqlState::INVALID_PASSWORD) => Refusal::Password { said: cause(&e), error: unopened(address, &e) },
            Some(&SqlState::INVALID_CATALOG_NAME) => Refusal::NoDatabase(unopened(address, &e)),
            _ => Refusal::Error(unopened(address, &e)),
        })?;
        Ok(Postgres::of(client, connection, address.to_owned()))
    }

    fn of<S, T>(
        client: tokio_postgres::Client,
        connection: tokio_postgres::Connection<S, T>,
        address: String,
    ) -> Postgres
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // The task ends with the session; its error reaches the caller through the next query.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "postgres connection ended");
            }
        });
        Postgres { client, address }
    }

    /// The address, without secrets.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Turns a query's error into one that names the server and the statement.
    pub fn error(&self, what: &str, error: &tokio_postgres::Error) -> ClientError {
        if error.is_closed() || error.as_db_error().is_none() {
            return ClientError::unreachable("postgres", &self.address, format!("{what}: {}", cause(error)));
        }
        let refused = ClientError::answer("postgres", &self.address, what, "success", cause(error));
        match error.code().is_some_and(is_wrong_for_good) {
            true => refused.for_good(),
            false => refused,
        }
    }

    /// Runs statements that return nothing of interest. An error names the one that failed.
    pub async fn run(&self, sql: &str) -> Result<(), ClientError> {
        self.all(sql).await.map(drop).map_err(|failed| {
            let statement = failed.place(sql).map_or(sql, |place| place.statement.text);
            self.error(first_line(statement), &failed.error)
        })
    }

    /// Runs a person's SQL file: `text`, which stands in `file`. The statements are one transaction unless they say otherwise. What the
    /// server refuses of it is [`ClientError::Script`], with the line and the statement. How many rows all of them together touched or gave.
    pub async fn run_file(&self, file: &Utf8Path, text: &str) -> Result<u64, ClientError> {
        self.all(text).await.map_err(|failed| {
            match failed.error.code().is_some_and(|code| is_of_the_input(code.code())) {
                true => script_error(&self.address, file, failed.place(text), cause(&failed.error)),
                false => self.error(file.as_str(), &failed.error),
            }
        })
    }

    /// Runs statements in one message; how many rows they touched or gave.
    async fn all(&self, sql: &str) -> Result<u64, FailedStatement> {
        let (mut complete, mut all_rows) = (0, 0);
        let failed = |complete, error| FailedStatement { complete, error };
        let mut answers = std::pin::pin!(self.client.simple_query_raw(sql).await.map_err(|e| failed(0, e))?);
        while let Some(answer) = answers.next().await {
            if let SimpleQueryMessage::CommandComplete(rows) = answer.map_err(|e| failed(complete, e))? {
                complete += 1;
                all_rows += rows;
            }
        }
        Ok(all_rows)
    }

    /// Runs a query by the simple protocol: every value as PostgreSQL's own text, `None` for NULL.
    pub async fn texts(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, ClientError> {
        let messages = self.client.simple_query(sql).await.map_err(|e| self.error(first_line(sql), &e))?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect::<Vec<_>>())
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    /// The first column of the first row as text; `None` for no row or NULL.
    pub async fn text(&self, sql: &str) -> Result<Option<String>, ClientError> {
        Ok(self.texts(sql).await?.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }

    /// The first column of the first row, parsed.
    pub async fn value<T: std::str::FromStr>(&self, sql: &str) -> Result<T, ClientError>
    where
        T::Err: std::fmt::Display,
    {
        let text = self.text(sql).await?.ok_or_else(|| self.unexpected(sql, "a value", "none"))?;
        text.parse().map_err(|e: T::Err| self.unexpected(sql, std::any::type_name::<T>(), &format!("`{text}` ({e})")))
    }

    /// All slots of the cluster, by name.
    pub async fn slots(&self) -> Result<Vec<Slot>, ClientError> {
        let version: Version = self.value(Version::SQL).await?;
        let reason = if version.has_invalidation_reason() { "invalidation_reason" } else { "null::text" };
        let sql = format!(
            "select slot_name, slot_type, plugin, database, active, active_pid, restart_lsn, confirmed_flush_lsn, wal_status, {reason} \
             from pg_replication_slots order by slot_name"
        );
        let rows = self.texts(&sql).await?;
        Ok(rows.into_iter().map(slot_of_row).collect())
    }

    /// Whether the role may drop replication slots. Asked of the server with a slot that is not there, because how the right is
    /// given differs between products.
    pub async fn may_drop_slots(&self) -> Result<bool, ClientError> {
        let sql = format!("select pg_drop_replication_slot('cdc_drill_no_such_slot_{}')", std::process::id());
        match self.client.simple_query(&sql).await {
            Ok(_) => Ok(true),
            Err(e) if e.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(false),
            Err(e) if e.as_db_error().is_some() => Ok(true),
            Err(e) => Err(self.error("whether slots may be dropped", &e)),
        }
    }

    /// The cluster's system identifier.
    pub async fn system_id(&self) -> Result<SystemId, ClientError> {
        self.value("select system_identifier::text from pg_control_system()").await
    }

    /// `postgresql.conf`, where the server has it outside of its data folder.
    pub async fn configuration_outside(&self) -> Result<Option<String>, ClientError> {
        let inside = "starts_with(current_setting('config_file'), current_setting('data_directory') || '/')";
        self.text(&format!("select current_setting('config_file') where not {inside}")).await
    }

    /// The timeline the server writes on.
    pub async fn timeline(&self) -> Result<Timeline, ClientError> {
        self.value("select ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int").await
    }

    fn unexpected(&self, sql: &str, expected: &str, found: &str) -> ClientError {
        ClientError::answer("postgres", &self.address, first_line(sql), expected, found)
    }
}

/// A statement of several that failed.
struct FailedStatement {
    /// How many before it were complete.
    complete: usize,
    error: tokio_postgres::Error,
}

impl FailedStatement {
    /// Where it stands: where the server's parser says, else by its number.
    fn place<'s>(&self, sql: &'s str) -> Option<Place<'s>> {
        let position = self.error.as_db_error().and_then(|error| match error.position()? {
            ErrorPosition::Original(position) => usize::try_from(*position).ok(),
            ErrorPosition::Internal { .. } => None,
        });
        position.and_then(|position| script::at(sql, position)).or_else(|| script::nth(sql, self.complete))
    }
}

/// Whether an error of this SQLSTATE is about what was asked, and not about the server's state: its connections, its resources, its
/// other sessions, its operator, its disk, its own defects.
fn is_of_the_input(code: &str) -> bool {
    !["08", "40", "53", "55", "57", "58", "F0", "XX"].iter().any(|class| code.starts_with(class))
}

fn script_error(address: &str, file: &Utf8Path, place: Option<Place<'_>>, found: String) -> ClientError {
    ClientError::Script {
        file: file.to_owned(),
        line: place.map_or(1, |place| place.line),
        statement: place.map(|place| in_one_line(place.statement.text)).unwrap_or_default(),
        address: address.to_owned(),
        found,
    }
}

/// As many characters of a statement as a message shows.
const SHOWN: usize = 120;

/// The beginning of a statement in one line.
fn in_one_line(statement: &str) -> String {
    let line = statement.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{} ...", line[..end].trim_end()),
        None => line,
    }
}

fn slot_of_row(row: Vec<Option<String>>) -> Slot {
    let mut cells = row.into_iter();
    let mut next = || cells.next().flatten();
    Slot {
        name: SlotName::new(next().unwrap_or_default()),
        slot_type: next().unwrap_or_default(),
        plugin: next(),
        database: next(),
        active: next().as_deref() == Some("t"),
        active_pid: next().and_then(|p| p.parse().ok()),
        restart_lsn: next().and_then(|l| l.parse().ok()),
        confirmed_flush_lsn: next().and_then(|l| l.parse().ok()),
        wal_status: next(),
        invalidation_reason: next(),
    }
}

/// Why no session was opened: a refusal is an answer.
fn unopened(address: &str, error: &tokio_postgres::Error) -> ClientError {
    let refused = || ClientError::answer("postgres", address, "open a session", "a session", cause(error));
    match is_refusal(error) {
        // A session too many may find room later.
        true if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS) => refused(),
        true => refused().for_good(),
        false => ClientError::unreachable("postgres", address, cause(error)),
    }
}

/// The same address with another database, keeping the parameters after it.
pub fn with_database(url: &Secret, name: &str) -> Secret {
    let text = url.expose();
    let Some((scheme, rest)) = text.split_once("://") else { return Secret::new(format!("{text} dbname={name}")) };
    let (authority, tail) = rest.split_once('/').unwrap_or((rest, ""));
    let parameters = tail.split_once('?').map(|(_, p)| format!("?{p}")).unwrap_or_default();
    Secret::new(format!("{scheme}://{authority}/{}{parameters}", encode(name)))
}

/// Whether a server that is up refused the session: who asks may not, names no database, or is one too many. One that starts or
/// ends refuses too, and is not up.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    let code = error.code().map(SqlState::code).unwrap_or_default();
    let refused = code.starts_with("28") || code.starts_with("3D") || code == SqlState::TOO_MANY_CONNECTIONS.code();
    refused || UNACCEPTABLE.iter().any(|kind| error.to_string().starts_with(kind))
}

/// Kinds of error by which the library itself turns away from a server that has answered: its TLS, or what it asks for. The kinds
/// have no other names.
const UNACCEPTABLE: [&str; 3] = ["error performing TLS handshake", "authentication error", "invalid configuration"];

/// Whether a statement will be refused again as long as nobody changes the statement, or who may do what. A table, a slot or a
/// publication that is not there may come, or be waited for to go.
fn is_wrong_for_good(code: &SqlState) -> bool {
    [
        SqlState::INSUFFICIENT_PRIVILEGE,
        SqlState::SYNTAX_ERROR,
        SqlState::UNDEFINED_COLUMN,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::FEATURE_NOT_SUPPORTED,
    ]
    .contains(code)
}

/// The most telling message of an error: the server's own, or the transport's innermost.
pub fn cause(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} ({})", db.message(), db.code().code());
    }
    cdc_model::units::chain(error)
}

fn first_line(sql: &str) -> &str {
    sql.trim().lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::Failure;

    #[test]
    fn an_error_about_a_file_names_the_line_the_statement_and_what_is_wrong_and_is_bad_input() {
        let text = format!("create table a (b int);\n\ninsert into a\n  values ('x'),\n  ({});\n", "1), (".repeat(60));
        let position = text.find("'x'").unwrap() + 1;
        let error = script_error("h:1", "sql/seed.sql".into(), script::at(&text, position), "no (22P02)".into());
        let said = error.to_string();
        assert!(said.starts_with("sql/seed.sql, line 4: `insert into a values ('x'), (1), (1)"), "{said}");
        assert!(said.ends_with(" ...`: no (22P02) (postgres at h:1)"), "{said}");
        assert_eq!((error.exit(), error.is_transient()), (cdc_model::units::Exit::Invalid, false));
    }

    #[test]
    fn what_a_server_refuses_for_its_own_state_is_no_fault_of_the_input() {
        for code in ["42601", "42P01", "22P02", "23505", "0A000", "P0001", "42501"] {
            assert!(is_of_the_input(code), "{code}");
        }
        for code in ["08006", "40P01", "53100", "57P01", "58030", "XX000"] {
            assert!(!is_of_the_input(code), "{code}");
        }
    }

    #[test]
    fn another_database_keeps_the_rest_of_the_address() {
        let of = |u: &str| with_database(&Secret::new(u), "a b").expose().to_owned();
        assert_eq!(of("postgres://u:p@h:1/db?x=1"), "postgres://u:p@h:1/a%20b?x=1");
        assert_eq!(of("postgres://u@h:1"), "postgres://u@h:1/a%20b");
        assert_eq!(of("host=h user=u dbname=d"), "host=h user=u dbname=d dbname=a b");
    }

    #[test]
    fn settings_are_options_as_the_server_splits_them() {
        assert_eq!(
            options(&[&[("a", "0"), ("b", "read committed")], &[("c", "x\\y")]]),
            r"-c a=0 -c b=read\ committed -c c=x\\y"
        );
    }

    #[test]
    fn a_program_is_given_nothing_that_an_older_server_refuses() {
        let given = program_options();
        assert!(given.contains("-c statement_timeout=0 ") && !given.contains("-c transaction_timeout"), "{given}");
    }

    /// A server that answers each connection's first message with this and reads on.
    async fn server(answer: &'static [u8]) -> u16 {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut message = [0; 512];
                    let _ = stream.read(&mut message).await;
                    let _ = stream.write_all(answer).await;
                    let _ = stream.read(&mut message).await;
                });
            }
        });
        port
    }

    #[tokio::test]
    async fn only_silence_is_silence() {
        let find = async |port: u16, more: &str| {
            let url = format!("postgres://u@127.0.0.1:{port}/d?sslmode={more}");
            Postgres::find(&Secret::new(url), "test").await
        };
        assert!(matches!(find(1, "disable").await, Found::Silence(_)));
        let full = b"E\0\0\0\x19SFATAL\0C53300\0Mfull\0\0";
        assert!(matches!(find(server(full).await, "disable").await, Found::Refuses(_)));
        let password = b"R\0\0\0\x08\0\0\0\x03";
        let found = find(server(password).await, "disable").await;
        assert!(matches!(&found, Found::Refuses(e) if e.to_string().contains("password")), "{found:?}");
        let plain = find(server(b"N").await, "require").await;
        assert!(matches!(&plain, Found::Refuses(e) if e.to_string().contains("TLS")), "{plain:?}");
        let starting = b"E\0\0\0\x19SFATAL\0C57P03\0Mlate\0\0";
        assert!(matches!(find(server(starting).await, "disable").await, Found::Unready(_)));
        let nonsense = Postgres::find(&Secret::new("nonsense"), "test").await;
        assert!(matches!(nonsense, Found::Refuses(_)), "{nonsense:?}");
    }
}
