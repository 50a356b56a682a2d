//! A PostgreSQL cluster: `initdb`, settings, command line.

use std::{collections::BTreeMap, fs::File, io::Write, os::unix::fs::OpenOptionsExt, process::Command};

use camino::{Utf8Path, Utf8PathBuf};

use super::{folder::ServerPlan, spec::PostgresSpec};
use crate::{
    stack::{Account, StackError, fixture},
    units::Secret,
};

/// The superuser every stack has.
pub(super) const SUPERUSER: &str = "postgres";

/// Everything that is needed to make the cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) spec: PostgresSpec,
    pub(super) account: Account,
    pub(super) bin: Utf8PathBuf,
    /// The folder above the data folder.
    pub(super) home: Utf8PathBuf,
    pub(super) repository: Utf8PathBuf,
    /// The program that archives.
    pub(super) archiver: Utf8PathBuf,
    pub(super) port: u16,
    pub(super) password: Secret,
}

impl Cluster {
    /// The data folder.
    pub(super) fn pgdata(&self) -> Utf8PathBuf {
        self.home.join("data")
    }

    /// Makes the cluster: 0.4 s, nearly all of it `initdb`.
    pub(super) fn create(&self) -> Result<(), StackError> {
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
        let made = self.initdb(&password);
        let _ = std::fs::remove_file(&password);
        made?;
        let path = self.pgdata().join("postgresql.conf");
        let text = self.settings()?;
        let mut file = File::options().append(true).open(&path).map_err(|e| StackError::io("open", &path, e))?;
        file.write_all(text.as_bytes()).map_err(|e| StackError::io("write", &path, e))
    }

    fn write_password(&self, path: &Utf8Path) -> Result<(), StackError> {
        let failed = |e| StackError::io("write", path, e);
        let mut file = File::options().create_new(true).write(true).mode(0o600).open(path).map_err(failed)?;
        writeln!(file, "{}", self.password.expose()).map_err(failed)?;
        self.account.give(path)
    }

    fn initdb(&self, password: &Utf8Path) -> Result<(), StackError> {
        let mut command = Command::new(self.bin.join("initdb"));
        command.args(["-D", self.pgdata().as_str(), "-U", SUPERUSER, "-k", "-E", "UTF8", "-A", "scram-sha-256"]);
        // The builtin provider sorts by code point everywhere, whatever locales the machine has.
        command.args(["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]);
        command.arg(format!("--wal-segsize={}", self.spec.wal_segment_mib)).arg(format!("--pwfile={password}"));
        // The folder is young: a machine that dies now costs a drill, not data. The server itself does sync.
        command.arg("--no-sync").env_clear().envs(environment(&self.home)).current_dir(&self.home);
        let out = self
            .account
            .run_as(&mut command)
            .output()
            .map_err(|e| StackError::io("run", &self.bin.join("initdb"), e))?;
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
        let port = self.port.to_string();
        let min_wal = format!("{}MB", (2 * self.spec.wal_segment_mib).max(32));
        let max_wal = format!("{}MB", (8 * self.spec.wal_segment_mib).max(512));
        let keep = setting_text(&self.spec.max_slot_wal_keep_size);
        let (mode, command) = if self.spec.archive { ("on", self.archive_command()) } else { ("off", String::new()) };
        let mut text = fixture::render(
            fixture::POSTGRES,
            &[
                ("port", port.as_str()),
                ("max_slot_wal_keep_size", keep.as_str()),
                ("min_wal_size", &setting_text(&min_wal)),
                ("max_wal_size", &setting_text(&max_wal)),
                ("archive_mode", mode),
                ("archive_command", &setting_text(&command)),
            ],
        )?;
        for (name, value) in &self.spec.settings {
            text.push_str(&format!("{name} = {value}\n"));
        }
        Ok(text)
    }

    fn archive_command(&self) -> String {
        let pgdata = self.pgdata();
        let words = [
            self.archiver.as_str(),
            "wal",
            "push",
            "--repository",
            self.repository.as_str(),
            "--pgdata",
            pgdata.as_str(),
        ];
        // The server replaces what follows a percent sign.
        let words: Vec<String> = words.iter().map(|w| shell_word(w).replace('%', "%%")).collect();
        format!("{} %p", words.join(" "))
    }

    /// How the server is run.
    pub(super) fn plan(&self, log: Utf8PathBuf) -> ServerPlan {
        ServerPlan {
            name: "postgres".to_owned(),
            argv: vec![self.bin.join("postgres").into_string(), "-D".to_owned(), self.pgdata().into_string()],
            env: environment(&self.home),
            cwd: self.home.clone(),
            log,
            endpoint: format!("postgres://{SUPERUSER}@127.0.0.1:{}/postgres", self.port),
            ports: vec![self.port],
            // Fast shutdown: sessions end, a checkpoint is written.
            stop_signal: "SIGINT".to_owned(),
            // Immediate shutdown: no checkpoint, but its shared memory goes.
            end_signal: "SIGQUIT".to_owned(),
            account: self.account.clone(),
        }
    }

    /// The superuser's address.
    pub(super) fn url(&self) -> Secret {
        Secret::new(format!("postgres://{SUPERUSER}:{}@127.0.0.1:{}/postgres", self.password.expose(), self.port))
    }
}

/// What every server's environment begins with: nothing of the harness's own.
pub(super) fn environment(home: &Utf8Path) -> BTreeMap<String, String> {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
    let pairs = [("PATH", path.as_str()), ("HOME", home.as_str()), ("LC_ALL", "C"), ("TZ", "UTC")];
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// A word for `sh`.
pub(super) fn shell_word(word: &str) -> String {
    let plain = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-=:+,@".contains(&b));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// A text for `postgresql.conf`, where a backslash escapes.
fn setting_text(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(home: &str) -> Cluster {
        Cluster {
            spec: PostgresSpec::default(),
            account: Account { name: "x".into(), uid: 1, gid: 1, drop: false },
            bin: "/bin".into(),
            home: home.into(),
            repository: "/r".into(),
            archiver: "/a/cdc-drill".into(),
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
