//! The four parts of a pipeline that are protected, each with its capture and what a restore needs of it.

pub mod connect;
pub mod postgres;
pub mod registry;
pub mod topics;
