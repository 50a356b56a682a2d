//! Waiting for a condition: the one place that sleeps.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use super::{
    ClientError,
    limits::{
        Bound, asking,
        pacing::{PAUSE_MAX, PAUSE_MIN},
    },
    watch::Shown,
};
use cdc_model::units::{Failure, Hint};

/// What one look at a condition showed.
#[derive(Debug)]
pub enum Poll<T> {
    /// It holds.
    Ready(T),
    /// Not yet; what was seen instead.
    NotYet(String),
    /// It cannot come true any more; why.
    Hopeless(String),
}

/// Looks again and again until the condition holds, cannot hold any more, or the bound is reached. An error that waiting
/// may cure counts as "not yet", since a server that is starting refuses connections; but a system that has not answered
/// for [`asking::OUTAGE`] ends the wait, however far its bound is. An error that no waiting cures ends it at once.
pub async fn until<T, E, F, Fut>(what: &str, bound: impl Into<Bound>, look: F) -> Result<T, ClientError>
where
    E: Failure,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Poll<T>, E>>,
{
    until_steady(what, Duration::ZERO, bound, look).await
}

/// Like [`until`], for a condition that may hold and break again: it must hold in every look for `steady`.
pub(crate) async fn until_steady<T, E, F, Fut>(
    what: &str,
    steady: Duration,
    bound: impl Into<Bound>,
    mut look: F,
) -> Result<T, ClientError>
where
    E: Failure,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Poll<T>, E>>,
{
    let still = || {
        let look = look();
        async move { look.await.map(|seen| (seen, ())) }
    };
    Wait::new(what, steady, bound.into(), Ends::Late).run(still).await
}

/// Looks that have to agree that nothing moves. Usually there are dozens within a standstill; where each takes seconds, the
/// systems that are asked are slower than this program, and few looks prove nothing.
const LOOKS_OF_A_STANDSTILL: u32 = 5;

/// Like [`until`], for something that takes as long as it takes: `standstill` is how long nothing may move, in several looks
/// that were answered. A look gives what is seen and a measure that changes while things move: records, positions, sizes.
pub async fn while_moving<T, E, M, F, Fut>(what: &str, standstill: impl Into<Bound>, look: F) -> Result<T, ClientError>
where
    E: Failure,
    M: PartialEq,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<(Poll<T>, M), E>>,
{
    Wait::new(what, Duration::ZERO, standstill.into(), Ends::Still).run(look).await
}

/// What a wait's bound is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// From its beginning.
    Late,
    /// From the last movement.
    Still,
}

struct Wait<'a> {
    what: &'a str,
    steady: Duration,
    bound: Bound,
    ends: Ends,
    /// How long every look may fail.
    outage: Bound,
    began: Instant,
    moved: Instant,
    /// Looks that were answered since, and showed the same.
    still: u32,
    last: String,
    /// What the last look's error hints at.
    hints: Vec<Hint>,
}

impl<'a> Wait<'a> {
    fn new(what: &'a str, steady: Duration, bound: Bound, ends: Ends) -> Wait<'a> {
        let now = Instant::now();
        let outage = asking::OUTAGE.into();
        let last = "nothing yet".to_owned();
        Wait { what, steady, bound, ends, outage, began: now, moved: now, still: 0, last, hints: Vec::new() }
    }

    /// How much of the bound is left.
    fn left(&self) -> Duration {
        let since = if self.ends == Ends::Late { self.began } else { self.moved };
        self.bound.now().saturating_sub(since.elapsed())
    }

    /// How long a look may take. One at something that takes its time is not cut short: that it is slow is no standstill.
    fn patience(&self) -> Duration {
        match self.ends {
            Ends::Late => self.left().max(PAUSE_MIN),
            Ends::Still => self.left().max(asking::ANSWER.now()),
        }
    }

    fn is_over(&self) -> bool {
        self.left().is_zero() && (self.ends == Ends::Late || self.still >= LOOKS_OF_A_STANDSTILL)
    }

    async fn run<T, E, M, F, Fut>(mut self, mut look: F) -> Result<T, ClientError>
    where
        E: Failure,
        M: PartialEq,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<(Poll<T>, M), E>>,
    {
        let mut pause = PAUSE_MIN;
        let mut holds_since = None;
        let mut failing_since = None;
        let mut measure = None;
        let shown = Shown::new(self.what.to_owned());
        loop {
            let seen = tokio::time::timeout(self.patience(), look()).await;
            if !matches!(seen, Ok(Ok((Poll::Ready(_), _)))) {
                holds_since = None;
            }
            if matches!(seen, Ok(Ok(_))) {
                failing_since = None;
                self.hints.clear();
            }
            match seen {
                Ok(Ok((Poll::Ready(value), _))) => {
                    let held = holds_since.get_or_insert_with(Instant::now).elapsed();
                    if held >= self.steady {
                        return Ok(value);
                    }
                    self.last = format!("it holds, for {:.1} s", held.as_secs_f64());
                }
                Ok(Ok((Poll::Hopeless(why), _))) => return Err(self.hopeless(why)),
                Ok(Ok((Poll::NotYet(seen), now))) => {
                    self.last = seen;
                    shown.saw(&self.last);
                    match measure.as_ref() == Some(&now) {
                        true => self.still += 1,
                        false => (measure, self.moved, self.still) = (Some(now), Instant::now(), 0),
                    }
                }
                Ok(Err(error)) => {
                    (self.last, self.hints) = (error.to_string(), error.hints());
                    shown.saw(&self.last);
                    if !error.is_transient() {
                        return Err(self.hopeless(self.last.clone()));
                    }
                    let failing = failing_since.get_or_insert_with(Instant::now).elapsed();
                    if failing >= self.outage.now() {
                        let why = format!("{} (for {:.0} s, in every look)", self.last, failing.as_secs_f64());
                        return Err(self.hopeless(why));
                    }
                }
                Err(_) => {
                    self.last = format!("{} (the last look did not return)", self.last);
                    let failing = failing_since.get_or_insert_with(Instant::now).elapsed();
                    if self.ends == Ends::Still && failing >= self.outage.now() {
                        return Err(self.hopeless(format!("{} (for {:.0} s)", self.last, failing.as_secs_f64())));
                    }
                }
            }
            if self.is_over() {
                return Err(self.timed_out());
            }
            pause_for(pause).await;
            pause = (pause * 3 / 2).min(PAUSE_MAX);
        }
    }

    fn hopeless(&self, why: String) -> ClientError {
        ClientError::Hopeless { what: self.what.to_owned(), why, hints: self.hints.clone() }
    }

    fn timed_out(self) -> ClientError {
        let bound = match self.ends {
            Ends::Late => format!("limit: {}", self.bound),
            Ends::Still => {
                let still = self.moved.elapsed().as_secs_f64();
                format!("nothing moved for {still:.1} s; limit: {}", self.bound)
            }
        };
        let seconds = self.began.elapsed().as_secs_f64();
        ClientError::TimedOut { what: self.what.to_owned(), seconds, bound, last: self.last, hints: self.hints }
    }
}

/// Pauses. For pacing only; a pause is never a substitute for a condition.
#[allow(clippy::disallowed_methods, reason = "the one place that sleeps")]
pub async fn pause_for(time: Duration) {
    tokio::time::sleep(time).await;
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[tokio::test]
    async fn a_deadline_names_the_last_observation() {
        let error = until::<(), Infallible, _, _>("the door", Duration::from_millis(30), || async {
            Ok(Poll::NotYet("ajar".into()))
        })
        .await
        .unwrap_err();
        assert!(error.to_string().contains("the door") && error.to_string().contains("ajar"), "{error}");
    }

    #[tokio::test]
    async fn a_condition_that_breaks_again_is_waited_for_anew() {
        let looks = std::sync::atomic::AtomicU32::new(0);
        let steady = Duration::from_secs(1);
        let began = Instant::now();
        until_steady("the door", steady, Duration::from_secs(60), || async {
            Ok::<_, Infallible>(match looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                1 => Poll::NotYet("open again".into()),
                _ => Poll::Ready(()),
            })
        })
        .await
        .unwrap();
        // The pauses before the third look, and then the whole time.
        assert!(began.elapsed() >= steady + 2 * PAUSE_MIN, "{:?}", began.elapsed());
        assert!(looks.into_inner() >= 4);
    }

    #[tokio::test]
    async fn an_error_that_no_waiting_cures_ends_the_wait_at_once() {
        let began = Instant::now();
        let look = || async {
            let refused = ClientError::answer("postgres", "db:5432", "open a session", "a session", "no such role");
            Err::<Poll<()>, _>(refused.for_good())
        };
        let error = until("the door", Duration::from_secs(60), look).await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(5));
        assert!(error.to_string().contains("no such role"), "{error}");
        assert!(matches!(error, ClientError::Hopeless { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_system_that_stays_away_ends_a_wait_whose_bound_is_far() {
        let far = Duration::from_secs(12 * 3600);
        let wait = |outage| Wait { outage, ..Wait::new("the snapshot", Duration::ZERO, far.into(), Ends::Late) };
        let away = || async {
            let refused = ClientError::unreachable("connect", "http://worker:8083", "connection refused");
            Err::<(Poll<()>, ()), _>(refused)
        };
        let began = Instant::now();
        let error = wait(Duration::from_millis(100).into()).run(away).await.unwrap_err().to_string();
        assert!(began.elapsed() < Duration::from_secs(60));
        assert!(error.contains("worker:8083") && error.contains("in every look"), "{error}");

        // One that answers in between is back: only what stays away counts.
        let looks = std::cell::Cell::new(0_u32);
        let flapping = || async {
            looks.set(looks.get() + 1);
            match looks.get() {
                n if n > 20 => Ok((Poll::Ready(()), ())),
                n if n % 2 == 0 => Err(ClientError::unreachable("connect", "http://worker:8083", "connection refused")),
                _ => Ok((Poll::NotYet("it runs".into()), ())),
            }
        };
        wait(Duration::from_secs(30).into()).run(flapping).await.unwrap();
    }

    #[tokio::test]
    async fn what_moves_is_waited_for_and_what_stands_still_is_not() {
        let still = Duration::from_secs(1);
        let looks = std::cell::Cell::new(0_u32);
        let began = Instant::now();
        let error = while_moving::<(), Infallible, _, _, _>("the snapshot", still, || async {
            looks.set(looks.get() + 1);
            // Moves in the first looks, which together take longer than it may stand still.
            Ok((Poll::NotYet("rows come".into()), looks.get().min(16)))
        })
        .await
        .unwrap_err();
        assert!(looks.get() > 16 && began.elapsed() > 2 * still, "{} looks, {:?}", looks.get(), began.elapsed());
        let text = error.to_string();
        assert!(text.contains("nothing moved for") && text.contains("rows come"), "{text}");
    }

    #[tokio::test]
    async fn a_slow_answer_is_no_standstill() {
        let still = Duration::from_millis(100);
        let looks = std::cell::Cell::new(0_u32);
        // Each look takes longer than anything may stand still, and the fourth one shows that it holds.
        while_moving::<(), Infallible, _, _, _>("the marker", still, || async {
            pause_for(2 * still).await;
            looks.set(looks.get() + 1);
            Ok((if looks.get() < 4 { Poll::NotYet("not read".into()) } else { Poll::Ready(()) }, 7))
        })
        .await
        .unwrap();
        assert_eq!(looks.get(), 4);
    }

    #[tokio::test]
    async fn a_hopeless_condition_ends_the_wait_at_once() {
        let began = Instant::now();
        let error = until::<(), Infallible, _, _>("the door", Duration::from_secs(60), || async {
            Ok(Poll::Hopeless("walled up".into()))
        })
        .await
        .unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(5));
        assert!(error.to_string().contains("walled up"), "{error}");
    }
}
