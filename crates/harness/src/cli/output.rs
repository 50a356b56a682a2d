//! What commands print: JSON to standard output, all else to standard error.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

use crate::stack::Progress;
use cdc_model::units::{Exit, Failure, Hint, chain, with_hints};

/// Why a command ended badly.
#[derive(Debug)]
pub struct CliError {
    /// The exit code.
    pub exit: Exit,
    /// For a person.
    pub message: String,
    /// What the person can do about it.
    pub hints: Vec<Hint>,
}

impl CliError {
    /// An error with its exit code.
    pub fn new(exit: Exit, message: impl Into<String>) -> CliError {
        CliError { exit, message: message.into(), hints: Vec::new() }
    }

    /// The same error with a hint more.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Hint>) -> CliError {
        self.hints.push(hint.into());
        self
    }
}

impl<E: Failure> From<E> for CliError {
    fn from(error: E) -> CliError {
        CliError { exit: error.exit(), message: chain(&error), hints: error.hints() }
    }
}

/// Prints a value as JSON to standard output. A reader that has gone away is no error.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), CliError> {
    let text =
        serde_json::to_string_pretty(value).map_err(|e| CliError::new(Exit::Internal, format!("write JSON: {e}")))?;
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    Ok(())
}

/// Prints a line for a person to standard error.
pub(super) fn say(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", text.as_ref());
}

/// The flag of every command that changes something.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct DryRun {
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl DryRun {
    /// Says what would be done, when that is all that is asked for.
    pub(super) fn told(self, what: impl AsRef<str>) -> bool {
        if self.dry_run {
            say(format!("dry run: would {}", what.as_ref()));
        }
        self.dry_run
    }

    /// Whether to change nothing.
    pub(super) fn is_on(self) -> bool {
        self.dry_run
    }
}

pub(super) fn complain(error: &CliError) {
    say(format!("error: {}", with_hints(&error.message, &error.hints)));
}

/// Log lines of the program itself, to standard error, as `RUST_LOG` asks; warnings otherwise.
pub(super) fn start_tracing() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "warn,rdkafka=off,librdkafka=off".into());
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}

/// Progress on standard error: a bar where there is a terminal, a line now and then elsewhere.
#[derive(Debug)]
pub(super) struct Terminal {
    bar: ProgressBar,
    last_tenth: std::sync::atomic::AtomicU64,
}

impl Terminal {
    pub(super) fn new() -> Terminal {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {bytes} of about {total_bytes}") {
            bar.set_style(style);
        }
        Terminal { bar, last_tenth: std::sync::atomic::AtomicU64::new(0) }
    }
}

impl Progress for Terminal {
    fn line(&self, text: &str) {
        self.bar.suspend(|| say(text));
    }

    fn bytes(&self, done: u64, total: u64) {
        if !self.bar.is_hidden() {
            self.bar.set_length(total.max(done));
            self.bar.set_position(done);
            return;
        }
        let tenth = done * 10 / total.max(1);
        if self.last_tenth.fetch_max(tenth, std::sync::atomic::Ordering::Relaxed) < tenth {
            say(format!("{} of about {} MB", done / 1_000_000, total / 1_000_000));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
