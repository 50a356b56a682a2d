//! Takes back what was done before the data folders were exchanged.

use super::{Coordinated, exchange::Exchange, start::start};
use crate::{
    backup::is_there,
    recovery::{RecoveryError, way_back::NO_WAY_BACK},
};

impl Coordinated {
    /// Takes back what the steps before the exchange did: what was restored goes, the old server is started again if it ran. An error
    /// once the data folders are exchanged: what clients committed since would be lost.
    pub(crate) async fn take_back(&mut self) -> Result<Vec<String>, RecoveryError> {
        let mut said = Vec::new();
        if let Some(restored) = self.learned.restored.clone() {
            match Exchange::of(&self.pgdata, &restored)? {
                Exchange::After => {
                    return Err(RecoveryError::Refused {
                        what: format!(
                            "the restored data folder is in its place ({}): what was committed there since would be lost",
                            self.pgdata
                        ),
                        hint: NO_WAY_BACK.into(),
                    });
                }
                Exchange::Half => {
                    std::fs::rename(&restored.aside, &self.pgdata)
                        .map_err(|e| RecoveryError::io("rename to", &self.pgdata, e))?;
                    said.push(format!("{} is in its place again", self.pgdata));
                }
                Exchange::Before => {}
            }
        }
        let (fresh, prepared) = (self.fresh(), is_there(&self.fresh())?);
        self.remove_prepared().await?;
        if prepared {
            said.push(format!("the prepared data folder {fresh} is removed"));
        }
        if self.was_running {
            start(self).await?;
            said.push("the old server runs".to_owned());
        } else {
            said.push("the old server was down when the recovery began, and is left down".to_owned());
        }
        Ok(said)
    }
}
