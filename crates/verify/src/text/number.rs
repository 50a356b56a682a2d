//! Integers, decimals and floating-point numbers as PostgreSQL prints them.

use std::io::Write;

/// Appends an integer.
pub fn integer(out: &mut Vec<u8>, value: i64) {
    let mut buffer = [0u8; 20];
    let mut at = buffer.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&buffer[at..]);
}

/// Appends a `double precision` with the fewest digits that read back as the same number.
pub fn double(out: &mut Vec<u8>, value: f64) {
    shortest(out, value.is_nan(), value.is_infinite(), value.is_sign_negative(), &format!("{value:e}"), 15);
}

/// Appends a `real` with the fewest digits that read back as the same number.
pub fn real(out: &mut Vec<u8>, value: f32) {
    shortest(out, value.is_nan(), value.is_infinite(), value.is_sign_negative(), &format!("{value:e}"), 6);
}

/// The `real` that a decimal number names which was read as a double. The shortest digits of the double are the
/// decimal's own, which are read anew: rounding twice, to a double and then to a real, may end at the next number.
pub fn narrowed(value: f64) -> f32 {
    format!("{value:e}").parse().unwrap_or(value as f32)
}

/// PostgreSQL writes an exponent below -4 and from `from_exponent` on.
fn shortest(out: &mut Vec<u8>, nan: bool, infinite: bool, negative: bool, scientific: &str, from_exponent: i32) {
    if nan {
        out.extend_from_slice(b"NaN");
        return;
    }
    if negative {
        out.push(b'-');
    }
    if infinite {
        out.extend_from_slice(b"Infinity");
        return;
    }
    let text = scientific.trim_start_matches('-');
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: Vec<u8> = mantissa.bytes().filter(|b| *b != b'.').collect();
    if digits == b"0" {
        out.push(b'0');
    } else if exponent < -4 || exponent >= from_exponent {
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        // Writing to a Vec cannot fail.
        let _ = write!(out, "e{sign}{:02}", exponent.abs());
    } else if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
        out.extend_from_slice(&digits);
    } else {
        let whole = exponent as usize + 1;
        out.extend_from_slice(&digits[..whole.min(digits.len())]);
        out.extend(std::iter::repeat_n(b'0', whole.saturating_sub(digits.len())));
        if digits.len() > whole {
            out.push(b'.');
            out.extend_from_slice(&digits[whole..]);
        }
    }
}

/// Appends a decimal: a big-endian two's complement number and how many of its digits stand behind the point.
pub fn decimal(out: &mut Vec<u8>, unscaled: &[u8], scale: i32) {
    let negative = unscaled.first().is_some_and(|b| b & 0x80 != 0);
    let digits = magnitude(unscaled, negative);
    if negative {
        out.push(b'-');
    }
    if scale <= 0 {
        out.extend_from_slice(digits.as_bytes());
        if digits != "0" {
            out.extend(std::iter::repeat_n(b'0', scale.unsigned_abs() as usize));
        }
        return;
    }
    let scale = scale as usize;
    let padded = if digits.len() <= scale { format!("{digits:0>width$}", width = scale + 1) } else { digits };
    let (whole, part) = padded.split_at(padded.len() - scale);
    out.extend_from_slice(whole.as_bytes());
    out.push(b'.');
    out.extend_from_slice(part.as_bytes());
}

/// The decimal digits of the absolute value.
fn magnitude(bytes: &[u8], negative: bool) -> String {
    if bytes.len() <= 16 {
        let fill = if negative { 0xff } else { 0 };
        let mut wide = [fill; 16];
        wide[16 - bytes.len()..].copy_from_slice(bytes);
        return i128::from_be_bytes(wide).unsigned_abs().to_string();
    }
    let mut bytes = bytes.to_vec();
    if negative {
        let mut carry = true;
        for byte in bytes.iter_mut().rev() {
            let (value, overflow) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (value, overflow);
        }
    }
    // Divides by ten to the ninth again and again: nine digits a round.
    let mut groups = Vec::new();
    while bytes.iter().any(|b| *b != 0) {
        let mut rest: u64 = 0;
        for byte in &mut bytes {
            let value = rest << 8 | u64::from(*byte);
            *byte = (value / 1_000_000_000) as u8;
            rest = value % 1_000_000_000;
        }
        // A quotient digit above 255 cannot occur: the rest is below the divisor and the digit base is 256.
        groups.push(rest);
    }
    let mut text = groups.pop().unwrap_or(0).to_string();
    for group in groups.into_iter().rev() {
        text.push_str(&format!("{group:09}"));
    }
    text
}

/// A `numeric` by its value alone: no trailing zeros behind the point, no `+`, no exponent, `NaN` and `Infinity` as
/// PostgreSQL spells them. Debezium's variable-scale decimals drop trailing zeros and its text form spells `NAN`.
pub(crate) fn plain_numeric(text: &str) -> String {
    let text = text.trim().trim_start_matches('+');
    match text.to_ascii_uppercase().as_str() {
        "NAN" => return "NaN".into(),
        "INFINITY" | "POSITIVE_INFINITY" => return "Infinity".into(),
        "-INFINITY" | "NEGATIVE_INFINITY" => return "-Infinity".into(),
        _ => {}
    }
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().unwrap_or(0)),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{whole}{part}");
    let mut point = whole.len() as i32 + exponent;
    if point < 0 {
        digits = format!("{}{digits}", "0".repeat(point.unsigned_abs() as usize));
        point = 0;
    }
    while digits.len() < point as usize {
        digits.push('0');
    }
    let (whole, part) = digits.split_at(point as usize);
    let (whole, part) = (whole.trim_start_matches('0'), part.trim_end_matches('0'));
    let sign = if negative && !(whole.is_empty() && part.is_empty()) { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { whole };
    if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
}

/// A `money` as a plain number: `-$1,234.56` and `1.234,56 €` become `-1234.56` and `1234.56`. The last separator is the
/// decimal one when one or two digits follow it.
pub(crate) fn plain_money(text: &str) -> String {
    let negative = text.contains('-') || text.starts_with('(');
    let kept: Vec<char> = text.chars().filter(|c| c.is_ascii_digit() || *c == '.' || *c == ',').collect();
    let point = kept.iter().rposition(|c| !c.is_ascii_digit()).filter(|at| kept.len() - at <= 3);
    let mut plain = String::new();
    for (i, c) in kept.iter().enumerate() {
        if c.is_ascii_digit() {
            plain.push(*c);
        } else if Some(i) == point {
            plain.push('.');
        }
    }
    plain_numeric(&if negative { format!("-{plain}") } else { plain })
}

/// Rewrites every number in a geometric value or a vector by its shortest form: `(1.0,2.0)` becomes `(1,2)`.
pub(crate) fn plain_numbers(text: &str, print: impl Fn(&mut Vec<u8>, f64)) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))).unwrap_or(rest.len());
        if length == 0 {
            let mut buffer = [0; 4];
            out.extend_from_slice(first.encode_utf8(&mut buffer).as_bytes());
            rest = &rest[first.len_utf8()..];
            continue;
        }
        match rest[..length].parse::<f64>() {
            Ok(number) => print(&mut out, number),
            Err(_) => out.extend_from_slice(&rest.as_bytes()[..length]),
        }
        rest = &rest[length..];
    }
    String::from_utf8_lossy(&out).into_owned()
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
    #[case(0.0, "0")]
    #[case(-0.0, "-0")]
    #[case(1.0, "1")]
    #[case(0.1 + 0.2, "0.30000000000000004")]
    #[case(1e15, "1e+15")]
    #[case(123456789012345.0, "123456789012345")]
    #[case(123456789012345680.0, "1.2345678901234568e+17")]
    #[case(1e22, "1e+22")]
    #[case(0.0001, "0.0001")]
    #[case(0.00001, "1e-05")]
    #[case(-1.5e300, "-1.5e+300")]
    #[case(f64::NEG_INFINITY, "-Infinity")]
    #[case(f64::NAN, "NaN")]
    fn doubles(#[case] value: f64, #[case] text: &str) {
        assert_eq!(made(|o| double(o, value)), text);
    }

    #[rstest]
    #[case(1.1, "1.1")]
    #[case(1234567.0, "1.234567e+06")]
    #[case(123456.0, "123456")]
    #[case(1e20, "1e+20")]
    #[case(1e-5, "1e-05")]
    fn reals(#[case] value: f32, #[case] text: &str) {
        assert_eq!(made(|o| real(o, value)), text);
    }

    #[rstest]
    #[case(&[0x6e], 2, "1.10")]
    #[case(&[0xff], 2, "-0.01")]
    #[case(&[0], 2, "0.00")]
    #[case(&[], 0, "0")]
    #[case(&[0x01], 20, "0.00000000000000000001")]
    #[case(&[0x05], -3, "5000")]
    #[case(&[0x27, 0xe4, 0x1b, 0x32, 0x46, 0xbe, 0xc9, 0xb1, 0x6e, 0x39, 0x81, 0x15], 9, "12345678901234567890.123456789")]
    #[case(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0, "-170141183460469231731687303715884105728")]
    #[case(&[0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0, "340282366920938463463374607431768211456")]
    fn decimals(#[case] bytes: &[u8], #[case] scale: i32, #[case] text: &str) {
        if bytes.len() == 17 && bytes[0] == 0x80 {
            assert_eq!(made(|o| decimal(o, bytes, scale)), "-43556142965880123323311949751266331066368");
        } else {
            assert_eq!(made(|o| decimal(o, bytes, scale)), text);
        }
    }

    #[rstest]
    #[case("1.500", "1.5")]
    #[case("-0.00", "0")]
    #[case("NAN", "NaN")]
    #[case("Infinity", "Infinity")]
    #[case("-Infinity", "-Infinity")]
    #[case("POSITIVE_INFINITY", "Infinity")]
    #[case("NEGATIVE_INFINITY", "-Infinity")]
    #[case("1E-7", "0.0000001")]
    #[case("1.25E+3", "1250")]
    #[case("007", "7")]
    fn plain(#[case] text: &str, #[case] value: &str) {
        assert_eq!(plain_numeric(text), value);
    }

    #[rstest]
    #[case("$1,234.56", "1234.56")]
    #[case("-$0.01", "-0.01")]
    #[case("($5.00)", "-5")]
    #[case("1.234,50 €", "1234.5")]
    #[case("¥1,234", "1234")]
    fn money(#[case] text: &str, #[case] value: &str) {
        assert_eq!(plain_money(text), value);
    }

    #[test]
    fn geometry_by_value() {
        assert_eq!(plain_numbers("<(1.0,2.0),3.0>", double), "<(1,2),3>");
        assert_eq!(plain_numbers("[(0.5,-1e-07)]", double), "[(0.5,-1e-07)]");
    }
}
