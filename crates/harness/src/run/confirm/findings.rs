//! Which findings are asked about.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::OnceCell;

use super::inquiry::{Inquiry, confirm};
use crate::run::{
    chronicle::{Chronicle, basis_registry},
    rig::Pipeline,
};
use cdc_model::{
    event::{Confirmation, ControlPlan, Finding},
    units::{Subject, TableName},
};

/// Asks an independent way about a control's findings until one is confirmed. The answer is the first that confirms, else
/// the last that does not; none where there is nothing to ask about.
pub(crate) async fn confirmed(
    pipeline: &Pipeline,
    chronicle: &Chronicle,
    plan: &ControlPlan,
    findings: &[&Finding],
) -> Option<Confirmation> {
    let mut schemas = BTreeMap::new();
    let mut levels = BTreeMap::new();
    if let Some(view) = basis_registry(chronicle) {
        levels.insert(Subject::new(""), view.global_level);
        for (name, subject) in &view.subjects {
            levels.insert(Subject::new(name.clone()), subject.level.clone());
            schemas.extend(subject.versions.values().map(|v| (v.id, v.schema.clone())));
        }
    }
    let layout = &chronicle.layout;
    let (topics, connectors, configs) = (layout.topics(), layout.connectors(), layout.configs());
    let tables: Vec<TableName> = layout.tables().cloned().collect();
    let inquiry = Inquiry {
        config: &pipeline.config,
        connectors: &connectors,
        configs: &configs,
        topics: &topics,
        tables: &tables,
        schemas: &schemas,
        levels: &levels,
        histories: &chronicle.histories(),
        values: OnceCell::new(),
    };
    // Rows of one transaction share its token, and a later event shows the token of the row it changed: where one finding
    // of a transaction cannot be confirmed, the others of it cannot either.
    let mut asked = BTreeSet::new();
    let mut answer = None;
    for finding in findings.iter().filter(|f| f.token.is_none() || asked.insert(f.token.clone())) {
        let confirmation = confirm(&inquiry, &plan.check, finding).await;
        let is_confirmed = confirmation.is_confirmed();
        answer = Some(confirmation);
        if is_confirmed {
            break;
        }
    }
    answer
}
