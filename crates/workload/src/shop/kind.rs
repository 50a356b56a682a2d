//! The kinds of things that writers do, and what a load can be made to contain.

use cdc_model::vocabulary::Must;

/// One thing a writer does within a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    NewCustomer,
    EditCustomer,
    DropCustomer,
    NewProduct,
    Reprice,
    PlaceOrder,
    OpenOrder,
    EditOrder,
    CancelOrder,
    DropEmptyOrder,
    AddLines,
    EditLines,
    DropLine,
    RenumberLine,
    Ship,
    EditShipment,
    Relabel,
    DropShipment,
    WriteDocument,
    Retitle,
    Rewrite,
    DropDocument,
    AddNotes,
    EditNotes,
    DropNotes,
}

impl Kind {
    /// Every kind with how often it is chosen.
    pub(super) const WEIGHTS: [(Kind, u32); 25] = [
        (Kind::NewCustomer, 6),
        (Kind::EditCustomer, 10),
        (Kind::DropCustomer, 3),
        (Kind::NewProduct, 2),
        (Kind::Reprice, 8),
        (Kind::PlaceOrder, 18),
        (Kind::OpenOrder, 2),
        (Kind::EditOrder, 8),
        (Kind::CancelOrder, 6),
        (Kind::DropEmptyOrder, 1),
        (Kind::AddLines, 4),
        (Kind::EditLines, 6),
        (Kind::DropLine, 4),
        (Kind::RenumberLine, 4),
        (Kind::Ship, 8),
        (Kind::EditShipment, 3),
        (Kind::Relabel, 6),
        (Kind::DropShipment, 2),
        (Kind::WriteDocument, 5),
        (Kind::Retitle, 7),
        (Kind::Rewrite, 2),
        (Kind::DropDocument, 2),
        (Kind::AddNotes, 4),
        (Kind::EditNotes, 3),
        (Kind::DropNotes, 2),
    ];

    /// The tables it writes, besides the token's row in `audit_log`.
    pub(super) fn tables(self) -> &'static [&'static str] {
        match self {
            Kind::NewCustomer | Kind::EditCustomer | Kind::DropCustomer => &["customers"],
            Kind::NewProduct | Kind::Reprice => &["products"],
            Kind::PlaceOrder => &["orders", "order_lines", "products"],
            Kind::OpenOrder | Kind::EditOrder | Kind::DropEmptyOrder => &["orders"],
            Kind::CancelOrder => &["shipments", "order_lines", "orders"],
            Kind::AddLines | Kind::EditLines | Kind::DropLine | Kind::RenumberLine => &["order_lines"],
            Kind::Ship | Kind::EditShipment | Kind::Relabel | Kind::DropShipment => &["shipments"],
            Kind::WriteDocument | Kind::Retitle | Kind::Rewrite | Kind::DropDocument => &["documents"],
            Kind::AddNotes | Kind::EditNotes | Kind::DropNotes => &["audit_log"],
        }
    }

    /// The kinds that bring it about, the preferred one first.
    pub(super) fn that_do(must: Must) -> &'static [Kind] {
        match must {
            Must::InsertNewKeys => &[
                Kind::PlaceOrder,
                Kind::OpenOrder,
                Kind::NewCustomer,
                Kind::Ship,
                Kind::WriteDocument,
                Kind::AddLines,
                Kind::NewProduct,
            ],
            Must::Update | Must::RollBack | Must::Savepoint => &[
                Kind::EditCustomer,
                Kind::EditOrder,
                Kind::EditLines,
                Kind::EditShipment,
                Kind::Retitle,
                Kind::Reprice,
                Kind::AddNotes,
            ],
            Must::Delete => &[
                Kind::CancelOrder,
                Kind::DropDocument,
                Kind::DropLine,
                Kind::DropShipment,
                Kind::DropEmptyOrder,
                Kind::DropCustomer,
            ],
            Must::ChangeKey => &[Kind::Relabel, Kind::RenumberLine],
            Must::MultiTable => &[Kind::PlaceOrder, Kind::CancelOrder],
        }
    }
}
