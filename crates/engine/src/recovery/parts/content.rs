//! What holds of the content of any registry.

use crate::backup::parts::registry::Dump;
use cdc_pipeline::client::registry::Reference;

/// References of what is to come back that lead nowhere, neither in what comes back nor in what is there.
pub(super) fn unresolved(wanted: &Dump, everything: &Dump) -> Vec<String> {
    let is_there = |to: &Reference| {
        wanted.version(&to.subject, to.version).is_some() || everything.version(&to.subject, to.version).is_some()
    };
    let all = wanted.versions.iter().flat_map(|line| line.references.iter().map(move |to| (line, to)));
    let dangling = all.filter(|(_, to)| !is_there(to));
    dangling
        .map(|(line, to)| {
            format!(
                "{} v{} has a reference to {} v{}, which is not there: name it too",
                line.subject, line.version, to.subject, to.version
            )
        })
        .collect()
}
