//! What PostgreSQL's configuration files name: files that they include, and lists of names. Pure.

use std::collections::{BTreeSet, VecDeque};

use camino::{Utf8Path, Utf8PathBuf};

/// Endings of the files that `include_dir` takes.
const INCLUDED: &str = ".conf";

/// How a configuration file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// `postgresql.conf` and what it includes.
    Settings,
    /// `pg_hba.conf`, `pg_ident.conf` and what they include.
    Access,
    /// What `@file` stands for: names of databases or users.
    Names,
}

/// How a file or folder is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It has to be there.
    File,
    /// It may be missing.
    FileIfThere,
    /// Its files are taken.
    Folder,
}

/// A file or folder that a configuration file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// What is taken of it.
    pub kind: Kind,
    /// As it is named: relative to the folder of the file that names it, or absolute.
    pub path: Utf8PathBuf,
    /// The syntax of its lines.
    pub syntax: Syntax,
}

/// What a configuration file names, in either syntax of settings: `include 'file'`, `include_dir = 'folder'`; without quotes in the
/// files of who may connect, which also name lists as `@file`.
pub fn mentioned(text: &str, syntax: Syntax) -> Vec<Mention> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        found.extend(directive(line, syntax));
        if syntax != Syntax::Settings {
            found.extend(lists(line).into_iter().map(|path| Mention { kind: Kind::File, path, syntax: Syntax::Names }));
        }
    }
    found
}

fn directive(line: &str, syntax: Syntax) -> Option<Mention> {
    let (word, rest) = line.split_at(line.find(|c: char| c == '=' || c.is_whitespace())?);
    let (kind, syntax) = match (word.to_ascii_lowercase().as_str(), syntax) {
        (_, Syntax::Names) => return None,
        ("include", _) => (Kind::File, syntax),
        ("include_if_exists", _) => (Kind::FileIfThere, syntax),
        ("include_dir", _) => (Kind::Folder, syntax),
        ("hba_file" | "ident_file", Syntax::Settings) => (Kind::File, Syntax::Access),
        _ => return None,
    };
    let value = rest.trim_start().trim_start_matches('=').trim_start();
    let path = match value.strip_prefix(['\'', '"']) {
        Some(quoted) => quoted.split(['\'', '"']).next()?,
        None => value.split(|c: char| c.is_whitespace() || c == '#').next()?,
    };
    (!path.is_empty()).then(|| Mention { kind, path: path.into(), syntax })
}

/// The files of `@file` and `@"a file"` where a name may stand. A quoted word is a name, whatever it begins with.
fn lists(line: &str) -> Vec<Utf8PathBuf> {
    let is_between = |c: char| c.is_whitespace() || c == ',';
    let mut found = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches(is_between);
        if rest.is_empty() || rest.starts_with('#') {
            return found;
        }
        let at = rest.strip_prefix('@');
        let word = at.unwrap_or(rest);
        let (word, behind) = match word.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => word.split_at(word.find(|c| is_between(c) || c == '#').unwrap_or(word.len())),
        };
        if at.is_some() && !word.is_empty() {
            found.push(word.into());
        }
        rest = behind;
    }
}

/// Whether `include_dir` takes a file of this name.
pub fn is_included(name: &str) -> bool {
    name.ends_with(INCLUDED) && !name.starts_with('.')
}

/// Walks through everything that configuration files name, each path once. Whoever reads them hands back what they hold.
#[derive(Debug, Default)]
pub struct Walk {
    open: VecDeque<Mention>,
    seen: BTreeSet<Utf8PathBuf>,
}

impl Walk {
    /// Begins with files by their absolute paths.
    pub fn from(files: impl IntoIterator<Item = (Utf8PathBuf, Syntax)>) -> Walk {
        let mut walk = Walk::default();
        for (path, syntax) in files {
            walk.push(Mention { kind: Kind::File, path, syntax });
        }
        walk
    }

    fn push(&mut self, mention: Mention) {
        if self.seen.insert(mention.path.clone()) {
            self.open.push_back(mention);
        }
    }

    /// The next file or folder that has to be looked at, by its absolute path.
    pub fn pop(&mut self) -> Option<Mention> {
        self.open.pop_front()
    }

    /// Takes what a file holds.
    pub fn holds(&mut self, file: &Mention, bytes: &[u8]) {
        let beside = file.path.parent().unwrap_or(Utf8Path::new("/"));
        for mention in mentioned(&String::from_utf8_lossy(bytes), file.syntax) {
            self.push(Mention { path: beside.join(&mention.path), ..mention });
        }
    }

    /// Takes the names in a folder.
    pub fn lists<'a>(&mut self, folder: &Mention, names: impl IntoIterator<Item = &'a str>) {
        for name in names.into_iter().filter(|name| is_included(name)) {
            self.push(Mention { kind: Kind::File, path: folder.path.join(name), syntax: folder.syntax });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str, syntax: Syntax) -> Vec<(Kind, String)> {
        mentioned(text, syntax).into_iter().map(|m| (m.kind, m.path.into_string())).collect()
    }

    #[test]
    fn settings_name_files_in_either_syntax() {
        let text = "include 'a.conf'\n include_if_exists = \"b.conf\" # c\n#include 'no'\nINCLUDE_DIR='conf.d'\nshared_preload_libraries = '@x'\n";
        let file = |kind, path: &str| (kind, path.to_owned());
        let expected = [file(Kind::File, "a.conf"), file(Kind::FileIfThere, "b.conf"), file(Kind::Folder, "conf.d")];
        assert_eq!(named(text, Syntax::Settings), expected);
        let hba = mentioned("hba_file = '/etc/h'", Syntax::Settings);
        assert_eq!((hba[0].path.as_str(), hba[0].syntax), ("/etc/h", Syntax::Access));
    }

    #[test]
    fn files_of_who_may_connect_name_lists() {
        let text = "# host all @no\nhost app,@dbs @\"the admins\",+role,\"@no\" 10.0.0.0/8 md5 # @no\nlocal all a@b peer\ninclude_dir hba.d\n";
        let paths: Vec<String> = named(text, Syntax::Access).into_iter().map(|(_, path)| path).collect();
        assert_eq!(paths, ["dbs", "the admins", "hba.d"]);
        assert_eq!(named("alice\n@more, bob\ninclude x\n", Syntax::Names), [(Kind::File, "more".to_owned())]);
    }

    #[test]
    fn everything_that_is_named_is_walked_through_once() {
        let mut walk = Walk::from([("/etc/pg/main".into(), Syntax::Settings)]);
        let mut walked = Vec::new();
        while let Some(next) = walk.pop() {
            walked.push(next.path.to_string());
            match next.path.as_str() {
                "/etc/pg/main" => walk.holds(&next, b"include_dir 'd'\nhba_file='/hba'\ninclude '/etc/pg/main'\n"),
                "/etc/pg/d" => walk.lists(&next, ["a.conf", "b.txt", ".c.conf"]),
                "/hba" => walk.holds(&next, b"local all @admins trust\n"),
                _ => walk.holds(&next, b""),
            }
        }
        assert_eq!(walked, ["/etc/pg/main", "/etc/pg/d", "/hba", "/etc/pg/d/a.conf", "/admins"]);
    }
}
