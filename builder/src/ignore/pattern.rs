//! One pattern of an ignore file.

/// A pattern in the cheapest form that matches it. Ignore files hold plain names, `**/name` and `dir/**` above all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pattern {
    /// The path itself.
    Exact(Vec<u8>),
    /// `dir/**`: all below, the slash is part of the prefix.
    Prefix(Vec<u8>),
    /// `**name`: paths that end so.
    Suffix(Vec<u8>),
    /// `**/name`: the path itself, or one that ends with a slash and it.
    Below(Vec<u8>),
    /// Any other.
    Glob(Glob),
}

/// Tokens, with what is literal at both ends for a quick no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    tokens: Vec<Token>,
    prefix: Vec<u8>,
    suffix: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`
    Any,
    /// `[..]`: negated, ranges.
    Class(bool, Vec<(char, char)>),
    /// `*`
    Star,
    /// `**/` within a pattern: nothing, or anything that ends with a slash.
    Directories,
    /// `**` at the end: anything.
    Rest,
}

impl Token {
    fn matches(&self, char: char) -> bool {
        match self {
            Token::Char(expected) => *expected == char,
            Token::Any => char != '/',
            Token::Class(negated, ranges) => {
                char != '/' && ranges.iter().any(|&(low, high)| (low..=high).contains(&char)) != *negated
            }
            Token::Star | Token::Directories | Token::Rest => false,
        }
    }
}

impl Pattern {
    /// Reads a cleaned pattern; `None` if it is malformed.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let tokens = tokens(text)?;
        let literal = |tokens: &[Token]| -> Option<Vec<u8>> {
            let chars = tokens.iter().map(|token| match token {
                Token::Char(char) => Some(*char),
                _ => None,
            });
            chars.collect::<Option<String>>().map(String::into_bytes)
        };
        let simple = match tokens.as_slice() {
            [Token::Rest] => Some(Pattern::Prefix(Vec::new())),
            [Token::Directories, rest @ ..] if text.starts_with("**/") => literal(rest).map(Pattern::Below),
            [Token::Directories, rest @ ..] => literal(rest).map(Pattern::Suffix),
            [first @ .., Token::Rest] => literal(first).map(Pattern::Prefix),
            all => literal(all).map(Pattern::Exact),
        };
        Some(simple.unwrap_or_else(|| {
            let is_literal = |token: &&Token| matches!(token, Token::Char(_));
            let start = tokens.iter().take_while(is_literal).count();
            let end = tokens.iter().rev().take_while(is_literal).count();
            let prefix = literal(&tokens[..start]).unwrap_or_default();
            let suffix = literal(&tokens[tokens.len() - end..]).unwrap_or_default();
            Pattern::Glob(Glob { tokens, prefix, suffix })
        }))
    }

    /// What all paths that match begin with.
    pub(super) fn prefix(&self) -> &[u8] {
        match self {
            Pattern::Exact(text) | Pattern::Prefix(text) => text,
            Pattern::Glob(glob) => &glob.prefix,
            Pattern::Suffix(_) | Pattern::Below(_) => &[],
        }
    }

    pub(super) fn matches(&self, path: &[u8]) -> bool {
        match self {
            Pattern::Exact(text) => path == text,
            Pattern::Prefix(prefix) => path.starts_with(prefix),
            Pattern::Suffix(suffix) => path.ends_with(suffix),
            Pattern::Below(name) => path
                .strip_suffix(name.as_slice())
                .is_some_and(|directory| directory.is_empty() || directory.ends_with(b"/")),
            Pattern::Glob(glob) => {
                path.starts_with(&glob.prefix)
                    && path.ends_with(&glob.suffix)
                    && glob.ends_in(path, &[], true)
            }
        }
    }

    /// Whether a path below this directory may match.
    pub(super) fn may_match_below(&self, directory: &[u8]) -> bool {
        let below = |text: &[u8]| {
            text.strip_prefix(directory).is_some_and(|rest| directory.is_empty() || rest.starts_with(b"/"))
        };
        match self {
            Pattern::Exact(text) => below(text),
            Pattern::Prefix(prefix) => {
                below(prefix) || directory.starts_with(prefix) || [directory, b"/"].concat() == *prefix
            }
            Pattern::Suffix(_) | Pattern::Below(_) => true,
            Pattern::Glob(glob) => directory.is_empty() || glob.ends_in(directory, b"/", false),
        }
    }
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        tokens.push(match char {
            '*' if chars.peek() == Some(&'*') => {
                chars.next();
                if chars.peek() == Some(&'/') {
                    chars.next();
                }
                if chars.peek().is_none() { Token::Rest } else { Token::Directories }
            }
            '*' => Token::Star,
            '?' => Token::Any,
            '\\' => Token::Char(chars.next()?),
            '[' => {
                let negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                loop {
                    let low = match chars.next()? {
                        ']' if ranges.is_empty() => return None,
                        ']' => break,
                        '-' => return None,
                        '\\' => chars.next()?,
                        char => char,
                    };
                    let high = if chars.next_if_eq(&'-').is_some() {
                        match chars.next()? {
                            ']' | '-' => return None,
                            '\\' => chars.next()?,
                            char => char,
                        }
                    } else {
                        low
                    };
                    if high < low {
                        return None;
                    }
                    ranges.push((low, high));
                }
                Token::Class(negated, ranges)
            }
            char => Token::Char(char),
        });
    }
    Some(tokens)
}

/// A set of positions in a pattern: one bit a token, and one for its end.
trait Positions {
    fn get(&self, position: usize) -> bool;
    fn set(&mut self, position: usize);
    fn is_empty(&self) -> bool;
    fn clear(&mut self);
}

impl Positions for u128 {
    fn get(&self, position: usize) -> bool {
        self >> position & 1 != 0
    }

    fn set(&mut self, position: usize) {
        *self |= 1 << position;
    }

    fn is_empty(&self) -> bool {
        *self == 0
    }

    fn clear(&mut self) {
        *self = 0;
    }
}

impl Positions for Vec<bool> {
    fn get(&self, position: usize) -> bool {
        self[position]
    }

    fn set(&mut self, position: usize) {
        self[position] = true;
    }

    fn is_empty(&self) -> bool {
        !self.contains(&true)
    }

    fn clear(&mut self) {
        self.fill(false);
    }
}

impl Glob {
    /// Whether the pattern matches both texts together: to its end, or, not `complete`, so that more text may follow.
    fn ends_in(&self, text: &[u8], more: &[u8], complete: bool) -> bool {
        if self.tokens.len() < 128 {
            return self.simulate(0_u128, 0_u128, text, more, complete);
        }
        let empty = vec![false; self.tokens.len() + 1];
        self.simulate(empty.clone(), empty, text, more, complete)
    }

    /// Follows all ways through the pattern at once: time is length of the text times length of the pattern, whatever
    /// they hold.
    fn simulate<P: Positions>(
        &self,
        mut now: P,
        mut then: P,
        text: &[u8],
        more: &[u8],
        complete: bool,
    ) -> bool {
        self.enter(&mut now, 0);
        for char in chars(text).chain(chars(more)) {
            then.clear();
            for (position, token) in self.tokens.iter().enumerate() {
                if !now.get(position) {
                    continue;
                }
                match token {
                    Token::Rest => self.enter(&mut then, position),
                    Token::Star if char != '/' => self.enter(&mut then, position),
                    // Within the directories: stay; behind a slash they may end.
                    Token::Directories => {
                        then.set(position);
                        if char == '/' {
                            self.enter(&mut then, position + 1);
                        }
                    }
                    token if token.matches(char) => self.enter(&mut then, position + 1),
                    _ => {}
                }
            }
            std::mem::swap(&mut now, &mut then);
            if now.is_empty() {
                return false;
            }
        }
        if complete { now.get(self.tokens.len()) } else { true }
    }

    /// Adds a position, and those behind it that are reached without a character.
    fn enter<P: Positions>(&self, set: &mut P, position: usize) {
        set.set(position);
        let skippable = |token: &Token| matches!(token, Token::Star | Token::Directories | Token::Rest);
        let mut position = position;
        while self.tokens.get(position).is_some_and(skippable) {
            position += 1;
            set.set(position);
        }
    }
}

/// Characters of any bytes: one that is not UTF-8 stands for itself.
fn chars(bytes: &[u8]) -> impl Iterator<Item = char> {
    bytes.utf8_chunks().flat_map(|chunk| {
        chunk.valid().chars().chain(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER))
    })
}
