//! `completions` and `man`: what the program says of its own commands, for shells and for `man`.

use std::io::Write;

use camino::{Utf8Path, Utf8PathBuf};
use clap_complete::Shell;

use super::output::{CliError, DryRun, say};
use cdc_model::units::{Exit, counted};

/// Prints completions.
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

/// Writes man pages.
#[derive(Debug, clap::Args)]
pub(crate) struct Man {
    /// The folder, such as `/usr/local/share/man/man1`; it has to be there
    #[arg(value_name = "DIR")]
    folder: Utf8PathBuf,
    #[command(flatten)]
    dry: DryRun,
}

pub(crate) fn completions(args: Completions, mut program: clap::Command) -> Result<Exit, CliError> {
    let mut text = Vec::new();
    let name = program.get_name().to_owned();
    clap_complete::generate(args.shell, &mut program, name, &mut text);
    // A reader that has gone away is no error.
    let _ = std::io::stdout().lock().write_all(&text);
    Ok(Exit::Passed)
}

pub(crate) fn man(args: Man, program: clap::Command) -> Result<Exit, CliError> {
    let failed =
        |what: &Utf8Path, error: std::io::Error| CliError::new(Exit::Internal, format!("write {what}: {error}"));
    let pages = pages(program).map_err(|error| failed(&args.folder, error))?;
    if args.dry.told(format!("write {} into {}", counted(pages.len(), "man page"), args.folder)) {
        return Ok(Exit::Passed);
    }
    for (name, page) in &pages {
        let path = args.folder.join(name);
        std::fs::write(&path, page).map_err(|error| failed(&path, error))?;
    }
    say(format!("{} in {}", counted(pages.len(), "man page"), args.folder));
    Ok(Exit::Passed)
}

/// The page of each command that people see, by the name of its file: `cdc-drill-backup-create.1`.
fn pages(program: clap::Command) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut program = program.disable_help_subcommand(true);
    // Gives each command its whole name.
    program.build();
    let mut pages = Vec::new();
    let mut open = vec![&program];
    while let Some(command) = open.pop() {
        open.extend(command.get_subcommands().filter(|below| !below.is_hide_set()));
        let man = clap_mangen::Man::new(command.clone());
        let mut page = Vec::new();
        man.render(&mut page)?;
        pages.push((man.get_filename(), page));
    }
    pages.sort();
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command;
    use clap::ValueEnum;

    #[test]
    fn every_shell_is_told_of_every_command() {
        for shell in Shell::value_variants() {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut command(), "cdc-drill", &mut text);
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains("upgrade") && text.contains("metrics"), "{shell}");
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let pages = pages(command()).unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["cdc-drill.1", "cdc-drill-status.1", "cdc-drill-backup-create.1"] {
            assert!(names.contains(&name), "{names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("supervise") || name.contains("help")), "{names:?}");
        let (_, page) = pages.iter().find(|(name, _)| name == "cdc-drill-backup-create.1").unwrap();
        let page = String::from_utf8_lossy(page);
        assert!(page.contains("cdc\\-drill\\-backup\\-create") && page.contains("\\-\\-metrics"), "{page}");
    }
}
