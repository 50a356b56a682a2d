//! Files that hold rows or secrets, in a repository and beside a data folder: written atomically, and read by
//! their owner alone. Where a path is the address of an object in a bucket, that object is read and written.

use std::{
    borrow::Cow,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    BackupError,
    seal::Seal,
    storage::{self, Object},
};
use cdc_model::units::IfThere;

/// Connector configurations hold passwords, base backups and WAL hold everything: only the owner reads them.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
/// More links than that are a circle.
const LINKS: usize = 40;
/// A copy of a program, for the owner to run.
const PROGRAM_MODE: u32 = 0o700;
/// Makes files and folders below a root that only one account can read: files have mode 0600, folders 0700. Everything that can
/// hold rows or secrets is made here; `tests/fast/layout.rs` holds that.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: Utf8PathBuf,
    /// Present when this process is root and the files are to belong to another account, which must be able to read, archive and
    /// delete what is written here.
    owner: Option<(u32, u32)>,
    /// How content is kept that is written through the store's writers; what is written by [`Store::write`] stays as it is.
    seal: Seal,
}

impl Store {
    /// Files that belong to the root's owner. The root must be there.
    pub(crate) fn new(root: &Utf8Path) -> Result<Store, BackupError> {
        Store::owned_like(root, root)
    }

    /// A store whose files belong to the owner of `like`.
    pub(crate) fn owned_like(root: &Utf8Path, like: &Utf8Path) -> Result<Store, BackupError> {
        if object("open", like)?.is_some() {
            return Ok(Store { root: root.to_owned(), owner: None, seal: Seal::default() });
        }
        let meta = fs::metadata(like).map_err(BackupError::io("look at", like))?;
        let foreign = nix::unistd::geteuid().is_root() && (meta.uid() != 0 || meta.gid() != 0);
        let owner = foreign.then(|| (meta.uid(), meta.gid()));
        Ok(Store { root: root.to_owned(), owner, seal: Seal::default() })
    }

    /// Files that belong to the given account and group, or to this process.
    pub(crate) fn owned(root: &Utf8Path, owner: Option<(u32, u32)>) -> Store {
        Store { root: root.to_owned(), owner, seal: Seal::default() }
    }

    /// Makes the root itself, which belongs to this process, and opens it; the folders above it get the usual modes.
    pub(crate) fn make(root: &Utf8Path) -> Result<Store, BackupError> {
        if object("open", root)?.is_some() {
            return Store::new(root);
        }
        if let Some(above) = root.parent().filter(|above| !above.as_str().is_empty()) {
            fs::create_dir_all(above).map_err(BackupError::io("make folder", above))?;
        }
        match fs::DirBuilder::new().mode(FOLDER_MODE).create(root) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(BackupError::io("make folder", root)(e)),
        }
        Store::new(root)
    }

    /// The same, where the root, if it has to be made, belongs to the owner of `like`.
    pub(crate) fn make_like(root: &Utf8Path, like: &Utf8Path) -> Result<Store, BackupError> {
        let above = root.parent().filter(|above| !above.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
        fs::create_dir_all(above).map_err(BackupError::io("make folder", above))?;
        Store::owned_like(above, like)?.folder(root)?;
        Store::new(root)
    }

    /// The same store of a repository that keeps its content like this.
    pub(crate) fn with_seal(self, seal: Seal) -> Store {
        Store { seal, ..self }
    }

    /// How content is kept.
    pub(crate) fn seal(&self) -> &Seal {
        &self.seal
    }

    /// Writes content, encrypted where the repository is, as [`Store::write`] does. The bytes that are stored.
    pub(crate) fn write_content<'b>(&self, path: &Utf8Path, bytes: &'b [u8]) -> Result<Cow<'b, [u8]>, BackupError> {
        let stored = self.seal.seal(path, bytes)?;
        self.write(path, &stored)?;
        Ok(stored)
    }

    pub(crate) fn root(&self) -> &Utf8Path {
        &self.root
    }

    fn own(&self, path: &Utf8Path) -> Result<(), BackupError> {
        match self.owner {
            Some((uid, gid)) => {
                std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(BackupError::io("change owner of", path))
            }
            None => Ok(()),
        }
    }

    /// Makes a folder and its missing parents below the root. A bucket needs none.
    pub(crate) fn folder(&self, path: &Utf8Path) -> Result<(), BackupError> {
        if object("make folder", path)?.is_some() || is_folder(path)? {
            return Ok(());
        }
        if let Some(parent) = path.parent().filter(|p| p.starts_with(&self.root)) {
            self.folder(parent)?;
        }
        match fs::DirBuilder::new().mode(FOLDER_MODE).create(path) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && is_folder(path)? => return Ok(()),
            Err(e) => return Err(BackupError::io("make folder", path)(e)),
        }
        self.own(path)?;
        match path.parent() {
            Some(parent) => sync_folder(parent),
            None => Ok(()),
        }
    }

    /// Makes the names in a folder, and its own and those of the folders above it up to the root, survive a power cut.
    pub(crate) fn sync(&self, folder: &Utf8Path) -> Result<(), BackupError> {
        if storage::is_in_a_bucket(&self.root) {
            return Ok(());
        }
        folder.ancestors().take_while(|above| above.starts_with(&self.root)).try_for_each(sync_folder)
    }

    /// Opens a new file that must not exist.
    pub(crate) fn create(&self, path: &Utf8Path) -> Result<File, BackupError> {
        self.create_with(path, FILE_MODE)
    }

    fn create_with(&self, path: &Utf8Path, mode: u32) -> Result<File, BackupError> {
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        let file = file.map_err(BackupError::io("create", path))?;
        self.own(path)?;
        Ok(file)
    }

    /// Opens a file for reading and appending, making it when it is missing.
    pub(crate) fn append(&self, path: &Utf8Path) -> Result<File, BackupError> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).mode(FILE_MODE);
        match options.clone().create_new(true).open(path) {
            Ok(file) => {
                self.own(path)?;
                Ok(file)
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                options.open(path).map_err(BackupError::io("open", path))
            }
            Err(e) => Err(BackupError::io("open", path)(e)),
        }
    }

    /// Writes a whole file so that it is either there completely or not at all, and stays after a power cut.
    pub(crate) fn write(&self, path: &Utf8Path, bytes: &[u8]) -> Result<(), BackupError> {
        if let Some(object) = object("write", path)? {
            return object.write(bytes).map_err(BackupError::io("write", path));
        }
        self.fill(path, FILE_MODE, |file| file.write_all(bytes))
    }

    /// Changes a file by what is in it; `change` says what it holds then, or none where it stays. No change of another process is lost:
    /// in a folder they wait for one another, where the file system has locks, and in a bucket `change` may be asked again.
    pub(crate) fn change(
        &self,
        path: &Utf8Path,
        change: impl Fn(Option<Vec<u8>>) -> Result<Option<Vec<u8>>, BackupError>,
    ) -> Result<(), BackupError> {
        let Some(object) = object("write", path)? else {
            // The folder, as the file is replaced. The kernel releases it with the process.
            let folder =
                path.parent().map(File::open).transpose().map_err(BackupError::io("open the folder of", path))?;
            let _locked = folder.filter(|folder| folder.lock().is_ok());
            return change(read_if_there(path)?)?.map_or(Ok(()), |bytes| self.write(path, &bytes));
        };
        loop {
            let there = object.read_versioned().if_there().map_err(BackupError::io("read", path))?;
            let (bytes, version) = there.unzip();
            let Some(bytes) = change(bytes)? else { return Ok(()) };
            let put = match &version {
                None => object.create(&bytes),
                Some(version) => object.update(&bytes, version),
            };
            match put {
                // Another writer was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                put => return put.map(drop).map_err(BackupError::io("write", path)),
            }
        }
    }

    /// Replaces a whole file, which others see as it was or as it is. It need not stay after a power cut.
    pub(crate) fn replace(&self, path: &Utf8Path, bytes: &[u8]) -> Result<(), BackupError> {
        let temporary = temporary_beside(path);
        let mut file = self.create_with(&temporary, FILE_MODE)?;
        let written = file.write_all(bytes).and_then(|()| fs::rename(&temporary, path));
        written.map_err(|e| {
            let _ = fs::remove_file(&temporary);
            BackupError::io("write", path)(e)
        })
    }

    /// Copies a file's content, as durably as [`Store::write`].
    pub(crate) fn copy(&self, from: &Utf8Path, to: &Utf8Path) -> Result<(), BackupError> {
        let mut source = storage::open(from)?;
        self.fill(to, FILE_MODE, |file| io::copy(&mut source, file).map(drop))
    }

    /// Copies a program for the owner to run.
    pub(crate) fn copy_program(&self, from: &Utf8Path, to: &Utf8Path) -> Result<(), BackupError> {
        let mut source = File::open(from).map_err(BackupError::io("open", from))?;
        self.fill(to, PROGRAM_MODE, |file| io::copy(&mut source, file).map(drop))
    }

    fn fill(
        &self,
        path: &Utf8Path,
        mode: u32,
        content: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), BackupError> {
        let temporary = temporary_beside(path);
        let mut file = self.create_with(&temporary, mode)?;
        let written = content(&mut file).and_then(|()| file.sync_all());
        drop(file);
        if let Err(e) = written {
            let _ = fs::remove_file(&temporary);
            return Err(BackupError::io("write", &temporary)(e));
        }
        publish(&temporary, path)
    }
}

/// The object in a bucket that a path is the address of; none for a file.
fn object(what: &'static str, path: &Utf8Path) -> Result<Option<Object>, BackupError> {
    Object::at(path).map_err(BackupError::io(what, path))
}

/// Whether there is a file or folder of this name, or an object; what a link points to counts. An error is no absence.
pub(crate) fn is_there(path: &Utf8Path) -> Result<bool, BackupError> {
    if let Some(object) = object("look at", path)? {
        return Ok(object.meta().if_there().map_err(BackupError::io("look at", path))?.is_some());
    }
    Ok(fs::metadata(path).if_there().map_err(BackupError::io("look at", path))?.is_some())
}

/// A folder itself, where its name is that of a link. The end of the link need not be there.
pub(crate) fn behind_links(folder: &Utf8Path) -> Result<Utf8PathBuf, BackupError> {
    let mut path = folder.to_owned();
    for _ in 0..LINKS {
        // A slash behind a link's name means the folder behind it already.
        path = path.components().collect();
        let meta = fs::symlink_metadata(&path).if_there().map_err(BackupError::io("look at", &path))?;
        if !meta.is_some_and(|meta| meta.is_symlink()) {
            return Ok(path);
        }
        let to = path.read_link_utf8().map_err(BackupError::io("read link", &path))?;
        path = path.parent().unwrap_or(Utf8Path::new("/")).join(to);
    }
    Err(BackupError::io("follow link", folder)(io::Error::other("too many links")))
}

/// Where a folder lies: one path for all that lead to it. The folder need not be there, only what is above it.
pub(crate) fn place_of(folder: &Utf8Path) -> Result<Utf8PathBuf, BackupError> {
    let folder = behind_links(folder)?;
    let real = |path: &Utf8Path| path.canonicalize_utf8().map_err(BackupError::io("look at", path));
    match (folder.parent(), folder.file_name()) {
        (Some(parent), Some(name)) if parent.as_str().is_empty() => Ok(real(Utf8Path::new("."))?.join(name)),
        (Some(parent), Some(name)) => Ok(real(parent)?.join(name)),
        _ => real(&folder),
    }
}

fn is_folder(path: &Utf8Path) -> Result<bool, BackupError> {
    let meta = fs::metadata(path).if_there().map_err(BackupError::io("look at", path))?;
    Ok(meta.is_some_and(|meta| meta.is_dir()))
}

/// A name beside `path` that no other process uses.
pub(crate) fn temporary_beside(path: &Utf8Path) -> Utf8PathBuf {
    let name = path.file_name().unwrap_or("file");
    path.with_file_name(format!(".{name}.{}-{:08x}.tmp", std::process::id(), rand::random::<u32>()))
}

/// Gives a finished, synced file its name.
pub(crate) fn publish(temporary: &Utf8Path, path: &Utf8Path) -> Result<(), BackupError> {
    fs::rename(temporary, path).map_err(BackupError::io("rename into place", path))?;
    match path.parent() {
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

/// Removes a file that may be gone.
pub(crate) fn remove(path: &Utf8Path) -> Result<(), BackupError> {
    if let Some(object) = object("remove", path)? {
        return object.remove().map_err(BackupError::io("remove", path));
    }
    fs::remove_file(path).if_there().map_err(BackupError::io("remove", path)).map(drop)
}

/// Makes renames and new names in a folder survive a power cut.
pub(crate) fn sync_folder(path: &Utf8Path) -> Result<(), BackupError> {
    #[cfg(test)]
    SYNCED.with_borrow_mut(|synced| synced.push(path.to_owned()));
    File::open(path).and_then(|f| f.sync_all()).map_err(BackupError::io("sync folder", path))
}

#[cfg(test)]
thread_local! {
    static SYNCED: std::cell::RefCell<Vec<Utf8PathBuf>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// The folders that this thread syncs in some work.
#[cfg(test)]
pub(crate) fn synced(work: impl FnOnce()) -> Vec<Utf8PathBuf> {
    SYNCED.take();
    work();
    SYNCED.take()
}

/// How long ago an open file of this folder was written or touched, by the clock that stamps files there: the file server's, not this
/// machine's. Zero where that clock was set back since.
pub(crate) fn age(file: &File, folder: &Utf8Path) -> Result<Duration, BackupError> {
    let now = tempfile::tempfile_in(folder).and_then(|probe| probe.metadata()).and_then(|meta| meta.modified());
    let now = now.map_err(BackupError::io("make a temporary file in", folder))?;
    let then =
        file.metadata().and_then(|meta| meta.modified()).map_err(BackupError::io("look at a file of", folder))?;
    Ok(now.duration_since(then).unwrap_or_default())
}

/// Reads a whole file.
pub(crate) fn read(path: &Utf8Path) -> Result<Vec<u8>, BackupError> {
    bytes_of(path).map_err(BackupError::io("read", path))
}

fn bytes_of(path: &Utf8Path) -> io::Result<Vec<u8>> {
    match Object::at(path)? {
        Some(object) => object.read(),
        None => fs::read(path),
    }
}

/// Reads a whole file; `None` where there is none.
pub(crate) fn read_if_there(path: &Utf8Path) -> Result<Option<Vec<u8>>, BackupError> {
    bytes_of(path).if_there().map_err(BackupError::io("read", path))
}

/// Reads a JSON file.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Utf8Path) -> Result<T, BackupError> {
    serde_json::from_slice(&read(path)?).map_err(|e| BackupError::malformed(path, e))
}

/// Pretty JSON with sorted keys and a final newline: the same content is always the same bytes.
pub(crate) fn canonical_json<T: serde::Serialize>(path: &Utf8Path, value: &T) -> Result<Vec<u8>, BackupError> {
    let mut value = serde_json::to_value(value).map_err(|e| BackupError::malformed(path, e))?;
    value.sort_all_objects();
    let mut bytes = serde_json::to_vec_pretty(&value).map_err(|e| BackupError::malformed(path, e))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Whether a name is one that files have while they are written: see [`temporary_beside`].
pub(crate) fn is_temporary(name: &str) -> bool {
    let Some((_, writer)) = name.strip_suffix(".tmp").and_then(|name| name.strip_prefix('.')?.rsplit_once('.')) else {
        return false;
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    writer.split_once('-').is_some_and(|(pid, number)| digits(pid) && number.len() == 8 && digits(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_replaces_whole_files_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        let store = Store::new(root).unwrap();
        let path = root.join("a.json");
        store.write(&path, b"one").unwrap();
        store.write(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(root).unwrap().count(), 1);
        assert_eq!(mode(&path), 0o600);
    }

    fn mode(path: &Utf8Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn only_the_owner_reads_what_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let above = Utf8Path::from_path(folder.path()).unwrap();
        let root = above.join("new/root");
        let store = Store::make(&root).unwrap();
        store.folder(&root.join("a/b")).unwrap();
        store.append(&root.join("a/b/log")).unwrap().write_all(b"1").unwrap();
        store.append(&root.join("a/b/log")).unwrap().write_all(b"2").unwrap();
        store.copy(&root.join("a/b/log"), &root.join("copy")).unwrap();
        store.copy_program(Utf8Path::new("/bin/sh"), &root.join("program")).unwrap();
        assert_eq!(read(&root.join("copy")).unwrap(), b"12");
        for (path, expected) in
            [("", 0o700), ("a", 0o700), ("a/b", 0o700), ("a/b/log", 0o600), ("copy", 0o600), ("program", 0o700)]
        {
            assert_eq!(mode(&root.join(path)), expected, "{path}");
        }
        assert!(store.copy(&root.join("nowhere"), &root.join("copy")).is_err());
        assert_eq!(read(&root.join("copy")).unwrap(), b"12", "what was there stays");
        assert!(Store::make(&root.join("copy/x")).is_err());
    }

    #[test]
    fn what_cannot_be_looked_at_is_not_absent() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        let looped = root.join("loop");
        std::os::unix::fs::symlink(&looped, &looped).unwrap();
        assert!(!is_there(&root.join("nowhere")).unwrap() && is_there(root).unwrap());
        assert!(is_there(&looped).unwrap_err().to_string().contains("look at"));
        let error = Store::new(root).unwrap().folder(&looped.join("below")).unwrap_err();
        assert!(error.to_string().starts_with("look at"), "{error}");
    }
}
