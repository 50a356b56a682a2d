//! The configuration files of a data folder. A base backup has them as they were; what somebody has changed since stays changed.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use super::folder::recovery_settings_in;
use crate::{
    backup::{Store, hash::sha256},
    recovery::RecoveryError,
};
use cdc_model::units::IfThere;
use cdc_postgres::configuration::{Kind, Mention, Syntax, is_included, mentioned};

/// The server's main file.
pub(crate) const MAIN: &str = "postgresql.conf";
/// What `ALTER SYSTEM` writes; always in the data folder.
pub(super) const AUTO: &str = "postgresql.auto.conf";
/// Where they are unless the main file says otherwise.
const ACCESS: [&str; 2] = ["pg_hba.conf", "pg_ident.conf"];

/// Configuration files by their path within the data folder, with their content.
pub(crate) type Files = BTreeMap<Utf8PathBuf, Vec<u8>>;

/// What the files of one data folder are, and which could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Configuration {
    pub(crate) files: Files,
    /// Files that are missing or cannot be read, and why.
    pub(crate) unreadable: Vec<String>,
}

impl Configuration {
    /// Reads the configuration of a data folder: the main file where it is there, everything that it includes, who may connect,
    /// and what `ALTER SYSTEM` set, without the settings of a recovery. Files outside the data folder are not restored and stay as
    /// they are.
    pub(crate) fn of(pgdata: &Utf8Path, main_is_outside: bool) -> Configuration {
        let mut found = Configuration::default();
        let mut seen = BTreeSet::new();
        if !main_is_outside {
            found.take(pgdata, (MAIN.into(), Syntax::Settings), true, &mut seen);
        }
        for name in ACCESS {
            // A server whose main file is elsewhere has these elsewhere too, as a rule.
            found.take(pgdata, (name.into(), Syntax::Access), !main_is_outside, &mut seen);
        }
        found.take(pgdata, (AUTO.into(), Syntax::Settings), true, &mut seen);
        if let Some(bytes) = found.files.get_mut(Utf8Path::new(AUTO)) {
            *bytes = recovery_settings_in(&String::from_utf8_lossy(bytes)).0.into_bytes();
        }
        found
    }

    fn take(
        &mut self,
        pgdata: &Utf8Path,
        (name, syntax): (Utf8PathBuf, Syntax),
        expected: bool,
        seen: &mut BTreeSet<Utf8PathBuf>,
    ) {
        if !seen.insert(name.clone()) {
            return;
        }
        let path = pgdata.join(&name);
        let bytes = match std::fs::read(&path).if_there() {
            Ok(Some(bytes)) => bytes,
            Ok(None) if !expected => return,
            Ok(None) => return self.unreadable.push(format!("{path}: missing")),
            Err(error) => return self.unreadable.push(format!("{path}: {error}")),
        };
        let named = mentioned(&String::from_utf8_lossy(&bytes), syntax);
        self.files.insert(name.clone(), bytes);
        let beside = path.parent().unwrap_or(pgdata).to_owned();
        for Mention { kind, path, syntax } in named {
            // Relative to the file that names it; these two files to the data folder, which is the same for the main file.
            let full = beside.join(path);
            let Ok(within) = full.strip_prefix(pgdata).map(Utf8Path::to_owned) else { continue };
            match kind {
                Kind::File => self.take(pgdata, (within, syntax), true, seen),
                Kind::FileIfThere => self.take(pgdata, (within, syntax), false, seen),
                Kind::Folder => match included(&full) {
                    Ok(names) => {
                        for name in names {
                            self.take(pgdata, (within.join(name), syntax), true, seen);
                        }
                    }
                    Err(error) => self.unreadable.push(format!("{full}: {error}")),
                },
            }
        }
    }

    /// The files that are not in `base` with the same content.
    pub(crate) fn differing(&self, base: &Configuration) -> Vec<Utf8PathBuf> {
        let other = |(name, bytes): &(&Utf8PathBuf, &Vec<u8>)| base.files.get(*name) != Some(*bytes);
        self.files.iter().filter(other).map(|(name, _)| name.clone()).collect()
    }

    /// Writes the files into a data folder, for its owner, in the place of those of `base`; one that is only there is removed:
    /// somebody has removed it since. Where anything could not be read nobody knows that: the data folder may be lost.
    pub(crate) fn put_into(&self, store: &Store, base: &Configuration) -> Result<(), RecoveryError> {
        for name in self.differing(base) {
            let path = store.root().join(&name);
            store.folder(path.parent().unwrap_or(store.root()))?;
            store.write(&path, &self.files[&name])?;
        }
        let known = self.unreadable.is_empty();
        for name in base.files.keys().filter(|name| known && !self.files.contains_key(*name)) {
            let path = store.root().join(name);
            std::fs::remove_file(&path).if_there().map_err(|e| RecoveryError::io("remove", &path, e))?;
        }
        Ok(())
    }

    /// The checksum of each file.
    pub(crate) fn checksums(&self) -> impl Iterator<Item = (&Utf8Path, String)> {
        self.files.iter().map(|(name, bytes)| (name.as_path(), sha256(bytes)))
    }
}

/// What `include_dir` takes, as the server does.
fn included(folder: &Utf8Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in folder.read_dir_utf8()? {
        let name = entry?.file_name().to_owned();
        if is_included(&name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, Utf8PathBuf) {
        let made = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(made.path().to_owned()).unwrap();
        for (name, text) in files {
            std::fs::create_dir_all(path.join(name).parent().unwrap()).unwrap();
            std::fs::write(path.join(name), text).unwrap();
        }
        (made, path)
    }

    #[test]
    fn files_outside_the_data_folder_are_left_alone() {
        let (_old, old) = folder(&[("postgresql.auto.conf", "a = 1\n"), ("postgresql.conf", "stray")]);
        let found = Configuration::of(&old, true);
        assert_eq!(found.files.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["postgresql.auto.conf"]);
        assert_eq!(found.unreadable, Vec::<String>::new());
    }

    #[test]
    fn lists_that_access_files_name_are_carried() {
        let (_folder, path) = folder(&[
            ("postgresql.conf", "work_mem = '4MB'\n"),
            ("pg_hba.conf", "local app @lists/admins trust\n"),
            ("pg_ident.conf", ""),
            ("lists/admins", "alice\n@more\n"),
            ("lists/more", "bob\n"),
            ("postgresql.auto.conf", ""),
        ]);
        let found = Configuration::of(&path, false);
        assert!(["lists/admins", "lists/more"].iter().all(|name| found.files.contains_key(Utf8Path::new(name))));
        assert!(found.unreadable.is_empty(), "{:?}", found.unreadable);
    }

    #[test]
    fn a_lost_data_folder_takes_nothing_of_the_backup_away() {
        let (_old, old) = folder(&[]);
        let (_fresh, fresh) = folder(&[
            ("postgresql.conf", "include_dir 'conf.d'\n"),
            ("conf.d/archive.conf", "archive_mode = on\n"),
            ("pg_hba.conf", "local all all peer\n"),
            ("pg_ident.conf", ""),
            ("postgresql.auto.conf", ""),
        ]);
        for outside in [false, true] {
            let base = Configuration::of(&fresh, outside);
            Configuration::of(&old, outside).put_into(&Store::new(&fresh).unwrap(), &base).unwrap();
            assert_eq!(Configuration::of(&fresh, outside), base);
        }
        assert!(fresh.join("conf.d/archive.conf").exists() && fresh.join("pg_hba.conf").exists());
    }

    #[test]
    fn what_was_changed_since_the_backup_stays_changed() {
        let main = "include_dir 'conf.d'\ninclude_if_exists = 'not/there'\n# include 'comment'\n";
        let (_old, old) = folder(&[
            ("postgresql.conf", main),
            ("conf.d/memory.conf", "work_mem = '8MB'\n"),
            ("conf.d/readme.txt", "no setting"),
            ("pg_hba.conf", "host all all 10.0.0.0/8 scram-sha-256\n"),
            ("pg_ident.conf", ""),
            ("postgresql.auto.conf", "work_mem = '4MB'\nrestore_command = 'x'\n"),
        ]);
        let (_fresh, fresh) = folder(&[
            ("postgresql.conf", main),
            ("conf.d/memory.conf", "work_mem = '2MB'\n"),
            ("conf.d/gone.conf", "work_mem = '1MB'\n"),
            ("pg_hba.conf", "local all all peer\n"),
            ("pg_ident.conf", ""),
            ("postgresql.auto.conf", ""),
        ]);
        let (now, base) = (Configuration::of(&old, false), Configuration::of(&fresh, false));
        assert_eq!(now.unreadable, Vec::<String>::new());
        let differing: Vec<_> = now.differing(&base).into_iter().map(Utf8PathBuf::into_string).collect();
        assert_eq!(differing, ["conf.d/memory.conf", "pg_hba.conf", "postgresql.auto.conf"]);
        now.put_into(&Store::new(&fresh).unwrap(), &base).unwrap();
        assert!(!fresh.join("conf.d/gone.conf").exists(), "somebody has removed it");
        let again = Configuration::of(&fresh, false);
        assert_eq!(again, now);
        assert_eq!(std::fs::read_to_string(fresh.join("postgresql.auto.conf")).unwrap(), "work_mem = '4MB'\n");
        base.put_into(&Store::new(&fresh).unwrap(), &again).unwrap();
        assert_eq!(Configuration::of(&fresh, false), base, "and back");
    }

    #[test]
    fn what_cannot_be_read_is_named_and_stays_as_it_was_backed_up() {
        let (_old, old) = folder(&[("postgresql.conf", ""), ("postgresql.auto.conf", "")]);
        let (_fresh, fresh) = folder(&[("pg_hba.conf", "local all all peer\n"), ("postgresql.conf", "")]);
        let now = Configuration::of(&old, false);
        assert!(now.unreadable[0].ends_with("pg_hba.conf: missing"), "{:?}", now.unreadable);
        now.put_into(&Store::new(&fresh).unwrap(), &Configuration::of(&fresh, false)).unwrap();
        assert!(fresh.join("pg_hba.conf").exists());
    }
}
