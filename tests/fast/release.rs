//! The pure parts of `just release`: an archive's name, content and checksum, that the same goes in and the same comes out, and the list
//! of what the program is made of. The recipe itself builds for another target, and looks at what it built.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use sha2::{Digest, Sha256};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const VERSION: &str = env!("CARGO_PKG_VERSION");
const MUSL: &str = "x86_64-unknown-linux-musl";
const GLIBC: &str = "x86_64-unknown-linux-gnu";

fn said(command: &mut Command) -> String {
    let output = command.current_dir(ROOT).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A program of a hundred bytes that stands for the built one: what is packed does not depend on its size.
fn program(folder: &Path) -> PathBuf {
    let path = folder.join("program");
    fs::write(&path, format!("#!/bin/sh\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_cdc-drill"))).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Packs it under a file mode mask; the archive.
fn packed(folder: &Path, out: &str, mask: &str) -> PathBuf {
    let sbom = folder.join("sbom.json");
    fs::write(&sbom, "{}\n").unwrap();
    let line = format!("umask {mask}; exec deploy/release/pack.sh \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &line, "sh"]).arg(program(folder)).args([VERSION, GLIBC]).arg(sbom).arg(folder.join(out));
    PathBuf::from(said(command.env("SOURCE_DATE_EPOCH", "1700000000")).trim())
}

#[test]
fn an_archive_has_its_name_its_checksum_and_everything_and_is_the_same_again() {
    let folder = tempfile::tempdir().unwrap();
    let archive = packed(folder.path(), "one", "022");
    let name = format!("cdc-drill-{VERSION}-{GLIBC}");
    assert_eq!(archive.file_name().unwrap().to_str().unwrap(), format!("{name}.tar.gz"));
    let bytes = fs::read(&archive).unwrap();
    let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let beside = fs::read_to_string(folder.path().join(format!("one/{name}.tar.gz.sha256"))).unwrap();
    assert_eq!(beside, format!("{sum}  {name}.tar.gz\n"));

    let again = packed(folder.path(), "two", "077");
    assert!(fs::read(again).unwrap() == bytes, "other bytes from the same content, time and names");

    let listed = said(Command::new("tar").args(["--verbose", "--numeric-owner", "-tzf"]).arg(&archive));
    for file in [
        "cdc-drill",
        "cdc-drill.cdx.json",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "completions/cdc-drill.bash",
        "completions/cdc-drill.zsh",
        "completions/cdc-drill.fish",
        "man/cdc-drill-prove.1",
        "ci/drill.sh",
        "ci/action.yml",
    ] {
        assert!(listed.lines().any(|line| line.ends_with(&format!(" {name}/{file}"))), "{file} in\n{listed}");
    }
    assert!(listed.lines().all(|line| line.contains(" 0/0 ") && line.contains("2023-11-14")), "{listed}");
    // Anybody who fetched it would look so.
    said(Command::new("deploy/release/check.sh").arg(&archive).args([VERSION, GLIBC]));
    fs::write(&archive, &bytes[..bytes.len() - 1]).unwrap();
    let damaged =
        Command::new("deploy/release/check.sh").current_dir(ROOT).arg(&archive).args([VERSION, GLIBC]).output();
    assert!(!damaged.unwrap().status.success(), "a damaged archive");
}

#[test]
fn binstall_looks_for_what_the_recipe_makes() {
    let manifest: toml::Table = fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap().parse().unwrap();
    let binstall = &manifest["package"]["metadata"]["binstall"];
    let of = |rules: &toml::Value, target: &str| {
        let filled = |key: &str| {
            let text = rules[key].as_str().unwrap().replace("{ name }", "cdc-drill").replace("{ version }", VERSION);
            text.replace("{ target }", target).replace("{ bin }", "cdc-drill").replace("{ binary-ext }", "")
        };
        (filled("pkg-url"), filled("bin-dir"))
    };
    let name = format!("cdc-drill-{VERSION}-{MUSL}");
    for (rules, target) in [(binstall, MUSL), (&binstall["overrides"][GLIBC], GLIBC)] {
        let (url, program) = of(rules, target);
        assert!(url.ends_with(&format!("/v{VERSION}/{name}.tar.gz")), "{target}: {url}");
        assert_eq!(program, format!("{name}/cdc-drill"), "{target}");
    }
    assert_eq!(binstall["pkg-fmt"].as_str(), Some("tgz"));
}

/// What is linked, by another way than the list is made: `cargo tree`.
#[test]
fn the_list_of_what_the_program_is_made_of_has_every_package() {
    let list = |target: &str, features: &str| -> Value {
        let mut command = Command::new("python3");
        command.args(["deploy/release/sbom.py", "--offline", "--target", target, "--features", features]);
        serde_json::from_str(&said(&mut command)).unwrap()
    };
    let list = list(GLIBC, "");
    assert_eq!((&list["bomFormat"], &list["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    assert_eq!(list["metadata"]["component"]["version"], VERSION);
    let components = list["components"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let named: BTreeSet<String> =
        components.iter().map(|c| format!("{} v{}", text(&c["name"]), text(&c["version"]))).collect();
    let mut tree = Command::new(env!("CARGO"));
    tree.args([
        "tree",
        "--offline",
        "--locked",
        "-p",
        "cdc-drill",
        "--edges",
        "normal,no-proc-macro",
        "--target",
        GLIBC,
    ]);
    let tree = said(tree.args(["--prefix", "none", "--format", "{p}"]));
    let linked: BTreeSet<String> =
        tree.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert!(linked.len() > 200, "{}", linked.len());
    let missing: Vec<&String> =
        linked.iter().filter(|package| !named.contains(*package) && !package.starts_with("cdc-drill ")).collect();
    assert!(missing.is_empty(), "not in the list: {missing:?}");
    for component in components.iter().filter(|component| !text(&component["name"]).starts_with("cdc-")) {
        let is_rust = component["name"] == "rust-std";
        assert!(
            is_rust || component["hashes"][0]["content"].as_str().is_some_and(|sum| sum.len() == 64),
            "{component}"
        );
        assert!(is_rust || component["licenses"][0]["expression"].is_string(), "{component}");
    }
    let references: BTreeSet<String> = components.iter().map(|component| text(&component["bom-ref"])).collect();
    assert_eq!(references.len(), components.len(), "each has a name of its own");
}
