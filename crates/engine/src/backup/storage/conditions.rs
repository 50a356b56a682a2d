//! Whether a server of objects heeds the conditions that locks depend on.

use std::io;

use camino::Utf8Path;

use super::bucket::Object;
use crate::backup::BackupError;

/// Refuses a bucket whose server writes over an object that it was asked not to write over: there, two holders could have one lock.
pub(crate) fn refuse_unconditional(root: &Utf8Path) -> Result<(), BackupError> {
    let path = root.join(format!(".conditions-{:08x}", rand::random::<u32>()));
    let Some(object) = Object::at(&path).map_err(BackupError::io("open", &path))? else { return Ok(()) };
    let heeded = ignored(|bytes| object.create(bytes), |bytes, from| object.update(bytes, from));
    object.remove().map_err(BackupError::io("remove", &path))?;
    match heeded.map_err(BackupError::io("write", &path))? {
        None => Ok(()),
        Some(ignored) => Err(BackupError::NoConditions { path: root.to_owned(), ignored }),
    }
}

/// The condition that is ignored; none where both are heeded.
fn ignored<V>(
    create: impl Fn(&[u8]) -> io::Result<V>,
    update: impl Fn(&[u8], &V) -> io::Result<V>,
) -> io::Result<Option<&'static str>> {
    let is_refused = |written: io::Result<V>| match written {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(true),
        Err(error) => Err(error),
    };
    let first = create(b"1")?;
    if !is_refused(create(b"2"))? {
        return Ok(Some("If-None-Match"));
    }
    let second = update(b"3", &first)?;
    let is_heeded = is_refused(update(b"4", &first))?;
    // And what is still as it was read is written over.
    update(b"5", &second)?;
    Ok((!is_heeded).then_some("If-Match"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::fixture;

    #[test]
    fn a_server_that_ignores_a_condition_is_known_by_it() {
        let exists = || io::Error::from(io::ErrorKind::AlreadyExists);
        let (takes_all, version) = (|_: &[u8]| Ok(0), |_: &[u8], _: &i32| Ok(0));
        assert_eq!(ignored(takes_all, version).unwrap(), Some("If-None-Match"));
        let takes_new = |bytes: &[u8]| if bytes == b"1" { Ok(0) } else { Err(exists()) };
        assert_eq!(ignored(takes_new, version).unwrap(), Some("If-Match"));
        let is_down = |_: &[u8]| Err(io::Error::other("no answer"));
        assert!(ignored(is_down, version).is_err(), "what does not answer is not known");
    }

    #[test]
    fn a_server_that_heeds_both_is_left_as_it_was() {
        let root = fixture::bucket();
        refuse_unconditional(&root).unwrap();
        assert!(crate::backup::storage::files_below(&root).unwrap().is_empty());
        refuse_unconditional(Utf8Path::new("/a/folder")).unwrap();
    }
}
