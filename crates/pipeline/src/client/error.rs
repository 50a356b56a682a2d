//! What can go wrong when asking a system.

use camino::Utf8PathBuf;

use cdc_model::units::{Exit, Failure, Hint, chain, redact_url};

/// A system that did not answer as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The system did not answer at all.
    #[error("{system} at {address} does not answer: {detail}")]
    Unreachable {
        /// `postgres`, `kafka`, `connect` or `registry`.
        system: &'static str,
        /// The address, without secrets.
        address: String,
        /// What the transport said.
        detail: String,
    },
    /// The system answered with a refusal.
    #[error("{system} at {address}: {what}: expected {expected}, found {found}")]
    Answer {
        /// The system.
        system: &'static str,
        /// The address, without secrets.
        address: String,
        /// What was asked.
        what: String,
        /// What answer was expected.
        expected: String,
        /// What it answered.
        found: String,
        /// The HTTP status, where there is one.
        status: Option<u16>,
        /// Whether the same question will get the same answer until somebody changes something: a wait ends with it.
        lasting: bool,
    },
    /// Something has a name that no address of the system can hold: it was not asked.
    #[error("{system} at {address}: {what}: expected a name that its web server takes in an address, found {why}")]
    Unaddressable {
        /// The system.
        system: &'static str,
        /// The address, without secrets.
        address: String,
        /// What was asked about: `connector odd/one`.
        what: String,
        /// What is in the way.
        why: String,
    },
    /// The server refuses a statement of a person's SQL file for what it says.
    #[error("{file}, line {line}: `{statement}`: {found} (postgres at {address})")]
    Script {
        /// The file as the scenario names it, or where else the statement stands.
        file: Utf8PathBuf,
        /// The line, from 1: of what is wrong, where the server tells, else of the statement's first word.
        line: usize,
        /// The beginning of the statement, in one line.
        statement: String,
        /// The server's address, without secrets.
        address: String,
        /// What the server says.
        found: String,
    },
    /// A condition did not come true in time.
    #[error("waited {seconds:.1} s for {what} ({bound}): last seen: {last}")]
    TimedOut {
        /// The condition.
        what: String,
        /// How long was waited.
        seconds: f64,
        /// What ended the wait: a limit and its scale, or a standstill.
        bound: String,
        /// The last observation.
        last: String,
        /// What a person can do about what was seen last.
        hints: Vec<Hint>,
    },
    /// A condition that can no longer come true.
    #[error("waiting for {what}: {why}")]
    Hopeless {
        /// The condition.
        what: String,
        /// Why it cannot come true.
        why: String,
        /// What a person can do about that.
        hints: Vec<Hint>,
    },
}

/// What there is to do about a name that no address can hold.
const UNADDRESSABLE: &str = "the worker of Kafka 4.0 and later takes no name with `/`, `\\` or `%`, nor `.` or `..`: make it again under another name";

impl Failure for ClientError {
    fn exit(&self) -> Exit {
        match self {
            ClientError::TimedOut { .. } => Exit::TimedOut,
            ClientError::Script { .. } => Exit::Invalid,
            ClientError::Unreachable { .. }
            | ClientError::Answer { .. }
            | ClientError::Unaddressable { .. }
            | ClientError::Hopeless { .. } => Exit::Inconclusive,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            ClientError::Unreachable { .. } => vec!["is it running? `cdc-drill stack status` or its log says".into()],
            ClientError::TimedOut { hints, .. } | ClientError::Hopeless { hints, .. } => hints.clone(),
            ClientError::Script { .. } => vec!["correct the statement".into()],
            ClientError::Unaddressable { system: "connect", .. } => vec![UNADDRESSABLE.into()],
            ClientError::Unaddressable { .. } | ClientError::Answer { .. } => Vec::new(),
        }
    }

    /// No waiting cures credentials that are refused, a permission that is missing, a question that is wrong.
    fn is_transient(&self) -> bool {
        match self {
            ClientError::Answer { lasting, status, .. } => !lasting && !matches!(status, Some(400 | 401 | 403 | 405)),
            ClientError::Hopeless { .. } | ClientError::Script { .. } | ClientError::Unaddressable { .. } => false,
            ClientError::Unreachable { .. } | ClientError::TimedOut { .. } => true,
        }
    }
}

impl ClientError {
    /// The HTTP status that was answered, where there is one.
    pub fn status(&self) -> Option<u16> {
        match self {
            ClientError::Answer { status, .. } => *status,
            _ => None,
        }
    }

    /// Whether this is about a name that no address of the system can hold.
    pub fn is_unaddressable(&self) -> bool {
        matches!(self, ClientError::Unaddressable { .. })
    }

    /// The same answer, which will not change by itself.
    pub(crate) fn for_good(mut self) -> Self {
        if let ClientError::Answer { lasting, .. } = &mut self {
            *lasting = true;
        }
        self
    }

    /// No answer, at an address whose password is left out.
    pub fn unreachable(system: &'static str, address: &str, error: impl std::fmt::Display) -> Self {
        ClientError::Unreachable { system, address: redact_url(address), detail: error.to_string() }
    }

    /// An HTTP request without an answer. What the transport says stands in the sources of its error.
    pub(crate) fn silent(system: &'static str, address: &str, error: reqwest::Error) -> Self {
        let error = error.without_url();
        let waited = if error.is_timeout() { " (the request timed out)" } else { "" };
        Self::unreachable(system, address, format!("{}{waited}", chain(&error)))
    }

    /// An answer that is not the expected one.
    pub fn answer(
        system: &'static str,
        address: &str,
        what: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        ClientError::Answer {
            system,
            address: redact_url(address),
            what: what.into(),
            expected: expected.into(),
            found: found.into(),
            status: None,
            lasting: false,
        }
    }
}
