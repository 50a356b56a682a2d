//! One part of a recovery point, restored alone: connectors, settings of topics, positions of consumer groups, or the registry. A plan
//! looks at everything and refuses before anything is touched; what is carried out is that plan, and it is read back from the system.

mod confluent;
mod connectors;
mod content;
#[cfg(test)]
mod fake_confluent;
mod groups;
mod judgement;
mod outcome;
mod plan;
mod point;
mod position;
mod recreated;
mod registry;
mod request;
mod topics;

pub use outcome::{PartChange, PartOutcome};
pub(super) use plan::procedures;
pub use plan::{PartPlan, ScratchPart, plan_part, plan_scratch_part};
pub use request::{PartRequest, PipelinePart};
