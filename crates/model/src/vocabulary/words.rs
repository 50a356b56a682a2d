//! Enumerations of words: each word stands once, and is what files, messages and the command line have.

/// A text that is none of an enumeration's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {what} (expected {expected})")]
pub struct UnknownWord {
    /// The text.
    pub text: String,
    /// What it was to be: `part`.
    pub what: &'static str,
    /// The words there are, as a list for a person.
    pub expected: String,
}

impl UnknownWord {
    pub(super) fn new(text: &str, what: &'static str, words: &[&str]) -> UnknownWord {
        let expected = match words {
            [all @ .., last] if !all.is_empty() => format!("{} or {last}", all.join(", ")),
            other => other.concat(),
        };
        UnknownWord { text: text.to_owned(), what, expected }
    }
}

/// An enumeration of words: `ALL`, `word`, `Display`, `FromStr`, and serde and schemars by the same words.
macro_rules! words {
    (
        $(#[$meta:meta])*
        pub enum $name:ident: $what:literal {
            $($(#[$of:meta])* $variant:ident = $word:literal,)+
        }
    ) => {
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
        )]
        $(#[$meta])*
        pub enum $name {
            $($(#[$of])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// All of them, in order.
            pub const ALL: [$name; [$($word),+].len()] = [$($name::$variant),+];

            /// The word in files, in messages and on the command line.
            pub fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::vocabulary::UnknownWord;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let named = $name::ALL.into_iter().find(|one| one.word() == text);
                named.ok_or_else(|| $crate::vocabulary::UnknownWord::new(text, $what, &$name::ALL.map($name::word)))
            }
        }
    };
}

pub(super) use words;

#[cfg(test)]
mod tests {
    use crate::vocabulary::{BackupPart, OnConflict};

    #[test]
    fn a_word_reads_and_writes_the_same_everywhere() {
        for part in BackupPart::ALL {
            assert_eq!(part.to_string().parse(), Ok(part));
            assert_eq!(serde_json::to_value(part).unwrap(), part.word());
        }
    }

    #[test]
    fn another_word_is_told_the_words_there_are() {
        let error = "tables".parse::<BackupPart>().unwrap_err().to_string();
        assert_eq!(error, "`tables` is no part (expected postgres, connect, registry or topics)");
        let error = "no".parse::<OnConflict>().unwrap_err().to_string();
        assert_eq!(error, "`no` is no decision (expected reject or accept)");
    }
}
