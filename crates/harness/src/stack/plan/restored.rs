//! A server on a data folder that was restored from somebody's backup: it must do nothing that the old one did. Nothing of its
//! configuration counts: not its addresses, libraries, archive and replication, nor its passwords.

use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
};

use camino::{Utf8Path, Utf8PathBuf};

use crate::stack::{Account, StackError, write::write_atomically};
use cdc_model::units::Secret;
use cdc_postgres::{sql, version::Version};

/// The server's main file, and who may connect.
const MAIN: &str = "# Written by cdc-drill: the settings are on the command line.\n";
const HBA: &str = "host all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n";

/// A restored data folder, and where its server is to be.
pub(super) struct Restored<'a> {
    pub(super) major: u32,
    pub(super) bin: &'a Utf8Path,
    pub(super) home: &'a Utf8Path,
    pub(super) pgdata: Utf8PathBuf,
    pub(super) host: &'a str,
    pub(super) port: u16,
}

impl Restored<'_> {
    /// What the server is started with.
    pub(super) fn argv(&self) -> Vec<String> {
        let mut argv = vec![self.bin.join("postgres").into_string(), "-D".to_owned(), self.pgdata.as_str().to_owned()];
        argv.extend(self.settings());
        argv
    }

    /// On the command line they stand over `postgresql.auto.conf`, which is in the data folder.
    fn settings(&self) -> Vec<String> {
        let file = |name: &str| self.home.join(name).into_string();
        let mut all = vec![
            ("config_file", file("scratch.conf")),
            ("hba_file", file("scratch_hba.conf")),
            ("ident_file", file("scratch_ident.conf")),
            ("listen_addresses", self.host.to_owned()),
            ("port", self.port.to_string()),
        ];
        let fixed = [
            ("unix_socket_directories", ""),
            // It archives nothing, fetches nothing, follows nobody, and nobody waits for it.
            ("archive_mode", "off"),
            ("archive_command", ""),
            ("archive_library", ""),
            ("restore_command", ""),
            ("primary_conninfo", ""),
            ("primary_slot_name", ""),
            ("synchronous_standby_names", ""),
            // Subscriptions of the old server would go on with its publishers.
            ("max_logical_replication_workers", "0"),
            // Jobs, and whatever else libraries begin by themselves.
            ("shared_preload_libraries", ""),
            ("session_preload_libraries", ""),
            ("local_preload_libraries", ""),
            ("ssl", "off"),
            ("password_encryption", "scram-sha-256"),
            ("logging_collector", "off"),
            ("log_destination", "stderr"),
            ("external_pid_file", ""),
            ("cluster_name", ""),
            ("timezone", "UTC"),
            ("log_timezone", "UTC"),
            ("huge_pages", "off"),
            ("shared_buffers", "128MB"),
            ("dynamic_shared_memory_type", "mmap"),
            ("max_connections", "100"),
            ("max_prepared_transactions", "100"),
            // Debezium reads from it.
            ("wal_level", "logical"),
            ("max_wal_senders", "20"),
            ("max_replication_slots", "20"),
            ("max_slot_wal_keep_size", "-1"),
            ("wal_sender_timeout", "20s"),
            // It is thrown away.
            ("fsync", "off"),
            ("wal_init_zero", "off"),
        ];
        all.extend(fixed.map(|(name, value)| (name, value.to_owned())));
        if !Version::of_major(self.major).archives_by_library() {
            all.retain(|(name, _)| *name != "archive_library");
        }
        if Version::of_major(self.major).has_login_triggers() {
            all.push(("event_triggers", "off".to_owned()));
        }
        all.into_iter().flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]).collect()
    }

    /// Gives the superuser of every stack its password, in single-user mode, which asks for none.
    pub(super) fn take_over(
        &self,
        account: &Account,
        environment: BTreeMap<String, String>,
        (superuser, password): (&str, &Secret),
    ) -> Result<(), StackError> {
        for (name, text) in [("scratch.conf", MAIN), ("scratch_hba.conf", HBA), ("scratch_ident.conf", "")] {
            let path = self.home.join(name);
            write_atomically(&path, text, 0o600)?;
            account.give(&path)?;
        }
        let program = self.bin.join("postgres");
        let mut command = Command::new(&program);
        command.args(["--single", "-D", self.pgdata.as_str()]).args(self.settings()).arg("template1");
        command.env_clear().envs(environment).current_dir(self.home);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let run = |e| StackError::io("run", &program, e);
        let mut child = account.run_as(&mut command).spawn().map_err(run)?;
        let role = sql::identifier(superuser);
        // Where the role is there, the first one fails, which ends nothing.
        let statements = [
            format!("create role {role}"),
            format!("alter role {role} reset all"),
            format!(
                "alter role {role} superuser login replication bypassrls connection limit -1 valid until 'infinity' password {}",
                sql::literal(password.expose())
            ),
        ];
        let text: String = statements.iter().map(|statement| format!("{statement}\n")).collect();
        let fed = child.stdin.take().map(|mut stdin| stdin.write_all(text.as_bytes()));
        let out = child.wait_with_output().map_err(run)?;
        match (out.status.success(), fed) {
            (true, Some(Ok(()))) => Ok(()),
            _ => Err(StackError::Prepare {
                what: format!("restored PostgreSQL cluster in {}", self.pgdata),
                program: "postgres --single".to_owned(),
                status: out.status.to_string(),
                // What it says of a statement may hold the password.
                detail: String::from_utf8_lossy(&out.stderr)
                    .lines()
                    .filter(|line| !line.contains("STATEMENT") && !line.contains(password.expose()))
                    .collect::<Vec<_>>()
                    .join("\n"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_server_archives_nothing_and_follows_nobody() {
        let of = |major: u32| {
            let restored = Restored {
                major,
                bin: "/bin".into(),
                home: "/s/postgres".into(),
                pgdata: "/s/postgres/data".into(),
                host: "127.0.0.1",
                port: 5555,
            };
            restored.argv().join(" ")
        };
        for line in [of(15), of(18)] {
            for part in [
                "-c config_file=/s/postgres/scratch.conf ",
                "-c archive_mode=off ",
                "-c restore_command= ",
                "-c max_logical_replication_workers=0 ",
                "-c shared_preload_libraries= ",
                "-c listen_addresses=127.0.0.1 ",
                "-c port=5555 ",
            ] {
                assert!(line.contains(part), "{part} in {line}");
            }
        }
        assert!(of(18).contains("event_triggers=off") && !of(15).contains("event_triggers"));
    }
}
