//! Settings by which a connector writes other values than the table has.

use std::collections::BTreeMap;

use super::lists::{Items, items};
use cdc_model::units::TableName;

/// What a connector writes of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masking {
    /// Text of no relation to the value, for every value of the character types and for no other: asterisks, or a hash.
    Replaced,
    /// The first so many UTF-16 units of a text, and bytes of a binary value.
    Truncated(usize),
    /// Any of these: more than one setting may be meant, or the expression is not understood.
    Unknown,
}

/// `column.truncate.to.N.chars`, `column.mask.with.N.chars` and `column.mask.hash.ALGORITHM.with.salt.SALT`, each a list of columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masks(Vec<(Masking, Items)>);

impl Masks {
    /// The settings of a connector's configuration.
    pub fn of(config: &BTreeMap<String, String>) -> Masks {
        let mask = |(setting, list): (&String, &String)| Some((masking(setting)?, items(setting, list)));
        let mut masks: Vec<(Masking, Items)> = config.iter().filter_map(mask).collect();
        // The connector heeds truncation first.
        masks.sort_by_key(|(masking, _)| !matches!(masking, Masking::Truncated(_)));
        Masks(masks)
    }

    /// What the connector writes of a column; `None` for its values.
    pub fn column(&self, table: &TableName, column: &str) -> Option<Masking> {
        let name = format!("{table}.{column}");
        let mut found = None;
        for (masking, list) in &self.0 {
            found = match (found, has(list, &name)) {
                (found, Some(false)) => found,
                (None, Some(true)) => Some(*masking),
                // Which of several lengths the connector takes is left to the order of its settings.
                (Some(Masking::Truncated(one)), Some(true)) if *masking == Masking::Truncated(one) => found,
                (found @ Some(Masking::Truncated(_)), _) if *masking == Masking::Replaced => found,
                (found @ Some(Masking::Replaced), _) => found,
                _ => Some(Masking::Unknown),
            };
        }
        found
    }
}

/// Whether the list has this; `None` where that depends on an expression with no known meaning.
fn has(list: &Items, name: &str) -> Option<bool> {
    let mut otherwise = Some(false);
    for item in list.as_ref().ok()? {
        match item.matches(name) {
            Ok(true) => return Some(true),
            Ok(false) => {}
            Err(_) => otherwise = None,
        }
    }
    otherwise
}

fn masking(setting: &str) -> Option<Masking> {
    let number = |prefix: &str| -> Option<usize> {
        let digits = setting.strip_prefix(prefix)?.strip_suffix(".chars")?;
        let number: i32 = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
        usize::try_from(number).ok()
    };
    if let Some(length) = number("column.truncate.to.") {
        return Some(Masking::Truncated(length));
    }
    let hash = setting.strip_prefix("column.mask.hash.").map(|rest| rest.strip_prefix("v2.").unwrap_or(rest));
    let hashes = hash.and_then(|rest| rest.split_once('.')).is_some_and(|(algorithm, rest)| {
        !algorithm.is_empty() && rest.strip_prefix("with.salt.").is_some_and(|salt| !salt.is_empty())
    });
    (hashes || number("column.mask.with.").is_some()).then_some(Masking::Replaced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn of(settings: &[(&str, &str)], column: &str) -> Option<Masking> {
        let masks = Masks::of(&settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        masks.column(&"public.users".parse().unwrap(), column)
    }

    #[rstest]
    #[case::asterisks("column.mask.with.5.chars", Some(Masking::Replaced))]
    #[case::no_asterisk("column.mask.with.0.chars", Some(Masking::Replaced))]
    #[case::hash("column.mask.hash.SHA-256.with.salt.CzQMA0cB5K", Some(Masking::Replaced))]
    #[case::salt_with_points("column.mask.hash.SHA-256.with.salt.a.b", Some(Masking::Replaced))]
    #[case::hash_of_the_value_alone("column.mask.hash.v2.SHA-256.with.salt.a", Some(Masking::Replaced))]
    #[case::truncation("column.truncate.to.20.chars", Some(Masking::Truncated(20)))]
    #[case::words("column.truncate.to.twenty.chars", None)]
    #[case::signed("column.truncate.to.-1.chars", None)]
    #[case::too_long("column.truncate.to.9999999999.chars", None)]
    #[case::without_a_salt("column.mask.hash.SHA-256.with.salt.", None)]
    #[case::another_setting("column.include.list", None)]
    fn settings_that_change_values_are_known(#[case] setting: &str, #[case] expected: Option<Masking>) {
        assert_eq!(of(&[(setting, r"other\..*,PUBLIC.users.e.*")], "email"), expected);
        assert_eq!(of(&[(setting, r"other\..*,PUBLIC.users.e.*")], "id"), None);
    }

    #[test]
    fn of_several_settings_truncation_is_heeded_first() {
        let (mask, email) = (("column.mask.with.5.chars", "public.users.email"), "email");
        let truncate = |setting| (setting, "public.users.email");
        let twenty = truncate("column.truncate.to.20.chars");
        assert_eq!(of(&[mask, twenty], email), Some(Masking::Truncated(20)));
        assert_eq!(of(&[twenty, truncate("column.truncate.to.30.chars")], email), Some(Masking::Unknown));
        assert_eq!(of(&[twenty, truncate("column.truncate.to.020.chars")], email), Some(Masking::Truncated(20)));
        let unclear = r"public\.\p{L}+\.email";
        assert_eq!(of(&[("column.mask.with.5.chars", unclear)], email), Some(Masking::Unknown));
        assert_eq!(of(&[("column.truncate.to.20.chars", unclear), mask], email), Some(Masking::Unknown));
        assert_eq!(of(&[twenty, ("column.mask.with.5.chars", unclear)], email), Some(Masking::Truncated(20)));
    }
}
