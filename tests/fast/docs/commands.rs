//! `docs/commands.md`, from the program's own command line.

use std::fmt::Write;

use clap::{Arg, Command};

use super::pages::holds;

#[test]
fn the_commands_are_documented() {
    let mut program = cdc_harness::cli::command();
    program.build();
    let mut page = String::from(
        "# Commands\n\n<!-- Generated from the program by `just pages`. -->\n\n\
         Commands that change something have `--dry-run`. JSON goes to standard output, everything else to standard error. \
         [Exit codes](reports.md#exit-codes) are the same everywhere.\n\n",
    );
    for command in shown(&program) {
        contents(&mut page, command, "");
    }
    for command in shown(&program) {
        describe(&mut page, command, "cdc-drill");
    }
    holds("docs/commands.md", &page);
}

fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help")
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

fn contents(page: &mut String, command: &Command, above: &str) {
    let name = format!("{above}{}", command.get_name());
    let _ = writeln!(page, "- [`{name}`](#{}): {}", format!("cdc-drill {name}").replace(' ', "-"), about(command));
    for sub in shown(command) {
        contents(page, sub, &format!("{name} "));
    }
}

fn describe(page: &mut String, command: &Command, above: &str) {
    let name = format!("{above} {}", command.get_name());
    let text = command.get_long_about().map(ToString::to_string).unwrap_or_else(|| about(command));
    let _ = write!(page, "\n## {name}\n\n{text}.\n");
    let text = |arg: &Arg| {
        let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        let values: Vec<String> = arg
            .get_possible_values()
            .iter()
            .filter(|v| !v.is_hide_set())
            .map(|v| match v.get_help() {
                Some(help) => format!("`{}` ({help})", v.get_name()),
                None => format!("`{}`", v.get_name()),
            })
            .collect();
        let default: Vec<String> =
            arg.get_default_values().iter().map(|v| format!("`{}`", v.to_string_lossy())).collect();
        let takes = arg.get_action().takes_values();
        let mut out = help.replace('\n', " ").replace('|', "\\|");
        if takes && !values.is_empty() {
            let _ = write!(out, ". One of: {}", values.join(", "));
        }
        if takes && !default.is_empty() {
            let _ = write!(out, ". Default: {}", default.join(" "));
        }
        out
    };
    let listed: Vec<&Arg> = command
        .get_arguments()
        .filter(|a| !a.is_hide_set() && !["help", "version"].contains(&a.get_id().as_str()))
        .collect();
    if command.get_subcommands().next().is_none() {
        let usage = command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").replace('\n', " ");
        let _ = write!(page, "\n```text\n{}\n```\n", usage.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    if !listed.is_empty() {
        let _ = write!(page, "\n| option | does |\n|---|---|\n");
        for arg in listed {
            let _ = writeln!(page, "| `{}` | {} |", spelled(arg), text(arg));
        }
    }
    for sub in shown(command) {
        describe(page, sub, &name);
    }
}

fn spelled(arg: &Arg) -> String {
    let values =
        arg.get_value_names().map(|names| names.iter().map(|n| format!("<{n}>")).collect::<Vec<_>>().join(" "));
    let values = values.filter(|_| arg.get_action().takes_values());
    match (arg.get_long(), values) {
        (Some(long), Some(values)) => format!("--{long} {values}"),
        (Some(long), None) => format!("--{long}"),
        (None, values) => values.unwrap_or_else(|| format!("<{}>", arg.get_id())),
    }
}
