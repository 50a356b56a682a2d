//! The characters of an expression, with what is quoted in it.

/// A character of an expression, and whether it stands between `\Q` and `\E`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Character {
    pub(super) character: char,
    pub(super) quoted: bool,
}

impl Character {
    /// The character, unless it is quoted and so has no meaning but itself.
    pub(super) fn symbol(self) -> Option<char> {
        (!self.quoted).then_some(self.character)
    }
}

/// Takes `\Q` and `\E` away and marks what stands between them.
pub(super) fn quoted(text: &str) -> Vec<Character> {
    let mut characters = Vec::new();
    let mut rest = text.chars().peekable();
    let mut within = false;
    while let Some(character) = rest.next() {
        let next = rest.peek().copied();
        match (character, next, within) {
            ('\\', Some('E'), true) | ('\\', Some('Q'), false) => {
                within = !within;
                rest.next();
            }
            ('\\', Some(escaped), false) => {
                characters.push(Character { character, quoted: false });
                characters.push(Character { character: escaped, quoted: false });
                rest.next();
            }
            _ => characters.push(Character { character, quoted: within }),
        }
    }
    characters
}
