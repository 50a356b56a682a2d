//! What a misspelt word most likely meant.

/// The hint at a word that is not known: which known one it most likely meant, or what `otherwise` says where it is like none.
pub fn near_or<'a>(
    wrong: &str,
    known: impl IntoIterator<Item = &'a str>,
    otherwise: impl FnOnce() -> String,
) -> String {
    nearest(wrong, known).map_or_else(otherwise, |near| format!("did you mean `{near}`?"))
}

/// The word of `known` that `wrong` most likely meant.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let far = (wrong.chars().count() / 3).max(1) + 1;
    known.into_iter().map(|k| (distance(wrong, k), k)).filter(|(d, _)| *d <= far).min().map(|(_, k)| k)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_near() {
        assert_eq!(nearest("stat", ["state", "loss"]), Some("state"));
        assert_eq!(nearest("transaktions", ["transactions", "tables"]), Some("transactions"));
        assert_eq!(nearest("banana", ["state", "loss"]), None);
    }

    #[test]
    fn a_word_that_is_like_none_is_answered_otherwise() {
        assert_eq!(near_or("stat", ["state"], String::new), "did you mean `state`?");
        assert_eq!(near_or("banana", ["state"], || "known: state".into()), "known: state");
    }
}
