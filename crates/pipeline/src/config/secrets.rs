//! Secrets come from files or the environment. One that is written into the configuration itself is refused.

use std::os::unix::fs::PermissionsExt;

use camino::{Utf8Path, Utf8PathBuf};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::Deserialize;

use super::ConfigError;
use cdc_model::units::{Secret, encode};

/// Who this program is to a REST interface: a name and a password, or a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestAuth {
    /// Basic authentication: the name.
    #[serde(default)]
    pub username: Option<String>,
    /// A file whose first line is the password.
    #[serde(default)]
    pub password_file: Option<Utf8PathBuf>,
    /// An environment variable that holds the password.
    #[serde(default)]
    pub password_env: Option<String>,
    /// A file whose first line is a bearer token.
    #[serde(default)]
    pub token_file: Option<Utf8PathBuf>,
    /// An environment variable that holds a bearer token.
    #[serde(default)]
    pub token_env: Option<String>,
    /// The password, once read.
    #[serde(skip)]
    pub password: Option<Secret>,
    /// The token, once read.
    #[serde(skip)]
    pub token: Option<Secret>,
}

impl RestAuth {
    /// Reads what the files and variables hold; `section` is `connect.auth`.
    pub(super) fn settle(&mut self, section: &str) -> Result<(), ConfigError> {
        let key = |name: &str| format!("[{section}] {name}");
        self.password = read(&key("password"), self.password_file.as_deref(), self.password_env.as_deref())?;
        self.token = read(&key("token"), self.token_file.as_deref(), self.token_env.as_deref())?;
        let wrong = |detail: &str| {
            Err(ConfigError::Secret { key: format!("[{section}]"), detail: detail.to_owned(), hint: None })
        };
        match (&self.username, &self.password, &self.token) {
            (None, None, _) | (Some(_), Some(_), None) => Ok(()),
            (_, _, Some(_)) => wrong("expected a username with a password, or a token, found both"),
            (Some(_), None, None) => wrong("expected password_file or password_env beside username"),
            (None, Some(_), None) => wrong("expected username beside the password"),
        }
    }
}

/// A secret from a file's first line or from the environment; `None` when neither is named.
pub(super) fn read(key: &str, file: Option<&Utf8Path>, variable: Option<&str>) -> Result<Option<Secret>, ConfigError> {
    let wrong = |detail: String| ConfigError::Secret { key: key.to_owned(), detail, hint: None };
    let text = match (file, variable) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(wrong("expected a file or a variable, found both".into())),
        (Some(file), None) => {
            let text = std::fs::read_to_string(file).map_err(|e| wrong(format!("read {file}: {e}")))?;
            text.lines().next().unwrap_or_default().to_owned()
        }
        (None, Some(name)) => {
            std::env::var(name).map_err(|_| wrong(format!("environment variable {name} is not set")))?
        }
    };
    if text.is_empty() {
        return Err(wrong("it is empty".into()));
    }
    Ok(Some(Secret::new(text)))
}

/// Requires certificates in a PEM file, and returns its content.
pub(super) fn certificates(key: &str, file: &Utf8Path) -> Result<Vec<u8>, ConfigError> {
    let wrong = |detail: String| ConfigError::Secret { key: key.to_owned(), detail, hint: None };
    let bytes = std::fs::read(file).map_err(|e| wrong(format!("read {file}: {e}")))?;
    let found: Result<Vec<CertificateDer<'_>>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(bytes),
        Ok(_) => Err(wrong(format!("{file}: expected certificates in PEM, found none"))),
        Err(e) => Err(wrong(format!("{file}: expected certificates in PEM: {e}"))),
    }
}

/// Refuses secrets in the text of a configuration. A password in `[postgres] url` is let through where only the file's
/// owner can read it and no pipeline of somebody else's is named: `stack up` writes it so.
pub(super) fn refuse_written(table: &toml::Table, file: &Utf8Path) -> Result<(), ConfigError> {
    let mut path = Vec::new();
    walk(table, &mut path)?;
    let text = |section: &str| table.get(section)?.get("url")?.as_str();
    for section in ["connect", "registry"] {
        if text(section).is_some_and(|urls| cdc_model::units::redact_url(urls).contains(":***@")) {
            return Err(written(format!("[{section}] url"), format!("[{section}.auth] password_file or password_env")));
        }
    }
    let meta = std::fs::metadata(file).map_err(|cause| ConfigError::Read { path: file.to_owned(), cause })?;
    let own = !table.contains_key("attach") && meta.permissions().mode() & 0o077 == 0;
    if !own && text("postgres").is_some_and(has_password) {
        let instead = "[postgres] password_file, password_env or passfile (and a file that only its owner can read)";
        return Err(written("[postgres] url".into(), instead.into()));
    }
    Ok(())
}

fn has_password(url: &str) -> bool {
    cdc_model::units::without_tls(url)
        .address
        .parse::<tokio_postgres::Config>()
        .is_ok_and(|c| c.get_password().is_some())
        || url.contains("password=")
}

fn walk(table: &toml::Table, path: &mut Vec<String>) -> Result<(), ConfigError> {
    for (key, value) in table {
        let lower = key.to_lowercase();
        if ["password", "token", "secret", "jaas_config"].iter().any(|word| lower.ends_with(word)) && !value.is_table()
        {
            let section = path.join(".");
            return Err(written(format!("[{section}] {key}"), format!("{key}_file or {key}_env")));
        }
        if let Some(inner) = value.as_table() {
            path.push(key.clone());
            walk(inner, path)?;
            path.pop();
        }
    }
    Ok(())
}

fn written(key: String, instead: String) -> ConfigError {
    ConfigError::Secret {
        key,
        detail: "expected no secret in the configuration itself, found one".to_owned(),
        hint: Some(format!("name where it is kept: {instead}").into()),
    }
}

/// An address of PostgreSQL with one parameter more.
pub(super) fn with_parameter(url: &Secret, name: &str, value: &str) -> Secret {
    let text = url.expose();
    if !text.contains("://") {
        let quoted = value.replace('\\', "\\\\").replace('\'', "\\'");
        return Secret::new(format!("{text} {name}='{quoted}'"));
    }
    let join = if text.contains('?') { '&' } else { '?' };
    Secret::new(format!("{text}{join}{name}={}", encode(value)))
}

/// The password in an address of PostgreSQL. One that is also the user's name is no secret, and a word of every message.
pub(super) fn password_of(url: &Secret) -> Option<String> {
    let address = cdc_model::units::without_tls(url.expose()).address.parse::<tokio_postgres::Config>().ok()?;
    let password = String::from_utf8_lossy(address.get_password()?).into_owned();
    (address.get_user() != Some(password.as_str())).then_some(password)
}

/// The password that a file in the form of `.pgpass` has for an address. As libpq does, it refuses a file that others can
/// read.
pub(super) fn from_passfile(url: &Secret, file: &Utf8Path) -> Result<Secret, ConfigError> {
    let wrong = |detail: String| ConfigError::Secret { key: "[postgres] passfile".into(), detail, hint: None };
    let meta = std::fs::metadata(file).map_err(|e| wrong(format!("read {file}: {e}")))?;
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(wrong(format!("{file}: expected a file that only its owner can read (0600)")));
    }
    let text = std::fs::read_to_string(file).map_err(|e| wrong(format!("read {file}: {e}")))?;
    let target = cdc_model::units::without_tls(url.expose()).address.parse::<tokio_postgres::Config>();
    let target = target.map_err(|_| wrong("[postgres] url is not an address".into()))?;
    let host = match target.get_hosts().first() {
        Some(tokio_postgres::config::Host::Tcp(name)) => name.clone(),
        _ => "localhost".to_owned(),
    };
    let port = target.get_ports().first().unwrap_or(&5432).to_string();
    let user = target.get_user().unwrap_or_default();
    let wanted = [host.as_str(), &port, target.get_dbname().unwrap_or(user), user];
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let fields = fields(line);
            let fits =
                fields.len() == 5 && fields.iter().zip(wanted).all(|(field, want)| field == "*" || field == want);
            fits.then(|| Secret::new(fields[4].clone()))
        })
        .ok_or_else(|| wrong(format!("{file}: expected a line for {}, found none", wanted.join(":"))))
}

/// A line's fields; `\:` and `\\` stand for the characters themselves.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        if c == ':' && fields.len() < 5 {
            fields.push(String::new());
        } else if let Some(last) = fields.last_mut() {
            last.extend(if c == '\\' { characters.next() } else { Some(c) });
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::Failure;
    use rstest::rstest;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, Utf8PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("file")).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[rstest]
    #[case("[kafka]\nsasl_password = 'hunter2'", "[kafka] sasl_password")]
    #[case("[connect.auth]\ntoken = 'hunter2'", "[connect.auth] token")]
    #[case("[registry]\nurl = 'http://me:hunter2@h'", "[registry] url")]
    #[case("[connect]\nurl = 'http://a,http://me:hunter2@h'", "[connect] url")]
    #[case("[connect]\nurl = 'http://me:hunter2,2@h'", "[connect] url")]
    #[case("[postgres]\nurl = 'postgres://me:hunter2@h/d'\n[attach]", "[postgres] url")]
    #[case("[postgres]\nurl = 'host=h password=hunter2'\n[attach]", "[postgres] url")]
    fn a_secret_in_the_text_is_refused_and_not_repeated(#[case] text: &str, #[case] key: &str) {
        let (_folder, path) = file(text, 0o600);
        let error = refuse_written(&toml::from_str(text).unwrap(), &path).unwrap_err();
        let said = error.in_full();
        assert!(said.starts_with(key) && said.contains("\nhint: ") && !said.contains("hunter2"), "{said}");
    }

    #[test]
    fn the_sandbox_may_hold_its_own_password_where_nobody_else_reads_it() {
        let text = "[postgres]\nurl = 'postgres://me:hunter2@h/d'";
        let table = toml::from_str(text).unwrap();
        let (_folder, path) = file(text, 0o600);
        refuse_written(&table, &path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(refuse_written(&table, &path).is_err());
    }

    #[test]
    fn a_passfile_answers_as_libpq_reads_it() {
        let text = "# comment\nother:*:*:*:no\nh:7:d:me:a\\:b\\\\c\n*:*:*:*:last\n";
        let (_folder, path) = file(text, 0o600);
        let of = |url: &str| from_passfile(&Secret::new(url), &path).map(|s| s.expose().to_owned());
        assert_eq!(of("postgres://me@h:7/d").unwrap(), "a:b\\c");
        assert_eq!(of("host=x user=me").unwrap(), "last");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(of("postgres://me@h:7/d").unwrap_err().to_string().contains("0600"));
    }

    #[test]
    fn a_rest_interface_is_told_one_thing_about_us() {
        let (_folder, path) = file("hunter2\n", 0o644);
        let mut auth =
            RestAuth { username: Some("me".into()), password_file: Some(path.clone()), ..RestAuth::default() };
        auth.settle("connect.auth").unwrap();
        assert_eq!(auth.password.as_ref().map(Secret::expose), Some("hunter2"));
        assert!(!format!("{auth:?}").contains("hunter2"));
        auth.token_file = Some(path);
        assert!(auth.settle("connect.auth").unwrap_err().to_string().contains("found both"));
        let mut nameless = RestAuth { token_env: Some("CDC_DRILL_NO_SUCH_VARIABLE".into()), ..RestAuth::default() };
        let error = nameless.settle("registry.auth").unwrap_err().to_string();
        assert_eq!(error, "[registry.auth] token: environment variable CDC_DRILL_NO_SUCH_VARIABLE is not set");
    }

    #[test]
    fn an_address_takes_one_parameter_more() {
        let add = |url: &str| with_parameter(&Secret::new(url), "password", "a'b&c").expose().to_owned();
        assert_eq!(add("postgres://u@h/d"), "postgres://u@h/d?password=a%27b%26c");
        assert_eq!(add("postgres://u@h/d?x=1"), "postgres://u@h/d?x=1&password=a%27b%26c");
        assert_eq!(add("host=h"), "host=h password='a\\'b&c'");
    }
}
