//! Whether connectors can log in. A restored database has the roles and passwords of its target, and a connector has those of now:
//! its task then says RUNNING, tries again and again, and never streams.

use super::{Pipeline, Source};
use crate::recovery::RecoveryError;
use cdc_pipeline::client::{
    cluster::{Cluster, connector_url},
    postgres::Postgres,
};
use cdc_postgres::sql::literal;

const WAY_OUT: &str = "put the role right on the server as it is now, or the connector's database.user and database.password, and run the same \
                       command again";

/// A role as a connector needs it; the row of the query in [`role`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct Role {
    logs_in: bool,
    replicates: bool,
    connects: bool,
}

impl Role {
    /// What it lacks.
    fn lacks(&self) -> Option<&'static str> {
        match self {
            Role { logs_in: false, .. } => Some("the role may not log in (NOLOGIN)"),
            Role { replicates: false, .. } => Some("the role has no REPLICATION"),
            Role { connects: false, .. } => Some("the role may not connect to the database (CONNECT)"),
            Role { .. } => None,
        }
    }
}

impl Pipeline {
    /// Requires, before topics are emptied that only their connectors fill again, that each source can log in with its own user and
    /// password; says what was not tried.
    pub(crate) async fn can_log_in(&self, step: &str) -> Result<String, RecoveryError> {
        let (refused, not_tried) = self.logins().await?;
        match refused.into_iter().next() {
            Some((expected, found)) => Err(RecoveryError::unmet(step, expected, format!("{found}; {WAY_OUT}"))),
            None if not_tried.is_empty() => Ok("the connectors can log in".into()),
            None => Ok(not_tried.join("; ")),
        }
    }

    /// The same for a plan where the database stays as it is.
    pub(crate) async fn refuse_locked_out(&self) -> Result<(), RecoveryError> {
        let (refused, _) = self.logins().await?;
        match refused.into_iter().next() {
            Some((expected, found)) => Err(RecoveryError::impossible("login", expected, found, WAY_OUT)),
            None => Ok(()),
        }
    }

    /// Those that cannot log in, as what is expected and what was found, and those that were not tried, and why.
    async fn logins(&self) -> Result<(Vec<(String, String)>, Vec<String>), RecoveryError> {
        let (mut refused, mut not_tried) = (Vec::new(), Vec::new());
        for source in &self.sources {
            match self.login(source).await? {
                Login::Works => {}
                Login::NotTried(why) => not_tried.push(format!("login of connector {} not tried: {why}", source.name)),
                Login::Refused(why) => {
                    let (name, database) = (&source.name, &source.database);
                    let expected =
                        format!("connector {name} able to log in to database {database} as {}", user(source));
                    refused.push((expected, why));
                }
            }
        }
        Ok((refused, not_tried))
    }

    async fn login(&self, source: &Source) -> Result<Login, RecoveryError> {
        let user = user(source);
        if user.is_empty() || user.contains("${") {
            return Ok(Login::NotTried("its user is kept in a secret of the worker's".into()));
        }
        let Some(role) = role(&self.session(source).await?, user).await? else {
            return Ok(Login::Refused("there is no such role".into()));
        };
        if let Some(lack) = role.lacks() {
            return Ok(Login::Refused(lack.into()));
        }
        if !source.config.contains_key("database.password") {
            return Ok(Login::NotTried("its configuration has no password".into()));
        }
        // Another address may be another server's, as seen from this machine: its refusal would say nothing.
        let named = Cluster::new(&self.config.postgres.url, None, Vec::new())?.is_named_by(&source.config);
        if !named {
            return Ok(Login::NotTried("its address is not that of [postgres] url".into()));
        }
        let url = match connector_url(&source.config) {
            Ok(url) => url,
            Err(why) => return Ok(Login::NotTried(why)),
        };
        Ok(match Postgres::refused_password(&url).await {
            Ok(None) => Login::Works,
            Ok(Some(words)) => Login::Refused(words),
            // The worker may have a way to it that this machine has not.
            Err(error) => Login::NotTried(error.to_string()),
        })
    }
}

/// What became of a connector's own login.
enum Login {
    Works,
    Refused(String),
    NotTried(String),
}

fn user(source: &Source) -> &str {
    source.config.get("database.user").map_or("", String::as_str)
}

async fn role(server: &Postgres, user: &str) -> Result<Option<Role>, RecoveryError> {
    // Managed services give REPLICATION by membership in a role of theirs.
    let sql = format!(
        "select rolcanlogin, rolreplication or rolsuper or exists (select from pg_roles g where g.rolname = 'rds_replication' \
         and pg_has_role(r.oid, g.oid, 'member')), has_database_privilege(r.oid, current_database(), 'connect') \
         from pg_roles r where rolname = {}",
        literal(user)
    );
    let row = server.texts(&sql).await?.into_iter().next();
    Ok(row.map(|cells| {
        let is = |at: usize| cells.get(at).is_some_and(|cell| cell.as_deref() == Some("t"));
        Role { logs_in: is(0), replicates: is(1), connects: is(2) }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_role_lacks_is_named() {
        let sound = Role { logs_in: true, replicates: true, connects: true };
        assert_eq!(sound.lacks(), None);
        let lacking = [
            (Role { logs_in: false, ..sound.clone() }, "NOLOGIN"),
            (Role { replicates: false, ..sound.clone() }, "REPLICATION"),
            (Role { connects: false, ..sound }, "CONNECT"),
        ];
        for (role, named) in lacking {
            assert!(role.lacks().unwrap().contains(named), "{role:?}");
        }
    }
}
