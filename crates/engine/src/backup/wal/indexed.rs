//! Format 1: `<timeline>/<file>` beside an `index.jsonl` that all who archive append to.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
};

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    IndexLine,
    held::{Held, Sum, size_if_there},
    offered::{Offered, Stored, compress},
};
use crate::backup::{
    BackupError,
    files::{self, Store},
    hash::{Hashing, sha256_file},
    seal::Seal,
};
use cdc_model::units::{IfThere, Timeline};
use cdc_postgres::wal::{WalFile, timeline_digits};

/// The archive of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Indexed {
    store: Store,
    folder: Utf8PathBuf,
}

impl Indexed {
    pub(super) fn new(store: &Store, folder: &Utf8Path) -> Indexed {
        Indexed { store: store.clone(), folder: folder.to_owned() }
    }

    fn timeline_folder(&self, timeline: Timeline) -> Utf8PathBuf {
        self.folder.join(timeline_digits(timeline))
    }

    pub(super) fn path(&self, file: &WalFile) -> Utf8PathBuf {
        let folder = self.timeline_folder(file.timeline());
        if file.is_wal() { folder.join(format!("{file}.zst")) } else { folder.join(file.to_string()) }
    }

    pub(super) fn index_path(&self, timeline: Timeline) -> Utf8PathBuf {
        self.timeline_folder(timeline).join("index.jsonl")
    }

    /// Reads the index from its end, as recovery and archiving ask for what was written last.
    pub(super) fn find(&self, file: &WalFile) -> Result<Option<Held>, BackupError> {
        let path = self.path(file);
        let Some(size) = size_if_there(&path)? else { return Ok(None) };
        let sum = self.entry(file)?.map_or(Sum::Unknown, Sum::Line);
        Ok(Some(Held { file: *file, path, size, sum, seal: Seal::default() }))
    }

    /// The index line of a file: the last one that names it.
    fn entry(&self, file: &WalFile) -> Result<Option<IndexLine>, BackupError> {
        let path = self.index_path(file.timeline());
        let text = fs::read(&path).if_there().map_err(BackupError::io("read", &path))?;
        let Some(text) = text else { return Ok(None) };
        let name = file.to_string();
        let needle = format!("\"{name}\"");
        // What is no text is no line either.
        let lines = text.rsplit(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
        let lines = lines.filter(|line| line.contains(&needle));
        Ok(lines.filter_map(|l| serde_json::from_str::<IndexLine>(l).ok()).find(|l| l.seg == name))
    }

    /// Everything the index of a timeline names, by name. A line torn by a crash is not counted: its file was not
    /// acknowledged to the server, which offers it again.
    pub(super) fn index(&self, timeline: Timeline) -> Result<BTreeMap<String, IndexLine>, BackupError> {
        let path = self.index_path(timeline);
        let text = fs::read(&path).if_there().map_err(BackupError::io("read", &path))?;
        let Some(text) = text else { return Ok(BTreeMap::new()) };
        let lines = text.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice::<IndexLine>(l).ok());
        Ok(lines.map(|l| (l.seg.clone(), l)).collect())
    }

    /// The files of a timeline that the index names and that are there.
    pub(super) fn files(&self, timeline: Timeline) -> Result<Vec<Held>, BackupError> {
        let mut held = Vec::new();
        for (name, line) in self.index(timeline)? {
            let Ok(file) = name.parse::<WalFile>() else { continue };
            let path = self.path(&file);
            if let Some(size) = size_if_there(&path)? {
                held.push(Held { file, path, size, sum: Sum::Line(line), seal: Seal::default() });
            }
        }
        Ok(held)
    }

    /// The files of a timeline that are there, whether or not the index names them.
    pub(super) fn stored(&self, timeline: Timeline) -> Result<Vec<Held>, BackupError> {
        let folder = self.timeline_folder(timeline);
        let mut index = self.index(timeline)?;
        let entries = folder.read_dir_utf8().if_there().map_err(BackupError::io("list", &folder))?;
        let mut stored = Vec::new();
        for entry in entries.into_iter().flatten() {
            let path = entry.map_err(BackupError::io("list", &folder))?.into_path();
            let name = path.file_name().unwrap_or_default();
            let Ok(file) = name.strip_suffix(".zst").unwrap_or(name).parse::<WalFile>() else { continue };
            // One that an archiver of format 2 took away meanwhile is not there any more.
            let Some(size) = size_if_there(&path)?.filter(|_| path == self.path(&file)) else { continue };
            let sum = index.remove(&file.to_string()).map_or(Sum::Unknown, Sum::Line);
            stored.push(Held { file, path, size, sum, seal: Seal::default() });
        }
        stored.sort_by_key(|held| held.file);
        Ok(stored)
    }

    pub(super) fn put(&self, offered: &Offered) -> Result<Stored, BackupError> {
        let target = self.path(&offered.file);
        if let Some(held) = self.find(&offered.file)? {
            return self.again(offered, &held);
        }
        self.store.folder(&self.timeline_folder(offered.file.timeline()))?;
        let temporary = files::temporary_beside(&target);
        let stored = self.encode(offered, &temporary).and_then(|line| {
            // A link, unlike a rename, fails when another archiver was faster; its content is then compared with ours.
            match fs::hard_link(&temporary, &target) {
                Ok(()) => Ok(Some(line)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
                Err(e) => Err(BackupError::io("link into place", &target)(e)),
            }
        });
        let _ = fs::remove_file(&temporary);
        match stored? {
            Some(line) => {
                files::sync_folder(&self.timeline_folder(offered.file.timeline()))?;
                self.append(offered.file.timeline(), &line)?;
                Ok(Stored::New)
            }
            None => match self.find(&offered.file)? {
                Some(held) => self.again(offered, &held),
                None => Err(BackupError::checksum(&target, "the file that another archiver has put there", "none")),
            },
        }
    }

    /// The file is there already: the server offers it again after a crash between its archiving and its note of it. A damaged
    /// copy gives way to the original that the index describes.
    fn again(&self, offered: &Offered, held: &Held) -> Result<Stored, BackupError> {
        let offers = sha256_file(&offered.path)?;
        let described = match &held.sum {
            Sum::Line(line) => Some(&line.sha256_raw),
            Sum::Unknown | Sum::Name { .. } => None,
        };
        let archived = match held.decode_into(&mut io::sink()) {
            Ok((archived, _)) => archived,
            Err(BackupError::Checksum { .. }) if described.is_none_or(|known| *known == offers.0) => {
                return self.replace(offered, held);
            }
            Err(error) => return Err(error),
        };
        if offers.0 != archived {
            if described.is_some_and(|known| *known == offers.0) {
                return self.replace(offered, held);
            }
            return Err(offered.conflict(held, archived, offers.0));
        }
        if held.sum == Sum::Unknown {
            let stored = sha256_file(&held.path)?;
            self.append(offered.file.timeline(), &offered.line(offers, stored))?;
        }
        Ok(Stored::AlreadyThere)
    }

    /// Removes a file that another format holds now, and the index, which that format does not read.
    pub(super) fn forget(&self, file: &WalFile) -> Result<(), BackupError> {
        files::remove(&self.path(file))?;
        files::remove(&self.index_path(file.timeline()))
    }

    fn replace(&self, offered: &Offered, held: &Held) -> Result<Stored, BackupError> {
        tracing::warn!(path = %held.path, "a damaged copy is replaced by the original");
        let temporary = files::temporary_beside(&held.path);
        let line = self.encode(offered, &temporary).inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })?;
        files::publish(&temporary, &held.path)?;
        self.append(offered.file.timeline(), &line)?;
        Ok(Stored::New)
    }

    fn encode(&self, offered: &Offered, temporary: &Utf8Path) -> Result<IndexLine, BackupError> {
        let mut stored = Hashing::new(self.store.create(temporary)?);
        let content = compress(offered, &mut stored, temporary)?;
        stored.get_ref().sync_all().map_err(BackupError::io("sync", temporary))?;
        Ok(offered.line(content, stored.finish()))
    }

    /// Adds a line to the index, durably; the lock is the kernel's and ends with this process.
    fn append(&self, timeline: Timeline, line: &IndexLine) -> Result<(), BackupError> {
        let path = self.index_path(timeline);
        let mut text = serde_json::to_vec(line).map_err(|e| BackupError::malformed(&path, e))?;
        text.push(b'\n');
        let mut file = self.store.append(&path)?;
        file.lock().map_err(BackupError::io("lock", &path))?;
        let result = complete_last_line(&mut file).and_then(|()| file.write_all(&text)).and_then(|()| file.sync_all());
        result.map_err(BackupError::io("append to", &path))
    }
}

/// A crash may have left half a line; what follows must not be glued to it.
fn complete_last_line(file: &mut File) -> io::Result<()> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0u8];
    file.read_exact(&mut last)?;
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}
