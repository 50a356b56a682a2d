//! What must hold afterwards.

use std::collections::BTreeSet;

use super::{
    problems::{Problems, Resolved, all},
    situation::Situation,
};
use cdc_model::vocabulary::CheckId;

/// Resolves the checks of a drill whose steps leave this.
pub(super) fn resolve(checks: &[CheckId], situation: &Situation, problems: &mut Problems) -> Resolved<Vec<CheckId>> {
    let hint = "a drill that checks nothing proves nothing; name at least `state`";
    let some = problems.require(!checks.is_empty(), "no checks", hint);
    let mut seen = BTreeSet::new();
    let resolved = all(checks.iter().enumerate().map(|(index, check)| {
        problems.at(index, |p| {
            let once = p.require(seen.insert(*check), format!("check `{check}` twice"), "leave one out");
            let compares = p.require(
                *check != CheckId::Compatibility || situation.may_have_registry(),
                "`compatibility` without a recovery point to compare with",
                "add a `backup` step",
            );
            let lost = p.require(
                *check != CheckId::History || situation.has_lost_records(),
                "`history` of topics that lost nothing",
                "add a `fault: { lose-records: ... }` step",
            );
            once.and(compares).and(lost).map(|()| *check)
        })
    }));
    some.and(resolved)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::scenario::{model::Step, parse::as_json};

    #[rstest]
    #[case::nothing(&[], "[]", &["no checks"])]
    #[case::twice(&[CheckId::State, CheckId::State], "[]", &["check `state` twice"])]
    #[case::nothing_to_compare_with(&[CheckId::Compatibility], "[]", &["`compatibility` without a recovery point to compare with"])]
    #[case::a_point_without_the_registry(
        &[CheckId::Compatibility],
        "[ { backup: { name: a, only: topics } } ]",
        &["`compatibility` without a recovery point to compare with"]
    )]
    #[case::a_backup_of_a_command(&[CheckId::Compatibility], "[ { backup: { exec: { name: a, command: tar } } } ]", &[])]
    #[case::good(&[CheckId::State, CheckId::Loss], "[]", &[])]
    fn checks_are_named_once_and_have_what_they_compare_with(
        #[case] checks: &[CheckId],
        #[case] steps: &str,
        #[case] expected: &[&str],
    ) {
        let mut situation = Situation::default();
        let steps: Vec<Step> = serde_json::from_value(as_json(steps)).unwrap();
        steps.iter().for_each(|step| situation.advance(step));
        let mut problems = Problems::default();
        let resolved = resolve(checks, &situation, &mut problems);
        assert_eq!(resolved.ok().as_deref(), expected.is_empty().then_some(checks));
        let found: Vec<String> = problems.into_found().into_iter().map(|problem| problem.message).collect();
        assert_eq!(found, expected);
    }
}
