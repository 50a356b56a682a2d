//! A detached signature of the evidence, by somebody's own command, and looking at it later.

use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use super::{error::ProveError, evidence::Evidence};
use cdc_engine::backup::{EVIDENCE, Point, PointSelector, Proof, Repository};
use cdc_model::units::{Exit, counted};

/// The signature beside the evidence.
pub(super) const SIGNATURE: &str = "evidence.json.sig";
/// What `ssh-keygen -Y` signs for: a signature of a file of another kind is none of this.
pub(super) const NAMESPACE: &str = "cdc-drill";

/// Who says whether a signature is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureBy {
    /// Nobody: only hashes are compared.
    Nobody,
    /// A program and its arguments, with `{file}` and `{signature}`.
    Command(Vec<String>),
    /// `ssh-keygen -Y verify`, with a file of allowed signers and the identity that must have signed.
    Ssh {
        /// The file, as ssh-keygen(1) describes it.
        allowed_signers: Utf8PathBuf,
        /// The identity.
        identity: String,
    },
}

/// Which evidence to look at.
#[derive(Clone, Debug)]
pub struct VerifyRequest {
    /// The repository.
    pub repository: Utf8PathBuf,
    /// The point.
    pub point: PointSelector,
    /// The proof; the newest of the point when absent.
    pub proof: Option<String>,
    /// Who looks at the signature.
    pub signature: SignatureBy,
}

/// What a look at evidence found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EvidenceReport {
    /// The point.
    pub point: String,
    /// The proof.
    pub proof: String,
    /// The verdict that the evidence has.
    pub verdict: String,
    /// How many files of the point were hashed and compared.
    pub files: u64,
    /// What is another one than the evidence or the history says, or is not there.
    pub differences: Vec<String>,
    /// `good`, `bad`, `none` or `not looked at`.
    pub signature: String,
    /// What the program said that looked at it; null where none did.
    pub signature_said: Option<String>,
    /// The exit code.
    pub exit_code: u8,
}

/// The words of a command with the files' names in them.
fn words(command: &[String], file: &Utf8Path, signature: &Utf8Path) -> Vec<String> {
    let put = |word: &String| word.replace("{file}", file.as_str()).replace("{signature}", signature.as_str());
    command.iter().map(put).collect()
}

/// Runs a command to its end; what it said, and whether it ended with 0.
fn run(words: &[String], input: Option<&[u8]>) -> Result<(bool, String), String> {
    let Some((program, arguments)) = words.split_first() else { return Err("expected a command, found none".into()) };
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut command = Command::new(program);
    command.args(arguments).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("run {program}: {e}"))?;
    if let (Some(bytes), Some(mut stdin)) = (input, child.stdin.take()) {
        // One that does not read it ends with a status of its own.
        let _ = std::io::Write::write_all(&mut stdin, bytes);
    }
    let out = child.wait_with_output().map_err(|e| format!("run {program}: {e}"))?;
    let said = [&out.stdout, &out.stderr].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
    let said = said.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n");
    match out.status.code() {
        Some(0) => Ok((true, said)),
        Some(_) => Ok((false, said)),
        None => Err(format!("{program} was ended by a signal: {said}")),
    }
}

/// Signs the evidence in a folder of this process's own; the signature's bytes. The command writes to `{signature}`, or, as ssh-keygen
/// does, beside `{file}` with the ending `.sig`.
pub(super) fn signed(command: &[String], folder: &Utf8Path, evidence: &[u8]) -> Result<Vec<u8>, ProveError> {
    let file = folder.join(EVIDENCE);
    let signature = folder.join(SIGNATURE);
    let program = command.first().cloned().unwrap_or_default();
    let failed = |detail: String| ProveError::Signature {
        what: format!("sign the evidence with {program}"),
        detail,
        hint: "[prove] sign: a program and its arguments, with {file} and {signature}",
    };
    std::fs::write(&file, evidence).map_err(ProveError::file("write", &file))?;
    let (fine, said) = run(&words(command, &file, &signature), None).map_err(failed)?;
    if !fine {
        return Err(failed(format!("it failed: {said}")));
    }
    match std::fs::read(&signature) {
        Ok(bytes) if bytes.is_empty() => {
            Err(failed(format!("expected a signature in {signature}, found an empty file")))
        }
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(failed(format!("expected a signature in {signature}: {error}"))),
    }
}

/// Whether a signature is good, by the command's or ssh-keygen's word. None where nobody is to look.
fn look(
    by: &SignatureBy,
    folder: &Utf8Path,
    evidence: &[u8],
    signature: &[u8],
) -> Result<Option<(bool, String)>, ProveError> {
    let (file, beside) = (folder.join(EVIDENCE), folder.join(SIGNATURE));
    for (path, bytes) in [(&file, evidence), (&beside, signature)] {
        std::fs::write(path, bytes).map_err(ProveError::file("write", path))?;
    }
    let (command, input) = match by {
        SignatureBy::Nobody => return Ok(None),
        SignatureBy::Command(command) => (words(command, &file, &beside), None),
        SignatureBy::Ssh { allowed_signers, identity } => {
            let own =
                ["ssh-keygen", "-Y", "verify", "-f", allowed_signers.as_str(), "-I", identity, "-n", NAMESPACE, "-s"];
            let words = own.iter().map(|word| (*word).to_owned()).chain([beside.into_string()]);
            (words.collect(), Some(evidence))
        }
    };
    run(&command, input).map(Some).map_err(|detail| ProveError::Signature {
        what: "look at the signature".to_owned(),
        detail,
        hint: "[prove] verify, or --allowed-signers and --identity for ssh-keygen",
    })
}

/// Hashes the files of a point again and compares them with the evidence of a proof, the evidence with the history, and the
/// signature with the evidence. `folder` is for files of this process.
pub fn verify_evidence(request: &VerifyRequest, folder: &Utf8Path) -> Result<EvidenceReport, ProveError> {
    let repository = Repository::open(&request.repository)?;
    let point = repository.point(&request.point)?;
    let ids = repository.proofs_of(&point)?;
    let nothing = |found: String| ProveError::Nothing { point: point.id().to_string(), expected: "a proof", found };
    let id = match &request.proof {
        Some(id) => id.clone(),
        None => ids.last().cloned().ok_or_else(|| nothing("none".into()))?,
    };
    let Some(bytes) = repository.proof_file(&point, &id, EVIDENCE)? else {
        return Err(nothing(if ids.is_empty() { "none".into() } else { ids.join(", ") }));
    };
    let noted = repository.proofs()?;
    let mut differences = Vec::new();
    let evidence: Option<Evidence> = match serde_json::from_slice(&bytes) {
        Ok(evidence) => Some(evidence),
        Err(error) => {
            differences.push(format!("{EVIDENCE}: expected evidence of format 1, found {error}"));
            None
        }
    };
    differences.extend(against_history(&id, repository.evidence_sha256(&point, &id)?.unwrap_or_default(), &noted));
    let mut files = 0;
    if let Some(evidence) = &evidence {
        let (compared, differing) = against_files(evidence, &point)?;
        files = compared;
        differences.extend(differing);
    }
    let signature = repository.proof_file(&point, &id, SIGNATURE)?;
    let looked = match &signature {
        Some(signature) => look(&request.signature, folder, &bytes, signature)?,
        None => None,
    };
    let is_asked = request.signature != SignatureBy::Nobody;
    let (word, exit) = match (&signature, &looked) {
        (None, _) => ("none", if is_asked { Exit::Inconclusive } else { Exit::Passed }),
        (Some(_), None) => ("not looked at", Exit::Passed),
        (Some(_), Some((true, _))) => ("good", Exit::Passed),
        (Some(_), Some((false, _))) => ("bad", Exit::CheckFailed),
    };
    let exit = if differences.is_empty() { exit } else { Exit::ChecksumMismatch };
    Ok(EvidenceReport {
        point: point.id().to_string(),
        proof: id,
        verdict: evidence.as_ref().map_or("unknown", |evidence| evidence.verdict.word()).to_owned(),
        files,
        differences,
        signature: word.to_owned(),
        signature_said: looked.map(|(_, said)| said),
        exit_code: exit.code(),
    })
}

fn against_history(id: &str, found: String, noted: &[Proof]) -> Option<String> {
    match noted.iter().find(|proof| proof.id == id) {
        None => Some(format!("proofs.json: expected a line of proof {id}, found none")),
        Some(proof) if proof.evidence_sha256 != found => {
            Some(format!("{EVIDENCE}: expected sha256 {}, found {found}", proof.evidence_sha256))
        }
        Some(_) => None,
    }
}

/// Each file of the point, hashed again: what the evidence says of it, and that the point has no other.
fn against_files(evidence: &Evidence, point: &Point) -> Result<(u64, Vec<String>), ProveError> {
    let mut differences = Vec::new();
    if evidence.point != *point.id() {
        differences.push(format!("{EVIDENCE}: expected that of {}, found one of {}", point.id(), evidence.point));
    }
    if evidence.manifest_sha256 != point.manifest_sha256() {
        differences.push(format!(
            "manifest: expected sha256 {}, found {}",
            evidence.manifest_sha256,
            point.manifest_sha256()
        ));
    }
    let mut compared = 0;
    for file in &point.hashes()? {
        compared += 1;
        let text = |sum: &Option<String>| sum.clone().unwrap_or_else(|| "none".to_owned());
        match evidence.files.iter().find(|known| known.path == file.path) {
            None => differences.push(format!("{}: expected a hash in the evidence, found none", file.path)),
            Some(known) if known.sha256 != file.sha256 => differences.push(format!(
                "{}: expected sha256 {}, found {}",
                file.path,
                text(&known.sha256),
                text(&file.sha256)
            )),
            Some(_) => {}
        }
    }
    if compared as usize != evidence.files.len() {
        let (here, there) = (counted(compared, "file"), counted(evidence.files.len(), "file"));
        differences.push(format!("recovery point {}: expected {there}, found {here}", point.id()));
    }
    Ok((compared, differences))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_signature_is_what_the_command_writes_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(temp.path()).unwrap();
        let by = |words: &[&str]| signed(&command(words), folder, b"{}");
        assert_eq!(by(&["cp", "{file}", "{signature}"]).unwrap(), b"{}");
        assert!(by(&["cp", "{file}", "{signature}x"]).is_ok(), "an earlier one is still there");
        std::fs::remove_file(folder.join(SIGNATURE)).unwrap();
        assert!(by(&["true"]).unwrap_err().to_string().contains("expected a signature"));
        assert!(by(&["sh", "-c", "echo no key >&2; exit 3"]).unwrap_err().to_string().contains("no key"));
        assert!(by(&["sh", "-c", ": > {signature}"]).unwrap_err().to_string().contains("empty"));
        assert!(by(&["/nowhere/sign"]).is_err());
    }

    #[test]
    fn a_bad_signature_is_none_and_nobody_says_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(temp.path()).unwrap();
        let compare = SignatureBy::Command(command(&["cmp", "{file}", "{signature}"]));
        let looked = |by: &SignatureBy, signature: &[u8]| look(by, folder, b"{}", signature).unwrap();
        assert!(looked(&compare, b"{}").unwrap().0);
        assert!(!looked(&compare, b"[]").unwrap().0);
        assert_eq!(looked(&SignatureBy::Nobody, b"{}"), None);
        let ssh = SignatureBy::Ssh { allowed_signers: folder.join("none"), identity: "a@b".into() };
        assert!(look(&ssh, folder, b"{}", b"x").is_ok_and(|found| found.is_none_or(|(good, _)| !good)));
    }
}
