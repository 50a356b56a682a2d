//! Which tables a connector captures and which topics a connector reads: lists of regular expressions.

use regex::Regex;

use crate::{client::connect::ConnectorConfig, units::TableName};

/// `table.include.list`, `table.exclude.list`, `schema.include.list` and `schema.exclude.list` of a Debezium connector.
/// Each expression must match the whole name, as Debezium has it; case does not count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    tables: Vec<Regex>,
    not_tables: Vec<Regex>,
    schemas: Vec<Regex>,
    not_schemas: Vec<Regex>,
}

impl Selection {
    /// Reads a connector's configuration; an expression that cannot be understood is an error.
    pub(crate) fn of(config: &ConnectorConfig) -> Result<Selection, regex::Error> {
        let list = |key: &str| config.get(key).map_or(Ok(Vec::new()), |text| expressions(text));
        Ok(Selection {
            tables: list("table.include.list")?,
            not_tables: list("table.exclude.list")?,
            schemas: list("schema.include.list")?,
            not_schemas: list("schema.exclude.list")?,
        })
    }

    /// Whether the connector captures a table.
    pub(crate) fn takes(&self, table: &TableName) -> bool {
        let any = |list: &[Regex], text: &str| list.iter().any(|r| r.is_match(text));
        let full = table.to_string();
        (self.tables.is_empty() || any(&self.tables, &full))
            && (self.schemas.is_empty() || any(&self.schemas, &table.schema))
            && !any(&self.not_tables, &full)
            && !any(&self.not_schemas, &table.schema)
    }

    /// Whether every table is captured.
    pub(crate) fn takes_all(&self) -> bool {
        self.tables.is_empty() && self.schemas.is_empty() && self.not_tables.is_empty() && self.not_schemas.is_empty()
    }
}

/// A comma-separated list of expressions; a comma within an expression is escaped.
fn expressions(text: &str) -> Result<Vec<Regex>, regex::Error> {
    let placeholder = text.replace("\\,", "\u{0}");
    let parts = placeholder.split(',').map(str::trim).filter(|p| !p.is_empty());
    parts.map(|p| whole(&p.replace('\u{0}', ","))).collect()
}

/// An expression that must match the whole text, as Java's `matches` does.
pub(crate) fn whole(expression: &str) -> Result<Regex, regex::Error> {
    Regex::new(&format!("(?i)^(?:{expression})$"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("public.orders,public.items", "public.orders", true)]
    #[case("public.orders,public.items", "public.orders_old", false)]
    #[case("public\\.(orders|items)", "public.items", true)]
    #[case("PUBLIC.Orders", "public.orders", true)]
    #[case("public.o.*, other.t{1\\,2}", "other.tt", true)]
    fn whole_names_are_matched(#[case] list: &str, #[case] table: &str, #[case] taken: bool) {
        let config = ConnectorConfig::from([("table.include.list".into(), list.into())]);
        assert_eq!(Selection::of(&config).unwrap().takes(&table.parse().unwrap()), taken);
    }

    #[test]
    fn exclusion_beats_inclusion_of_a_schema() {
        let config = ConnectorConfig::from([
            ("schema.include.list".into(), "public".into()),
            ("table.exclude.list".into(), "public.secret".into()),
        ]);
        let selection = Selection::of(&config).unwrap();
        assert!(selection.takes(&"public.a".parse().unwrap()));
        assert!(!selection.takes(&"public.secret".parse().unwrap()));
        assert!(!selection.takes(&"other.a".parse().unwrap()));
    }
}
