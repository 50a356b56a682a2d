//! A stack is a folder.
//!
//! | file below DIR | what |
//! |---|---|
//! | `stack.json` | every server: how it is started and stopped, where it listens and logs |
//! | `cdc-drill.toml` | the configuration for every other command; holds the password, mode 0600 |
//! | `pids/NAME.json` | the supervisor and the server, with start times; there while it runs |
//! | `pids/NAME.lock` | held by the supervisor, so that no server is started twice |
//! | `owner.lock` | held by the harness that owns the stack; its death ends the servers |
//! | `owner.released` | the owner gave the servers up on purpose: they live on |
//! | `logs/NAME.log` | what the server wrote |
//! | `postgres/ kafka/ connect/ registry/ tmp/ repository/` | data, of the account that runs the servers |
//!
//! Starting, stopping and looking are operations on the folder: the harness does them in-process, and `cdc-drill stack
//! start|stop|running NAME` does the same for a person and for the hooks in `cdc-drill.toml`.

mod operations;
mod owner;
mod ready;
mod supervised;
mod supervisor;

pub use operations::{Folder, ServerStatus};
pub use owner::OwnerLock;
pub(in crate::stack) use ready::Addresses;
pub(in crate::stack) use supervised::{Supervised, orphaned};
pub use supervisor::supervise;
