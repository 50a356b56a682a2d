//! What this machine has and lacks for the local stack. Looks only.

use serde::Serialize;

use super::{
    Account, Programs, cache_folder,
    fetch::{check_platform, free_bytes, on_path},
    find_binary,
};
use cdc_model::units::Failure;

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    /// What was looked at.
    pub what: String,
    /// Whether it will do.
    pub ok: bool,
    /// What is there, or what to do.
    pub detail: String,
}

/// Needed for the programs and a run's data.
const DISK_NEEDED: u64 = 4 << 30;
/// A whole stack stays below 2 GiB.
const MEMORY_NEEDED: u64 = 2 << 30;

/// Looks at everything.
pub fn diagnose() -> Vec<Diagnosis> {
    let programs = Programs::present();
    vec![
        told(
            "platform",
            check_platform().map(|()| "Linux on x86-64: the local stack runs here".to_owned()).map_err(|e| e.in_full()),
        ),
        told("account", Account::choose().map_err(|e| e.in_full()).map(|a| account_text(&a))),
        told("cdc-drill", find_binary(None).map(|p| p.into_string()).map_err(|e| e.in_full())),
        client("maven", &["mvn"], &["-v"], programs.is_ok()),
        client("javac", &["javac"], &["-version"], programs.is_ok()),
        client("pip", &["pip", "pip3"], &["--version"], programs.is_ok()),
        programs_found(&programs),
        version(
            "postgresql",
            programs.as_ref().ok().map(|p| p.postgres_bin().join("postgres").into_string()),
            "--version",
        ),
        version("java", programs.as_ref().ok().map(|p| p.java().into_string()), "--version"),
        aot(&programs),
        disk(),
        memory(),
    ]
}

fn told(what: &str, found: Result<String, String>) -> Diagnosis {
    let ok = found.is_ok();
    Diagnosis { what: what.to_owned(), ok, detail: found.unwrap_or_else(|e| e) }
}

fn account_text(account: &Account) -> String {
    if account.drop {
        format!("root; servers run as {} (uid {})", account.name, account.uid)
    } else {
        format!("servers run as {} (uid {}), as this program does", account.name, account.uid)
    }
}

/// A package client is only needed as long as the programs are not there.
fn client(what: &str, names: &[&str], arguments: &[&str], fetched: bool) -> Diagnosis {
    match on_path(names) {
        Some(path) => Diagnosis { what: what.to_owned(), ok: true, detail: first_line(path.as_str(), arguments) },
        None => {
            let detail = if fetched {
                "not installed, and not needed: the programs are there"
            } else {
                "not installed: needed to fetch the programs"
            };
            Diagnosis { what: what.to_owned(), ok: fetched, detail: detail.to_owned() }
        }
    }
}

fn programs_found(programs: &Result<Programs, String>) -> Diagnosis {
    match programs {
        Ok(programs) => Diagnosis { what: "programs".to_owned(), ok: true, detail: programs.root.to_string() },
        Err(why) => Diagnosis {
            what: "programs".to_owned(),
            ok: false,
            detail: format!("not fetched ({why}); `cdc-drill setup` fetches them"),
        },
    }
}

fn version(what: &str, program: Option<String>, argument: &str) -> Diagnosis {
    match program {
        Some(program) => {
            let line = first_line(&program, &[argument]);
            Diagnosis { what: what.to_owned(), ok: !line.is_empty(), detail: line }
        }
        None => Diagnosis { what: what.to_owned(), ok: false, detail: "not fetched".to_owned() },
    }
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let out = std::process::Command::new(program).args(arguments).output();
    let text = out.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().replace(['\u{1b}'], "").replace("[1m", "").replace("[m", "")
}

/// Without the caches everything works, more slowly.
fn aot(programs: &Result<Programs, String>) -> Diagnosis {
    let missing = programs.as_ref().map(Programs::missing_aot_caches).unwrap_or_default();
    let detail = match (programs, missing.as_slice()) {
        (Err(_), _) => "none; `cdc-drill setup` makes them".to_owned(),
        (_, []) => "Java AOT caches of kafka, connect and registry".to_owned(),
        (_, names) => format!("none for {}: starts are slower; `cdc-drill setup` makes them", names.join(", ")),
    };
    Diagnosis { what: "fast starts".to_owned(), ok: true, detail }
}

fn disk() -> Diagnosis {
    let here = cache_folder().ok().and_then(|f| f.ancestors().find(|a| a.is_dir()).map(camino::Utf8Path::to_owned));
    let free = here.as_ref().and_then(|f| free_bytes(f).ok());
    let detail = match (&here, free) {
        (Some(folder), Some(bytes)) => format!("{} MiB free at {folder}, {} wanted", bytes >> 20, DISK_NEEDED >> 20),
        _ => "unknown".to_owned(),
    };
    Diagnosis { what: "disk".to_owned(), ok: free.is_some_and(|b| b >= DISK_NEEDED), detail }
}

fn memory() -> Diagnosis {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
    let bytes = field.and_then(|f| f.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10;
    Diagnosis {
        what: "memory".to_owned(),
        ok: bytes >= MEMORY_NEEDED,
        detail: format!("{} MiB available, {} wanted", bytes >> 20, MEMORY_NEEDED >> 20),
    }
}
