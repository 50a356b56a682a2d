//! Writing what is large: under its name at once, or without a name until its content is known.

use std::{
    fs::{self, File},
    io::{self, Seek, Write},
};

use camino::{Utf8Path, Utf8PathBuf};

use super::{bucket::Object, upload::Upload};
use crate::backup::{
    BackupError,
    files::{self, Store},
    hash::BUFFER,
};

/// An object that has its name when its content is known. Dropped before [`Draft::publish`], nothing of it is left.
#[derive(Debug)]
pub(crate) struct Draft {
    /// Where it is being written, for messages.
    path: Utf8PathBuf,
    file: File,
    is_local: bool,
    published: bool,
}

impl Draft {
    /// Begins one that will be in this folder.
    pub(crate) fn begin(store: &Store, folder: &Utf8Path, name: &str) -> Result<Draft, BackupError> {
        let is_local = Object::at(folder).map_err(BackupError::io("open", folder))?.is_none();
        let (path, file) = match is_local {
            true => {
                let path = files::temporary_beside(&folder.join(name));
                let file = store.create(&path)?;
                (path, file)
            }
            // A bucket's object cannot change its name.
            false => {
                let path = folder.join(name);
                let file = tempfile::tempfile().map_err(BackupError::io("make a temporary file for", &path))?;
                (path, file)
            }
        };
        Ok(Draft { path, file, is_local, published: false })
    }

    /// Where it is being written, for messages.
    pub(crate) fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Makes what was written durable; the name comes later.
    pub(crate) fn sync(&self) -> Result<(), BackupError> {
        match self.is_local {
            true => self.file.sync_all().map_err(BackupError::io("sync", &self.path)),
            false => Ok(()),
        }
    }

    /// Gives it its name, durably. What has that name is replaced.
    pub(crate) fn publish(mut self, to: &Utf8Path) -> Result<(), BackupError> {
        match Object::at(to).map_err(BackupError::io("open", to))? {
            None => {
                self.file.sync_all().map_err(BackupError::io("sync", &self.path))?;
                files::publish(&self.path, to)?;
            }
            Some(object) => {
                let mut upload = Upload::new(object);
                self.file.rewind().map_err(BackupError::io("read", &self.path))?;
                let mut from = io::BufReader::with_capacity(BUFFER, &self.file);
                io::copy(&mut from, &mut upload).and_then(|_| upload.finish()).map_err(BackupError::io("write", to))?;
            }
        }
        self.published = true;
        Ok(())
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.is_local && !self.published {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// An object that is written under its name, which nobody looks at before it is finished.
#[derive(Debug)]
pub(crate) struct Stream(Way);

#[derive(Debug)]
enum Way {
    Local(File),
    Bucket(Upload),
}

impl Stream {
    /// Begins an object that is not there.
    pub(crate) fn begin(store: &Store, path: &Utf8Path) -> Result<Stream, BackupError> {
        Ok(Stream(match Object::at(path).map_err(BackupError::io("open", path))? {
            None => Way::Local(store.create(path)?),
            Some(object) => Way::Bucket(Upload::new(object)),
        }))
    }

    /// Makes it durable.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self.0 {
            Way::Local(file) => file.sync_all(),
            Way::Bucket(upload) => upload.finish(),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Way::Local(file) => file.write(bytes),
            Way::Bucket(upload) => upload.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Way::Local(file) => file.flush(),
            Way::Bucket(upload) => upload.flush(),
        }
    }
}
