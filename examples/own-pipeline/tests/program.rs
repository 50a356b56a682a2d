//! The `cdc-drill` program, which a drill needs beside the library: PostgreSQL calls it to archive WAL, and each server
//! runs under it, so that none outlives the test.

use std::{path::PathBuf, process::Command};

/// Sees to it that the library finds the program, and says where it is.
///
/// It looks where `CDC_DRILL_BIN` points, else beside the test's executable or one folder above, which is where cargo
/// puts it; but cargo does not build the programs of a dependency. So without the variable they are built here, which
/// takes a second when they have been already.
///
/// # Errors
///
/// What cargo says when it cannot build the program, or that `CDC_DRILL_BIN` names no file.
pub fn ensure() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os("CDC_DRILL_BIN") {
        let path = PathBuf::from(named);
        return match path.is_file() {
            true => Ok(path),
            false => Err(format!("CDC_DRILL_BIN: expected a file, found none at {}", path.display())),
        };
    }
    let own = std::env::current_exe().map_err(|e| format!("the test's own executable: {e}"))?;
    // `<target>/<profile>/deps/<test>`.
    let profile = own.ancestors().nth(2).ok_or_else(|| format!("{} is not in a target folder", own.display()))?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--package", "cdc-drill", "--bin", "cdc-drill"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if let Some(target) = profile.parent() {
        build.arg("--target-dir").arg(target);
    }
    if profile.ends_with("release") {
        build.arg("--release");
    }
    let built = build.output().map_err(|e| format!("run cargo: {e}"))?;
    match built.status.success() {
        true => Ok(profile.join("cdc-drill")),
        false => Err(format!("cargo build of cdc-drill: {}", String::from_utf8_lossy(&built.stderr))),
    }
}
