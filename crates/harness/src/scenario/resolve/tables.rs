//! Tables that steps name.

use super::problems::{Problems, Resolved};
use crate::scenario::words::TableRef;
use cdc_model::units::{TableName, near_or};

/// The captured tables as far as they are known by name, of all connectors that resolve; with none known, any may be captured. Steps are
/// checked against them even where the pipeline itself does not resolve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KnownTables(pub(super) Vec<TableName>);

impl KnownTables {
    /// Whether the table is captured, as far as that is known.
    pub(super) fn captured(&self, TableRef(table): &TableRef, problems: &mut Problems) -> Resolved<()> {
        if self.0.is_empty() || self.0.contains(table) {
            return Ok(());
        }
        let names: Vec<String> = self.0.iter().map(|t| TableRef(t.clone()).to_string()).collect();
        let wrong = TableRef(table.clone()).to_string();
        let hint =
            near_or(&wrong, names.iter().map(String::as_str), || format!("captured tables: {}", names.join(", ")));
        Err(problems.report(format!("table `{table}` is not captured"), hint))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::captured(&["orders"], "orders", None)]
    #[case::nothing_is_known(&[], "orders", None)]
    #[case::misspelt(&["orders", "parts"], "order", Some("did you mean `orders`?"))]
    #[case::unlike_any(&["orders", "parts"], "customers", Some("captured tables: orders, parts"))]
    fn a_table_is_captured_or_the_hint_says_which_are(
        #[case] known: &[&str],
        #[case] table: &str,
        #[case] hint: Option<&str>,
    ) {
        let known = KnownTables(known.iter().map(|name| TableName::new("public", *name)).collect());
        let mut problems = Problems::default();
        assert_eq!(known.captured(&table.parse().unwrap(), &mut problems).is_err(), hint.is_some());
        assert_eq!(problems.into_found().first().map(|problem| problem.hint.as_str()), hint);
    }
}
