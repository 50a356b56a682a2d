//! Judges a pipeline from its rows and records. [`observe`](mod@observe) is the only file here that reads a stack; everything else is
//! a pure function over what it saw.
//!
//! Nothing that recovery produced is used here except the target and the epoch's cut.

pub mod checks;
pub mod decode;
mod deliveries;
mod error;
pub mod fold;
pub mod observation;
pub mod observe;
mod point;
pub mod read;
pub mod run;
pub mod text;

pub use error::VerifyError;
pub use observation::{Expectation, Observation, RegistryView};
pub use point::PointView;
pub use run::{VerifyOptions, verify};
