//! Kafka Connect's REST interface (KIP-875 for stopping and offsets).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    ClientError,
    limits::{Bound, asking, facts},
    rest::Rest,
    wait::{self, Poll},
};
use crate::config::ConnectConfig;
use cdc_model::units::Lsn;
pub use cdc_model::units::encode;

/// A connector's configuration as the worker stores it: flat, all values text, `${...}` unresolved.
pub type ConnectorConfig = BTreeMap<String, String>;

/// The REST interface of a Connect cluster: of its workers, the first that takes the connection answers for all.
#[derive(Clone, Debug)]
pub struct Connect {
    rest: Rest,
    url: String,
}

/// State of a connector and its tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorStatus {
    /// The connector's name.
    pub name: String,
    /// The connector itself.
    pub connector: StateOf,
    /// Its tasks.
    pub tasks: Vec<TaskState>,
    /// `source` or `sink`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// State of a connector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateOf {
    /// `RUNNING`, `PAUSED`, `STOPPED`, `FAILED`, `UNASSIGNED`.
    pub state: String,
    /// The stack trace of a failure.
    #[serde(default)]
    pub trace: Option<String>,
}

/// State of one task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskState {
    /// The task's number.
    pub id: u32,
    /// `RUNNING`, `PAUSED`, `FAILED`, `UNASSIGNED`, `RESTARTING`.
    pub state: String,
    /// The stack trace of a failure.
    #[serde(default)]
    pub trace: Option<String>,
}

/// How a connector is at rest because somebody wanted it to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtRest {
    /// Its tasks live, and own their slots.
    Paused,
    /// It has no tasks.
    Stopped,
}

impl AtRest {
    /// Connect's word for it.
    pub fn word(self) -> &'static str {
        match self {
            AtRest::Paused => "PAUSED",
            AtRest::Stopped => "STOPPED",
        }
    }
}

impl ConnectorStatus {
    /// Whether somebody has brought it to rest.
    pub fn at_rest(&self) -> Option<AtRest> {
        [AtRest::Paused, AtRest::Stopped].into_iter().find(|rest| self.connector.state == rest.word())
    }

    /// Whether the connector is STOPPED and no task of it runs. With several workers, the one that ran a task may write its
    /// last word, UNASSIGNED, when the task is gone from the list already.
    pub fn stands_still(&self) -> bool {
        self.connector.state == "STOPPED" && self.tasks.iter().all(|t| t.state == "UNASSIGNED")
    }

    /// Connector and every task `RUNNING`, and at least one task.
    pub fn all_running(&self) -> bool {
        self.connector.state == "RUNNING" && !self.tasks.is_empty() && self.tasks.iter().all(|t| t.state == "RUNNING")
    }

    /// Whether a task lives: a paused one does, and holds its slot and its positions.
    pub fn has_live_task(&self) -> bool {
        self.tasks.iter().any(|task| task.state == "RUNNING" || task.state == "PAUSED")
    }

    /// The first line of the first failure.
    pub fn failure(&self) -> Option<String> {
        let connector = (self.connector.state == "FAILED")
            .then(|| format!("connector FAILED: {}", head(self.connector.trace.as_deref())));
        connector.or_else(|| {
            self.tasks
                .iter()
                .find(|t| t.state == "FAILED")
                .map(|t| format!("task {} FAILED: {}", t.id, head(t.trace.as_deref())))
        })
    }

    /// `connector RUNNING, task 0 RUNNING`.
    pub fn summary(&self) -> String {
        let tasks: Vec<String> = self.tasks.iter().map(|t| format!("task {} {}", t.id, t.state)).collect();
        let tasks = if tasks.is_empty() { "no tasks".to_owned() } else { tasks.join(", ") };
        format!("connector {}, {tasks}", self.connector.state)
    }
}

/// The causes of a stack trace in one line: its first line and its last `Caused by`.
fn head(trace: Option<&str>) -> String {
    let trace = trace.unwrap_or("no trace");
    let first = trace.lines().next().unwrap_or_default();
    match trace.lines().rfind(|l| l.starts_with("Caused by:")) {
        Some(last) => format!("{first} ... {last}"),
        None => first.to_owned(),
    }
}

/// One stored source (or sink) offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredOffset {
    /// `{"server": "<topic.prefix>"}` for a Debezium source.
    pub partition: Map<String, Value>,
    /// The position; for Debezium's PostgreSQL connector `lsn`, `lsn_proc`, `lsn_commit`, `txId` and more.
    pub offset: Option<Map<String, Value>>,
}

/// A stored offset of Debezium's PostgreSQL connector: while a snapshot runs it says so, and the mark stays until the first streamed
/// change; beside it stands whether the snapshot is complete.
pub fn snapshot_complete(offset: &Map<String, Value>) -> bool {
    let snapshot = offset.get("snapshot");
    let running = !matches!(snapshot, None | Some(Value::Null) | Some(Value::Bool(false)));
    !running || offset.get("snapshot_completed") == Some(&Value::Bool(true))
}

/// The position in a stored offset of Debezium's PostgreSQL connector.
pub fn stored_position(offset: &Map<String, Value>) -> Option<Lsn> {
    offset.get("lsn").and_then(Value::as_u64).map(Lsn)
}

/// Every connector with its configuration and its state.
const EXPANDED: &str = "/connectors?expand=info&expand=status";

/// What the worker's web server says of an address that it does not hand on to Connect. That of Kafka 4.0 and later takes no `/`, `\` or
/// `%` within a segment, however it is encoded (Jetty 12, `UriCompliance`; seen with Kafka 4.3.1).
fn refused_address(answer: &str) -> Option<String> {
    let title = answer.split_once("<title>Error 400 ")?.1.split_once("</title>")?.0;
    (title.starts_with("Ambiguous URI") || title.starts_with("Suspicious Path")).then(|| format!("`{title}`"))
}

impl Connect {
    /// Speaks to the workers of a configuration.
    pub fn of(config: &ConnectConfig) -> Connect {
        Connect {
            rest: Rest::new("connect", &config.url, &config.auth, config.ca_pem.as_deref()),
            url: config.url.clone(),
        }
    }

    /// Speaks, without credentials, to the worker at `url` (`http://host:port`), or to several, with commas between.
    pub fn new(url: &str) -> Connect {
        Connect::of(&ConnectConfig::plain(url, ""))
    }

    /// The workers' addresses.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `GET /`: version, commit and `kafka_cluster_id`.
    pub async fn root(&self) -> Result<Value, ClientError> {
        self.get("/").await
    }

    /// The names of all connectors, sorted.
    pub async fn connectors(&self) -> Result<Vec<String>, ClientError> {
        self.has_started().await?;
        let mut names: Vec<String> = self.get("/connectors").await?;
        names.sort();
        Ok(names)
    }

    /// Requires that the worker has read what is stored: one that starts answers before, and knows no connector then. Kafka 4.0 and later
    /// say so at `/health` (KIP-1017); an older worker, and one whose proxy does not let the question through, is taken at its word.
    async fn has_started(&self) -> Result<(), ClientError> {
        let answer = self.rest.send(&reqwest::Method::GET, "/health", |request| request).await?;
        let says = answer.text();
        match answer.status.as_u16() == 503 && says.contains("starting") {
            true => {
                Err(ClientError::unreachable("connect", &self.url, format!("the worker is starting: {}", says.trim())))
            }
            false => Ok(()),
        }
    }

    /// How many workers are known: addresses given, or workers that a connector or a task is or was assigned to. One that
    /// has neither is not told of by Connect.
    pub async fn workers(&self) -> Result<usize, ClientError> {
        let all: Map<String, Value> = self.get("/connectors?expand=status").await?;
        let assigned = all.values().flat_map(|one| {
            let tasks = one["status"]["tasks"].as_array().into_iter().flatten();
            tasks.chain([&one["status"]["connector"]]).filter_map(|part| part["worker_id"].as_str())
        });
        Ok(assigned.collect::<BTreeSet<_>>().len().max(self.url.split(',').count()))
    }

    /// A connector's configuration.
    pub async fn config(&self, name: &str) -> Result<ConnectorConfig, ClientError> {
        let asked = self.ask(reqwest::Method::GET, name, "/config", None).await;
        self.or_listed(name, &["info", "config"], asked).await
    }

    /// Whether the connector exists.
    pub async fn exists(&self, name: &str) -> Result<bool, ClientError> {
        Ok(self.connectors().await?.iter().any(|n| n == name))
    }

    /// A connector's state.
    pub async fn status(&self, name: &str) -> Result<ConnectorStatus, ClientError> {
        let asked = self.ask(reqwest::Method::GET, name, "/status", None).await;
        self.or_listed(name, &["status"], asked).await
    }

    /// Configuration and state of a connector that was listed; `None` when it has been deleted since.
    pub async fn described(&self, name: &str) -> Result<Option<(ConnectorConfig, ConnectorStatus)>, ClientError> {
        let what = format!("connector {name} to have a configuration and a state, or to be gone");
        wait::until(&what, asking::DESCRIBED, || async {
            let both = async { Ok::<_, ClientError>((self.config(name).await?, self.status(name).await?)) };
            match both.await {
                Ok(both) => Ok::<_, ClientError>(Poll::Ready(Some(both))),
                Err(e) if e.status() == Some(404) && !self.exists(name).await? => Ok(Poll::Ready(None)),
                Err(e) if e.status() == Some(404) => Ok(Poll::NotYet(e.to_string())),
                Err(e) => Err(e),
            }
        })
        .await
    }

    /// Creates or changes a connector.
    pub async fn put_config(&self, name: &str, config: &ConnectorConfig) -> Result<(), ClientError> {
        self.ask(reqwest::Method::PUT, name, "/config", Some(json!(config))).await.map(drop)
    }

    /// Creates a connector in the given state: `RUNNING`, `PAUSED` or `STOPPED` (KIP-980).
    pub async fn create(&self, name: &str, config: &ConnectorConfig, initial_state: &str) -> Result<(), ClientError> {
        let body = json!({"name": name, "config": config, "initial_state": initial_state});
        self.send(reqwest::Method::POST, "/connectors", Some(body)).await.map(drop)
    }

    /// Validates a configuration; the messages of what is wrong, `field: message`.
    pub async fn validate(&self, config: &ConnectorConfig) -> Result<Vec<String>, ClientError> {
        let class = config.get("connector.class").cloned().unwrap_or_default();
        let path =
            format!("/connector-plugins/{}/config/validate", encode(class.rsplit('.').next().unwrap_or_default()));
        let answer = self.send(reqwest::Method::PUT, &path, Some(json!(config))).await?;
        let mut wrong = Vec::new();
        for entry in answer["configs"].as_array().into_iter().flatten() {
            let name = entry["value"]["name"].as_str().unwrap_or_default();
            for error in entry["value"]["errors"].as_array().into_iter().flatten() {
                wrong.push(format!("{name}: {}", error.as_str().unwrap_or_default()));
            }
        }
        Ok(wrong)
    }

    /// Deletes a connector. Its offsets stay.
    pub async fn delete(&self, name: &str) -> Result<(), ClientError> {
        self.ask(reqwest::Method::DELETE, name, "", None).await.map(drop)
    }

    /// Asks the worker to stop the connector: its tasks are shut down. Returns at once; see [`Connect::stopped`].
    pub async fn stop(&self, name: &str) -> Result<(), ClientError> {
        self.ask(reqwest::Method::PUT, name, "/stop", None).await.map(drop)
    }

    /// Stops the connector and waits until it is `STOPPED` and has no tasks.
    pub async fn stopped(&self, name: &str, bound: impl Into<Bound>) -> Result<(), ClientError> {
        self.stop(name).await?;
        wait::until(&format!("connector {name} STOPPED without tasks"), bound, || async {
            let status = self.status(name).await?;
            if status.stands_still() {
                return Ok::<_, ClientError>(Poll::Ready(()));
            }
            Ok(Poll::NotYet(status.summary()))
        })
        .await
    }

    /// Waits until connectors of several workers that were stopped stay so: a rebalance may start a task of theirs once more.
    pub async fn settled(
        &self,
        names: impl Iterator<Item = &String>,
        bound: impl Into<Bound>,
    ) -> Result<(), ClientError> {
        let names: Vec<&String> = names.collect();
        let what = format!("connectors to stay STOPPED without tasks for {:?}", facts::STANDS_STILL);
        wait::until_steady(&what, facts::STANDS_STILL, bound, || async {
            let statuses = futures::future::try_join_all(names.iter().map(|name| self.status(name))).await?;
            Ok::<_, ClientError>(match statuses.iter().find(|s| !s.stands_still()) {
                None => Poll::Ready(()),
                Some(alive) => Poll::NotYet(format!("{}: {}", alive.name, alive.summary())),
            })
        })
        .await
    }

    /// Pauses the connector: tasks stay alive and keep their slot.
    pub async fn pause(&self, name: &str) -> Result<(), ClientError> {
        self.ask(reqwest::Method::PUT, name, "/pause", None).await.map(drop)
    }

    /// Pauses a connector and waits until it and its tasks are.
    pub async fn paused(&self, name: &str, bound: impl Into<Bound>) -> Result<(), ClientError> {
        self.pause(name).await?;
        wait::until(&format!("connector {name} PAUSED"), bound, || async {
            let status = self.status(name).await?;
            let paused = status.at_rest() == Some(AtRest::Paused) && status.tasks.iter().all(|t| t.state == "PAUSED");
            Ok::<_, ClientError>(if paused { Poll::Ready(()) } else { Poll::NotYet(status.summary()) })
        })
        .await
    }

    /// Starts a stopped or paused connector again. Returns at once.
    pub async fn resume(&self, name: &str) -> Result<(), ClientError> {
        self.ask(reqwest::Method::PUT, name, "/resume", None).await.map(drop)
    }

    /// Restarts the connector and all of its tasks.
    pub async fn restart(&self, name: &str) -> Result<(), ClientError> {
        let restart = "/restart?includeTasks=true&onlyFailed=false";
        self.ask(reqwest::Method::POST, name, restart, None).await.map(drop)
    }

    /// Waits until the connector and at least one task are RUNNING; a FAILED task ends the wait.
    pub async fn running(&self, name: &str, bound: impl Into<Bound>) -> Result<(), ClientError> {
        wait::until(&format!("connector {name} RUNNING"), bound, || async {
            let status = self.status(name).await?;
            if status.all_running() {
                return Ok::<_, ClientError>(Poll::Ready(()));
            }
            match status.failure() {
                Some(failure) => Ok(Poll::Hopeless(failure)),
                None => Ok(Poll::NotYet(status.summary())),
            }
        })
        .await
    }

    /// The stored offsets.
    pub async fn offsets(&self, name: &str) -> Result<Vec<StoredOffset>, ClientError> {
        let answer = self.ask(reqwest::Method::GET, name, "/offsets", None).await?;
        serde_json::from_value(answer["offsets"].clone()).map_err(|e| {
            ClientError::answer("connect", &self.url, format!("offsets of {name}"), "a list of offsets", e.to_string())
        })
    }

    /// Forgets the stored offsets; the connector must be stopped.
    pub async fn delete_offsets(&self, name: &str) -> Result<(), ClientError> {
        self.ask(reqwest::Method::DELETE, name, "/offsets", None).await.map(drop)
    }

    /// Sets stored offsets; the connector must be stopped. Values are taken unchecked.
    pub async fn patch_offsets(&self, name: &str, offsets: &[StoredOffset]) -> Result<(), ClientError> {
        self.ask(reqwest::Method::PATCH, name, "/offsets", Some(json!({ "offsets": offsets }))).await.map(drop)
    }

    /// The topics the connector has written to since its creation or last reset.
    pub async fn topics(&self, name: &str) -> Result<Vec<String>, ClientError> {
        let answer = self.ask(reqwest::Method::GET, name, "/topics", None).await?;
        let topics = answer[name]["topics"].as_array().into_iter().flatten();
        let mut topics: Vec<String> = topics.filter_map(|t| t.as_str().map(str::to_owned)).collect();
        topics.sort();
        Ok(topics)
    }

    /// Fails with [`ClientError::Unaddressable`] for a connector that can be listed and not be asked about: it can neither be stopped nor
    /// resumed, and its offsets and topics are not known. Whether there is such a connector does not matter.
    pub async fn addressable(&self, name: &str) -> Result<(), ClientError> {
        match self.ask(reqwest::Method::GET, name, "/status", None).await {
            Err(error) if error.status() == Some(404) => Ok(()),
            other => other.map(drop),
        }
    }

    /// What the list of all connectors says of one where its own address does not.
    async fn or_listed<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
        part: &[&str],
        asked: Result<Value, ClientError>,
    ) -> Result<T, ClientError> {
        let what = || format!("{} of connector {name}", part.last().unwrap_or(&""));
        let value = match asked {
            Err(ClientError::Unaddressable { .. }) => {
                let all: Map<String, Value> = self.get(EXPANDED).await?;
                let found = all.get(name).and_then(|one| part.iter().try_fold(one, |value, key| value.get(key)));
                found.cloned().ok_or_else(|| ClientError::Answer {
                    system: "connect",
                    address: self.url.clone(),
                    what: format!("GET {EXPANDED}"),
                    expected: what(),
                    found: "none".into(),
                    status: Some(404),
                    lasting: false,
                })?
            }
            other => other?,
        };
        serde_json::from_value(value)
            .map_err(|e| ClientError::answer("connect", &self.url, what(), "a known shape", e.to_string()))
    }

    /// Asks about a connector, or for something to be done with it.
    async fn ask(
        &self,
        method: reqwest::Method,
        name: &str,
        about: &str,
        body: Option<Value>,
    ) -> Result<Value, ClientError> {
        let asked = self.send(method, &format!("/connectors/{}{about}", encode(name)), body).await;
        let why = match &asked {
            Err(ClientError::Unaddressable { why, .. }) => Some(why.clone()),
            Err(ClientError::Answer { status: Some(400), found, .. }) => refused_address(found),
            _ => None,
        };
        match why {
            Some(why) => Err(ClientError::Unaddressable {
                system: "connect",
                address: self.url.clone(),
                what: format!("connector {name}"),
                why,
            }),
            None => asked,
        }
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let value = self.send(reqwest::Method::GET, path, None).await?;
        serde_json::from_value(value).map_err(|e| {
            ClientError::answer("connect", &self.url, format!("GET {path}"), "a known shape", e.to_string())
        })
    }

    /// Sends a request, and again while the worker answers 409, or 500, because it rebalances or has not yet read a change
    /// of configuration that another request made ("cannot complete request momentarily").
    async fn send(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Result<Value, ClientError> {
        let what = format!("{method} {path}");
        wait::until(&what, asking::REBALANCE, || async {
            match self.send_once(&method, path, body.as_ref()).await {
                Err(ClientError::Answer { status: Some(409 | 500), found, .. })
                    if found.to_lowercase().contains("rebalanc") || found.contains("momentarily") =>
                {
                    Ok::<_, ClientError>(Poll::NotYet(found))
                }
                other => Ok(Poll::Ready(other)),
            }
        })
        .await?
    }

    async fn send_once(
        &self,
        method: &reqwest::Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let with_body = |request: reqwest::RequestBuilder| match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = self.rest.send(method, path, with_body).await?;
        let (status, text) = (answer.status, answer.text());
        if !status.is_success() {
            let message =
                serde_json::from_str::<Value>(&text).ok().and_then(|v| v["message"].as_str().map(str::to_owned));
            return Err(ClientError::Answer {
                system: "connect",
                address: self.url.clone(),
                what: format!("{method} {path}"),
                expected: "success".into(),
                found: format!("{status}: {}", message.unwrap_or(text)),
                status: Some(status.as_u16()),
                lasting: false,
            });
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use cdc_model::units::Failure;

    /// A worker that says of every connector: STOPPED without tasks, then with a task that runs, then without again.
    #[tokio::test]
    async fn a_stopped_connector_that_comes_alive_again_is_waited_for() {
        const ALIVE: std::ops::Range<u32> = 2..12;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let worker = Connect::new(&format!("http://{}", listener.local_addr().unwrap()));
        let (last_alive, told) = tokio::sync::watch::channel(None);
        let served = tokio::spawn(async move {
            for request in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await.unwrap();
                let task = json!({"id": 0, "state": "RUNNING", "worker_id": "b:1"});
                let tasks = if ALIVE.contains(&request) { vec![task] } else { Vec::new() };
                if !tasks.is_empty() {
                    last_alive.send_replace(Some(Instant::now()));
                }
                let connector = json!({"state": "STOPPED", "worker_id": "a:1"});
                let body =
                    json!({"name": "shop", "connector": connector, "tasks": tasks, "type": "source"}).to_string();
                let answer =
                    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let names = ["shop".to_owned(), "extra".to_owned()];
        worker.settled(names.iter(), Duration::from_secs(60)).await.unwrap();
        let settled_after = told.borrow().expect("the task was seen").elapsed();
        assert!(settled_after >= facts::STANDS_STILL, "{settled_after:?}");
        served.abort();
    }

    /// A worker behind the web server of Kafka 4, with one connector whose name is refused in an address.
    #[tokio::test]
    async fn a_name_that_no_address_takes_is_read_from_the_list_and_named_where_that_is_not_enough() {
        const REFUSED: &str = "<html><head><title>Error 400 Ambiguous URI path separator</title></head></html>";
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let worker = Connect::new(&format!("http://{}", listener.local_addr().unwrap()));
        let served = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 4096];
                let read = stream.read(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                let (code, body) = match head.split(' ').nth(1).unwrap() {
                    path if path.contains("%2F") => ("400 Bad Request", REFUSED.to_owned()),
                    EXPANDED => {
                        let status = json!({"name": "odd/one", "type": "source", "tasks": [],
                            "connector": {"state": "RUNNING", "worker_id": "a:1"}});
                        let info = json!({"name": "odd/one", "config": {"slot.name": "odd"}});
                        ("200 OK", json!({"odd/one": {"info": info, "status": status}}).to_string())
                    }
                    path => ("404 Not Found", json!({"error_code": 404, "message": path}).to_string()),
                };
                let length = body.len();
                let answer = format!("HTTP/1.1 {code}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        assert_eq!(worker.config("odd/one").await.unwrap()["slot.name"], "odd");
        assert_eq!(worker.status("odd/one").await.unwrap().connector.state, "RUNNING");
        assert_eq!(worker.config("no/such").await.unwrap_err().status(), Some(404), "as any other that is not there");
        for refused in [worker.stop("odd/one").await, worker.offsets("odd/one").await.map(drop)] {
            let error = refused.unwrap_err();
            assert!(error.is_unaddressable() && !error.is_transient(), "{error:?}");
            let said = error.in_full();
            assert!(said.contains("connector odd/one") && said.contains("Ambiguous URI path separator"), "{said}");
            assert!(said.contains("hint: ") && !said.contains("<html>"), "{said}");
        }
        worker.addressable("plain").await.unwrap();
        assert!(worker.addressable("odd/one").await.unwrap_err().is_unaddressable());
        // These would be taken out of the address: `/connectors/../offsets` is a question about another thing.
        for dots in [".", ".."] {
            assert!(worker.offsets(dots).await.unwrap_err().is_unaddressable(), "{dots}");
        }
        served.abort();
    }

    #[test]
    fn an_offset_says_whether_its_snapshot_is_complete() {
        let of = |v: Value| snapshot_complete(v.as_object().unwrap());
        assert!(of(json!({"lsn": 1})));
        assert!(of(json!({"lsn": 1, "snapshot": "INITIAL", "snapshot_completed": true})));
        assert!(!of(json!({"lsn": 1, "snapshot": "INITIAL", "snapshot_completed": false})));
        assert!(!of(json!({"lsn": 1, "snapshot": true})));
    }
}
