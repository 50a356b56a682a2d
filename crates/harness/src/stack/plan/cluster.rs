//! A PostgreSQL cluster: `initdb`, settings, command line.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    process::Command,
};

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    container::ContainerPlan,
    place::Place,
    restored::Restored,
    server::ServerPlan,
    spec::{PostgresSpec, RestoredSpec},
};
use crate::stack::{Account, StackError, binary::SMALL, fixture, write::write_atomically};
use cdc_model::units::Secret;
use cdc_pipeline::config::RepositoryConfig;
use cdc_postgres::{command, sql};

/// Where PostgreSQL listens in its container.
pub(in crate::stack) const CONTAINER_PORT: u16 = 5432;
/// Run by a container's entry point when it has made the data folder: settings, and clients that replicate from elsewhere.
const FIRST_START: &str = r#"cat /docker-entrypoint-initdb.d/cdc-drill.conf >> "$PGDATA/postgresql.conf"
echo "host replication all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
"#;
/// Passwords are random and long, so stretching them adds nothing, and it is most of what a connection costs both sides:
/// a run makes thousands. PostgreSQL knows this setting since 16; a container's image may be older.
const SCRAM_ITERATIONS: &str = "scram_iterations=1";
/// The superuser every stack has.
pub(in crate::stack) const SUPERUSER: &str = "postgres";

/// Everything that is needed to make the cluster.
#[derive(Debug)]
pub struct Cluster {
    spec: PostgresSpec,
    account: Account,
    initdb: Initdb,
    /// The folder above the data folder.
    home: Utf8PathBuf,
    repository: RepositoryConfig,
    log: Utf8PathBuf,
    host: String,
    port: u16,
    password: Secret,
}

/// Who makes the data folder.
#[derive(Debug)]
pub(in crate::stack) enum Initdb {
    /// PostgreSQL's programs of this machine, in a folder; and the program that archives.
    Program { bin: Utf8PathBuf, archiver: Utf8PathBuf },
    /// The container's own entry point, at its first start.
    Container(ContainerPlan),
}

impl Cluster {
    /// A cluster below `place`; makes its folder and nothing in it.
    pub(in crate::stack) fn new(
        place: &Place<'_>,
        spec: PostgresSpec,
        initdb: Initdb,
        host: &str,
        port: u16,
        password: Secret,
    ) -> Result<Cluster, StackError> {
        let home = place.dir.join("postgres");
        place.account.folder(&home)?;
        Ok(Cluster {
            spec,
            account: place.account.clone(),
            initdb,
            home,
            repository: RepositoryConfig::at(place.dir.join("repository")),
            log: place.dir.join("logs/postgres.log"),
            host: host.to_owned(),
            port,
            password,
        })
    }

    /// The data folder.
    pub(in crate::stack) fn pgdata(&self) -> Utf8PathBuf {
        self.home.join("data")
    }

    /// Where its programs are; empty where only its container has them.
    pub(in crate::stack) fn bin(&self) -> Utf8PathBuf {
        match &self.initdb {
            Initdb::Program { bin, .. } => match &self.spec.restored {
                Some(of) if !of.bin.as_str().is_empty() => of.bin.clone(),
                _ => bin.clone(),
            },
            Initdb::Container(_) => Utf8PathBuf::new(),
        }
    }

    /// How its programs are called, where they are not on this machine.
    pub(in crate::stack) fn tool(&self) -> Option<String> {
        match &self.initdb {
            Initdb::Program { .. } => None,
            Initdb::Container(container) => Some(container.tool()),
        }
    }

    /// Makes the cluster, or what its container makes it from: 0.4 s, nearly all of it `initdb`.
    pub(in crate::stack) fn create(&self) -> Result<(), StackError> {
        if let Some(of) = &self.spec.restored {
            return self.restored(of)?.take_over(&self.account, environment(&self.home), (SUPERUSER, &self.password));
        }
        let segment = self.spec.wal_segment_mib;
        if !segment.is_power_of_two() || segment > 1024 {
            return Err(StackError::Setting {
                what: "wal segment size in MiB".to_owned(),
                expected: "a power of two from 1 to 1024".to_owned(),
                found: segment.to_string(),
            });
        }
        let password = self.home.join("password");
        self.write_password(&password)?;
        let Initdb::Program { bin, .. } = &self.initdb else { return self.create_later() };
        let made = self.initdb(bin, &password);
        let _ = std::fs::remove_file(&password);
        made?;
        let path = self.pgdata().join("postgresql.conf");
        let text = self.settings()?;
        let mut file = File::options().append(true).open(&path).map_err(|e| StackError::io("open", &path, e))?;
        file.write_all(text.as_bytes()).map_err(|e| StackError::io("write", &path, e))
    }

    /// The data folder that is restored, and how its server is started.
    fn restored<'a>(&'a self, of: &'a RestoredSpec) -> Result<Restored<'a>, StackError> {
        let Initdb::Program { bin, .. } = &self.initdb else {
            return Err(StackError::Setting {
                what: "the backend of a restored data folder".to_owned(),
                expected: "local: its programs run on this machine".to_owned(),
                found: "containers".to_owned(),
            });
        };
        let bin = if of.bin.as_str().is_empty() { bin } else { &of.bin };
        let (host, port) = (self.host.as_str(), self.port);
        Ok(Restored { major: of.major, bin, home: &self.home, pgdata: self.pgdata(), host, port })
    }

    /// What the entry point of a container finds at its first start: the settings, and a script that takes them.
    fn create_later(&self) -> Result<(), StackError> {
        let folder = self.home.join("initdb");
        self.account.folder(&folder)?;
        let spool = self.repository.spool();
        self.account.folder(&spool)?;
        // WAL holds rows.
        std::fs::set_permissions(&spool, PermissionsExt::from_mode(0o700))
            .map_err(|e| StackError::io("set the mode of", &spool, e))?;
        for (name, text) in [("cdc-drill.conf", self.settings()?), ("cdc-drill.sh", FIRST_START.to_owned())] {
            let path = folder.join(name);
            write_atomically(&path, &text, 0o644)?;
            self.account.give(&path)?;
        }
        Ok(())
    }

    fn write_password(&self, path: &Utf8Path) -> Result<(), StackError> {
        let failed = |e| StackError::io("write", path, e);
        let mut file = File::options().create_new(true).write(true).mode(0o600).open(path).map_err(failed)?;
        writeln!(file, "{}", self.password.expose()).map_err(failed)?;
        self.account.give(path)
    }

    fn initdb(&self, bin: &Utf8Path, password: &Utf8Path) -> Result<(), StackError> {
        let mut command = Command::new(bin.join("initdb"));
        command.args(["-D", self.pgdata().as_str(), "-U", SUPERUSER, "-k", "-E", "UTF8", "-A", "scram-sha-256"]);
        // The builtin provider sorts by code point everywhere, whatever locales the machine has.
        command.args(["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]);
        command.arg(format!("--wal-segsize={}", self.spec.wal_segment_mib)).arg(format!("--pwfile={password}"));
        command.args(["-c", SCRAM_ITERATIONS]);
        // The folder is young: a machine that dies now costs a drill, not data. The server itself does sync.
        command.arg("--no-sync").env_clear().envs(environment(&self.home)).current_dir(&self.home);
        let out =
            self.account.run_as(&mut command).output().map_err(|e| StackError::io("run", &bin.join("initdb"), e))?;
        if out.status.success() {
            return Ok(());
        }
        Err(StackError::Prepare {
            what: format!("PostgreSQL cluster in {}", self.pgdata()),
            program: "initdb".to_owned(),
            status: out.status.to_string(),
            detail: String::from_utf8_lossy(&out.stderr).trim().to_owned(),
        })
    }

    fn settings(&self) -> Result<String, StackError> {
        let (listen, port) = match &self.initdb {
            Initdb::Program { .. } => (self.host.as_str(), self.port.to_string()),
            Initdb::Container(_) => ("*", CONTAINER_PORT.to_string()),
        };
        let min_wal = format!("{}MB", (2 * self.spec.wal_segment_mib).max(32));
        let max_wal = format!("{}MB", (8 * self.spec.wal_segment_mib).max(512));
        let keep = sql::setting(&self.spec.max_slot_wal_keep_size);
        let (mode, command) = if self.spec.archive { ("on", self.archive_command()) } else { ("off", String::new()) };
        let mut text = fixture::render(
            fixture::POSTGRES,
            &[
                ("listen", &sql::setting(listen)),
                ("port", port.as_str()),
                ("max_slot_wal_keep_size", keep.as_str()),
                ("min_wal_size", &sql::setting(&min_wal)),
                ("max_wal_size", &sql::setting(&max_wal)),
                ("archive_mode", mode),
                ("archive_command", &sql::setting(&command)),
            ],
        )?;
        for (name, value) in &self.spec.settings {
            text.push_str(&format!("{name} = {value}\n"));
        }
        Ok(text)
    }

    fn archive_command(&self) -> String {
        let pgdata = self.pgdata();
        let Initdb::Program { archiver, .. } = &self.initdb else { return self.spool_command() };
        let words = [
            archiver.as_str(),
            "wal",
            "push",
            "--repository",
            self.repository.path.as_str(),
            "--pgdata",
            pgdata.as_str(),
        ];
        let words: Vec<String> = words.iter().map(|w| command::word(w)).collect();
        format!("{} %p", words.join(" "))
    }

    /// Any image has these programs, and this one it need not have: a finished segment goes durably into a folder, under
    /// its own name last of all, and is never written over; whoever reads the archive drains that folder first.
    fn spool_command(&self) -> String {
        let to = |name: &str| {
            let word = command::word(self.repository.spool().as_str());
            if name.is_empty() { word } else { format!("{word}/{name}") }
        };
        let (spool, whole, half) = (to(""), to("%f"), to(".%f"));
        format!("test ! -f {whole} && cp %p {half} && sync {half} && mv {half} {whole} && sync {spool}")
    }

    /// How the server is run.
    pub(in crate::stack) fn plan(&self) -> ServerPlan {
        let restored = self.spec.restored.as_ref().and_then(|of| self.restored(of).ok());
        let (argv, env, container) = match (&self.initdb, restored) {
            (Initdb::Program { .. }, Some(restored)) => (restored.argv(), environment(&self.home), None),
            (Initdb::Program { bin, .. }, None) => {
                let argv = vec![bin.join("postgres").into_string(), "-D".to_owned(), self.pgdata().into_string()];
                (argv, environment(&self.home), None)
            }
            (Initdb::Container(container), _) => (Vec::new(), self.container_environment(), Some(container.clone())),
        };
        ServerPlan {
            name: "postgres".to_owned(),
            argv,
            env,
            cwd: self.home.clone(),
            log: self.log.clone(),
            container,
            endpoint: format!("postgres://{SUPERUSER}@{}:{}/postgres", self.host, self.port),
            ports: vec![self.port],
            // Fast shutdown: sessions end, a checkpoint is written.
            stop_signal: "SIGINT".to_owned(),
            // Immediate shutdown: no checkpoint, but its shared memory goes.
            end_signal: "SIGQUIT".to_owned(),
            account: self.account.clone(),
        }
    }

    /// What the official image documents.
    fn container_environment(&self) -> BTreeMap<String, String> {
        let initdb = format!(
            "--data-checksums --encoding=UTF8 --locale=C --no-sync --wal-segsize={}",
            self.spec.wal_segment_mib
        );
        let pairs = [
            ("PGDATA", self.pgdata().into_string()),
            ("POSTGRES_PASSWORD_FILE", self.home.join("password").into_string()),
            ("POSTGRES_INITDB_ARGS", initdb),
            ("TZ", "UTC".to_owned()),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The superuser's address.
    pub(in crate::stack) fn url(&self) -> Secret {
        let password = self.password.expose();
        Secret::new(format!("postgres://{SUPERUSER}:{password}@{}:{}/postgres", self.host, self.port))
    }
}

/// What every server's environment begins with: nothing of the harness's own.
pub(in crate::stack) fn environment(home: &Utf8Path) -> BTreeMap<String, String> {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
    // PostgreSQL runs this program for each segment that it archives or fetches.
    let pairs = [("PATH", path.as_str()), ("HOME", home.as_str()), ("LC_ALL", "C"), ("TZ", "UTC"), SMALL];
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(home: &str) -> Cluster {
        Cluster {
            spec: PostgresSpec::default(),
            account: Account { name: "x".into(), uid: 1, gid: 1, drop: false },
            initdb: Initdb::Program { bin: "/bin".into(), archiver: "/a/cdc-drill".into() },
            home: home.into(),
            repository: RepositoryConfig::at("/r".into()),
            log: "/l".into(),
            host: "127.0.0.1".into(),
            port: 5555,
            password: Secret::new("p"),
        }
    }

    #[test]
    fn the_settings_name_the_archiver_and_never_the_password() {
        let text = cluster("/s/postgres").settings().unwrap();
        assert!(
            text.contains("archive_command = '/a/cdc-drill wal push --repository /r --pgdata /s/postgres/data %p'"),
            "{text}"
        );
        assert!(text.contains("port = 5555\n") && text.contains("archive_mode = on\n"), "{text}");
    }

    #[test]
    fn a_folder_with_blanks_quotes_and_percents_survives_shell_and_settings() {
        let text = cluster("/it's 5%").settings().unwrap();
        assert!(text.contains(r"--pgdata ''/it''\\''''s 5%%/data'' %p'"), "{text}");
    }

    #[test]
    fn without_archiving_there_is_no_command() {
        let mut c = cluster("/s");
        c.spec.archive = false;
        c.spec.settings.push(("work_mem".into(), "'1MB'".into()));
        let text = c.settings().unwrap();
        assert!(
            text.contains("archive_mode = off\narchive_command = ''\n") && text.ends_with("work_mem = '1MB'\n"),
            "{text}"
        );
    }
}
