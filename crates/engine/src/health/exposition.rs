//! Metrics as a file in Prometheus's text format, for the node exporter's textfile collector.

use std::{collections::BTreeMap, io::Write, os::unix::fs::PermissionsExt};

use camino::{Utf8Path, Utf8PathBuf};
use prometheus::{Encoder, GaugeVec, Opts, Registry, TextEncoder};

use super::metrics::Sample;
use cdc_model::units::{Exit, Failure, Hint};

/// The exporter runs under another account, and nothing in the file is secret.
const FILE_MODE: u32 = 0o644;

/// Metrics that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("write metrics to {path}: {detail}")]
pub struct ExpositionError {
    /// The file.
    pub path: Utf8PathBuf,
    /// Why.
    pub detail: String,
}

impl Failure for ExpositionError {
    fn exit(&self) -> Exit {
        Exit::Internal
    }

    fn hints(&self) -> Vec<Hint> {
        vec!["the folder must be there, and this account must be able to write to it".into()]
    }

    fn is_transient(&self) -> bool {
        true
    }
}

/// Writes metrics into a file that is there as a whole or as it was.
pub fn write_metrics(path: &Utf8Path, samples: &[Sample]) -> Result<(), ExpositionError> {
    let failed = |detail: String| ExpositionError { path: path.to_owned(), detail };
    let bytes = text(samples).map_err(|error| failed(error.to_string()))?;
    let folder = path.parent().filter(|parent| !parent.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
    let io = |error: std::io::Error| failed(error.to_string());
    // The collector reads `*.prom`: what is half written has another name.
    let mut file = tempfile::Builder::new().prefix(".cdc-drill-").suffix(".tmp").tempfile_in(folder).map_err(io)?;
    file.write_all(&bytes).map_err(io)?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(FILE_MODE)).map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    Ok(())
}

fn text(samples: &[Sample]) -> Result<Vec<u8>, prometheus::Error> {
    let registry = Registry::default();
    let mut families: BTreeMap<&str, GaugeVec> = BTreeMap::new();
    for sample in samples {
        let metric = sample.metric;
        let labels: Vec<&str> = metric.labels.iter().copied().chain(["pipeline"]).collect();
        if !families.contains_key(metric.name) {
            let family = GaugeVec::new(Opts::new(metric.name, metric.help), &labels)?;
            registry.register(Box::new(family.clone()))?;
            families.insert(metric.name, family);
        }
        let values = labels.iter().map(|label| sample.labels.get(label).map_or("", String::as_str)).collect::<Vec<_>>();
        if let Some(family) = families.get(metric.name) {
            family.get_metric_with_label_values(&values)?.set(sample.value);
        }
    }
    let mut bytes = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::METRICS;

    fn sample(name: &str, labels: &[(&'static str, &str)], value: f64) -> Sample {
        let metric = METRICS.into_iter().find(|metric| metric.name == name).unwrap();
        Sample { metric, labels: labels.iter().map(|(label, value)| (*label, (*value).to_owned())).collect(), value }
    }

    #[test]
    fn the_file_is_text_that_others_may_read_and_replaces_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join("orders.prom");
        let up = |value| sample("cdc_drill_system_up", &[("pipeline", "or\"ders"), ("system", "kafka")], value);
        write_metrics(&path, &[up(0.0)]).unwrap();
        let written = sample("cdc_drill_status_timestamp_seconds", &[("pipeline", "or\"ders")], 1_795_000_000.25);
        write_metrics(&path, &[written, up(1.0)]).unwrap();
        let expected = "# HELP cdc_drill_status_timestamp_seconds When these metrics were written. Always there.\n\
            # TYPE cdc_drill_status_timestamp_seconds gauge\n\
            cdc_drill_status_timestamp_seconds{pipeline=\"or\\\"ders\"} 1795000000.25\n\
            # HELP cdc_drill_system_up Whether a system answers. Always there.\n\
            # TYPE cdc_drill_system_up gauge\n\
            cdc_drill_system_up{pipeline=\"or\\\"ders\",system=\"kafka\"} 1\n";
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        let error = write_metrics(Utf8Path::new("/nowhere/at/all.prom"), &[]).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all.prom"), "{error}");
    }
}
