//! A server that only this process can reach: no TCP, a socket in a private folder, ended when this process ends.

use std::{
    fs::File,
    process::Stdio,
    time::{Duration, Instant},
};

use camino::{Utf8Path, Utf8PathBuf};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, ChildStdin},
};

use super::Owner;
use crate::{backup::Store, recovery::RecoveryError};
use cdc_model::units::{Lsn, Secret, Timeline};
use cdc_pipeline::{
    client::{
        limits,
        postgres::{Postgres, with_database},
        wait,
    },
    config::{Temporary, Tools},
};
use cdc_postgres::wal::{SegmentName, WalFile};

/// How much of its log tells why a server ended.
const LOG_LINES: usize = 3;
/// Any number will do: the socket's folder is private.
const PORT: u16 = 5432;

/// Starts the server, and a watcher that ends it when standard input closes: that happens when this process ends in any
/// way, also by SIGKILL, and it survives the change of user that makes other means fail. The word `fast` there shuts it down.
///
/// Signals are sent until the server has ended: what a shell starts in the background ignores both of them (POSIX, "Signals and error
/// handling"), until the server has set handlers of its own. One signal alone would be lost where this process ends right after the
/// start, and the server would replay, promote itself and stay.
const GUARD: &str = r#"exec 3<&0
"$@" 3<&- </dev/null &
server=$!
until_ended() { while kill $1 $server 2>/dev/null; do sleep 0.1; done; }
( read -r how <&3; if [ "$how" = fast ]; then until_ended -INT & read -r _ <&3; fi
  until_ended -QUIT ) 3<&3 &
watcher=$!
wait $server
status=$?
kill $watcher 2>/dev/null
exit $status"#;

/// A running fenced server.
#[derive(Debug)]
pub(crate) struct Fenced {
    guard: Child,
    // Closing it ends the server.
    leash: Option<ChildStdin>,
    socket: Temporary,
    log: Utf8PathBuf,
    program: String,
}

/// What the server's own log says about its recovery.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Replay {
    /// Where the last replayed record starts.
    pub(crate) redo_done: Option<Lsn>,
    /// The line that says at which target replay stopped.
    pub(crate) stopping: Option<String>,
    /// The timeline it chose for itself.
    pub(crate) new_timeline: Option<Timeline>,
    /// It says that it is ready.
    pub(crate) ready: bool,
    /// The first FATAL or PANIC.
    pub(crate) fatal: Option<String>,
}

impl Replay {
    fn parse(log: &str) -> Replay {
        let mut replay = Replay::default();
        for line in log.lines() {
            if let Some(rest) = line.split("redo done at ").nth(1) {
                replay.redo_done = rest.split_whitespace().next().and_then(|w| w.parse().ok());
            } else if let Some(at) = line.find("recovery stopping ") {
                replay.stopping = Some(line[at..].to_owned());
            } else if let Some(rest) = line.split("selected new timeline ID: ").nth(1) {
                replay.new_timeline = rest.trim().parse().ok();
            } else if line.contains("database system is ready to accept connections") {
                replay.ready = true;
            } else if let Some(at) = line.find("FATAL:").or_else(|| line.find("PANIC:")) {
                // Clients that come too early are told so with the same word.
                if !line.contains("the database system is") {
                    replay.fatal.get_or_insert_with(|| line[at..].to_owned());
                }
            }
        }
        replay
    }
}

/// With this `restore_command` says, in the server's log, which file it was asked for.
pub(crate) const ASKED_FOR: &str = "cdc-drill: asked for ";
/// With this `wal fetch` says there why it gives none.
const NOT_FETCHED: &str = "cdc-drill wal fetch ";

/// What a replay's log says of how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The last position or segment.
    pub(crate) seen: Option<Seen>,
    /// The file that the server has asked for and was not given yet.
    pub(crate) asked_for: Option<String>,
    /// How long the log has not grown.
    pub(crate) still: Duration,
}

/// The file that was asked for last, unless a line behind it says that the server went on: with it, or without.
fn asked_for(log: &str) -> Option<String> {
    const WENT_ON: [&str; 5] =
        ["restored log file \"", "redo ", "recovery stopping ", "timeline ID: ", "archive recovery"];
    let mut asked = None;
    for line in log.lines() {
        if let Some(name) = line.strip_prefix(ASKED_FOR) {
            asked = Some(name.trim().to_owned());
        } else if WENT_ON.iter().any(|mark| line.contains(mark)) {
            asked = None;
        }
    }
    asked
}

/// How far a replay is, by the last line of the log that tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The position of the record that was replayed last.
    At(Lsn),
    /// The segment that was fetched last.
    Segment(SegmentName),
}

impl Seen {
    fn last_in(log: &str) -> Option<Seen> {
        log.lines().rev().find_map(|line| {
            // A server tells positions itself from PostgreSQL 15 on, every ten seconds.
            let at = ["current LSN: ", "redo starts at "].iter().find_map(|mark| line.split(mark).nth(1));
            match (at, line.split("restored log file \"").nth(1)) {
                (Some(at), _) => at.split([' ', ',']).next()?.parse().ok().map(Seen::At),
                (None, Some(name)) => match name.split('"').next()?.parse() {
                    Ok(WalFile::Segment(name)) => Some(Seen::Segment(name)),
                    _ => None,
                },
                (None, None) => None,
            }
        })
    }
}

/// The arguments by which a server takes this data folder and no other, and nothing that is the running server's: a configuration may
/// name another data folder, the running server's file with its process id, and a key that this process's groups may not read. The
/// command line outranks it.
pub(super) fn place(data: &Utf8Path, config_file: Option<&Utf8Path>) -> Vec<String> {
    let config_file = config_file.map(|file| format!("config_file={file}"));
    let settings = [format!("data_directory={data}"), "external_pid_file=".into(), "ssl=off".into()];
    let settings = settings.into_iter().chain(config_file).flat_map(|setting| ["-c".to_owned(), setting]);
    ["-D".to_owned(), data.to_string()].into_iter().chain(settings).collect()
}

impl Fenced {
    /// Starts `postgres` on a data folder as its owner, with the configuration in it or another one; `settings` overrule both. What
    /// it says goes to the log, an open file and its name.
    pub(crate) fn start(
        tools: &Tools,
        (data, config_file): (&Utf8Path, Option<&Utf8Path>),
        owner: &Owner,
        (log, sink): (&Utf8Path, File),
        settings: &[(&str, String)],
    ) -> Result<Fenced, RecoveryError> {
        let program = tools.name("postgres");
        let failed = |detail: String| RecoveryError::Program { program: program.clone(), detail };
        let socket = tools.temporary("cdc-drill-socket-", None).map_err(|e| failed(e.to_string()))?;
        let folder = socket.path();
        // The folder is private (0700), so whoever reaches the socket is this process, the data folder's owner, or root.
        owner.give(folder)?;
        let hba = folder.join("pg_hba.conf");
        Store::new(folder)?.write(&hba, b"local all all trust\n")?;
        let both = sink.try_clone().map_err(|e| RecoveryError::io("open log", log, e))?;

        // A prefix decides itself who the server runs as, and may need this process's rights to do so.
        let mut command = if tools.elsewhere() { std::process::Command::new("sh") } else { owner.command("sh") };
        command
            .args(["-c", GUARD, "guard"])
            .args(tools.words(&tools.path("postgres"), &[]))
            .args(place(data, config_file));
        command.envs(tools.variables().iter().map(|(name, value)| (*name, value.as_str())));
        let fixed = [
            ("listen_addresses", String::new()),
            ("unix_socket_directories", folder.to_string()),
            ("port", PORT.to_string()),
            ("hba_file", hba.to_string()),
            ("logging_collector", "off".into()),
            ("log_destination", "stderr".into()),
            ("lc_messages", "C".into()),
            ("log_min_messages", "warning".into()),
        ];
        for (name, value) in fixed.iter().map(|(n, v)| (*n, v)).chain(settings.iter().map(|(n, v)| (*n, v))) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut command = tokio::process::Command::from(command);
        command.stdin(Stdio::piped()).stdout(sink).stderr(both);
        let mut guard = command.spawn().map_err(|e| failed(e.to_string()))?;
        let leash = guard.stdin.take();
        Ok(Fenced { guard, leash, socket, log: log.to_owned(), program })
    }

    /// Waits until the server has promoted itself and says that it is ready. A replay takes as long as it takes: only the end of the
    /// server ends the wait. `heard` is given what its log says of how far it is, whenever that changes and now and then.
    pub(crate) async fn promoted(&mut self, heard: &(dyn Fn(Heard) + Send + Sync)) -> Result<Replay, RecoveryError> {
        let log = &self.log;
        let (mut size, mut text, mut moved) = (0, String::new(), Instant::now());
        let (mut replay, mut seen, mut asked) = (Replay::default(), None, None);
        loop {
            // Before the log is read: what the server wrote last is then in it.
            let dead = self.guard.try_wait().map_err(|e| RecoveryError::io("look at", log, e))?;
            let length = fs_err::metadata(log).map_err(|e| RecoveryError::io("look at log", log, e))?.len();
            if length != size {
                let bytes = fs_err::read(log).map_err(|e| RecoveryError::io("read log", log, e))?;
                (size, text, moved) = (length, String::from_utf8_lossy(&bytes).into_owned(), Instant::now());
                // Once for each change: a replay of hours is looked at several times a second, and its log grows all the while.
                (replay, seen, asked) = (Replay::parse(&text), Seen::last_in(&text), asked_for(&text));
            }
            match dead {
                Some(status) => {
                    let said =
                        [replay.fatal.unwrap_or_else(|| last_lines(&text))].into_iter().chain(not_fetched(&text));
                    let said = said.collect::<Vec<_>>().join("; ");
                    let detail = format!("the restored server ended before it was promoted ({status}): {said}");
                    return Err(RecoveryError::Program { program: self.program.clone(), detail });
                }
                None if replay.ready => return Ok(replay),
                None => {
                    let still = moved.elapsed();
                    heard(Heard { seen, asked_for: asked.clone(), still });
                }
            }
            wait::pause_for(limits::pacing::PAUSE_MAX).await;
        }
    }

    /// Whether the server's process is there.
    pub(crate) fn alive(&mut self) -> bool {
        matches!(self.guard.try_wait(), Ok(None))
    }

    /// Opens a session through the private socket.
    pub(crate) async fn connect(&self, url: &Secret, database: Option<&str>) -> Result<Postgres, RecoveryError> {
        let folder = self.socket.path();
        match database {
            None => Ok(Postgres::connect_socket(url, folder, PORT, "cdc-drill-recovery").await?),
            Some(name) => {
                let url = with_database(url, name);
                Ok(Postgres::connect_socket(&url, folder, PORT, "cdc-drill-recovery").await?)
            }
        }
    }

    /// Stops the server and waits for its end. Immediately, not fast: a fast shutdown would begin a new WAL segment and write a
    /// second checkpoint, and the one that ended recovery has everything on disk.
    pub(crate) async fn stop(mut self) -> Result<(), RecoveryError> {
        drop(self.leash.take());
        self.ended().await
    }

    /// Shuts the server down and waits for its end: the data folder is that of a server that was stopped cleanly. Not through a prefix
    /// of the tools, which hands on no other signal than SIGQUIT.
    pub(crate) async fn shut_down(mut self) -> Result<(), RecoveryError> {
        if let Some(leash) = &mut self.leash {
            let said = leash.write_all(b"fast\n").await;
            said.map_err(|e| RecoveryError::io("shut down the server whose log is", &self.log, e))?;
        }
        // Its checkpoint takes as long as it takes.
        let ended = self.guard.wait().await;
        ended.map(drop).map_err(|e| RecoveryError::Program { program: self.program.clone(), detail: e.to_string() })
    }

    async fn ended(&mut self) -> Result<(), RecoveryError> {
        match tokio::time::timeout(limits::postgres::STOP.now(), self.guard.wait()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(RecoveryError::Program { program: self.program.clone(), detail: e.to_string() }),
            Err(_) => Err(RecoveryError::Program {
                program: self.program.clone(),
                detail: format!(
                    "did not stop within {} s; its log is {}",
                    limits::postgres::STOP.now().as_secs(),
                    self.log
                ),
            }),
        }
    }
}

/// Why the last file that could not be fetched was not.
fn not_fetched(log: &str) -> Option<String> {
    log.lines().rev().find(|line| line.starts_with(NOT_FETCHED)).map(str::to_owned)
}

/// The end of a log in one line.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    match lines.len() {
        0 => "nothing".to_owned(),
        count => lines[count.saturating_sub(LOG_LINES)..].join(" | "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_postgres::wal::SegmentSize;

    #[tokio::test]
    async fn the_prefix_of_tools_is_used_as_this_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap();
        let tools = crate::backup::fixture::noting(path);
        let data = path.join("data");
        fs_err::create_dir(&data).unwrap();
        let owner = Owner::of(&data).unwrap_or_else(|_| {
            nix::unistd::chown(data.as_std_path(), Some(65534.into()), Some(65534.into())).unwrap();
            Owner::of(&data).unwrap()
        });
        let log = path.join("log");
        let sink = File::create(&log).unwrap();
        let settings = [("hot_standby", "off".into())];
        let mut server = Fenced::start(&tools, (&data, None), &owner, (&log, sink), &settings).unwrap();
        use std::os::unix::fs::PermissionsExt;
        let meta = std::fs::metadata(server.socket.path()).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o700, "it trusts whoever reaches its socket");
        assert!(server.promoted(&|_| {}).await.unwrap_err().to_string().contains("server ended"));
        let calls = crate::backup::fixture::calls(path);
        let words = place(&data, None).join(" ");
        assert!(calls[0].starts_with(&format!("/pg/bin/postgres {words} -c listen_addresses= -c unix")), "{calls:?}");
        assert!(calls[0].ends_with("-c hot_standby=off"), "{calls:?}");
    }

    #[test]
    fn a_server_that_has_no_handlers_yet_is_ended_all_the_same() {
        use std::{io::Write, process::Command};
        for (word, signal) in [("", "QUIT"), ("fast\n", "INT")] {
            // For its first half second it is as deaf as what the shell has made of it.
            let late = format!("sleep 0.5; exec env --default-signal={signal} sleep 600");
            let mut guard = Command::new("sh")
                .args(["-c", GUARD, "guard", "sh", "-c", &late])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            let mut leash = guard.stdin.take();
            match word {
                "" => drop(leash.take()),
                word => leash.as_mut().unwrap().write_all(word.as_bytes()).unwrap(),
            }
            let (told, ended) = std::sync::mpsc::channel();
            std::thread::spawn(move || told.send(guard.wait()));
            assert!(ended.recv_timeout(Duration::from_secs(60)).is_ok(), "SIG{signal} was lost");
        }
    }

    #[test]
    fn the_log_tells_how_replay_ended() {
        let log = "2026-11-22 20:00:00 UTC [1] LOG:  starting point-in-time recovery to WAL location (LSN) \"0/5000000\"\n\
            2026-11-22 20:00:00 UTC [9] FATAL:  the database system is starting up\n\
            2026-11-22 20:00:00 UTC [1] LOG:  recovery stopping after WAL location (LSN) \"0/5000028\"\n\
            2026-11-22 20:00:00 UTC [1] LOG:  redo done at 0/5000028 system usage: CPU: user: 0.00 s\n\
            2026-11-22 20:00:00 UTC [1] LOG:  selected new timeline ID: 3\n\
            2026-11-22 20:00:00 UTC [1] LOG:  database system is ready to accept connections\n";
        let replay = Replay::parse(log);
        assert_eq!(replay.redo_done, Some("0/5000028".parse().unwrap()));
        assert_eq!(replay.new_timeline, Some(Timeline::literal(3)));
        assert_eq!(replay.stopping.as_deref(), Some("recovery stopping after WAL location (LSN) \"0/5000028\""));
        assert!(replay.ready && replay.fatal.is_none());
        let died = Replay::parse("x [1] FATAL:  recovery ended before configured recovery target was reached\n");
        assert!(died.fatal.unwrap().contains("before configured"));
    }

    #[test]
    fn the_log_tells_how_far_a_replay_is() {
        let mut log = String::from("x [1] LOG:  starting archive recovery\n");
        assert_eq!(Seen::last_in(&log), None);
        log.push_str("x [1] LOG:  redo starts at 0/2000028\n");
        assert_eq!(Seen::last_in(&log), Some(Seen::At(Lsn(0x200_0028))));
        log.push_str(
            "x [1] LOG:  restored log file \"000000010000000000000003\" from archive\nx [1] LOG:  of no use\n",
        );
        let third = SegmentName::new(Timeline::literal(1), 3, SegmentSize::new(16 << 20).unwrap());
        assert_eq!(Seen::last_in(&log), Some(Seen::Segment(third)));
        log.push_str("x [1] LOG:  redo in progress, elapsed time: 10.00 s, current LSN: 0/5E3F8A0\n");
        assert_eq!(Seen::last_in(&log), Some(Seen::At(Lsn(0x5E3_F8A0))));
    }

    #[test]
    fn the_log_tells_which_file_was_asked_for_and_not_given() {
        let mut log = String::from("x [1] LOG:  starting archive recovery\ncdc-drill: asked for 00000002.history\n");
        assert_eq!(asked_for(&log).as_deref(), Some("00000002.history"));
        log.push_str("x [1] LOG:  redo starts at 0/2000028\n");
        assert_eq!(asked_for(&log), None, "it went on without it");
        log.push_str("cdc-drill: asked for 000000010000000000000003\nx [7] LOG:  restartpoint starting: time\n");
        assert_eq!(asked_for(&log).as_deref(), Some("000000010000000000000003"));
        log.push_str("x [1] LOG:  restored log file \"000000010000000000000003\" from archive\n");
        assert_eq!(asked_for(&log), None);
        log.push_str("cdc-drill wal fetch 0004: damaged\nx [1] FATAL:  could not restore file \"0004\" from archive\n");
        assert_eq!(not_fetched(&log).as_deref(), Some("cdc-drill wal fetch 0004: damaged"));
    }

    #[test]
    fn a_configuration_elsewhere_does_not_choose_the_data_folder() {
        let words = place(Utf8Path::new("/fresh"), Some(Utf8Path::new("/etc/p.conf")));
        let expected = "-D /fresh -c data_directory=/fresh -c external_pid_file= -c ssl=off -c config_file=/etc/p.conf";
        assert_eq!(words.join(" "), expected);
    }
}
