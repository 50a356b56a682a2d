//! The steps of a drill. Each takes what lives and what is known, and hands back what it brought about.

mod backup;
mod connectors;
mod contract;
mod done;
mod fault;
mod group;
mod kept_wal;
mod load;
mod mark;
mod prove;
mod recover;
mod replay;
mod request;
mod runbook;
mod signals;
mod sql;
mod take;

pub(crate) use done::Done;
pub(crate) use take::take;
