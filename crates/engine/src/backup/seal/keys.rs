//! How the content of one repository is kept, and what this process can do with it.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    fmt,
    io::{BufReader, Read, Write},
    sync::{Arc, OnceLock},
};

use age::{
    DecryptError, Decryptor, Encryptor,
    x25519::{Identity, Recipient},
};
use camino::{Utf8Path, Utf8PathBuf};

use super::{Encryption, Opened, Sealing, identity};
use crate::backup::{BackupError, error::has_a_system_said, hash::BUFFER};

/// How content is stored: as it is, or encrypted.
#[derive(Clone, Default)]
pub(crate) struct Seal(Option<Arc<Sealed>>);

struct Sealed {
    root: Utf8PathBuf,
    /// What the repository says of itself, or why that is not known.
    says: Result<Encryption, String>,
    identities: OnceLock<Result<Vec<Identity>, Refusal>>,
}

/// Why there is no identity, and what to do.
#[derive(Clone)]
struct Refusal {
    why: String,
    hint: String,
}

/// Whose it is: identities are never printed.
impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Plain"),
            Some(sealed) => write!(f, "Encrypted({})", sealed.root),
        }
    }
}

/// One repository has one.
impl PartialEq for Seal {
    fn eq(&self, other: &Seal) -> bool {
        self.0.as_ref().map(|sealed| &sealed.root) == other.0.as_ref().map(|sealed| &sealed.root)
    }
}

impl Eq for Seal {}

impl Seal {
    /// The one of an encrypted repository, by what it says of itself. Where that cannot be read nothing can be written, and what was
    /// written before can be read.
    pub(crate) fn of(root: &Utf8Path, says: Result<Encryption, String>) -> Seal {
        Seal(Some(Arc::new(Sealed { root: root.to_owned(), says, identities: OnceLock::new() })))
    }

    /// Whether content is encrypted.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// For whom; nobody for what is stored as it is.
    pub(crate) fn recipients(&self) -> BTreeSet<String> {
        let says = self.0.as_ref().and_then(|sealed| sealed.says.as_ref().ok());
        says.map(|says| says.recipients.clone()).unwrap_or_default()
    }

    /// Whether somebody names an identity, usable or not.
    pub(crate) fn names_an_identity(&self) -> bool {
        self.0.as_ref().is_some_and(|sealed| identity::file_of(&sealed.root).is_some())
    }

    /// Requires that content can be read: refused (36) without an identity, and with one that is another's.
    pub(crate) fn unlock(&self) -> Result<(), BackupError> {
        self.0.as_ref().map_or(Ok(()), |sealed| sealed.identities().map(drop))
    }

    /// The same where an identity is named: nobody has to name one.
    pub(crate) fn unlock_if_named(&self) -> Result<bool, BackupError> {
        match self.is_on() && !self.names_an_identity() {
            true => Ok(false),
            false => self.unlock().map(|()| true),
        }
    }

    /// The file of the identity, for a process of another account; none where none is needed. Refused (36) where that account cannot
    /// read it.
    pub(crate) fn identity_file_for(&self, uid: u32) -> Result<Option<Utf8PathBuf>, BackupError> {
        self.unlock()?;
        let Some((sealed, file)) = self.0.as_ref().and_then(|it| Some((it, identity::file_of(&it.root)?))) else {
            return Ok(None);
        };
        let file = camino::absolute_utf8(&file).map_err(BackupError::io("look at", &file))?;
        match identity::unreadable_for(&file, uid).map_err(BackupError::io("look at", &file))? {
            None => Ok(Some(file)),
            Some(why) => {
                let why = format!("{why}, and the server that replays has uid {uid}");
                Err(sealed.refused(why, format!("give it to that account, which fetches WAL: `chown {uid} {file}`")))
            }
        }
    }

    /// What content is written to; `path` is for messages.
    pub(crate) fn writer<W: Write>(&self, path: &Utf8Path, to: W) -> Result<Sealing<W>, BackupError> {
        let Some(sealed) = &self.0 else { return Ok(Sealing::Plain(to)) };
        let recipients = sealed.recipients()?;
        let recipients = recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
        let encryptor = Encryptor::with_recipients(recipients).map_err(|e| sealed.refused(e, "repair repo.json"))?;
        encryptor.wrap_output(to).map(Sealing::Age).map_err(BackupError::io("write", path))
    }

    /// What content is read from.
    pub(crate) fn reader<R: Read>(&self, path: &Utf8Path, from: R) -> Result<Opened<R>, BackupError> {
        let Some(sealed) = &self.0 else { return Ok(Opened::Plain(from)) };
        let identities = sealed.identities()?.iter().map(|identity| identity as &dyn age::Identity);
        let decryptor = Decryptor::new_buffered(BufReader::with_capacity(BUFFER, from));
        match decryptor.and_then(|decryptor| decryptor.decrypt(identities)) {
            Ok(stream) => Ok(Opened::Age(stream)),
            Err(DecryptError::Io(e)) if has_a_system_said(&e) => Err(BackupError::io("read", path)(e)),
            // Whether the identity is the repository's could not be looked at before.
            Err(DecryptError::NoMatchingKeys) if sealed.says.is_err() => {
                Err(sealed.refused(format!("{path} is not for the identity that is named"), "name the repository's"))
            }
            Err(DecryptError::NoMatchingKeys) => {
                Err(BackupError::checksum(path, "content for the repository's recipients", "some for others"))
            }
            Err(_) => Err(BackupError::checksum(path, "content that is encrypted by age", "something else")),
        }
    }

    /// Content as it is stored.
    pub(crate) fn seal<'b>(&self, path: &Utf8Path, bytes: &'b [u8]) -> Result<Cow<'b, [u8]>, BackupError> {
        if !self.is_on() {
            return Ok(Cow::Borrowed(bytes));
        }
        let mut sealing = self.writer(path, Vec::new())?;
        let sealed = sealing.write_all(bytes).and_then(|()| sealing.finish());
        sealed.map(Cow::Owned).map_err(BackupError::io("encrypt", path))
    }

    /// What was stored.
    pub(crate) fn open(&self, path: &Utf8Path, stored: Vec<u8>) -> Result<Vec<u8>, BackupError> {
        if !self.is_on() {
            return Ok(stored);
        }
        let mut content = Vec::new();
        match self.reader(path, stored.as_slice())?.read_to_end(&mut content) {
            Ok(_) => Ok(content),
            Err(e) => Err(BackupError::checksum(path, "content that is encrypted by age", e)),
        }
    }

    /// The salted hash of a content under its name, where content is encrypted and the salt is known.
    pub(crate) fn tag(&self, name: &str, sha256: &str) -> Option<String> {
        let says = self.0.as_ref()?.says.as_ref().ok()?;
        Some(says.tag(name, sha256))
    }
}

impl Sealed {
    fn refused(&self, why: impl ToString, hint: impl ToString) -> BackupError {
        BackupError::Keys { repository: self.root.clone(), why: why.to_string(), hint: hint.to_string().into() }
    }

    fn recipients(&self) -> Result<Vec<Recipient>, BackupError> {
        let keys = self.says.as_ref().map_err(Clone::clone).and_then(Encryption::keys);
        keys.map_err(|why| {
            let why = format!("for whom to encrypt is not known: {why}");
            self.refused(why, "nothing is written as it is into a repository that is encrypted: restore its repo.json")
        })
    }

    fn identities(&self) -> Result<&[Identity], BackupError> {
        let read = self.identities.get_or_init(|| {
            let Some(file) = identity::file_of(&self.root) else {
                let why = "it is encrypted, and no identity is named".to_owned();
                let hint = "[repository] identity_file, or CDC_DRILL_IDENTITY, names the file of an identity";
                return Err(Refusal { why, hint: hint.to_owned() });
            };
            let read = identity::read(&file).map_err(|(why, hint)| Refusal { why, hint })?;
            let Ok(says) = &self.says else { return Ok(read) };
            match read.iter().any(|identity| says.recipients.contains(&identity.to_public().to_string())) {
                true => Ok(read),
                false => {
                    let theirs: Vec<&str> = says.recipients.iter().map(String::as_str).collect();
                    let own: Vec<String> = read.iter().map(|identity| identity.to_public().to_string()).collect();
                    let why = format!(
                        "expected an identity for {} in {file}, found one for {}",
                        theirs.join(" or "),
                        own.join(" and ")
                    );
                    Err(Refusal { why, hint: "name the identity of one of the repository's recipients".to_owned() })
                }
            }
        });
        match read {
            Ok(identities) => Ok(identities),
            Err(Refusal { why, hint }) => Err(self.refused(why, hint)),
        }
    }
}

/// Refuses (36) a repository that is encrypted for others than a configuration says, or as it says not at all. `names_identity` is
/// whether an identity is named: who can read may leave out for whom it is written.
pub(crate) fn refuse_other_keys(
    root: &Utf8Path,
    seal: &Seal,
    recipients: &[String],
    names_identity: bool,
) -> Result<(), BackupError> {
    let refuse = |why: String, hint: &str| {
        Err(BackupError::Keys { repository: root.to_owned(), why, hint: hint.to_owned().into() })
    };
    let wanted: BTreeSet<String> = recipients.iter().map(|text| text.trim().to_owned()).collect();
    match (seal.is_on(), wanted.is_empty()) {
        (false, true) => Ok(()),
        (false, false) => refuse(
            "expected an encrypted repository, as recipients are named, found one that is not".into(),
            "a repository is encrypted from its birth or never: make another one with `cdc-drill backup init`",
        ),
        (true, true) if names_identity => Ok(()),
        (true, true) => refuse(
            "it is encrypted, and the configuration names neither recipients nor an identity".into(),
            "name them in [repository] recipients, so that nobody can change them unnoticed",
        ),
        (true, false) => {
            let there = seal.recipients();
            // What cannot be read is said by whoever needs it.
            if there == wanted || there.is_empty() {
                return Ok(());
            }
            let list = |all: &BTreeSet<String>| all.iter().cloned().collect::<Vec<_>>().join(", ");
            let why = format!("expected the recipients {}, found {}", list(&wanted), list(&there));
            refuse(why, "whoever changed them reads what is written from then on: find out which are right")
        }
    }
}
