//! A stack that is started again by another program than the one that made it: what names the program in its folder.

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    Account, Folder, StackError,
    binary::{NAME, find_binary, reachable_binary},
    stack::CONFIG_FILE,
    write::replace_atomically,
};
use cdc_model::units::shell_word;
use cdc_pipeline::config::Config;
use cdc_postgres::command;

/// What stands behind the program in a hook that `stack up` wrote, and in the `archive_command` of its server.
const HOOKS: &[&str] = &[" stack start ", " stack stop ", " stack running ", " stack disturb ", " stack settle "];
const ARCHIVING: &[&str] = &[" wal push "];

impl Folder {
    /// Lets the hooks in `cdc-drill.toml` and the server's `archive_command` call this program, where they call one of its name at
    /// another path: it may be gone, or an older one. Everything else in these files stays. What was changed, a line each.
    pub fn call_this_program(&self) -> Result<Vec<String>, StackError> {
        let binary = find_binary(None)?;
        let path = self.dir().join(CONFIG_FILE);
        let mut changed = Vec::new();
        changed.extend(renamed_in(&path, HOOKS, &shell_word(binary.as_str()))?);
        let config = Config::load(&path)
            .map_err(|e| StackError::NoStack { dir: self.dir().to_owned(), detail: e.to_string() })?;
        let settings = config.postgres.pgdata.join("postgresql.conf");
        if settings.is_file() {
            let archiver = reachable_binary(&binary, &Account::choose()?, &self.dir().join("bin"))?;
            changed.extend(renamed_in(&settings, ARCHIVING, &command::word(archiver.as_str()))?);
        }
        Ok(changed)
    }
}

fn renamed_in(path: &Utf8PathBuf, behind: &[&str], program: &str) -> Result<Option<String>, StackError> {
    let text = std::fs::read_to_string(path).map_err(|e| StackError::io("read", path, e))?;
    let (new, former) = renamed(&text, behind, program);
    let Some(former) = former else { return Ok(None) };
    replace_atomically(path, &new)?;
    Ok(Some(format!("{path}: calls {program} now, and no longer {former}")))
}

/// A text of lines `name = "PROGRAM words"` with another program where these words stand behind one of its name; the former one, if it
/// was another.
fn renamed(text: &str, behind: &[&str], program: &str) -> (String, Option<String>) {
    // A program whose path needs an escape in these files is left as it is.
    let is_plain = !program.contains(['"', '\'', '\\']);
    let mut former = None;
    let lines = text.split_inclusive('\n').map(|line| match called(line, behind).filter(|_| is_plain) {
        Some(called) if called != program => {
            former.get_or_insert_with(|| called.to_owned());
            line.replacen(called, program, 1)
        }
        _ => line.to_owned(),
    });
    (lines.collect(), former)
}

/// The program of this name that a line calls with one of these words behind it.
fn called<'l>(line: &'l str, behind: &[&str]) -> Option<&'l str> {
    let (_, value) = line.split_once(" = ")?;
    let command = value.trim_start_matches(['"', '\'']);
    let end = behind.iter().filter_map(|words| command.find(words)).min()?;
    let called = &command[..end];
    (Utf8Path::new(called).file_name() == Some(NAME) && !called.contains(char::is_whitespace)).then_some(called)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_call_this_program_and_everything_else_stays() {
        let text = "# mine: /old/cdc-drill stack start kafka\n[control.kafka]\n\
            start = \"/old/cdc-drill stack start kafka --dir /s\"\n\
            disturb = '/old/cdc-drill stack disturb kafka --dir /s --by \"$X\"'\n\
            stop = \"systemctl stop kafka\"\nrunning = \"/opt/other stack running kafka --dir /s\"\n\
            tool = \"docker exec /old/cdc-drill-db\"\n";
        let (new, former) = renamed(text, HOOKS, "/new/cdc-drill");
        assert_eq!(former.as_deref(), Some("/old/cdc-drill"));
        let expected = text.replace("\"/old/cdc-drill stack", "\"/new/cdc-drill stack");
        let expected = expected.replace("'/old/cdc-drill stack", "'/new/cdc-drill stack");
        assert_eq!(new, expected);
        assert_eq!(renamed(&new, HOOKS, "/new/cdc-drill"), (new.clone(), None), "a second time changes nothing");
    }

    #[test]
    fn the_server_archives_by_this_program() {
        let text = "port = 5432\narchive_command = '/old/cdc-drill wal push --repository /r --pgdata /d %p'\n";
        let (new, _) = renamed(text, ARCHIVING, "/new/cdc-drill");
        assert_eq!(new, text.replace("/old", "/new"));
        let own = "archive_command = 'test ! -f /spool/%f && cp %p /spool/.%f'\n";
        assert_eq!(renamed(own, ARCHIVING, "/new/cdc-drill"), (own.to_owned(), None));
    }

    #[test]
    fn a_path_that_needs_an_escape_is_not_written() {
        let text = "start = \"/old/cdc-drill stack start kafka --dir /s\"\n";
        assert_eq!(renamed(text, HOOKS, "'/my dir/cdc-drill'"), (text.to_owned(), None));
    }
}
