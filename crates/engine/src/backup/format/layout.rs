//! What the files of a recovery point are called, below its folder.

use super::stamp::{digits, is_digits};

/// What binds the others together, in format 1.
pub(crate) const MANIFEST: &str = "manifest.json";
/// The manifest's checksum, in format 1; in format 2 the manifest's name has it.
pub(crate) const MANIFEST_SUM: &str = "manifest.sha256";
/// The checksums of all files but the manifest and this one.
pub(crate) const SUMS: &str = "SHA256SUMS";
/// What the folder of a point is called, behind its id, while it is being written, in format 1.
pub(crate) const PARTIAL: &str = ".partial";
/// What a point that is being written has, in format 2: the first of its files, and the last that goes.
pub(crate) const STARTED: &str = "started.json";

const MANIFEST_BEGIN: &str = "manifest-";
const MANIFEST_END: &str = ".json";
/// The name of the manifest in format 2, by its hash.
pub(crate) fn manifest_name(sha256: &str) -> String {
    format!("{MANIFEST_BEGIN}{}{MANIFEST_END}", digits(sha256))
}

/// The digits of the hash in a manifest's name in format 2; none for other files.
pub(crate) fn manifest_digits(name: &str) -> Option<&str> {
    let digits = name.strip_prefix(MANIFEST_BEGIN)?.strip_suffix(MANIFEST_END)?;
    is_digits(digits).then_some(digits)
}

/// The folder of a repository in which recoveries put the last segments of old servers, by cluster.
pub(crate) const SALVAGE: &str = "salvage";

/// The base backup.
pub(crate) const BASE: &str = "pg/base.tar.zst";
/// The list of files, with checksums, that the server wrote.
pub(crate) const BACKUP_MANIFEST: &str = "pg/backup_manifest";
/// Configuration that the server has outside of its data folder.
pub(crate) const OUTSIDE: &str = "pg/outside";
/// The replication slots.
pub(crate) const SLOTS: &str = "pg/slots.json";
/// The publications with their tables, by database.
pub(crate) const PUBLICATIONS: &str = "pg/publications.json";
/// The sequences, by database.
pub(crate) const SEQUENCES: &str = "pg/sequences.json";
/// Counts and digests of the published tables.
pub(crate) const FINGERPRINTS: &str = "pg/fingerprints.json";
/// The settings that are not the default.
pub(crate) const SETTINGS: &str = "pg/settings.json";

/// The connectors.
pub(crate) const CONNECTORS: &str = "connect/connectors.json";
/// The records of the offsets topic.
pub(crate) const OFFSETS: &str = "connect/offsets.jsonl";

/// The topics, with settings and watermarks.
pub(crate) const TOPICS: &str = "kafka/topics.json";
/// The consumer groups, with their offsets.
pub(crate) const GROUPS: &str = "kafka/groups.json";

/// What of the registry does not belong to a version.
pub(crate) const REGISTRY: &str = "registry/registry.json";
/// The versions.
pub(crate) const VERSIONS: &str = "registry/dump.jsonl";
/// The registry's own export.
pub(crate) const EXPORT: &str = "registry/native.zip";

/// The records of a schema history topic whose name is encoded like this.
pub(crate) fn schema_history(encoded: &str) -> String {
    format!("connect/schema-history/{encoded}.jsonl")
}
