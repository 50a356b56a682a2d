//! What a caller makes of a playbook's steps. A person's recovery takes them as they are declared.

use super::{coordinated::Coordinated, memory::Variation, repair::Repair, step::Step};

/// Composes the steps of a recovery out of its playbook's.
pub trait Composer: Send + Sync {
    /// How the result is another one than the playbook, for the record: a later run goes on only with the same.
    fn variation(&self) -> Variation;

    /// The steps that are taken instead of the playbook's, over a server that answers.
    fn instead(&self) -> Option<Vec<Step<Repair>>>;

    /// What becomes of the coordinated playbook's steps.
    fn coordinated(&self, steps: &[Step<Coordinated>]) -> Vec<Step<Coordinated>>;

    /// What becomes of a repair's steps.
    fn repair(&self, steps: &[Step<Repair>]) -> Vec<Step<Repair>>;
}

/// The playbook's own steps, all of them and in their order.
pub(super) struct AsDeclared;

impl Composer for AsDeclared {
    fn variation(&self) -> Variation {
        Variation::default()
    }

    fn instead(&self) -> Option<Vec<Step<Repair>>> {
        None
    }

    fn coordinated(&self, steps: &[Step<Coordinated>]) -> Vec<Step<Coordinated>> {
        steps.to_vec()
    }

    fn repair(&self, steps: &[Step<Repair>]) -> Vec<Step<Repair>> {
        steps.to_vec()
    }
}
