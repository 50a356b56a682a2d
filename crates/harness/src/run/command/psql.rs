//! How `psql` and its like find a server.

use std::collections::BTreeMap;

use cdc_pipeline::config::Config;

/// The server's address and password for `psql` and its like, and where those are.
pub(crate) fn libpq(config: &Config) -> BTreeMap<&'static str, String> {
    let Ok(url) = config.postgres.url.expose().parse::<tokio_postgres::Config>() else { return BTreeMap::new() };
    let host = url.get_hosts().first().map(|h| match h {
        tokio_postgres::config::Host::Tcp(host) => host.clone(),
        tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
    });
    let password = url.get_password().map(|p| String::from_utf8_lossy(p).into_owned());
    let pairs = [
        ("PGHOST", host),
        ("PGPORT", url.get_ports().first().map(ToString::to_string)),
        ("PGUSER", url.get_user().map(str::to_owned)),
        ("PGPASSWORD", password),
        ("PGDATABASE", url.get_dbname().map(str::to_owned)),
    ];
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
    let path = ("PATH", Some(format!("{}:{path}", config.postgres.bin)));
    pairs.into_iter().chain([path]).filter_map(|(name, value)| Some((name, value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::Secret;

    #[test]
    fn psql_finds_the_server_by_its_environment() {
        let text = "[postgres]\nurl = 'postgres://me:s3cret@127.0.0.1:5433/shop'\npgdata = '/d'\nbin = '/b'\n\
                    [kafka]\nbootstrap = 'k:1'\n[connect]\nurl = 'http://c:1'\n[registry]\nurl = 'http://r:1'\nflavour = 'apicurio'\n\
                    [repository]\npath = '/r'\n";
        let mut config: Config = toml::from_str(text).unwrap();
        config.postgres.url = Secret::new(config.postgres.url.expose());
        let pairs = libpq(&config);
        assert_eq!(pairs["PGPORT"], "5433");
        assert_eq!((pairs["PGUSER"].as_str(), pairs["PGPASSWORD"].as_str()), ("me", "s3cret"));
        assert_eq!((pairs["PGHOST"].as_str(), pairs["PGDATABASE"].as_str()), ("127.0.0.1", "shop"));
    }
}
