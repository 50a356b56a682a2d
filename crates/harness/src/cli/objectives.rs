//! `--max-rto` and `--max-rpo`: what a command demands of a recovery's time.

use cdc_pipeline::config::{ObjectivesConfig, Span};

/// The flags.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(super) struct MaxTimes {
    /// Exit with 12 when a recovery takes longer than this, and with 13 when that was not measured: `15m`
    #[arg(long, value_name = "DURATION")]
    pub(super) max_rto: Option<Span>,
    /// Exit with 12 when more than this time of changes is lost, and with 13 when that was not measured: `1h`
    #[arg(long, value_name = "DURATION")]
    pub(super) max_rpo: Option<Span>,
}

impl MaxTimes {
    /// Flags go before the configuration.
    pub(super) fn or(self, configured: ObjectivesConfig) -> ObjectivesConfig {
        ObjectivesConfig { rto: self.max_rto.or(configured.rto), rpo: self.max_rpo.or(configured.rpo) }
    }
}
