//! Topics in which brokers, workers and registries keep their state: no command empties them.

use cdc_pipeline::{
    config::{Config, RegistryStorage},
    debezium::TopicNames,
};

/// How a topic is known to be no data topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// By the configuration, or by a name that only brokers and registries give.
    Known,
    /// By a name as workers give it (`connect-configs`), with which the prefix of a connector may begin too.
    NamedLikeAWorkers,
}

/// Whether a topic is protected, and how that is known; `None` for a topic that may hold data.
pub fn protection(config: &Config, topic: &str) -> Option<Protection> {
    let of_registry = match &config.registry.storage {
        Some(RegistryStorage::Kafkasql { topics }) => topics.iter().any(|t| t == topic),
        Some(RegistryStorage::H2 { .. }) | None => false,
    };
    let known = of_registry
        || topic == config.connect.offsets_topic
        || topic.starts_with("__")
        || topic.starts_with("kafkasql-")
        || topic == "_schemas";
    match known {
        true => Some(Protection::Known),
        false => topic.starts_with("connect-").then_some(Protection::NamedLikeAWorkers),
    }
}

/// Whether a topic is protected where these connectors write to topics of these names.
pub fn is_protected(config: &Config, topic: &str, connectors: &[TopicNames]) -> bool {
    match protection(config, topic) {
        None => false,
        Some(Protection::Known) => true,
        Some(Protection::NamedLikeAWorkers) => !connectors.iter().any(|names| topic.starts_with(&names.start())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn config() -> Config {
        let text = "[postgres]\nurl='postgres://h/d'\n[kafka]\nbootstrap='h:1'\n\
                    [connect]\nurl='http://h'\noffsets_topic='workers-offsets'\n\
                    [registry]\nurl='http://h'\nflavour='apicurio'\nstorage={ kafkasql={ topics=['registry-journal'] } }\n\
                    [repository]\npath='/r'\n";
        toml::from_str(text).unwrap()
    }

    #[rstest]
    #[case::of_the_configured_worker("workers-offsets", "shop", ".", true)]
    #[case::of_the_configured_registry("registry-journal", "shop", ".", true)]
    #[case::of_a_registry("kafkasql-journal", "shop", ".", true)]
    #[case::of_another_registry("_schemas", "shop", ".", true)]
    #[case::of_the_broker("__consumer_offsets", "shop", ".", true)]
    #[case::of_the_broker_whatever_a_prefix_is("__consumer_offsets", "__consumer", "_", true)]
    #[case::configurations("connect-configs", "shop", ".", true)]
    #[case::status("connect-status", "shop", ".", true)]
    #[case::of_a_connector_named_so("connect-shop.public.a", "connect-shop", ".", false)]
    #[case::of_another_delimiter("connect-shop_public_a", "connect-shop", "_", false)]
    #[case::data("shop.public.a", "shop", ".", false)]
    fn what_servers_keep_is_protected_and_data_is_not(
        #[case] topic: &str,
        #[case] prefix: &str,
        #[case] delimiter: &str,
        #[case] expected: bool,
    ) {
        let names = TopicNames { prefix: prefix.into(), delimiter: delimiter.into() };
        assert_eq!(is_protected(&config(), topic, &[names]), expected);
    }
}
