//! Values that must never be printed.

use std::fmt;

/// A secret text: `Debug` and `Serialize` show `***`; [`Secret::expose`] is the one way to read it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Takes the value out of sight.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value itself, for the one place that hands it to a server.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str("***")
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(Secret)
    }
}

/// Replaces the password of an address by `***`: between `user:` and `@host` of each of several URLs with commas between,
/// and as the value of `password=`.
pub fn redact_url(url: &str) -> String {
    // A comma may belong to a password: only one before a further scheme parts two addresses.
    let next = url.match_indices(',').map(|(at, _)| at);
    match next.into_iter().find(|at| url[at + 1..].trim_start().starts_with("http")) {
        Some(at) => format!("{},{}", redact_url(&url[..at]), redact_url(&url[at + 1..])),
        None => redact_value(&redact_authority(url)),
    }
}

fn redact_value(text: &str) -> String {
    let Some(at) = text.find("password=").map(|at| at + "password=".len()) else { return text.to_owned() };
    let value = &text[at..];
    let end = match value.strip_prefix('\'') {
        Some(quoted) => quoted.replace("\\'", "__").find('\'').map_or(value.len(), |end| end + 2),
        None => value.find(['&', ' ']).unwrap_or(value.len()),
    };
    format!("{}***{}", &text[..at], &value[end..])
}

fn redact_authority(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let Some(at) = rest[..authority_end].rfind('@') else { return url.to_owned() };
    match rest[..at].split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:***{}", &rest[at..]),
        None => url.to_owned(),
    }
}

/// Whether a connector's setting is one whose value must not be shown.
pub fn is_secret_setting(key: &str) -> bool {
    let key = key.to_lowercase();
    ["password", "secret", "token", "jaas", "credential", "user.info", "private.key", "keystore.key"]
        .iter()
        .any(|part| key.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_as_stars() {
        let s = Secret::new("hunter2");
        assert_eq!(format!("{s:?}"), "***");
        assert_eq!(serde_json::to_string(&s).unwrap(), "\"***\"");
        assert_eq!(s.expose(), "hunter2");
    }

    #[test]
    fn a_url_loses_only_its_password() {
        assert_eq!(redact_url("postgres://u:p@h:1/db"), "postgres://u:***@h:1/db");
        assert_eq!(redact_url("postgres://u:p@ss@h:1/db"), "postgres://u:***@h:1/db");
        assert_eq!(redact_url("postgres://u@h/db"), "postgres://u@h/db");
        assert_eq!(redact_url("http://h:1/a:b@c"), "http://h:1/a:b@c");
        assert_eq!(redact_url("http://a,http://u:p,q@b"), "http://a,http://u:***@b");
        assert_eq!(redact_url("postgres://u@h/d?password=p&x=1"), "postgres://u@h/d?password=***&x=1");
        assert_eq!(redact_url("host=h password='p \\' q' x=1"), "host=h password=*** x=1");
    }
}
