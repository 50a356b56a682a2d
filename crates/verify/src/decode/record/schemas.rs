//! The schemas of a registry, by id.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::event::Unreadable;
use crate::decode::schema::{Typed, compile_avro};
use cdc_model::units::SchemaId;
use cdc_pipeline::client::ClientError;

/// Schema texts by id, fetched once and compiled once, shared by all decoders.
pub struct Schemas {
    resolve: Box<Resolve>,
    known: Mutex<HashMap<SchemaId, Result<Arc<Typed>, Unreadable>>>,
    unanswered: Mutex<Option<ClientError>>,
}

type Resolve = dyn Fn(SchemaId) -> Result<Option<String>, ClientError> + Send + Sync;

impl std::fmt::Debug for Schemas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schemas").finish_non_exhaustive()
    }
}

impl Schemas {
    /// `resolve` gives the text of an id, `None` when it does not exist, or why the registry could not be asked.
    pub fn new(resolve: impl Fn(SchemaId) -> Result<Option<String>, ClientError> + Send + Sync + 'static) -> Schemas {
        Schemas { resolve: Box::new(resolve), known: Mutex::new(HashMap::new()), unanswered: Mutex::new(None) }
    }

    /// Why the registry could not be asked for an id since the last call. What was decoded meanwhile has records of which
    /// nothing is known, and is worth nothing; the same ids are asked for again.
    pub(crate) fn take_unanswered(&self) -> Option<ClientError> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn get(&self, id: SchemaId) -> Result<Arc<Typed>, Unreadable> {
        let wrong = |expected: &str, found: String| Unreadable {
            schema: Some(id),
            wrong_schema: true,
            expected: expected.to_owned(),
            found,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = known.get(&id) {
            return made.clone();
        }
        let mut unanswered = self.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
        if unanswered.is_some() {
            return Err(wrong("a registry that answers", "it did not answer for an id before".into()));
        }
        let made = match (self.resolve)(id) {
            Ok(Some(text)) => compile_avro(&text).map(Arc::new).map_err(|e| wrong("a schema that can be read", e)),
            Ok(None) => Err(wrong("a schema id that resolves", format!("the registry does not know id {id}"))),
            // No answer is not kept: the registry may be back at the next look.
            Err(why) => {
                let found = why.to_string();
                *unanswered = Some(why);
                return Err(wrong("a registry that answers", found));
            }
        };
        known.insert(id, made.clone());
        made
    }
}
