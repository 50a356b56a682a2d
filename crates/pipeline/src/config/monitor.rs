//! What `status` judges by, and the command that hears of what ended.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::hook::{self, HookError};
use cdc_model::event::HookCall;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

/// A span of time as a person writes it: `26h`, `8d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(Duration);

impl Span {
    pub(super) const fn of_seconds(seconds: u64) -> Span {
        Span(Duration::from_secs(seconds))
    }

    /// How many seconds it has.
    pub fn seconds(self) -> u64 {
        self.0.as_secs()
    }

    /// How many seconds it has, with their fraction.
    pub fn as_secs_f64(self) -> f64 {
        self.0.as_secs_f64()
    }

    /// As the standard library has it.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        Span::try_from(text.to_owned())
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Span, String> {
        humantime::parse_duration(&text).map(Span).map_err(|e| format!("`{text}`: {e}, expected `26h`"))
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// `[monitor]`: what is late and what is much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MonitorConfig {
    /// What the pipeline is called in metrics and events; PostgreSQL's `host:port` by default.
    pub pipeline: Option<String>,
    /// How old the newest recovery point may be.
    pub backup_age: Span,
    /// How long ago the newest deep check or proof may be.
    pub verified_age: Span,
    /// How long ago the last drill may be; no drill is asked for by default.
    pub drill_age: Option<Span>,
    /// How long a finished WAL file may wait to be archived.
    pub archive_delay: Span,
    /// How much WAL a replication slot may hold back.
    pub slot_wal: ByteSize,
}

impl Default for MonitorConfig {
    fn default() -> MonitorConfig {
        MonitorConfig {
            pipeline: None,
            // A backup each night that takes its time.
            backup_age: Span::of_seconds(26 * HOUR),
            // One each week.
            verified_age: Span::of_seconds(8 * DAY),
            drill_age: None,
            archive_delay: Span::of_seconds(HOUR / 4),
            slot_wal: ByteSize::gib(10),
        }
    }
}

/// `[objectives]`: what was promised of a recovery. Without one, nothing was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectivesConfig {
    /// How long a recovery may take.
    pub rto: Option<Span>,
    /// How much time of changes may be lost.
    pub rpo: Option<Span>,
}

/// Which events the command hears of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotifyOn {
    /// Those of what did not end with exit code 0.
    #[default]
    Failure,
    /// All.
    All,
}

/// `[notify]`: a command that is given each event as JSON on its standard input.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyConfig {
    /// Run by `sh -c`.
    pub command: String,
    /// Which events.
    #[serde(default)]
    pub on: NotifyOn,
    /// How long it may take.
    #[serde(default = "a_minute")]
    pub timeout: Span,
}

fn a_minute() -> Span {
    Span::of_seconds(60)
}

impl NotifyConfig {
    /// Whether it hears of what ended like this.
    pub fn hears(&self, failed: bool) -> bool {
        failed || self.on == NotifyOn::All
    }

    /// Calls the command with an event, and requires exit status 0.
    pub async fn call(&self, event: &[u8]) -> Result<HookCall, HookError> {
        hook::succeeded(hook::run("[notify] command", &self.command, &[], Some(event), self.timeout.0).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notify(command: &str, timeout: &str) -> NotifyConfig {
        toml::from_str(&format!("command = '{command}'\ntimeout = '{timeout}'")).unwrap()
    }

    #[test]
    fn sections_have_defaults_and_know_their_keys() {
        let monitor: MonitorConfig = toml::from_str("").unwrap();
        assert_eq!(monitor, MonitorConfig::default());
        assert_eq!((monitor.backup_age.to_string(), monitor.verified_age.seconds()), ("1day 2h".into(), 691_200));
        let own: MonitorConfig = toml::from_str("backup_age = '2h'\nslot_wal = '1 GiB'\ndrill_age = '40d'").unwrap();
        assert_eq!((own.backup_age.seconds(), own.slot_wal.as_u64()), (7_200, 1 << 30));
        assert!(own.drill_age.is_some());
        for wrong in ["backup_agee = '2h'", "backup_age = 'soon'", "backup_age = 7"] {
            assert!(toml::from_str::<MonitorConfig>(wrong).is_err(), "{wrong}");
        }
        assert!(toml::from_str::<NotifyConfig>("on = 'all'").is_err(), "a command is needed");
        assert!(toml::from_str::<NotifyConfig>("command = 'x'\non = 'never'").is_err());
    }

    #[test]
    fn objectives_are_spans_and_nothing_is_promised_by_default() {
        assert_eq!(toml::from_str::<ObjectivesConfig>("").unwrap(), ObjectivesConfig::default());
        let own: ObjectivesConfig = toml::from_str("rto = '15m'\nrpo = '500ms'").unwrap();
        assert_eq!(own.rto.map(Span::as_secs_f64), Some(900.0));
        assert_eq!(own.rpo.map(Span::as_secs_f64), Some(0.5));
        for wrong in ["rto = 900", "rto = 'soon'", "rto_seconds = '1s'"] {
            assert!(toml::from_str::<ObjectivesConfig>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn failures_are_always_heard_of() {
        let mut hook = notify("true", "1s");
        assert_eq!((hook.hears(true), hook.hears(false)), (true, false));
        hook.on = NotifyOn::All;
        assert_eq!((hook.hears(true), hook.hears(false)), (true, true));
    }

    #[tokio::test]
    async fn the_command_reads_the_event_and_need_not() {
        let long = vec![b'x'; 1 << 20];
        let call = notify("wc -c", "20s").call(&long).await.unwrap();
        assert_eq!(call.said, [(1u64 << 20).to_string()]);
        assert!(notify("true", "20s").call(&long).await.is_ok(), "one that does not read");
        let error = notify("cat >/dev/null; echo no route; exit 7", "20s").call(b"{}").await.unwrap_err();
        assert_eq!(error.to_string(), "[notify] command: exit status 7: no route");
        let error = notify("sleep 30", "200ms").call(b"{}").await.unwrap_err();
        assert!(error.to_string().contains("did not return within 200ms"), "{error}");
    }
}
