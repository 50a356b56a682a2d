//! How the address of a bucket is written.

use camino::Utf8Path;

/// A place in a bucket: `s3://bucket/prefix`, or `s3+https://host:port/bucket/prefix` on a server of another provider. `s3+http` asks
/// without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketAddress {
    /// The server's URL; none for that of the environment (`AWS_ENDPOINT_URL`), or else of AWS.
    pub endpoint: Option<String>,
    /// The bucket.
    pub bucket: String,
    /// The key, or the beginning of keys; may be empty.
    pub key: String,
}

impl BucketAddress {
    /// Whether a path is the address of a bucket, well-formed or not.
    pub fn is_one(path: &Utf8Path) -> bool {
        ["s3://", "s3+http://", "s3+https://"].iter().any(|scheme| path.as_str().starts_with(scheme))
    }

    /// Reads an address; the error says what was expected.
    pub fn parse(path: &Utf8Path) -> Result<BucketAddress, String> {
        let expected = || {
            // Credentials come from the environment; what looks like some is not repeated.
            let found = if path.as_str().contains('@') { "one with @ in it" } else { path.as_str() };
            format!(
                "expected s3://BUCKET/PREFIX, s3+https://HOST:PORT/BUCKET/PREFIX or s3+http://HOST:PORT/BUCKET/PREFIX, found {found}"
            )
        };
        let (scheme, rest) = path.as_str().split_once("://").ok_or_else(expected)?;
        let (endpoint, rest) = match scheme {
            "s3" => (None, rest),
            "s3+http" | "s3+https" => {
                let (host, rest) = rest.split_once('/').ok_or_else(expected)?;
                if host.is_empty() || host.contains('@') {
                    return Err(expected());
                }
                (Some(format!("{}://{host}", &scheme["s3+".len()..])), rest)
            }
            _ => return Err(expected()),
        };
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let key = key.trim_end_matches('/');
        let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        let is_name = |bucket: &str| bucket.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        match is_plain(bucket) && is_name(bucket) && (key.is_empty() || key.split('/').all(is_plain)) {
            true => Ok(BucketAddress { endpoint, bucket: bucket.to_owned(), key: key.to_owned() }),
            false => Err(expected()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("s3://b", None, "b", "")]
    #[case("s3://b/", None, "b", "")]
    #[case("s3://b/a/c", None, "b", "a/c")]
    #[case("s3+http://127.0.0.1:8333/b/a", Some("http://127.0.0.1:8333"), "b", "a")]
    #[case("s3+https://s3.example.com/b", Some("https://s3.example.com"), "b", "")]
    fn an_address_names_server_bucket_and_key(
        #[case] address: &str,
        #[case] endpoint: Option<&str>,
        #[case] bucket: &str,
        #[case] key: &str,
    ) {
        let expected = BucketAddress { endpoint: endpoint.map(str::to_owned), bucket: bucket.into(), key: key.into() };
        assert!(BucketAddress::is_one(address.into()));
        assert_eq!(BucketAddress::parse(address.into()), Ok(expected));
    }

    #[rstest]
    #[case("s3://")]
    #[case("s3:///a")]
    #[case("s3://b//a")]
    #[case("s3://b/../a")]
    #[case("s3://u:p@b/a")]
    #[case("s3+http://b")]
    #[case("s3+http://u:p@h/b")]
    fn other_text_is_refused(#[case] address: &str) {
        assert!(BucketAddress::is_one(address.into()));
        let said = BucketAddress::parse(address.into()).unwrap_err();
        assert!(said.contains("expected s3://BUCKET/PREFIX") && !said.contains("u:p"), "{said}");
    }

    #[test]
    fn a_folder_is_no_address() {
        for path in ["/s3://x", "s3", "s3:/b/a", "./s3://b"] {
            assert!(!BucketAddress::is_one(path.into()), "{path}");
        }
    }
}
