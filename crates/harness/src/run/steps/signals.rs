//! What everything that speaks of health says after the faults.

use super::fault::{injected, target};
use crate::{
    fault::{self, Fault},
    run::{Known, rig::Rig},
};
use cdc_model::event::{Signal, What};

/// Asks everything that speaks of health, and reports what it says.
pub(super) async fn take(rig: &Rig, known: Known<'_>) -> String {
    let mut said: Vec<Signal> = Vec::new();
    for source in &known.layout().sources {
        // What only another connector suffers from is no lie of this one's.
        let injected =
            known.chronicle.faults().map(|(aim, fault)| (aim, injected(known.layout(), known.plan.seed, fault)));
        let concerns = |(aim, fault): &(&str, Fault)| *aim == source.name || !fault.is_of_one_connector();
        let faults: Vec<Fault> = injected.filter(concerns).map(|(_, fault)| fault).collect();
        for signal in fault::signals(&target(&rig.pipeline, source), &faults).await {
            // Server and registry are asked for each connector.
            match said.iter_mut().find(|known| known.source == signal.source) {
                Some(known) => known.lied |= signal.lied,
                None => said.push(signal),
            }
        }
    }
    let words: Vec<String> = said.iter().map(|s| format!("{}: {}", s.source, s.said)).collect();
    for signal in said {
        rig.emit.emit(What::Signal(signal));
    }
    words.join("; ")
}
