//! The schema registry: Confluent's API, as Apicurio serves it (`/apis/ccompat/v7`) or as a registry that has no other, and Apicurio's own
//! where Confluent's cannot tell (`/apis/registry/v3`).

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    ClientError,
    connect::encode,
    limits::asking,
    rest::{Answer, Rest},
};
use crate::config::{RegistryConfig, RegistryFlavour};
use cdc_model::units::{SchemaId, Subject, SubjectVersion};

const CCOMPAT: &str = "/apis/ccompat/v7";
const V3: &str = "/apis/registry/v3";

/// One registry; of several addresses, the first that takes the connection answers.
#[derive(Clone, Debug)]
pub struct Registry {
    rest: Rest,
    url: String,
    flavour: RegistryFlavour,
}

/// One registered version of a subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The subject.
    pub subject: Subject,
    /// The version.
    pub version: SubjectVersion,
    /// The schema id, as it stands in records.
    pub id: SchemaId,
    /// The exact text of the schema.
    pub schema: String,
    /// `AVRO` (which the API leaves out), `JSON` or `PROTOBUF`.
    #[serde(rename = "schemaType", default = "avro")]
    pub schema_type: String,
    /// What it refers to.
    #[serde(default)]
    pub references: Vec<Reference>,
    /// Metadata that Confluent's API attaches.
    #[serde(default)]
    pub metadata: Option<Value>,
    /// Rules that Confluent's API attaches.
    #[serde(default, rename = "ruleSet")]
    pub rule_set: Option<Value>,
}

/// A schema that another one refers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reference {
    /// The name used in the referring schema.
    pub name: String,
    /// Where it is registered.
    pub subject: Subject,
    /// Which version.
    pub version: SubjectVersion,
}

/// A version of an artifact in a group of Apicurio's that subjects do not reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupArtifact {
    /// The group.
    pub group: String,
    /// The artifact.
    pub artifact: String,
    /// Its version.
    pub version: String,
}

fn avro() -> String {
    "AVRO".to_owned()
}

impl Registry {
    /// Speaks to the registry of a configuration.
    pub fn of(config: &RegistryConfig) -> Registry {
        let rest = Rest::new("registry", &config.url, &config.auth, config.ca_pem.as_deref())
            .asking_again(asking::USUAL_ANSWER);
        Registry { rest, url: config.url.clone(), flavour: config.flavour }
    }

    /// Speaks, without credentials, to the registry at `url` (`http://host:port`, without the API's path).
    pub fn new(url: &str) -> Registry {
        Registry::of(&RegistryConfig::plain(url, RegistryFlavour::Apicurio, None))
    }

    /// The base address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Which product it is.
    pub fn flavour(&self) -> RegistryFlavour {
        self.flavour
    }

    /// Where Confluent's API begins.
    fn compat(&self) -> &'static str {
        match self.flavour {
            RegistryFlavour::Apicurio => CCOMPAT,
            RegistryFlavour::Confluent => "",
        }
    }

    fn is_confluent(&self) -> bool {
        self.flavour == RegistryFlavour::Confluent
    }

    /// Requires Apicurio's own API.
    fn own_api(&self, path: &str) -> Result<(), ClientError> {
        match self.flavour {
            RegistryFlavour::Apicurio => Ok(()),
            RegistryFlavour::Confluent => {
                let found = "a registry of another product ([registry] flavour = \"confluent\")";
                Err(ClientError::answer("registry", &self.url, path, "Apicurio's own API", found).for_good())
            }
        }
    }

    /// Name and version. A registry with Confluent's API may not say its version.
    pub async fn info(&self) -> Result<Value, ClientError> {
        if self.is_confluent() {
            return match self.json(reqwest::Method::GET, "/v1/metadata/version", None).await {
                Ok(value) => Ok(value),
                // What has a mode is a registry.
                Err(e) if e.status() == Some(404) => self.global_mode().await.map(|_| json!({"version": "unknown"})),
                Err(e) => Err(e),
            };
        }
        self.json(reqwest::Method::GET, &format!("{V3}/system/info"), None).await
    }

    /// All subjects, sorted; with `deleted` also those of which every version is soft-deleted. The API answers at most 1000.
    pub async fn subjects(&self, deleted: bool) -> Result<Vec<Subject>, ClientError> {
        let api = self.compat();
        let value = self.json(reqwest::Method::GET, &format!("{api}/subjects?deleted={deleted}"), None).await?;
        let mut subjects: Vec<Subject> = self.shape("subjects", value)?;
        subjects.sort();
        Ok(subjects)
    }

    /// The versions of a subject, ascending; with `deleted` also soft-deleted ones. An unknown subject has none.
    pub async fn versions(&self, subject: &Subject, deleted: bool) -> Result<Vec<SubjectVersion>, ClientError> {
        let api = self.compat();
        let path = format!("{api}/subjects/{}/versions?deleted={deleted}", encode(subject.as_str()));
        match self.json(reqwest::Method::GET, &path, None).await {
            Ok(value) => {
                let mut versions: Vec<SubjectVersion> = self.shape("versions", value)?;
                versions.sort();
                Ok(versions)
            }
            Err(e) if e.status() == Some(404) => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }

    /// One version; `None` when it does not exist.
    pub async fn version(
        &self,
        subject: &Subject,
        version: SubjectVersion,
        deleted: bool,
    ) -> Result<Option<Registered>, ClientError> {
        let api = self.compat();
        let path = format!("{api}/subjects/{}/versions/{version}?deleted={deleted}", encode(subject.as_str()));
        match self.json(reqwest::Method::GET, &path, None).await {
            Ok(value) => self.shape("version", value).map(Some),
            Err(e) if e.status() == Some(404) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The exact schema text of an id; `None` when the id does not resolve.
    pub async fn schema(&self, id: SchemaId) -> Result<Option<String>, ClientError> {
        let api = self.compat();
        match self.json(reqwest::Method::GET, &format!("{api}/schemas/ids/{id}"), None).await {
            Ok(value) => Ok(value["schema"].as_str().map(str::to_owned)),
            Err(e) if e.status() == Some(404) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// A version with this id in another group than the default one, whose artifacts are the subjects; `None` where there is
    /// none. `id_kind` is `contentId` or `globalId`.
    pub async fn in_another_group(&self, id: SchemaId, id_kind: &str) -> Result<Option<GroupArtifact>, ClientError> {
        if self.is_confluent() {
            return Ok(None);
        }
        // The versions of one content: more than a page of them in the default group alone are not to be expected.
        let value =
            self.native(reqwest::Method::GET, &format!("/search/versions?{id_kind}={id}&limit=500"), None).await?;
        let found = value["versions"].as_array().into_iter().flatten().find_map(|version| {
            let text = |key: &str| version[key].as_str().map(str::to_owned);
            let group = text("groupId").filter(|group| group != "default")?;
            Some(GroupArtifact { group, artifact: text("artifactId")?, version: text("version")? })
        });
        Ok(found)
    }

    /// Registers a schema; a refusal for incompatibility is an `Answer` with status 409.
    pub async fn register(
        &self,
        subject: &Subject,
        schema: &str,
        references: &[Reference],
    ) -> Result<SchemaId, ClientError> {
        let api = self.compat();
        let path = format!("{api}/subjects/{}/versions", encode(subject.as_str()));
        let mut body = json!({ "schema": schema });
        if !references.is_empty() {
            body["references"] = json!(references);
        }
        let value = self.json(reqwest::Method::POST, &path, Some(body)).await?;
        self.shape("schema id", value["id"].clone())
    }

    /// Asks, without registering, whether a schema would be accepted as the subject's next version.
    pub async fn compatible(&self, subject: &Subject, schema: &str) -> Result<bool, ClientError> {
        let api = self.compat();
        let path = format!("{api}/compatibility/subjects/{}/versions/latest", encode(subject.as_str()));
        let value = self.json(reqwest::Method::POST, &path, Some(json!({ "schema": schema }))).await?;
        self.shape("compatibility", value["is_compatible"].clone())
    }

    /// Deletes a subject; softly first, and with `permanent` for good.
    pub async fn delete_subject(&self, subject: &Subject, permanent: bool) -> Result<(), ClientError> {
        let api = self.compat();
        let path = format!("{api}/subjects/{}", encode(subject.as_str()));
        self.json(reqwest::Method::DELETE, &path, None).await?;
        if permanent {
            self.json(reqwest::Method::DELETE, &format!("{path}?permanent=true"), None).await?;
        }
        Ok(())
    }

    /// Deletes one version; softly first, and with `permanent` for good.
    pub async fn delete_version(
        &self,
        subject: &Subject,
        version: SubjectVersion,
        permanent: bool,
    ) -> Result<(), ClientError> {
        let api = self.compat();
        let path = format!("{api}/subjects/{}/versions/{version}", encode(subject.as_str()));
        self.json(reqwest::Method::DELETE, &path, None).await?;
        if permanent {
            self.json(reqwest::Method::DELETE, &format!("{path}?permanent=true"), None).await?;
        }
        Ok(())
    }

    /// The global compatibility rule; `None` when unset (Confluent's API would say NONE for both).
    pub async fn global_level(&self) -> Result<Option<String>, ClientError> {
        if self.is_confluent() {
            return self.level("/config").await;
        }
        self.rule(&format!("{V3}/admin/rules/COMPATIBILITY")).await
    }

    /// Sets the global compatibility level.
    pub async fn set_global_level(&self, level: &str) -> Result<(), ClientError> {
        let api = self.compat();
        let body = json!({ "compatibility": level });
        self.json(reqwest::Method::PUT, &format!("{api}/config"), Some(body)).await.map(drop)
    }

    /// Removes the global compatibility rule.
    pub async fn unset_global_level(&self) -> Result<(), ClientError> {
        if self.is_confluent() {
            return self.gone("/config").await;
        }
        self.gone(&format!("{V3}/admin/rules/COMPATIBILITY")).await
    }

    /// The subject's own compatibility rule; `None` when unset.
    pub async fn subject_level(&self, subject: &Subject) -> Result<Option<String>, ClientError> {
        if self.is_confluent() {
            return self.level(&format!("/config/{}?defaultToGlobal=false", encode(subject.as_str()))).await;
        }
        self.rule(&format!("{V3}/groups/default/artifacts/{}/rules/COMPATIBILITY", encode(subject.as_str()))).await
    }

    /// Sets the subject's own compatibility level.
    pub async fn set_subject_level(&self, subject: &Subject, level: &str) -> Result<(), ClientError> {
        let api = self.compat();
        let path = format!("{api}/config/{}", encode(subject.as_str()));
        self.json(reqwest::Method::PUT, &path, Some(json!({ "compatibility": level }))).await.map(drop)
    }

    /// Removes the subject's own compatibility rule, also one that says NONE (which Confluent's API cannot remove here).
    pub async fn unset_subject_level(&self, subject: &Subject) -> Result<(), ClientError> {
        if self.is_confluent() {
            return self.gone(&format!("/config/{}", encode(subject.as_str()))).await;
        }
        self.gone(&format!("{V3}/groups/default/artifacts/{}/rules/COMPATIBILITY", encode(subject.as_str()))).await
    }

    /// The global mode (`READWRITE`); stored, and enforced by nobody.
    pub async fn global_mode(&self) -> Result<String, ClientError> {
        let api = self.compat();
        let value = self.json(reqwest::Method::GET, &format!("{api}/mode"), None).await?;
        Ok(value["mode"].as_str().unwrap_or("READWRITE").to_owned())
    }

    /// The mode of a subject: its own; of Apicurio its own or the global one (its API does not tell). `None` where it has none.
    pub async fn subject_mode(&self, subject: &Subject) -> Result<Option<String>, ClientError> {
        let api = self.compat();
        let own = if self.is_confluent() { "?defaultToGlobal=false" } else { "" };
        let path = format!("{api}/mode/{}{own}", encode(subject.as_str()));
        match self.json(reqwest::Method::GET, &path, None).await {
            Ok(value) => Ok(value["mode"].as_str().map(str::to_owned)),
            Err(e) if e.status() == Some(404) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Sets the subject's own mode, or removes it.
    pub async fn set_subject_mode(&self, subject: &Subject, mode: Option<&str>) -> Result<(), ClientError> {
        let api = self.compat();
        let path = format!("{api}/mode/{}", encode(subject.as_str()));
        match mode {
            Some(mode) => self.json(reqwest::Method::PUT, &path, Some(json!({ "mode": mode }))).await.map(drop),
            None => self.gone(&path).await,
        }
    }

    /// Sets the global mode.
    pub async fn set_global_mode(&self, mode: &str) -> Result<(), ClientError> {
        let api = self.compat();
        self.json(reqwest::Method::PUT, &format!("{api}/mode"), Some(json!({ "mode": mode }))).await.map(drop)
    }

    /// Puts a subject into the mode in which versions are registered under ids and numbers of one's choice. Where the subject has versions
    /// already a registry wants to be forced, and without that it would delete for good those that are soft-deleted.
    pub async fn begin_import(&self, subject: &Subject) -> Result<(), ClientError> {
        let api = self.compat();
        let path = format!("{api}/mode/{}?force=true", encode(subject.as_str()));
        self.json(reqwest::Method::PUT, &path, Some(json!({"mode": "IMPORT"}))).await.map(drop)
    }

    /// Registers a version under its id and its number, in a subject that is in mode IMPORT; returns the id that it has now. A version that
    /// was soft-deleted is in use again.
    pub async fn register_as(&self, wanted: &Registered) -> Result<SchemaId, ClientError> {
        let api = self.compat();
        let path = format!("{api}/subjects/{}/versions", encode(wanted.subject.as_str()));
        let mut body = json!({
            "schema": wanted.schema, "schemaType": wanted.schema_type, "id": wanted.id, "version": wanted.version,
            "references": wanted.references,
        });
        for (key, value) in [("metadata", &wanted.metadata), ("ruleSet", &wanted.rule_set)] {
            if let Some(value) = value {
                body[key] = value.clone();
            }
        }
        let value = self.json(reqwest::Method::POST, &path, Some(body)).await?;
        self.shape("schema id", value["id"].clone())
    }

    /// All that Confluent's API has of a level: of a subject its own, `None` where it has none; without a subject the global one.
    pub async fn level_in_full(&self, subject: Option<&Subject>) -> Result<Option<Value>, ClientError> {
        let api = self.compat();
        let path = match subject {
            Some(subject) => format!("{api}/config/{}?defaultToGlobal=false", encode(subject.as_str())),
            None => format!("{api}/config"),
        };
        match self.json(reqwest::Method::GET, &path, None).await {
            Ok(value) => Ok(Some(value)),
            Err(e) if e.status() == Some(404) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Sets all that Confluent's API has of a level, as [`Registry::level_in_full`] gives it.
    pub async fn set_level_in_full(&self, subject: Option<&Subject>, level: &Value) -> Result<(), ClientError> {
        let api = self.compat();
        let path = match subject {
            Some(subject) => format!("{api}/config/{}", encode(subject.as_str())),
            None => format!("{api}/config"),
        };
        let mut body = level.clone();
        // It is set by another name than it is given.
        if let Some(level) = body.as_object_mut().and_then(|fields| fields.remove("compatibilityLevel")) {
            body["compatibility"] = level;
        }
        self.json(reqwest::Method::PUT, &path, Some(body)).await.map(drop)
    }

    /// Every version of every artifact as Apicurio's native zip.
    pub async fn export(&self) -> Result<Vec<u8>, ClientError> {
        let path = format!("{V3}/admin/export");
        self.own_api(&path)?;
        let zipped = |request: reqwest::RequestBuilder| request.header("Accept", "application/zip");
        let answer = self.rest.send(&reqwest::Method::GET, &path, zipped).await?;
        Ok(self.checked("GET", &path, answer)?.body)
    }

    /// Imports Apicurio's native zip into an empty registry, keeping ids. The answer proves nothing: read everything back. Sent
    /// once, however long it takes: a second import beside the first would find the registry no longer empty.
    pub async fn import(&self, zip: Vec<u8>) -> Result<(), ClientError> {
        self.import_to(&format!("{V3}/admin/import"), zip).await
    }

    /// Imports Apicurio's native zip beside what the registry holds, keeping ids. What is there already is left out without a word, and so
    /// are versions of a content that is: the answer proves nothing.
    pub async fn import_beside(&self, zip: Vec<u8>) -> Result<(), ClientError> {
        self.import_to(&format!("{V3}/admin/import?requireEmptyRegistry=false"), zip).await
    }

    /// Whether there is a content with this hash.
    pub async fn has_content_hash(&self, hash: &str) -> Result<bool, ClientError> {
        match self.native(reqwest::Method::GET, &format!("/ids/contentHashes/{}", encode(hash)), None).await {
            Ok(_) => Ok(true),
            Err(e) if e.status() == Some(404) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Sets the state of a version of an artifact: `ENABLED`, `DISABLED`, `DEPRECATED`.
    pub async fn set_state(&self, group: &str, artifact: &str, version: &str, state: &str) -> Result<(), ClientError> {
        let (group, artifact, version) = (encode(group), encode(artifact), encode(version));
        let path = format!("/groups/{group}/artifacts/{artifact}/versions/{version}/state");
        self.native(reqwest::Method::PUT, &path, Some(json!({ "state": state }))).await.map(drop)
    }

    async fn import_to(&self, path: &str, zip: Vec<u8>) -> Result<(), ClientError> {
        self.own_api(path)?;
        let zipped = |r: reqwest::RequestBuilder| {
            let r = r.header("X-Registry-Preserve-GlobalId", "true");
            let r = r.header("X-Registry-Preserve-ContentId", "true");
            r.header("Content-Type", "application/zip").body(zip.clone())
        };
        let answer = self.rest.once().send(&reqwest::Method::POST, path, zipped).await?;
        self.checked("POST", path, answer).map(drop)
    }

    /// The exact bytes of a content id, by Apicurio's own API, soft-deleted or not; `None` when it does not resolve.
    pub async fn content(&self, content_id: u64) -> Result<Option<String>, ClientError> {
        let path = format!("{V3}/ids/contentIds/{content_id}");
        self.own_api(&path)?;
        let answer = self.rest.send(&reqwest::Method::GET, &path, |request| request).await?;
        match self.checked("GET", &path, answer) {
            Ok(answer) => Ok(Some(answer.text())),
            Err(e) if e.status() == Some(404) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// A request to Apicurio's own API, for what has no method here; `path` begins after `/apis/registry/v3`.
    pub async fn native(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Result<Value, ClientError> {
        self.own_api(path)?;
        self.json(method, &format!("{V3}{path}"), body).await
    }

    /// A level by Confluent's API.
    async fn level(&self, path: &str) -> Result<Option<String>, ClientError> {
        match self.json(reqwest::Method::GET, path, None).await {
            Ok(value) => Ok(value["compatibilityLevel"].as_str().map(str::to_owned)),
            Err(e) if e.status() == Some(404) => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn rule(&self, path: &str) -> Result<Option<String>, ClientError> {
        match self.json(reqwest::Method::GET, path, None).await {
            Ok(value) => Ok(value["config"].as_str().map(str::to_owned)),
            Err(e) if e.status() == Some(404) => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn gone(&self, path: &str) -> Result<(), ClientError> {
        match self.json(reqwest::Method::DELETE, path, None).await {
            Ok(_) => Ok(()),
            Err(e) if e.status() == Some(404) => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn shape<T: serde::de::DeserializeOwned>(&self, what: &str, value: Value) -> Result<T, ClientError> {
        serde_json::from_value(value)
            .map_err(|e| ClientError::answer("registry", &self.url, what, "a known shape", e.to_string()))
    }

    async fn json(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Result<Value, ClientError> {
        let with_body = |request: reqwest::RequestBuilder| match &body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = self.rest.send(&method, path, with_body).await?;
        let text = self.checked(method.as_str(), path, answer)?.text();
        if text.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    fn checked(&self, method: &str, path: &str, answer: Answer) -> Result<Answer, ClientError> {
        let status = answer.status;
        if status.is_success() {
            return Ok(answer);
        }
        let text = answer.text();
        let answer: Option<Value> = serde_json::from_str(&text).ok();
        let message = answer.as_ref().and_then(|v| v["message"].as_str().or(v["title"].as_str())).map(str::to_owned);
        Err(ClientError::Answer {
            system: "registry",
            address: self.url.clone(),
            what: format!("{method} {path}"),
            expected: "success".into(),
            found: format!("{status}: {}", message.unwrap_or(text)),
            status: Some(status.as_u16()),
            lasting: false,
        })
    }
}
