//! Judges a pipeline from its rows and records. [`look`] and `read` ask a pipeline's systems; everything else is a pure
//! function over what they saw.
//!
//! Nothing that recovery produced is used here except the target and the epoch's cut.

pub mod checks;
pub mod decode;
mod deliveries;
mod error;
pub mod fold;
pub mod look;
pub mod observation;
mod point;
pub mod read;
pub mod run;
pub mod text;

pub use error::VerifyError;
pub use observation::{Expectation, Observation, RegistryView};
pub use point::PointView;
pub use run::{VerifyOptions, verify};
