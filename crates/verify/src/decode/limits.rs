//! Values that the connector cannot say: its records have NULL or something else in their place. As seen with Debezium 3.6.

use super::{
    pg_type::{Kind, PgType},
    repr::Repr,
};
use crate::text::{array, time};

/// Why records cannot have this value of the table, but have something else in its place: `event`, which is `None` for NULL.
pub fn instead(text: &str, event: Option<&str>, reprs: &[Repr], ty: &PgType) -> Option<&'static str> {
    let why = inexpressible(text, reprs, ty)?;
    let taken = match (&ty.kind, event) {
        (Kind::Numeric, event) => event.is_none(),
        (Kind::Timestamp, Some(_)) => !time::fits_micros(text),
        // By the other calendar it is some days off, and it has lost its era.
        (Kind::Date, Some(event)) => time::days_apart(text, event).is_some_and(|days| days <= CALENDARS_APART),
        (Kind::Interval, event) => event.is_some_and(|event| matches!(event, "0" | "00:00:00")),
        _ => true,
    };
    taken.then_some(why)
}

/// As far as the Julian and the Gregorian calendar are from each other in the years that PostgreSQL knows.
const CALENDARS_APART: u64 = 40;

/// Why records cannot have this value of the table, whatever they have in its place.
pub(crate) fn inexpressible(text: &str, reprs: &[Repr], ty: &PgType) -> Option<&'static str> {
    let by = |wanted: fn(&Repr) -> bool| reprs.iter().any(wanted);
    match &ty.kind {
        Kind::Numeric
            if text.trim_start_matches('-').starts_with(['N', 'I'])
                && by(|r| matches!(r, Repr::VariableDecimal | Repr::Decimal(_))) =>
        {
            Some("NaN and infinity have no precise decimal; records have NULL")
        }
        Kind::Timestamp if by(|r| *r == Repr::TimestampNanos) && !time::fits_nanos(text) => {
            Some("outside of what nanoseconds can count; records have NULL")
        }
        Kind::Timestamp if !time::fits_micros(text) => Some("outside of what 64 bits of microseconds can count"),
        Kind::Date if time::is_before_gregorian(text) => {
            Some("before 1582-10-15: a snapshot reads it by another calendar and without its era")
        }
        Kind::Interval if text.ends_with("infinity") => Some("an infinite interval has no expression; records have 0"),
        Kind::Array(element) => inexpressible_array(text, reprs, element),
        _ => None,
    }
}

fn inexpressible_array(text: &str, reprs: &[Repr], element: &PgType) -> Option<&'static str> {
    let Some(elements) = array::elements(text) else {
        return Some("arrays of several dimensions, or with bounds of their own, are not expressed in records");
    };
    let inner: Vec<Repr> =
        reprs.iter().map(|r| if let Repr::Array(inner) = r { (**inner).clone() } else { r.clone() }).collect();
    elements.iter().flatten().find_map(|text| match element.kind {
        Kind::Timestamp | Kind::TimestampTz if time::is_before_gregorian(text) => {
            Some("before 1582-10-15: a snapshot reads it in arrays by another calendar")
        }
        _ => inexpressible(text, &inner, element),
    })
}

/// Why records have NULL where the table has this value: types for which the connector has none, or that it does not understand.
pub(crate) fn null_instead(text: &str, ty: &PgType) -> Option<&'static str> {
    match &ty.kind {
        _ if matches!(ty.base.as_str(), "int2vector" | "oidvector") => Some("the connector reads such values as NULL"),
        _ if ty.base == "name" => Some("the connector may leave values of type name empty"),
        Kind::Bit if text.is_empty() => Some("no bits at all are NULL in records"),
        Kind::Array(element) => match element.kind {
            Kind::Unknown | Kind::Bit | Kind::Vector | Kind::Geometric => {
                Some("the connector reads arrays of this type as NULL")
            }
            Kind::Text if element.base == "isbn" => Some("the connector reads arrays of this type as NULL"),
            Kind::Numeric if text.contains("NaN") || text.contains("Infinity") => {
                Some("the connector reads arrays with NaN or infinity as NULL")
            }
            // Of built-in text types it reads them.
            Kind::Text if text.contains('"') && !element.is_builtin_text() => {
                Some("the connector may read arrays of this type as NULL whose elements have to be quoted")
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const ANY: i32 = -1;

    fn ty(base: &str, typmod: i32) -> PgType {
        PgType::new(base, base, "b", typmod, None)
    }

    fn array_of(base: &str) -> PgType {
        PgType::new(&format!("{base}[]"), &format!("_{base}"), "b", ANY, Some(ty(base, ANY)))
    }

    fn list(repr: Repr) -> Repr {
        Repr::Array(Box::new(repr))
    }

    #[rstest]
    #[case(ty("numeric", ANY), Repr::VariableDecimal, "NaN", "1")]
    #[case(ty("numeric", ANY), Repr::Decimal(2), "-Infinity", "-1")]
    #[case(ty("date", ANY), Repr::Date, "0044-03-15 BC", "1582-10-15")]
    #[case(ty("date", ANY), Repr::IsoDate, "1582-10-14", "infinity")]
    #[case(ty("interval", ANY), Repr::MicroDuration, "-infinity", "1 day")]
    #[case(ty("timestamp", ANY), Repr::TimestampNanos, "2262-04-12 00:00:00", "2262-04-11 00:00:00")]
    #[case(ty("timestamp", ANY), Repr::TimestampMicros, "294276-12-31 00:00:00", "infinity")]
    #[case(array_of("int4"), list(Repr::Plain), "{{1,2}}", "{1,2}")]
    #[case(array_of("int4"), list(Repr::Plain), "[0:1]={1,2}", "{}")]
    #[case(array_of("date"), list(Repr::Date), "{2024-01-01,1500-01-01}", "{2024-01-01}")]
    #[case(
        array_of("timestamp"),
        list(Repr::TimestampMicros),
        "{\"0044-03-15 12:00:00 BC\"}",
        "{\"2024-03-15 12:00:00\",infinity}"
    )]
    #[case(array_of("numeric"), list(Repr::VariableDecimal), "{1,NaN}", "{1,2,NULL}")]
    fn a_value_without_an_expression_is_known(
        #[case] ty: PgType,
        #[case] repr: Repr,
        #[case] without: &str,
        #[case] with: &str,
    ) {
        assert!(inexpressible(without, std::slice::from_ref(&repr), &ty).is_some(), "{without}");
        assert!(inexpressible(with, &[repr], &ty).is_none(), "{with}");
    }

    #[rstest]
    #[case("date", Repr::Date, "0044-03-15 BC", Some("0044-03-15"), Some("0045-03-15"))]
    #[case("date", Repr::Date, "1582-10-10", Some("1582-10-20"), Some("1582-12-20"))]
    #[case("date", Repr::Date, "1000-01-01", Some("1000-01-07"), Some("10000-01-01"))]
    #[case("interval", Repr::MicroDuration, "infinity", Some("0"), Some("1"))]
    #[case("interval", Repr::IsoInterval, "-infinity", Some("00:00:00"), None)]
    #[case("numeric", Repr::VariableDecimal, "NaN", None, Some("0"))]
    #[case("timestamp", Repr::TimestampNanos, "2262-04-12 00:00:00", None, Some("2262-04-11 00:00:00"))]
    fn only_what_the_connector_makes_of_a_value_is_excused(
        #[case] base: &str,
        #[case] repr: Repr,
        #[case] text: &str,
        #[case] excused: Option<&str>,
        #[case] not: Option<&str>,
    ) {
        let (ty, reprs) = (ty(base, ANY), [repr]);
        assert!(instead(text, excused, &reprs, &ty).is_some(), "{text} as {excused:?}");
        assert!(instead(text, not, &reprs, &ty).is_none(), "{text} as {not:?}");
    }

    #[test]
    fn null_stands_only_where_the_connector_writes_it() {
        assert!(null_instead("1 2", &ty("int2vector", ANY)).is_some());
        assert!(null_instead("a", &ty("name", ANY)).is_some() && null_instead("a", &ty("text", ANY)).is_none());
        assert!(null_instead("", &ty("varbit", 1)).is_some() && null_instead("0", &ty("varbit", 1)).is_none());
        assert!(null_instead("{1}", &array_of("bit")).is_some() && null_instead("{1}", &array_of("int4")).is_none());
        assert!(null_instead("{0-393-04002-X}", &array_of("isbn")).is_some());
        assert!(
            null_instead("{\"a b\"}", &array_of("ltree")).is_some()
                && null_instead("{a}", &array_of("ltree")).is_none()
                && null_instead("{\"a b\"}", &array_of("text")).is_none()
                && null_instead("{\"a b\"}", &array_of("varchar")).is_none()
        );
    }

    #[test]
    fn values_that_a_decimal_can_say_in_text_are_expressed() {
        assert_eq!(inexpressible("NaN", &[Repr::Plain], &ty("numeric", ANY)), None);
    }
}
