//! The base backups that a recovery point's adds to.

use super::{
    BackupError, Format, Link, Point,
    place::{self, Place},
};

/// The points whose base backups that of a point adds to, the full one first; none for a full one. Fails where one of them is
/// missing or another one.
pub(crate) fn bases(point: &Point) -> Result<Vec<Point>, BackupError> {
    let mut found: Vec<Point> = Vec::new();
    let mut next = adds_to(point);
    while let Some(link) = next {
        let missing = |what: &str| BackupError::Incomplete {
            point: point.id().clone(),
            what: format!("its base backup adds to that of {}, {what}", link.point),
        };
        let folder = point.folder.with_file_name(link.point.as_str());
        if place::manifests(&folder)?.is_empty() {
            return Err(missing("which is not there"));
        }
        let place = Place { id: link.point.clone(), folder, format: Format::Two, unfinished: false };
        let base = Point::load(&place)?;
        if base.manifest_sha256 != link.manifest {
            return Err(missing("and another point has its name"));
        }
        next = adds_to(&base);
        found.push(base);
    }
    found.reverse();
    Ok(found)
}

fn adds_to(point: &Point) -> Option<Link> {
    point.manifest.pg.get().and_then(|pg| pg.adds_to.clone())
}
