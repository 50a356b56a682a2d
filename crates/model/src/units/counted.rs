//! Numbers with their nouns.

/// A number with its noun: `1 segment`, `2 segments`, `3 properties`.
pub fn counted(number: impl TryInto<u64>, noun: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) if !stem.ends_with(['a', 'e', 'o']) => format!("{number} {stem}ies"),
        _ => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        assert_eq!(counted(1u64, "segment"), "1 segment");
        assert_eq!(counted(0usize, "segment"), "0 segments");
        assert_eq!((counted(2u64, "recovery"), counted(2u64, "delay")), ("2 recoveries".into(), "2 delays".into()));
    }
}
