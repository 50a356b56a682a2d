//! Tells what happens, as it happens.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use cdc_model::{
    event::{Event, StepOutcome, What},
    units::DrillId,
};

/// Where events go: to the report folder, to the terminal.
type Listener = Box<dyn FnMut(&Event) + Send>;

/// Hands events to the listener, one at a time, stamped with time and drill.
#[derive(Clone)]
pub struct Emitter {
    listener: Arc<Mutex<Listener>>,
    drill: Option<DrillId>,
}

impl std::fmt::Debug for Emitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Emitter").field("drill", &self.drill).finish_non_exhaustive()
    }
}

impl Emitter {
    /// Hands every event to `listener`.
    pub fn new(listener: impl FnMut(&Event) + Send + 'static) -> Emitter {
        Emitter { listener: Arc::new(Mutex::new(Box::new(listener))), drill: None }
    }

    /// The same listener, for the events of one drill.
    #[must_use]
    pub(crate) fn for_drill(&self, drill: &DrillId) -> Emitter {
        Emitter { listener: self.listener.clone(), drill: Some(drill.clone()) }
    }

    /// Something happened now.
    pub fn emit(&self, what: What) {
        let event = Event { at_ms: jiff::Timestamp::now().as_millisecond(), drill: self.drill.clone(), what };
        // A listener that panicked has lost its say; the run goes on and ends as inconclusive by the events that are missing.
        if let Ok(mut listener) = self.listener.lock() {
            listener(&event);
        }
    }

    /// A step of a drill: its start now, its end when the work has returned, with what the work says it did.
    pub async fn step<T, E: std::fmt::Display>(
        &self,
        step: impl Into<String>,
        work: impl Future<Output = Result<(T, StepOutcome), E>>,
    ) -> Result<T, E> {
        let step = step.into();
        self.emit(What::StepStarted { step: step.clone() });
        let began = Instant::now();
        let outcome = work.await;
        let StepOutcome { detail, loaded } = match &outcome {
            Ok((_, outcome)) => outcome.clone(),
            Err(error) => format!("failed: {error}").into(),
        };
        self.emit(What::StepFinished { step, seconds: began.elapsed().as_secs_f64(), detail, loaded });
        outcome.map(|(value, _)| value)
    }
}
