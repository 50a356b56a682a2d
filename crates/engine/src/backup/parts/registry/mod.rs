//! The registry as neutral data: captured from Apicurio, compared, and turned into the archive that Apicurio imports.

mod capture;
mod confluent;
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
pub(crate) use dump::{CONFLUENT, LEVEL_IN_FULL};
pub use dump::{Dump, SubjectState, VersionLine, VersionState};
pub use entity::{DEFAULT_GROUP, Entity, EntityKey};
pub use export::{Archive, ArchivedVersion, read_zip};
pub use import::import_zip;
pub(crate) use import::{apicurio_state, native_entities, write_zip};
pub(crate) use selection::Selection;
