//! `wal push`, `wal drain` and `wal fetch`: PostgreSQL's `archive_command` and `restore_command`. PostgreSQL runs them for each segment
//! and waits: they need no async runtime.

use std::num::NonZeroUsize;

use camino::Utf8PathBuf;
use clap::Subcommand;

use super::output::DryRun;
use cdc_engine::backup::{
    BackupError, Repository,
    wal::{self, Fetched},
};
use cdc_model::units::{Exit, Failure, SystemId, counted};

/// Archive and restore WAL files.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: WalCommand,
}

#[derive(Debug, Subcommand)]
enum WalCommand {
    /// Take a WAL file into the repository: archive_command = 'cdc-drill wal push --repository DIR --pgdata PGDATA %p'
    Push {
        /// The repository's folder, or its address in a bucket: s3://BUCKET/PREFIX.
        #[arg(long, value_name = "DIR")]
        repository: Utf8PathBuf,
        /// The cluster's data folder, which PATH is relative to.
        #[arg(long, value_name = "PGDATA")]
        pgdata: Utf8PathBuf,
        /// The file: %p.
        path: Utf8PathBuf,
        /// How many segments to compress at a time: with the one that the server asks for those are taken that wait behind it [default:
        /// one for each processor, up to 4].
        #[arg(long, value_name = "N")]
        workers: Option<NonZeroUsize>,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Take in what an archive_command without this program left in the repository's spool folder; every command that reads the archive
    /// does so too, this one keeps the spool small.
    Drain {
        /// The repository's folder, or its address in a bucket: s3://BUCKET/PREFIX.
        #[arg(long, value_name = "DIR")]
        repository: Utf8PathBuf,
        /// The cluster's system identifier.
        #[arg(long, value_name = "N")]
        system_id: u64,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Put an archived WAL file where recovery wants it: restore_command = 'cdc-drill wal fetch --repository DIR --system-id N %f %p'.
    /// Exits 1 when the archive has no such file, and 255 when it may have it but cannot give it: PostgreSQL then stops instead of
    /// taking that for the end of the WAL.
    Fetch {
        /// The repository's folder, or its address in a bucket: s3://BUCKET/PREFIX.
        #[arg(long, value_name = "DIR")]
        repository: Utf8PathBuf,
        /// The cluster's system identifier.
        #[arg(long, value_name = "N")]
        system_id: u64,
        /// The file's name: %f.
        name: String,
        /// Where to put it: %p.
        to: Utf8PathBuf,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Fetch the segments behind one into a folder, for `wal fetch` to hand out.
    #[command(hide = true)]
    Prefetch {
        #[arg(long, value_name = "DIR")]
        repository: Utf8PathBuf,
        #[arg(long, value_name = "N")]
        system_id: u64,
        name: String,
        folder: Utf8PathBuf,
    },
}

/// Runs the command, without a runtime.
pub(crate) fn run_now(args: Args) -> Result<Exit, BackupError> {
    match args.command {
        WalCommand::Push { repository, pgdata, path, workers, dry } => {
            if dry.told(format!("take {path} of {pgdata} into the archive of {repository}")) {
                return Ok(Exit::Passed);
            }
            let workers = workers.unwrap_or_else(wal::default_workers);
            wal::push(&Repository::open(&repository)?, &pgdata, &path, workers)?;
            Ok(Exit::Passed)
        }
        WalCommand::Drain { repository, system_id, dry } => {
            if !dry.told(format!("take the spool of {repository} into the archive of cluster {system_id}")) {
                let taken = Repository::open(&repository)?.archive(SystemId(system_id)).drain()?;
                super::output::say(format!("{} taken into the archive", counted(taken, "file")));
            }
            Ok(Exit::Passed)
        }
        WalCommand::Prefetch { repository, system_id, name, folder } => {
            wal::prefetch(&Repository::open(&repository)?, SystemId(system_id), &name, &folder)?;
            Ok(Exit::Passed)
        }
        WalCommand::Fetch { repository, system_id, name, to, dry } => {
            if dry.told(format!("put {name} of cluster {system_id} from {repository} at {to}")) {
                return Ok(Exit::Passed);
            }
            // Where it is not known, nothing is fetched beforehand.
            let program = std::env::current_exe().ok().and_then(|path| Utf8PathBuf::from_path_buf(path).ok());
            let fetched = Repository::open(&repository)
                .and_then(|r| wal::fetch(&r, SystemId(system_id), &name, &to, program.as_deref()));
            match fetched {
                Ok(Fetched::Placed) => Ok(Exit::Passed),
                Ok(Fetched::NotThere) => Ok(Exit::Internal),
                Err(error) => {
                    // Goes to the server's log.
                    super::output::say(format!("cdc-drill wal fetch {name}: {}", error.in_full()));
                    Ok(Exit::WalUnreadable)
                }
            }
        }
    }
}
