//! HTTP as the REST interfaces share it: several addresses of one service, credentials, an authority of one's own.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::{Either, select};
use reqwest::{
    Certificate, Client, ClientBuilder, Method, RequestBuilder, StatusCode,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
    redirect,
};

use super::{
    ClientError,
    limits::{Bound, asking},
    wait,
};
use crate::config::RestAuth;
use cdc_model::units::redact_url;

/// An answer with all of its body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The body as text; bytes that are no UTF-8 are replaced.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Why there is no answer.
enum Unanswered {
    /// The transport failed.
    Transport(reqwest::Error),
    /// Nothing came for so long.
    Silent(Duration),
}

/// One service at one or more addresses.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    system: &'static str,
    /// Why there is no client is told when it is needed: making one asks nobody.
    http: Result<Client, String>,
    bases: Arc<[String]>,
    /// The address that answered last.
    good: Arc<AtomicUsize>,
    /// How long nothing may come before a request that does not delete is sent once more.
    usual: Option<Bound>,
}

impl Rest {
    /// `urls` has commas between several addresses; `authority` is PEM, trusted beside the system's own.
    pub(super) fn new(system: &'static str, urls: &str, auth: &RestAuth, authority: Option<&[u8]>) -> Rest {
        let bases = urls.split(',').map(|u| u.trim().trim_end_matches('/').to_owned()).filter(|u| !u.is_empty());
        let bases: Arc<[String]> = bases.collect();
        let plain = authority.is_none() && bases.iter().all(|base| base.starts_with("http:"));
        let http = client(plain, auth, authority).map_err(|e| e.to_string());
        Rest { system, http, bases, good: Arc::default(), usual: None }
    }

    /// For a service whose requests mean the same when they are said twice, but for those that delete.
    pub(super) fn asking_again(self, usual: impl Into<Bound>) -> Rest {
        Rest { usual: Some(usual.into()), ..self }
    }

    /// The same service for a request that must be sent once.
    pub(super) fn once(&self) -> Rest {
        Rest { usual: None, ..self.clone() }
    }

    /// Sends a request. An address that does not take the connection hands on to the next one; a request that may have been
    /// taken is not sent twice, unless the service is one that may be asked again.
    pub(super) async fn send(
        &self,
        method: &Method,
        path: &str,
        complete: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Answer, ClientError> {
        let all = self.bases.join(",");
        // However they are encoded, such segments are taken out of an address before it is sent: another question would be asked.
        if path.split(['?', '#']).next().is_some_and(|path| path.split('/').any(|part| matches!(part, "." | ".."))) {
            return Err(ClientError::Unaddressable {
                system: self.system,
                address: redact_url(&all),
                what: format!("{method} {path}"),
                why: "a segment of dots".into(),
            });
        }
        let http = self.http.as_ref().map_err(|why| ClientError::unreachable(self.system, &all, why))?;
        let first = self.good.load(Ordering::Relaxed);
        let mut last = ClientError::unreachable(self.system, &all, "no address is configured");
        for turn in 0..self.bases.len() {
            let at = (first + turn) % self.bases.len();
            let base = &self.bases[at];
            let request = || complete(http.request(method.clone(), format!("{base}{path}")));
            match self.answered(base, method, path, request).await {
                Ok(answer) => {
                    self.good.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(Unanswered::Transport(e)) if e.is_connect() => last = ClientError::silent(self.system, base, e),
                Err(Unanswered::Transport(e)) => return Err(ClientError::silent(self.system, base, e)),
                Err(Unanswered::Silent(time)) => {
                    let detail = format!("{method} {path}: nothing came for {:.1} s", time.as_secs_f64());
                    return Err(ClientError::unreachable(self.system, base, detail));
                }
            }
        }
        Err(last)
    }

    async fn answered(
        &self,
        base: &str,
        method: &Method,
        path: &str,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<Answer, Unanswered> {
        let heard = Heard::default();
        let first = std::pin::pin!(complete(request(), &heard));
        let Some(usual) = self.usual.filter(|_| *method != Method::DELETE) else {
            // Whoever waits in front of it learns for whom, long before the limit.
            return match select(first, std::pin::pin!(heard.nothing_for(asking::NOTABLE_SILENCE))).await {
                Either::Left((answered, _)) => answered,
                Either::Right(((), first)) => {
                    tracing::warn!("{} at {base}: no answer to {method} {path} yet; waiting for it", self.system);
                    first.await
                }
            };
        };
        let first = match select(first, std::pin::pin!(heard.nothing_for(usual))).await {
            Either::Left((answered, _)) => return answered,
            Either::Right(((), first)) => first,
        };
        tracing::warn!(
            system = self.system,
            "{method} {path}: nothing came for a while; it is sent once more beside it"
        );
        let again = Heard::default();
        let second = std::pin::pin!(complete(request(), &again));
        match select(first, second).await {
            Either::Left((Ok(answer), _)) | Either::Right((Ok(answer), _)) => Ok(answer),
            Either::Left((Err(_), second)) => second.await,
            Either::Right((Err(_), first)) => first.await,
        }
    }
}

/// When a part of an answer came last, or was first waited for.
struct Heard(Mutex<Instant>);

impl Default for Heard {
    fn default() -> Heard {
        Heard(Mutex::new(Instant::now()))
    }
}

impl Heard {
    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn since(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Ends when nothing has come for so long.
    async fn nothing_for(&self, silence: impl Into<Bound>) {
        let silence = silence.into();
        loop {
            match silence.now().checked_sub(self.since()) {
                Some(left) if !left.is_zero() => wait::pause_for(left).await,
                _ => return,
            }
        }
    }
}

/// Sends a request and reads its answer to the end. A long answer may take as long as it goes on coming.
async fn complete(request: RequestBuilder, heard: &Heard) -> Result<Answer, Unanswered> {
    let whole = async {
        let mut response = request.send().await?;
        let (status, mut body) = (response.status(), Vec::new());
        heard.now();
        while let Some(part) = response.chunk().await? {
            body.extend_from_slice(&part);
            heard.now();
        }
        Ok(Answer { status, body })
    };
    match select(std::pin::pin!(whole), std::pin::pin!(heard.nothing_for(asking::ANSWER))).await {
        Either::Left((answered, _)) => answered.map_err(Unanswered::Transport),
        Either::Right(((), _)) => Err(Unanswered::Silent(heard.since())),
    }
}

fn client(
    plain: bool,
    auth: &RestAuth,
    authority: Option<&[u8]>,
) -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
    let mut builder = Client::builder();
    if plain {
        builder = without_authorities(builder);
    }
    if let Some(value) = authorization(auth) {
        let mut value = HeaderValue::from_str(&value).map_err(|_| "the credentials hold a control character")?;
        value.set_sensitive(true);
        builder = builder.default_headers(HeaderMap::from_iter([(AUTHORIZATION, value)]));
    }
    if let Some(pem) = authority {
        builder = builder.tls_certs_merge(Certificate::from_pem_bundle(pem)?);
    }
    Ok(builder.build()?)
}

/// For services that are reached by plain HTTP only: the system's authorities are hundreds of files, and reading them takes
/// longer than most requests. A redirection to where they would be needed says so instead of failing for want of them.
fn without_authorities(builder: ClientBuilder) -> ClientBuilder {
    let plain = redirect::Policy::custom(|attempt| match attempt.url().scheme() {
        "http" => redirect::Policy::default().redirect(attempt),
        _ => {
            let why = format!("redirected to {}; expected an answer at the http address configured", attempt.url());
            attempt.error(why)
        }
    });
    builder.tls_certs_only([]).redirect(plain)
}

fn authorization(auth: &RestAuth) -> Option<String> {
    use base64::Engine;
    match (&auth.username, &auth.password, &auth.token) {
        (_, _, Some(token)) => Some(format!("Bearer {}", token.expose())),
        (Some(name), Some(password), None) => {
            let pair = format!("{name}:{}", password.expose());
            Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        client::{connect::Connect, wait::Poll},
        config::ConnectConfig,
    };
    use cdc_model::units::Secret;

    /// A loopback interface that lets in whoever brings the header, and no other.
    async fn guarded(header: &'static str) -> (String, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let let_in = String::from_utf8_lossy(&head).lines().any(|l| l.eq_ignore_ascii_case(header));
                let (status, body) = if let_in { ("200 OK", "[\"a\"]") } else { ("401 Unauthorized", "{}") };
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (url, served)
    }

    /// What was traced.
    #[derive(Clone, Default)]
    struct Traced(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Traced {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_worker_that_takes_connections_and_is_silent_is_named_while_it_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let traced = Traced::default();
        let writer = traced.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let connect = with(&url, RestAuth::default());
        let line = format!("connect at {url}: no answer to GET");
        let named = wait::until(&line, Duration::from_secs(50), || async {
            let text = String::from_utf8_lossy(&traced.0.lock().unwrap()).into_owned();
            Ok::<_, ClientError>(if text.contains(&line) { Poll::Ready(()) } else { Poll::NotYet(text) })
        });
        match select(std::pin::pin!(connect.connectors()), std::pin::pin!(named)).await {
            Either::Left((answer, _)) => panic!("it ended first: {answer:?}"),
            Either::Right((named, _)) => named.unwrap(),
        }
    }

    fn with(url: &str, auth: RestAuth) -> Connect {
        Connect::of(&ConnectConfig { auth, ..ConnectConfig::plain(url, "") })
    }

    #[tokio::test]
    async fn credentials_let_in_and_are_never_shown() {
        let basic =
            RestAuth { username: Some("me".into()), password: Some(Secret::new("hunter2")), ..RestAuth::default() };
        let (url, served) = guarded("authorization: Basic bWU6aHVudGVyMg==").await;
        let connect = with(&url, basic);
        assert_eq!(connect.connectors().await.unwrap(), ["a"]);
        assert!(!format!("{connect:?}").contains("bWU6aHVudGVyMg"), "{connect:?}");
        let stranger = Connect::new(&url).connectors().await.unwrap_err();
        assert_eq!(stranger.status(), Some(401));
        served.abort();

        let (url, served) = guarded("authorization: Bearer hunter3").await;
        let token = RestAuth { token: Some(Secret::new("hunter3")), ..RestAuth::default() };
        assert_eq!(with(&url, token).connectors().await.unwrap(), ["a"]);
        let wrong = RestAuth { token: Some(Secret::new("hunter4")), ..RestAuth::default() };
        let error = with(&url, wrong).connectors().await.unwrap_err();
        assert!(error.status() == Some(401) && !error.to_string().contains("hunter4"), "{error}");
        served.abort();
    }

    #[tokio::test]
    async fn a_dead_worker_hands_on_to_the_next() {
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = format!("http://{}", dead.local_addr().unwrap());
        drop(dead);
        let (url, served) = guarded("accept: */*").await;
        let connect = Connect::new(&format!("{nobody}, {url}/"));
        assert_eq!(connect.connectors().await.unwrap(), ["a"]);
        assert_eq!(connect.connectors().await.unwrap(), ["a"]);
        served.abort();
        let error = Connect::new(&nobody).connectors().await.unwrap_err().to_string();
        assert!(error.contains("does not answer"), "{error}");
    }

    #[tokio::test]
    async fn a_redirection_to_where_authorities_are_needed_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await.unwrap();
            let answer = b"HTTP/1.1 301 Moved\r\nlocation: https://127.0.0.1:1/there\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        });
        let rest = Rest::new("registry", &url, &RestAuth::default(), None);
        let error = rest.send(&Method::GET, "/mode", |r| r).await.unwrap_err().to_string();
        assert!(error.contains("redirected to https://127.0.0.1:1/there"), "{error}");
        served.await.unwrap();
    }

    /// A service that takes the first request and never answers it, and answers the second.
    async fn forgetful() -> (String, tokio::task::JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let (mut unanswered, _) = listener.accept().await.unwrap();
            let (mut answered, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            let _ = answered.read(&mut head).await.unwrap();
            answered.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            unanswered.read(&mut head).await.unwrap()
        });
        (url, served)
    }

    #[tokio::test]
    async fn a_request_that_is_never_answered_is_sent_again_unless_it_deletes() {
        let short = Duration::from_millis(50);
        let asking = |url: &str| Rest::new("registry", url, &RestAuth::default(), None).asking_again(short);
        let (url, served) = forgetful().await;
        let answer = asking(&url).send(&Method::GET, "/mode", |r| r).await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(served.await.unwrap() > 0, "the first request arrived");

        let (url, served) = forgetful().await;
        let rest = asking(&url);
        let deleted = rest.send(&Method::DELETE, "/subjects/s", |r| r);
        assert!(tokio::time::timeout(6 * short, deleted).await.is_err(), "said once, waited for");
        served.abort();
    }

    #[tokio::test]
    async fn an_answer_that_comes_late_counts_although_it_was_asked_for_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let mut head = [0; 4096];
            let (mut first, _) = listener.accept().await.unwrap();
            let _ = first.read(&mut head).await.unwrap();
            let (_second, _) = listener.accept().await.unwrap();
            first.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate").await.unwrap();
            let _ = first.read(&mut head).await;
        });
        let short = Duration::from_millis(50);
        let rest = Rest::new("registry", &url, &RestAuth::default(), None).asking_again(short);
        let asked = rest.send(&Method::GET, "/mode", |r| r);
        let answer = tokio::time::timeout(Duration::from_secs(20), asked).await.unwrap().unwrap();
        assert_eq!(answer.text(), "late");
        drop(rest);
        served.abort();
    }

    /// A service that sends the head of its first answer and never the body, and answers the second request.
    async fn headless() -> (String, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let mut head = [0; 4096];
            let (mut unanswered, _) = listener.accept().await.unwrap();
            let _ = unanswered.read(&mut head).await.unwrap();
            unanswered.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await.unwrap();
            let (mut answered, _) = listener.accept().await.unwrap();
            let _ = answered.read(&mut head).await.unwrap();
            answered.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody").await.unwrap();
        });
        (url, served)
    }

    #[tokio::test]
    async fn an_answer_whose_body_never_comes_is_asked_for_again() {
        let short = Duration::from_millis(50);
        let (url, served) = headless().await;
        let rest = Rest::new("registry", &url, &RestAuth::default(), None).asking_again(short);
        let answer = rest.send(&Method::GET, "/mode", |r| r).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "body"));
        served.await.unwrap();

        let (url, served) = headless().await;
        let once = Rest::new("registry", &url, &RestAuth::default(), None).asking_again(short).once();
        let import = once.send(&Method::POST, "/import", |r| r);
        assert!(tokio::time::timeout(6 * short, import).await.is_err(), "sent once, waited for");
        served.abort();
    }
}
