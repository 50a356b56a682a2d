//! `[recovery.operator]`: the hooks that keep an operator from undoing a recovery.

use serde::Deserialize;

use super::{HookError, Span, hook};
use cdc_model::event::HookCall;

/// Where something else than a person looks after connectors and topics, it starts those again that a recovery stops, and makes those again that it
/// deletes. These commands bracket a recovery; both are run by `sh -c`, and may be called several times.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorConfig {
    /// Keeps the operator away. Called before anything is stopped, and again by each command that goes on with the recovery.
    pub hold: String,
    /// Lets it back. Called when every step has ended, and when the recovery is taken back.
    pub release: String,
    /// How long each of them may take.
    #[serde(default = "two_minutes")]
    pub timeout: Span,
}

fn two_minutes() -> Span {
    Span::of_seconds(120)
}

/// What a recovery stops and changes, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Concerned {
    /// The connectors.
    pub connectors: Vec<String>,
    /// The topics.
    pub topics: Vec<String>,
}

impl OperatorConfig {
    /// Keeps the operator away from these, and requires exit status 0.
    pub async fn hold(&self, concerned: &Concerned) -> Result<HookCall, HookError> {
        self.call("hold", &self.hold, concerned).await
    }

    /// Lets it back to them, and requires exit status 0.
    pub async fn release(&self, concerned: &Concerned) -> Result<HookCall, HookError> {
        self.call("release", &self.release, concerned).await
    }

    /// The names come a line each: a connector's may have a space.
    async fn call(&self, verb: &str, command: &str, concerned: &Concerned) -> Result<HookCall, HookError> {
        let names = [
            ("CDC_DRILL_CONNECTORS", concerned.connectors.join("\n")),
            ("CDC_DRILL_TOPICS", concerned.topics.join("\n")),
        ];
        let what = format!("[recovery.operator] {verb}");
        hook::succeeded(hook::run(&what, command, &names, None, self.timeout.duration()).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<OperatorConfig, toml::de::Error> {
        toml::from_str(text)
    }

    #[tokio::test]
    async fn both_are_given_the_names_a_line_each() {
        let both = r#"echo "$CDC_DRILL_CONNECTORS" | tr '\n' ,; echo "$CDC_DRILL_TOPICS" | tr '\n' ,"#;
        let operator = OperatorConfig { hold: both.into(), release: format!("{both}; exit 3"), timeout: two_minutes() };
        let concerned =
            Concerned { connectors: vec!["a b".into(), "c".into()], topics: vec!["shop.orders".into(), "x".into()] };
        let call = operator.hold(&concerned).await.unwrap();
        assert_eq!((call.hook.as_str(), call.said[0].as_str()), ("[recovery.operator] hold", "a b,c,shop.orders,x,"));
        let error = operator.release(&concerned).await.unwrap_err().to_string();
        assert_eq!(error, "[recovery.operator] release: exit status 3: a b,c,shop.orders,x,");
    }

    #[test]
    fn one_of_them_alone_is_no_bracket() {
        assert!(of("hold = 'true'").is_err() && of("release = 'true'").is_err());
        let operator = of("hold = 'true'\nrelease = 'true'\ntimeout = '5m'").unwrap();
        assert_eq!((operator.timeout.seconds(), two_minutes().seconds()), (300, 120));
        assert!(of("hold = 'true'\nrelease = 'true'\nreleased = ''").is_err());
    }
}
