//! Calls the configuration's control commands.

use super::{FaultError, Target};
use cdc_pipeline::config::Verb;

/// Stops or starts a server by its control command, within the time that the configuration gives it.
pub(super) async fn order(
    fault: &'static str,
    target: &Target,
    server: &'static str,
    verb: Verb,
) -> Result<(), FaultError> {
    let unfit = |expected: &str, found: String| {
        let hint = "see [control.<server>] in the configuration";
        FaultError::unfit(fault, format!("server {server}"), expected, found, hint)
    };
    let hook = target.config.control.get(server).ok_or_else(|| unfit("a control command", "none".into()))?;
    let called = hook.expect(server, verb).await;
    called.map(drop).map_err(|error| unfit("success of its command", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_pipeline::config::{Config, recorded};

    fn target(control: &str) -> Target {
        let text = format!(
            "[postgres]\nurl='postgres://u@h/d'\n[kafka]\nbootstrap='h:1'\n[connect]\nurl='http://h'\n\
             [registry]\nurl='http://h'\nflavour='apicurio'\n[repository]\npath='/r'\n{control}"
        );
        let config: Config = toml::from_str(&text).unwrap();
        Target {
            config,
            connector: "c".into(),
            prefix: "c".into(),
            slot: cdc_model::units::SlotName::new("c"),
            tables: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_command_has_the_time_that_the_configuration_gives_it_and_is_recorded() {
        let slow = target("[control.registry]\nstart='true'\nstop='sleep 30'\nrunning='true'\ntimeout={stop='200ms'}");
        let (outcome, calls) = recorded(order("lose", &slow, "registry", Verb::Stop)).await;
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("[control.registry] stop: did not return within 200ms"), "{error}");
        assert_eq!(calls.iter().map(|call| call.hook.as_str()).collect::<Vec<_>>(), ["[control.registry] stop"]);
        order("lose", &slow, "registry", Verb::Start).await.unwrap();
        let none = order("lose", &target(""), "registry", Verb::Stop).await.unwrap_err().to_string();
        assert!(none.contains("expected a control command, found none"), "{none}");
    }
}
