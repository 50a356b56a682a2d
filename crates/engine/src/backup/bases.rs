//! The base backups that a recovery point's adds to.

use std::{borrow::Borrow, collections::BTreeMap};

use super::{
    BackupError, Format, Link, Point,
    place::{self, Place},
};
use cdc_model::units::PointId;

/// The points whose base backups that of a point adds to, the full one first; none for a full one. Fails where one of them is
/// missing or another one.
pub(crate) fn bases(point: &Point) -> Result<Vec<Point>, BackupError> {
    chain(point, |id| {
        let folder = point.folder.with_file_name(id.as_str());
        match place::manifests(&folder)?.is_empty() {
            true => Ok(None),
            false => {
                Point::load(&Place { id: id.clone(), folder, format: Format::Two, unfinished: false }, &point.seal)
                    .map(Some)
            }
        }
    })
}

/// Fails where one of these points is missing among those that can be read, or is another one.
pub(crate) fn refuse_without_bases(point: &Point, readable: &BTreeMap<&PointId, &Point>) -> Result<(), BackupError> {
    chain(point, |id| Ok(readable.get(id).copied())).map(drop)
}

fn chain<P: Borrow<Point>>(
    point: &Point,
    find: impl Fn(&PointId) -> Result<Option<P>, BackupError>,
) -> Result<Vec<P>, BackupError> {
    let mut found: Vec<P> = Vec::new();
    let mut next = adds_to(point);
    while let Some(link) = next {
        let missing = |what: &str| BackupError::Incomplete {
            point: point.id().clone(),
            what: format!("its base backup adds to that of {}, {what}", link.point),
        };
        let base = find(&link.point)?.ok_or_else(|| missing("which is not there"))?;
        if base.borrow().manifest_sha256 != link.manifest {
            return Err(missing("and another point has its name"));
        }
        next = adds_to(base.borrow());
        found.push(base);
    }
    found.reverse();
    Ok(found)
}

fn adds_to(point: &Point) -> Option<Link> {
    point.manifest.pg.get().and_then(|pg| pg.adds_to.clone())
}
