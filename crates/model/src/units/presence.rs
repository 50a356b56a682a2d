//! What the file system says of a file: that it is there, that it is not, or that it cannot be told.

use std::io;

/// For a result of the file system: absence is an answer, and every other error stays one. `Path::exists` takes both for absence.
pub trait IfThere<T> {
    /// `None` where there is no such file or folder.
    fn if_there(self) -> io::Result<Option<T>>;
}

impl<T> IfThere<T> for io::Result<T> {
    fn if_there(self) -> io::Result<Option<T>> {
        match self {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absence_is_absence() {
        let failed = |kind: io::ErrorKind| Err::<(), _>(io::Error::from(kind)).if_there();
        assert!(Ok::<_, io::Error>(7).if_there().is_ok_and(|found| found == Some(7)));
        assert!(failed(io::ErrorKind::NotFound).is_ok_and(|found| found.is_none()));
        for kind in
            [io::ErrorKind::PermissionDenied, io::ErrorKind::StaleNetworkFileHandle, io::ErrorKind::NotADirectory]
        {
            assert_eq!(failed(kind).unwrap_err().kind(), kind);
        }
    }
}
