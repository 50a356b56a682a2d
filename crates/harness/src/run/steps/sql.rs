//! One statement in the captured database.

use super::Done;
use crate::run::{Known, RunError, rig::Rig};
use cdc_model::units::counted;

/// Runs the statement as the tables' owner.
pub(super) async fn take(rig: &Rig, known: Known<'_>, sql: &str) -> Result<Done, RunError> {
    let first = &known.layout().sources[0].name;
    let sql = sql.replace("{publication}", first).replace("{slot}", first);
    let db = rig.pipeline.sql().await?;
    let shown = sql.lines().next().unwrap_or_default().trim();
    let rows = db.run_file("step `sql`".into(), &sql).await?;
    match writes_rows(&sql) {
        false => Ok(Done::nothing(sql)),
        true if rows == 0 => {
            let seen = "the statement touched no row".to_owned();
            Err(RunError::Condition { condition: format!("sql: {shown}"), seen })
        }
        true => Ok(Done::nothing(format!("{sql}; {} touched", counted(rows, "row")))),
    }
}

/// Whether it is a statement that is there to write rows and says how many it wrote.
fn writes_rows(sql: &str) -> bool {
    let word: String = sql.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
    ["insert", "update", "delete", "merge"].contains(&word.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::writes_rows;

    #[test]
    fn only_a_statement_that_says_how_many_rows_it_wrote_is_held_to_it() {
        for sql in
            ["UPDATE a set b = 1", "\n  delete from a", "insert into a values (1)", "merge into a using b on true"]
        {
            assert!(writes_rows(sql), "{sql}");
        }
        for sql in [
            "SELECT pg_switch_wal()",
            "ALTER PUBLICATION p DROP TABLE a",
            "truncate a",
            "with x as (select 1) select 1",
        ] {
            assert!(!writes_rows(sql), "{sql}");
        }
    }
}
