//! SQL that asks for a row by its key, and the comparison of the row with a finding.

use cdc_model::{
    event::{Cells, Finding, FindingKey},
    units::{RowKey, TableName, readable},
};
use cdc_postgres::sql::{identifier, literal};

/// A column of a table: its name, and its type as SQL writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) ty: String,
}

/// The statement whose rows are name and type of each column of a table.
pub(super) fn columns_sql(table: &TableName) -> String {
    format!(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute \
         where attrelid = {}::regclass and attnum > 0 and not attisdropped order by attnum",
        literal(&table.quoted())
    )
}

/// The columns as `columns_sql` gives them.
pub(super) fn columns(rows: Vec<Vec<Option<String>>>) -> Vec<Column> {
    let column = |row: Vec<Option<String>>| {
        let mut cells = row.into_iter().flatten();
        Some(Column { name: cells.next()?, ty: cells.next()? })
    };
    rows.into_iter().filter_map(column).collect()
}

/// The table and the key of a finding; why the row cannot be asked for.
pub(super) fn asked(finding: &Finding) -> Result<(&TableName, &RowKey), String> {
    match (&finding.table, &finding.key) {
        (Some(table), Some(FindingKey::Columns(key))) => Ok((table, key)),
        (_, Some(FindingKey::Words(words))) => {
            Err(format!("{words} is not a key as the table prints it, so its row cannot be asked for"))
        }
        _ => Err("no key to ask for".into()),
    }
}

/// The statement whose rows are those with these values, every column as its type prints it; why it cannot be asked.
pub(super) fn rows_sql<'v>(
    table: &TableName,
    columns: &[Column],
    values: impl Iterator<Item = (&'v str, Option<&'v str>)>,
) -> Result<String, String> {
    let mut conditions = Vec::new();
    for (name, value) in values {
        let column = columns.iter().find(|c| c.name == name);
        let column = column.ok_or_else(|| format!("{table} has no column {name}"))?;
        conditions.push(same(column, value));
    }
    if conditions.is_empty() {
        return Err(format!("no column of {table} to ask by"));
    }
    let list: Vec<String> = columns.iter().map(printed).collect();
    Ok(format!("select {} from {} t where {}", list.join(", "), table.quoted(), conditions.join(" and ")))
}

/// The statement that counts the rows in which some column prints as this text.
pub(super) fn holders_sql(table: &TableName, columns: &[Column], text: &str) -> String {
    let list: Vec<String> = columns.iter().map(printed).collect();
    format!("select count(*) from {} t where {} in ({})", table.quoted(), literal(text), list.join(", "))
}

/// The statement that counts how often a publication has a table.
pub(super) fn published_sql(publication: &str, table: &TableName) -> String {
    format!(
        "select count(*) from pg_publication_tables where pubname = {} and schemaname = {} and tablename = {}",
        literal(publication),
        literal(&table.schema),
        literal(&table.name)
    )
}

/// A value as its type prints it. A cast to text would print a boolean, and a padded text, otherwise than COPY does.
fn printed(column: &Column) -> String {
    let name = format!("t.{}", identifier(&column.name));
    format!("case when {name} is not null then format('%s', {name}) end")
}

/// The value is this one: by its text, or by the text of what its type reads in it, so that `1.5` is `1.50` of a
/// `numeric(10,2)`. A text that the type cannot read is an error of the statement, which confirms nothing.
fn same(column: &Column, value: Option<&str>) -> String {
    let printed = printed(column);
    match value {
        None => format!("{printed} is null"),
        Some(text) => {
            let text = literal(text);
            format!("{printed} in ({text}, format('%s', {text}::{}))", column.ty)
        }
    }
}

/// The row's cells by the columns' names.
pub(super) fn cells(columns: &[Column], row: Vec<Option<String>>) -> Cells {
    columns.iter().map(|c| c.name.clone()).zip(row).collect()
}

/// Whether a cell of the row is this text.
pub(super) fn carries(row: &Cells, text: &str) -> bool {
    row.values().any(|value| value.as_deref() == Some(text))
}

/// Whether the row has every one of these cells.
pub(super) fn has(row: &Cells, wanted: &Cells) -> bool {
    wanted.iter().all(|(name, value)| row.get(name) == Some(value))
}

/// Cells for people.
pub(super) fn words(cells: &Cells) -> String {
    let word = |(name, value): (&String, &Option<String>)| format!("{name}={}", readable(value.as_deref()));
    cells.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// The other side of a difference, where it has a value for each of the columns: only then could a row be like it.
pub(super) fn comparable<'d>(says: &Cells, denies: &'d Cells) -> Option<&'d Cells> {
    says.keys().all(|name| denies.contains_key(name)).then_some(denies)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::event::FindingKind;

    fn columns() -> Vec<Column> {
        [("id", "text"), ("at", "timestamp(3) without time zone")]
            .map(|(name, ty)| Column { name: name.into(), ty: ty.into() })
            .into()
    }

    fn of(cells: &[(&str, Option<&str>)]) -> Cells {
        cells.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect()
    }

    #[test]
    fn a_key_is_asked_for_by_all_of_its_columns_and_by_nothing_else() {
        let table = TableName::new("public", "t");
        let key = RowKey::new([("id", Some(r"it's a\, b=c")), ("at", None)]);
        let sql = rows_sql(&table, &columns(), key.iter()).unwrap();
        let condition = sql.split_once(" where ").unwrap().1;
        assert_eq!(
            condition,
            r#"case when t."id" is not null then format('%s', t."id") end in (E'it''s a\\, b=c', format('%s', E'it''s a\\, b=c'::text)) and case when t."at" is not null then format('%s', t."at") end is null"#
        );
        let unknown = RowKey::new([("gone", Some("1"))]);
        assert_eq!(rows_sql(&table, &columns(), unknown.iter()).unwrap_err(), "public.t has no column gone");
        assert!(rows_sql(&table, &columns(), RowKey::new([]).iter()).is_err(), "every row would have it");
    }

    #[test]
    fn a_key_in_words_is_not_asked_for() {
        let finding =
            |key| Finding { table: Some(TableName::new("public", "t")), key, ..Finding::new(FindingKind::Lost) };
        let columns = FindingKey::Columns(RowKey::new([("id", Some("1"))]));
        assert!(asked(&finding(Some(columns))).is_ok());
        let words = asked(&finding(Some(FindingKey::Words("at=5".into())))).unwrap_err();
        assert!(words.contains("at=5"), "{words}");
        assert!(asked(&finding(None)).is_err());
    }

    #[test]
    fn a_row_has_cells_or_not() {
        let row = of(&[("id", Some("7")), ("note", Some("a, b=c")), ("score", None)]);
        assert!(has(&row, &of(&[("note", Some("a, b=c")), ("score", None)])));
        assert!(!has(&row, &of(&[("score", Some("NULL"))])), "NULL is not the text NULL");
        assert!(!has(&row, &of(&[("other", None)])), "a column that is not there is not NULL");
        assert!(carries(&row, "7") && !carries(&row, "a"));
        assert_eq!(words(&row), "id=7, note='a, b=c', score=NULL");
        let says = of(&[("note", Some("x")), ("score", None)]);
        assert!(comparable(&says, &of(&[("note", Some("y"))])).is_none(), "no value to be like");
        assert!(comparable(&says, &of(&[("note", Some("y")), ("score", None)])).is_some());
    }
}
