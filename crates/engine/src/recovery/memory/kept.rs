//! What steps learn.

use std::ops::Deref;

use serde::{Serialize, de::DeserializeOwned};

use super::Memory;
use crate::recovery::RecoveryError;

/// A value that a recovery learns on its way. Reading is free; the only way to change it writes it down first, so that what was
/// known when something was destroyed is known to the run that goes on.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    value: T,
    what: &'static str,
    /// None while nothing is changed: a plan.
    memory: Option<Memory>,
}

impl<T: Clone + Default + Serialize + DeserializeOwned> Kept<T> {
    /// What an earlier run of the recovery learned last, where there was one.
    pub(crate) fn of(what: &'static str, record: Option<&Memory>) -> Result<Kept<T>, RecoveryError> {
        let learned = record.map(|memory| memory.learned(what)).transpose()?.flatten();
        Ok(Kept { value: learned.unwrap_or_default(), what, memory: None })
    }

    /// From here on changes are written down.
    pub(crate) fn keep_in(&mut self, memory: &Memory) {
        self.memory = Some(memory.clone());
    }

    /// Changes the value, once the change is on disk.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut T)) -> Result<(), RecoveryError> {
        let mut next = self.value.clone();
        change(&mut next);
        if let Some(memory) = &self.memory {
            memory.note(self.what, &next)?;
        }
        self.value = next;
        Ok(())
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::memory::folder::tests::begun;

    #[test]
    fn what_was_learned_is_known_to_the_run_that_goes_on() {
        let (_folder, memory) = begun();
        let mut kept: Kept<Vec<String>> = Kept::of("segments", None).unwrap();
        kept.keep_in(&memory);
        kept.change(|k| k.push("a".into())).unwrap();
        kept.change(|k| k.push("b".into())).unwrap();
        let again = Memory::open(memory.folder()).unwrap();
        assert_eq!(*Kept::<Vec<String>>::of("segments", Some(&again)).unwrap(), ["a", "b"]);
        assert!(Kept::<Vec<String>>::of("other", Some(&again)).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_written_down_is_not_learned() {
        let (folder, memory) = begun();
        let mut kept: Kept<u64> = Kept::of("rows", None).unwrap();
        kept.keep_in(&memory);
        memory.break_for_tests();
        assert!(kept.change(|rows| *rows = 7).is_err());
        assert_eq!(*kept, 0);
        drop(folder);
    }
}
