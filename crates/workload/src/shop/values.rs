//! Values that have been trouble somewhere: quotes, backslashes, other scripts, NULLs within arrays, many digits.

use rand::{Rng, RngExt};

use cdc_postgres::sql::literal;

const WORDS: [&str; 16] = [
    "anchor",
    "birch",
    "o'clock",
    "back\\slash",
    "\"quoted\"",
    "Größe",
    "日本",
    "🦀",
    "comma,comma",
    "{brace}",
    "line\nbreak",
    "null",
    "tab\there",
    "  padded  ",
    "semi;colon",
    "% percent",
];

/// NULL in one of `one_in` cases.
pub(super) fn or_null(rng: &mut impl Rng, one_in: u32, value: String) -> String {
    if rng.random_range(0..one_in) == 0 { "null".into() } else { value }
}

pub(super) fn pick<'a, T>(rng: &mut impl Rng, from: &'a [T]) -> Option<&'a T> {
    if from.is_empty() { None } else { from.get(rng.random_range(0..from.len())) }
}

fn word(rng: &mut impl Rng) -> &'static str {
    WORDS[rng.random_range(0..WORDS.len())]
}

pub(super) fn words(rng: &mut impl Rng, count: usize) -> String {
    literal(&(0..count).map(|_| word(rng)).collect::<Vec<_>>().join(" "))
}

pub(super) fn integer(rng: &mut impl Rng, below: u32) -> String {
    format!("'{}'", rng.random_range(0..below))
}

/// A number with exactly this many digits after the point.
pub(super) fn decimal(rng: &mut impl Rng, digits_before: u32, scale: usize) -> String {
    let whole = rng.random_range(0..10u64.pow(digits_before));
    let part = rng.random_range(0..10u64.pow(scale as u32));
    let sign = if rng.random_range(0..4) == 0 { "-" } else { "" };
    format!("'{sign}{whole}.{part:0scale$}'")
}

/// A number of any scale, from `0` and `1e20` to thirty digits after the point.
pub(super) fn numeric(rng: &mut impl Rng) -> String {
    match rng.random_range(0..5) {
        0 => "'0'".into(),
        1 => "'100000000000000000000'".into(),
        2 => format!("'0.{:030}'", rng.random_range(1..u64::MAX)),
        3 => format!("'-{}.50'", rng.random_range(0..1000)),
        _ => format!("'{}.{}'", rng.random_range(0..u64::MAX), rng.random_range(1..100_000)),
    }
}

pub(super) fn uuid(rng: &mut impl Rng) -> String {
    let n: u128 = rng.random();
    let hex = format!("{n:032x}");
    format!("'{}-{}-{}-{}-{}'", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

pub(super) fn bytes(rng: &mut impl Rng, up_to: usize) -> String {
    let length = rng.random_range(0..=up_to);
    let hex: String = (0..length).map(|_| format!("{:02x}", rng.random::<u8>())).collect();
    format!("'\\x{hex}'")
}

pub(super) fn date(rng: &mut impl Rng) -> String {
    format!("'{:04}-{:02}-{:02}'", rng.random_range(1931..2040), rng.random_range(1..13), rng.random_range(1..29))
}

/// A point in time to the microsecond; years before 1970 and after 2038 are among them.
pub(super) fn timestamp(rng: &mut impl Rng) -> String {
    format!(
        "'{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:06}'",
        rng.random_range(1965..2045),
        rng.random_range(1..13),
        rng.random_range(1..29),
        rng.random_range(0..24),
        rng.random_range(0..60),
        rng.random_range(0..60),
        rng.random_range(0..1_000_000)
    )
}

/// A point in time with a zone, written in one of several zones.
pub(super) fn timestamptz(rng: &mut impl Rng) -> String {
    let zone = ["+00", "-05:30", "+14", "+02"][rng.random_range(0..4)];
    let plain = timestamp(rng);
    format!("'{}{zone}'", plain.trim_matches('\''))
}

pub(super) fn json(rng: &mut impl Rng) -> String {
    let value = serde_json::json!({
        "w": word(rng),
        "n": rng.random_range(-5..1_000_000),
        "deep": { "list": [word(rng), null, rng.random_range(0..9)], "empty": {} },
    });
    // A number that no double holds exactly.
    literal(&value.to_string().replacen("\"n\":", "\"big\": 12345678901234567890.1234567890, \"n\":", 1))
}

pub(super) fn text_array(rng: &mut impl Rng) -> String {
    let items: Vec<String> = (0..rng.random_range(0..4))
        .map(|_| if rng.random_range(0..6) == 0 { "null".into() } else { literal(word(rng)) })
        .collect();
    format!("array[{}]::text[]", items.join(", "))
}

pub(super) fn integer_array(rng: &mut impl Rng) -> String {
    let items: Vec<String> = (0..rng.random_range(0..5)).map(|_| rng.random_range(-9..10).to_string()).collect();
    format!("'{{{}}}'", items.join(","))
}

pub(super) fn one_of(rng: &mut impl Rng, from: &[&str]) -> String {
    literal(from[rng.random_range(0..from.len())])
}

/// A text that does not fit into its page: it is stored out of line.
pub(super) fn long_text(rng: &mut impl Rng) -> String {
    let length = rng.random_range(2_300..3_500);
    literal(&(0..length).map(|_| char::from(rng.random_range(b'a'..=b'z'))).collect::<String>())
}
