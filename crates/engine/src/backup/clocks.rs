//! The database server's clock beside this machine's.

/// How far apart the two may be, in milliseconds: further, a time that somebody read off this machine's clock is another one for the
/// server, and nothing can be said of an age.
pub(super) const APART_MS: u64 = 60_000;

/// Seconds of changes since the last that is held, which the server dated, until now. Fails, in words, where that lies ahead of this
/// machine's clock by more than clocks differ.
pub fn seconds_of_changes(held: jiff::Timestamp, now: jiff::Timestamp) -> Result<f64, String> {
    let age = now.duration_since(held);
    match age.is_negative() && age.abs().as_millis() > i128::from(APART_MS) {
        true => {
            let ahead = age.abs().as_secs_f64();
            Err(format!("{held}, by the server's clock, lies {ahead:.0} s ahead of this machine's"))
        }
        false => Ok(age.as_secs_f64().max(0.0)),
    }
}
