//! Lists of schemas, tables and columns: which of them a connector takes.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::Expression;
use cdc_model::units::TableName;

/// Whether a connector takes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It does.
    Taken,
    /// It leaves it out.
    Left,
    /// That depends on an expression with no known meaning.
    Unknown(Unknown),
}

/// An expression of a list that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unknown {
    /// The setting.
    pub setting: String,
    /// The expression.
    pub expression: String,
    /// What of it is not understood.
    pub why: String,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expression `{}` is not understood: {}", self.setting, self.expression, self.why)
    }
}

/// An entry of a list that decides nothing: no table of the database matches it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmatched {
    /// The setting.
    pub setting: String,
    /// The entry.
    pub expression: String,
}

impl fmt::Display for Unmatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}`", self.setting, self.expression)
    }
}

/// `schema.include.list`, `table.include.list`, `column.include.list`, their counterparts that exclude, and the tables of
/// `signal.data.collection`, which a connector reads in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    schemas: List,
    tables: List,
    columns: List,
    snapshot: List,
    signals: List,
    refused: Option<Unknown>,
}

/// One kind of list. Where both are set, the connector heeds the one that includes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum List {
    #[default]
    Unset,
    Include(&'static str, Items),
    Exclude(&'static str, Items),
}

/// The expressions, or why the list cannot be divided into them.
pub(super) type Items = Result<Vec<Expression>, Unknown>;

/// Schemas and tables of PostgreSQL's own, and of an extension that keeps a table among the user's, which connectors ignore.
const SYSTEM_SCHEMAS: [&str; 2] = ["pg_catalog", "information_schema"];
const SYSTEM_TABLE: &str = "spatial_ref_sys";

impl Lists {
    /// The lists of a connector's configuration.
    pub fn of(config: &BTreeMap<String, String>) -> Lists {
        Lists {
            schemas: List::of(config, "schema.include.list", "schema.exclude.list"),
            tables: List::of(config, "table.include.list", "table.exclude.list"),
            columns: List::of(config, "column.include.list", "column.exclude.list"),
            snapshot: List::of(config, "snapshot.include.collection.list", ""),
            signals: List::of(config, "signal.data.collection", ""),
            refused: ["database.include.list", "database.exclude.list"].into_iter().find_map(|setting| {
                let expression = config.get(setting).filter(|list| !list.trim().is_empty())?.clone();
                let why = "a connector to PostgreSQL has one database, and no list of them".to_owned();
                Some(Unknown { setting: (*setting).to_owned(), expression, why })
            }),
        }
    }

    /// Whether the connector takes the changes of a table, wherever they come from.
    pub fn table(&self, table: &TableName) -> Choice {
        if let Some(refused) = &self.refused {
            return Choice::Unknown(refused.clone());
        }
        let full = table.to_string();
        let chosen = self.schemas.choice(&table.schema).and(self.tables.choice(&full));
        let ignored = SYSTEM_SCHEMAS.contains(&table.schema.to_lowercase().as_str())
            || table.schema.starts_with("pg_temp")
            || table.name.to_lowercase() == SYSTEM_TABLE;
        let chosen = if ignored { Choice::Left } else { chosen };
        match &self.signals {
            List::Unset => chosen,
            signals => chosen.or(signals.choice(&full)),
        }
    }

    /// Whether a column of a table that is taken is taken with it.
    pub fn column(&self, table: &TableName, column: &str) -> Choice {
        self.columns.choice(&format!("{table}.{column}"))
    }

    /// Whether a snapshot reads a table that is taken.
    pub fn snapshot(&self, table: &TableName) -> Choice {
        self.snapshot.choice(&table.to_string())
    }

    /// Whether a list of tables says which are taken.
    pub fn names_tables(&self) -> bool {
        matches!(self.tables, List::Include(..))
    }

    /// Whether the list of tables has this one by its name, and not by a pattern that another may match too.
    pub fn names(&self, table: &TableName) -> bool {
        let full = table.to_string().to_lowercase();
        self.literals().any(|name| name.to_lowercase() == full)
    }

    /// The tables that the list of tables has by their names, as it writes them.
    pub fn named(&self) -> Vec<TableName> {
        self.literals().filter_map(|name| name.parse().ok()).collect()
    }

    /// An expression that is not understood, in any list that decides about tables.
    pub fn not_understood(&self) -> Option<Unknown> {
        let lists = [&self.schemas, &self.tables, &self.snapshot, &self.signals];
        self.refused.clone().or_else(|| lists.into_iter().find_map(List::not_understood))
    }

    /// The entries of the lists of schemas, of tables and of tables for snapshots that match none of these tables. An entry of a
    /// list that includes counts as matching only with a table that the other lists do not leave out.
    pub fn unmatched<'t>(&self, tables: impl Iterator<Item = &'t TableName> + Clone) -> Vec<Unmatched> {
        let taken = || tables.clone().filter(|table| self.table(table) != Choice::Left);
        let schemas = |list: &List| match list {
            List::Exclude(..) => list.unmatched(tables.clone().map(|table| table.schema.clone())),
            _ => list.unmatched(taken().map(|table| table.schema.clone())),
        };
        let names = |list: &List| match list {
            List::Exclude(..) => list.unmatched(tables.clone().map(TableName::to_string)),
            _ => list.unmatched(taken().map(TableName::to_string)),
        };
        [schemas(&self.schemas), names(&self.tables), names(&self.snapshot)].concat()
    }

    /// Whether no list leaves any table out.
    pub fn take_all(&self) -> bool {
        self.schemas == List::Unset && self.tables == List::Unset && self.refused.is_none()
    }

    fn literals(&self) -> impl Iterator<Item = String> {
        let items = match &self.tables {
            List::Include(_, Ok(items)) => items.as_slice(),
            _ => &[],
        };
        items.iter().filter_map(Expression::literal)
    }
}

impl List {
    fn of(config: &BTreeMap<String, String>, include: &'static str, exclude: &'static str) -> List {
        let set = |setting: &str| config.get(setting).filter(|list| !list.trim().is_empty());
        if let Some(list) = set(include) {
            List::Include(include, items(include, list))
        } else if let Some(list) = set(exclude) {
            List::Exclude(exclude, items(exclude, list))
        } else {
            List::Unset
        }
    }

    fn choice(&self, name: &str) -> Choice {
        let (setting, items, include) = match self {
            List::Unset => return Choice::Taken,
            List::Include(setting, items) => (setting, items, true),
            List::Exclude(setting, items) => (setting, items, false),
        };
        let items = match items {
            Ok(items) => items,
            Err(unknown) => return Choice::Unknown(unknown.clone()),
        };
        let (hit, miss) = if include { (Choice::Taken, Choice::Left) } else { (Choice::Left, Choice::Taken) };
        let mut otherwise = miss;
        for item in items {
            match item.matches(name) {
                // One that matches is enough, whatever the others mean.
                Ok(true) => return hit,
                Ok(false) => {}
                Err(why) => {
                    let expression = item.text().to_owned();
                    otherwise = Choice::Unknown(Unknown { setting: (*setting).to_owned(), expression, why });
                }
            }
        }
        otherwise
    }
}

impl List {
    /// The expressions that are understood and match none of these names.
    fn unmatched(&self, names: impl Iterator<Item = String>) -> Vec<Unmatched> {
        let (List::Include(setting, Ok(items)) | List::Exclude(setting, Ok(items))) = self else { return Vec::new() };
        let names: Vec<String> = names.collect();
        let matches = |item: &&Expression| names.iter().any(|name| item.matches(name) != Ok(false));
        let unmatched = items.iter().filter(|item| item.matches("").is_ok() && !matches(item));
        unmatched.map(|item| Unmatched { setting: (*setting).to_owned(), expression: item.text().to_owned() }).collect()
    }

    fn not_understood(&self) -> Option<Unknown> {
        let (setting, items) = match self {
            List::Unset => return None,
            List::Include(setting, items) | List::Exclude(setting, items) => (setting, items),
        };
        let unknown = |item: &Expression| {
            let (setting, expression) = ((*setting).to_owned(), item.text().to_owned());
            item.matches("").err().map(|why| Unknown { setting, expression, why })
        };
        match items {
            Ok(items) => items.iter().find_map(unknown),
            Err(unknown) => Some(unknown.clone()),
        }
    }
}

impl Choice {
    fn and(self, other: Choice) -> Choice {
        match (self, other) {
            (Choice::Left, _) | (_, Choice::Left) => Choice::Left,
            (Choice::Taken, other) => other,
            (unknown, _) => unknown,
        }
    }

    fn or(self, other: Choice) -> Choice {
        match (self, other) {
            (Choice::Taken, _) | (_, Choice::Taken) => Choice::Taken,
            (Choice::Left, other) => other,
            (unknown, _) => unknown,
        }
    }
}

/// Divides a list at its commas. A comma behind a backslash belongs to its expression, whatever brackets it stands in.
pub(super) fn items(setting: &str, list: &str) -> Items {
    let mut parts = vec![String::new()];
    let mut rest = list.chars();
    while let Some(c) = rest.next() {
        if c == ',' {
            parts.push(String::new());
            continue;
        }
        let Some(part) = parts.last_mut() else { continue };
        part.push(c);
        if c == '\\' {
            let Some(escaped) = rest.next() else {
                let why = "a backslash with nothing behind it".to_owned();
                return Err(Unknown { setting: (*setting).to_owned(), expression: list.to_owned(), why });
            };
            part.push(escaped);
        }
    }
    let parts = parts.iter().filter(|part| !part.is_empty());
    Ok(parts.map(|part| Expression::new(&part.trim_matches(|c| c <= ' ').replace("\\,", ","))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn lists(settings: &[(&str, &str)]) -> Lists {
        Lists::of(&settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    /// `+` taken, `-` left, `?` not known.
    fn shown(choice: Choice) -> char {
        match choice {
            Choice::Taken => '+',
            Choice::Left => '-',
            Choice::Unknown(_) => '?',
        }
    }

    #[rstest]
    #[case::nothing_set("", "", "s.a", '+')]
    #[case::system_schema("", "", "pg_catalog.a", '-')]
    #[case::system_table("", "", "public.spatial_ref_sys", '-')]
    #[case::whole_name("table.include.list", "public.orders,public.items", "public.orders_old", '-')]
    #[case::either_case("table.include.list", "PUBLIC.Orders", "public.orders", '+')]
    #[case::not_beyond_ascii("table.include.list", "public.É", "public.é", '-')]
    #[case::spaces("table.include.list", " public.a ,\tpublic.b ", "public.b", '+')]
    #[case::comma_escaped("table.include.list", r"public.t{1\,2}", "public.tt", '+')]
    #[case::comma_divides_within_brackets("table.include.list", "public.t{1,2},public.b", "public.tt", '?')]
    #[case::class_intersection("table.include.list", r"public\.orders,public\.[a-z&&[^o]]+", "public.items", '+')]
    #[case::class_intersection_without("table.include.list", r"public\.[a-z&&[^o]]+", "public.orders", '-')]
    #[case::quoted("table.include.list", r"\Qpublic.o[1]\E", "public.o[1]", '+')]
    #[case::flag("table.include.list", r"(?-i)public\.Orders", "public.orders", '-')]
    #[case::posix("table.include.list", r"public\.\p{Lower}+", "public.orders", '+')]
    #[case::named_group("table.include.list", r"(?<s>public)\.(?<t>orders)", "public.orders", '+')]
    #[case::possessive("table.include.list", r"public\.o++rders", "public.orders", '+')]
    #[case::possessive_gives_nothing_back("table.include.list", r"public\..++s", "public.orders", '-')]
    #[case::look_ahead("table.include.list", r"public\.(?!orders).*", "public.orders", '-')]
    #[case::look_behind("table.include.list", r".*(?<=ers)", "public.orders", '+')]
    #[case::not_understood("table.include.list", r"public\.\p{IsGreek}+", "public.orders", '?')]
    #[case::another_matches("table.include.list", r"public\.\p{IsGreek}+,public\.o.*", "public.orders", '+')]
    #[case::exclusion_not_understood("table.exclude.list", r"public\.\p{IsGreek}+", "public.orders", '?')]
    #[case::excluded("table.exclude.list", "public.secret", "public.secret", '-')]
    #[case::not_excluded("table.exclude.list", "public.secret", "public.a", '+')]
    #[case::only_commas("table.include.list", ",", "public.a", '-')]
    #[case::ends_with_a_backslash("table.include.list", r"public.a\", "public.a", '?')]
    #[case::databases("database.include.list", "shop", "public.a", '?')]
    #[case::schema("schema.include.list", "pub.*", "public.a", '+')]
    #[case::another_schema("schema.include.list", "pub", "public.a", '-')]
    fn a_list_takes_what_the_connector_takes(
        #[case] setting: &str,
        #[case] list: &str,
        #[case] table: &str,
        #[case] expected: char,
    ) {
        assert_eq!(shown(lists(&[(setting, list)]).table(&table.parse().unwrap())), expected);
    }

    #[test]
    fn lists_of_schemas_and_tables_must_both_take_it_and_inclusion_beats_exclusion() {
        let both = lists(&[("schema.include.list", "public"), ("table.exclude.list", "public.secret")]);
        let of = |lists: &Lists, table: &str| shown(lists.table(&table.parse().unwrap()));
        assert_eq!((of(&both, "public.a"), of(&both, "public.secret"), of(&both, "other.a")), ('+', '-', '-'));
        let two = lists(&[("table.include.list", "public.a"), ("table.exclude.list", "public.a")]);
        assert_eq!(of(&two, "public.a"), '+');
        let known = lists(&[("schema.include.list", "other"), ("table.include.list", r"\p{IsGreek}")]);
        assert_eq!(of(&known, "public.a"), '-', "the other list leaves it out whatever this one means");
    }

    #[test]
    fn the_table_of_signals_is_read_in_any_case() {
        let lists = lists(&[("table.include.list", "public.a"), ("signal.data.collection", "public.debezium_signal")]);
        assert_eq!(shown(lists.table(&"public.debezium_signal".parse().unwrap())), '+');
        assert_eq!(shown(lists.table(&"public.b".parse().unwrap())), '-');
    }

    #[test]
    fn columns_are_matched_with_their_table() {
        let lists = lists(&[("column.exclude.list", r"public\.a\.secret.*")]);
        let of = |column| shown(lists.column(&"public.a".parse().unwrap(), column));
        assert_eq!((of("secret_note"), of("id")), ('-', '+'));
    }

    #[test]
    fn names_are_told_from_patterns() {
        let lists = lists(&[("table.include.list", r"Public.A, public\.b,\Qpublic.c\E,public.d.*,public.[e]")]);
        let named: Vec<String> = lists.named().iter().map(ToString::to_string).collect();
        assert_eq!(named, ["Public.A", "public.b", "public.c"]);
        assert!(lists.names(&"public.a".parse().unwrap()) && !lists.names(&"public.e".parse().unwrap()));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let Choice::Unknown(unknown) =
            lists(&[("table.include.list", r"public\.\p{L}+")]).table(&"public.a".parse().unwrap())
        else {
            panic!("known");
        };
        assert_eq!(
            unknown.to_string(),
            r"table.include.list: expression `public\.\p{L}+` is not understood: property `\p{L}`"
        );
    }
}
