//! `liveness` and `leaks`: whether the pipeline works now, and whether a drill left anything behind.

use crate::observation::{Expectation, Observation};
use cdc_model::{
    event::{About, CheckReport, Finding, FindingKind},
    units::is_secret_setting,
    vocabulary::CheckId,
};

/// A row written now arrives.
pub(super) fn liveness(seen: &Observation, _: &Expectation<'_>) -> CheckReport {
    let mut findings = Vec::new();
    let mut compared = 0;
    for canary in &seen.canaries {
        compared += 1;
        let about = |kind, wanted: String, found: String| Finding {
            table: Some(canary.table.clone()),
            topic: Some(canary.topic.clone()),
            token: Some(canary.token.clone()),
            expected: Some(wanted),
            found: Some(found),
            ..Finding::new(kind)
        };
        if let Err(why) = &canary.arrived_ms {
            findings.push(about(FindingKind::Dead, "the canary's event".into(), why.clone()));
        }
    }
    for quiet in &seen.quiet {
        compared += 1;
        if let Err(interrupted) = &quiet.reached {
            findings.push(Finding {
                table: Some(quiet.table.clone()),
                topic: Some(quiet.topic.clone()),
                token: Some(quiet.token.clone()),
                lsn: Some(quiet.lsn),
                expected: Some("the marker in its topic, and the stored offset past it".into()),
                found: Some(interrupted.seen.clone()),
                ..Finding::new(if interrupted.dead { FindingKind::Dead } else { FindingKind::Lost })
            });
        }
    }
    let notes = vec![format!("{compared} waited for: canaries and markers")];
    CheckId::Liveness.report(compared, notes, findings)
}

/// Nothing the drill did is left: slots, connector settings, modes, and what its parts report.
pub(super) fn leaks(seen: &Observation, expected: &Expectation<'_>) -> CheckReport {
    let mut findings = Vec::new();
    let mut compared = 1;
    let leak = |subject: About, wanted: String, found: String| Finding {
        subject: Some(subject),
        expected: Some(wanted),
        found: Some(found),
        ..Finding::new(FindingKind::Leak)
    };
    for leftover in &seen.leftovers {
        compared += 1;
        findings.push(leak(About::Leftover(leftover.clone()), "gone".into(), "still there".into()));
    }
    for slot in &seen.slots {
        compared += 1;
        let known =
            seen.connectors.iter().any(|c| c.settings.slot == slot.name) || expected.slots.contains(slot.name.as_str());
        if !known {
            findings.push(leak(
                About::Slot(slot.name.to_string()),
                "no other slot than the connectors'".into(),
                "it holds back WAL".into(),
            ));
        }
    }
    for (name, config) in &expected.configs {
        compared += 1;
        let Some(connector) = seen.connectors.iter().find(|c| c.settings.name == *name) else {
            findings.push(leak(
                About::Connector(name.clone()),
                "the connector as it was".into(),
                "no such connector".into(),
            ));
            continue;
        };
        let keys: std::collections::BTreeSet<&String> = config.keys().chain(connector.config.keys()).collect();
        for key in keys {
            let (was, is) = (config.get(key), connector.config.get(key));
            if was != is {
                let shown = |v: Option<&String>| {
                    let hidden = is_secret_setting(key);
                    v.map_or("unset".to_owned(), |v| if hidden { "***".to_owned() } else { v.clone() })
                };
                let about = About::ConnectorSetting { connector: name.clone(), setting: key.clone() };
                findings.push(leak(about, shown(was), shown(is)));
            }
        }
    }
    if let Some(Ok(registry)) = &seen.registry {
        compared += 1;
        let was = expected.registry.as_ref().and_then(|r| r.global_mode.clone()).unwrap_or_else(|| "READWRITE".into());
        let is = registry.global_mode.clone().unwrap_or_else(|| "READWRITE".into());
        if was != is {
            findings.push(leak(About::Mode(None), was, is));
        }
    }
    CheckId::Leaks.report(compared, vec![format!("{compared} looked at: slots, settings and modes")], findings)
}
