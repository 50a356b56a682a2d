//! Configuration files outside the data folder, which no base backup holds. The server reads them, which may run on another machine.

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};

use crate::backup::{BackupError, format::layout::OUTSIDE, writer::PointWriter};
use cdc_pipeline::client::{ClientError, postgres::Postgres};
use cdc_postgres::{
    configuration::{Kind, Syntax, Walk},
    sql::literal,
};

/// Saves what the server's configuration consists of and is not in its data folder. What the server does not give is logged, and
/// missing from the point.
pub(super) async fn capture(pg: &Postgres, writer: &mut PointWriter) -> Result<(), BackupError> {
    let setting = async |name: &str| {
        let shown = pg.text(&format!("select current_setting('{name}', true)")).await?;
        Ok::<_, ClientError>(Utf8PathBuf::from(shown.unwrap_or_default()))
    };
    let data = setting("data_directory").await?;
    let mut walk = Walk::from([
        (setting("config_file").await?, Syntax::Settings),
        (setting("hba_file").await?, Syntax::Access),
        (setting("ident_file").await?, Syntax::Access),
    ]);
    let unsaved = |path: &Utf8Path, why: &str| {
        tracing::warn!("configuration outside the data folder, {path}, is not in the recovery point: {why}");
    };
    while let Some(next) = walk.pop() {
        let path = &next.path;
        let literal = literal(path.as_str());
        if next.kind == Kind::Folder {
            match pg.texts(&format!("select pg_ls_dir({literal})")).await {
                Ok(rows) => walk.lists(&next, rows.iter().filter_map(|row| row.first()?.as_deref())),
                Err(error) => unsaved(path, &error.to_string()),
            }
            continue;
        }
        let sql = format!(
            "select case when (pg_stat_file({literal}, true)).size is not null \
             then encode(pg_read_binary_file({literal}), 'hex') end"
        );
        let bytes = match pg.text(&sql).await {
            Ok(Some(hex)) => unhex(&hex),
            Ok(None) if next.kind == Kind::FileIfThere => continue,
            Ok(None) => {
                unsaved(path, "there is no such file");
                continue;
            }
            Err(error) => {
                unsaved(path, &error.to_string());
                continue;
            }
        };
        walk.holds(&next, &bytes);
        if path.starts_with(&data) {
            continue;
        }
        match place(path) {
            Some(place) => writer.bytes(&place, &bytes)?,
            None => unsaved(path, "its path is not in its plainest form"),
        }
    }
    Ok(())
}

/// Where a point has a file; none for a path that would lead elsewhere.
fn place(path: &Utf8Path) -> Option<String> {
    let below = path.strip_prefix("/").ok()?;
    let is_plain = below.components().all(|component| matches!(component, Utf8Component::Normal(_)));
    (is_plain && !below.as_str().is_empty()).then(|| format!("{OUTSIDE}/{below}"))
}

fn unhex(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or_default();
    hex.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::hex;

    #[test]
    fn a_path_never_leads_out_of_the_point() {
        assert_eq!(place("/etc/pg/a.conf".into()).as_deref(), Some("pg/outside/etc/pg/a.conf"));
        for path in ["/etc/../../x", "etc/x", "/", ""] {
            assert_eq!(place(path.into()), None, "{path}");
        }
    }

    #[test]
    fn hexadecimal_is_read_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&bytes)), bytes);
    }
}
