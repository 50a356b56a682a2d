//! What work waits for, for whoever looks on from outside.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

tokio::task_local! {
    /// The watch over the work of this task.
    static WATCH: Watch;
}

/// A watch over a piece of work: every wait in it shows what it waits for and what it saw last, and so does each part that is named by
/// [`doing`]. What the work leaves to other tasks is not seen.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Entries>);

#[derive(Debug, Default)]
struct Entries {
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Activity>>,
}

/// Something that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    /// What it is: `connector shop to stream`, `running sql/seed.sql`.
    pub what: String,
    /// What was seen last; none before the first look, and where nothing is looked at.
    pub seen: Option<String>,
}

impl Watch {
    /// Does the work under this watch. The work is boxed: an asynchronous function that is given a future holds it twice, and those of a
    /// drill's steps are large.
    pub fn over<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        WATCH.scope(self.clone(), Box::pin(work))
    }

    /// What is under way, what began first at the front.
    pub fn activities(&self) -> Vec<Activity> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// What is under way in a few words; none where nothing is known of it.
    pub fn describe(&self) -> Option<String> {
        let each = self.activities().into_iter().map(|Activity { what, seen }| match seen {
            Some(seen) => format!("{what} (last seen: {seen})"),
            None => what,
        });
        Some(each.collect::<Vec<_>>().join("; ")).filter(|text| !text.is_empty())
    }
}

/// Does work that no wait of this program's describes: another program's, or a long statement.
pub fn doing<F: Future>(what: impl Into<String>, work: F) -> impl Future<Output = F::Output> {
    let (what, work) = (what.into(), Box::pin(work));
    async move {
        let _shown = Shown::new(what);
        work.await
    }
}

/// Whether this task's work is watched.
pub fn is_watched() -> bool {
    WATCH.try_with(|_| ()).is_ok()
}

/// An activity of this task's watch, for as long as it lives; of none, where the task has no watch.
pub(super) struct Shown(Option<(Watch, u64)>);

impl Shown {
    pub(super) fn new(what: String) -> Shown {
        Shown(WATCH.try_with(Watch::clone).ok().map(|watch| {
            let id = watch.0.next.fetch_add(1, Ordering::Relaxed);
            watch.with(|open| open.insert(id, Activity { what, seen: None }));
            (watch, id)
        }))
    }

    /// What was seen last.
    pub(super) fn saw(&self, seen: &str) {
        if let Some((watch, id)) = &self.0 {
            watch.with(|open| open.get_mut(id).map(|activity| activity.seen = Some(seen.to_owned())));
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some((watch, id)) = &self.0 {
            watch.with(|open| open.remove(id));
        }
    }
}

impl Watch {
    fn with<R>(&self, change: impl FnOnce(&mut BTreeMap<u64, Activity>) -> R) {
        change(&mut self.0.open.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use super::*;
    use crate::client::wait::{self, Poll};

    #[tokio::test]
    async fn a_wait_shows_what_it_waits_for_until_it_ends() {
        let watch = Watch::default();
        let looks = std::cell::Cell::new(0);
        let look = || async {
            looks.set(looks.get() + 1);
            match looks.get() {
                1 => assert_eq!(watch.describe().as_deref(), Some("filling the house; the door")),
                2 => assert_eq!(watch.describe().as_deref(), Some("filling the house; the door (last seen: ajar)")),
                _ => return Ok::<_, Infallible>(Poll::Ready(())),
            }
            Ok(Poll::NotYet("ajar".into()))
        };
        let work = doing("filling the house", wait::until("the door", Duration::from_secs(60), look));
        watch.over(work).await.unwrap();
        assert_eq!(looks.get(), 3);
        assert_eq!(watch.describe(), None);
    }

    #[tokio::test]
    async fn a_look_that_fails_is_what_was_seen() {
        let watch = Watch::default();
        let looks = std::cell::Cell::new(0);
        let look = || async {
            looks.set(looks.get() + 1);
            match looks.get() {
                1 => Err(crate::client::ClientError::unreachable("connect", "http://w:1", "refused")),
                _ => Ok(Poll::Ready(watch.describe())),
            }
        };
        let seen = watch.over(wait::until("the worker", Duration::from_secs(60), look)).await.unwrap();
        assert_eq!(seen.as_deref(), Some("the worker (last seen: connect at http://w:1 does not answer: refused)"));
    }

    #[tokio::test]
    async fn what_has_no_watch_is_done_all_the_same() {
        assert_eq!(doing("anything", async { 7 }).await, 7);
    }
}
