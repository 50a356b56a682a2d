//! PostgreSQL's programs and the data folder that they are to work on: of one major version, and a start that goes no further than
//! the configuration.

use std::process::Stdio;

use camino::{Utf8Path, Utf8PathBuf};

use super::{Owner, fenced::place, layout::is_same};
use crate::recovery::RecoveryError;
use cdc_model::units::IfThere;
use cdc_pipeline::config::Tools;
use cdc_postgres::version::{Version, major_in};

/// What a recovery calls. They come from one folder, but somebody may have linked one of them elsewhere.
const USED: [&str; 3] = ["postgres", "pg_controldata", "pg_waldump"];

/// The major version that made a data folder, by its `PG_VERSION`; none where there is no such file.
pub(crate) fn major_of(data: &Utf8Path) -> Result<Option<u32>, RecoveryError> {
    let path = data.join("PG_VERSION");
    let text = std::fs::read_to_string(&path).if_there().map_err(|e| RecoveryError::io("read", &path, e))?;
    Ok(text.and_then(|text| text.trim().parse().ok()))
}

/// Requires that the programs are of this major version; others misread the folder and its WAL.
pub(crate) async fn refuse_other_version(tools: &Tools, major: u32) -> Result<(), RecoveryError> {
    let asked = futures::future::join_all(USED.iter().map(|program| version(tools, program))).await;
    for (program, found) in USED.iter().zip(asked) {
        let found = found?;
        if major_in(&found) != Some(major) {
            return Err(RecoveryError::impossible(
                tools.name(program),
                format!("the program of PostgreSQL {major}, the version of the data folder"),
                format!("`{found}`"),
                "name the folder of that version's programs in [postgres] bin",
            ));
        }
    }
    Ok(())
}

async fn version(tools: &Tools, program: &str) -> Result<String, RecoveryError> {
    let mut command = tokio::process::Command::from(tools.command(program, &[("LC_ALL", "C")]));
    let output = command.arg("--version").stdin(Stdio::null()).output().await;
    let output = output.map_err(|e| RecoveryError::Program { program: tools.name(program), detail: e.to_string() })?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let detail = format!("--version: {}: {said}", output.status);
            Err(RecoveryError::Program { program: tools.name(program), detail })
        }
    }
}

/// Lets the server read its configuration for a data folder, and its control file and preloaded libraries where it can, and end
/// before it starts. An error where it would not start, or on another folder.
pub(crate) async fn start_dry(
    tools: &Tools,
    owner: &Owner,
    data: &Utf8Path,
    config_file: Option<&Utf8Path>,
    major: u32,
) -> Result<(), RecoveryError> {
    let found = ask(tools, owner, data, config_file, "data_directory").await?;
    if !is_same(Utf8Path::new(&found), data) {
        return Err(RecoveryError::impossible(
            format!("start of PostgreSQL on {data}"),
            format!("data_directory = {data}"),
            format!("data_directory = {found}"),
            "something sets it that outranks the command line",
        ));
    }
    if Version::of_major(major).computes_settings() {
        ask(tools, owner, data, config_file, "shared_memory_size").await?;
    }
    Ok(())
}

/// The files for TLS that the configuration names within the data folder. What cannot be asked is told by the start.
pub(crate) async fn tls_files(
    tools: &Tools,
    owner: &Owner,
    data: &Utf8Path,
    config_file: Option<&Utf8Path>,
) -> Vec<Utf8PathBuf> {
    let settings = ["ssl_cert_file", "ssl_key_file", "ssl_ca_file", "ssl_crl_file"];
    let asked = settings.map(|setting| ask(tools, owner, data, config_file, setting));
    let named = futures::future::join_all(asked).await.into_iter().flatten();
    let within = named.map(Utf8PathBuf::from).filter(|file| !file.as_str().is_empty() && file.is_relative());
    within.filter(|file| !file.components().any(|c| c.as_str() == "..")).collect()
}

async fn ask(
    tools: &Tools,
    owner: &Owner,
    data: &Utf8Path,
    config_file: Option<&Utf8Path>,
    setting: &str,
) -> Result<String, RecoveryError> {
    // As the server itself, and not as this process: what is at stake is whether that account can read everything.
    let command = match tools.elsewhere() {
        true => tools.command("postgres", &[("LC_ALL", "C")]),
        false => {
            let mut command = owner.command(&tools.path("postgres"));
            command.env("LC_ALL", "C");
            command
        }
    };
    let mut command = tokio::process::Command::from(command);
    command.args(["-C", setting]).args(place(data, config_file)).stdin(Stdio::null());
    let output = command
        .output()
        .await
        .map_err(|e| RecoveryError::Program { program: tools.name("postgres"), detail: e.to_string() })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let configuration = config_file.map_or_else(|| "its own configuration".to_owned(), ToString::to_string);
    Err(RecoveryError::impossible(
        format!("start of PostgreSQL on {data} with {configuration}"),
        format!("`{} -C {setting}` to succeed", tools.name("postgres")),
        format!("{}: {}", output.status, said.join(" | ")),
        "the server would not start; mend its configuration, or name it in [postgres] config_file",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::Failure;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn one_program_of_another_version_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let bin = Utf8Path::from_path(folder.path()).unwrap();
        let program = |name: &str, version: u32| {
            let path = bin.join(name);
            std::fs::write(&path, format!("#!/bin/sh\necho '{name} (PostgreSQL) {version}.3'\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        USED.iter().for_each(|name| program(name, 18));
        let tools = Tools::here(bin);
        refuse_other_version(&tools, 18).await.unwrap();
        program("pg_waldump", 17);
        let error = refuse_other_version(&tools, 18).await.unwrap_err();
        assert_eq!(error.exit(), cdc_model::units::Exit::PlanImpossible);
        assert!(error.to_string().contains("pg_waldump (PostgreSQL) 17.3"), "{error}");
    }

    #[test]
    fn a_folder_without_a_version_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let data = Utf8Path::from_path(folder.path()).unwrap();
        assert_eq!(major_of(data).unwrap(), None);
        std::fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        assert_eq!(major_of(data).unwrap(), Some(15));
    }
}
