//! Variables in the order in which they came, found by name.

use std::collections::HashMap;

/// `NAME=value` strings as an image's config has them.
#[derive(Debug, Clone, Default)]
pub(super) struct Environment {
    entries: Vec<String>,
    places: HashMap<String, usize>,
}

impl Environment {
    pub(super) fn new(entries: Vec<String>) -> Self {
        let mut places = HashMap::new();
        for (place, entry) in entries.iter().enumerate() {
            // Of a name that stands twice, the first counts.
            places.entry(name(entry).to_owned()).or_insert(place);
        }
        Self { entries, places }
    }

    pub(super) fn entries(&self) -> &[String] {
        &self.entries
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.entries[*self.places.get(name)?].split_once('=').map(|(_, value)| value)
    }

    /// Sets a variable in place, or at the end.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        // A name may hold a `=` after expansion; what counts is what stands before the first.
        match self.places.get(self::name(&entry)) {
            Some(&place) => self.entries[place] = entry,
            None => {
                self.places.insert(self::name(&entry).to_owned(), self.entries.len());
                self.entries.push(entry);
            }
        }
    }

    /// Sets and takes away what the command line names.
    pub(super) fn apply(&mut self, set: &[(String, String)], unset: &[String]) {
        for (name, value) in set {
            self.set(name, value);
        }
        if !unset.is_empty() {
            let mut entries = std::mem::take(&mut self.entries);
            entries.retain(|entry| !unset.iter().any(|unset| unset == name(entry)));
            *self = Self::new(entries);
        }
    }

    /// Bytes that a copy takes.
    pub(super) fn size(&self) -> usize {
        self.entries.iter().map(|entry| entry.len() + 64).sum()
    }
}

fn name(entry: &str) -> &str {
    entry.split('=').next().unwrap_or(entry)
}

/// ARGs in scope, in the order of their first declaration; an argument may have no value.
#[derive(Debug, Clone, Default)]
pub(super) struct Arguments {
    entries: Vec<(String, Option<String>)>,
    places: HashMap<String, usize>,
}

impl Arguments {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.entries[*self.places.get(name)?].1.as_deref()
    }

    pub(super) fn set(&mut self, name: String, value: Option<String>) {
        match self.places.get(&name) {
            Some(&place) => self.entries[place].1 = value,
            None => {
                self.places.insert(name.clone(), self.entries.len());
                self.entries.push((name, value));
            }
        }
    }

    /// Bytes that a copy takes.
    pub(super) fn size(&self) -> usize {
        self.entries
            .iter()
            .map(|(name, value)| 2 * name.len() + value.as_ref().map_or(0, String::len) + 64)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_in_place_or_at_the_end() {
        let mut env = Environment::new(["A=1", "B", "A=2", "C=x=y"].map(str::to_owned).to_vec());
        assert_eq!(
            (env.get("A"), env.get("B"), env.get("C"), env.get("D")),
            (Some("1"), None, Some("x=y"), None)
        );
        env.set("A", "3");
        env.set("B", "4");
        env.set("D", "5");
        env.set("E=F", "6");
        assert_eq!(env.entries(), ["A=3", "B=4", "A=2", "C=x=y", "D=5", "E=F=6"]);
        assert_eq!(env.get("E"), Some("F=6"));
        let mut args = Arguments::default();
        args.set("A".into(), None);
        args.set("B".into(), Some("1".into()));
        args.set("A".into(), Some("2".into()));
        assert_eq!(args.iter().collect::<Vec<_>>(), [("A", Some("2")), ("B", Some("1"))]);
    }
}
