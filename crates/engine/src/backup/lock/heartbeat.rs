//! The heartbeat of a lock: its file is touched, or its object written again, for as long as it is held.

use std::{
    convert::Infallible,
    fs::File,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::{stat::futimens, time::TimeSpec};

/// Does something now and then, until it is dropped.
#[derive(Debug)]
pub(super) struct Pulse {
    /// Nothing is ever sent: dropping it ends the thread.
    ends: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Pulse {
    pub(super) fn start(every: Duration, beat: impl Fn() -> io::Result<()> + Send + 'static) -> io::Result<Pulse> {
        let (ends, ended) = mpsc::channel::<Infallible>();
        // A thread of its own: a backup may keep every thread of the runtime busy for minutes.
        let beats = move || {
            let mut failing = false;
            while matches!(ended.recv_timeout(every), Err(RecvTimeoutError::Timeout)) {
                let result = beat();
                if let (Err(error), false) = (&result, failing) {
                    tracing::warn!(%error, "the heartbeat of a lock fails; other machines may take the lock over");
                }
                failing = result.is_err();
            }
        };
        let thread = thread::Builder::new().name("lock-heartbeat".into()).spawn(beats)?;
        Ok(Pulse { ends: Some(ends), thread: Some(thread) })
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        drop(self.ends.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Touches a file now and then, until it is dropped. It keeps the file open, and with it the file's flock.
#[derive(Debug)]
pub(super) struct Heartbeat {
    file: Arc<Mutex<File>>,
    _pulse: Pulse,
}

impl Heartbeat {
    pub(super) fn start(file: File, every: Duration) -> io::Result<Heartbeat> {
        let file = Arc::new(Mutex::new(file));
        let touched = Arc::clone(&file);
        let pulse = Pulse::start(every, move || touch(&held(&touched)))?;
        Ok(Heartbeat { file, _pulse: pulse })
    }

    /// Goes on with another file. The one before is closed.
    pub(super) fn follow(&self, file: File) {
        *held(&self.file) = file;
    }
}

/// The present time by the file server's clock: only its own clock says how old a heartbeat is.
fn touch(file: &File) -> io::Result<()> {
    Ok(futimens(file, &TimeSpec::UTIME_OMIT, &TimeSpec::UTIME_NOW)?)
}

fn held(file: &Mutex<File>) -> MutexGuard<'_, File> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_pipeline::client::wait::{self, Poll};
    use std::time::SystemTime;

    const LONG_AGO: SystemTime = SystemTime::UNIX_EPOCH;

    async fn beats(file: &File) {
        let beat = wait::until("a heartbeat", Duration::from_secs(60), || async {
            Ok::<_, std::convert::Infallible>(match file.metadata().unwrap().modified().unwrap() {
                LONG_AGO => Poll::NotYet("none".into()),
                _ => Poll::Ready(()),
            })
        });
        beat.await.unwrap();
    }

    #[tokio::test]
    async fn it_beats_in_the_file_that_it_follows_and_ends_when_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_modified(LONG_AGO).unwrap();
            file
        };
        let (first, second) = (file("first"), file("second"));
        let heartbeat = Heartbeat::start(first.try_clone().unwrap(), Duration::from_millis(5)).unwrap();
        beats(&first).await;
        heartbeat.follow(second.try_clone().unwrap());
        beats(&second).await;
        let open = Arc::downgrade(&heartbeat.file);
        drop(heartbeat);
        assert!(open.upgrade().is_none(), "the thread has ended and the file is closed");
    }

    #[test]
    fn a_touch_leaves_the_content_alone() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        io::Write::write_all(&mut file, b"content").unwrap();
        file.as_file().set_modified(LONG_AGO).unwrap();
        touch(file.as_file()).unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), b"content");
        let age = file.as_file().metadata().unwrap().modified().unwrap().elapsed().unwrap();
        assert!(age < Duration::from_secs(60), "{age:?}");
    }
}
