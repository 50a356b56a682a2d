//! What a database or a role gives to every session of a connector, of that what ends a snapshot.

use std::collections::BTreeMap;

use super::{Pipeline, Source};
use crate::recovery::RecoveryError;
use cdc_pipeline::client::postgres::Postgres;
use cdc_postgres::sql::literal;

/// Limits that end a statement, a transaction or a session; 0 is none.
const LIMITS: [&str; 5] = [
    "statement_timeout",
    "transaction_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
];

impl Pipeline {
    /// Notes limits that sessions of the connectors are given: a snapshot that meets one fails, after everything was emptied.
    pub(crate) async fn plan_sessions(&mut self) {
        let mut notes = Vec::new();
        for source in &self.sources {
            // A server that is dead, or damaged, cannot say.
            let Ok(server) = self.session(source).await else { continue };
            match note(&server, source).await {
                Ok(note) => notes.extend(note),
                Err(error) => {
                    notes.push(format!(
                        "what sessions of connector {} are limited to is not known: {error}",
                        source.name
                    ));
                }
            }
        }
        self.found.notes.extend(notes);
    }
}

async fn note(server: &Postgres, source: &Source) -> Result<Option<String>, RecoveryError> {
    let role = source.config.get("database.user").map(String::as_str).unwrap_or_default();
    if role.contains("${") {
        let name = &source.name;
        return Ok(Some(format!(
            "what sessions of connector {name} are limited to is not known: its role is a secret of the worker's"
        )));
    }
    // The most specific last.
    let sql = format!(
        "select unnest(s.setconfig) from pg_db_role_setting s \
         left join pg_database d on d.oid = s.setdatabase left join pg_roles r on r.oid = s.setrole \
         where (s.setdatabase = 0 or d.datname = current_database()) and (s.setrole = 0 or r.rolname = {}) \
         order by s.setrole <> 0, s.setdatabase <> 0",
        literal(role)
    );
    let rows = server.texts(&sql).await?;
    let given = limits(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()));
    if given.is_empty() {
        return Ok(None);
    }
    Ok(Some(format!(
        "sessions of connector {} (role {role}) in database {} are given {} (alter role, or alter database, ... set): its snapshot fails where it takes longer",
        source.name,
        source.database,
        given.join(", ")
    )))
}

/// The limits among settings `name=value`, of which later ones stand above earlier ones.
fn limits(settings: impl Iterator<Item = String>) -> Vec<String> {
    let mut given: BTreeMap<String, String> = BTreeMap::new();
    for setting in settings {
        if let Some((name, value)) = setting.split_once('=')
            && LIMITS.contains(&name)
        {
            given.insert(name.to_owned(), value.to_owned());
        }
    }
    // `0`, with or without a unit.
    let is_none = |value: &String| value.trim_end_matches(|c: char| c.is_alphabetic() || c == ' ') == "0";
    given.retain(|_, value| !is_none(value));
    given.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_limit_counts() {
        let of = |settings: &[&str]| limits(settings.iter().map(|s| (*s).to_owned()));
        assert_eq!(of(&["statement_timeout=20ms", "search_path=a"]), ["statement_timeout=20ms"]);
        assert_eq!(of(&["statement_timeout=20ms", "statement_timeout=0"]), [""; 0]);
        assert_eq!(of(&["lock_timeout=0", "lock_timeout=1s"]), ["lock_timeout=1s"]);
        assert_eq!(of(&["transaction_timeout=0ms"]), [""; 0]);
    }
}
