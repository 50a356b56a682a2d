//! Work that blocks its thread, for callers on any kind of runtime.

use tokio::sync::mpsc::{self, UnboundedSender};

use super::Progress;

/// What blocking work tells of itself.
enum Told {
    Line(String),
    Bytes(u64, u64),
}

/// Hands on what the work tells: whoever wants to know it need not outlive the caller, as the work's thread may.
struct Relay(UnboundedSender<Told>);

impl Progress for Relay {
    fn line(&self, text: &str) {
        // Nobody listens any more: the caller was dropped.
        let _ = self.0.send(Told::Line(text.to_owned()));
    }

    fn bytes(&self, done: u64, total: u64) {
        let _ = self.0.send(Told::Bytes(done, total));
    }
}

/// Does the work on a thread on which it may block, and passes on its progress meanwhile. Unlike `block_in_place` this is
/// possible on a runtime of one thread too, where a plain `#[tokio::test]` runs. When the caller is dropped the work goes on to its
/// end. A panic of the work is the caller's.
pub(super) async fn blocking<T: Send + 'static>(
    progress: &dyn Progress,
    work: impl FnOnce(&dyn Progress) -> T + Send + 'static,
) -> T {
    let (sender, mut told) = mpsc::unbounded_channel();
    let working = tokio::task::spawn_blocking(move || work(&Relay(sender)));
    while let Some(told) = told.recv().await {
        match told {
            Told::Line(text) => progress.line(&text),
            Told::Bytes(done, total) => progress.bytes(done, total),
        }
    }
    match working.await {
        Ok(made) => made,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // It is never aborted, so it is cancelled only with the runtime, and this with it.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Progress for Heard {
        fn line(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }

        fn bytes(&self, done: u64, total: u64) {
            self.line(&format!("{done} of {total}"));
        }
    }

    async fn seven(heard: &Heard) -> u32 {
        blocking(heard, |progress| {
            progress.line("begun");
            progress.bytes(1, 2);
            7
        })
        .await
    }

    #[tokio::test(flavor = "current_thread")]
    async fn blocking_work_is_done_on_a_runtime_of_one_thread() {
        let heard = Heard::default();
        assert_eq!(seven(&heard).await, 7);
        assert_eq!(*heard.0.lock().unwrap(), ["begun", "1 of 2"]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn blocking_work_is_done_in_a_local_set() {
        let local = tokio::task::LocalSet::new();
        assert_eq!(local.run_until(async { seven(&Heard::default()).await }).await, 7);
    }
}
