//! Where servers are laid out.

use camino::Utf8Path;

use crate::stack::Account;

/// The stack that servers are laid out for.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its folder.
    pub dir: &'a Utf8Path,
    /// The account that its data belongs to.
    pub account: &'a Account,
}
