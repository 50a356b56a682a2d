//! The newest point of a repository, as `points/head.json` notes it: so that the loss of the newest is noticed too.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{
    BackupError, Point,
    files::Store,
    format::{Chain, Link, checked},
};

/// The newest point. It may be behind by one, if a crash came between the point and its note, never ahead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Its number in the chain.
    pub(crate) number: u64,
    /// The point.
    #[serde(flatten)]
    pub(crate) link: Link,
}

impl Head {
    pub(crate) fn path(points: &Utf8Path) -> Utf8PathBuf {
        points.join("head.json")
    }

    pub(crate) fn read(points: &Utf8Path) -> Result<Option<Head>, BackupError> {
        checked::read(&Head::path(points))
    }

    /// That of a point which is in a chain.
    pub(crate) fn of(point: &Point) -> Option<Head> {
        let chain = point.manifest.chain.as_ref()?;
        Some(Head { number: chain.number, link: point.link() })
    }

    pub(crate) fn write(&self, store: &Store, points: &Utf8Path) -> Result<(), BackupError> {
        let path = Head::path(points);
        store.write(&path, &checked::to_bytes(&path, self)?)
    }

    /// The place of the point that comes after all of these.
    pub(crate) fn next(heads: impl Iterator<Item = Head>) -> Chain {
        match heads.max_by_key(|head| head.number) {
            Some(head) => Chain { number: head.number + 1, previous: Some(head.link) },
            None => Chain { number: 1, previous: None },
        }
    }
}
