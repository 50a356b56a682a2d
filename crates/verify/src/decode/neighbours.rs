//! Dates, hstore and elements of arrays: any value is the one that PostgreSQL prints, and the one beside it is another.

use jiff::civil::{Date, date};
use proptest::prelude::*;

use super::{
    compare::Match,
    pg_type::PgType,
    repr::{Binary, Raw, Repr},
    tests::compare,
};
use crate::text::array;

fn ty(base: &str, typmod: i32) -> PgType {
    PgType::new(base, base, "b", typmod, None)
}

fn compared(raw: &Raw<'_>, repr: &Repr, ty: &PgType, binary: Binary, table: &str) -> Match {
    compare(raw, repr, ty, binary, table).0
}

/// By another way than the decoder's: jiff knows the calendar of four-digit years.
fn printed(date: Date) -> String {
    date.strftime("%Y-%m-%d").to_string()
}

fn epoch() -> Date {
    date(1970, 1, 1)
}

proptest! {
    #[test]
    fn dates_and_the_day_after(day in -141_427i64..2_932_895) {
        let on = |day: i64| printed(epoch().checked_add(jiff::Span::new().days(day)).unwrap());
        let raw = Raw::Int(day);
        prop_assert_eq!(compared(&raw, &Repr::Date, &ty("date", -1), Binary::Bytes, &on(day)), Match::Equal);
        prop_assert_eq!(compared(&raw, &Repr::Date, &ty("date", -1), Binary::Bytes, &on(day + 1)), Match::Different);
        let iso = format!("{}Z", on(day));
        prop_assert_eq!(compared(&Raw::Str(&iso), &Repr::IsoDate, &ty("date", -1), Binary::Bytes, &on(day)), Match::Equal);
    }

    #[test]
    fn elements_come_back_from_an_array(values in prop::collection::vec(prop::option::of(any::<String>()), 0..6)) {
        let mut text = vec![b'{'];
        for (i, value) in values.iter().enumerate() {
            array::element(&mut text, i == 0, value.as_deref().map(str::as_bytes));
        }
        text.push(b'}');
        prop_assert_eq!(array::elements(std::str::from_utf8(&text).unwrap()), Some(values));
    }

    #[test]
    fn pairs_of_an_hstore_in_both_modes(pairs in prop::collection::btree_map("\\PC{0,6}", prop::option::of("\\PC{0,6}"), 1..5)) {
        let mut sorted: Vec<(String, Option<String>)> = pairs.clone().into_iter().collect();
        let table = array::hstore(&mut sorted);
        let json = serde_json::to_string(&pairs).unwrap();
        let map = pairs.iter().map(|(k, v)| (k.as_str(), v.as_deref().map_or(Raw::Null, Raw::Str))).collect();
        let ty = ty("hstore", -1);
        prop_assert_eq!(compared(&Raw::Str(&json), &Repr::Plain, &ty, Binary::Bytes, &table), Match::Equal);
        prop_assert_eq!(compared(&Raw::Struct(map), &Repr::Plain, &ty, Binary::Bytes, &table), Match::Equal);
    }

}
