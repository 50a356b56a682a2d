//! Waiting for a condition: the one place that sleeps.

use std::{
    fmt::Display,
    future::Future,
    time::{Duration, Instant},
};

use super::ClientError;

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

/// The first pause between two looks; each pause is half as long again as the one before, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Short enough that waiting adds little to a measured recovery time.
const PAUSE_MAX: Duration = Duration::from_millis(150);

/// Looks again and again until the condition holds, cannot hold any more, or the deadline has passed. A look that
/// returns an error counts as "not yet": a server that is starting refuses connections.
pub async fn until<T, E, F, Fut>(what: &str, deadline: Duration, look: F) -> Result<T, ClientError>
where
    E: Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Poll<T>, E>>,
{
    until_steady(what, Duration::ZERO, deadline, look).await
}

/// Like [`until`], for a condition that may hold and break again: it must hold in every look for `steady`.
pub async fn until_steady<T, E, F, Fut>(
    what: &str,
    steady: Duration,
    deadline: Duration,
    mut look: F,
) -> Result<T, ClientError>
where
    E: Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Poll<T>, E>>,
{
    let began = Instant::now();
    let mut pause = PAUSE_MIN;
    let mut last = String::from("nothing yet");
    let mut holds_since = None;
    loop {
        let left = deadline.saturating_sub(began.elapsed());
        let seen = tokio::time::timeout(left.max(PAUSE_MIN), look()).await;
        if !matches!(seen, Ok(Ok(Poll::Ready(_)))) {
            holds_since = None;
        }
        match seen {
            Ok(Ok(Poll::Ready(value))) => {
                let held = holds_since.get_or_insert_with(Instant::now).elapsed();
                if held >= steady {
                    return Ok(value);
                }
                last = format!("it holds, for {:.1} s", held.as_secs_f64());
            }
            Ok(Ok(Poll::Hopeless(why))) => return Err(ClientError::Hopeless { what: what.to_owned(), why }),
            Ok(Ok(Poll::NotYet(seen))) => last = seen,
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = format!("{last} (the last look did not return)"),
        }
        if began.elapsed() >= deadline {
            return Err(ClientError::TimedOut { what: what.to_owned(), seconds: began.elapsed().as_secs_f64(), last });
        }
        pause_for(pause).await;
        pause = (pause * 3 / 2).min(PAUSE_MAX);
    }
}

/// Pauses. For pacing only; a pause is never a substitute for a condition.
#[allow(clippy::disallowed_methods, reason = "the one place that sleeps")]
pub async fn pause_for(time: Duration) {
    tokio::time::sleep(time).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deadline_names_the_last_observation() {
        let error = until::<(), String, _, _>("the door", Duration::from_millis(30), || async {
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
            Ok::<_, String>(match looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
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
    async fn a_hopeless_condition_ends_the_wait_at_once() {
        let began = Instant::now();
        let error = until::<(), String, _, _>("the door", Duration::from_secs(60), || async {
            Ok(Poll::Hopeless("walled up".into()))
        })
        .await
        .unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(5));
        assert!(error.to_string().contains("walled up"), "{error}");
    }
}
