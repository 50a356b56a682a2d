//! What the server says of itself.

use super::Systems;
use crate::observation::ServerView;
use cdc_pipeline::client::{ClientError, postgres::Slot};

/// The server's end of WAL, its timeline and slots.
pub(super) async fn server(systems: &Systems) -> (Result<ServerView, String>, Vec<Slot>) {
    let looked = async {
        let session = systems.session("").await?;
        // Slots first: what they confirm while writers go on lies behind the end that is read after them.
        let slots = session.slots().await?;
        let timeline = session.timeline().await?;
        let lsn = session.value("select pg_current_wal_lsn()::text").await?;
        Ok::<_, ClientError>((ServerView { lsn, timeline }, slots))
    };
    match looked.await {
        Ok((view, slots)) => (Ok(view), slots),
        Err(error) => (Err(error.to_string()), Vec::new()),
    }
}
