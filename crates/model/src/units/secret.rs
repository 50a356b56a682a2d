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
    let parts =
        |at: &usize| ["http://", "https://"].iter().any(|scheme| url[at + 1..].trim_start().starts_with(scheme));
    match url.match_indices(',').map(|(at, _)| at).find(parts) {
        Some(at) => format!("{},{}", redact_url(&url[..at]), redact_url(&url[at + 1..])),
        // Parameters first: the `@` of a password among them would pass for the end of a user's.
        None => redact_authority(&redact_values(url)),
    }
}

fn redact_values(text: &str) -> String {
    let Some(at) = text.find("password=").map(|at| at + "password=".len()) else { return text.to_owned() };
    let value = &text[at..];
    let end = match value.strip_prefix('\'') {
        Some(quoted) => quoted.replace("\\'", "__").find('\'').map_or(value.len(), |end| end + 2),
        None => value.find(['&', ' ']).unwrap_or(value.len()),
    };
    format!("{}***{}", &text[..at], redact_values(&value[end..]))
}

fn redact_authority(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = match scheme.ends_with("postgres") || scheme.ends_with("postgresql") {
        true => end_of_postgres_credentials(rest),
        false => end_of_credentials(rest),
    };
    let Some(at) = end else { return url.to_owned() };
    match rest[..at].split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:***{}", &rest[at..]),
        None => url.to_owned(),
    }
}

/// Where the credentials of a PostgreSQL address end. tokio-postgres takes everything before the first `@` for them,
/// slashes and question marks included; a password with an `@` of its own goes on to the last one before the parameters.
fn end_of_postgres_credentials(rest: &str) -> Option<usize> {
    let first = rest.find('@')?;
    let behind = &rest[first + 1..];
    let parameters = behind.match_indices('?').map(|(at, _)| at).find(|at| is_parameter(&behind[at + 1..]));
    let last = behind[..parameters.unwrap_or(behind.len())].rfind('@');
    Some(last.map_or(first, |last| first + 1 + last))
}

/// Whether a text begins with `name=`.
fn is_parameter(text: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    text.split_once('=').is_some_and(|(name, _)| is_name(name))
}

/// Where the credentials of any other address end: at the last `@` before its path. An `@` in the path ends none, but where
/// what stands for the port is no number: then an unescaped `/` or `?` belongs to the password.
fn end_of_credentials(rest: &str) -> Option<usize> {
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let name_ends = authority.rfind(']').unwrap_or(0);
    let port = authority[name_ends..].split_once(':').map_or("", |(_, port)| port);
    match authority.rfind('@') {
        None if !port.bytes().all(|b| b.is_ascii_digit()) => rest.rfind('@'),
        at => at,
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
        for (address, shown) in [
            ("postgres://u:p@h:1/db", "postgres://u:***@h:1/db"),
            ("postgres://u:p@ss@h:1/db", "postgres://u:***@h:1/db"),
            ("postgres://u@h/db", "postgres://u@h/db"),
            ("postgres://h:1/db", "postgres://h:1/db"),
            // What the client takes for a password, though it should have been escaped.
            ("postgres://u:ab/cd@h/d", "postgres://u:***@h/d"),
            ("postgresql://u:ab/cd@h/d", "postgresql://u:***@h/d"),
            ("postgres://u:a?b@h/d", "postgres://u:***@h/d"),
            ("postgres://u:a#b@h/d", "postgres://u:***@h/d"),
            ("postgres://u:a/b@c/d@h/d?x=1", "postgres://u:***@h/d?x=1"),
            ("postgres://u:a@b?c@h/d", "postgres://u:***@h/d"),
            ("postgres://u:a:b@h/d", "postgres://u:***@h/d"),
            ("postgres://u:,p@h/d", "postgres://u:***@h/d"),
            ("postgres://u:p,https@h/d", "postgres://u:***@h/d"),
            ("postgres://u:a%2Fb%40c@h/d", "postgres://u:***@h/d"),
            ("postgres://u%40corp:p@h/d", "postgres://u%40corp:***@h/d"),
            ("postgres://u:p@h1:1,h2:2/d", "postgres://u:***@h1:1,h2:2/d"),
            ("postgres://u:a/b@[::1]:1,[fe80::1]:2/d", "postgres://u:***@[::1]:1,[fe80::1]:2/d"),
            ("postgres://u@[::1]:1/d", "postgres://u@[::1]:1/d"),
            ("postgres://u:p@%2Frun%2Fpg/d", "postgres://u:***@%2Frun%2Fpg/d"),
        ] {
            assert_eq!(redact_url(address), shown);
        }
    }

    #[test]
    fn parameters_lose_only_their_passwords() {
        for (address, shown) in [
            ("postgres://u@h/d?password=p&x=1", "postgres://u@h/d?password=***&x=1"),
            ("postgres://h:1/d?user=u&password=p@ss&x=1", "postgres://h:1/d?user=u&password=***&x=1"),
            ("postgres://u@h/d?sslpassword=p&password=q", "postgres://u@h/d?sslpassword=***&password=***"),
            ("postgres://u@h/d?application_name=a@b", "postgres://u@h/d?application_name=a@b"),
            ("postgres://u:p@h/d?application_name=a:b@c", "postgres://u:***@h/d?application_name=a:b@c"),
            ("postgres://u:a/b@h?application_name=a@b", "postgres://u:***@h?application_name=a@b"),
            ("host=h password='p \\' q' x=1", "host=h password=*** x=1"),
            ("host=h password=p sslpassword=q", "host=h password=*** sslpassword=***"),
        ] {
            assert_eq!(redact_url(address), shown);
        }
    }

    #[test]
    fn a_path_of_http_stays_readable() {
        for (address, shown) in [
            ("http://h:1/a:b@c", "http://h:1/a:b@c"),
            ("http://h/a:b@c", "http://h/a:b@c"),
            ("http://h:1?at=a:b@c", "http://h:1?at=a:b@c"),
            ("http://[::1]:8081/a@b", "http://[::1]:8081/a@b"),
            ("http://[::1]/a:b@c", "http://[::1]/a:b@c"),
            ("http://u:p@h:1/a:b@c", "http://u:***@h:1/a:b@c"),
            ("https://u:p@[::1]:1/a@b", "https://u:***@[::1]:1/a@b"),
            ("http://u:ab/cd@h/d", "http://u:***@h/d"),
            ("http://a,http://u:p,q@b", "http://a,http://u:***@b"),
            ("http://u:p@a/x@y, https://v:q@b", "http://u:***@a/x@y, https://v:***@b"),
        ] {
            assert_eq!(redact_url(address), shown);
        }
    }
}
