//! A DELETE without WHERE.

use super::{FaultError, Target};
use cdc_model::{
    event::Landed,
    units::{TableName, counted},
};
use cdc_pipeline::client::ClientError;

const FAULT: &str = "delete-all";

/// A table that was emptied.
#[derive(Debug)]
pub(super) struct Emptied {
    table: TableName,
    rows: u64,
    /// The deleting transaction: rows that came later are not its failure.
    xid: u64,
}

impl Emptied {
    pub(super) async fn inject(target: &Target, table: &TableName) -> Result<Emptied, FaultError> {
        Self::delete(target, table).await.map_err(FaultError::client(FAULT))
    }

    async fn delete(target: &Target, table: &TableName) -> Result<Emptied, ClientError> {
        let db = target.sql().await?;
        let rows = db.value(&format!("select count(*) from {}", table.quoted())).await?;
        db.run("begin").await?;
        let xid = db.value("select pg_current_xact_id()").await?;
        db.run(&format!("delete from {}", table.quoted())).await?;
        db.run("commit").await?;
        Ok(Emptied { table: table.clone(), rows, xid })
    }

    pub(super) async fn look(&self, target: &Target) -> Result<(Landed, String), FaultError> {
        let look = async {
            let db = target.sql().await?;
            let table = self.table.quoted();
            let status = db.text(&format!("select pg_xact_status('{}')", self.xid)).await?.unwrap_or_default();
            // Rows written by transactions before the deleting one; `age` compares ids across wrap-around.
            let old = format!("select count(*) from {table} where age(xmin) > age('{}'::xid)", self.xid as u32);
            let left: u64 = db.value(&old).await?;
            let now: u64 = db.value(&format!("select count(*) from {table}")).await?;
            Ok::<_, ClientError>((status, left, now))
        };
        let (status, left, now) = look.await.map_err(FaultError::client(FAULT))?;
        let evidence = format!(
            "table {}: {} before, {left} of them left, {now} now; the deleting transaction is {status}",
            self.table,
            counted(self.rows, "row"),
            now = counted(now, "row")
        );
        let landed =
            if self.rows > 0 && left == 0 && status == "committed" { Landed::Confirmed } else { Landed::Mismatch };
        Ok((landed, evidence))
    }
}
