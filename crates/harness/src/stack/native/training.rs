//! Makes the Java AOT caches: starts a whole stack once, asks its servers whatever drills ask, and lets every Java server
//! write down on its way out what it loaded.

use std::os::unix::fs::PermissionsExt;

use camino::Utf8Path;

use super::{
    backend::Native,
    exercise,
    java::{Aot, JavaServer, recorded},
};
use crate::stack::{
    LocalStack, OwnerLock, Programs, Progress, StackError, StackSpec, blocking::blocking, cache_folder, fetch,
    progress::Silent,
};
use cdc_model::vocabulary::RegistryStorageKind;
use cdc_pipeline::client::limits;

impl Programs {
    /// Makes the AOT caches that are missing. They only save time: a failure is told, and everything works without them.
    pub(crate) async fn ensure_aot_caches(&self, progress: &dyn Progress) -> Result<(), StackError> {
        if self.missing_aot_caches().is_empty() {
            return Ok(());
        }
        let cache = cache_folder()?;
        let folder = cache.clone();
        let _lock = match blocking(progress, move |progress| fetch::lock(&folder, progress)).await {
            Ok(lock) => lock,
            Err(error) => {
                progress.line(&format!("starts stay slower, no Java AOT caches: {error}"));
                return Ok(());
            }
        };
        if self.missing_aot_caches().is_empty() {
            return Ok(());
        }
        progress.line("preparing fast starts (Java AOT caches, once)");
        let dir = cache.join("training");
        let began = std::time::Instant::now();
        let made = self.train(&dir).await;
        let _ = std::fs::remove_dir_all(&dir);
        match made {
            Ok(()) => progress.line(&format!("prepared fast starts in {:.0} s", began.elapsed().as_secs_f64())),
            Err(error) => progress.line(&format!("starts stay slower, no Java AOT caches: {error}")),
        }
        Ok(())
    }

    async fn train(&self, dir: &Utf8Path) -> Result<(), StackError> {
        // Left by a training that was killed; its servers died with it.
        let _ = std::fs::remove_dir_all(dir);
        let mut stack = LocalStack::create(
            dir,
            StackSpec::whole(RegistryStorageKind::H2),
            &Native::with(self.clone(), Aot::Record),
        )?;
        let owner = stack.own()?;
        let trained = async {
            stack.start_all(&Silent).await?;
            exercise::exercise(&stack.config()?).await
        }
        .await;
        let collected = match trained {
            Ok(()) => self.collect(&stack).await,
            Err(error) => Err(error),
        };
        end(&stack, owner).await?;
        collected
    }

    /// Stops the servers, which makes them write, and takes what they wrote.
    async fn collect(&self, stack: &LocalStack) -> Result<(), StackError> {
        let folder = stack.folder();
        let stops = JavaServer::ALL.iter().map(|s| folder.stop_within(s.name(), limits::servers::AOT_RECORDED));
        futures::future::try_join_all(stops).await?;
        let into = self.root.join("aot");
        fetch::open_folder(&into)?;
        remove_old(&into);
        for server in JavaServer::ALL {
            let made = recorded(&stack.dir().join("tmp"), server);
            let cache = self.aot_cache(server)?;
            let failed = |e| StackError::io("keep the Java AOT cache", &made, e);
            std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o644)).map_err(failed)?;
            // The servers' account must not be able to change what another account's servers load.
            let temporary = into.join(format!("{}.new", server.name()));
            std::fs::copy(&made, &temporary).map_err(failed)?;
            std::fs::rename(&temporary, &cache).map_err(failed)?;
        }
        Ok(())
    }
}

/// Removes caches of flags that an earlier version of this program used; a version still in use makes its own again.
fn remove_old(folder: &Utf8Path) {
    for entry in folder.read_dir_utf8().into_iter().flatten().flatten() {
        let age = entry.metadata().ok().and_then(|m| m.modified().ok()).and_then(|t| t.elapsed().ok());
        if age.is_some_and(|age| age > limits::facts::CACHE_OLD) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

async fn end(stack: &LocalStack, owner: OwnerLock) -> Result<(), StackError> {
    drop(owner);
    stack.folder().all_gone(limits::servers::AOT_RECORDED).await
}
