//! The first rows, in few large transactions that stand in the ledger like all others.

use rand::{Rng, RngExt};

use super::{
    perform::{audit_row, customer_row, document_row, line_row, order_row, product_row, shipment_row},
    pool::WRITERS_MAX,
    session::Transaction,
    shape::Cell,
};
use cdc_pipeline::client::ClientError;

/// What one transaction of the seeding inserts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) writer: u32,
    /// Products to make; those of the others exist already.
    pub(super) products: u64,
    pub(super) first_customer: u64,
    pub(super) customers: u64,
    pub(super) first_order: u64,
    pub(super) orders: u64,
    pub(super) lines: u64,
    pub(super) shipments: u64,
    pub(super) documents: u64,
    /// Products that exist when this share is inserted.
    pub(super) products_there: u64,
}

/// Rows in one transaction: large enough to be fast, small enough for the memory of everyone who reads it.
const ROWS_A_TRANSACTION: u64 = 20_000;
/// Rows in one statement.
const ROWS_A_STATEMENT: usize = 500;
/// The fewest rows that fill every table.
pub(super) const ROWS_MIN: u64 = 50;

impl Share {
    /// The rows it inserts, its row in the audit log included.
    fn rows(&self) -> u64 {
        self.products + self.customers + self.orders + self.lines + self.shipments + self.documents + 1
    }
}

/// Divides `rows` rows into the products, which come first, and a list of shares for each writer, exactly.
pub(super) fn shares(rows: u64, writers: u32) -> (Share, Vec<Vec<Share>>) {
    let rows = rows.max(ROWS_MIN);
    let products = (rows / 50).clamp(10, 2_000);
    let first = Share { products, ..Share::default() };
    let mut left = rows - first.rows();
    let mut lists = Vec::new();
    for writer in 0..writers {
        let mut mine = left / u64::from(writers - writer);
        left -= mine;
        let (mut list, mut customer, mut order) = (Vec::new(), 1, 1);
        while mine > 0 {
            let rows = mine.min(ROWS_A_TRANSACTION);
            mine -= rows;
            let share = divide(rows, writer, customer, order, products);
            customer += share.customers;
            order += share.orders;
            list.push(share);
        }
        lists.push(list);
    }
    (first, lists)
}

/// Divides the rows of one transaction over the tables; what rounding leaves become order lines.
fn divide(rows: u64, writer: u32, first_customer: u64, first_order: u64, products_there: u64) -> Share {
    let body = rows - 1;
    let mut share = Share { writer, first_customer, first_order, products_there, ..Share::default() };
    share.customers = (body / 8).max(1).min(body);
    share.orders = (body / 5).min(body - share.customers);
    share.documents = body / 20;
    share.shipments = if share.orders == 0 { 0 } else { body / 10 };
    let rest = body - share.customers - share.orders - share.documents - share.shipments;
    if share.orders == 0 {
        share.customers += rest
    } else {
        share.lines = rest
    }
    share
}

/// Inserts a share.
pub(super) async fn fill(txn: &mut Transaction<'_>, share: &Share, rng: &mut impl Rng) -> Result<(), ClientError> {
    let key = |n: u64| n as i64 * WRITERS_MAX + i64::from(share.writer);
    let sku = |n: u64| format!("SKU-{n:05}");
    let customer = |at: u64| key(share.first_customer + at % share.customers.max(1));
    let order = |at: u64| key(share.first_order + at % share.orders.max(1));
    let rows = (0..share.products).map(|n| product_row(rng, &sku(n))).collect();
    insert(txn, "products", rows).await?;
    let rows = (0..share.customers).map(|n| customer_row(rng, customer(n))).collect();
    insert(txn, "customers", rows).await?;
    let rows = (0..share.orders).map(|n| order_row(rng, order(n), customer(n))).collect();
    insert(txn, "orders", rows).await?;
    let mut lines = Vec::new();
    for n in 0..share.lines {
        let product = sku(rng.random_range(0..share.products_there));
        lines.push(line_row(rng, order(n), (n / share.orders.max(1)) as i64 + 1, &product));
    }
    insert(txn, "order_lines", lines).await?;
    let parcel = |n: u64| format!("T-seed-{}-{}", share.writer, share.first_order + n);
    let rows = (0..share.shipments).map(|n| shipment_row(rng, &parcel(n), order(n))).collect();
    insert(txn, "shipments", rows).await?;
    let rows = (0..share.documents).map(|n| document_row(rng, customer(n))).collect();
    insert(txn, "documents", rows).await?;
    let row = audit_row(rng, share.writer, "token");
    insert(txn, "audit_log", vec![row]).await
}

async fn insert(txn: &mut Transaction<'_>, table: &str, rows: Vec<Vec<Cell>>) -> Result<(), ClientError> {
    for some in rows.chunks(ROWS_A_STATEMENT) {
        txn.insert(table, some).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(50, 1)]
    #[case(50, 7)]
    #[case(53, 4)]
    #[case(10_000, 4)]
    #[case(123_457, 3)]
    fn shares_add_up_exactly(#[case] rows: u64, #[case] writers: u32) {
        let (first, lists) = shares(rows, writers);
        let total: u64 = first.rows() + lists.iter().flatten().map(Share::rows).sum::<u64>();
        assert_eq!(total, rows);
        assert_eq!(lists.len(), writers as usize);
        for list in &lists {
            let mut next = (1, 1);
            for share in list {
                assert_eq!((share.first_customer, share.first_order), next);
                next = (next.0 + share.customers, next.1 + share.orders);
            }
        }
    }

    #[test]
    fn every_table_gets_rows() {
        let (_, lists) = shares(10_000, 4);
        let share = &lists[3][0];
        assert!(share.customers > 0 && share.orders > 0 && share.lines > share.orders);
        assert!(share.shipments > 0 && share.documents > 0);
    }
}
