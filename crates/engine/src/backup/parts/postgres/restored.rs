//! What is said of restored files.

/// The account that the restored files belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extracted {
    /// How many files.
    pub files: u64,
    /// How many bytes.
    pub bytes: u64,
}
