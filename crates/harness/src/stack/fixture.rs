//! The pinned stack as it is compiled into the library, so that it also works from another crate.

use sha2::{Digest, Sha256};

use super::StackError;
use cdc_model::units::hex;

/// The Maven project: path below its folder, and text.
pub(super) const MAVEN: [(&str, &str); 5] = [
    ("pom.xml", include_str!("../../../../fixtures/stack/maven/pom.xml")),
    ("kafka/pom.xml", include_str!("../../../../fixtures/stack/maven/kafka/pom.xml")),
    ("converter/pom.xml", include_str!("../../../../fixtures/stack/maven/converter/pom.xml")),
    ("archives/pom.xml", include_str!("../../../../fixtures/stack/maven/archives/pom.xml")),
    ("file-connector/pom.xml", include_str!("../../../../fixtures/stack/maven/file-connector/pom.xml")),
];
/// The wheels with their hashes.
pub(super) const REQUIREMENTS: &str = include_str!("../../../../fixtures/stack/requirements.txt");
/// The sum of every file that is fetched.
pub(super) const SHA256SUMS: &str = include_str!("../../../../fixtures/stack/SHA256SUMS");
/// The schema resolver: path below its source folder, and text.
pub(super) const RESOLVER: (&str, &str) = (
    "cdc/drill/CachingSchemaResolver.java",
    include_str!("../../../../fixtures/stack/java/cdc/drill/CachingSchemaResolver.java"),
);
/// The class that is compiled from it.
pub(super) const RESOLVER_CLASS: &str = "cdc.drill.CachingSchemaResolver";
/// PostgreSQL's settings, appended to those of `initdb`.
pub(super) const POSTGRES: &str = include_str!("../../../../fixtures/stack/config/postgresql.conf");
/// The broker's settings.
pub(super) const KAFKA: &str = include_str!("../../../../fixtures/stack/config/kafka.properties");
/// The Connect worker's settings.
pub(super) const CONNECT: &str = include_str!("../../../../fixtures/stack/config/connect.properties");
/// Logging of broker and worker.
pub(super) const LOG4J: &str = include_str!("../../../../fixtures/stack/config/log4j2.properties");

/// Short name of this set of pins: a different set never shares a cache folder with it.
pub(super) fn digest() -> String {
    digest_with(&[])
}

/// The same with what is made of the fetched files.
pub(super) fn digest_with(more: &[&str]) -> String {
    let mut sha = Sha256::new();
    for (path, text) in MAVEN {
        sha.update(path);
        sha.update(text);
    }
    sha.update(REQUIREMENTS);
    sha.update(SHA256SUMS);
    for word in more {
        sha.update(word);
        sha.update([0]);
    }
    hex(&sha.finalize())[..12].to_owned()
}

/// Fills `@name@` in a template. A name without a value, or a value without a place, is a defect and refused.
pub(super) fn render(template: &str, values: &[(&str, &str)]) -> Result<String, StackError> {
    let mut text = template.to_owned();
    for (name, value) in values {
        let place = format!("@{name}@");
        if !text.contains(&place) {
            return Err(wrong(&place, "a place for it in the template", "none"));
        }
        text = text.replace(&place, value);
    }
    match template
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(places)
        .find(|p| !values.iter().any(|(n, _)| n == p))
    {
        Some(left) => Err(wrong(&format!("@{left}@"), "a value for it", "none")),
        None => Ok(text),
    }
}

fn wrong(what: &str, expected: &str, found: &str) -> StackError {
    StackError::Setting { what: format!("template {what}"), expected: expected.to_owned(), found: found.to_owned() }
}

fn places(line: &str) -> Vec<&str> {
    let parts: Vec<&str> = line.split('@').collect();
    let is_name = |p: &&str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if parts.len() < 3 { Vec::new() } else { parts[1..parts.len() - 1].iter().copied().filter(is_name).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled() {
        assert_eq!(render("a=1@h:@port@\nb=@x_y@", &[("port", "7"), ("x_y", "z")]).unwrap(), "a=1@h:7\nb=z");
    }

    #[test]
    fn a_missing_value_and_a_missing_place_are_refused() {
        assert!(render("a=@port@", &[]).unwrap_err().to_string().contains("@port@"));
        assert!(render("a=1", &[("port", "7")]).unwrap_err().to_string().contains("@port@"));
    }

    #[test]
    fn the_file_connector_is_of_the_worker_s_version() {
        let version = |file: &str| {
            let found = SHA256SUMS.lines().filter_map(|line| line.split_once(file)?.1.strip_suffix(".jar"));
            found.collect::<Vec<_>>()
        };
        assert_eq!(version("  file-connector/connect-file-"), version("  kafka/connect-runtime-"));
        assert_eq!(version("  kafka/connect-runtime-").len(), 1);
    }

    #[test]
    fn every_pinned_file_has_a_sum() {
        for line in SHA256SUMS.lines() {
            let (sum, file) = line.split_once("  ").unwrap();
            assert_eq!(sum.len(), 64, "{file}");
        }
    }
}
