//! Objects in a bucket.
//!
//! Requests are made on a runtime of their own, and the caller's thread waits for the answer as it would for a disk: archiving runs
//! without a runtime.

use std::{
    collections::BTreeMap,
    fmt, io,
    ops::Range,
    sync::{Arc, LazyLock, Mutex, PoisonError, mpsc},
};

use camino::{Utf8Path, Utf8PathBuf};
use futures::{StreamExt, TryStreamExt};
use object_store::{
    ClientOptions, GetOptions, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload, RetryConfig, UpdateVersion,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    path::Path as Key,
};
use tokio::runtime::{Builder, Runtime};

use cdc_pipeline::{
    client::limits::facts::{BUCKET_CONNECT, BUCKET_REQUEST, BUCKET_RETRIES},
    config::BucketAddress,
};

/// How often a request is repeated.
const RETRIES: usize = 8;
/// Waits for answers, and answers need little.
const THREADS: usize = 2;

/// What a server of objects, or the way to it, refused. It never says anything of what is stored.
#[derive(Debug)]
struct BucketError(String);

impl fmt::Display for BucketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BucketError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&Bucket)
    }
}

/// What stays of such an error where a reader on the way has put it into one of its own.
#[derive(Debug)]
struct Bucket;

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bucket's server")
    }
}

impl std::error::Error for Bucket {}

/// Whether an error came from a bucket, and not from what is stored there.
pub(crate) fn is_of_a_bucket(error: &io::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if error.is::<Bucket>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// An error of a bucket.
pub(super) fn refused(kind: io::ErrorKind, said: impl ToString) -> io::Error {
    io::Error::new(kind, BucketError(said.to_string()))
}

fn failed(error: object_store::Error) -> io::Error {
    use object_store::Error;
    let kind = match &error {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. } => {
            io::ErrorKind::AlreadyExists
        }
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    // Servers answer in XML, on several lines.
    refused(kind, error.to_string().replace('\n', " "))
}

/// A content of an object: it is written over only if it is still the one that was read.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Version(UpdateVersion);

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.e_tag.as_deref().unwrap_or("none"))
    }
}

/// What is right below a place.
#[derive(Debug)]
pub(super) struct Names {
    /// Objects, with their sizes.
    pub(super) objects: Vec<(String, u64)>,
    /// What may have objects below it.
    pub(super) folders: Vec<String>,
}

/// An object in a bucket, or the place of one.
#[derive(Clone)]
pub(crate) struct Object {
    store: Arc<dyn ObjectStore>,
    key: Key,
    address: Utf8PathBuf,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)
    }
}

impl Object {
    /// What an address names; none for a path of the file system.
    pub(crate) fn at(address: &Utf8Path) -> io::Result<Option<Object>> {
        if !is_in_a_bucket(address) {
            return Ok(None);
        }
        let (store, key) = opened(address)?;
        let key = Key::parse(&key).map_err(|e| refused(io::ErrorKind::InvalidInput, e))?;
        Ok(Some(Object { store, key, address: address.to_owned() }))
    }

    pub(crate) fn read(&self) -> io::Result<Vec<u8>> {
        self.read_versioned().map(|(bytes, _)| bytes)
    }

    /// The content, and what it is known by.
    pub(crate) fn read_versioned(&self) -> io::Result<(Vec<u8>, Version)> {
        let (store, key) = (self.store.clone(), self.key.clone());
        wait(async move {
            let got = store.get(&key).await?;
            let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
            Ok((got.bytes().await?.to_vec(), Version(version)))
        })
    }

    /// Some of the content, of the same version as an earlier part if one is given, and what is known of the object.
    pub(super) fn range(&self, range: Range<u64>, of: Option<&ObjectMeta>) -> io::Result<(Vec<u8>, ObjectMeta)> {
        let (store, key) = (self.store.clone(), self.key.clone());
        let options = GetOptions {
            range: Some(range.into()),
            if_match: of.and_then(|meta| meta.e_tag.clone()),
            ..GetOptions::default()
        };
        wait(async move {
            let got = store.get_opts(&key, options).await?;
            let meta = got.meta.clone();
            Ok((got.bytes().await?.to_vec(), meta))
        })
    }

    pub(crate) fn meta(&self) -> io::Result<ObjectMeta> {
        let (store, key) = (self.store.clone(), self.key.clone());
        wait(async move { store.head(&key).await })
    }

    /// Puts the content, whatever is there.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.put(bytes.to_vec(), PutMode::Overwrite).map(drop)
    }

    /// Makes a new object. Fails with [`io::ErrorKind::AlreadyExists`] where one is.
    pub(crate) fn create(&self, bytes: &[u8]) -> io::Result<Version> {
        self.put_on_condition(bytes, PutMode::Create)
    }

    /// Replaces a content that is still the one that was read. Fails with [`io::ErrorKind::AlreadyExists`] where it is not.
    pub(crate) fn update(&self, bytes: &[u8], from: &Version) -> io::Result<Version> {
        self.put_on_condition(bytes, PutMode::Update(from.0.clone()))
    }

    /// A request whose answer was lost may have been carried out. Only contents that nobody else writes may be put like this.
    fn put_on_condition(&self, bytes: &[u8], mode: PutMode) -> io::Result<Version> {
        match self.put(bytes.to_vec(), mode) {
            Ok(version) => Ok(version),
            Err(error) => match self.read_versioned() {
                Ok((there, version)) if there == bytes => Ok(version),
                _ => Err(error),
            },
        }
    }

    fn put(&self, bytes: Vec<u8>, mode: PutMode) -> io::Result<Version> {
        let (store, key) = (self.store.clone(), self.key.clone());
        let put = wait(async move {
            store.put_opts(&key, PutPayload::from(bytes), PutOptions { mode, ..PutOptions::default() }).await
        })?;
        Ok(Version(put.into()))
    }

    pub(super) fn begin_upload(&self) -> io::Result<Box<dyn MultipartUpload>> {
        let (store, key) = (self.store.clone(), self.key.clone());
        wait(async move { store.put_multipart(&key).await })
    }

    /// Removes it; it may be gone.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let (store, key) = (self.store.clone(), self.key.clone());
        match wait(async move { store.delete(&key).await }) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// The names right below it. Some servers keep a
    /// folder whose objects were all removed, and list it as an object of its own name.
    pub(super) fn list(&self) -> io::Result<Names> {
        let (store, key) = (self.store.clone(), self.key.clone());
        let listed = wait(async move { store.list_with_delimiter(Some(&key)).await })?;
        let name = |key: &Key| key.filename().unwrap_or_default().to_owned();
        let objects = listed.objects.into_iter().filter(|meta| meta.location != self.key);
        let objects = objects.map(|meta| (name(&meta.location), meta.size)).collect();
        Ok(Names { objects, folders: listed.common_prefixes.iter().map(name).collect() })
    }

    /// The bytes of everything below it.
    pub(super) fn size_below(&self) -> io::Result<u64> {
        let (store, key) = (self.store.clone(), self.key.clone());
        wait(async move { store.list(Some(&key)).try_fold(0, async |sum, meta| Ok(sum + meta.size)).await })
    }

    /// Removes every object below it.
    pub(super) fn remove_below(&self) -> io::Result<()> {
        let (store, key) = (self.store.clone(), self.key.clone());
        wait(async move {
            let keys: Vec<Key> = store.list(Some(&key)).map_ok(|meta| meta.location).try_collect().await?;
            let keys = futures::stream::iter(keys.into_iter().map(Ok)).boxed();
            store.delete_stream(keys).try_collect::<Vec<Key>>().await.map(drop)
        })
    }
}

static RUNTIME: LazyLock<io::Result<Runtime>> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(THREADS).thread_name("bucket").enable_all().build());

/// Makes a request and waits for its answer.
pub(super) fn wait<T: Send + 'static>(
    request: impl Future<Output = object_store::Result<T>> + Send + 'static,
) -> io::Result<T> {
    let runtime = RUNTIME.as_ref().map_err(|e| refused(e.kind(), e))?;
    let (answer, answered) = mpsc::sync_channel(1);
    runtime.spawn(async move {
        let _ = answer.send(request.await);
    });
    // Nothing is sent when the request panicked.
    answered.recv().map_err(|e| refused(io::ErrorKind::Other, e))?.map_err(failed)
}

/// Whether a path is the address of an object, or of a place for some, in a bucket.
pub(crate) fn is_in_a_bucket(path: &Utf8Path) -> bool {
    BucketAddress::is_one(path) || cfg!(test) && path.as_str().starts_with(IN_MEMORY)
}

/// What is wrong with the address of a bucket; none for one that is well-formed, and for a path of the file system.
pub(crate) fn malformed(address: &Utf8Path) -> Option<String> {
    if BucketAddress::is_one(address) { BucketAddress::parse(address).err() } else { None }
}

/// What begins the addresses of buckets that tests keep in memory.
pub(crate) const IN_MEMORY: &str = "memory://";

/// The store that an address names and the key in it. Each bucket is opened once: connections are used again.
fn opened(address: &Utf8Path) -> io::Result<(Arc<dyn ObjectStore>, String)> {
    static OPEN: Mutex<BTreeMap<String, Arc<dyn ObjectStore>>> = Mutex::new(BTreeMap::new());
    let (name, key, parsed) = match address.as_str().strip_prefix(IN_MEMORY) {
        Some(rest) => {
            let (name, key) = rest.split_once('/').unwrap_or((rest, ""));
            (name.to_owned(), key.to_owned(), None)
        }
        None => {
            let parsed = BucketAddress::parse(address).map_err(|e| refused(io::ErrorKind::InvalidInput, e))?;
            let name = format!("{}/{}", parsed.endpoint.as_deref().unwrap_or_default(), parsed.bucket);
            (name, parsed.key.clone(), Some(parsed))
        }
    };
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(store) = open.get(&name) {
        return Ok((store.clone(), key));
    }
    let store: Arc<dyn ObjectStore> = match parsed {
        Some(parsed) => Arc::new(client(&parsed)?),
        None => Arc::new(object_store::memory::InMemory::new()),
    };
    open.insert(name, store.clone());
    Ok((store, key))
}

/// Credentials, region, and the endpoint where the address names none, are those of the environment.
fn client(address: &BucketAddress) -> io::Result<object_store::aws::AmazonS3> {
    let retry = RetryConfig { max_retries: RETRIES, retry_timeout: BUCKET_RETRIES, ..RetryConfig::default() };
    let options = ClientOptions::new().with_timeout(BUCKET_REQUEST).with_connect_timeout(BUCKET_CONNECT);
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(&address.bucket).with_retry(retry);
    let mut plain = std::env::var("AWS_ALLOW_HTTP").is_ok_and(|text| text == "true");
    if let Some(endpoint) = &address.endpoint {
        plain |= endpoint.starts_with("http:");
        // This one, whatever the environment says of others.
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint).with_virtual_hosted_style_request(false);
    }
    builder.with_client_options(options.with_allow_http(plain)).build().map_err(failed)
}
