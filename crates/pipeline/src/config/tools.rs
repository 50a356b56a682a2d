//! How PostgreSQL's own programs are called: from a folder of this machine, or beside the server's files.

use std::{
    io::ErrorKind,
    os::unix::fs::{MetadataExt, chown},
    process::Command,
};

use camino::{Utf8Path, Utf8PathBuf};

use super::{BucketAddress, Config, Temporary, free_bytes};
use cdc_model::units::IfThere;

/// Tells a prefix as whom a program runs.
const OWNER_VARIABLE: &str = "CDC_DRILL_OWNER";

/// The PostgreSQL programs of the cluster's major version.
///
/// With `[control.postgres] tool`, every call is that command's words followed by a program and its arguments:
/// `docker run --rm -i --network host -e PGPASSWORD -v "$CDC_DRILL_DATA:$CDC_DRILL_DATA" IMAGE`. The contract:
///
/// - The words are run by `sh`, which replaces itself by them: one simple command, `$VARIABLES` and quotes allowed.
/// - The folders in `CDC_DRILL_DATA` (the one that holds the data folder), `CDC_DRILL_REPOSITORY` and `CDC_DRILL_SCRATCH`
///   must be seen there under the same names, and `PGPASSWORD` handed on; other settings come as arguments of `env`.
/// - `CDC_DRILL_OWNER` is `uid:gid` of the data folder's owner: `postgres` must run as that account, the other programs as
///   that account or as root, because nobody else can read the data folder or a temporary folder.
/// - Standard input, output and errors and the exit status are the program's own, and SIGQUIT reaches it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Tools {
    bin: Utf8PathBuf,
    prefix: Option<String>,
    scratch: Option<Utf8PathBuf>,
    roomy: Option<Utf8PathBuf>,
    owner: Option<(u32, u32)>,
    /// Why the data folder's owner is not known, where the folder could not be looked at.
    owner_untold: Option<String>,
    variables: Vec<(&'static str, String)>,
}

impl Tools {
    /// Programs in a folder of this machine; an empty name leaves the search to `PATH`.
    pub fn here(bin: &Utf8Path) -> Tools {
        Tools { bin: bin.to_owned(), ..Tools::default() }
    }

    /// The same behind a prefix, with the folder for temporary files that both sides see.
    pub fn behind(self, prefix: String, scratch: Utf8PathBuf) -> Tools {
        Tools { prefix: Some(prefix), scratch: Some(scratch), ..self }
    }

    /// The tools that a configuration names.
    pub fn of(config: &Config) -> Tools {
        let control = config.control.get("postgres");
        let mut tools = Tools::here(&config.postgres.bin);
        tools.prefix = control.and_then(|c| c.tool.clone());
        tools.scratch = control.and_then(|c| c.scratch.clone());
        let data = config.postgres.pgdata.parent().unwrap_or(&config.postgres.pgdata);
        // The repository is for its owner alone, who need not be the account that the programs run as somewhere else.
        let repository = &config.repository.path;
        tools.roomy = match tools.elsewhere() && !data.as_str().is_empty() {
            true => Some(data.to_owned()),
            false => Some(repository.to_owned()).filter(|path| !BucketAddress::is_one(path)),
        };
        tools.variables = vec![
            ("CDC_DRILL_DATA", data.to_string()),
            ("CDC_DRILL_REPOSITORY", config.repository.path.to_string()),
            ("CDC_DRILL_SCRATCH", tools.scratch().to_string()),
        ];
        let pgdata = &config.postgres.pgdata;
        match std::fs::metadata(pgdata).if_there() {
            Ok(Some(meta)) => {
                tools.owner = Some((meta.uid(), meta.gid()));
                tools.variables.push((OWNER_VARIABLE, format!("{}:{}", meta.uid(), meta.gid())));
            }
            Ok(None) => {}
            Err(error) => tools.owner_untold = Some(format!("owner of {pgdata}: {error}")),
        }
        tools
    }

    /// The same for the owner of a data folder that is gone, and is to be made again.
    pub fn owned_by(mut self, (uid, gid): (u32, u32)) -> Tools {
        self.owner = Some((uid, gid));
        self.variables.retain(|(name, _)| *name != OWNER_VARIABLE);
        self.variables.push((OWNER_VARIABLE, format!("{uid}:{gid}")));
        self
    }

    /// Whether the programs run somewhere else, as whoever the prefix makes them.
    pub fn elsewhere(&self) -> bool {
        self.prefix.is_some()
    }

    /// Account and group that the programs run as somewhere else; here they run as this process.
    pub fn reader(&self) -> Option<(u32, u32)> {
        self.owner.filter(|_| self.elsewhere())
    }

    /// A temporary folder (mode 0700), `prefix` being its use, that the programs can read, wherever they run, and no other account: it may hold rows. Where
    /// they run somewhere else as another account than this process, it belongs to [`Tools::reader`].
    pub fn temporary(&self, prefix: &str, beneath: Option<&Utf8Path>) -> std::io::Result<Temporary> {
        if let Some(untold) = self.owner_untold.as_ref().filter(|_| self.elsewhere()) {
            return Err(std::io::Error::other(untold.clone()));
        }
        let beneath = beneath.map_or_else(|| self.scratch(), Utf8Path::to_owned);
        let folder = Temporary::make(prefix, &beneath)?;
        if let Some((uid, gid)) = self.reader().filter(|(uid, _)| *uid != nix::unistd::geteuid().as_raw()) {
            chown(folder.path(), Some(uid), Some(gid))?;
        }
        Ok(folder)
    }

    /// The same for what is large, beside the repository's or the server's data and not in the place for temporary files, which may be
    /// memory. Who may only look there and not write, as for a plan, gets one in that place after all, and so does who would find no room
    /// for this many bytes there.
    pub fn large_temporary(&self, prefix: &str, bytes: u64) -> std::io::Result<Temporary> {
        if free_bytes(&self.roomy()).is_ok_and(|free| free < bytes) {
            return self.temporary(prefix, None);
        }
        match self.temporary(prefix, Some(&self.roomy())) {
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                self.temporary(prefix, None)
            }
            made => made,
        }
    }

    /// Where temporary files go that a program reads or writes.
    pub fn scratch(&self) -> Utf8PathBuf {
        let system = || Utf8PathBuf::from_path_buf(std::env::temp_dir()).unwrap_or_else(|_| "/tmp".into());
        self.scratch.clone().unwrap_or_else(system)
    }

    /// Where temporary files go that a program reads and that are large: beside the repository's or the server's data.
    fn roomy(&self) -> Utf8PathBuf {
        self.roomy.clone().unwrap_or_else(|| self.scratch())
    }

    /// The program's name for messages.
    pub fn name(&self, program: &str) -> String {
        match &self.prefix {
            Some(_) => format!("{} (by [control.postgres] tool)", self.path(program)),
            None => self.path(program),
        }
    }

    /// A call of a PostgreSQL program. `settings` are environment variables for it, none of them secret.
    pub fn command(&self, program: &str, settings: &[(&str, &str)]) -> Command {
        self.run(&self.path(program), settings)
    }

    /// A call of any program at the tools' place.
    pub fn run(&self, program: &str, settings: &[(&str, &str)]) -> Command {
        let mut words = self.words(program, settings).into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        match self.prefix {
            Some(_) => command.envs(self.variables.iter().map(|(k, v)| (*k, v.as_str()))),
            None => command.envs(settings.iter().copied()),
        };
        command
    }

    /// The words of a call, for a caller that wraps them; [`Tools::variables`] belong to its environment.
    pub fn words(&self, program: &str, settings: &[(&str, &str)]) -> Vec<String> {
        let Some(prefix) = &self.prefix else { return vec![program.to_owned()] };
        let mut words = vec!["sh".to_owned(), "-c".into(), format!("exec {prefix} \"$@\""), "tool".into()];
        if !settings.is_empty() {
            words.push("env".into());
            words.extend(settings.iter().map(|(name, value)| format!("{name}={value}")));
        }
        words.push(program.to_owned());
        words
    }

    /// What the prefix may refer to.
    pub fn variables(&self) -> &[(&'static str, String)] {
        &self.variables
    }

    /// Where a program lies.
    pub fn path(&self, program: &str) -> String {
        self.bin.join(program).into_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_folder_is_private() {
        let home = tempfile::tempdir().unwrap();
        let home = Utf8Path::from_path(home.path()).unwrap();
        let mode = |tools: &Tools| {
            let meta = tools.temporary("x-", Some(home)).unwrap().path().metadata().unwrap();
            (meta.mode() & 0o777, meta.uid())
        };
        let own = nix::unistd::geteuid().as_raw();
        assert_eq!(mode(&Tools::here("/bin".into())), (0o700, own));
        let elsewhere = Tools { prefix: Some("env".into()), ..Tools::here("/bin".into()) };
        assert_eq!(mode(&elsewhere), (0o700, own));
        // Only root can give a folder away.
        let reader = if nix::unistd::geteuid().is_root() { 65534 } else { own };
        assert_eq!(mode(&Tools { owner: Some((reader, reader)), ..elsewhere }), (0o700, reader));
    }

    #[test]
    fn an_owner_that_cannot_be_told_is_not_taken_for_none() {
        let home = tempfile::tempdir().unwrap();
        let looped = home.path().join("loop");
        std::os::unix::fs::symlink(&looped, &looped).unwrap();
        let of = |pgdata: &str| {
            let text = format!(
                "[postgres]\nurl='postgres://h/d'\npgdata='{pgdata}'\n[kafka]\nbootstrap='h:1'\n[connect]\nurl='http://h'\n\
                 [registry]\nurl='http://h'\nflavour='apicurio'\n[repository]\npath='/r'\n\
                 [control.postgres]\nstart=''\nstop=''\nrunning=''\ntool='env'\n"
            );
            Tools::of(&toml::from_str::<Config>(&text).unwrap()).temporary("x-", None)
        };
        assert!(of("/no/such/folder").is_ok());
        let error = of(looped.to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains("owner of") && error.contains("loop"), "{error}");
    }

    #[test]
    fn a_prefix_stands_before_the_program_and_its_settings() {
        let mut tools = Tools::here(Utf8Path::new("/usr/lib/postgresql/18/bin"));
        tools.prefix = Some("env MARK=\"$CDC_DRILL_DATA\"".into());
        tools.variables = vec![("CDC_DRILL_DATA", "/a b".into())];
        let mut command = tools.run("sh", &[("LC_ALL", "C")]);
        let output = command.args(["-c", "echo $MARK $LC_ALL $1", "x", "argument of two"]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "/a b C argument of two\n");
        assert!(tools.name("postgres").starts_with("/usr/lib/postgresql/18/bin/postgres (by"));
    }

    #[test]
    fn without_a_prefix_a_program_is_called_by_its_path() {
        let command = Tools::here(Utf8Path::new("/bin")).command("pg_waldump", &[("TZ", "UTC")]);
        assert_eq!(command.get_program(), "/bin/pg_waldump");
        assert!(command.get_envs().any(|(k, v)| k == "TZ" && v.is_some_and(|v| v == "UTC")));
        assert_eq!(Tools::default().command("pg_waldump", &[]).get_program(), "pg_waldump");
    }
}
