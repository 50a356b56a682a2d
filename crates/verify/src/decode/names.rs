//! Names as the connector makes them: of schemas from topics, of fields from columns.
//!
//! The connector works on UTF-16 code units, so a character beyond the basic plane is two invalid ones to it.

use std::sync::LazyLock;

use regex::Regex;

use super::settings::{Adjust, ConnectorSettings};

/// What `Character.isDigit` takes for one; half of a surrogate pair never is.
#[expect(clippy::expect_used, reason = "the pattern is a constant")]
static DIGIT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\p{Nd}$").expect("a valid pattern"));

/// What a name is given to: the characters that may stand in it differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// A schema, whose name has a namespace: dots are fine.
    Schema,
    Field,
}

/// The name of a schema, which the connector proposes as `<topic>.Key`, `<topic>.Value` or `<topic>.Envelope`
/// (`schema.name.adjustment.mode`).
pub fn schema_name(adjust: Adjust, proposed: &str) -> String {
    adjusted(adjust, proposed, Of::Schema)
}

/// The name of a column's field (`field.name.adjustment.mode`).
pub(crate) fn field_name(adjust: Adjust, column: &str) -> String {
    adjusted(adjust, column, Of::Field)
}

/// How the connector adjusts the names of fields: where it is told not to, and writes Avro, it does all the same.
pub(crate) fn field_adjustment(settings: &ConnectorSettings) -> Adjust {
    match settings.adjust {
        Adjust::None if (settings.key.is_avro() || settings.value.is_avro()) => Adjust::Avro,
        adjust => adjust,
    }
}

fn adjusted(adjust: Adjust, name: &str, of: Of) -> String {
    if adjust == Adjust::None {
        return name.to_owned();
    }
    let letter = |unit: u8| unit.is_ascii_alphabetic() || (unit == b'_' && adjust == Adjust::Avro);
    let fine = |unit: u8, first: bool| {
        letter(unit) || (!first && (unit.is_ascii_digit() || (unit == b'.' && of == Of::Schema)))
    };
    let mut made = String::with_capacity(name.len());
    for (index, unit) in name.encode_utf16().enumerate() {
        let first = index == 0;
        match u8::try_from(unit) {
            Ok(byte) if fine(byte, first) => made.push(char::from(byte)),
            _ if adjust == Adjust::AvroUnicode => escape(unit, &mut made),
            _ => {
                made.push('_');
                // Fields that differ in a first digit only stay apart.
                made.extend(
                    char::from_u32(unit.into()).filter(|c| first && DIGIT.is_match(c.encode_utf8(&mut [0; 4]))),
                );
            }
        }
    }
    made
}

/// The connector pads with two zeros, and only what has less than three digits.
fn escape(unit: u16, out: &mut String) {
    let hex = format!("{unit:x}");
    out.push_str(if hex.len() <= 2 { "_u00" } else { "_u" });
    out.push_str(&hex);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn settings(more: &[(&str, &str)]) -> ConnectorSettings {
        let mut config: BTreeMap<String, String> =
            [("connector.class", "PostgresConnector"), ("topic.prefix", "shop"), ("plugin.name", "pgoutput")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into();
        config.extend(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        ConnectorSettings::parse("shop", &config).unwrap()
    }

    /// What the adjusters of Debezium 3.6.3 answered.
    #[rstest]
    #[case("id", "id", "id", "id", "id")]
    #[case("2024_t", "_2024_t", "_u0032024_u005ft", "_2024_t", "_u0032024_u005ft")]
    #[case("x😀", "x__", "x_ud83d_ude00", "x__", "x_ud83d_ude00")]
    #[case("tä-x", "t__x", "t_u00e4_u002dx", "t__x", "t_u00e4_u002dx")]
    #[case("a.b", "a.b", "a.b", "a_b", "a_u002eb")]
    #[case("a_b", "a_b", "a_u005fb", "a_b", "a_u005fb")]
    #[case("_a", "_a", "_u005fa", "_a", "_u005fa")]
    #[case("\u{663}x", "_\u{663}x", "_u663x", "_\u{663}x", "_u663x")]
    #[case("\u{ff11}x", "_\u{ff11}x", "_uff11x", "_\u{ff11}x", "_uff11x")]
    #[case("9", "_9", "_u0039", "_9", "_u0039")]
    #[case("", "", "", "", "")]
    #[case("\u{100}b", "_b", "_u100b", "_b", "_u100b")]
    #[case("a\u{1}", "a_", "a_u001", "a_", "a_u001")]
    #[case("-x", "_x", "_u002dx", "_x", "_u002dx")]
    #[case("a😀_b", "a___b", "a_ud83d_ude00_u005fb", "a___b", "a_ud83d_ude00_u005fb")]
    #[case("a\u{663}", "a_", "a_u663", "a_", "a_u663")]
    #[case("\u{1d7ce}x", "__x", "_ud835_udfcex", "__x", "_ud835_udfcex")]
    fn names_are_adjusted_as_the_connector_does(
        #[case] name: &str,
        #[case] schema_avro: &str,
        #[case] schema_unicode: &str,
        #[case] field_avro: &str,
        #[case] field_unicode: &str,
    ) {
        assert_eq!(schema_name(Adjust::Avro, name), schema_avro);
        assert_eq!(schema_name(Adjust::AvroUnicode, name), schema_unicode);
        assert_eq!(field_name(Adjust::Avro, name), field_avro);
        assert_eq!(field_name(Adjust::AvroUnicode, name), field_unicode);
        assert_eq!((field_name(Adjust::None, name), schema_name(Adjust::None, name)), (name.into(), name.into()));
    }

    #[rstest]
    #[case("none", "io.apicurio.registry.utils.converter.AvroConverter", Adjust::Avro)]
    #[case("none", "org.apache.kafka.connect.json.JsonConverter", Adjust::None)]
    #[case("avro_unicode", "io.apicurio.registry.utils.converter.AvroConverter", Adjust::AvroUnicode)]
    fn a_connector_that_writes_avro_adjusts_fields_unasked(
        #[case] mode: &str,
        #[case] converter: &str,
        #[case] adjust: Adjust,
    ) {
        let settings = settings(&[
            ("field.name.adjustment.mode", mode),
            ("value.converter", converter),
            ("value.converter.apicurio.registry.as-confluent", "true"),
            ("value.converter.apicurio.registry.headers.enabled", "false"),
        ]);
        assert_eq!(field_adjustment(&settings), adjust);
    }

    fn is_avro_name(name: &str) -> bool {
        Regex::new("^[A-Za-z_][A-Za-z0-9_]*$").unwrap().is_match(name)
    }

    proptest! {
        /// The digit that is kept behind an underscore may be one of another script, as with the connector.
        #[test]
        fn an_adjusted_field_is_a_name_of_avro(name in "[ -~äé😀中]{1,12}") {
            prop_assert!(is_avro_name(&field_name(Adjust::Avro, &name)));
            prop_assert!(is_avro_name(&field_name(Adjust::AvroUnicode, &name)));
        }

        #[test]
        fn each_code_unit_becomes_one_character(name in "[^0-9].{0,11}") {
            let field = field_name(Adjust::Avro, &name);
            prop_assert!(field.chars().count() - name.encode_utf16().count() <= 1);
        }

        #[test]
        fn adjusting_twice_changes_nothing_more(name in ".{0,12}") {
            let once = field_name(Adjust::Avro, &name);
            prop_assume!(once.is_ascii());
            prop_assert_eq!(field_name(Adjust::Avro, &once), once);
        }

        /// Names that Avro allows and that have no underscore are left alone in every mode.
        #[test]
        fn plain_names_stay(name in "[A-Za-z][A-Za-z0-9]{0,11}") {
            for adjust in [Adjust::None, Adjust::Avro, Adjust::AvroUnicode] {
                prop_assert_eq!(&field_name(adjust, &name), &name);
                prop_assert_eq!(&schema_name(adjust, &name), &name);
            }
        }

        /// Unless the escape itself stands in a name, which the padding leaves ambiguous for three digits.
        #[test]
        fn escapes_keep_names_apart(a in "[a-zA-Z0-9_äöß -]{1,8}", b in "[a-zA-Z0-9_äöß -]{1,8}") {
            prop_assert_eq!(field_name(Adjust::AvroUnicode, &a) == field_name(Adjust::AvroUnicode, &b), a == b);
        }
    }
}
