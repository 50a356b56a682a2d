//! From one dialect to the other, construct by construct.

use std::collections::BTreeSet;

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

use super::{
    character::{Character, quoted},
    class::{HORIZONTAL, SPACE, VERTICAL, WORD, ascii, negated, written},
};

#[derive(Clone, Copy)]
struct Flags {
    ignore_case: bool,
    dot_all: bool,
    unix_lines: bool,
}

pub(super) fn translate(text: &str, ignore_case: bool) -> Result<String, String> {
    let flags = Flags { ignore_case, dot_all: false, unix_lines: false };
    let mut parser = Parser { input: quoted(text), at: 0, flags, names: BTreeSet::new(), out: String::new() };
    parser.alternatives()?;
    match parser.peek() {
        None => Ok(parser.out),
        Some(c) => Err(format!("`{}` that nothing opens", c.character)),
    }
}

struct Parser {
    input: Vec<Character>,
    at: usize,
    flags: Flags,
    names: BTreeSet<String>,
    out: String,
}

/// What an escape stands for.
enum Escape {
    Literal(char),
    Class(ClassUnicode),
    Start,
    End,
}

impl Parser {
    fn peek(&self) -> Option<Character> {
        self.input.get(self.at).copied()
    }

    /// The next character that has a meaning of its own, if it is one.
    fn symbol(&self) -> Option<char> {
        self.peek().and_then(Character::symbol)
    }

    fn symbol_after(&self, ahead: usize) -> Option<char> {
        self.input.get(self.at + ahead).copied().and_then(Character::symbol)
    }

    fn next(&mut self) -> Result<Character, String> {
        let next = self.peek().ok_or("it ends in the middle of a construct")?;
        self.at += 1;
        Ok(next)
    }

    fn takes(&mut self, symbols: &str) -> bool {
        let there = symbols.chars().enumerate().all(|(i, c)| self.symbol_after(i) == Some(c));
        if there {
            self.at += symbols.chars().count();
        }
        there
    }

    fn alternatives(&mut self) -> Result<(), String> {
        loop {
            self.sequence()?;
            if !self.takes("|") {
                return Ok(());
            }
            self.out.push('|');
        }
    }

    fn sequence(&mut self) -> Result<(), String> {
        while let Some(next) = self.peek() {
            let start = self.out.len();
            match next.symbol() {
                None => {
                    self.at += 1;
                    self.literal(next.character);
                }
                Some('|' | ')') => return Ok(()),
                Some('(') => {
                    if self.group()? {
                        continue;
                    }
                }
                Some('[') => {
                    self.at += 1;
                    let class = self.class(true)?;
                    self.out.push_str(&written(&class));
                }
                Some('\\') => match self.escape()? {
                    Escape::Literal(c) => self.literal(c),
                    Escape::Class(class) => self.out.push_str(&written(&class)),
                    Escape::Start => self.out.push_str(r"\A"),
                    Escape::End => self.out.push_str(r"\z"),
                },
                Some('^') => {
                    self.at += 1;
                    self.out.push_str(r"\A");
                }
                Some('$') => {
                    self.at += 1;
                    // Also before a line's end that nothing follows.
                    self.out.push_str(match self.flags.unix_lines {
                        true => r"(?=\n?\z)",
                        false => r"(?=(?:\r\n|(?<!\r)\n|[\r\x{85}\x{2028}\x{2029}])?\z)",
                    });
                }
                Some('.') => {
                    self.at += 1;
                    let ends: &[char] = match self.flags {
                        Flags { dot_all: true, .. } => &[],
                        Flags { unix_lines: true, .. } => &['\n'],
                        _ => &['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'],
                    };
                    let mut class = ClassUnicode::new(ends.iter().map(|c| ClassUnicodeRange::new(*c, *c)));
                    class.negate();
                    self.out.push_str(&written(&class));
                }
                Some(c @ ('*' | '+' | '?' | '{')) => return Err(format!("`{c}` with nothing before it")),
                Some(c) => {
                    self.at += 1;
                    self.literal(c);
                }
            }
            self.quantifier(start)?;
        }
        Ok(())
    }

    fn literal(&mut self, c: char) {
        let class = self.cased(ClassUnicode::new([ClassUnicodeRange::new(c, c)]));
        self.out.push_str(&written(&class));
    }

    /// With the other case of its ASCII letters, where case does not count.
    fn cased(&self, mut class: ClassUnicode) -> ClassUnicode {
        if !self.flags.ignore_case {
            return class;
        }
        let there = |c: u8| class.ranges().iter().any(|r| (r.start()..=r.end()).contains(&char::from(c)));
        let letters = (b'a'..=b'z').chain(b'A'..=b'Z').filter(|c| there(*c));
        let others: Vec<char> = letters.map(|c| char::from(c ^ 0x20)).collect();
        class.union(&ClassUnicode::new(others.into_iter().map(|c| ClassUnicodeRange::new(c, c))));
        class
    }

    /// A group, or flags for what follows, which is no group.
    fn group(&mut self) -> Result<bool, String> {
        self.at += 1;
        let before = self.flags;
        if !self.takes("?") {
            self.out.push_str("(?:");
        } else if self.takes("<=") {
            self.out.push_str("(?<=");
        } else if self.takes("<!") {
            self.out.push_str("(?<!");
        } else if self.takes("<") {
            self.name()?;
            self.out.push_str("(?:");
        } else if self.takes("=") {
            self.out.push_str("(?=");
        } else if self.takes("!") {
            self.out.push_str("(?!");
        } else if self.takes(">") {
            self.out.push_str("(?>");
        } else if self.flags()? {
            return Ok(true);
        } else {
            self.out.push_str("(?:");
        }
        self.alternatives()?;
        if !self.takes(")") {
            return Err("a group that nothing closes".into());
        }
        self.out.push(')');
        self.flags = before;
        Ok(false)
    }

    fn name(&mut self) -> Result<(), String> {
        let mut name = String::new();
        loop {
            match self.next()?.symbol() {
                Some('>') if !name.is_empty() => break,
                Some(c) if c.is_ascii_alphabetic() || (!name.is_empty() && c.is_ascii_digit()) => name.push(c),
                _ => return Err("a group's name that Java does not allow".into()),
            }
        }
        match self.names.insert(name.clone()) {
            true => Ok(()),
            false => Err(format!("two groups named {name}")),
        }
    }

    /// Reads flags up to `)`, which apply to what follows, or to `:`, which begins a group with them.
    fn flags(&mut self) -> Result<bool, String> {
        let mut on = true;
        loop {
            match self.next()?.symbol() {
                Some('-') if on => on = false,
                Some('i') => self.flags.ignore_case = on,
                Some('s') => self.flags.dot_all = on,
                Some('d') => self.flags.unix_lines = on,
                Some(')') => return Ok(true),
                Some(':') => return Ok(false),
                Some(c) => return Err(format!("flag `{c}`")),
                None => return Err("a quoted flag".into()),
            }
        }
    }

    /// A quantifier of what was written from `start` on. One that gives nothing back is an atomic group.
    fn quantifier(&mut self, start: usize) -> Result<(), String> {
        let mut quantifier = String::new();
        match self.symbol() {
            Some(c @ ('?' | '*' | '+')) => {
                self.at += 1;
                quantifier.push(c);
            }
            Some('{') => loop {
                match self.next()?.symbol() {
                    Some(c @ ('{' | ',' | '}')) => quantifier.push(c),
                    Some(c) if c.is_ascii_digit() => quantifier.push(c),
                    _ => return Err("a repetition that is no `{n}`, `{n,}` or `{n,m}`".into()),
                }
                if quantifier.ends_with('}') {
                    let numbers: Vec<&str> = quantifier[1..quantifier.len() - 1].split(',').collect();
                    let fits = match numbers.as_slice() {
                        [n] => !n.is_empty(),
                        [n, m] => !n.is_empty() && (m.is_empty() || n.parse::<u32>().ok() <= m.parse::<u32>().ok()),
                        _ => false,
                    };
                    match fits && !quantifier[1..].contains('{') {
                        true => break,
                        false => return Err("a repetition that is no `{n}`, `{n,}` or `{n,m}`".into()),
                    }
                }
            },
            _ => return Ok(()),
        }
        if self.takes("+") {
            self.out.insert_str(start, "(?>");
            self.out.push_str(&quantifier);
            self.out.push(')');
        } else {
            self.out.push_str(&quantifier);
            if self.takes("?") {
                self.out.push('?');
            }
        }
        Ok(())
    }

    /// An escape, from its backslash on, outside classes or within one.
    fn escape(&mut self) -> Result<Escape, String> {
        self.at += 1;
        let c = self.next()?.character;
        let class = |escape| Ok(Escape::Class(escape));
        match c {
            't' => Ok(Escape::Literal('\t')),
            'n' => Ok(Escape::Literal('\n')),
            'r' => Ok(Escape::Literal('\r')),
            'f' => Ok(Escape::Literal('\u{c}')),
            'a' => Ok(Escape::Literal('\u{7}')),
            'e' => Ok(Escape::Literal('\u{1b}')),
            '0' => self.octal(),
            'x' => self.hexadecimal(),
            'u' => {
                let digits = self.digits(4, 16)?;
                of_number(digits)
            }
            'c' => {
                let next = self.next()?.character;
                of_number(u32::from(next) ^ 64)
            }
            'A' => Ok(Escape::Start),
            'z' => Ok(Escape::End),
            'd' => class(ascii(&[('0', '9')])),
            'D' => class(negated(ascii(&[('0', '9')]))),
            'w' => class(ascii(WORD)),
            'W' => class(negated(ascii(WORD))),
            's' => class(ascii(SPACE)),
            'S' => class(negated(ascii(SPACE))),
            'h' => class(ascii(HORIZONTAL)),
            'H' => class(negated(ascii(HORIZONTAL))),
            'v' => class(ascii(VERTICAL)),
            'V' => class(negated(ascii(VERTICAL))),
            'p' => class(self.property()?),
            'P' => class(negated(self.property()?)),
            c if c.is_ascii_alphanumeric() => Err(format!(r"`\{c}`")),
            c => Ok(Escape::Literal(c)),
        }
    }

    fn digits(&mut self, count: usize, radix: u32) -> Result<u32, String> {
        let mut number = 0;
        for _ in 0..count {
            let digit = self.next()?.symbol().and_then(|c| c.to_digit(radix));
            number = number * radix + digit.ok_or("a character's number with too few digits")?;
        }
        Ok(number)
    }

    fn octal(&mut self) -> Result<Escape, String> {
        let mut number = self.digits(1, 8)?;
        for _ in 0..2 {
            let digit = self.symbol().and_then(|c| c.to_digit(8));
            match digit.map(|d| number * 8 + d).filter(|n| *n < 0o400) {
                Some(longer) => number = longer,
                None => break,
            }
            self.at += 1;
        }
        of_number(number)
    }

    fn hexadecimal(&mut self) -> Result<Escape, String> {
        if !self.takes("{") {
            let number = self.digits(2, 16)?;
            return of_number(number);
        }
        let mut number: u32 = 0;
        let mut any = false;
        while !self.takes("}") {
            number = number.saturating_mul(16).saturating_add(self.digits(1, 16)?);
            any = true;
        }
        if any { of_number(number) } else { Err("a character's number with too few digits".into()) }
    }

    /// A property of POSIX, which knows ASCII alone. What others have depends on the version of Unicode that Java has.
    fn property(&mut self) -> Result<ClassUnicode, String> {
        let mut name = String::new();
        match self.takes("{") {
            false => name.push(self.next()?.character),
            true => {
                while !self.takes("}") {
                    name.push(self.next()?.character);
                }
            }
        }
        let letters: &[(char, char)] = &[('a', 'z'), ('A', 'Z')];
        let set: &[(char, char)] = match name.as_str() {
            "Lower" | "Upper" if self.flags.ignore_case => letters,
            "Lower" => &[('a', 'z')],
            "Upper" => &[('A', 'Z')],
            "ASCII" => &[('\0', '\u{7f}')],
            "Alpha" => letters,
            "Digit" => &[('0', '9')],
            "Alnum" => &[('a', 'z'), ('A', 'Z'), ('0', '9')],
            "Punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
            "Graph" => &[('!', '~')],
            "Print" => &[(' ', '~')],
            "Blank" => &[(' ', ' '), ('\t', '\t')],
            "Cntrl" => &[('\0', '\u{1f}'), ('\u{7f}', '\u{7f}')],
            "XDigit" => &[('0', '9'), ('a', 'f'), ('A', 'F')],
            "Space" => SPACE,
            _ => return Err(format!(r"property `\p{{{name}}}`")),
        };
        Ok(ascii(set))
    }

    /// A class behind its `[`; without `bracket` the right side of an intersection, which its class's `]` ends too.
    fn class(&mut self, bracket: bool) -> Result<ClassUnicode, String> {
        let mut class: Option<ClassUnicode> = None;
        let negate = bracket && self.takes("^");
        let join = |class: &mut Option<ClassUnicode>, more: ClassUnicode| match class {
            Some(class) => class.union(&more),
            None => *class = Some(more),
        };
        loop {
            match self.symbol() {
                Some(']') if class.is_some() => {
                    if bracket {
                        self.at += 1;
                    }
                    break;
                }
                Some('[') => {
                    self.at += 1;
                    let nested = self.class(true)?;
                    join(&mut class, nested);
                }
                Some('&') if self.symbol_after(1) == Some('&') => {
                    self.at += 2;
                    let right = self.intersected()?;
                    match &mut class {
                        Some(class) => class.intersect(&right),
                        None => class = Some(right),
                    }
                }
                _ => {
                    let range = self.range()?;
                    join(&mut class, range);
                }
            }
        }
        let mut class = class.unwrap_or_else(ClassUnicode::empty);
        if negate {
            class.negate();
        }
        Ok(class)
    }

    /// What stands right of `&&`, up to the next one or the class's end.
    fn intersected(&mut self) -> Result<ClassUnicode, String> {
        let mut right: Option<ClassUnicode> = None;
        loop {
            let more = match self.symbol() {
                Some(']') => break,
                Some('&') if self.symbol_after(1) == Some('&') => break,
                Some('[') => {
                    self.at += 1;
                    self.class(true)?
                }
                _ => self.class(false)?,
            };
            match &mut right {
                Some(right) => right.union(&more),
                None => right = Some(more),
            }
        }
        right.ok_or_else(|| "`&&` with nothing on its right".into())
    }

    fn range(&mut self) -> Result<ClassUnicode, String> {
        let first = match self.symbol() {
            Some('\\') => match self.escape()? {
                Escape::Literal(c) => c,
                Escape::Class(class) => return Ok(class),
                Escape::Start | Escape::End => return Err("an anchor within a class".into()),
            },
            _ => self.next()?.character,
        };
        let mut last = first;
        // A hyphen before `]` or `[` is itself.
        let ranged = self.symbol() == Some('-') && !matches!(self.symbol_after(1), Some('[' | ']'));
        if ranged {
            self.at += 1;
            last = match self.symbol() {
                Some('\\') => match self.escape()? {
                    Escape::Literal(c) => c,
                    _ => return Err("a range that ends with a class".into()),
                },
                _ => self.next()?.character,
            };
            if last < first {
                return Err(format!("range `{first}-{last}`, which runs backwards"));
            }
        }
        Ok(self.cased(ClassUnicode::new([ClassUnicodeRange::new(first, last)])))
    }
}

fn of_number(number: u32) -> Result<Escape, String> {
    char::from_u32(number).map(Escape::Literal).ok_or_else(|| "half of a surrogate pair".into())
}
