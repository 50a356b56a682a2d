//! The file system that a path is on.

use std::{fs, io, os::unix::fs::MetadataExt};

use camino::{Utf8Path, Utf8PathBuf};

use cdc_model::units::IfThere;
use cdc_pipeline::config::free_bytes;

/// Where the file system of a path begins, and the bytes that are free on it. The path need not be there.
pub(crate) fn file_system(path: &Utf8Path) -> io::Result<(Utf8PathBuf, u64)> {
    let device = |path: &Utf8Path| {
        let meta = fs::metadata(path).if_there()?;
        Ok::<_, io::Error>(meta.map(|meta| meta.dev()))
    };
    let mut begin: Option<(&Utf8Path, u64)> = None;
    for above in path.ancestors().filter(|above| !above.as_str().is_empty()) {
        match (begin, device(above)?) {
            (None, Some(own)) => begin = Some((above, own)),
            (Some((_, own)), Some(device)) if device == own => begin = Some((above, own)),
            (Some(_), _) => break,
            (None, None) => {}
        }
    }
    let begin = begin.map_or(Utf8Path::new("/"), |(begin, _)| begin);
    let free = free_bytes(begin)?;
    Ok((begin.to_owned(), free))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_begins_where_it_is_mounted() {
        assert_eq!(file_system(Utf8Path::new("/proc/self/not/there")).unwrap().0, "/proc");
        assert!(file_system(Utf8Path::new("/")).unwrap().1 > 0);
    }
}
