//! A lock in a bucket: an object that says who holds it, and what an activity left behind that did not end.
//!
//! Every write is on the condition that the object is as it was read, so of two that write at once one fails, and looks again. The
//! heartbeat is such a write too: a lock is taken over only if no beat came since its holder was judged. An object is never removed, as
//! that would need no condition; one that says nothing is a free lock.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use cdc_model::units::IfThere;

use super::{
    file::{Content, Left, State},
    heartbeat::Pulse,
    held::HeldLock,
    holder::{Flock, Holder, Life, beats},
};
use crate::backup::{
    BackupError, files,
    storage::{Object, Version},
};
use cdc_pipeline::client::limits::facts::{HEARTBEAT, HEARTBEAT_OLD};

/// Buckets have no device number.
const NO_DEVICE: u64 = 0;

/// The object of one lock.
#[derive(Clone, Debug)]
pub(super) struct LockObject {
    object: Object,
    path: Utf8PathBuf,
}

/// What was read of a lock.
struct Seen {
    state: State,
    /// None where there is no object.
    version: Option<Version>,
}

impl LockObject {
    pub(super) fn new(object: Object, path: Utf8PathBuf) -> LockObject {
        LockObject { object, path }
    }

    pub(super) fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// What the lock means now. Changes nothing.
    pub(super) fn look(&self) -> Result<State, BackupError> {
        self.see().map(|seen| seen.state)
    }

    fn read(&self) -> Result<Option<(Vec<u8>, Version)>, BackupError> {
        self.object.read_versioned().if_there().map_err(BackupError::io("read", &self.path))
    }

    fn see(&self) -> Result<Seen, BackupError> {
        loop {
            let Some((bytes, version)) = self.read()? else {
                return Ok(Seen { state: State::Absent, version: None });
            };
            let state = self.judge(&bytes, || self.age())?;
            // What was looked at besides may be younger than what was read.
            if matches!(state, State::Dead { .. })
                && self.read()?.map(|(_, version)| version).as_ref() != Some(&version)
            {
                continue;
            }
            return Ok(Seen { state, version: Some(version) });
        }
    }

    /// `age` says how long ago the object was written; none where it is gone.
    fn judge(
        &self,
        bytes: &[u8],
        age: impl FnOnce() -> Result<Option<Duration>, BackupError>,
    ) -> Result<State, BackupError> {
        let content: Option<Content> = serde_json::from_slice(bytes).ok();
        let (by, recovery, left, life) = match content {
            Some(Content { holder: None, left }) if left.is_empty() => return Ok(State::Absent),
            Some(Content { holder: None, left }) => return Ok(State::Left(left)),
            Some(Content { holder: Some(holder), left }) => {
                let life = holder.life(Flock::Unsupported, NO_DEVICE);
                (holder.to_string(), holder.recovery().map(str::to_owned), left, life)
            }
            // Of a version that writes something else, or damaged.
            None => {
                let by = "a holder that the object does not name".to_owned();
                (by, None, Vec::new(), Life::of_unknown(Flock::Unsupported))
            }
        };
        let how = match life {
            Life::Lives => return Ok(State::Held { by, left }),
            Life::Dead => "its process has ended".to_owned(),
            Life::Elsewhere => match age()? {
                Some(age) if !beats(age) => {
                    format!("its last heartbeat is {} s old (limit: {} s)", age.as_secs(), HEARTBEAT_OLD.as_secs())
                }
                // One that is gone by now was released.
                Some(_) | None => return Ok(State::Held { by, left }),
            },
        };
        Ok(State::Dead { by, how, recovery, left })
    }

    /// How long ago the object was written, by the clock of the bucket's server, which stamps a probe now. None where the object is gone.
    fn age(&self) -> Result<Option<Duration>, BackupError> {
        let probe = files::temporary_beside(&self.path);
        let failed = |e| BackupError::io("make a temporary object", &probe)(e);
        let Some(object) = Object::at(&probe).map_err(failed)? else { return Ok(None) };
        object.write(b"").map_err(failed)?;
        let now = object.meta().map_err(failed);
        let then = self.object.meta().if_there().map_err(BackupError::io("look at", &self.path));
        object.remove().map_err(failed)?;
        let (now, Some(then)) = (now?, then?) else { return Ok(None) };
        Ok(Some((now.last_modified - then.last_modified).to_std().unwrap_or_default()))
    }

    pub(super) fn held(&self, by: String) -> BackupError {
        BackupError::LockHeld { path: self.path.clone(), holder: by }
    }

    /// Takes the lock for a recovery that goes on, if it is one.
    pub(super) fn take_for(&self, owner: &str, goes_on: Option<&str>) -> Result<HeldObject, BackupError> {
        loop {
            let Seen { state, version } = self.see()?;
            let is_own = state.is_own(goes_on);
            if let State::Held { by, .. } = state {
                return Err(self.held(by));
            }
            let dead = match &state {
                State::Dead { by, how, .. } => Some(format!("{by}: {how}")),
                State::Absent | State::Left(_) | State::Held { .. } => None,
            };
            let holder = Holder::this_process(owner, NO_DEVICE);
            let holder = match goes_on {
                Some(recovery) => holder.at_work_on(recovery),
                None => holder,
            };
            let content = Content { holder: Some(holder), left: state.left() };
            let Some(written) = self.write(content, version)? else { continue };
            match (dead, is_own) {
                (Some(dead), true) => tracing::info!(path = %self.path, "going on after {dead}"),
                (Some(dead), false) => tracing::warn!(path = %self.path, "taking over the lock of {dead}"),
                (None, _) => {}
            }
            return HeldObject::new(self.clone(), written);
        }
    }

    /// Writes over what was read; none where it is something else by now.
    fn write(&self, content: Content, over: Option<Version>) -> Result<Option<Written>, BackupError> {
        let bytes = files::canonical_json(&self.path, &content)?;
        let put = match over {
            None => self.object.create(&bytes),
            Some(version) => self.object.update(&bytes, &version),
        };
        match put {
            Ok(version) => Ok(Some(Written { content, version })),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(BackupError::io("write", &self.path)(error)),
        }
    }

    fn lost(&self) -> BackupError {
        let found = match self.read() {
            Err(error) => error.to_string(),
            Ok(None) => "no object".to_owned(),
            Ok(Some((bytes, _))) => match serde_json::from_slice::<Content>(&bytes).ok().and_then(|c| c.holder) {
                Some(holder) => format!("that of {holder}"),
                None => "one that names no holder".to_owned(),
            },
        };
        BackupError::LockLost { path: self.path.clone(), found }
    }
}

/// What this process has written last.
#[derive(Clone, Debug)]
struct Written {
    content: Content,
    version: Version,
}

/// A lock in a bucket that this process holds, until it is dropped.
#[derive(Debug)]
pub(super) struct HeldObject {
    lock: LockObject,
    written: Arc<Mutex<Written>>,
    pulse: Option<Pulse>,
}

impl HeldObject {
    fn new(lock: LockObject, written: Written) -> Result<HeldObject, BackupError> {
        let written = Arc::new(Mutex::new(written));
        let (beats_in, beaten) = (lock.clone(), Arc::clone(&written));
        let pulse = Pulse::start(HEARTBEAT, move || beat(&beats_in, &beaten));
        let pulse = pulse.map_err(BackupError::io("start the heartbeat of", lock.path()))?;
        Ok(HeldObject { lock, written, pulse: Some(pulse) })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&mut self) -> Result<(), BackupError> {
        let written = self.written().clone();
        let content = Content { holder: None, left: written.content.left };
        self.lock.write(content, Some(written.version))?.map(drop).ok_or_else(|| self.lock.lost())
    }
}

/// Writes the lock again, as another content. One that is lost is left alone: its holder finds out before its next step.
fn beat(lock: &LockObject, written: &Mutex<Written>) -> io::Result<()> {
    let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
    match lock.write(written.content.again(), Some(written.version.clone())) {
        Ok(Some(again)) => {
            *written = again;
            Ok(())
        }
        Ok(None) => Err(io::Error::other(lock.lost().to_string())),
        Err(BackupError::Io { cause, .. }) => Err(cause),
        Err(other) => Err(io::Error::other(other.to_string())),
    }
}

impl HeldLock for HeldObject {
    fn left(&self) -> Vec<Left> {
        self.written().content.left.clone()
    }

    fn change(&self, change: &dyn Fn(&Content) -> Content) -> Result<(), BackupError> {
        let mut written = self.written();
        let content = change(&written.content);
        *written = self.lock.write(content, Some(written.version.clone()))?.ok_or_else(|| self.lock.lost())?;
        Ok(())
    }

    fn still_ours(&self) -> Result<(), BackupError> {
        let written = self.written();
        match self.lock.read()? {
            Some((_, version)) if version == written.version => Ok(()),
            _ => Err(self.lock.lost()),
        }
    }
}

impl Drop for HeldObject {
    fn drop(&mut self) {
        drop(self.pulse.take());
        if let Err(error) = self.release() {
            tracing::warn!(%error, "lock not released; it counts as that of a process that has ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{ClusterName, fixture};
    use cdc_model::units::{Exit, Failure};
    use rstest::rstest;

    fn lock() -> LockObject {
        let path = fixture::bucket().join("locks/recovery.lock");
        LockObject::new(Object::at(&path).unwrap().unwrap(), path)
    }

    fn left() -> Left {
        Left {
            recovery: "20261122T201400Z-1a2b".into(),
            folder: "/recoveries/20261122T201400Z-1a2b".into(),
            repository: "s3://bucket/repository".into(),
            asked: "recover run coordinated --target latest".into(),
            cluster: ClusterName { pgdata: "/data".into(), address: "h:1".into(), system_id: None },
        }
    }

    /// The lock as `holder` makes it of this process.
    fn held_by(lock: &LockObject, holder: impl FnOnce(Holder) -> Holder) -> Written {
        let holder = holder(Holder::this_process("recover run coordinated", NO_DEVICE));
        let version = lock.see().unwrap().version;
        lock.write(Content { holder: Some(holder), left: vec![left()] }, version).unwrap().unwrap()
    }

    fn judged(lock: &LockObject, age: Option<Duration>) -> State {
        let (bytes, _) = lock.read().unwrap().unwrap();
        lock.judge(&bytes, || Ok(age)).unwrap()
    }

    #[test]
    fn a_lock_is_held_until_it_is_given_back_and_what_was_left_stays() {
        let lock = lock();
        let held = lock.take_for("backup create", None).unwrap();
        held.still_ours().unwrap();
        let error = lock.take_for("backup create", None).unwrap_err();
        assert_eq!(error.exit(), Exit::LockHeld);
        assert!(error.to_string().contains("backup create (pid"), "{error}");
        held.leave(left()).unwrap();
        held.still_ours().unwrap();
        drop(held);
        assert_eq!(lock.look().unwrap(), State::Left(vec![left()]));
        let again = lock.take_for("recover resume", None).unwrap();
        assert_eq!(again.left(), [left()]);
        again.clear(&left().recovery).unwrap();
        drop(again);
        assert_eq!(lock.look().unwrap(), State::Absent);
    }

    #[test]
    fn the_lock_of_a_process_that_has_ended_on_this_machine_is_taken_at_once() {
        let lock = lock();
        held_by(&lock, Holder::before);
        assert!(matches!(lock.look().unwrap(), State::Dead { left: all, .. } if all == [left()]));
        let held = lock.take_for("recover resume", Some(&left().recovery)).unwrap();
        assert_eq!(held.left(), [left()]);
    }

    #[rstest]
    #[case::another_machine(Holder::of_another_boot)]
    #[case::another_container(Holder::of_another_namespace)]
    fn elsewhere_the_heartbeat_decides(#[case] holder: fn(Holder) -> Holder) {
        let lock = lock();
        held_by(&lock, holder);
        assert!(matches!(lock.look().unwrap(), State::Held { .. }), "written a moment ago, by the bucket's clock");
        assert_eq!(lock.take_for("x", None).unwrap_err().exit(), Exit::LockHeld);
        assert!(matches!(judged(&lock, Some(HEARTBEAT)), State::Held { .. }));
        assert!(matches!(judged(&lock, Some(HEARTBEAT_OLD * 2)), State::Dead { .. }));
        assert!(
            matches!(judged(&lock, None), State::Held { .. }),
            "it is written or gone by now: nothing is taken over"
        );
        assert_eq!(
            crate::backup::storage::files_below(lock.path().parent().unwrap()).unwrap().len(),
            1,
            "no probe is left"
        );
    }

    #[test]
    fn a_beat_keeps_a_lock_from_whoever_has_judged_it_before() {
        let lock = lock();
        let written = Mutex::new(held_by(&lock, Holder::of_another_boot));
        // It seemed dead.
        let judged = lock.see().unwrap();
        beat(&lock, &written).unwrap();
        let holder = Holder::this_process("x", NO_DEVICE);
        let taken = lock.write(Content { holder: Some(holder), left: Vec::new() }, judged.version).unwrap();
        assert!(taken.is_none(), "the live holder's lock is broken");
        assert_eq!(lock.read().unwrap().unwrap().1, written.into_inner().unwrap().version);
    }

    #[test]
    fn a_holder_notices_that_its_lock_is_lost_and_leaves_anothers_alone() {
        let lock = lock();
        let held = lock.take_for("recover run coordinated", None).unwrap();
        held_by(&lock, Holder::of_another_boot);
        let there = lock.read().unwrap().unwrap().0;
        for lost in [held.still_ours(), held.leave(left()), held.clear("x")] {
            assert!(matches!(lost, Err(BackupError::LockLost { .. })), "{lost:?}");
        }
        beat(&lock, &held.written).unwrap_err();
        drop(held);
        assert_eq!(lock.read().unwrap().unwrap().0, there);
    }

    #[test]
    fn what_is_no_lock_is_held_by_somebody_until_it_is_old() {
        let lock = lock();
        lock.object.write(b"{\"of\": \"another version\"").unwrap();
        assert!(matches!(judged(&lock, Some(Duration::ZERO)), State::Held { .. }));
        assert!(matches!(judged(&lock, Some(HEARTBEAT_OLD * 2)), State::Dead { .. }));
    }
}
