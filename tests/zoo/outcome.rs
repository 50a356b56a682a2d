//! What became of each type: read off what `verify` says before and after changes that were not published.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    packs::{CONVERTERS, Keeper, PACKS, SETTINGS},
    pipeline::{Finding, Said},
    tables::{Place, Table},
};

/// Outcomes by type, place and connector.
#[derive(Default)]
pub struct Outcomes {
    by: BTreeMap<(Place, String, Keeper), String>,
    /// What must not be.
    pub wrong: Vec<String>,
}

/// What notes say of a table's columns, and which planted changes were found.
#[derive(Default)]
struct Watch {
    reasons: BTreeSet<String>,
    seen: bool,
    unseen: Vec<String>,
}

/// What a note says of a column of a table; `None` when it is about something else.
fn reason(note: &str, table: &str, column: &str) -> Option<String> {
    // `public.scalars.c_numeric (numeric(10,2)): 3 values not comparable: why`
    let own = note.strip_prefix(&format!("public.{table}.{column} ("))?;
    let (count, said) = own.split_once("): ")?.1.split_once(" values ")?;
    count.parse::<u64>().is_ok().then(|| said.to_owned())
}

/// The columns that a finding says are different.
fn named<'c>(finding: &Finding, columns: &'c [String]) -> BTreeSet<&'c str> {
    let text = format!(", {}", finding.expected);
    columns.iter().map(String::as_str).filter(|c| text.contains(&format!(", {c}="))).collect()
}

impl Outcomes {
    /// Before anything was planted.
    pub fn healthy(&mut self, keeper: Keeper, said: &Said) {
        if said.verdict == "passed" {
            return;
        }
        self.wrong.push(format!(
            "{}: {} with {} findings on a healthy pipeline",
            keeper.name(),
            said.verdict,
            said.total
        ));
        for f in &said.findings {
            self.wrong
                .push(format!("    {} {} {}: expected {}, found {}", f.kind, f.table, f.key, f.expected, f.found));
        }
    }

    /// After the changes of whole rows: of each group those of nullable and required columns and of arrays.
    pub fn planted(&mut self, keeper: Keeper, tables: &[Table], groups: &[(usize, Said)]) {
        for table in tables.iter().filter(|t| !matches!(t.place, Place::Key | Place::Keyless)) {
            let names = table.names();
            for (column, name) in table.columns.iter().zip(&names) {
                let mut watch = Watch::default();
                for (group, said) in groups {
                    watch.reasons.extend(said.notes.iter().filter_map(|n| reason(n, &table.name, name)));
                    for id in table.rows(*group) {
                        let key = format!("id={id}");
                        let found = said.findings.iter().filter(|f| f.table == table.name && f.key == key);
                        let found = found.into_iter().any(|f| named(f, &names).contains(name.as_str()));
                        watch.seen |= found;
                        if !found {
                            watch.unseen.push(key);
                        }
                    }
                }
                self.take(keeper, table.place, column.specimen.column, name, watch);
            }
        }
    }

    /// After one change a column: as many findings as columns are compared, twice, for the row that is and the row that was.
    pub fn singles(&mut self, keeper: Keeper, tables: &[Table], said: &Said) {
        let mut expected = 0;
        for table in tables.iter().filter(|t| matches!(t.place, Place::Key | Place::Keyless)) {
            for (column, name) in table.columns.iter().zip(table.names()) {
                let reasons: BTreeSet<String> =
                    said.notes.iter().filter_map(|n| reason(n, &table.name, &name)).collect();
                let seen = !reasons.iter().any(|r| r.starts_with("not compar"));
                expected += if seen { 2 } else { 0 };
                self.take(
                    keeper,
                    table.place,
                    column.specimen.column,
                    &name,
                    Watch { reasons, seen, unseen: Vec::new() },
                );
            }
        }
        if said.total != expected {
            self.wrong.push(format!(
                "{}: {} findings in keys and rows without a key, and {expected} expected; of those shown:",
                keeper.name(),
                said.total
            ));
            self.wrong.extend(said.findings.iter().map(|f| {
                format!(
                    "    {} {} {}: expected {}, found {}",
                    f.kind,
                    f.table,
                    f.key,
                    clip(&f.expected),
                    clip(&f.found)
                )
            }));
        }
    }

    fn take(&mut self, keeper: Keeper, place: Place, specimen: &str, column: &str, watch: Watch) {
        let Watch { reasons, seen, unseen } = watch;
        if reasons.is_empty() && !unseen.is_empty() {
            self.wrong.push(format!(
                "{}: {place:?} {column}: changes of {} are neither found nor said to be not compared",
                keeper.name(),
                unseen.join(", ")
            ));
        }
        let text = match (seen, reasons.is_empty()) {
            (true, true) => "compared".to_owned(),
            (false, true) => "SILENT".to_owned(),
            (true, false) => reasons.into_iter().collect::<Vec<_>>().join("; "),
            (false, false) => format!("not at all: {}", reasons.into_iter().collect::<Vec<_>>().join("; ")),
        };
        // The columns of a type's values are one type.
        let known = self.by.entry((place, specimen.to_owned(), keeper)).or_insert_with(|| text.clone());
        if *known != text {
            let parts = [known.as_str(), &text].map(|t| t.split("; ").map(str::to_owned).collect::<Vec<_>>()).concat();
            let mut parts: Vec<String> = parts.into_iter().filter(|p| p != "compared").collect();
            parts.sort();
            parts.dedup();
            *known = parts.join("; ");
        }
    }

    /// The document: for each place a table of types and packs of modes.
    pub fn document(&self) -> String {
        let mut out = String::from(HEAD);
        out.push_str("\n| pack |");
        SETTINGS.iter().for_each(|s| out.push_str(&format!(" `{s}` |")));
        out.push_str(&format!("\n|{}\n", "---|".repeat(SETTINGS.len() + 1)));
        for (n, pack) in PACKS.iter().enumerate() {
            out.push_str(&format!("| {} | {} |\n", n + 1, pack.0.join(" | ")));
        }
        let mut remarks: Vec<&str> = Vec::new();
        let mut body = String::new();
        for (place, title) in PLACES {
            body.push_str(&format!("\n## {title}\n\n| type |"));
            (1..=PACKS.len()).for_each(|n| body.push_str(&format!(" {n} |")));
            body.push_str(&format!("\n|{}\n", "---|".repeat(PACKS.len() + 1)));
            for specimen in crate::specimens::SPECIMENS {
                let cells: Vec<[Option<&str>; 3]> = (0..PACKS.len())
                    .map(|pack| {
                        CONVERTERS.map(|converter| {
                            let key = (place, specimen.column.to_owned(), Keeper { converter, pack });
                            self.by.get(&key).map(String::as_str)
                        })
                    })
                    .collect();
                if cells.iter().flatten().all(Option::is_none) {
                    continue;
                }
                let cells: Vec<String> = cells.into_iter().map(|cell| shown(cell, &mut remarks)).collect();
                body.push_str(&format!("| `{}` | {} |\n", specimen.sql.replace('|', "\\|"), cells.join(" | ")));
            }
        }
        out.push_str(&body);
        out.push_str("\n## Remarks\n\n");
        for (n, remark) in remarks.iter().enumerate() {
            out.push_str(&format!("{}. {remark}\n", n + 1));
        }
        out
    }
}

fn clip(text: &str) -> String {
    text.chars().take(300).collect()
}

/// One sign where the converters agree, else one each.
fn shown<'o>(cell: [Option<&'o str>; 3], remarks: &mut Vec<&'o str>) -> String {
    let mut sign = |text: Option<&'o str>| match text {
        None => "?".to_owned(),
        Some("compared") => "=".to_owned(),
        Some(text) => {
            let at = remarks.iter().position(|r| *r == text).unwrap_or_else(|| {
                remarks.push(text);
                remarks.len() - 1
            });
            (at + 1).to_string()
        }
    };
    let signs = cell.map(&mut sign);
    if signs.iter().all(|s| *s == signs[0]) {
        return signs[0].clone();
    }
    CONVERTERS.iter().zip(signs).map(|(c, s)| format!("{} {s}", c.name())).collect::<Vec<_>>().join(", ")
}

const PLACES: [(Place, &str); 5] = [
    (Place::Nullable, "In a column"),
    (Place::Required, "In a column that may not be NULL"),
    (Place::Array, "As an array's element"),
    (Place::Key, "In a primary key"),
    (Place::Keyless, "In a table without a key (REPLICA IDENTITY FULL)"),
];

const HEAD: &str = "\
# What `verify` compares of each type

Made by `just zoo` from what `verify` said of a real pipeline. `=` is compared: every value of the zoo is equal in a healthy
pipeline, and every change that was not published was found. A number is a remark at the end: what is not compared of the type, which
`verify` says by the column's name. Where converters differ, `avro` is Avro, `json` is JSON with schemas, and `bare` is JSON alone. `?` was not
tried: a connector that counts in nanoseconds ends at it, and two packs share a database.
";
