//! A scenario's connectors, on a drill's own servers and under its names.

use crate::{
    run::chronicle::Source,
    scenario::{ConnectorPlan, DrillPlan},
    stack::use_schema_resolver,
};
use cdc_model::{units::TableName, vocabulary::Placeholder};
use cdc_pipeline::{
    client::connect::ConnectorConfig,
    config::Config,
    debezium::{Choice, Lists},
};
use cdc_workload as workload;

/// The scenario's connectors, on this drill's cluster and under this drill's name.
pub(super) fn sources(plan: &DrillPlan, drill: &str, config: &Config) -> Vec<Source> {
    let connectors = &plan.pipeline.connectors;
    let captured = |table: &TableName| connectors.iter().any(|c| c.tables.contains(table));
    let source = |(at, connector): (usize, &ConnectorPlan)| {
        // A slot's name has no hyphens.
        let short = connector.name.as_deref().map(|name| name.replace('-', "_"));
        let name = short.as_ref().map_or_else(|| drill.to_owned(), |short| format!("{drill}_{short}"));
        // A scenario with its own SQL knows nothing of the tables that the drill needs for itself: the first connector has them.
        let mut own = match at == 0 && plan.workload.is_bracketed() {
            true => workload::sql::tables(),
            false => Vec::new(),
        };
        own.retain(|table| !captured(table));
        let mut markers = TableName::new("public", workload::sql::MARKERS);
        let has_markers = connector.tables.contains(&markers) || own.contains(&markers);
        // Only what a connector captures tells how far it has come: each of several needs markers of its own.
        if let (Some(short), false) = (&short, has_markers) {
            markers = TableName::new("public", format!("{}_{short}", workload::sql::MARKERS));
            own.push(markers.clone());
        }
        let mut settings = connector_config(plan, connector, &name, config);
        include(&mut settings, &own);
        let tables = connector.tables.iter().cloned().chain(own).collect();
        Source { name, config: settings, tables, markers }
    };
    connectors.iter().enumerate().map(source).collect()
}

/// A connector's settings with the drill's names and servers in them.
fn connector_config(plan: &DrillPlan, own: &ConnectorPlan, name: &str, config: &Config) -> ConnectorConfig {
    let url = cdc_pipeline::client::postgres::address(&config.postgres.url).ok();
    let host = url.as_ref().and_then(|u| u.get_hosts().first()).map(|h| match h {
        tokio_postgres::config::Host::Tcp(host) => host.clone(),
        tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
    });
    let port = url.as_ref().and_then(|u| u.get_ports().first()).map(ToString::to_string);
    let password = url.as_ref().and_then(|u| u.get_password()).map(|p| String::from_utf8_lossy(p).into_owned());
    let value = |placeholder| match placeholder {
        Placeholder::Name | Placeholder::Prefix | Placeholder::Slot | Placeholder::Publication => name.to_owned(),
        Placeholder::Host => host.clone().unwrap_or_default(),
        Placeholder::Port => port.clone().unwrap_or_default(),
        Placeholder::User => url.as_ref().and_then(|u| u.get_user()).unwrap_or_default().to_owned(),
        Placeholder::Password => password.clone().unwrap_or_default(),
        Placeholder::Database => url.as_ref().and_then(|u| u.get_dbname()).unwrap_or_default().to_owned(),
        Placeholder::Registry => config.registry.url.clone(),
        Placeholder::Bootstrap => config.kafka.bootstrap.clone(),
        Placeholder::Partitions => plan.pipeline.partitions.to_string(),
    };
    let values = Placeholder::ALL.map(|placeholder| (placeholder.braced(), value(placeholder)));
    let filled = |text: &String| values.iter().fold(text.clone(), |t, (braced, value)| t.replace(braced, value));
    let mut connector: ConnectorConfig = own.settings.iter().map(|(k, v)| (k.clone(), filled(v))).collect();
    // Whatever the file says: a drill's names and servers are its own.
    for own in Placeholder::ALL {
        if let Some(setting) = own.setting() {
            connector.insert(setting.to_owned(), value(own));
        }
    }
    use_schema_resolver(&mut connector, &config.connect);
    connector
}

/// Lets the connector capture the drill's own tables too, where its lists of tables and schemas would leave them out. What a list
/// that excludes leaves out stays out.
fn include(connector: &mut ConnectorConfig, own: &[TableName]) {
    for table in own {
        for (setting, name) in
            [("schema.include.list", table.schema.clone()), ("table.include.list", table.to_string())]
        {
            let alone: ConnectorConfig =
                connector.get_key_value(setting).into_iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            let taken = Lists::of(&alone).table(table) == Choice::Taken;
            if let (false, Some(list)) = (taken, connector.get_mut(setting)) {
                list.push_str(&format!(",{name}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drills_own_tables_join_the_lists_that_are_there() {
        let mut connector = ConnectorConfig::from_iter([
            ("table.include.list".to_owned(), r"clinic.visits, public\.markers".to_owned()),
            ("schema.include.list".to_owned(), "clinic".to_owned()),
        ]);
        include(&mut connector, &workload::sql::tables());
        assert_eq!(connector["table.include.list"], r"clinic.visits, public\.markers,public.drill_transactions");
        assert_eq!(connector["schema.include.list"], "clinic,public");
        let mut without = ConnectorConfig::new();
        include(&mut without, &workload::sql::tables());
        assert!(without.is_empty(), "a list that is not there captures everything: {without:?}");
    }
}
