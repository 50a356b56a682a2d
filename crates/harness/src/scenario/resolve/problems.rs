//! Where mistakes are collected, and the proof that one was.

use crate::scenario::{
    error::{Problem, Seg},
    words::{WORD_MAX, is_word},
};

/// Proof that a problem was reported. Only [`Problems::report`] makes one, so that what does not resolve cannot vanish without a
/// message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what has a problem does not resolve"]
pub(super) struct Reported(());

/// A resolved part, or the proof that its problems were reported.
pub(super) type Resolved<T> = Result<T, Reported>;

/// The problems that were found, and the place in the scenario that is looked at.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<Problem>,
    path: Vec<Seg>,
}

impl Problems {
    /// Looks at a place below the present one.
    pub(super) fn at<R>(&mut self, seg: impl Into<Seg>, inner: impl FnOnce(&mut Self) -> R) -> R {
        self.path.push(seg.into());
        let result = inner(self);
        self.path.pop();
        result
    }

    /// Looks at a part that a scenario has and a variant may change: what is found is shown at the variant if it has such a part
    /// itself, else at the scenario. Several variants meet the same mistake in what they share; it is reported once.
    pub(super) fn part<R>(&mut self, name: &str, of_variant: bool, inner: impl FnOnce(&mut Self) -> R) -> R {
        let variant = self.path.clone();
        if !of_variant {
            self.path.clear();
        }
        let before = self.found.len();
        let result = self.at(name, inner);
        self.path = variant;
        for problem in self.found.split_off(before) {
            if !self.found.contains(&problem) {
                self.found.push(problem);
            }
        }
        result
    }

    /// Reports a problem at the present place.
    pub(super) fn report(&mut self, message: impl Into<String>, hint: impl Into<String>) -> Reported {
        self.found.push(Problem { path: self.path.clone(), message: message.into(), hint: hint.into() });
        Reported(())
    }

    /// Reports a problem unless what must hold does.
    pub(super) fn require(&mut self, holds: bool, message: impl Into<String>, hint: impl Into<String>) -> Resolved<()> {
        if holds { Ok(()) } else { Err(self.report(message, hint)) }
    }

    /// Whether the text can be the name of a `what`.
    pub(super) fn name(&mut self, what: &str, text: &str) -> Resolved<()> {
        self.require(
            is_word(text),
            format!("`{text}` cannot be the name of a {what}"),
            format!("use lower-case letters, digits and inner hyphens, at most {WORD_MAX}"),
        )
    }

    /// Everything that was found.
    pub(super) fn into_found(self) -> Vec<Problem> {
        self.found
    }

    /// Whether nothing was found.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
}

/// All items, each looked at: one that does not resolve keeps none of the others from being looked at.
pub(super) fn all<T>(items: impl IntoIterator<Item = Resolved<T>>) -> Resolved<Vec<T>> {
    let looked_at: Vec<Resolved<T>> = items.into_iter().collect();
    looked_at.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_is_looked_at_even_behind_one_that_does_not_resolve() {
        let mut problems = Problems::default();
        let numbers = all([0, 1, 0].map(|n| problems.require(n > 0, "no number", "")));
        assert_eq!(numbers.is_err(), problems.into_found().len() == 2);
        assert_eq!(all([Ok(1), Ok(2)]), Ok(vec![1, 2]));
    }

    #[test]
    fn a_mistake_in_what_variants_share_is_reported_once_and_at_the_scenario() {
        let mut problems = Problems::default();
        for variant in ["one", "two"] {
            problems.at("variants", |p| {
                p.at(variant, |p| {
                    let _ = p.part("stack", false, |p| p.report("shared", ""));
                    let _ = p.part("stack", true, |p| p.report("own", ""));
                });
            });
        }
        let shown: Vec<String> = problems.into_found().iter().map(Problem::to_string).collect();
        assert_eq!(
            shown,
            ["stack: shared (hint: )", "variants.one.stack: own (hint: )", "variants.two.stack: own (hint: )"]
        );
    }

    #[test]
    fn what_does_not_hold_is_reported_where_it_stands() {
        let mut problems = Problems::default();
        let result = problems.at("id", |p| p.name("scenario", "Not A Name"));
        assert!(result.is_err());
        assert!(problems.into_found()[0].to_string().starts_with("id: `Not A Name` cannot be the name of a scenario"));
    }
}
