//! The rows that one writer owns. Writers own disjoint rows, by their number in the key, so that what each of them does is
//! decided by the seed alone; only `products` is written by all, under row locks.

use std::{collections::BTreeMap, sync::Arc};

use super::kind::Kind;
use cdc_model::units::Epoch;
use cdc_pipeline::client::{ClientError, postgres::Postgres};

/// Keys are multiples of this plus the writer's number; more writers than this there cannot be.
pub(super) const WRITERS_MAX: i64 = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) id: i64,
    pub(super) customer: i64,
    pub(super) lines: Vec<i64>,
    pub(super) parcels: Vec<String>,
}

/// The rows a writer may touch. Cheap to clone: each transaction works on a draft.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    writer: i64,
    pub(super) customers: Vec<i64>,
    pub(super) products: Arc<Vec<String>>,
    pub(super) orders: Vec<Arc<Order>>,
    /// Id and customer.
    pub(super) documents: Vec<(i64, i64)>,
    /// Tokens under which notes stand in the audit log.
    pub(super) notes: Vec<String>,
    next_customer: i64,
    next_order: i64,
    /// How many parcels and products were named, so that names are not used twice within an epoch.
    named: u64,
}

impl Pool {
    /// Reads what the writer owns.
    pub(super) async fn read(pg: &Postgres, writer: u32, named: u64) -> Result<Pool, ClientError> {
        let mine = |column: &str| format!("{column} % {WRITERS_MAX} = {writer}");
        let mut pool = Pool { writer: i64::from(writer), named, ..Pool::default() };
        for row in pg.texts(&format!("select id from public.customers where {} order by id", mine("id"))).await? {
            pool.customers.extend(number(&row, 0));
        }
        let products = pg.texts("select sku from public.products order by sku collate \"C\"").await?;
        pool.products = Arc::new(products.into_iter().filter_map(|r| r.into_iter().next().flatten()).collect());
        let mut orders: BTreeMap<i64, Order> = BTreeMap::new();
        for row in pg.texts(&format!("select id, customer_id from public.orders where {}", mine("id"))).await? {
            if let (Some(id), Some(customer)) = (number(&row, 0), number(&row, 1)) {
                orders.insert(id, Order { id, customer, lines: Vec::new(), parcels: Vec::new() });
            }
        }
        let sql = format!("select order_id, line_no from public.order_lines where {} order by 1, 2", mine("order_id"));
        for row in pg.texts(&sql).await? {
            if let Some(order) = number(&row, 0).and_then(|id| orders.get_mut(&id)) {
                order.lines.extend(number(&row, 1));
            }
        }
        let sql = format!(
            "select order_id, tracking from public.shipments where {} order by 1, tracking collate \"C\"",
            mine("order_id")
        );
        for row in pg.texts(&sql).await? {
            if let Some(order) = number(&row, 0).and_then(|id| orders.get_mut(&id)) {
                order.parcels.extend(row.get(1).cloned().flatten());
            }
        }
        pool.orders = orders.into_values().map(Arc::new).collect();
        let sql = format!("select id, customer_id from public.documents where {} order by id", mine("customer_id"));
        for row in pg.texts(&sql).await? {
            pool.documents.extend(number(&row, 0).zip(number(&row, 1)));
        }
        let sql = format!(
            "select distinct drill_token collate \"C\" from public.audit_log where kind = 'note' and writer = {writer} order by 1"
        );
        pool.notes = pg.texts(&sql).await?.into_iter().filter_map(|r| r.into_iter().next().flatten()).collect();
        pool.next_customer = pool.customers.last().map_or(1, |id| id / WRITERS_MAX + 1);
        pool.next_order = pool.orders.last().map_or(1, |order| order.id / WRITERS_MAX + 1);
        Ok(pool)
    }

    /// The writer's number.
    pub(super) fn writer(&self) -> u32 {
        self.writer.unsigned_abs() as u32
    }

    pub(super) fn is_empty(&self) -> bool {
        self.products.is_empty() && self.customers.is_empty()
    }

    /// How many names were given out; survives reading the pool again.
    pub(super) fn named(&self) -> u64 {
        self.named
    }

    pub(super) fn new_customer(&mut self) -> i64 {
        let id = self.next_customer * WRITERS_MAX + self.writer;
        self.next_customer += 1;
        self.customers.push(id);
        id
    }

    pub(super) fn new_order(&mut self, customer: i64) -> i64 {
        let id = self.next_order * WRITERS_MAX + self.writer;
        self.next_order += 1;
        self.orders.push(Arc::new(Order { id, customer, lines: Vec::new(), parcels: Vec::new() }));
        id
    }

    /// A name that was never given before: `T-1-3-17`.
    pub(super) fn new_name(&mut self, letter: char, epoch: Epoch) -> String {
        self.named += 1;
        format!("{letter}-{}-{}-{}", epoch.0, self.writer, self.named)
    }

    /// Where the orders stand that `accept` accepts.
    pub(super) fn orders_where(&self, accept: impl Fn(&Order) -> bool) -> Vec<usize> {
        (0..self.orders.len()).filter(|at| accept(&self.orders[*at])).collect()
    }

    pub(super) fn order_mut(&mut self, at: usize) -> &mut Order {
        Arc::make_mut(&mut self.orders[at])
    }

    /// Customers that nothing refers to.
    pub(super) fn free_customers(&self) -> Vec<usize> {
        let mut busy: std::collections::HashSet<i64> = self.orders.iter().map(|o| o.customer).collect();
        busy.extend(self.documents.iter().map(|(_, customer)| customer));
        (0..self.customers.len()).filter(|at| !busy.contains(&self.customers[*at])).collect()
    }

    /// Whether there are rows to do this with.
    pub(super) fn can(&self, kind: Kind) -> bool {
        match kind {
            Kind::NewCustomer | Kind::NewProduct | Kind::AddNotes => true,
            Kind::EditCustomer | Kind::OpenOrder | Kind::WriteDocument => !self.customers.is_empty(),
            Kind::PlaceOrder => !self.customers.is_empty() && !self.products.is_empty(),
            Kind::DropCustomer => !self.free_customers().is_empty(),
            Kind::Reprice => !self.products.is_empty(),
            Kind::EditOrder | Kind::CancelOrder | Kind::Ship => !self.orders.is_empty(),
            Kind::AddLines => !self.orders.is_empty() && !self.products.is_empty(),
            Kind::DropEmptyOrder => self.orders.iter().any(|o| o.lines.is_empty() && o.parcels.is_empty()),
            Kind::EditLines | Kind::DropLine | Kind::RenumberLine => self.orders.iter().any(|o| !o.lines.is_empty()),
            Kind::EditShipment | Kind::Relabel | Kind::DropShipment => {
                self.orders.iter().any(|o| !o.parcels.is_empty())
            }
            Kind::Retitle | Kind::Rewrite | Kind::DropDocument => !self.documents.is_empty(),
            Kind::EditNotes | Kind::DropNotes => !self.notes.is_empty(),
        }
    }

    #[cfg(test)]
    pub(super) fn sample() -> Pool {
        let order = Order { id: 64, customer: 64, lines: vec![1, 2], parcels: vec!["T-0-0-1".into()] };
        Pool {
            customers: vec![64, 128],
            products: Arc::new(vec!["SKU-1".into()]),
            orders: vec![Arc::new(order)],
            documents: vec![(1, 64)],
            notes: vec!["t".into()],
            next_customer: 3,
            next_order: 2,
            ..Pool::default()
        }
    }
}

fn number(row: &[Option<String>], at: usize) -> Option<i64> {
    row.get(at)?.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_two_writers_never_meet() {
        let mut a = Pool { writer: 1, next_order: 1, next_customer: 1, ..Pool::default() };
        let mut b = Pool { writer: 2, next_order: 1, next_customer: 1, ..Pool::default() };
        let ids: std::collections::BTreeSet<i64> = (0..50).flat_map(|_| [a.new_order(1), b.new_order(1)]).collect();
        assert_eq!(ids.len(), 100);
    }

    #[test]
    fn a_draft_leaves_the_pool_alone() {
        let pool = Pool::sample();
        let mut draft = pool.clone();
        draft.order_mut(0).lines.clear();
        assert_eq!(pool.orders[0].lines, [1, 2]);
    }
}
