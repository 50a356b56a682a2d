//! The registry as neutral data: captured from Apicurio, compared, and turned into the archive that Apicurio imports.

mod archive;
mod capture;
mod diff;
mod dump;
mod entity;

pub use archive::{Archive, ArchivedVersion, import_zip, read_zip};
pub(crate) use capture::capture_into;
pub use capture::{capture, capture_where};
pub use diff::{Difference, diff, diff_beyond};
pub use dump::{Dump, SubjectState, VersionLine, VersionState};
pub use entity::{DEFAULT_GROUP, Entity, EntityKey};
