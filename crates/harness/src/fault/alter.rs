//! A change of a column that the registry refuses.

use super::{FaultError, Target, slot};
use cdc_model::{
    event::{FaultReport, Landed},
    units::{TableName, counted},
    vocabulary::ColumnChange,
};
use cdc_pipeline::client::{
    ClientError, limits,
    postgres::Postgres,
    wait::{self, Poll},
};
use cdc_postgres::sql;

const FAULT: &str = "alter-column";

/// A column that was changed.
#[derive(Debug)]
pub(super) struct Altered {
    table: TableName,
}

impl Altered {
    pub(super) async fn inject(
        target: &Target,
        table: &TableName,
        column: &str,
        change: &ColumnChange,
    ) -> Result<Altered, FaultError> {
        let db = target.sql().await.map_err(FaultError::client(FAULT))?;
        let name = table.quoted();
        let quoted = sql::identifier(column);
        if *change == ColumnChange::SetNotNull {
            let nulls: u64 = db
                .value(&format!("select count(*) from {name} where {quoted} is null"))
                .await
                .map_err(FaultError::client(FAULT))?;
            if nulls > 0 {
                let hint = "choose a column that is always filled; of the shop: customers.score, orders.priority, orders.channel";
                let object = format!("{table}.{column}");
                return Err(FaultError::unfit(FAULT, object, "no NULL in the column", counted(nulls, "row"), hint));
            }
        }
        let sql = match change {
            ColumnChange::IntToText => format!("alter table {name} alter column {quoted} type text"),
            ColumnChange::SetNotNull => format!("alter table {name} alter column {quoted} set not null"),
            ColumnChange::AddNotNull => format!(
                "alter table {name} add column {quoted} integer not null default 0; \
                 alter table {name} alter column {quoted} drop default"
            ),
        };
        db.run(&sql).await.map_err(FaultError::client(FAULT))?;
        touch(&db, table).await?;
        Ok(Altered { table: table.clone() })
    }

    pub(super) async fn look(&self, target: &Target) -> Result<(Landed, String), FaultError> {
        let report = schema_refused(target, &self.table).await?;
        Ok((report.landed, report.evidence))
    }
}

/// Updates one row to what it is: the change of the table reaches the log of changes, and no row changes.
async fn touch(db: &Postgres, table: &TableName) -> Result<(), FaultError> {
    let name = table.quoted();
    let columns = db
        .texts(&format!(
            "select quote_ident(attname) from pg_attribute where attrelid = {}::regclass and attnum > 0 \
             and not attisdropped and attgenerated = '' and attidentity = '' order by attnum limit 1",
            sql::literal(&name)
        ))
        .await
        .map_err(FaultError::client(FAULT))?;
    let column = columns.into_iter().flatten().flatten().next().unwrap_or_default();
    let sql = format!(
        "with one as (update {name} set {column} = {column} where ctid = (select ctid from {name} limit 1) returning 1) \
         select count(*) from one"
    );
    let touched: u64 = db.value(&sql).await.map_err(FaultError::client(FAULT))?;
    if touched == 0 {
        let hint = "the refusal needs a row to write";
        return Err(FaultError::unfit(FAULT, table, "at least one row", "none", hint));
    }
    Ok(())
}

/// Looks whether the registry refused a schema of the connector, and what that blocks: its task FAILED of a refusal that
/// names the table's topic, and its slot without a reader, so that no table of the connector moves.
pub async fn schema_refused(target: &Target, table: &TableName) -> Result<FaultReport, FaultError> {
    let connect = target.connect();
    let topic = target.topic(table);
    let seen = wait::until(&format!("task of {} FAILED", target.connector), limits::faults::REFUSED, || async {
        let status = connect.status(&target.connector).await?;
        let failed = status.tasks.iter().find(|task| task.state == "FAILED").map(|task| task.trace.clone());
        Ok::<_, ClientError>(match failed {
            Some(trace) => Poll::Ready(trace.unwrap_or_default()),
            None => Poll::NotYet(status.summary()),
        })
    })
    .await;
    let report = |landed, evidence| FaultReport { fault: FAULT.to_owned(), landed, evidence, hooks: Vec::new() };
    let trace = match seen {
        Ok(trace) => trace,
        Err(ClientError::TimedOut { last, .. }) => return Ok(report(Landed::Mismatch, format!("not refused: {last}"))),
        Err(error) => return Err(FaultError::client(FAULT)(error)),
    };
    let refusal = trace.lines().find(|line| is_refusal(line)).map(|line| line.trim().to_owned());
    let Some(refusal) = refusal else {
        let head = trace.lines().next().unwrap_or_default();
        return Ok(report(Landed::Mismatch, format!("task FAILED of something else: {head}")));
    };
    let db = target.sql().await.map_err(FaultError::client(FAULT))?;
    let reader = wait::until(&format!("slot {} without a reader", target.slot), limits::faults::REFUSED, || async {
        Ok::<_, ClientError>(match slot::find(&db, target).await? {
            Some(slot) if slot.active => Poll::NotYet("active".into()),
            _ => Poll::Ready(()),
        })
    })
    .await;
    let blocked = match reader {
        Ok(()) => {
            format!("slot {} has no reader; {} blocked", target.slot, counted(target.tables.len(), "table"))
        }
        Err(_) => return Ok(report(Landed::Mismatch, format!("{refusal}; slot {} still has a reader", target.slot))),
    };
    let named = if trace.contains(&topic) { format!("topic {topic}") } else { "a topic of the connector".to_owned() };
    Ok(report(Landed::Confirmed, format!("task FAILED on {named}: {refusal}; {blocked}")))
}

/// Whether a line of a stack trace is the registry's refusal of an incompatible schema (HTTP 409).
fn is_refusal(line: &str) -> bool {
    ["RuleViolation", "Incompatible artifact", "incompatible with an earlier schema", "error code: 409"]
        .iter()
        .any(|w| line.contains(w))
}

#[cfg(test)]
mod tests {
    use super::is_refusal;

    #[test]
    fn a_refusal_is_told_from_other_failures() {
        assert!(is_refusal(
            "Caused by: io.apicurio.registry.rest.client.exception.RuleViolationException: Incompatible artifact: x"
        ));
        assert!(!is_refusal(
            "Caused by: org.postgresql.util.PSQLException: ERROR: replication slot \"a\" does not exist"
        ));
    }
}
