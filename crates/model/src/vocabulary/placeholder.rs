//! What a connector's file leaves open for a drill to fill in.

use super::words::words;

words! {
    /// A word in braces in the settings of a scenario's connector, in whose place each drill puts what it has itself.
    pub enum Placeholder: "placeholder" {
        /// The connector's name.
        Name = "name",
        /// The topics' prefix.
        Prefix = "prefix",
        /// The replication slot.
        Slot = "slot",
        /// The publication.
        Publication = "publication",
        /// The server's host.
        Host = "host",
        /// The server's port.
        Port = "port",
        /// The user.
        User = "user",
        /// The user's password.
        Password = "password",
        /// The database.
        Database = "database",
        /// The registry's address.
        Registry = "registry",
        /// The broker's address.
        Bootstrap = "bootstrap",
        /// How many partitions a topic has.
        Partitions = "partitions",
    }
}

impl Placeholder {
    /// The placeholder as a file has it: `{slot}`.
    pub fn braced(self) -> String {
        format!("{{{self}}}")
    }

    /// The words in braces of a text that are no placeholder. What stands behind `\p`, `\P` or `$` is an expression's, or a
    /// worker's own, and so is what is no lower-case word.
    pub fn unknown_in(text: &str) -> impl Iterator<Item = &str> {
        text.match_indices('{').filter_map(|(at, _)| {
            let (word, _) = text[at + 1..].split_once('}')?;
            let before = &text[..at];
            let others = ["\\p", "\\P", "$"].iter().any(|sign| before.ends_with(sign));
            let is_word = word.starts_with(|c: char| c.is_ascii_lowercase())
                && word.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '-' | '_' | '.'));
            (!others && is_word && word.parse::<Placeholder>().is_err()).then_some(word)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_in_braces_that_no_drill_fills_in_is_found() {
        let unknown = |text: &'static str| Placeholder::unknown_in(text).collect::<Vec<_>>();
        assert_eq!(unknown("jdbc:{host}:{prt}/{data-base}"), ["prt", "data-base"]);
        for text in ["{registry}/apis", r"public\.\p{lower}+", "a{2,3}", "${env}", r#"{"a": 1}"#, "{", "{}", "{Name}"] {
            assert!(unknown(text).is_empty(), "{text}: {:?}", unknown(text));
        }
    }
}
