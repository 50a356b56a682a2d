//! Intervals, of which Debezium keeps microseconds (a month counts 30.4375 days) or an ISO 8601 text.

/// An interval as PostgreSQL keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// Years and months.
    pub months: i64,
    /// Days.
    pub days: i64,
    /// Everything below a day.
    pub micros: i64,
}

/// 365.25 / 12 days of microseconds.
const MONTH_MICROS: i128 = 2_629_800_000_000;
const DAY_MICROS: i128 = 86_400_000_000;

impl Interval {
    /// Debezium's `MicroDuration`; saturates as a Java long does.
    pub(crate) fn total_micros(self) -> i64 {
        let total =
            i128::from(self.months) * MONTH_MICROS + i128::from(self.days) * DAY_MICROS + i128::from(self.micros);
        total.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }

    /// Reads PostgreSQL's text under `IntervalStyle=postgres`: `1 year 2 mons -3 days +04:05:06.789`.
    pub(crate) fn from_postgres(text: &str) -> Option<Interval> {
        let mut interval = Interval::default();
        let mut words = text.split_whitespace();
        while let Some(word) = words.next() {
            if word.contains(':') {
                interval.micros += clock(word)?;
                continue;
            }
            let count: i64 = word.parse().ok()?;
            match words.next()?.trim_end_matches('s') {
                "year" => interval.months += count * 12,
                "mon" => interval.months += count,
                "day" => interval.days += count,
                _ => return None,
            }
        }
        Some(interval)
    }

    /// Reads Debezium's ISO 8601 text: `P1Y2M-3DT4H5M6.789S`.
    pub(crate) fn from_iso(text: &str) -> Option<Interval> {
        let mut interval = Interval::default();
        let mut in_time = false;
        let mut number = String::new();
        for c in text.strip_prefix('P')?.chars() {
            match c {
                'T' => in_time = true,
                '0'..='9' | '-' | '+' | '.' => number.push(c),
                unit => {
                    let micros = seconds_to_micros(&number)?;
                    let whole = micros / 1_000_000;
                    number.clear();
                    match (unit, in_time) {
                        ('Y', false) => interval.months += whole * 12,
                        ('M', false) => interval.months += whole,
                        ('W', false) => interval.days += whole * 7,
                        ('D', false) => interval.days += whole,
                        ('H', true) => interval.micros += micros * 3600,
                        ('M', true) => interval.micros += micros * 60,
                        ('S', true) => interval.micros += micros,
                        _ => return None,
                    }
                }
            }
        }
        number.is_empty().then_some(interval)
    }

    /// PostgreSQL's text under `IntervalStyle=postgres`.
    pub(crate) fn to_postgres(self) -> String {
        let (years, months) = (self.months / 12, self.months % 12);
        let mut parts = Vec::new();
        let mut negative_before = false;
        for (count, unit) in [(years, "year"), (months, "mon"), (self.days, "day")] {
            if count != 0 {
                let plus = if negative_before && count > 0 { "+" } else { "" };
                let many = if count == 1 { "" } else { "s" };
                parts.push(format!("{plus}{count} {unit}{many}"));
                negative_before = count < 0;
            }
        }
        if self.micros != 0 || parts.is_empty() {
            let sign = match (self.micros < 0, negative_before) {
                (true, _) => "-",
                (false, true) => "+",
                (false, false) => "",
            };
            let mut clock = Vec::new();
            super::time::time(&mut clock, self.micros.abs());
            parts.push(format!("{sign}{}", String::from_utf8_lossy(&clock)));
        }
        parts.join(" ")
    }
}

fn clock(text: &str) -> Option<i64> {
    let (sign, body) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.trim_start_matches('+')),
    };
    let mut parts = body.split(':');
    let hours: i64 = parts.next()?.parse().ok()?;
    let minutes: i64 = parts.next()?.parse().ok()?;
    Some(sign * ((hours * 60 + minutes) * 60_000_000 + seconds_to_micros(parts.next().unwrap_or("0"))?))
}

fn seconds_to_micros(text: &str) -> Option<i64> {
    let (sign, body) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.trim_start_matches('+')),
    };
    let (whole, part) = body.split_once('.').unwrap_or((body, ""));
    let whole: i64 = whole.parse().ok()?;
    let part: i64 = format!("{part:0<6}").get(..6)?.parse().ok()?;
    Some(sign * (whole.checked_mul(1_000_000)? + part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("1 year 2 mons -3 days +04:05:06.789", "P1Y2M-3DT4H5M6.789S", 36572706789000)]
    #[case("-1 mons +2 days -00:00:00.000001", "P0Y-1M2DT0H0M-0.000001S", -2457000000001)]
    #[case("00:00:00", "P0Y0M0DT0H0M0S", 0)]
    #[case("1 day 25:00:00", "P0Y0M1DT25H0M0S", 176400000000)]
    #[case("-2 years", "P-2Y0M0DT0H0M0S", -63115200000000)]
    #[case("178000000 years", "P178000000Y0M0DT0H0M0S", i64::MAX)]
    fn three_forms_of_one_interval(#[case] postgres: &str, #[case] iso: &str, #[case] micros: i64) {
        let interval = Interval::from_postgres(postgres).unwrap();
        assert_eq!(Interval::from_iso(iso), Some(interval));
        assert_eq!(interval.total_micros(), micros);
        assert_eq!(interval.to_postgres(), postgres);
    }
    #[rstest]
    #[case::weeks("P2W3D", Some(Interval { months: 0, days: 17, micros: 0 }))]
    #[case::negative_weeks("P-1W", Some(Interval { months: 0, days: -7, micros: 0 }))]
    #[case::no_period("1Y", None)]
    #[case::hours_among_the_days("P1H", None)]
    #[case::a_number_without_a_unit("P1Y2", None)]
    fn iso_8601(#[case] text: &str, #[case] interval: Option<Interval>) {
        assert_eq!(Interval::from_iso(text), interval);
    }
}
