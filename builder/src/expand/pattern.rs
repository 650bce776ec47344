//! Patterns of `${V#p}` and its like: `*` is any text, `?` any character, a backslash escapes.

/// Characters a pattern may have: matching takes pattern times value.
const MAX_PATTERN: usize = 4096;

/// A pattern: runs of fixed length with any text between two of them.
#[derive(Debug)]
pub(super) struct Pattern {
    // Never empty: `a*b` is two runs, `*` is two empty ones.
    runs: Vec<Vec<Unit>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Char(char),
    Any,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.chars().nth(MAX_PATTERN).is_some() {
            return Err(format!("it has more than {MAX_PATTERN} characters"));
        }
        let mut runs = vec![Vec::new()];
        let mut push = |unit: Option<Unit>| match unit {
            None => runs.push(Vec::new()),
            Some(unit) => {
                if let Some(run) = runs.last_mut() {
                    run.push(unit);
                }
            }
        };
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            match char {
                '*' => push(None),
                '?' => push(Some(Unit::Any)),
                '\\' => match chars.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => push(Some(Unit::Char(escaped))),
                    Some(other) => return Err(format!("invalid escape `\\{other}`")),
                    None => return Err("nothing follows the last `\\`".to_owned()),
                },
                char => push(Some(Unit::Char(char))),
            }
        }
        Ok(Self { runs })
    }

    /// The value without the shortest or longest prefix that matches.
    pub(super) fn without_prefix(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let end = self.end_of_match(&chars, 0, longest).unwrap_or(0);
        chars[end..].iter().collect()
    }

    /// The value without the shortest or longest suffix that matches.
    pub(super) fn without_suffix(&self, value: &str, longest: bool) -> String {
        let reversed: Vec<char> = value.chars().rev().collect();
        let runs = self.runs.iter().rev().map(|run| run.iter().rev().copied().collect()).collect();
        let end = Self { runs }.end_of_match(&reversed, 0, longest).unwrap_or(0);
        reversed[end..].iter().rev().collect()
    }

    /// The value with the first match, or all, replaced; each is the leftmost and longest. `None` if the result would
    /// be larger than `budget` bytes.
    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool, budget: usize) -> Option<String> {
        let chars: Vec<char> = value.chars().collect();
        let mut result = String::new();
        let mut position = 0;
        let mut end_of_last = None;
        while position <= chars.len() {
            let Some((start, end)) = self.find(&chars, position) else { break };
            result.extend(&chars[position..start]);
            // An empty match right behind another match is none.
            if start != end || end_of_last != Some(start) {
                result.push_str(replacement);
            }
            end_of_last = Some(end);
            position = end;
            if result.len() > budget {
                return None;
            }
            if !all {
                break;
            }
            if start == end {
                result.extend(chars.get(position));
                position += 1;
            }
        }
        result.extend(chars.get(position..).unwrap_or_default());
        Some(result)
    }

    fn find(&self, value: &[char], from: usize) -> Option<(usize, usize)> {
        // Where the first run fits earliest there is most room for the rest: if that fails, so do all later places.
        let start = find_run(&self.runs[0], value, from)?;
        self.end_of_match(value, start, true).map(|end| (start, end))
    }

    fn end_of_match(&self, value: &[char], start: usize, longest: bool) -> Option<usize> {
        let (first, rest) = self.runs.split_first()?;
        if !fits(first, value, start) {
            return None;
        }
        let mut position = start + first.len();
        let Some((last, middle)) = rest.split_last() else { return Some(position) };
        for run in middle {
            position = find_run(run, value, position)? + run.len();
        }
        if longest {
            let latest = value.len().checked_sub(last.len())?;
            let found = (position..=latest).rev().find(|&at| fits(last, value, at))?;
            return Some(found + last.len());
        }
        find_run(last, value, position).map(|at| at + last.len())
    }
}

fn fits(run: &[Unit], value: &[char], at: usize) -> bool {
    value.get(at..at + run.len()).is_some_and(|part| {
        run.iter().zip(part).all(|(unit, char)| match unit {
            Unit::Any => true,
            Unit::Char(expected) => expected == char,
        })
    })
}

fn find_run(run: &[Unit], value: &[char], from: usize) -> Option<usize> {
    let latest = value.len().checked_sub(run.len())?;
    (from..=latest).find(|&at| fits(run, value, at))
}
