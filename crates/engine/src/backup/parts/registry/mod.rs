//! The registry as neutral data: captured from Apicurio, compared, and turned into the archive that Apicurio imports.

mod capture;
mod diff;
mod dump;
mod entity;
mod export;
mod import;
mod native;
mod selection;

pub(crate) use capture::capture_into;
pub use capture::{capture, capture_where};
pub use diff::{Difference, diff, diff_beyond};
pub use dump::{Dump, SubjectState, VersionLine, VersionState};
pub use entity::{DEFAULT_GROUP, Entity, EntityKey};
pub use export::{Archive, ArchivedVersion, read_zip};
pub(crate) use import::apicurio_state;
pub use import::import_zip;
pub(crate) use selection::Selection;
