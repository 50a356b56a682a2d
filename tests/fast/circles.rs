//! Holds that files do not import one another in circles, and that what is known of a drill cannot ask anything.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use crate::house::{SourceFile, in_rooms, sources};

/// A file below `src`, with its tests taken away.
struct Source {
    /// `run/rig/pipeline.rs`.
    name: String,
    /// Its module: `["run", "rig", "pipeline"]`.
    module: Vec<String>,
    text: String,
    /// What its `use` lines bring in: the name here, and the full path.
    names: BTreeMap<String, Vec<String>>,
    /// Modules of which it takes everything.
    globs: Vec<Vec<String>>,
}

struct Tree {
    files: Vec<Source>,
    by_module: BTreeMap<Vec<String>, usize>,
}

impl Tree {
    fn of(files: &[SourceFile]) -> Tree {
        let mut files: Vec<Source> = files.iter().filter_map(source).collect();
        let by_module: BTreeMap<Vec<String>, usize> =
            files.iter().enumerate().map(|(at, file)| (file.module.clone(), at)).collect();
        let imported: Vec<_> = files.iter().map(|file| imported(file, &by_module)).collect();
        for (file, (names, globs)) in files.iter_mut().zip(imported) {
            (file.names, file.globs) = (names, globs);
        }
        Tree { files, by_module }
    }

    /// The file that defines what a path from the root names: re-exports are followed. None for what is not of this crate, and for a
    /// module as such.
    fn defines(&self, path: &[String], depth: usize) -> Option<usize> {
        let mut module = Vec::new();
        let mut rest = path;
        while let Some((next, behind)) = rest.split_first() {
            module.push(next.clone());
            if !self.by_module.contains_key(&module) {
                module.pop();
                break;
            }
            rest = behind;
        }
        let at = *self.by_module.get(&module)?;
        let file = &self.files[at];
        if !file.name.ends_with("mod.rs") {
            return Some(at);
        }
        let (item, behind) = rest.split_first()?;
        if depth > 8 {
            return None;
        }
        if let Some(target) = file.names.get(item) {
            return self.defines(&[target, behind].concat(), depth + 1);
        }
        file.globs.iter().find_map(|glob| self.defines(&[glob.as_slice(), rest].concat(), depth + 1))
    }

    /// The files of the same top module that a file names.
    fn named_by(&self, at: usize) -> BTreeSet<usize> {
        let file = &self.files[at];
        let mut found = BTreeSet::new();
        let globs = file.globs.iter().filter_map(|glob| self.by_module.get(glob).copied());
        let used = file.names.values().filter_map(|path| self.defines(path, 0));
        found.extend(used.chain(globs));
        let path = Regex::new(r"\b(?:[A-Za-z_]\w*::)+[A-Za-z_]\w*").unwrap();
        for inline in path.find_iter(&without_uses(&file.text)) {
            let segments: Vec<String> = inline.as_str().split("::").map(str::to_owned).collect();
            let full = match file.names.get(&segments[0]) {
                Some(target) => [target.as_slice(), &segments[1..]].concat(),
                None => match absolute(&file.module, is_mod(file), &segments, &self.by_module) {
                    Some(full) => full,
                    None => continue,
                },
            };
            found.extend(self.defines(&full, 0));
        }
        found.retain(|other| *other != at && self.files[*other].module[0] == file.module[0]);
        found.retain(|other| !is_mod(&self.files[*other]));
        found
    }
}

fn is_mod(file: &Source) -> bool {
    file.name.ends_with("mod.rs")
}

fn source(file: &SourceFile) -> Option<Source> {
    let name = file.name.clone();
    if name.ends_with("tests.rs") {
        return None;
    }
    let tests = Regex::new(r"#\[cfg\(test\)\]\n(?:pub\([a-z: ]+\) )?mod \w+ \{").unwrap();
    let product = tests.splitn(&file.text, 2).next().unwrap_or_default();
    let comments = Regex::new(r"//[^\n]*").unwrap();
    let text = comments.replace_all(product, "").into_owned();
    let stem = name.trim_end_matches(".rs").trim_end_matches("/mod");
    let module = stem.split('/').map(str::to_owned).collect();
    Some(Source { name, module, text, names: BTreeMap::new(), globs: Vec::new() })
}

/// A path from the root; none where it begins with no module that is known here.
fn absolute(
    module: &[String],
    is_mod: bool,
    path: &[String],
    known: &BTreeMap<Vec<String>, usize>,
) -> Option<Vec<String>> {
    match path[0].as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([module, &path[1..]].concat()),
        "super" => {
            let ups = path.iter().take_while(|segment| *segment == "super").count();
            Some([&module[..module.len().checked_sub(ups)?], &path[ups..]].concat())
        }
        first if is_mod && known.contains_key(&[module, &[first.to_owned()]].concat()) => Some([module, path].concat()),
        _ => None,
    }
}

type Imported = (BTreeMap<String, Vec<String>>, Vec<Vec<String>>);

fn imported(file: &Source, known: &BTreeMap<Vec<String>, usize>) -> Imported {
    let mut imported = Imported::default();
    for line in uses().captures_iter(&file.text) {
        for (path, name) in leaves(&line[1]) {
            let Some(full) = absolute(&file.module, is_mod(file), &path, known) else { continue };
            match name.as_str() {
                "*" => imported.1.push(full),
                _ => drop(imported.0.insert(name, full)),
            }
        }
    }
    imported
}

fn uses() -> Regex {
    Regex::new(r"(?m)^\s*(?:pub(?:\([a-z: ]+\))? )?use ([^;]+);").unwrap()
}

fn without_uses(text: &str) -> String {
    uses().replace_all(text, "").into_owned()
}

/// The leaves of a `use` tree: each path, and the name that it has here; `*` for everything.
fn leaves(tree: &str) -> Vec<(Vec<String>, String)> {
    let tree = tree.trim();
    let split =
        |text: &str| text.split("::").map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect::<Vec<_>>();
    if let Some((start, group)) = tree.split_once('{') {
        let start = split(start);
        let inner = group.strip_suffix('}').unwrap_or(group);
        let of = |(path, name): (Vec<String>, String)| match path.as_slice() {
            [only] if only == "self" => (start.clone(), start.last().cloned().unwrap_or_default()),
            _ => ([start.clone(), path].concat(), name),
        };
        return parts(inner).into_iter().flat_map(leaves).map(of).collect();
    }
    let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias.trim())));
    let mut path = split(path);
    let name = alias.map_or_else(|| path.last().cloned().unwrap_or_default(), str::to_owned);
    if name == "*" {
        path.pop();
    }
    vec![(path, name)]
}

/// The members of a group, at its own depth.
fn parts(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&group[start..]);
    found.into_iter().filter(|part| !part.trim().is_empty()).collect()
}

/// The files that reach one another, in groups.
fn circles(arrows: &[BTreeSet<usize>]) -> Vec<Vec<usize>> {
    let reached: Vec<BTreeSet<usize>> = (0..arrows.len())
        .map(|from| {
            let mut seen = BTreeSet::new();
            let mut next: Vec<usize> = arrows[from].iter().copied().collect();
            while let Some(at) = next.pop() {
                if seen.insert(at) {
                    next.extend(&arrows[at]);
                }
            }
            seen
        })
        .collect();
    let mut found: Vec<Vec<usize>> = Vec::new();
    for at in (0..arrows.len()).filter(|at| reached[*at].contains(at)) {
        let circle: Vec<usize> = reached[at].iter().copied().filter(|other| reached[*other].contains(&at)).collect();
        if !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

#[test]
fn files_import_one_another_in_no_circle() {
    let tree = Tree::of(&sources());
    let arrows: Vec<BTreeSet<usize>> = (0..tree.files.len())
        .map(|at| if is_mod(&tree.files[at]) { BTreeSet::new() } else { tree.named_by(at) })
        .collect();
    let count: usize = arrows.iter().map(BTreeSet::len).sum();
    assert!(count > 400, "only {count} imports were understood");
    let names = |circle: &Vec<usize>| circle.iter().map(|at| tree.files[*at].name.as_str()).collect::<Vec<_>>();
    let found: Vec<Vec<&str>> = circles(&arrows).iter().map(names).collect();
    let within = |circle: &Vec<&str>| {
        let members: Vec<usize> =
            (0..arrows.len()).filter(|at| circle.contains(&tree.files[*at].name.as_str())).collect();
        let each = |at: usize| arrows[at].iter().filter(|to| members.contains(to)).map(move |to| (at, *to));
        let shown = |(from, to): (usize, usize)| format!("    {} -> {}", tree.files[from].name, tree.files[to].name);
        members.iter().flat_map(|at| each(*at)).map(shown).collect::<Vec<_>>().join("\n")
    };
    let shown: Vec<String> = found.iter().map(|circle| format!("{}\n{}", circle.join(", "), within(circle))).collect();
    assert!(shown.is_empty(), "files that import one another:\n{}", shown.join("\n"));
}

#[test]
fn a_use_tree_has_its_leaves() {
    let leaf = |path: &str, name: &str| (path.split("::").map(str::to_owned).collect::<Vec<_>>(), name.to_owned());
    let found = leaves("super::{\n    a::{B, c as d},\n    e::{self, F},\n    g::*,\n}");
    let expected = [
        leaf("super::a::B", "B"),
        leaf("super::a::c", "d"),
        leaf("super::e", "e"),
        leaf("super::e::F", "F"),
        leaf("super::g", "*"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_circle_is_found_through_a_re_export() {
    let file = |name: &str, text: &str| {
        let module = name.trim_end_matches(".rs").trim_end_matches("/mod").split('/').map(str::to_owned).collect();
        Source { name: name.into(), module, text: text.into(), names: BTreeMap::new(), globs: Vec::new() }
    };
    let mut files = vec![
        file("m/a.rs", "use super::B;\npub struct A(B);"),
        file("m/b.rs", "use crate::m::c;\npub struct B; fn f() { c::g() }"),
        file("m/c.rs", "pub fn g() { super::a::h() }"),
        file("m/d.rs", "use super::{A, B};"),
        file("m/mod.rs", "pub use a::A;\npub use b::B;"),
    ];
    let by_module: BTreeMap<Vec<String>, usize> =
        files.iter().enumerate().map(|(at, file)| (file.module.clone(), at)).collect();
    let all: Vec<_> = files.iter().map(|file| imported(file, &by_module)).collect();
    for (file, (names, globs)) in files.iter_mut().zip(all) {
        (file.names, file.globs) = (names, globs);
    }
    let tree = Tree { files, by_module };
    let arrows: Vec<BTreeSet<usize>> = (0..4).map(|at| tree.named_by(at)).collect();
    assert_eq!(circles(&arrows), [[0, 1, 2]]);
}

/// What is known of a drill, and its judgement, are values and functions of values: they can be read again from a file.
#[test]
fn what_is_known_asks_nothing() {
    let waits = Regex::new(r"\basync\b|\.await\b|\b(?:client|config|stack|backup|fault|recovery|rig|steps|look)::|\bstd::fs\b|fs_err|\bSystemTime\b|Timestamp::now").unwrap();
    let rooms = ["run/chronicle", "run/judge"];
    let mut seen = 0;
    let mut wrong = Vec::new();
    for file in in_rooms(&rooms) {
        seen += 1;
        for (number, line) in file.text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            if waits.is_match(line) {
                wrong.push(format!("{}:{}: {}", file.name, number + 1, line.trim()));
            }
        }
    }
    assert!(seen > 8, "only {seen} files were looked at");
    assert!(wrong.is_empty(), "these ask or wait:\n{}", wrong.join("\n"));
}
