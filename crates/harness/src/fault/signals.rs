//! What the systems say of themselves while the pipeline is broken.

use super::{Fault, Target, slot};
use cdc_model::event::Signal;
use cdc_model::units::counted;

/// Asks connector, tasks, slot, registry and server. A status is a lie when it is the healthy one although one of `faults`
/// broke what it speaks of: the connector and its slot speak of the whole pipeline, registry and server of themselves.
pub async fn signals(target: &Target, faults: &[Fault]) -> Vec<Signal> {
    let broken = !faults.is_empty();
    let mut all = connector(target, broken).await;
    let signal = |source: String, said: String, lied: bool| Signal { source, said, lied };
    match target.sql().await {
        Ok(db) => {
            let database = faults.iter().any(Fault::damages_database);
            all.push(signal("postgres".into(), "accepts connections".into(), database));
            all.push(match slot::find(&db, target).await {
                Ok(Some(found)) => {
                    let status = found.wal_status.unwrap_or_else(|| "unknown".to_owned());
                    let active = if found.active { "active" } else { "inactive" };
                    signal(format!("slot {}", target.slot), format!("{active}, {status}"), broken && found.active)
                }
                Ok(None) => signal(format!("slot {}", target.slot), "missing".into(), false),
                Err(error) => signal(format!("slot {}", target.slot), error.to_string(), false),
            });
        }
        Err(error) => all.push(signal("postgres".into(), error.to_string(), false)),
    }
    let registry = faults.iter().any(Fault::damages_registry);
    all.push(match target.registry().subjects(false).await {
        Ok(subjects) => signal("registry".into(), format!("200, {}", counted(subjects.len(), "subject")), registry),
        Err(error) => signal("registry".into(), error.to_string(), false),
    });
    all
}

async fn connector(target: &Target, broken: bool) -> Vec<Signal> {
    let name = &target.connector;
    let status = match target.connect().status(name).await {
        Ok(status) => status,
        Err(error) => {
            return vec![Signal { source: format!("connector {name}"), said: error.to_string(), lied: false }];
        }
    };
    let lied = |state: &str| broken && state == "RUNNING";
    let state = status.connector.state;
    let mut all = vec![Signal { source: format!("connector {name}"), lied: lied(&state), said: state }];
    for task in status.tasks {
        all.push(Signal { source: format!("task {name}/{}", task.id), lied: lied(&task.state), said: task.state });
    }
    all
}
