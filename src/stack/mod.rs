//! What runs and how to reach it. The local backend runs the four systems as native processes, without root's rights and
//! without a daemon; its programs are fetched once, pinned by version and sha256. The Docker backend runs them as
//! containers of given images.

mod account;
mod backend;
mod blocking;
mod connector;
pub mod docker;
mod doctor;
mod error;
mod fetch;
mod fixture;
pub mod local;
mod ports;
mod process;
mod progress;

pub use account::Account;
pub use backend::{Backend, BackendChoice, Place};
pub use connector::{ConnectorRequest, debezium_config, use_schema_resolver};
pub use doctor::{Diagnosis, diagnose};
pub use error::StackError;
pub use fetch::{Programs, cache_folder};
pub use ports::PortLease;
pub use process::{Process, pss_bytes_of};
pub use progress::{Progress, Silent};
