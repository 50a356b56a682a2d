//! What a connector's file leaves open for a drill to fill in.

use super::words::words;
use crate::units::nearest;

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

    /// The setting of a connector that it is for, where that is one of its own: whatever a file says there, a drill writes its own value.
    pub fn setting(self) -> Option<&'static str> {
        Some(match self {
            Placeholder::Name => "name",
            Placeholder::Prefix => "topic.prefix",
            Placeholder::Slot => "slot.name",
            Placeholder::Publication => "publication.name",
            Placeholder::Host => "database.hostname",
            Placeholder::Port => "database.port",
            Placeholder::User => "database.user",
            Placeholder::Password => "database.password",
            Placeholder::Database => "database.dbname",
            Placeholder::Registry | Placeholder::Bootstrap | Placeholder::Partitions => return None,
        })
    }

    /// The placeholder that was meant by a word in braces that is none, in the value of a setting: the one for that setting, else the
    /// one for the setting that the word is called after, else the one that is spelt most like it.
    pub fn meant(word: &str, setting: &str) -> Option<Placeholder> {
        let of = |wanted: &str| Placeholder::ALL.into_iter().find(|one| one.setting() == Some(wanted));
        of(setting)
            .or_else(|| of(word))
            .or_else(|| of(&format!("database.{word}")))
            .or_else(|| nearest(word, Placeholder::ALL.map(Placeholder::word))?.parse().ok())
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
    fn what_was_meant_is_the_setting_s_own_before_what_is_spelt_alike() {
        let meant = |word: &str, setting: &str| Placeholder::meant(word, setting).map(Placeholder::word);
        assert_eq!(meant("dbname", "database.dbname"), Some("database"));
        assert_eq!(meant("dbname", "heartbeat.action.query"), Some("database"), "spelt more like `name`");
        assert_eq!(meant("hostname", "custom.metric.tags"), Some("host"));
        assert_eq!(meant("topic.prefix", "custom.metric.tags"), Some("prefix"));
        assert_eq!(meant("sbname", "slot.name"), Some("slot"));
        assert_eq!(meant("partition", "topic.creation.default.partitions"), Some("partitions"));
        assert_eq!(meant("zzz", "custom.metric.tags"), None);
    }

    #[test]
    fn a_word_in_braces_that_no_drill_fills_in_is_found() {
        let unknown = |text: &'static str| Placeholder::unknown_in(text).collect::<Vec<_>>();
        assert_eq!(unknown("jdbc:{host}:{prt}/{data-base}"), ["prt", "data-base"]);
        for text in ["{registry}/apis", r"public\.\p{lower}+", "a{2,3}", "${env}", r#"{"a": 1}"#, "{", "{}", "{Name}"] {
            assert!(unknown(text).is_empty(), "{text}: {:?}", unknown(text));
        }
    }
}
