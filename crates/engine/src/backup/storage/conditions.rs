//! Whether a server of objects heeds the conditions that locks depend on.

use std::io;

use camino::Utf8Path;

use super::bucket::Object;
use crate::backup::BackupError;

/// Refuses a bucket whose server writes over an object that it was asked not to write over: there, two holders could have one lock.
pub(crate) fn refuse_unconditional(root: &Utf8Path) -> Result<(), BackupError> {
    let path = root.join(format!(".conditions-{:08x}", rand::random::<u32>()));
    let Some(object) = Object::at(&path).map_err(BackupError::io("open", &path))? else { return Ok(()) };
    let heeded = heeds(&object);
    object.remove().map_err(BackupError::io("remove", &path))?;
    match heeded.map_err(BackupError::io("write", &path))? {
        None => Ok(()),
        Some(ignored) => Err(BackupError::NoConditions { path: root.to_owned(), ignored }),
    }
}

/// The condition that is ignored; none where both are heeded.
fn heeds(object: &Object) -> io::Result<Option<&'static str>> {
    let is_refused = |written: io::Result<_>| match written {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(true),
        Err(error) => Err(error),
    };
    let first = object.create(b"1")?;
    if !is_refused(object.create(b"2"))? {
        return Ok(Some("If-None-Match"));
    }
    let second = object.update(b"3", &first)?;
    let refused = is_refused(object.update(b"4", &first))?;
    // The one that is there is heeded as well.
    object.update(b"5", &second)?;
    Ok((!refused).then_some("If-Match"))
}
