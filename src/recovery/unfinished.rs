//! What a recovery that was killed left lowered: the levels of subjects, which stand in its journal. The next recovery puts
//! them back before it looks at anything.

use std::io::BufRead;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err::File;
use serde_json::Value;

use super::{Playbook, RecoveryError, journal::Journal, schema::put_level};
use crate::{attach, client::registry::Registry, config::Config, units::Subject};

/// The note by which a recovery says what the levels were that it is about to lower.
pub(super) const LOWERED: &str = "lowered-levels";
/// The note by which it says that they are what they were.
pub(super) const PUT_BACK: &str = "levels-put-back";
/// What they are lowered to.
pub(super) const LOWEST: &str = "NONE";

/// Subjects, each with its own level; none where it has none.
type Levels = Vec<(Subject, Option<String>)>;

/// Levels that one recovery lowered and did not put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lowered {
    /// Its journal.
    journal: Utf8PathBuf,
    /// What each subject's own level was; none where it had none.
    levels: Levels,
}

/// A subject whose level still is what the recovery lowered it to.
struct Left {
    subject: Subject,
    level: Option<String>,
    journal: Utf8PathBuf,
}

impl Left {
    fn told(&self, what: &str) -> String {
        let level = self.level.as_deref().unwrap_or("unset");
        let recovery = self.journal.file_stem().unwrap_or_default();
        format!(
            "subject {} was left at level {LOWEST} by recovery {recovery}, which did not end: {what} {level}",
            self.subject
        )
    }
}

/// What the journals of a repository say was lowered and not put back, the newest first: where several lowered one subject,
/// the oldest knows what it was.
fn lowered(repository: &Utf8Path) -> Result<Vec<Lowered>, RecoveryError> {
    let folder = repository.join("journal");
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = folder.read_dir_utf8().map_err(|e| RecoveryError::io("read folder", &folder, e))?;
    let mut journals: Vec<Utf8PathBuf> = entries.flatten().map(|e| e.into_path()).collect();
    journals.retain(|path| path.extension() == Some("jsonl"));
    journals.sort_by(|a, b| b.cmp(a));
    let mut all = Vec::new();
    for journal in journals {
        let levels = levels_in(&journal)?;
        all.extend(levels.map(|levels| Lowered { journal, levels }));
    }
    Ok(all)
}

fn levels_in(journal: &Utf8Path) -> Result<Option<Levels>, RecoveryError> {
    let unreadable = |e| RecoveryError::io("read journal", journal, e);
    let file = File::open(journal).map_err(unreadable)?;
    let mut levels = None;
    for line in std::io::BufReader::new(file).split(b'\n') {
        // The last line of a recovery that was killed may be half a line.
        let Ok(line) = serde_json::from_slice::<Value>(&line.map_err(unreadable)?) else { continue };
        match line["note"].as_str() {
            Some(LOWERED) => levels = serde_json::from_value(line["value"].clone()).ok(),
            Some(PUT_BACK) => levels = None,
            _ => {}
        }
    }
    Ok(levels)
}

/// Of what was lowered, what still is: a level that somebody has set since is theirs.
async fn left(registry: &Registry, lowered: &[Lowered]) -> Result<Vec<Left>, RecoveryError> {
    let mut all = Vec::new();
    for one in lowered {
        for (subject, level) in &one.levels {
            if level.as_deref() != Some(LOWEST) && registry.subject_level(subject).await?.as_deref() == Some(LOWEST) {
                all.push(Left { subject: subject.clone(), level: level.clone(), journal: one.journal.clone() });
            }
        }
    }
    Ok(all)
}

/// What a run would put back first.
pub(super) async fn planned(config: &Config, playbook: Playbook) -> Result<Vec<String>, RecoveryError> {
    let lowered = lowered(&config.repository.path)?;
    match left(&Registry::of(&config.registry), &lowered).await {
        Ok(left) => Ok(left.iter().map(|l| l.told("a run first puts it back to")).collect()),
        Err(error) => not_in_the_way(playbook, error),
    }
}

/// Puts back what was left lowered, and says so. No other recovery may be running.
pub(super) async fn put_back(config: &Config, playbook: Playbook) -> Result<Vec<String>, RecoveryError> {
    let lowered = lowered(&config.repository.path)?;
    let outcome = async {
        let registry = Registry::of(&config.registry);
        let left = left(&registry, &lowered).await?;
        attach::within(config, "subject", left.iter().map(|l| l.subject.as_str()))?;
        for Left { subject, level, .. } in &left {
            put_level(&registry, subject, level.as_deref()).await?;
        }
        for one in &lowered {
            Journal::again(&one.journal)?.note(PUT_BACK, &one.levels)?;
        }
        Ok(left.iter().map(|l| l.told("put back to")).collect())
    };
    match outcome.await {
        Ok(said) => Ok(said),
        Err(error) => not_in_the_way(playbook, error),
    }
}

/// A registry that does not answer is no reason to leave a database down.
fn not_in_the_way(playbook: Playbook, error: RecoveryError) -> Result<Vec<String>, RecoveryError> {
    match playbook {
        Playbook::Schema => Err(error),
        Playbook::Coordinated | Playbook::Slot => {
            Ok(vec![format!("levels that an earlier recovery lowered may still be {LOWEST}: {error}")])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels() -> Levels {
        vec![(Subject::new("s.public.a-value"), Some("FULL".to_owned())), (Subject::new("s.public.b-value"), None)]
    }

    #[test]
    fn only_a_lowering_that_was_not_taken_back_is_unfinished() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Utf8Path::from_path(folder.path()).unwrap();
        assert_eq!(lowered(repository).unwrap(), [], "no recovery has been here");
        let done = Journal::create(repository).unwrap();
        done.note(LOWERED, &levels()).unwrap();
        done.note(PUT_BACK, &levels()).unwrap();
        assert_eq!(lowered(repository).unwrap(), []);
        let killed = Journal::create(repository).unwrap();
        killed.note("request", &"schema").unwrap();
        killed.note(LOWERED, &levels()).unwrap();
        // Killed while it wrote.
        let mut text = std::fs::read_to_string(killed.path()).unwrap();
        text.push_str("{\"step\": \"accept-ch");
        std::fs::write(killed.path(), text).unwrap();
        let found = lowered(repository).unwrap();
        assert_eq!(found, [Lowered { journal: killed.path().to_owned(), levels: levels() }]);
    }

    #[test]
    fn what_was_put_back_later_is_finished_also_behind_half_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Utf8Path::from_path(folder.path()).unwrap();
        let killed = Journal::create(repository).unwrap();
        killed.note(LOWERED, &levels()).unwrap();
        let mut text = std::fs::read_to_string(killed.path()).unwrap();
        text.push_str("{\"step\": \"accept-ch");
        std::fs::write(killed.path(), text).unwrap();
        assert_eq!(lowered(repository).unwrap().len(), 1);
        Journal::again(killed.path()).unwrap().note(PUT_BACK, &levels()).unwrap();
        assert_eq!(lowered(repository).unwrap(), []);
    }

    #[test]
    fn a_silent_registry_stops_the_schema_playbook_only() {
        let error = || RecoveryError::unmet("x", "an answer", "none");
        assert!(not_in_the_way(Playbook::Schema, error()).is_err());
        assert!(not_in_the_way(Playbook::Coordinated, error()).unwrap()[0].contains("may still be NONE"));
    }
}
