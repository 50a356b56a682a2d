//! What somebody else's program wrote, known by its rows in the table of the drill's own.

use std::collections::BTreeMap;

use super::tables;
use crate::{
    Row, WorkloadError,
    capture::Images,
    common::now_ms,
    ledger::{Change, Entry, Op, Outcome},
};
use cdc_model::units::{Epoch, RowKey};
use cdc_pipeline::client::postgres::Postgres;

/// The column that the query adds to a row: the transaction that wrote it.
const XID: &str = "drill_xid";

/// The transactions whose tokens begin with `prefix` and a hyphen, as the table has them now: committed, and not given up by any
/// recovery since, so that this must be asked when their load has ended. `began_ms` is when the load began.
pub async fn committed(pg: &Postgres, prefix: &str, epoch: Epoch, began_ms: i64) -> Result<Vec<Entry>, WorkloadError> {
    // Prefixes are of letters, digits, `_` and `-`.
    let sql = format!(
        "select *, xmin::text as {XID} from {} where starts_with(drill_token, '{prefix}-') order by drill_token, part",
        tables::transactions().quoted()
    );
    let messages = pg.simple_query(&sql).await.map_err(|e| pg.error("rows of the transactions", &e))?;
    entries(Images::of(&messages).into_iter(), epoch, began_ms, pg.address())
}

fn entries(
    rows: impl Iterator<Item = Row>,
    epoch: Epoch,
    began_ms: i64,
    address: &str,
) -> Result<Vec<Entry>, WorkloadError> {
    let mut of_token: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in rows {
        let token = row.text("drill_token").unwrap_or_default().to_owned();
        of_token.entry(token).or_default().push(row);
    }
    let entries = of_token.into_iter().enumerate().map(|(at, (token, rows))| {
        let text = |row: &Row, column: &str| row.text(column).unwrap_or_default().to_owned();
        let parts: Vec<String> = rows.iter().map(|r| text(r, "part")).collect();
        let xids: Vec<String> = rows.iter().map(|r| text(r, XID)).collect();
        let whole = parts == ["begin", "end"] && xids.first() == xids.last();
        if !whole {
            return Err(WorkloadError::Rows {
                token,
                address: address.to_owned(),
                found: format!("parts {} of transactions {}", parts.join(", "), xids.join(", ")),
            });
        }
        let changes = rows.iter().map(|row| {
            let row = row.only(|column| column != XID);
            let key: Option<RowKey> = Some(tables::key(&row));
            Change {
                table: tables::transactions(),
                op: Op::Insert,
                key,
                key_before: None,
                before: None,
                after: Some(row),
            }
        });
        Ok(Entry {
            token,
            writer: rows.first().and_then(|r| text(r, "writer").parse().ok()).unwrap_or(0),
            sequence: at as u64 + 1,
            epoch,
            xid: xids.first().and_then(|x| x.parse().ok()),
            began_ms,
            ended_ms: now_ms(),
            outcome: Outcome::Acknowledged,
            changes: changes.collect(),
        })
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::Failure;

    fn row(token: &str, part: &str, xid: &str) -> Row {
        let pairs = [("drill_token", token), ("part", part), ("name", "buy"), ("writer", "2"), (XID, xid)];
        pairs.iter().map(|(k, v)| (*k, Some(*v))).collect()
    }

    #[test]
    fn two_rows_of_one_transaction_are_an_entry() {
        let rows = [
            row("t-1", "begin", "801"),
            row("t-1", "end", "801"),
            row("t-2", "begin", "802"),
            row("t-2", "end", "802"),
        ];
        let all = entries(rows.into_iter(), Epoch(1), 5, "here").unwrap();
        assert_eq!(
            all.iter().map(|e| (e.token.as_str(), e.xid)).collect::<Vec<_>>(),
            [("t-1", Some(801)), ("t-2", Some(802))]
        );
        assert_eq!((all[0].writer, all[0].epoch, all[0].outcome), (2, Epoch(1), Outcome::Acknowledged));
        assert!(all[0].changes.iter().all(|c| c.after.as_ref().is_some_and(|r| r.get(XID).is_none())));
    }

    #[test]
    fn rows_of_two_transactions_or_half_of_them_are_an_error() {
        let apart = [row("t-1", "begin", "801"), row("t-1", "end", "802")];
        let half = [row("t-1", "begin", "801")];
        for rows in [apart.to_vec(), half.to_vec()] {
            let error = entries(rows.into_iter(), Epoch(0), 0, "here").unwrap_err().in_full();
            assert!(error.contains("t-1") && error.contains("\nhint: "), "{error}");
        }
    }
}
