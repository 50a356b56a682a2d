//! Dates and times as PostgreSQL prints them under `TimeZone=UTC, DateStyle=ISO`.

use std::io::Write;

const DAY_MICROS: i128 = 86_400_000_000;

/// What the JDBC driver's idea of infinity becomes in each of Debezium's forms. Days: the driver's sentinel instants as
/// day numbers (snapshot), and the same pushed through a 32-bit year (streaming).
const DATE_INFINITY: [i64; 2] = [-622_191_234, -2_147_472_692];
const DATE_MINUS_INFINITY: [i64; 2] = [-625_821_272, -2_147_472_691];
/// `PGStatement.DATE_POSITIVE_INFINITY`, in milliseconds.
const INFINITY_MILLIS: i128 = 9_223_372_036_825_200_000;
/// `PGStatement.DATE_NEGATIVE_INFINITY`, in milliseconds.
const MINUS_INFINITY_MILLIS: i128 = -9_223_372_036_832_400_000;

/// Appends a date given in days since 1970.
pub fn date(out: &mut Vec<u8>, days: i64) {
    if DATE_INFINITY.contains(&days) {
        out.extend_from_slice(b"infinity");
    } else if DATE_MINUS_INFINITY.contains(&days) {
        out.extend_from_slice(b"-infinity");
    } else {
        let (year, month, day) = civil(days);
        day_of(out, year, month, day);
        era(out, year);
    }
}

/// Appends a time of day given in microseconds.
pub fn time(out: &mut Vec<u8>, micros: i64) {
    let seconds = micros.div_euclid(1_000_000);
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    fraction(out, micros.rem_euclid(1_000_000) as u32);
}

/// The units in which a timestamp may be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

/// Appends a timestamp without zone counted from 1970. The driver's infinity passes through Debezium uncounted: the same
/// number stands for it in milliseconds and in microseconds, a thousandth of it in Connect's milliseconds, and the
/// largest number in nanoseconds.
pub fn timestamp(out: &mut Vec<u8>, count: i64, unit: Unit) {
    let wide = i128::from(count);
    let is = |sentinel: i128| wide == sentinel || (unit == Unit::Millis && wide == sentinel / 1000);
    if is(INFINITY_MILLIS) || (unit == Unit::Nanos && count == i64::MAX) {
        out.extend_from_slice(b"infinity");
    } else if is(MINUS_INFINITY_MILLIS) || (unit == Unit::Nanos && count == i64::MIN) {
        out.extend_from_slice(b"-infinity");
    } else {
        let micros = match unit {
            Unit::Millis => wide * 1000,
            Unit::Micros => wide,
            Unit::Nanos => wide.div_euclid(1000),
        };
        instant(out, micros, "");
    }
}

/// Appends microseconds since 1970 as date and time, then `zone`, then the era.
fn instant(out: &mut Vec<u8>, micros: i128, zone: &str) {
    let (year, month, day) = civil(micros.div_euclid(DAY_MICROS) as i64);
    day_of(out, year, month, day);
    out.push(b' ');
    time(out, micros.rem_euclid(DAY_MICROS) as i64);
    out.extend_from_slice(zone.as_bytes());
    era(out, year);
}

fn day_of(out: &mut Vec<u8>, year: i64, month: u32, day: u32) {
    let shown = if year > 0 { year } else { 1 - year };
    let _ = write!(out, "{shown:04}-{month:02}-{day:02}");
}

fn era(out: &mut Vec<u8>, year: i64) {
    if year <= 0 {
        out.extend_from_slice(b" BC");
    }
}

fn fraction(out: &mut Vec<u8>, micros: u32) {
    if micros == 0 {
        return;
    }
    let text = format!("{micros:06}");
    out.push(b'.');
    out.extend_from_slice(text.trim_end_matches('0').as_bytes());
}

/// Year (astronomical), month and day of a day number, in the proleptic Gregorian calendar.
fn civil(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The day number of a date.
fn days(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = i64::from(if month > 2 { month - 3 } else { month + 9 });
    let day_of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// A moment read from text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment {
    day: i64,
    micros: i64,
    /// Seconds east of UTC, where the text says so.
    offset: Option<i64>,
}

impl Moment {
    fn utc_micros(self) -> i128 {
        i128::from(self.day) * DAY_MICROS + i128::from(self.micros) - i128::from(self.offset.unwrap_or(0)) * 1_000_000
    }
}

/// Reads `[+-]Y-MM-DD`, then `T` or a space and a time, then an offset or `Z`, then ` BC`; the parts that are there.
fn parse(text: &str) -> Option<Moment> {
    let (text, bc) = match text.strip_suffix(" BC") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let (negative, body) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut parts = body.splitn(3, '-');
    let year: i64 = parts.next()?.parse().ok()?;
    let month: u32 = parts.next()?.parse().ok()?;
    let rest = parts.next()?;
    let day: u32 = rest.get(..2)?.parse().ok()?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if bc { 1 - year } else { year };
    let number = days(if negative { -year } else { year }, month, day);
    let rest = &rest[2..];
    if rest.is_empty() || rest == "Z" {
        return Some(Moment { day: number, micros: 0, offset: None });
    }
    let (micros, offset) = clock(rest.strip_prefix(['T', ' '])?)?;
    Some(Moment { day: number, micros, offset })
}

/// Reads `HH:MM[:SS[.ffffff]]` and what follows: nothing, `Z`, or an offset.
fn clock(text: &str) -> Option<(i64, Option<i64>)> {
    let end = text.find(['Z', '+', '-']).unwrap_or(text.len());
    let (body, zone) = text.split_at(end);
    let mut parts = body.splitn(3, ':');
    let hours: i64 = parts.next()?.parse().ok()?;
    let minutes: i64 = parts.next()?.parse().ok()?;
    let rest = parts.next().unwrap_or("0");
    let (seconds, part) = rest.split_once('.').unwrap_or((rest, ""));
    let seconds: i64 = seconds.parse().ok()?;
    let part: i64 = format!("{part:0<6}").get(..6)?.parse().ok()?;
    let micros = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + part;
    Some((micros, offset(zone)?))
}

fn offset(zone: &str) -> Option<Option<i64>> {
    if zone.is_empty() {
        return Some(None);
    }
    if zone == "Z" {
        return Some(Some(0));
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let mut seconds = 0;
    for (part, weight) in zone[1..].split(':').zip([3600, 60, 1]) {
        seconds += part.parse::<i64>().ok()? * weight;
    }
    Some(Some(sign * seconds))
}

/// A `timestamptz`, from ISO 8601 or PostgreSQL's text, as PostgreSQL prints it in UTC.
pub(crate) fn zoned_timestamp(text: &str) -> Option<String> {
    if text == "infinity" || text == "-infinity" {
        return Some(text.to_owned());
    }
    // In arrays infinity is the driver's sentinel.
    for (sentinel, infinity) in [("+292278994-08-16T", "infinity"), ("+292269055-12-02T", "-infinity")] {
        if text.starts_with(sentinel) {
            return Some(infinity.to_owned());
        }
    }
    let mut out = Vec::new();
    instant(&mut out, parse(text)?.utc_micros(), "+00");
    String::from_utf8(out).ok()
}

/// A `timestamp` from ISO 8601. Debezium spells infinity as the driver's sentinel in microseconds.
pub(crate) fn iso_timestamp(text: &str) -> Option<String> {
    let micros = parse(text)?.utc_micros();
    let mut out = Vec::new();
    match i64::try_from(micros) {
        Ok(micros) => timestamp(&mut out, micros, Unit::Micros),
        Err(_) => instant(&mut out, micros, ""),
    }
    String::from_utf8(out).ok()
}

/// A `date` from ISO 8601.
pub(crate) fn iso_date(text: &str) -> Option<String> {
    let day = parse(text)?.day;
    let mut out = Vec::new();
    // The sentinels as Debezium's text form shows them: +292278994-08-16 and +292269055-12-02 in snapshots, the ends of
    // a 32-bit day number when streaming.
    match text.trim_end_matches('Z') {
        "+292278994-08-16" | "-5877611-06-21" => out.extend_from_slice(b"infinity"),
        "+292269055-12-02" | "-5877611-06-22" => out.extend_from_slice(b"-infinity"),
        _ => date(&mut out, day),
    }
    String::from_utf8(out).ok()
}

/// A `time` from ISO 8601, which has no 24:00.
pub(crate) fn iso_time(text: &str) -> Option<String> {
    let mut out = Vec::new();
    time(&mut out, clock(text)?.0);
    String::from_utf8(out).ok()
}

/// A `timetz` moved to UTC, without its zone: that is all that Debezium keeps of it.
pub(crate) fn utc_time(text: &str) -> Option<String> {
    let (micros, offset) = clock(text)?;
    let utc = (micros - offset.unwrap_or(0) * 1_000_000).rem_euclid(DAY_MICROS as i64);
    let mut out = Vec::new();
    time(&mut out, utc);
    String::from_utf8(out).ok()
}

/// PostgreSQL's text of a `time` cut to `digits` fractional digits; `wrap` turns 24:00 into 00:00.
pub(crate) fn cut_time(text: &str, digits: u32, wrap: bool) -> Option<String> {
    let (micros, _) = clock(text)?;
    let step = 10i64.pow(6 - digits.min(6));
    let mut micros = micros.div_euclid(step) * step;
    if wrap {
        micros = micros.rem_euclid(DAY_MICROS as i64);
    }
    let mut out = Vec::new();
    time(&mut out, micros);
    String::from_utf8(out).ok()
}

/// PostgreSQL's text of a `timestamp` cut to `digits` fractional digits.
pub(crate) fn cut_timestamp(text: &str, digits: u32) -> Option<String> {
    if text.ends_with("infinity") {
        return Some(text.to_owned());
    }
    let step = 10i128.pow(6 - digits.min(6));
    let mut out = Vec::new();
    instant(&mut out, parse(text)?.utc_micros().div_euclid(step) * step, "");
    String::from_utf8(out).ok()
}

/// The microseconds of a day of PostgreSQL's text of a `time`.
pub(crate) fn time_micros(text: &str) -> Option<i128> {
    Some(i128::from(clock(text)?.0))
}

/// The microseconds since 1970 of PostgreSQL's text of a `timestamp`.
pub(crate) fn timestamp_micros(text: &str) -> Option<i128> {
    Some(parse(text)?.utc_micros())
}

/// Whether the connector can name this timestamp by a count of nanoseconds: 1677 to 2262. It counts whole seconds first, and in
/// those the range begins later.
pub(crate) fn fits_nanos(text: &str) -> bool {
    parse(text).is_some_and(|moment| {
        let micros = moment.utc_micros();
        [micros.div_euclid(1_000_000) * 1_000_000, micros].iter().all(|m| i64::try_from(m * 1000).is_ok())
    })
}

/// Whether a date or timestamp lies before the first day of the Gregorian calendar, from which on all calendars in use agree.
pub(crate) fn is_before_gregorian(text: &str) -> bool {
    parse(text).is_some_and(|moment| moment.day < days(1582, 10, 15))
}

/// How many days lie between two dates that are read without their eras.
pub(crate) fn days_apart(one: &str, other: &str) -> Option<u64> {
    let day = |text: &str| parse(text.trim_end_matches(" BC")).map(|moment| moment.day);
    Some(day(one)?.abs_diff(day(other)?))
}

/// Whether a microsecond count can name this timestamp at all.
pub(crate) fn fits_micros(text: &str) -> bool {
    text.ends_with("infinity") || parse(text).is_some_and(|m| i64::try_from(m.utc_micros()).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn made(f: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        f(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[rstest]
    #[case(0, "1970-01-01")]
    #[case(19782, "2024-02-29")]
    #[case(2932897, "10000-01-01")]
    #[case(2145042905, "5874897-12-31")]
    #[case(-2440550, "4713-01-01 BC")]
    #[case(-622191234, "infinity")]
    #[case(-2147472692, "infinity")]
    #[case(-625821272, "-infinity")]
    #[case(-2147472691, "-infinity")]
    fn dates(#[case] days: i64, #[case] text: &str) {
        assert_eq!(made(|o| date(o, days)), text);
    }

    #[rstest]
    #[case(0, "00:00:00")]
    #[case(45296123456, "12:34:56.123456")]
    #[case(45296789000, "12:34:56.789")]
    #[case(86400000000, "24:00:00")]
    fn times(#[case] micros: i64, #[case] text: &str) {
        assert_eq!(made(|o| time(o, micros)), text);
    }

    #[rstest]
    #[case(1709210096123456, Unit::Micros, "2024-02-29 12:34:56.123456")]
    #[case(1709210096789, Unit::Millis, "2024-02-29 12:34:56.789")]
    #[case(-1000, Unit::Nanos, "1969-12-31 23:59:59.999999")]
    #[case(-122093827200000000, Unit::Micros, "1900-01-01 00:00:00 BC")]
    #[case(-12219724800000000, Unit::Micros, "1582-10-10 00:00:00")]
    #[case(9223372036825200000, Unit::Micros, "infinity")]
    #[case(9223372036825200, Unit::Millis, "infinity")]
    #[case(i64::MAX, Unit::Nanos, "infinity")]
    #[case(-9223372036832400000, Unit::Micros, "-infinity")]
    #[case(-9223372036832400, Unit::Millis, "-infinity")]
    #[case(i64::MIN, Unit::Nanos, "-infinity")]
    fn timestamps(#[case] count: i64, #[case] unit: Unit, #[case] text: &str) {
        assert_eq!(made(|o| timestamp(o, count, unit)), text);
    }

    #[rstest]
    #[case("2024-02-29T10:34:56.123456Z", "2024-02-29 10:34:56.123456+00")]
    #[case("2024-02-29T12:34:56+02:00", "2024-02-29 10:34:56+00")]
    #[case("-0043-03-15T12:00:00.000000Z", "0044-03-15 12:00:00+00 BC")]
    #[case("+294276-12-31T23:59:59.999999Z", "294276-12-31 23:59:59.999999+00")]
    #[case("0001-01-01T00:00:00.000Z", "0001-01-01 00:00:00+00")]
    #[case("2024-02-29T10:34Z", "2024-02-29 10:34:00+00")]
    #[case("-infinity", "-infinity")]
    fn zoned(#[case] iso: &str, #[case] text: &str) {
        assert_eq!(zoned_timestamp(iso).as_deref(), Some(text));
        assert_eq!(zoned_timestamp(text).as_deref(), Some(text), "PostgreSQL's own text stays as it is");
    }

    #[test]
    fn iso_forms() {
        assert_eq!(zoned_timestamp("+292278994-08-16T23:00:00Z").as_deref(), Some("infinity"));
        assert_eq!(zoned_timestamp("+292269055-12-02T23:00:00Z").as_deref(), Some("-infinity"));
        assert_eq!(iso_date("2024-02-29Z").as_deref(), Some("2024-02-29"));
        assert_eq!(iso_date("-4712-01-01Z").as_deref(), Some("4713-01-01 BC"));
        assert_eq!(iso_time("12:34:56.789Z").as_deref(), Some("12:34:56.789"));
        assert_eq!(iso_timestamp("-1899-01-01T00:00:00Z").as_deref(), Some("1900-01-01 00:00:00 BC"));
        assert_eq!(iso_timestamp("+294247-01-10T04:00:25.2Z").as_deref(), Some("infinity"));
        assert_eq!(utc_time("23:59:59.5+05:30").as_deref(), Some("18:29:59.5"));
        assert_eq!(utc_time("00:00:00-14").as_deref(), Some("14:00:00"));
        assert_eq!(utc_time("18:29:59.5Z").as_deref(), Some("18:29:59.5"));
        assert_eq!(cut_timestamp("1969-12-31 23:59:59.999999", 3).as_deref(), Some("1969-12-31 23:59:59.999"));
        assert_eq!(cut_time("12:34:56.123456", 3, false).as_deref(), Some("12:34:56.123"));
        assert!(!fits_nanos("1582-10-10 00:00:00") && fits_nanos("2024-02-29 12:34:56"));
        assert!(!fits_nanos("1677-09-21 00:12:43.145225") && fits_nanos("1677-09-21 00:12:44"));
        assert!(!fits_nanos("2262-04-11 23:47:16.854776") && fits_nanos("2262-04-11 23:47:16.854775"));
        assert!(is_before_gregorian("1582-10-14") && !is_before_gregorian("1582-10-15"));
        assert!(is_before_gregorian("2024-01-01 BC") && !is_before_gregorian("infinity"));
    }
}
