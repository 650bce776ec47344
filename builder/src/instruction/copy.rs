//! COPY and ADD.

use super::Heredoc;
use crate::expand::Word;
use crate::parse::Spanned;

/// COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The flags.
    pub flags: CopyFlags,
    /// What is copied, in order, never empty.
    pub sources: Vec<CopySource>,
    /// Where to.
    pub destination: Word,
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// A path, pattern or, for ADD, URL.
    Path(Word),
    /// A here-document.
    Heredoc(Heredoc),
}

/// Flags of COPY and ADD; those that the instruction does not have are never set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyFlags {
    /// `--from`: stage, named context or image; no variables.
    pub from: Option<Spanned<String>>,
    /// `--chown`
    pub chown: Option<Word>,
    /// `--chmod`: see [`parse_chmod`].
    pub chmod: Option<Word>,
    /// `--checksum`
    pub checksum: Option<Word>,
    /// `--link`
    pub link: Option<Spanned<bool>>,
    /// `--parents`
    pub parents: Option<Spanned<bool>>,
    /// `--keep-git-dir`
    pub keep_git_dir: Option<Spanned<bool>>,
    /// `--unpack`
    pub unpack: Option<Spanned<bool>>,
    /// `--exclude`, in order.
    pub exclude: Vec<Word>,
}

/// A value of `--chmod`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permissions {
    /// Octal: the mode, at most 07777.
    Octal(u32),
    /// Symbolic: see [`Permissions::apply`].
    Symbolic(Vec<SymbolicClause>),
}

/// `who` `op` `perms` of a symbolic mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymbolicClause {
    /// Bits that may change.
    pub who: u32,
    /// `+`, `-` or `=`.
    pub op: char,
    /// Letters behind it.
    pub perms: String,
}

impl Permissions {
    /// The permission bits after the change; `mode` are the file's own.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let clauses = match self {
            Permissions::Octal(mode) => return *mode,
            Permissions::Symbolic(clauses) => clauses,
        };
        let mut result = mode & 0o7777;
        for clause in clauses {
            let bits = clause.bits(result, is_directory);
            match clause.op {
                '+' => result |= bits,
                '-' => result &= !bits,
                _ => result = result & !clause.who | bits,
            }
        }
        result
    }
}

impl SymbolicClause {
    fn bits(&self, mode: u32, is_directory: bool) -> u32 {
        let bits = self.perms.chars().fold(0, |bits, letter| {
            bits | match letter {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if is_directory || mode & 0o111 != 0 => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                'u' => (mode >> 6 & 7) * 0o111,
                'g' => (mode >> 3 & 7) * 0o111,
                'o' => (mode & 7) * 0o111,
                _ => 0,
            }
        });
        bits & self.who
    }
}

/// Reads an expanded value of `--chmod`: octal up to 07777, or symbolic like `u=rwX,go-w`.
pub fn parse_chmod(value: &str) -> Result<Permissions, String> {
    let bad = || format!("`{value}` is no mode: it is octal up to 7777, or symbolic like u=rwX,go=rX");
    if value.is_empty() {
        return Err(bad());
    }
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        let mode = u32::from_str_radix(value, 8).map_err(|_| bad())?;
        return if mode <= 0o7777 { Ok(Permissions::Octal(mode)) } else { Err(bad()) };
    }
    let mut clauses = Vec::new();
    for part in value.split(',') {
        let operators = part.find(['+', '-', '=']).ok_or_else(bad)?;
        let (who, mut rest) = part.split_at(operators);
        let mask = who_mask(who).ok_or_else(bad)?;
        while let Some(op) = rest.chars().next() {
            let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |at| at + 1);
            let perms = &rest[1..end];
            let copies = matches!(perms, "u" | "g" | "o");
            if !copies && !perms.chars().all(|letter| "rwxXst".contains(letter)) {
                return Err(bad());
            }
            clauses.push(SymbolicClause { who: mask, op, perms: perms.to_owned() });
            rest = &rest[end..];
        }
    }
    Ok(Permissions::Symbolic(clauses))
}

/// The bits that `ugoa` stand for; nobody named means all, whatever the umask.
fn who_mask(who: &str) -> Option<u32> {
    if who.is_empty() {
        return Some(0o7777);
    }
    who.chars().try_fold(0, |mask, letter| {
        let bits = match letter {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
        Some(mask | bits)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn octal_modes() {
        assert_eq!(parse_chmod("755").unwrap(), Permissions::Octal(0o755));
        assert_eq!(parse_chmod("07777").unwrap(), Permissions::Octal(0o7777));
        for bad in ["", "10000", "8", "u", "u=q", "q=r", "u=rw,", "0x1"] {
            assert!(parse_chmod(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn symbolic_modes() {
        let cases = [
            ("u=rwX,go=rX", 0o644, false, 0o644),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("g=u", 0o640, false, 0o660),
            ("u+s,g+s,+t", 0o755, false, 0o7755),
            ("u+x-w", 0o600, false, 0o500),
            ("o=", 0o777, false, 0o770),
            ("u=rwx", 0o4644, false, 0o744),
        ];
        for (text, before, is_directory, after) in cases {
            let result = parse_chmod(text).unwrap().apply(before, is_directory);
            assert_eq!(result, after, "{text} on {before:o}: {result:o}");
        }
    }
}
