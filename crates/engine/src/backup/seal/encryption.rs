//! What a repository says of its encryption.

use std::collections::BTreeSet;

use age::x25519::Recipient;
use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use crate::backup::{BackupError, hash::Sha256};
use cdc_model::units::hex;

const SCHEME: &str = "age";
/// The bytes of a salt.
const SALT: usize = 32;
/// How many digits of a salted hash are kept: 128 bits of it.
const DIGITS: usize = 32;

/// In `repo.json`: for whom the content of the repository is encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Encryption {
    scheme: String,
    /// `age1…`, sorted.
    pub(crate) recipients: BTreeSet<String>,
    /// What hashes of content are salted with, in hexadecimal.
    salt: String,
}

impl Encryption {
    /// For these recipients, with a salt of its own. Refuses (36) what is no recipient.
    pub(crate) fn new(repository: &Utf8Path, recipients: &[String]) -> Result<Encryption, BackupError> {
        let recipients: BTreeSet<String> = recipients.iter().map(|text| text.trim().to_owned()).collect();
        for text in &recipients {
            recipient(text).map_err(|why| BackupError::Keys {
                repository: repository.to_owned(),
                why,
                hint: "`age-keygen` prints the recipient of an identity as its public key".into(),
            })?;
        }
        let salt: [u8; SALT] = rand::random();
        Ok(Encryption { scheme: SCHEME.to_owned(), recipients, salt: hex(&salt) })
    }

    /// The keys to encrypt to, or why there are none.
    pub(super) fn keys(&self) -> Result<Vec<Recipient>, String> {
        if self.scheme != SCHEME || self.recipients.is_empty() {
            return Err(format!("expected recipients of {SCHEME}, found {} of {}", self.recipients.len(), self.scheme));
        }
        self.recipients.iter().map(|text| recipient(text)).collect()
    }

    /// The salted hash of a content that belongs under a name: equal contents of one name have equal ones in one repository.
    pub(super) fn tag(&self, name: &str, sha256: &str) -> String {
        let mut hash = Sha256::new();
        for part in [&self.salt, name, sha256] {
            hash.update(part.as_bytes());
            hash.update(&[0]);
        }
        let mut digits = hash.finish();
        digits.truncate(DIGITS);
        digits
    }
}

fn recipient(text: &str) -> Result<Recipient, String> {
    // A secret key in the wrong place is not repeated.
    let shown = if text.to_lowercase().starts_with("age1") { format!("`{text}`") } else { "something else".to_owned() };
    text.parse()
        .map_err(|why: &str| format!("expected a recipient, `age1` and 58 characters more, found {shown} ({why})"))
}
