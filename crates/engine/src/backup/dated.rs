//! Names of what is made: points, backups of topics, proofs, records of recoveries, runs.

/// `YYYYMMDDThhmmssZ-xxxx`: they sort by time, and four random digits keep two of one second apart.
pub fn dated_id(at: jiff::Timestamp) -> String {
    format!("{}-{:04x}", at.strftime("%Y%m%dT%H%M%SZ"), rand::random::<u16>())
}
