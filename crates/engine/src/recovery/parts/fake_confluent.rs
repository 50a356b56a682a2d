//! A registry with Confluent's API as it is documented, for tests: soft and permanent deletion, mode IMPORT, ids that mean one schema,
//! references, levels and modes with their fallback to the global ones. It parses no schemas; where a level is not `NONE`, it takes any second
//! version of a subject for incompatible.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::registry;
use crate::{
    backup::parts::registry::{Dump, capture},
    recovery::RecoveryError,
};
use cdc_model::units::{Exit, Failure, SchemaId, Subject, SubjectVersion};
use cdc_pipeline::{
    client::registry::{Reference, Registered, Registry},
    config::{RegistryConfig, RegistryFlavour},
};

/// A version.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    id: u64,
    /// What was posted of text, type, references, metadata and rules: one id means one of these.
    schema: Map<String, Value>,
    deleted: bool,
}

/// What the registry holds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Content {
    versions: BTreeMap<(String, u64), Entry>,
    modes: BTreeMap<String, String>,
    levels: BTreeMap<String, Value>,
    mode: Option<String>,
    level: Option<Value>,
    /// As Apicurio 3.3.3 by its compatible API (`/apis/ccompat/v7` and `v8`, seen there): mode IMPORT is taken, and the ids and numbers that
    /// are asked for in it are not.
    ignores_ids: bool,
}

/// Status, code and message of a refusal.
type Refusal = (u16, u64, String);

const NOT_PERMITTED: u64 = 42205;

impl Content {
    fn mode_of(&self, subject: &str) -> &str {
        let own = self.modes.get(subject).or(self.mode.as_ref());
        own.map_or("READWRITE", String::as_str)
    }

    fn of<'a>(&'a self, subject: &'a str, deleted: bool) -> impl Iterator<Item = (u64, &'a Entry)> {
        let own = self.versions.iter().filter(move |((of, _), entry)| of == subject && (deleted || !entry.deleted));
        own.map(|((_, number), entry)| (*number, entry))
    }

    fn described(&self, subject: &str, number: u64) -> Value {
        let entry = &self.versions[&(subject.to_owned(), number)];
        let mut value = json!({"subject": subject, "version": number, "id": entry.id});
        for (key, part) in &entry.schema {
            // Avro is the default, and left out.
            let is_default = part == "AVRO" && key == "schemaType" || part == &json!([]) && key == "references";
            if !is_default {
                value[key] = part.clone();
            }
        }
        value
    }

    fn register(&mut self, subject: &str, body: &Value) -> Result<Value, Refusal> {
        let not_permitted = |why: String| (422, NOT_PERMITTED, why);
        let (mode, wanted_id) = (self.mode_of(subject).to_owned(), body["id"].as_u64());
        match (wanted_id, mode.as_str()) {
            (Some(_), "IMPORT") | (None, "READWRITE") => {}
            (Some(_), _) => return Err(not_permitted(format!("Subject {subject} is not in import mode"))),
            (None, mode) => return Err(not_permitted(format!("Subject {subject} is in {mode} mode"))),
        }
        let mut schema = Map::new();
        schema.insert("schema".into(), body["schema"].clone());
        schema.insert("schemaType".into(), body["schemaType"].as_str().unwrap_or("AVRO").into());
        schema.insert(
            "references".into(),
            if body["references"].is_null() { json!([]) } else { body["references"].clone() },
        );
        for key in ["metadata", "ruleSet"].iter().filter(|key| !body[**key].is_null()) {
            schema.insert((*key).to_owned(), body[*key].clone());
        }
        for to in schema["references"].as_array().into_iter().flatten() {
            let at =
                (to["subject"].as_str().unwrap_or_default().to_owned(), to["version"].as_u64().unwrap_or_default());
            if !self.versions.contains_key(&at) {
                return Err((422, 42201, format!("Invalid schema: no reference {} version {}", at.0, at.1)));
            }
        }
        let twin = self.versions.values().find(|entry| entry.schema == schema).map(|entry| entry.id);
        let next = self.of(subject, true).map(|(number, _)| number).max().unwrap_or(0) + 1;
        let (id, number) = match wanted_id.filter(|_| !self.ignores_ids) {
            Some(id) => {
                if self.versions.values().any(|entry| entry.id == id && entry.schema != schema) {
                    return Err(not_permitted(format!("Overwrite new schema with id {id} is not permitted.")));
                }
                (id, body["version"].as_u64().filter(|number| *number > 0).unwrap_or(next))
            }
            None => {
                if let Some((_, entry)) = self.of(subject, false).find(|(_, entry)| entry.schema == schema) {
                    return Ok(json!({ "id": entry.id }));
                }
                let level = self.levels.get(subject).or(self.level.as_ref());
                let level = level.and_then(|level| level["compatibilityLevel"].as_str()).unwrap_or("BACKWARD");
                if level != "NONE" && self.of(subject, false).count() > 0 {
                    return Err((409, 409, format!("Schema being registered is incompatible ({level})")));
                }
                let free = self.versions.values().map(|entry| entry.id).max().unwrap_or(0) + 1;
                (twin.unwrap_or(free), next)
            }
        };
        self.versions.insert((subject.to_owned(), number), Entry { id, schema, deleted: false });
        Ok(json!({ "id": id }))
    }

    fn delete(&mut self, subject: &str, number: Option<u64>, permanent: bool) -> Result<Value, Refusal> {
        let concerned: Vec<u64> =
            self.of(subject, true).map(|(n, _)| n).filter(|n| number.is_none_or(|wanted| wanted == *n)).collect();
        if concerned.is_empty() {
            return Err((404, 40401, format!("Subject '{subject}' not found.")));
        }
        for number in &concerned {
            let refers = |to: &Value| to["subject"] == subject && to["version"] == *number;
            let referred = self
                .versions
                .values()
                .any(|entry| !entry.deleted && entry.schema["references"].as_array().into_iter().flatten().any(refers));
            if referred {
                return Err((
                    422,
                    42206,
                    format!("One or more references exist to the schema {subject} version {number}"),
                ));
            }
            let at = (subject.to_owned(), *number);
            match (permanent, self.versions[&at].deleted) {
                (true, false) => return Err((404, 40405, format!("Subject '{subject}' was not deleted first"))),
                (true, true) => _ = self.versions.remove(&at),
                (false, _) => self.versions.get_mut(&at).unwrap().deleted = true,
            }
        }
        Ok(json!(concerned))
    }

    fn set_mode(&mut self, subject: Option<&str>, mode: &str, force: bool) -> Result<Value, Refusal> {
        let Some(subject) = subject else {
            self.mode = Some(mode.to_owned());
            return Ok(json!({ "mode": mode }));
        };
        if mode == "IMPORT" && self.mode_of(subject) != "IMPORT" && !force {
            if self.of(subject, false).count() > 0 {
                return Err((422, NOT_PERMITTED, "Cannot import since found existing subjects".into()));
            }
            // What was soft-deleted goes for good.
            self.versions.retain(|(of, _), _| of != subject);
        }
        self.modes.insert(subject.to_owned(), mode.to_owned());
        Ok(json!({ "mode": mode }))
    }

    fn answer(&mut self, method: &str, target: &str, body: &Value) -> Result<Value, Refusal> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let has = |word: &str| query.split('&').any(|part| part == word);
        let parts: Vec<String> = path.split('/').skip(1).map(decoded).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let missing = |code, what: &str| Err((404, code, format!("{what} not found.")));
        match (method, parts.as_slice()) {
            ("GET", ["v1", "metadata", "version"]) => Ok(json!({"version": "7.6.0", "commitId": "0"})),
            ("GET", ["subjects"]) => {
                let mut names: Vec<&String> = self
                    .versions
                    .iter()
                    .filter(|(_, e)| has("deleted=true") || !e.deleted)
                    .map(|((s, _), _)| s)
                    .collect();
                names.dedup();
                Ok(json!(names))
            }
            ("GET", ["subjects", subject, "versions"]) => {
                let numbers: Vec<u64> = self.of(subject, has("deleted=true")).map(|(number, _)| number).collect();
                if numbers.is_empty() { missing(40401, "Subject") } else { Ok(json!(numbers)) }
            }
            ("GET", ["subjects", subject, "versions", number]) => {
                let number = number.parse().unwrap_or_default();
                match self.of(subject, has("deleted=true")).any(|(n, _)| n == number) {
                    true => Ok(self.described(subject, number)),
                    false => missing(40402, "Version"),
                }
            }
            ("POST", ["subjects", subject, "versions"]) => self.register(subject, body),
            ("DELETE", ["subjects", subject]) => self.delete(subject, None, has("permanent=true")),
            ("DELETE", ["subjects", subject, "versions", number]) => {
                self.delete(subject, number.parse().ok(), has("permanent=true"))
            }
            ("GET", ["schemas", "ids", id]) => {
                let found = self.versions.values().find(|entry| entry.id.to_string() == *id);
                found.map_or_else(|| missing(40403, "Schema"), |entry| Ok(Value::Object(entry.schema.clone())))
            }
            ("GET", ["config"]) => Ok(self.level.clone().unwrap_or(json!({"compatibilityLevel": "BACKWARD"}))),
            ("GET", ["config", subject]) => match self.levels.get(*subject) {
                Some(level) => Ok(level.clone()),
                None if has("defaultToGlobal=true") => Ok(self.level.clone().unwrap_or_default()),
                None => missing(40408, "Subject-level compatibility configuration"),
            },
            ("PUT", ["config", of @ ..]) => {
                let mut level = body.as_object().cloned().unwrap_or_default();
                if let Some(word) = level.remove("compatibility") {
                    level.insert("compatibilityLevel".into(), word);
                }
                match of {
                    [subject] => _ = self.levels.insert((*subject).to_owned(), Value::Object(level)),
                    _ => self.level = Some(Value::Object(level)),
                }
                Ok(body.clone())
            }
            ("DELETE", ["config", of @ ..]) => {
                match of {
                    [subject] => _ = self.levels.remove(*subject),
                    _ => self.level = None,
                }
                Ok(json!({}))
            }
            ("GET", ["mode"]) => Ok(json!({"mode": self.mode.as_deref().unwrap_or("READWRITE")})),
            ("GET", ["mode", subject]) => match self.modes.get(*subject) {
                Some(mode) => Ok(json!({ "mode": mode })),
                None if has("defaultToGlobal=true") => Ok(json!({"mode": self.mode_of(subject)})),
                None => missing(40409, "Subject-level mode"),
            },
            ("PUT", ["mode", of @ ..]) => {
                self.set_mode(of.first().copied(), body["mode"].as_str().unwrap_or_default(), has("force=true"))
            }
            ("DELETE", ["mode", subject]) => {
                self.modes.remove(*subject);
                Ok(json!({}))
            }
            _ => missing(404, target),
        }
    }
}

/// A segment of an address.
fn decoded(segment: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = segment.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail
            .get(..2)
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

struct Fake {
    registry: Registry,
    content: Arc<Mutex<Content>>,
}

impl Fake {
    async fn up() -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let content = Arc::new(Mutex::new(Content::default()));
        let served = content.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, served.clone()));
            }
        });
        let registry = Registry::of(&RegistryConfig::plain(&url, RegistryFlavour::Confluent, None));
        Fake { registry, content }
    }

    fn content(&self) -> Content {
        self.content.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, content: Content) {
        *self.content.lock().unwrap_or_else(PoisonError::into_inner) = content;
    }

    async fn dump(&self) -> Dump {
        capture(&self.registry).await.unwrap()
    }

    async fn restore(&self, names: &[&str], saved: &Dump) -> Result<Vec<String>, RecoveryError> {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        registry::look(self.registry.clone(), &names, saved.clone()).await?.run().await
    }
}

async fn serve(client: TcpStream, content: Arc<Mutex<Content>>) {
    let mut client = BufReader::new(client);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if client.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        loop {
            let mut header = String::new();
            client.read_line(&mut header).await.unwrap();
            if let Some(text) = header.to_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().unwrap();
            }
            if header.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        client.read_exact(&mut body).await.unwrap();
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let answer = content.lock().unwrap_or_else(PoisonError::into_inner).answer(&method, &target, &body);
        let (status, text) = match answer {
            Ok(value) => (200, value.to_string()),
            Err((status, code, message)) => (status, json!({"error_code": code, "message": message}).to_string()),
        };
        let head =
            format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", text.len());
        client.get_mut().write_all(format!("{head}{text}").as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn a_registry_that_ignores_ids_is_refused_and_left_as_it_was() {
    let fake = Fake::up().await;
    fake.registry.set_global_level("NONE").await.unwrap();
    for (subject, name) in [("a", "A"), ("a", "B"), ("b", "C")] {
        fake.registry.register(&Subject::new(subject), name, &[]).await.unwrap();
    }
    let saved = fake.dump().await;
    fake.registry.delete_subject(&Subject::new("a"), true).await.unwrap();
    let lost = Content { ignores_ids: true, ..fake.content() };
    fake.set(lost.clone());
    let error = fake.restore(&["a"], &saved).await.unwrap_err();
    assert_eq!(error.exit(), Exit::PlanImpossible, "{error}");
    assert!(error.to_string().contains("ignores ids and numbers"), "{error}");
    assert_eq!(fake.content(), lost);
}

/// Gaps in versions and ids, a shared schema, references, soft-deleted versions and subjects, levels with more than a level, modes.
async fn filled() -> Fake {
    let fake = Fake::up().await;
    let registry = &fake.registry;
    let subject = |name: &str| Subject::new(name);
    registry.set_global_level("NONE").await.unwrap();
    for name in ["a-value", "b/value", "gone-value"] {
        for version in 1..4 {
            registry.register(&subject(name), &format!("{name} {}", version % 3), &[]).await.unwrap();
        }
    }
    registry.register(&subject("shared-value"), "a-value 1", &[]).await.unwrap();
    let to = Reference { name: "A".into(), subject: subject("a-value"), version: SubjectVersion(3) };
    registry.register(&subject("0-refers"), "refers", std::slice::from_ref(&to)).await.unwrap();
    registry.begin_import(&subject("proto-value")).await.unwrap();
    let proto = Registered {
        subject: subject("proto-value"),
        version: SubjectVersion(7),
        id: SchemaId(900),
        schema: "syntax = \"proto3\";".into(),
        schema_type: "PROTOBUF".into(),
        references: Vec::new(),
        metadata: Some(json!({"properties": {"owner": "team"}})),
        rule_set: Some(json!({"domainRules": []})),
    };
    registry.register_as(&proto).await.unwrap();
    registry.set_subject_mode(&subject("proto-value"), None).await.unwrap();
    registry.delete_version(&subject("a-value"), SubjectVersion(1), false).await.unwrap();
    registry.delete_version(&subject("b/value"), SubjectVersion(2), true).await.unwrap();
    registry.delete_subject(&subject("gone-value"), false).await.unwrap();
    registry.set_subject_level(&subject("a-value"), "FULL").await.unwrap();
    let in_full = json!({"compatibilityLevel": "FORWARD", "normalize": true});
    registry.set_level_in_full(Some(&subject("b/value")), &in_full).await.unwrap();
    registry.set_subject_mode(&subject("shared-value"), Some("READONLY")).await.unwrap();
    registry.set_global_level("FORWARD").await.unwrap();
    fake
}

#[tokio::test]
async fn an_empty_registry_is_given_everything_it_held() {
    let fake = filled().await;
    let (before, saved) = (fake.content(), fake.dump().await);
    assert_eq!(saved.versions.len(), before.versions.len());
    assert!(saved.versions.iter().any(|v| v.metadata.is_some()) && saved.beyond.len() == 1, "{saved:?}");
    assert!(fake.restore(&[], &saved).await.is_ok());
    assert_eq!(fake.content(), before, "nothing differs, and nothing is changed");
    fake.set(Content::default());
    fake.restore(&[], &saved).await.unwrap();
    assert_eq!(fake.content(), before);
    // As the point's files have it.
    let head = serde_json::to_vec(&saved.head()).unwrap();
    let lines: Vec<String> = saved.versions.iter().map(|v| serde_json::to_string(v).unwrap()).collect();
    assert_eq!(Dump::from_files(&head, lines.join("\n").as_bytes(), None).unwrap(), saved);
}

#[tokio::test]
async fn a_subject_comes_back_alone_and_a_cut_run_is_repeated() {
    let fake = filled().await;
    let (before, saved) = (fake.content(), fake.dump().await);
    let name = Subject::new("b/value");
    fake.registry.delete_subject(&name, true).await.unwrap();
    fake.registry.set_subject_level(&Subject::new("a-value"), "NONE").await.unwrap();
    // A run that was cut has left the subject in mode IMPORT.
    fake.registry.begin_import(&name).await.unwrap();
    fake.restore(&["b/value"], &saved).await.unwrap();
    let mut expected = before.clone();
    expected.levels.insert("a-value".into(), json!({"compatibilityLevel": "NONE"}));
    assert_eq!(fake.content(), expected, "the other subject was not named");
    // In use again what was soft-deleted since, and the other way round.
    fake.registry.delete_version(&name, SubjectVersion(3), false).await.unwrap();
    fake.restore(&[], &saved).await.unwrap();
    assert_eq!(fake.content(), before);
    let mut undeleted = before.clone();
    undeleted.versions.get_mut(&("a-value".to_owned(), 1)).unwrap().deleted = false;
    fake.set(undeleted);
    fake.restore(&["a-value"], &saved).await.unwrap();
    assert_eq!(fake.content(), before);
}

#[tokio::test]
async fn an_id_that_means_another_schema_now_is_refused_and_nothing_is_touched() {
    let fake = filled().await;
    let saved = fake.dump().await;
    let refused = async |content: Content, part: &str| {
        fake.set(content.clone());
        let error = fake.restore(&[], &saved).await.unwrap_err();
        assert_eq!(error.exit(), Exit::PlanImpossible, "{error}");
        assert!(error.to_string().contains(part), "no `{part}` in {error}");
        assert_eq!(fake.content(), content);
    };
    let mut taken = Content::default();
    taken.register("other", &json!({"schema": "other"})).unwrap();
    refused(taken.clone(), "is another schema's now").await;
    refused(Content { mode: Some("READONLY_OVERRIDE".into()), ..Content::default() }, "READONLY_OVERRIDE").await;
    // Alone, without what it refers to.
    fake.set(Content::default());
    let error = fake.restore(&["0-refers"], &saved).await.unwrap_err().to_string();
    assert!(error.contains("has a reference to a-value v3, which is not there"), "{error}");
    // Of another product.
    let apicurio = Dump { flavour: "apicurio".into(), ..saved.clone() };
    assert!(fake.restore(&[], &apicurio).await.unwrap_err().to_string().contains("[registry] flavour"));
    // In a context of its own.
    let mut contexts = Content::default();
    contexts.register(":.one:a", &json!({"schema": "a"})).unwrap();
    fake.set(contexts);
    let saved = fake.dump().await;
    assert!(saved.caps_hit[0].contains("context"), "{saved:?}");
    fake.set(Content::default());
    assert!(fake.restore(&[], &saved).await.unwrap_err().to_string().contains("context"));
}

#[tokio::test]
async fn the_protocol_is_enforced() {
    let fake = filled().await;
    let line = Registered {
        subject: Subject::new("new-value"),
        version: SubjectVersion(1),
        id: SchemaId(901),
        schema: "new".into(),
        schema_type: "AVRO".into(),
        references: Vec::new(),
        metadata: None,
        rule_set: None,
    };
    assert!(fake.registry.register_as(&line).await.unwrap_err().to_string().contains("not in import mode"));
    fake.registry.begin_import(&line.subject).await.unwrap();
    let taken = Registered { id: SchemaId(900), ..line.clone() };
    assert!(fake.registry.register_as(&taken).await.unwrap_err().to_string().contains("Overwrite new schema"));
    assert_eq!(fake.registry.register_as(&line).await.unwrap(), SchemaId(901));
    assert!(fake.registry.register(&line.subject, "x", &[]).await.unwrap_err().to_string().contains("IMPORT"));
}
