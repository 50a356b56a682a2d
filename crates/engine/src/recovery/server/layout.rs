//! Where the parts of a data folder lie: behind links, on file systems of their own, or in a folder for configurations.

use camino::{Utf8Path, Utf8PathBuf};
use nix::{
    fcntl::{AT_FDCWD, AtFlags},
    unistd::{AccessFlags, faccessat},
};
use serde::{Deserialize, Serialize};

use crate::{backup::files, recovery::RecoveryError};
use cdc_model::units::IfThere;

/// What does not lie in the data folder itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layout {
    /// `postgresql.conf`, where it is not in the data folder: it is neither backed up nor restored.
    pub(crate) config_file: Option<Utf8PathBuf>,
    /// The folder that `pg_wal` is a link to.
    pub(crate) wal: Option<Utf8PathBuf>,
}

/// The data folder itself, where its name is that of a link: it is exchanged behind the link, on its own file system. The end of the
/// link need not be there.
pub(crate) fn resolved(pgdata: &Utf8Path) -> Result<Utf8PathBuf, RecoveryError> {
    Ok(files::behind_links(pgdata)?)
}

/// Whether two paths lead to one folder: PostgreSQL shows its own without `..` and without double slashes.
pub(crate) fn is_same(one: &Utf8Path, other: &Utf8Path) -> bool {
    let real = |path: &Utf8Path| path.canonicalize_utf8().unwrap_or_else(|_| path.to_owned());
    one == other || real(one) == real(other)
}

/// The folder that `pg_wal` is a link to; none where it is a folder of the data folder's own, or not there.
pub(crate) fn wal_elsewhere(pgdata: &Utf8Path) -> Result<Option<Utf8PathBuf>, RecoveryError> {
    let (wal, own) = (resolved(&pgdata.join("pg_wal"))?, pgdata.join("pg_wal"));
    Ok((wal != own).then_some(wal))
}

/// Requires that another folder can be put in the place of this one: it is no mount point, and its parent can be written to.
pub(crate) fn refuse_fixed(what: &str, folder: &Utf8Path) -> Result<(), RecoveryError> {
    let parent = match folder.parent() {
        None => folder,
        Some(relative) if relative.as_str().is_empty() => Utf8Path::new("."),
        Some(parent) => parent,
    };
    if is_mount_point(folder)? {
        return Err(RecoveryError::impossible(
            format!("{what} {folder}"),
            "a folder that another one can be put in the place of",
            "a mount point: it cannot be renamed, and what is beside it lies on another file system",
            format!(
                "with the server down, move its content into a folder on that file system (mkdir {folder}/main) and make that \
                 the {what}"
            ),
        ));
    }
    match faccessat(AT_FDCWD, parent.as_std_path(), AccessFlags::W_OK, AtFlags::AT_EACCESS) {
        Ok(()) => Ok(()),
        Err(error) => Err(RecoveryError::impossible(
            format!("folder {parent}"),
            format!("write access: the restored {what} is made beside {folder}, and the two are exchanged by renaming"),
            error.to_string(),
            "run the recovery as root, or let this account write to that folder",
        )),
    }
}

/// Whether a folder is the root of a mount, also of one that shows a part of the same file system.
fn is_mount_point(folder: &Utf8Path) -> Result<bool, RecoveryError> {
    let Some(real) = folder.canonicalize_utf8().if_there().map_err(|e| RecoveryError::io("look at", folder, e))? else {
        return Ok(false);
    };
    let table = Utf8Path::new("/proc/self/mountinfo");
    let text = std::fs::read_to_string(table).map_err(|e| RecoveryError::io("read", table, e))?;
    Ok(mount_points(&text).any(|point| point == real.as_str()))
}

/// The mount points in a `mountinfo`: its fifth field, with blanks and backslashes in octal.
fn mount_points(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter_map(|line| line.split(' ').nth(4)).map(|field| {
        let mut point = field.to_owned();
        for (octal, character) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
            point = point.replace(octal, character);
        }
        point
    })
}

/// Refuses tablespaces, by name and place: their folders would be shared by the old data folder and the restored one.
pub(crate) fn refuse_tablespaces(pgdata: &Utf8Path) -> Result<(), RecoveryError> {
    let folder = pgdata.join("pg_tblspc");
    let unlisted = |e| RecoveryError::io("list", &folder, e);
    let Some(entries) = folder.read_dir_utf8().if_there().map_err(unlisted)? else { return Ok(()) };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unlisted)?;
        let place = entry.path().read_link_utf8().unwrap_or_else(|_| entry.path().to_owned());
        found.push(format!("{} at {place}", entry.file_name()));
    }
    if found.is_empty() {
        return Ok(());
    }
    found.sort();
    Err(RecoveryError::impossible(
        folder.as_str(),
        "no tablespace outside the data folder",
        format!("{} (by oid): {}", found.len(), found.join(", ")),
        "a cluster with tablespaces must be restored by hand: their folders would be shared with the old cluster",
    ))
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use cdc_model::units::Failure;

    pub(in crate::recovery::server) fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
        let made = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(made.path().to_owned()).unwrap();
        (made, path)
    }

    #[test]
    fn a_link_is_followed_also_to_a_folder_that_is_gone() {
        let (_made, root) = folder();
        std::fs::create_dir(root.join("volume")).unwrap();
        symlink("volume/main", root.join("inner")).unwrap();
        symlink(root.join("inner"), root.join("main")).unwrap();
        assert_eq!(resolved(&root.join("main")).unwrap(), root.join("volume/main"));
        std::fs::create_dir(root.join("volume/main")).unwrap();
        assert_eq!(resolved(&root.join("main")).unwrap(), root.join("volume/main"));
        assert_eq!(resolved(&root.join("main/")).unwrap(), root.join("volume/main"));
        assert_eq!(resolved(&root.join("volume")).unwrap(), root.join("volume"));
        assert!(is_same(&root.join("volume/../volume/main"), &root.join("main")));
        assert!(
            !is_same(&root.join("volume"), &root.join("main"))
                && is_same(Utf8Path::new("/gone"), Utf8Path::new("/gone"))
        );
        symlink(root.join("circle"), root.join("circle")).unwrap();
        assert!(resolved(&root.join("circle")).unwrap_err().to_string().contains("too many links"));
    }

    #[test]
    fn a_link_in_the_place_of_pg_wal_is_seen() {
        let (_made, root) = folder();
        let data = root.join("data");
        std::fs::create_dir_all(data.join("pg_wal")).unwrap();
        assert_eq!(wal_elsewhere(&data).unwrap(), None);
        std::fs::remove_dir(data.join("pg_wal")).unwrap();
        symlink(root.join("wal"), data.join("pg_wal")).unwrap();
        assert_eq!(wal_elsewhere(&data).unwrap(), Some(root.join("wal")));
    }

    #[test]
    fn mount_points_are_read_as_they_are_written() {
        let text = "36 35 98:0 /mnt1 /var/lib/my\\040data rw,noatime master:1 - ext3 /dev/root rw\n25 1 0:5 / / rw - overlay o rw\n";
        assert_eq!(mount_points(text).collect::<Vec<_>>(), ["/var/lib/my data", "/"]);
        let error = refuse_fixed("data folder", Utf8Path::new("/proc")).unwrap_err();
        assert_eq!(error.exit(), cdc_model::units::Exit::PlanImpossible);
        assert!(error.to_string().contains("a mount point"), "{error}");
    }

    #[test]
    fn a_parent_that_cannot_be_written_to_is_named() {
        let (_made, root) = folder();
        std::fs::create_dir(root.join("data")).unwrap();
        refuse_fixed("data folder", &root.join("data")).unwrap();
        // Nothing keeps root from a folder that is there.
        let closed = root.join("closed");
        if !nix::unistd::geteuid().is_root() {
            std::fs::create_dir(&closed).unwrap();
            std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o500)).unwrap();
        }
        let error = refuse_fixed("data folder", &closed.join("data")).unwrap_err().to_string();
        assert!(error.starts_with(&format!("folder {closed}: expected write access")), "{error}");
    }

    #[test]
    fn tablespaces_are_named_with_their_places() {
        let (_made, data) = folder();
        refuse_tablespaces(&data).unwrap();
        std::fs::create_dir(data.join("pg_tblspc")).unwrap();
        refuse_tablespaces(&data).unwrap();
        symlink("/fast/disk", data.join("pg_tblspc/16390")).unwrap();
        let error = refuse_tablespaces(&data).unwrap_err();
        assert_eq!(error.exit(), cdc_model::units::Exit::PlanImpossible);
        assert!(error.to_string().contains("16390 at /fast/disk"), "{error}");
    }
}
