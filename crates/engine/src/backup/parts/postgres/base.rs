//! Running `pg_basebackup` as one tar stream, compressed and hashed on its way to the repository.

use std::{
    io::{self, BufReader, Read, Write},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use crate::backup::{
    BackupError, FileEntry, Store,
    format::layout::{BACKUP_MANIFEST, BASE},
    hash::{BUFFER, Hashing},
    seal::{Seal, Sealing},
    storage::Stream,
    writer::PointWriter,
};
use camino::{Utf8Path, Utf8PathBuf};
use cdc_model::moment;
use cdc_pipeline::{
    client::{limits, postgres::ProgramSettings, wait},
    config::{Config, Temporary, Tools},
};
use cdc_postgres::{
    backup_manifest::{self, WalRange},
    programs,
};

/// Level 3 shrinks a cluster to a third at a speed above that of `pg_basebackup` itself.
const BASE_ZSTD_LEVEL: i32 = 3;
/// A backup's label and manifest are texts; a manifest has about 200 bytes a file.
const TEXT_LIMIT: u64 = 1 << 30;

/// What went past.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) entry: FileEntry,
    pub(super) files: u64,
    pub(super) backup_manifest: Vec<u8>,
    pub(super) range: WalRange,
}

/// Ends the program when the backup is given up.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Takes a base backup into the point, or what has changed since that of another one, whose `backup_manifest` is given; `progress`
/// hears how many bytes have come.
pub(super) async fn take(
    config: &Config,
    writer: &PointWriter,
    since: Option<&[u8]>,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Base, BackupError> {
    let place = writer.place(BASE)?;
    let out = Stream::begin(writer.store(), &place)?;
    let tools = Tools::of(config);
    let tool = Utf8PathBuf::from(tools.name("pg_basebackup"));
    // Where the program runs the repository need not be readable.
    let since = since.map(|manifest| readable(&tools, manifest)).transpose()?;
    let label = format!("cdc-drill {}", writer.id());
    let mut child = command(config, &tools, &label, since.as_ref().map(|(_, path)| path.as_path()))?
        .spawn()
        .map_err(BackupError::io("start", &tool))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut running = Running(child);
    let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
        return Err(failed(&tool, "its output is not connected", ""));
    };
    let said = tokio::task::spawn_blocking(move || {
        let mut text = Vec::new();
        // Read to the end: a full pipe would block the program.
        let _ = BufReader::new(stderr).read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let seen = Arc::new(AtomicU64::new(0));
    let counter = seen.clone();
    let over = Arc::new(AtomicBool::new(false));
    let out = Within { out, left: writer.room().unwrap_or(u64::MAX), over: over.clone() };
    let seal = writer.store().seal().clone();
    let streaming = tokio::task::spawn_blocking(move || stream(stdout, out, &place, &seal, &counter));
    moment::pass("base-streaming").await?;
    let streamed = watch(streaming, &seen, progress).await;
    if over.load(Ordering::Relaxed) {
        let path = writer.store().root().to_owned();
        return Err(BackupError::OutOfRoom { repository: path, room: writer.room().unwrap_or_default() });
    }
    if let Ok(None) = streamed {
        drop(running);
        let text = said.await.unwrap_or_default();
        let why =
            format!("no data for {} s: does archive_command work?", limits::postgres::BASE_STALLED.now().as_secs());
        return Err(failed(&tool, &why, &text));
    }
    let status = running.0.wait().map_err(BackupError::io("wait for", &tool))?;
    let text = said.await.unwrap_or_default();
    if !status.success() {
        // What cannot be written here ends the program, which then has nothing to say of it.
        if let Err(error) = streamed
            && error.is_of_a_system()
        {
            return Err(error);
        }
        let damage = programs::damaged_page(&text).map(|detail| BackupError::PageChecksum { detail });
        return Err(damage.unwrap_or_else(|| failed(&tool, &status.to_string(), &text)));
    }
    streamed?.ok_or_else(|| failed(&tool, "no data", &text))
}

/// Waits for the stream's end; `None` when nothing came for too long.
async fn watch(
    mut streaming: tokio::task::JoinHandle<Result<Base, BackupError>>,
    seen: &AtomicU64,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Option<Base>, BackupError> {
    let (mut last, mut moved) = (0, Instant::now());
    loop {
        tokio::select! {
            ended = &mut streaming => {
                let ended = ended.map_err(|e| failed(Utf8Path::new("pg_basebackup"), &e.to_string(), ""))?;
                return ended.map(Some);
            }
            () = wait::pause_for(limits::pacing::BASE_LOOK) => {}
        }
        let now = seen.load(Ordering::Relaxed);
        if now != last {
            (last, moved) = (now, Instant::now());
            progress(now);
        } else if moved.elapsed() > limits::postgres::BASE_STALLED.now() {
            return Ok(None);
        }
    }
}

/// A manifest in a file that the program can read; it is removed with the folder.
fn readable(tools: &Tools, manifest: &[u8]) -> Result<(Temporary, Utf8PathBuf), BackupError> {
    let scratch = tools.scratch();
    let folder = tools.temporary("manifest-", None).map_err(BackupError::io("make a temporary folder in", &scratch))?;
    let path = folder.path().join(backup_manifest::NAME);
    Store::owned_like(folder.path(), folder.path())?.write(&path, manifest)?;
    Ok((folder, path))
}

fn command(config: &Config, tools: &Tools, label: &str, since: Option<&Utf8Path>) -> Result<Command, BackupError> {
    let given = ProgramSettings::of(&config.postgres.url)?;
    // The messages are read: see `damaged_page`.
    let mut settings = given.pairs();
    settings.retain(|(name, _)| *name != "PGDATABASE");
    settings.extend([("LC_ALL", "C"), ("PGOPTIONS", "-c lc_messages=C"), ("PGAPPNAME", "cdc-drill backup")]);
    let mut command = tools.command("pg_basebackup", &settings);
    // WAL is in the archive, which is checked afterwards.
    command.args(programs::base_backup(label, since));
    // By environment: arguments are visible to every user of the machine.
    if let Some(password) = &given.password {
        command.env("PGPASSWORD", password.expose());
    }
    for unwanted in ["PGDATABASE", "PGSERVICE", "PGHOSTADDR", "PGPASSFILE"] {
        command.env_remove(unwanted);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// Reads the tar stream to its end: every byte goes compressed into `out`, and the files are looked at on the way.
fn stream(
    stdout: ChildStdout,
    out: Within<Stream>,
    place: &Utf8Path,
    seal: &Seal,
    seen: &AtomicU64,
) -> Result<Base, BackupError> {
    let wrong = |e: io::Error| BackupError::Io { what: "stream the base backup to", path: place.to_owned(), cause: e };
    let sealing = seal.writer(place, Hashing::new(out))?;
    let mut encoder = zstd::Encoder::new(sealing, BASE_ZSTD_LEVEL).map_err(wrong)?;
    encoder.include_checksum(true).map_err(wrong)?;
    let tee = Tee { from: BufReader::with_capacity(BUFFER, stdout), to: encoder, seen };
    let mut archive = tar::Archive::new(Hashing::new(tee));
    let (mut files, mut manifest) = (0, Vec::new());
    for entry in archive.entries().map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        if entry.header().entry_type().is_file() {
            files += 1;
        }
        let name = entry.path().map_err(wrong)?.into_owned();
        if name.as_os_str() == backup_manifest::NAME {
            entry.take(TEXT_LIMIT).read_to_end(&mut manifest).map_err(wrong)?;
        }
    }
    let mut hashing = archive.into_inner();
    // The archive ends before the stream does: there is padding.
    io::copy(&mut hashing, &mut io::sink()).map_err(wrong)?;
    let (tee, raw_sha256, raw_size) = hashing.into_parts();
    let stored = tee.to.finish().and_then(Sealing::finish).map_err(wrong)?;
    let (within, sha256, size) = stored.into_parts();
    within.out.finish().map_err(wrong)?;
    // The hash of a content tells it from others to whoever guesses it.
    let raw_sha256 = (!seal.is_on()).then_some(raw_sha256);
    let entry = FileEntry { path: BASE.into(), size, sha256, raw_size: Some(raw_size), raw_sha256 };
    let range = backup_manifest::wal_range(&manifest)
        .map_err(|why| BackupError::malformed(Utf8Path::new(BACKUP_MANIFEST), why))?;
    Ok(Base { entry, files, backup_manifest: manifest, range })
}

/// Takes so many bytes and no more: the rest of the room is for archived WAL.
struct Within<W> {
    out: W,
    left: u64,
    over: Arc<AtomicBool>,
}

impl<W: Write> Write for Within<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            self.over.store(true, Ordering::Relaxed);
            return Err(io::Error::other("no room in the budget"));
        }
        let taken = self.out.write(bytes)?;
        self.left -= taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Hands every byte read on to the encoder.
struct Tee<'a, R, W> {
    from: R,
    to: W,
    seen: &'a AtomicU64,
}

impl<R: Read, W: Write> Read for Tee<'_, R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.to.write_all(&buffer[..n])?;
        self.seen.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

fn failed(tool: &Utf8Path, status: &str, said: &str) -> BackupError {
    BackupError::Tool {
        tool: tool.to_string(),
        status: status.to_owned(),
        detail: programs::last_line(said).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_backup_takes_no_more_than_its_room() {
        let over = Arc::new(AtomicBool::new(false));
        let mut within = Within { out: Vec::new(), left: 5, over: over.clone() };
        within.write_all(b"abc").unwrap();
        within.write_all(b"de").unwrap();
        assert!(!over.load(Ordering::Relaxed));
        within.write_all(b"f").unwrap_err();
        assert!(over.load(Ordering::Relaxed));
        assert_eq!(within.out, b"abcde");
        // What compresses hands the error on.
        let over = Arc::new(AtomicBool::new(false));
        let out = Within { out: Vec::new(), left: 20, over: over.clone() };
        let mut encoder = zstd::Encoder::new(out, 3).unwrap();
        let noise: Vec<u8> = (0..1 << 20).map(|_| rand::random()).collect();
        let failed = encoder.write_all(&noise).and_then(|()| encoder.finish().map(drop));
        assert!(failed.is_err() && over.load(Ordering::Relaxed));
    }

    #[test]
    fn the_prefix_of_tools_is_used_and_no_secret_is_an_argument() {
        let folder = tempfile::tempdir().unwrap();
        let tools = crate::backup::fixture::noting(Utf8Path::from_path(folder.path()).unwrap());
        let text = "[postgres]\nurl='postgres://u:hidden@h:7/d?sslmode=require'\n[kafka]\nbootstrap='h:1'\n[connect]\nurl='http://h'\n\
                    [registry]\nurl='http://h'\nflavour='apicurio'\n[repository]\npath='/r'\n";
        let config: Config = toml::from_str(text).unwrap();
        assert!(command(&config, &tools, "x", None).unwrap().status().unwrap().success());
        let calls = crate::backup::fixture::calls(Utf8Path::from_path(folder.path()).unwrap());
        assert!(calls[0].starts_with("env PGHOST=h PGPORT=7 PGUSER=u PGSSLMODE=require LC_ALL=C "), "{calls:?}");
        assert!(calls[0].contains(" /pg/bin/pg_basebackup --pgdata=- "), "{calls:?}");
        assert!(!calls[0].contains("hidden"), "{calls:?}");
    }
}
