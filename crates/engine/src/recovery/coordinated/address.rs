//! The old server's address: whether it, a stranger or nobody answers there.

use camino::Utf8Path;

use crate::recovery::{
    RecoveryError,
    server::{Listening, listening},
};
use cdc_model::units::{SystemId, redact_url};
use cdc_pipeline::{
    client::postgres::{self as server, Postgres},
    config::Config,
};

/// The server at the configuration's address, where it gives a session. Refused where it lets others in, and where the hook says that
/// it does not run.
pub(super) async fn server_at(config: &Config, runs: bool) -> Result<Option<Postgres>, RecoveryError> {
    let said = match (Postgres::find(&config.postgres.url, "cdc-drill-recovery").await, runs) {
        (server::Found::Session(session), true) => return Ok(Some(session)),
        // What it is asked with is wrong, and would be at the end.
        (server::Found::Refuses(refused), true) => return Err(refused.into()),
        (server::Found::Unready(_), true) | (server::Found::Silence(_), _) => return Ok(None),
        (server::Found::Session(session), false) => format!("a session with a server at {}", session.address()),
        (server::Found::Refuses(error) | server::Found::Unready(error), false) => {
            format!("somebody there: {error}")
        }
    };
    Err(RecoveryError::impossible(
        "[control.postgres] running",
        "that the server runs, or silence at the address in [postgres] url",
        format!("that it does not run, and {said}"),
        "does the hook ask about the server at this address? it must exit 1 only where the server is down",
    ))
}

/// Where the server of the data folder gives a session itself, nobody at the configuration's address is no dead server, but another
/// address: the restored one would not be found there either.
pub(super) async fn refuse_other_address(
    config: &Config,
    pgdata: &Utf8Path,
    system_id: SystemId,
) -> Result<(), RecoveryError> {
    let Some(Listening { port, hosts }) = listening(pgdata)? else { return Ok(()) };
    for host in hosts {
        let url = &config.postgres.url;
        let session = Postgres::connect_on_this_machine(url, &host, port, "cdc-drill-recovery").await;
        // Of a container, `postmaster.pid` has an address within it, and another server may have that here.
        let is_it = match session {
            Ok(session) => session.system_id().await.is_ok_and(|id| id == system_id),
            Err(_) => false,
        };
        if is_it {
            return Err(RecoveryError::impossible(
                format!("[postgres] url, {}", redact_url(url.expose())),
                format!("the address of the server that runs on {pgdata}"),
                format!("silence there, while that server answers at {host}, port {port}"),
                "is the address in the configuration right, and does its name resolve? the restored server is looked for there",
            ));
        }
    }
    Ok(())
}
