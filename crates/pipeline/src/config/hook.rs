//! The control hooks: commands by which a server that belongs to somebody is stopped, started and asked about.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs::File,
    io::{Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    process::Stdio,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use cdc_model::{
    event::HookCall,
    units::{Exit, Failure, Hint},
};

/// A hook returns when the server is down or was told to start. A fast shutdown waits for the archiver, and a checkpoint of
/// much dirty memory takes its time.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);
/// How much of a hook's output is kept: enough for a cause, too little to drown a report.
const KEPT_LINES: usize = 5;

/// Commands that control one server, run by `sh -c`. Each must return within its deadline; `stop` and `start` return 0
/// when the server is down or was told to start, `running` returns 0 when it runs and 1 when it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Starts the server and returns; readiness is asked of the server itself.
    pub start: String,
    /// Stops the server cleanly and returns when it is down.
    pub stop: String,
    /// Exit status 0: it runs; 1: it does not.
    pub running: String,
    /// Prints the data folder as this machine sees it, instead of `[postgres] pgdata`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pgdata: Option<String>,
    /// The words before a program that let it run beside the server's files: see [`super::Tools`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// A folder for temporary files that this machine and the tool's place both see under this name; by default the
    /// system's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<camino::Utf8PathBuf>,
    /// Does to the server what `CDC_DRILL_MEANS` says; for drills, never for a recovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disturb: Option<String>,
    /// Takes every disturbance back, of a server that may be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settle: Option<String>,
    /// How long a hook may take: `"5m"` for each, or `{ stop = "5m" }`.
    #[serde(default, skip_serializing_if = "Timeouts::is_default")]
    pub timeout: Timeouts,
}

/// What a hook is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Start the server.
    Start,
    /// Stop it.
    Stop,
    /// Say whether it runs.
    Running,
    /// Print its data folder.
    Pgdata,
    /// Do to it what the environment says.
    Disturb,
    /// Take that back.
    Settle,
}

/// What can be done to a server without touching its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Means {
    /// Every process is frozen: clients are taken in by the kernel, and nobody answers.
    Pause,
    /// The server is off its network: nobody reaches it.
    Disconnect,
    /// It may use this much memory, in MiB.
    Memory(u32),
}

/// The variable that tells a `disturb` hook what to do: `pause`, `disconnect`, or `memory=24`.
pub const MEANS_VARIABLE: &str = "CDC_DRILL_MEANS";

impl std::fmt::Display for Means {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Means::Pause => f.write_str("pause"),
            Means::Disconnect => f.write_str("disconnect"),
            Means::Memory(mib) => write!(f, "memory={mib}"),
        }
    }
}

impl From<Means> for String {
    fn from(means: Means) -> String {
        means.to_string()
    }
}

impl TryFrom<String> for Means {
    type Error = String;

    fn try_from(text: String) -> Result<Means, String> {
        text.parse()
    }
}

impl std::str::FromStr for Means {
    type Err = String;

    fn from_str(text: &str) -> Result<Means, String> {
        match (text, text.strip_prefix("memory=").map(str::parse)) {
            ("pause", _) => Ok(Means::Pause),
            ("disconnect", _) => Ok(Means::Disconnect),
            (_, Some(Ok(mib))) if mib > 0 => Ok(Means::Memory(mib)),
            _ => Err(format!("`{text}`: expected pause, disconnect or memory=MIB")),
        }
    }
}

impl Verb {
    const ALL: [Verb; 6] = [Verb::Start, Verb::Stop, Verb::Running, Verb::Pgdata, Verb::Disturb, Verb::Settle];

    /// The hook's key in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Verb::Start => "start",
            Verb::Stop => "stop",
            Verb::Running => "running",
            Verb::Pgdata => "pgdata",
            Verb::Disturb => "disturb",
            Verb::Settle => "settle",
        }
    }
}

/// How long each hook of a server may take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TimeoutText", into = "TimeoutText")]
pub struct Timeouts(BTreeMap<Verb, Duration>);

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum TimeoutText {
    All(String),
    Each(BTreeMap<String, String>),
}

impl TryFrom<TimeoutText> for Timeouts {
    type Error = String;

    fn try_from(text: TimeoutText) -> Result<Self, String> {
        let span = |t: &str| humantime::parse_duration(t).map_err(|e| format!("timeout `{t}`: {e}, expected `2m`"));
        match text {
            TimeoutText::All(all) => {
                let all = span(&all)?;
                Ok(Timeouts(Verb::ALL.map(|v| (v, all)).into()))
            }
            TimeoutText::Each(each) => {
                let known = |(word, text): (String, String)| {
                    let verb = Verb::ALL.into_iter().find(|v| v.word() == word);
                    let verb = verb.ok_or(format!(
                        "timeout of `{word}`: expected start, stop, running, pgdata, disturb or settle"
                    ))?;
                    Ok((verb, span(&text)?))
                };
                Ok(Timeouts(each.into_iter().map(known).collect::<Result<_, String>>()?))
            }
        }
    }
}

impl From<Timeouts> for TimeoutText {
    fn from(timeouts: Timeouts) -> Self {
        let text = |(v, d): (Verb, Duration)| (v.word().to_owned(), humantime::format_duration(d).to_string());
        TimeoutText::Each(timeouts.0.into_iter().map(text).collect())
    }
}

impl Timeouts {
    /// How long this hook may take.
    pub fn of(&self, verb: Verb) -> Duration {
        self.0.get(&verb).copied().unwrap_or(DEFAULT_TIMEOUT)
    }

    fn is_default(&self) -> bool {
        self.0.is_empty()
    }
}

/// A hook that gave no answer.
#[derive(Debug, thiserror::Error)]
#[error("{hook}: {detail}")]
pub struct HookError {
    /// `[control.postgres] stop`.
    pub hook: String,
    /// What happened and the last lines it wrote.
    pub detail: String,
}

impl Failure for HookError {
    fn exit(&self) -> Exit {
        Exit::Inconclusive
    }

    fn hints(&self) -> Vec<Hint> {
        Vec::new()
    }

    /// The command may do better next time.
    fn is_transient(&self) -> bool {
        true
    }
}

tokio::task_local! {
    static CALLS: RefCell<Vec<HookCall>>;
}

/// Runs a future and says which hooks it called.
pub async fn recorded<F: Future>(work: F) -> (F::Output, Vec<HookCall>) {
    CALLS
        .scope(RefCell::new(Vec::new()), async {
            let output = work.await;
            (output, CALLS.with(RefCell::take))
        })
        .await
}

impl Hook {
    /// The three that every server needs.
    pub fn new(start: String, stop: String, running: String) -> Hook {
        Hook { start, stop, running, ..Hook::default() }
    }

    /// Calls a hook and requires exit status 0.
    pub async fn expect(&self, server: &str, verb: Verb) -> Result<HookCall, HookError> {
        succeeded(self.call(server, verb).await?)
    }

    /// Calls a hook of `server` and waits for its end. Output goes to a file, of which the last lines are kept: a server that
    /// the hook leaves behind may inherit the descriptors, so waiting for their end could wait for the server's.
    pub async fn call(&self, server: &str, verb: Verb) -> Result<HookCall, HookError> {
        self.call_in(server, verb, &[]).await
    }

    /// Whether the server runs: exit status 0 says yes, 1 says no, and any other says neither.
    pub async fn runs(&self, server: &str) -> Result<bool, HookError> {
        let call = self.call(server, Verb::Running).await?;
        match call.status {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(wrong(&call)),
        }
    }

    /// Does something to the server, and requires exit status 0.
    pub async fn disturb(&self, server: &str, means: Means) -> Result<HookCall, HookError> {
        succeeded(self.call_in(server, Verb::Disturb, &[(MEANS_VARIABLE, means.to_string())]).await?)
    }

    async fn call_in(&self, server: &str, verb: Verb, environment: &[(&str, String)]) -> Result<HookCall, HookError> {
        let hook = format!("[control.{server}] {}", verb.word());
        let command = match verb {
            Verb::Start => Some(&self.start),
            Verb::Stop => Some(&self.stop),
            Verb::Running => Some(&self.running),
            Verb::Pgdata => self.pgdata.as_ref(),
            Verb::Disturb => self.disturb.as_ref(),
            Verb::Settle => self.settle.as_ref(),
        };
        let unnamed = || HookError { hook: hook.clone(), detail: "the configuration does not name it".into() };
        let command = command.ok_or_else(unnamed)?;
        run(&hook, command, environment, None, self.timeout.of(verb)).await
    }
}

/// Runs a command of the configuration by `sh -c`, with `input` on its standard input, and waits for its end, `limit` at most. Every
/// hook is called here.
pub(super) async fn run(
    hook: &str,
    command: &str,
    environment: &[(&str, String)],
    input: Option<&[u8]>,
    limit: Duration,
) -> Result<HookCall, HookError> {
    let failed = |detail: String| HookError { hook: hook.to_owned(), detail };
    // Without a name: whoever is killed meanwhile leaves nothing.
    let said = tempfile::tempfile().map_err(|e| failed(e.to_string()))?;
    let sink = said.try_clone().map_err(|e| failed(e.to_string()))?;
    let both = sink.try_clone().map_err(|e| failed(e.to_string()))?;
    // A file and no pipe: a command that does not read it keeps nobody waiting.
    let stdin = match input {
        Some(input) => given(input).map_err(|e| failed(e.to_string()))?.into(),
        None => Stdio::null(),
    };
    let began = Instant::now();
    let mut child = tokio::process::Command::new("sh")
        .args(["-c", command])
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(stdin)
        .stdout(sink)
        .stderr(both)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    let ended = tokio::time::timeout(limit, child.wait()).await;
    let text = read_back(&said).map_err(|e| failed(format!("read what it wrote: {e}")))?;
    let call = HookCall {
        hook: hook.to_owned(),
        seconds: began.elapsed().as_secs_f64(),
        status: ended.as_ref().ok().and_then(|s| s.as_ref().ok()).and_then(std::process::ExitStatus::code),
        said: last_lines(&String::from_utf8_lossy(&text)),
    };
    tracing::info!(hook = call.hook, seconds = call.seconds, status = ?call.status, said = ?call.said);
    let _ = CALLS.try_with(|calls| calls.borrow_mut().push(call.clone()));
    match ended {
        Err(_) => Err(failed(format!("did not return within {}{}", humantime::format_duration(limit), quoted(&call)))),
        Ok(Err(e)) => Err(failed(e.to_string())),
        Ok(Ok(_)) => Ok(call),
    }
}

/// A file without a name that is read from its beginning.
fn given(input: &[u8]) -> std::io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(input)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// What is in a file from its beginning, wherever the programs stand that write to it.
fn read_back(file: &File) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut part = [0; 8192];
    loop {
        match file.read_at(&mut part, text.len() as u64)? {
            0 => return Ok(text),
            read => text.extend_from_slice(&part[..read]),
        }
    }
}

/// Requires exit status 0.
pub(super) fn succeeded(call: HookCall) -> Result<HookCall, HookError> {
    if call.status == Some(0) { Ok(call) } else { Err(wrong(&call)) }
}

/// A call as an error: how it ended and what it said last.
fn wrong(call: &HookCall) -> HookError {
    let status = call.status.map_or("ended by a signal".into(), |code| format!("exit status {code}"));
    let said = if call.said.is_empty() { ": it said nothing".to_owned() } else { quoted(call) };
    HookError { hook: call.hook.clone(), detail: format!("{status}{said}") }
}

fn quoted(call: &HookCall) -> String {
    if call.said.is_empty() { String::new() } else { format!(": {}", call.said.join(" | ")) }
}

fn last_lines(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
    lines[lines.len().saturating_sub(KEPT_LINES)..].iter().map(|l| (*l).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(start: &str) -> Hook {
        Hook {
            timeout: TimeoutText::All("300ms".into()).try_into().unwrap(),
            ..Hook::new(start.into(), "".into(), "".into())
        }
    }

    #[tokio::test]
    async fn a_call_keeps_status_and_last_lines() {
        let hook = hook("for i in 1 2 3 4 5 6 7; do echo line $i; done; echo bad >&2; exit 3");
        let (call, calls) = recorded(hook.call("postgres", Verb::Start)).await;
        let call = call.unwrap();
        assert_eq!((calls.len(), &calls[0]), (1, &call));
        assert_eq!((call.status, call.said.len(), call.said[4].as_str()), (Some(3), 5, "bad"));
        let error = succeeded(call).unwrap_err().to_string();
        assert_eq!(error, "[control.postgres] start: exit status 3: line 4 | line 5 | line 6 | line 7 | bad");
    }

    #[tokio::test]
    async fn a_server_runs_or_not_or_nobody_knows() {
        let runs = |running: &str| {
            let hook = Hook { running: running.into(), ..hook("") };
            async move { hook.runs("postgres").await }
        };
        assert!(runs("true").await.unwrap());
        assert!(!runs("exit 1").await.unwrap());
        let unknown = runs("echo no such unit; exit 4").await.unwrap_err().to_string();
        assert_eq!(unknown, "[control.postgres] running: exit status 4: no such unit");
        assert!(runs("sleep 30").await.unwrap_err().to_string().contains("did not return within 300ms"));
    }

    #[tokio::test]
    async fn a_hook_that_does_not_return_is_ended() {
        let error = hook("echo waiting; sleep 30").call("kafka", Verb::Start).await.unwrap_err().to_string();
        assert_eq!(error, "[control.kafka] start: did not return within 300ms: waiting");
    }

    #[test]
    fn timeouts_are_for_all_hooks_or_for_each() {
        let of = |text: &str| toml::from_str::<Hook>(&format!("start=''\nstop=''\nrunning=''\n{text}"));
        assert_eq!(of("").unwrap().timeout.of(Verb::Stop), DEFAULT_TIMEOUT);
        assert_eq!(of("timeout = '5m'").unwrap().timeout.of(Verb::Stop), Duration::from_secs(300));
        let each = of("timeout = { stop = '1h' }").unwrap();
        assert_eq!(each.timeout.of(Verb::Stop), Duration::from_secs(3600));
        assert_eq!(each.timeout.of(Verb::Start), DEFAULT_TIMEOUT);
        assert!(of("timeout = { stopp = '1h' }").is_err() && of("timeout = 'soon'").is_err());
        let again: Hook = toml::from_str(&toml::to_string(&each).unwrap()).unwrap();
        assert_eq!(again, each);
    }

    #[tokio::test]
    async fn a_disturbance_is_told_by_the_environment() {
        let hook = Hook { disturb: Some("echo it is $CDC_DRILL_MEANS".into()), ..hook("") };
        let call = hook.disturb("postgres", Means::Memory(24)).await.unwrap();
        assert_eq!(call.said, ["it is memory=24"]);
        for means in [Means::Pause, Means::Disconnect, Means::Memory(7)] {
            assert_eq!(means.to_string().parse(), Ok(means));
        }
        assert!("memory=0".parse::<Means>().is_err() && "freeze".parse::<Means>().is_err());
        let without = super::tests::hook("").disturb("postgres", Means::Pause).await.unwrap_err();
        assert!(without.to_string().contains("[control.postgres] disturb"), "{without}");
    }
}
