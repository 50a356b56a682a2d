//! What each kind of operation does to the rows.

use std::collections::BTreeSet;

use rand::{Rng, RngExt};

use super::{kind::Kind, pool::Pool, session::Transaction, shape::Cell, values as v};
use cdc_model::units::Epoch;
use cdc_pipeline::client::ClientError;
use cdc_postgres::sql::literal;

const TIERS: [&str; 4] = ["bronze", "silver", "gold", "with space"];
const STATES: [&str; 5] = ["new", "paid", "shipped", "returned", "cancelled"];
const CHANNELS: [&str; 3] = ["web", "shop", "phone"];
const CARRIERS: [&str; 3] = ["north", "post", "bike"];

/// Does the planned things of one transaction. Products are left to the end and taken in order, because all writers lock them.
#[derive(Debug)]
pub(super) struct Performer<'t, 's, R> {
    pub(super) txn: &'t mut Transaction<'s>,
    pub(super) pool: &'t mut Pool,
    pub(super) rng: &'t mut R,
    pub(super) epoch: Epoch,
    pub(super) products: BTreeSet<String>,
}

type Done = Result<(), ClientError>;

impl<R: Rng> Performer<'_, '_, R> {
    /// Does one thing. One that has become impossible within the transaction does nothing.
    pub(super) async fn perform(&mut self, kind: Kind) -> Done {
        if !self.pool.can(kind) {
            return Ok(());
        }
        match kind {
            Kind::NewCustomer | Kind::EditCustomer | Kind::DropCustomer => self.customers(kind).await,
            Kind::NewProduct | Kind::Reprice => self.catalogue(kind).await,
            Kind::PlaceOrder | Kind::OpenOrder | Kind::EditOrder | Kind::CancelOrder | Kind::DropEmptyOrder => {
                self.orders(kind).await
            }
            Kind::AddLines | Kind::EditLines | Kind::DropLine | Kind::RenumberLine => self.lines(kind).await,
            Kind::Ship | Kind::EditShipment | Kind::Relabel | Kind::DropShipment => self.shipments(kind).await,
            Kind::WriteDocument | Kind::Retitle | Kind::Rewrite | Kind::DropDocument => self.documents(kind).await,
            Kind::AddNotes | Kind::EditNotes | Kind::DropNotes => self.notes(kind).await,
        }
    }

    /// What every transaction does last: the products, then the row that tells that it committed.
    pub(super) async fn finish(&mut self, writer: u32) -> Done {
        for sku in std::mem::take(&mut self.products) {
            let set = [("stock", v::integer(self.rng, 10_000)), ("changed_at", v::timestamp(self.rng))];
            self.txn.update("products", &set, &format!("sku = {}", literal(&sku))).await?;
        }
        self.txn.insert("audit_log", &[audit_row(self.rng, writer, "token")]).await.map(drop)
    }

    async fn customers(&mut self, kind: Kind) -> Done {
        match kind {
            Kind::NewCustomer => {
                let id = self.pool.new_customer();
                let row = customer_row(self.rng, id);
                self.txn.insert("customers", &[row]).await.map(drop)
            }
            Kind::EditCustomer => {
                let id = self.some_customer();
                let set = match self.rng.random_range(0..3) {
                    0 => vec![("profile", v::json(self.rng)), ("tags", v::text_array(self.rng))],
                    1 => vec![("credit", v::decimal(self.rng, 6, 2)), ("score", v::integer(self.rng, 100))],
                    _ => {
                        vec![("tier", v::one_of(self.rng, &TIERS)), ("avatar", blob(self.rng)), ("born", "null".into())]
                    }
                };
                self.txn.update("customers", &set, &format!("id = {id}")).await.map(drop)
            }
            _ => {
                let free = self.pool.free_customers();
                let Some(at) = v::pick(self.rng, &free).copied() else { return Ok(()) };
                let id = self.pool.customers.remove(at);
                self.txn.delete("customers", &format!("id = {id}")).await.map(drop)
            }
        }
    }

    async fn catalogue(&mut self, kind: Kind) -> Done {
        if kind == Kind::NewProduct {
            let sku = self.pool.new_name('P', self.epoch);
            let row = product_row(self.rng, &sku);
            return self.txn.insert("products", &[row]).await.map(drop);
        }
        // Several rows in one transaction, and the price too: the last committed writer wins.
        for _ in 0..self.rng.random_range(1..4) {
            let sku = self.some_product();
            self.products.insert(sku);
        }
        Ok(())
    }

    async fn orders(&mut self, kind: Kind) -> Done {
        match kind {
            Kind::PlaceOrder | Kind::OpenOrder => {
                let customer = self.some_customer();
                let id = self.pool.new_order(customer);
                let row = order_row(self.rng, id, customer);
                self.txn.insert("orders", &[row]).await?;
                if kind == Kind::OpenOrder {
                    return Ok(());
                }
                let at = self.pool.orders.len() - 1;
                self.add_lines(at).await?;
                let sku = self.some_product();
                self.products.insert(sku);
                Ok(())
            }
            Kind::EditOrder => {
                let id = self.pool.orders[self.rng.random_range(0..self.pool.orders.len())].id;
                let set = match self.rng.random_range(0..2) {
                    0 => vec![("state", v::one_of(self.rng, &STATES)), ("priority", v::integer(self.rng, 9))],
                    _ => vec![("note", note(self.rng)), ("discount", discount(self.rng)), ("due", v::date(self.rng))],
                };
                self.txn.update("orders", &set, &format!("id = {id}")).await.map(drop)
            }
            Kind::CancelOrder => {
                let order = self.pool.orders.remove(self.rng.random_range(0..self.pool.orders.len()));
                self.txn.delete("shipments", &format!("order_id = {}", order.id)).await?;
                self.txn.delete("order_lines", &format!("order_id = {}", order.id)).await?;
                self.txn.delete("orders", &format!("id = {}", order.id)).await.map(drop)
            }
            _ => {
                let empty = self.pool.orders_where(|o| o.lines.is_empty() && o.parcels.is_empty());
                let Some(at) = v::pick(self.rng, &empty).copied() else { return Ok(()) };
                let order = self.pool.orders.remove(at);
                self.txn.delete("orders", &format!("id = {}", order.id)).await.map(drop)
            }
        }
    }

    async fn add_lines(&mut self, at: usize) -> Done {
        let order = &self.pool.orders[at];
        let (id, next) = (order.id, order.lines.iter().max().map_or(1, |last| last + 1));
        let mut rows = Vec::new();
        for line in next..next + self.rng.random_range(1..6) {
            let sku = self.some_product();
            rows.push(line_row(self.rng, id, line, &sku));
            self.pool.order_mut(at).lines.push(line);
        }
        self.txn.insert("order_lines", &rows).await.map(drop)
    }

    async fn lines(&mut self, kind: Kind) -> Done {
        if kind == Kind::AddLines {
            let at = self.rng.random_range(0..self.pool.orders.len());
            return self.add_lines(at).await;
        }
        let with_lines = self.pool.orders_where(|o| !o.lines.is_empty());
        let Some(at) = v::pick(self.rng, &with_lines).copied() else { return Ok(()) };
        let (id, lines) = (self.pool.orders[at].id, self.pool.orders[at].lines.len());
        let which = self.rng.random_range(0..lines);
        let line = self.pool.orders[at].lines[which];
        let one = format!("order_id = {id} and line_no = {line}");
        match kind {
            Kind::EditLines => {
                let set = [("quantity", v::integer(self.rng, 50)), ("options", options(self.rng))];
                self.txn.update("order_lines", &set, &format!("order_id = {id}")).await.map(drop)
            }
            Kind::DropLine => {
                self.pool.order_mut(at).lines.remove(which);
                self.txn.delete("order_lines", &one).await.map(drop)
            }
            _ => {
                let last = self.pool.orders[at].lines.iter().max().copied().unwrap_or(line);
                let lines = &mut self.pool.order_mut(at).lines;
                lines.remove(which);
                lines.push(last + 1);
                self.txn.change_key("order_lines", &[("line_no", format!("'{}'", last + 1))], &one).await.map(drop)
            }
        }
    }

    async fn shipments(&mut self, kind: Kind) -> Done {
        if kind == Kind::Ship {
            let at = self.rng.random_range(0..self.pool.orders.len());
            let tracking = self.pool.new_name('T', self.epoch);
            let row = shipment_row(self.rng, &tracking, self.pool.orders[at].id);
            self.pool.order_mut(at).parcels.push(tracking);
            return self.txn.insert("shipments", &[row]).await.map(drop);
        }
        let shipped = self.pool.orders_where(|o| !o.parcels.is_empty());
        let Some(at) = v::pick(self.rng, &shipped).copied() else { return Ok(()) };
        let which = self.rng.random_range(0..self.pool.orders[at].parcels.len());
        let old = self.pool.orders[at].parcels[which].clone();
        let one = format!("tracking = {}", literal(&old));
        match kind {
            Kind::EditShipment => {
                let set = [("parcels", v::integer(self.rng, 9)), ("label", blob(self.rng))];
                self.txn.update("shipments", &set, &one).await.map(drop)
            }
            Kind::Relabel => {
                let new = self.pool.new_name('T', self.epoch);
                self.pool.order_mut(at).parcels[which] = new.clone();
                self.txn.change_key("shipments", &[("tracking", literal(&new))], &one).await.map(drop)
            }
            _ => {
                self.pool.order_mut(at).parcels.remove(which);
                self.txn.delete("shipments", &one).await.map(drop)
            }
        }
    }

    async fn documents(&mut self, kind: Kind) -> Done {
        if kind == Kind::WriteDocument {
            let customer = self.some_customer();
            let row = document_row(self.rng, customer);
            let rows = self.txn.insert("documents", &[row]).await?;
            let id = rows.first().and_then(|r| r.text("id")?.parse().ok());
            self.pool.documents.extend(id.map(|id: i64| (id, customer)));
            return Ok(());
        }
        let at = self.rng.random_range(0..self.pool.documents.len());
        let one = format!("id = {}", self.pool.documents[at].0);
        match kind {
            // The body stays: the WAL does not carry it.
            Kind::Retitle => {
                let set = [("title", v::words(self.rng, 3)), ("revision", v::integer(self.rng, 1000))];
                self.txn.update("documents", &set, &one).await.map(drop)
            }
            Kind::Rewrite => {
                let set = [("body", v::long_text(self.rng)), ("revision", v::integer(self.rng, 1000))];
                self.txn.update("documents", &set, &one).await.map(drop)
            }
            _ => {
                self.pool.documents.remove(at);
                self.txn.delete("documents", &one).await.map(drop)
            }
        }
    }

    async fn notes(&mut self, kind: Kind) -> Done {
        if kind == Kind::AddNotes {
            // Two rows that are equal in every column, and one that is not.
            let row = audit_row(self.rng, self.writer(), "note");
            let other = audit_row(self.rng, self.writer(), "note");
            self.txn.insert("audit_log", &[row.clone(), row, other]).await?;
            let token = self.txn.token.clone();
            if self.pool.notes.last() != Some(&token) {
                self.pool.notes.push(token);
            }
            return Ok(());
        }
        let at = self.rng.random_range(0..self.pool.notes.len());
        let token = self.pool.notes.remove(at);
        let those = format!("kind = 'note' and drill_token = {}", literal(&token));
        if kind == Kind::DropNotes {
            return self.txn.delete("audit_log", &those).await.map(drop);
        }
        // They now carry this transaction's token.
        let own = self.txn.token.clone();
        if self.pool.notes.last() != Some(&own) {
            self.pool.notes.push(own);
        }
        self.txn.update_unkeyed("audit_log", &[("note", note(self.rng))], &those).await
    }

    fn writer(&self) -> u32 {
        self.pool.writer()
    }

    fn some_customer(&mut self) -> i64 {
        v::pick(self.rng, &self.pool.customers).copied().unwrap_or_default()
    }

    fn some_product(&mut self) -> String {
        v::pick(self.rng, &self.pool.products).cloned().unwrap_or_default()
    }
}

fn blob(rng: &mut impl Rng) -> String {
    let bytes = v::bytes(rng, 24);
    v::or_null(rng, 4, bytes)
}

fn note(rng: &mut impl Rng) -> String {
    let words = v::words(rng, 2);
    v::or_null(rng, 4, words)
}

fn discount(rng: &mut impl Rng) -> String {
    let number = v::numeric(rng);
    v::or_null(rng, 3, number)
}

fn options(rng: &mut impl Rng) -> String {
    let json = v::json(rng);
    v::or_null(rng, 3, json)
}

pub(super) fn customer_row(rng: &mut impl Rng, id: i64) -> Vec<Cell> {
    vec![
        ("id", format!("'{id}'")),
        ("external_id", v::uuid(rng)),
        ("email", format!("'c{id}@example.org'")),
        ("tier", v::one_of(rng, &TIERS)),
        ("credit", v::decimal(rng, 6, 2)),
        ("score", v::integer(rng, 100)),
        ("tags", v::text_array(rng)),
        ("profile", v::json(rng)),
        ("avatar", blob(rng)),
        ("born", v::date(rng)),
        ("registered_at", v::timestamptz(rng)),
    ]
}

pub(super) fn product_row(rng: &mut impl Rng, sku: &str) -> Vec<Cell> {
    let ratings = v::integer_array(rng);
    vec![
        ("sku", literal(sku)),
        ("title", v::words(rng, 2)),
        ("price", v::decimal(rng, 4, 2)),
        ("weight_kg", discount(rng)),
        ("stock", v::integer(rng, 10_000)),
        ("attributes", options(rng)),
        ("ratings", v::or_null(rng, 4, ratings)),
        ("on_sale", if rng.random_range(0..3) == 0 { "true".into() } else { "false".into() }),
        ("changed_at", v::timestamp(rng)),
    ]
}

pub(super) fn order_row(rng: &mut impl Rng, id: i64, customer: i64) -> Vec<Cell> {
    let due = v::date(rng);
    vec![
        ("id", format!("'{id}'")),
        ("customer_id", format!("'{customer}'")),
        ("state", v::one_of(rng, &STATES)),
        ("priority", v::integer(rng, 9)),
        ("channel", v::one_of(rng, &CHANNELS)),
        ("placed_at", v::timestamptz(rng)),
        ("due", v::or_null(rng, 5, due)),
        ("note", note(rng)),
        ("discount", discount(rng)),
    ]
}

pub(super) fn line_row(rng: &mut impl Rng, order: i64, line: i64, sku: &str) -> Vec<Cell> {
    vec![
        ("order_id", format!("'{order}'")),
        ("line_no", format!("'{line}'")),
        ("sku", literal(sku)),
        ("quantity", v::integer(rng, 50)),
        ("unit_price", v::decimal(rng, 4, 2)),
        ("options", options(rng)),
    ]
}

pub(super) fn shipment_row(rng: &mut impl Rng, tracking: &str, order: i64) -> Vec<Cell> {
    vec![
        ("tracking", literal(tracking)),
        ("order_id", format!("'{order}'")),
        ("carrier", v::one_of(rng, &CARRIERS)),
        ("parcels", v::integer(rng, 9)),
        ("label", blob(rng)),
        ("sent_at", v::timestamp(rng)),
    ]
}

pub(super) fn document_row(rng: &mut impl Rng, customer: i64) -> Vec<Cell> {
    vec![
        ("customer_id", format!("'{customer}'")),
        ("title", v::words(rng, 3)),
        ("revision", "'1'".into()),
        ("body", v::long_text(rng)),
    ]
}

pub(super) fn audit_row(rng: &mut impl Rng, writer: u32, kind: &str) -> Vec<Cell> {
    vec![
        ("writer", format!("'{writer}'")),
        ("kind", literal(kind)),
        ("note", note(rng)),
        ("happened_at", v::timestamptz(rng)),
    ]
}
