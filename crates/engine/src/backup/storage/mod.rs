//! Where the objects of a repository are: in a folder, or in a bucket of an object store.
//!
//! An object is known by its address, a path below the repository's root; a root in a bucket begins with `s3`, and so does every address
//! below it. Everything that reads a repository asks here or in [`files`](super::files), never the file system itself;
//! `tests/fast/layout.rs` holds that.

mod bucket;
mod conditions;
mod draft;
mod listing;
mod reader;
mod upload;

#[cfg(test)]
pub(crate) use bucket::IN_MEMORY;
pub(crate) use bucket::{Object, Version, is_in_a_bucket, is_of_a_bucket, malformed};
pub(crate) use conditions::refuse_unconditional;
pub(crate) use draft::{Draft, Stream};
pub(crate) use listing::{Kind, entries, files_below, look, remove_all, size_of};
pub(crate) use reader::{end_of, open};
