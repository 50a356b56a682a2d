//! What people do who have no recovery.

/// Procedures, each with its description and its word, as two enumerations: the engine's, and that of a scenario, which can bring a
/// command instead.
macro_rules! procedures {
    ($($(#[$of:meta])* $variant:ident = $word:literal,)+) => {
        super::words::words! {
            /// What people do who have no recovery.
            pub enum Naive: "naive procedure" {
                $($(#[$of])* $variant = $word,)+
            }
        }

        /// What people do who have no recovery.
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[schemars(rename = "Naive")]
        pub enum Instead<C> {
            $($(#[$of])* #[serde(rename = $word)] $variant,)+
            /// A command of the scenario's own.
            #[serde(rename = "exec")]
            Exec(C),
        }

        impl<C> Instead<C> {
            /// The procedure, where it is no command.
            pub fn procedure(&self) -> Option<Naive> {
                match self {
                    $(Instead::$variant => Some(Naive::$variant),)+
                    Instead::Exec(_) => None,
                }
            }

            /// Its word in files: the procedure's, or `exec`.
            pub fn word(&self) -> &'static str {
                self.procedure().map_or("exec", Naive::word)
            }
        }
    };
}

procedures! {
    /// The slot is created again by hand, under its old name, and the connector resumes with its old offsets.
    SlotByHand = "slot-by-hand",
    /// The server reads broken pages as empty (`zero_damaged_pages`), and the connector takes a new snapshot.
    ZeroDamagedPages = "zero-damaged-pages",
    /// A new slot and a new snapshot into the old topics.
    ResnapshotWithoutPurge = "resnapshot-without-purge",
    /// The schemas are registered again, in the order in which somebody finds them.
    ReRegister = "re-register",
    /// The global compatibility level is set to NONE, and stays there.
    LowerLevelGlobally = "lower-level-globally",
    /// Everything is restarted.
    RestartOnly = "restart-only",
    /// A byte of the topic archive changes, and the archive is replayed all the same.
    DamagedArchive = "damaged-archive",
}
