//! Tells what happens, as it happens.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use cdc_model::{
    event::{Event, StepOutcome, What},
    units::DrillId,
};
use cdc_pipeline::client::{limits::pacing, wait, watch::Watch};

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

    /// Does work that may take its time: one that is not over after a while says what it waits for, again and again.
    pub(crate) fn watched<F: Future>(&self, step: &str, work: F) -> impl Future<Output = F::Output> {
        self.watched_every(step, pacing::FIRST_LINE, pacing::PROGRESS_LINE, Box::pin(work))
    }

    async fn watched_every<F: Future + Unpin>(
        &self,
        step: &str,
        first: Duration,
        then: Duration,
        mut work: F,
    ) -> F::Output {
        let watch = Watch::default();
        let began = Instant::now();
        let mut work = std::pin::pin!(watch.over(&mut work));
        let mut pause = first;
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = wait::pause_for(pause) => {}
            }
            pause = then;
            let waiting = watch.describe().unwrap_or_else(|| "at work".to_owned());
            self.emit(What::Progress { step: step.to_owned(), seconds: began.elapsed().as_secs_f64(), waiting });
        }
    }

    /// A step of a drill: its start now, its end when the work has returned, with what the work says it did.
    pub fn step<T, E: std::fmt::Display>(
        &self,
        step: impl Into<String>,
        work: impl Future<Output = Result<(T, StepOutcome), E>>,
    ) -> impl Future<Output = Result<T, E>> {
        self.boxed_step(step.into(), Box::pin(work))
    }

    async fn boxed_step<T, E: std::fmt::Display>(
        &self,
        step: String,
        work: impl Future<Output = Result<(T, StepOutcome), E>> + Unpin,
    ) -> Result<T, E> {
        self.emit(What::StepStarted { step: step.clone() });
        let began = Instant::now();
        let outcome = self.watched(&step, work).await;
        let StepOutcome { detail, loaded } = match &outcome {
            Ok((_, outcome)) => outcome.clone(),
            Err(error) => format!("failed: {error}").into(),
        };
        self.emit(What::StepFinished { step, seconds: began.elapsed().as_secs_f64(), detail, loaded });
        outcome.map(|(value, _)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_pipeline::client::watch::doing;

    fn listening() -> (Emitter, Arc<Mutex<Vec<What>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let heard = seen.clone();
        (Emitter::new(move |event: &Event| heard.lock().unwrap().push(event.what.clone())), seen)
    }

    fn waiting(seen: &Mutex<Vec<What>>) -> Vec<String> {
        let of = |what: &What| match what {
            What::Progress { step, waiting, .. } => Some(format!("{step}: {waiting}")),
            _ => None,
        };
        seen.lock().unwrap().iter().filter_map(of).collect()
    }

    const SOON: Duration = Duration::from_millis(5);

    /// Work that ends when it was reported so often.
    async fn reported(seen: &Mutex<Vec<What>>, times: usize) {
        while waiting(seen).len() < times {
            wait::pause_for(SOON).await;
        }
    }

    #[tokio::test]
    async fn work_that_takes_its_time_says_what_it_waits_for_again_and_again() {
        let (emit, seen) = listening();
        emit.watched_every("prepare", SOON, SOON, Box::pin(doing("running sql/seed.sql", reported(&seen, 2)))).await;
        assert_eq!(waiting(&seen), ["prepare: running sql/seed.sql"; 2]);
    }

    #[tokio::test]
    async fn work_that_names_nothing_is_not_silent_either_and_what_is_over_at_once_is() {
        let (emit, seen) = listening();
        emit.watched_every("verify", SOON, SOON, Box::pin(reported(&seen, 1))).await;
        assert_eq!(waiting(&seen), ["verify: at work"]);
        emit.watched_every("verify", SOON, SOON, Box::pin(async {})).await;
        assert_eq!(waiting(&seen).len(), 1);
    }

    #[tokio::test]
    async fn every_step_is_watched() {
        let (emit, _) = listening();
        let work =
            async { Ok::<_, String>((cdc_pipeline::client::watch::is_watched(), StepOutcome::from(String::new()))) };
        assert!(emit.step("load", work).await.unwrap());
    }
}
