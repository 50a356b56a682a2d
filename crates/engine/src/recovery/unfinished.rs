//! What a recovery that was killed left lowered: the levels of subjects, which stand in its record. The next recovery puts
//! them back before it looks at anything.

use camino::Utf8PathBuf;

use super::{
    Playbook, RecoveryError,
    memory::{Memory, Place},
    schema::put_level,
};
use crate::backup::ClusterName;
use cdc_model::units::Subject;
use cdc_pipeline::{attach, client::registry::Registry, config::Config};

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
    /// Its id.
    recovery: String,
    /// The folder of its record.
    record: Utf8PathBuf,
    /// What each subject's own level was; none where it had none.
    levels: Levels,
}

/// A subject whose level still is what the recovery lowered it to.
struct Left {
    subject: Subject,
    level: Option<String>,
    recovery: String,
}

impl Left {
    fn told(&self, what: &str) -> String {
        let level = self.level.as_deref().unwrap_or("unset");
        let recovery = &self.recovery;
        format!(
            "subject {} was left at level {LOWEST} by recovery {recovery}, which did not end: {what} {level}",
            self.subject
        )
    }
}

/// What the records of a cluster say was lowered and not put back, the newest first: where several lowered one subject,
/// the oldest knows what it was.
fn lowered(place: &Place, cluster: &ClusterName) -> Result<Vec<Lowered>, RecoveryError> {
    let mut all = Vec::new();
    for folder in place.all()?.into_iter().rev() {
        let memory = Memory::open(&folder)?;
        // Another cluster's may be in another registry, and its record is written by whoever goes on with it.
        if !memory.cluster().is_that_of(cluster) {
            continue;
        }
        let (lowered, put_back) = (memory.learned::<Levels>(LOWERED)?, memory.learned::<Levels>(PUT_BACK)?);
        if let Some(levels) = lowered.filter(|levels| put_back.as_ref() != Some(levels)) {
            all.push(Lowered { recovery: memory.id().to_owned(), record: folder, levels });
        }
    }
    Ok(all)
}

/// Of what was lowered, what still is: a level that somebody has set since is theirs.
async fn left(registry: &Registry, lowered: &[Lowered]) -> Result<Vec<Left>, RecoveryError> {
    let mut all = Vec::new();
    for one in lowered {
        for (subject, level) in &one.levels {
            if level.as_deref() != Some(LOWEST) && registry.subject_level(subject).await?.as_deref() == Some(LOWEST) {
                let recovery = one.recovery.clone();
                all.push(Left { subject: subject.clone(), level: level.clone(), recovery });
            }
        }
    }
    Ok(all)
}

/// What a run would put back first.
pub(super) async fn planned(config: &Config, place: &Place, playbook: Playbook) -> Result<Vec<String>, RecoveryError> {
    let lowered = lowered(place, &ClusterName::of(config))?;
    match left(&Registry::of(&config.registry), &lowered).await {
        Ok(left) => Ok(left.iter().map(|l| l.told("a run first puts it back to")).collect()),
        Err(error) => not_in_the_way(playbook, error),
    }
}

/// Puts back what was left lowered, and says so. No other recovery may be running.
pub(super) async fn put_back(config: &Config, place: &Place, playbook: Playbook) -> Result<Vec<String>, RecoveryError> {
    let lowered = lowered(place, &ClusterName::of(config))?;
    let outcome = async {
        let registry = Registry::of(&config.registry);
        let left = left(&registry, &lowered).await?;
        attach::within(config, "subject", left.iter().map(|l| l.subject.as_str()))?;
        for Left { subject, level, .. } in &left {
            put_level(&registry, subject, level.as_deref()).await?;
        }
        for one in &lowered {
            Memory::open(&one.record)?.note(PUT_BACK, &one.levels)?;
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
    use crate::recovery::memory::tests::{begin, cluster, place};

    fn levels() -> Levels {
        vec![(Subject::new("s.public.a-value"), Some("FULL".to_owned())), (Subject::new("s.public.b-value"), None)]
    }

    #[test]
    fn only_a_lowering_that_was_not_taken_back_is_unfinished() {
        let (_folder, place) = place();
        assert_eq!(lowered(&place, &cluster()).unwrap(), [], "no recovery has been here");
        let done = begin(&place);
        done.note(LOWERED, &levels()).unwrap();
        done.note(PUT_BACK, &levels()).unwrap();
        assert_eq!(lowered(&place, &cluster()).unwrap(), []);
        let killed = begin(&place);
        killed.note(LOWERED, &levels()).unwrap();
        let found = lowered(&place, &cluster()).unwrap();
        let (recovery, record) = (killed.id().to_owned(), killed.folder().to_owned());
        assert_eq!(found, [Lowered { recovery, record: record.clone(), levels: levels() }]);
        // Killed while it wrote, and put back by another recovery.
        let steps = record.join("steps.jsonl");
        let mut text = std::fs::read_to_string(&steps).unwrap();
        text.push_str("{\"step\": \"accept-ch");
        std::fs::write(&steps, text).unwrap();
        assert_eq!(lowered(&place, &cluster()).unwrap().len(), 1);
        let other = ClusterName { pgdata: "/other".into(), address: "h:2".into(), system_id: None };
        assert_eq!(lowered(&place, &other).unwrap(), [], "another cluster's, which may be in another registry");
        Memory::open(&record).unwrap().note(PUT_BACK, &levels()).unwrap();
        assert_eq!(lowered(&place, &cluster()).unwrap(), []);
    }

    #[test]
    fn a_silent_registry_stops_the_schema_playbook_only() {
        let error = || RecoveryError::unmet("x", "an answer", "none");
        assert!(not_in_the_way(Playbook::Schema, error()).is_err());
        assert!(not_in_the_way(Playbook::Coordinated, error()).unwrap()[0].contains("may still be NONE"));
    }
}
