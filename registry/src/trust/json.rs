//! JSON read strictly: a key that is not known, or stands twice, is an error. What decides about trust must not be read
//! in two ways.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// What is wrong, for the message of whoever knows the file.
pub(super) type Parsed<T> = std::result::Result<T, String>;

/// A value whose objects have no key twice.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Strict {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Strict>),
    Object(BTreeMap<String, Strict>),
}

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Strict;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E>(self) -> Result<Strict, E> {
                Ok(Strict::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
                Ok(Strict::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
                Ok(Strict::Number(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
                Ok(Strict::Number(value.into()))
            }

            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Strict, E> {
                let number = serde_json::Number::from_f64(value);
                number.map(Strict::Number).ok_or_else(|| E::custom("a number is not finite"))
            }

            fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
                Ok(Strict::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Strict::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Strict, A::Error> {
                let mut object = BTreeMap::new();
                while let Some((key, value)) = entries.next_entry::<String, Strict>()? {
                    if object.contains_key(&key) {
                        let message = format!("the key {:?} stands twice", shorten(&key));
                        return Err(serde::de::Error::custom(message));
                    }
                    object.insert(key, value);
                }
                Ok(Strict::Object(object))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// A text of others, for a message.
pub(super) fn shorten(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(200)
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if text.chars().nth(200).is_some() {
        short.push_str("..");
    }
    short
}

impl Strict {
    pub(super) fn parse(bytes: &[u8]) -> Parsed<Self> {
        serde_json::from_slice(bytes).map_err(|error| shorten(&error.to_string()))
    }

    fn kind(&self) -> &'static str {
        match self {
            Strict::Null => "null",
            Strict::Bool(_) => "a boolean",
            Strict::Number(_) => "a number",
            Strict::Text(_) => "a string",
            Strict::List(_) => "a list",
            Strict::Object(_) => "an object",
        }
    }

    /// The fields of an object; `what` names it in messages.
    pub(super) fn object(self, what: &str) -> Parsed<Object> {
        match self {
            Strict::Object(fields) => Ok(Object { what: what.to_owned(), fields }),
            other => Err(format!("{what} is {}, not an object", other.kind())),
        }
    }

    pub(super) fn list(self, what: &str) -> Parsed<Vec<Strict>> {
        match self {
            Strict::List(items) => Ok(items),
            other => Err(format!("{what} is {}, not a list", other.kind())),
        }
    }

    pub(super) fn text(self, what: &str) -> Parsed<String> {
        match self {
            Strict::Text(text) => Ok(text),
            other => Err(format!("{what} is {}, not a string", other.kind())),
        }
    }

    pub(super) fn base64(self, what: &str) -> Parsed<Vec<u8>> {
        base64(&self.text(what)?).ok_or_else(|| format!("{what} is not valid base64"))
    }

    fn integer(self, what: &str) -> Parsed<i64> {
        match self {
            Strict::Number(number) => number.as_i64().ok_or_else(|| format!("{what} is no whole number")),
            other => Err(format!("{what} is {}, not a number", other.kind())),
        }
    }
}

/// Padded base64; line breaks are passed over.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    let plain: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    STANDARD.decode(plain).ok()
}

/// An object whose fields are taken one by one; [`Object::end`] fails if some are left.
pub(super) struct Object {
    what: String,
    fields: BTreeMap<String, Strict>,
}

impl Object {
    /// The value of a key that may be missing.
    pub(super) fn optional(&mut self, key: &str) -> Option<Strict> {
        self.fields.remove(key)
    }

    /// The value of a key.
    pub(super) fn required(&mut self, key: &str) -> Parsed<Strict> {
        self.fields.remove(key).ok_or_else(|| format!("{} has no {key:?}", self.what))
    }

    pub(super) fn text(&mut self, key: &str) -> Parsed<String> {
        self.required(key)?.text(&self.path(key))
    }

    pub(super) fn optional_text(&mut self, key: &str) -> Parsed<Option<String>> {
        let path = self.path(key);
        self.optional(key).map(|value| value.text(&path)).transpose()
    }

    pub(super) fn optional_base64(&mut self, key: &str) -> Parsed<Option<Vec<u8>>> {
        let path = self.path(key);
        self.optional(key).map(|value| value.base64(&path)).transpose()
    }

    pub(super) fn base64(&mut self, key: &str) -> Parsed<Vec<u8>> {
        self.required(key)?.base64(&self.path(key))
    }

    pub(super) fn integer(&mut self, key: &str) -> Parsed<i64> {
        self.required(key)?.integer(&self.path(key))
    }

    pub(super) fn optional_integer(&mut self, key: &str) -> Parsed<Option<i64>> {
        let path = self.path(key);
        self.optional(key).map(|value| value.integer(&path)).transpose()
    }

    pub(super) fn object(&mut self, key: &str) -> Parsed<Object> {
        self.required(key)?.object(&self.path(key))
    }

    /// A list of at least one item, if the key is there.
    pub(super) fn optional_list(&mut self, key: &str) -> Parsed<Option<Vec<Strict>>> {
        let path = self.path(key);
        let Some(list) = self.optional(key).map(|value| value.list(&path)).transpose()? else {
            return Ok(None);
        };
        if list.is_empty() { Err(format!("{path} is empty")) } else { Ok(Some(list)) }
    }

    /// How a value of this object is called in messages.
    pub(super) fn path(&self, key: &str) -> String {
        format!("{key:?} of {}", self.what)
    }

    /// All entries, where the keys are data.
    pub(super) fn entries(self) -> BTreeMap<String, Strict> {
        self.fields
    }

    /// Fails if something was not asked for.
    pub(super) fn end(self) -> Parsed<()> {
        match self.fields.keys().next() {
            Some(key) => Err(format!("{} has a key {:?}, which is not known", self.what, shorten(key))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_stand_once_and_are_known() {
        assert!(Strict::parse(br#"{"a":1,"a":1}"#).unwrap_err().contains("stands twice"));
        assert!(Strict::parse(br#"{"a":{"b":1,"b":2}}"#).is_err());
        assert!(Strict::parse(b"{} x").is_err());
        let deep = format!("{}{}", "[".repeat(4000), "]".repeat(4000));
        assert!(Strict::parse(deep.as_bytes()).is_err());
        let mut object = Strict::parse(br#"{"a":"x","c":1}"#).unwrap().object("it").unwrap();
        assert_eq!(object.text("a").unwrap(), "x");
        assert_eq!(object.end().unwrap_err(), "it has a key \"c\", which is not known");
    }
}
