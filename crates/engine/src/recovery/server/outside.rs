//! Configuration files outside the data folder, on the machine that the restored server is going to run on.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use super::configuration::AUTO;
use crate::{
    backup::{Point, Store, format::layout::OUTSIDE},
    recovery::RecoveryError,
};
use cdc_model::units::IfThere;
use cdc_postgres::configuration::{Kind, Syntax, Walk};

/// What the server's configuration needs outside its data folder and is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outside {
    /// What the recovery point has, with its content.
    pub(crate) of_point: BTreeMap<Utf8PathBuf, Vec<u8>>,
    /// What the point has not, or what cannot be read, and why.
    pub(crate) missing: Vec<String>,
    /// What the point has and this machine has not, and which nothing names any more.
    pub(crate) left_out: Vec<Utf8PathBuf>,
}

impl Outside {
    /// Walks through the configuration as it is now. In the place of what is not there the recovery point's is read.
    pub(crate) fn look(point: &Point, pgdata: &Utf8Path, main: &Utf8Path) -> Result<Outside, RecoveryError> {
        Ok(Outside::among(&saved(point)?, pgdata, main))
    }

    fn among(saved: &BTreeMap<Utf8PathBuf, Vec<u8>>, pgdata: &Utf8Path, main: &Utf8Path) -> Outside {
        let mut found = Outside::default();
        let mut walk = Walk::from([
            (main.to_owned(), Syntax::Settings),
            (pgdata.join(AUTO), Syntax::Settings),
            (pgdata.join("pg_hba.conf"), Syntax::Access),
            (pgdata.join("pg_ident.conf"), Syntax::Access),
        ]);
        while let Some(next) = walk.pop() {
            let path = &next.path;
            // What lies in the data folder is restored with it.
            let is_within = path.starts_with(pgdata);
            if next.kind == Kind::Folder {
                let there = path.read_dir_utf8().if_there();
                let there = there.and_then(|entries| entries.map(|all| all.collect::<Result<Vec<_>, _>>()).transpose());
                match there {
                    Ok(Some(entries)) => walk.lists(&next, entries.iter().map(|entry| entry.file_name())),
                    Ok(None) if is_within => {}
                    Ok(None) => {
                        let names = saved.keys().filter(|file| file.parent() == Some(path));
                        walk.lists(&next, names.filter_map(|file| file.file_name()));
                    }
                    Err(error) => found.missing.push(format!("{path}: {error}")),
                }
                continue;
            }
            match (std::fs::read(path).if_there(), saved.get(path)) {
                (Ok(Some(bytes)), _) => walk.holds(&next, &bytes),
                (Ok(None), _) if is_within => {}
                (Ok(None), Some(bytes)) => {
                    walk.holds(&next, bytes);
                    found.of_point.insert(path.clone(), bytes.clone());
                }
                (Ok(None), None) if next.kind == Kind::FileIfThere => {}
                (Ok(None), None) => found.missing.push(path.to_string()),
                (Err(error), _) => found.missing.push(format!("{path}: {error}")),
            }
        }
        let is_left_out = |path: &&Utf8PathBuf| !found.of_point.contains_key(*path) && is_gone(path);
        found.left_out = saved.keys().filter(is_left_out).cloned().collect();
        found
    }

    /// What a person should know.
    pub(crate) fn notes(&self) -> Vec<String> {
        let named =
            |what: &str, files: Vec<String>| (!files.is_empty()).then(|| format!("{what}: {}", files.join(", ")));
        let of_point = self.of_point.keys().map(ToString::to_string).collect();
        let taken = "configuration outside the data folder is gone, and made as the recovery point has it";
        let missing = "configuration names files that neither this machine nor the recovery point has";
        let left_out = "configuration outside the data folder that the recovery point has and nothing on this machine names is left out";
        let unnamed = self.left_out.iter().map(ToString::to_string).collect();
        let notes = [named(taken, of_point), named(missing, self.missing.clone()), named(left_out, unnamed)];
        notes.into_iter().flatten().collect()
    }

    /// What [`Outside::put`] is going to make: files, and folders before what is in them.
    pub(crate) fn to_make(&self) -> Vec<Utf8PathBuf> {
        let folders = self.of_point.keys().flat_map(|file| file.ancestors().skip(1)).filter(|folder| is_gone(folder));
        let folders: BTreeSet<Utf8PathBuf> = folders.map(Utf8Path::to_owned).collect();
        folders.into_iter().chain(self.of_point.keys().cloned()).collect()
    }

    /// Makes what is not there, for this account alone.
    pub(crate) fn put(&self, owner: Option<(u32, u32)>) -> Result<(), RecoveryError> {
        let store = Store::owned(Utf8Path::new("/"), owner);
        for (path, bytes) in &self.of_point {
            store.folder(path.parent().unwrap_or(Utf8Path::new("/")))?;
            store.write(path, bytes)?;
        }
        Ok(())
    }
}

/// Whether nothing is there. What cannot be looked at may be there.
fn is_gone(path: &Utf8Path) -> bool {
    matches!(std::fs::symlink_metadata(path).if_there(), Ok(None))
}

/// What a recovery point has, by the paths where it was.
fn saved(point: &Point) -> Result<BTreeMap<Utf8PathBuf, Vec<u8>>, RecoveryError> {
    let mut saved = BTreeMap::new();
    for file in &point.manifest.files {
        if let Some(below) = file.path.strip_prefix(OUTSIDE) {
            saved.insert(Utf8PathBuf::from(below), point.file(&file.path)?);
        }
    }
    Ok(saved)
}

/// Removes what was made again; a file that somebody has changed since stays, and so does a folder with something in it.
pub(crate) fn remove_made(point: &Point, made: &[Utf8PathBuf]) -> Result<(), RecoveryError> {
    let saved = if made.is_empty() { BTreeMap::new() } else { saved(point)? };
    for path in made.iter().rev() {
        match std::fs::remove_dir(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {}
            // A folder: refused where something is in it.
            Ok(()) | Err(_) => continue,
        }
        let now = std::fs::read(path).if_there().map_err(|e| RecoveryError::io("read", path, e))?;
        if now.is_some() && now.as_ref() == saved.get(path) {
            std::fs::remove_file(path).if_there().map_err(|e| RecoveryError::io("remove", path, e))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_taken_from_the_point_and_what_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        let (etc, data) = (root.join("etc"), root.join("data"));
        std::fs::create_dir_all(&data).unwrap();
        let main = format!("hba_file = '{etc}/pg_hba.conf'\ninclude_dir 'conf.d'\ninclude '{data}/own.conf'\n");
        let saved: BTreeMap<Utf8PathBuf, Vec<u8>> = [
            ("main", main.as_str()),
            ("pg_hba.conf", "local all @admins trust\nlocal all @lost trust\n"),
            ("admins", "alice\n"),
            ("conf.d/a.conf", "wal_level = logical\n"),
            ("unused", ""),
        ]
        .map(|(name, text)| (etc.join(name), text.as_bytes().to_vec()))
        .into();
        let look = || Outside::among(&saved, &data, &etc.join("main"));
        let taken = |found: &Outside| {
            found.of_point.keys().map(|p| p.strip_prefix(&etc).unwrap().to_string()).collect::<Vec<_>>()
        };
        let all = look();
        assert_eq!(taken(&all), ["admins", "conf.d/a.conf", "main", "pg_hba.conf"]);
        assert_eq!(all.missing, [etc.join("lost").to_string()]);
        let notes = all.notes();
        assert!(notes[0].contains("conf.d/a.conf") && notes[1].contains("/lost"), "{notes:?}");
        assert!(notes[2].ends_with(&format!("is left out: {etc}/unused")), "{notes:?}");
        let made: Vec<_> = all.to_make().iter().take(2).map(ToString::to_string).collect();
        assert_eq!(made, [etc.to_string(), etc.join("conf.d").to_string()]);
        all.put(None).unwrap();
        assert_eq!(std::fs::read_to_string(etc.join("admins")).unwrap(), "alice\n");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(etc.join("main")).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(taken(&look()), [""; 0]);
        // Somebody has removed it since: a folder that is there is as it is.
        std::fs::remove_file(etc.join("conf.d/a.conf")).unwrap();
        std::fs::remove_file(etc.join("admins")).unwrap();
        let now = look();
        assert_eq!(taken(&now), ["admins"]);
        assert!(now.left_out.contains(&etc.join("conf.d/a.conf")), "it is named");
    }
}
