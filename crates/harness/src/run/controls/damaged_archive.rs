//! A topic archive in which a byte has changed.

use camino::{Utf8Path, Utf8PathBuf};

use cdc_engine::backup::encode_name;

/// Changes a byte in the middle of a segment of the topic's archive; says in which file.
pub(in crate::run) fn damage(repository: &Utf8Path, topic: &str) -> std::io::Result<Utf8PathBuf> {
    let mut segments = Vec::new();
    for cluster in repository.join("topics").read_dir_utf8()? {
        let objects = cluster?.path().join(encode_name(topic)).join("objects");
        for partition in objects.read_dir_utf8()? {
            for segment in partition?.path().read_dir_utf8()? {
                segments.push(segment?.path().to_owned());
            }
        }
    }
    segments.sort();
    let none = || std::io::Error::new(std::io::ErrorKind::NotFound, format!("no segment of topic {topic}"));
    let segment = segments.pop().ok_or_else(none)?;
    let mut bytes = std::fs::read(&segment)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes)?;
    Ok(segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_of_one_segment_changes() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Utf8Path::from_path(folder.path()).unwrap();
        let objects = repository.join("topics/cluster/p.public.orders/objects/0");
        std::fs::create_dir_all(&objects).unwrap();
        std::fs::write(objects.join("a.zst"), [0; 9]).unwrap();
        let damaged = damage(repository, "p.public.orders").unwrap();
        assert_eq!(std::fs::read(&damaged).unwrap(), [0, 0, 0, 0, 1, 0, 0, 0, 0]);
        assert!(damage(repository, "p.public.other").is_err());
    }
}
