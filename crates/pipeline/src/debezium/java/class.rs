//! Sets of characters.

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

pub(super) const WORD: &[(char, char)] = &[('a', 'z'), ('A', 'Z'), ('0', '9'), ('_', '_')];
pub(super) const SPACE: &[(char, char)] = &[('\t', '\r'), (' ', ' ')];
pub(super) const VERTICAL: &[(char, char)] = &[('\n', '\r'), ('\u{85}', '\u{85}'), ('\u{2028}', '\u{2029}')];
pub(super) const HORIZONTAL: &[(char, char)] = &[
    ('\t', '\t'),
    (' ', ' '),
    ('\u{a0}', '\u{a0}'),
    ('\u{1680}', '\u{1680}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{2000}', '\u{200a}'),
    ('\u{202f}', '\u{202f}'),
    ('\u{205f}', '\u{205f}'),
    ('\u{3000}', '\u{3000}'),
];

pub(super) fn ascii(ranges: &[(char, char)]) -> ClassUnicode {
    ClassUnicode::new(ranges.iter().map(|(first, last)| ClassUnicodeRange::new(*first, *last)))
}

pub(super) fn negated(mut class: ClassUnicode) -> ClassUnicode {
    class.negate();
    class
}

/// A set of characters as a class that every engine reads alike.
pub(super) fn written(class: &ClassUnicode) -> String {
    if class.ranges().is_empty() {
        return r"[^\x{0}-\x{10FFFF}]".to_owned();
    }
    let number = |c: char| format!(r"\x{{{:X}}}", u32::from(c));
    let range = |r: &ClassUnicodeRange| match r.start() == r.end() {
        true => number(r.start()),
        false => format!("{}-{}", number(r.start()), number(r.end())),
    };
    format!("[{}]", class.ranges().iter().map(range).collect::<String>())
}
