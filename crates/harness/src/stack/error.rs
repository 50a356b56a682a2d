//! What can go wrong when getting, starting and stopping servers.

use camino::{Utf8Path, Utf8PathBuf};

use cdc_model::units::{Exit, Failure, Hint};
use cdc_pipeline::client::ClientError;

/// A stack that is not as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// This machine cannot run the local backend.
    #[error("the local stack needs Linux on x86-64, found {found}")]
    Platform {
        /// The operating system and architecture.
        found: String,
    },
    /// A program that fetches is not installed.
    #[error("fetch {what}: none of {tried} was found on the PATH")]
    ClientMissing {
        /// What should be fetched.
        what: String,
        /// The names that were looked for.
        tried: String,
        /// What to install.
        hint: String,
    },
    /// A program that fetches failed.
    #[error("fetch {what}: {program} ended with {status}: {detail}")]
    Fetch {
        /// What should be fetched.
        what: String,
        /// The program.
        program: String,
        /// How it ended.
        status: String,
        /// The last lines it wrote.
        detail: String,
        /// What to do.
        hint: String,
    },
    /// A fetched file is not the one that was pinned.
    #[error("fetched file {file}: expected sha256 {expected}, found {found}")]
    Checksum {
        /// The file, relative to the download folder.
        file: String,
        /// The pinned sum.
        expected: String,
        /// The file's sum, or `no such file`.
        found: String,
    },
    /// No space is left.
    #[error("{action} {path}: no space left on the device")]
    DiskFull {
        /// What was being done.
        action: String,
        /// Where.
        path: Utf8PathBuf,
    },
    /// A file or folder cannot be used.
    #[error("{action} {path}: {cause}")]
    Io {
        /// What was being done.
        action: String,
        /// The file or folder.
        path: Utf8PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// Root has no account to give the servers to.
    #[error("no unprivileged account for the servers: {detail}")]
    Account {
        /// Why.
        detail: String,
    },
    /// The account cannot get at something it needs.
    #[error("{path} cannot be reached by the account {user}, which runs the servers: {blocker} has mode {mode:o}")]
    Unreachable {
        /// What it needs.
        path: Utf8PathBuf,
        /// The account.
        user: String,
        /// The folder that is in the way.
        blocker: Utf8PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The program that supervises and archives is missing.
    #[error("the cdc-drill program was not found: {detail}")]
    Binary {
        /// Where was looked.
        detail: String,
    },
    /// There is no stack.
    #[error("no stack in {dir}: {detail}")]
    NoStack {
        /// The folder.
        dir: Utf8PathBuf,
        /// What is missing or wrong.
        detail: String,
    },
    /// The folder is in use for something else.
    #[error("refusing to make a stack in {dir}: {detail}")]
    Occupied {
        /// The folder.
        dir: Utf8PathBuf,
        /// What is there.
        detail: String,
        /// What to do.
        hint: String,
    },
    /// The stack has no such server.
    #[error("stack {dir} has no server `{name}`, it has {has}")]
    NoServer {
        /// The folder.
        dir: Utf8PathBuf,
        /// The name asked for.
        name: String,
        /// The names there are.
        has: String,
    },
    /// A setting that cannot be.
    #[error("{what}: expected {expected}, found {found}")]
    Setting {
        /// Which setting.
        what: String,
        /// What would do.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A port is taken.
    #[error("{server} cannot listen on port {port}: {detail}")]
    Port {
        /// The server.
        server: String,
        /// The port.
        port: u16,
        /// Why.
        detail: String,
    },
    /// A server did not come up.
    #[error("{server} did not start: {detail}\nlog {log}, last lines:\n{tail}")]
    DidNotStart {
        /// The server.
        server: String,
        /// Why.
        detail: String,
        /// Its log.
        log: Utf8PathBuf,
        /// The end of its log.
        tail: String,
    },
    /// A server did not go down.
    #[error("{server} (pid {pid}) did not stop within {seconds} s")]
    DidNotStop {
        /// The server.
        server: String,
        /// Its process.
        pid: i32,
        /// How long was waited.
        seconds: u64,
        /// Its log.
        log: Utf8PathBuf,
    },
    /// A program that prepares a server failed.
    #[error("{what}: {program} ended with {status}: {detail}")]
    Prepare {
        /// What was being prepared.
        what: String,
        /// The program.
        program: String,
        /// How it ended.
        status: String,
        /// What it wrote.
        detail: String,
    },
    /// No Docker engine answers.
    #[error("no Docker engine answers: {detail}")]
    NoDocker {
        /// What was tried and what came of it.
        detail: String,
    },
    /// A program that is needed beside the engine.
    #[error("{program} was not found on the PATH")]
    NoDockerClient {
        /// Its name.
        program: String,
    },
    /// An image that is neither there nor to be had.
    #[error("image {image} for {server} is not on this machine and could not be pulled: {detail}")]
    Image {
        /// The image.
        image: String,
        /// What it is for.
        server: String,
        /// The environment variable that names another.
        variable: String,
        /// Why.
        detail: String,
    },
    /// The engine refused something.
    #[error("Docker engine: {what}: {detail}")]
    Engine {
        /// What was asked of it.
        what: String,
        /// What it said.
        detail: String,
    },
    /// Something that only a container can suffer.
    #[error("{server}: a native process cannot be told {means}")]
    NeedsContainers {
        /// The server.
        server: String,
        /// What was asked.
        means: String,
    },
    /// A container that did not start.
    #[error("container of {server} from image {image}: {detail}")]
    Container {
        /// The server.
        server: String,
        /// The image.
        image: String,
        /// Why.
        detail: String,
    },
    /// A system that did not answer as asked.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl Failure for StackError {
    fn exit(&self) -> Exit {
        match self {
            StackError::NoStack { .. } | StackError::NoServer { .. } | StackError::Setting { .. } => Exit::Invalid,
            StackError::Occupied { .. } | StackError::NeedsContainers { .. } => Exit::Refused,
            StackError::Checksum { .. } => Exit::ChecksumMismatch,
            StackError::Client(error) => error.exit(),
            _ => Exit::StackDidNotStart,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        let hint: Hint = match self {
            StackError::Platform { .. } => "give `--config` for a pipeline that runs elsewhere".into(),
            StackError::ClientMissing { hint, .. }
            | StackError::Fetch { hint, .. }
            | StackError::Occupied { hint, .. } => hint.clone().into(),
            StackError::Checksum { .. } => {
                "the mirror serves another file than the one pinned in fixtures/stack/SHA256SUMS; clear the client's own \
                 cache of it and run `cdc-drill setup` again"
                    .into()
            }
            StackError::DiskFull { .. } => "free space there, or set CDC_DRILL_CACHE to a folder on another file system \
                 (about 700 MB are needed)"
                .into(),
            StackError::Account { .. } => {
                "PostgreSQL refuses to run as root; set CDC_DRILL_USER to an existing account".into()
            }
            StackError::Unreachable { blocker, .. } => {
                format!("choose a folder that others may pass through, or `chmod o+x {blocker}`").into()
            }
            StackError::Binary { .. } => "set CDC_DRILL_BIN to it, or build it (`cargo build`)".into(),
            StackError::NoStack { dir, .. } => format!("`cdc-drill stack up --dir {dir}` makes one").into(),
            StackError::Port { .. } => {
                "`ss -ltnp` names the program that listens there; end it, or choose another port".into()
            }
            StackError::DidNotStop { log, .. } => format!("its log says why: {log}").into(),
            StackError::NoDocker { .. } => {
                "start one and let this account use it, or run without containers: `--backend local`".into()
            }
            StackError::NoDockerClient { .. } => {
                "install Docker's command line client, or use `--backend local`".into()
            }
            StackError::Image { variable, .. } => format!(
                "name another one in {variable}; `just images` builds stand-ins where images cannot be pulled"
            )
            .into(),
            StackError::NeedsContainers { .. } => {
                "it needs a network or a memory limit of its own: `--backend docker`".into()
            }
            StackError::Client(error) => return error.hints(),
            StackError::Io { .. }
            | StackError::NoServer { .. }
            | StackError::Setting { .. }
            | StackError::DidNotStart { .. }
            | StackError::Prepare { .. }
            | StackError::Engine { .. }
            | StackError::Container { .. } => return Vec::new(),
        };
        vec![hint]
    }

    /// A network, an engine and a port that is taken change by themselves; what is missing or set wrongly stays so.
    fn is_transient(&self) -> bool {
        match self {
            StackError::Client(error) => error.is_transient(),
            StackError::Fetch { .. }
            | StackError::Io { .. }
            | StackError::Port { .. }
            | StackError::DidNotStart { .. }
            | StackError::DidNotStop { .. }
            | StackError::Prepare { .. }
            | StackError::NoDocker { .. }
            | StackError::Image { .. }
            | StackError::Engine { .. }
            | StackError::Container { .. } => true,
            StackError::Platform { .. }
            | StackError::ClientMissing { .. }
            | StackError::Checksum { .. }
            | StackError::DiskFull { .. }
            | StackError::Account { .. }
            | StackError::Unreachable { .. }
            | StackError::Binary { .. }
            | StackError::NoStack { .. }
            | StackError::Occupied { .. }
            | StackError::NoServer { .. }
            | StackError::Setting { .. }
            | StackError::NoDockerClient { .. }
            | StackError::NeedsContainers { .. } => false,
        }
    }
}

impl StackError {
    /// Wraps an I/O error with what was being done to what; a full disk gets its own message.
    pub(crate) fn io(action: &str, path: &Utf8Path, cause: std::io::Error) -> StackError {
        if cause.kind() == std::io::ErrorKind::StorageFull {
            return StackError::DiskFull { action: action.to_owned(), path: path.to_owned() };
        }
        StackError::Io { action: action.to_owned(), path: path.to_owned(), cause }
    }
}
