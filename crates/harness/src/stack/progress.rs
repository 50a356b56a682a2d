//! How long-lasting work tells what it does.

/// Somebody who wants to know how far the work is. The command line prints it; tests usually stay silent.
pub trait Progress: Send + Sync {
    /// One line, when something begins or ends.
    fn line(&self, text: &str);

    /// How many bytes of a download are there, of about how many.
    fn bytes(&self, _done: u64, _total: u64) {}
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn line(&self, _text: &str) {}
}
