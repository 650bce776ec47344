//! `SOURCE_DATE_EPOCH`: the time that an image gets instead of now.
//!
//! It is a build argument that the builder itself reads. A Containerfile may give it a default with an ARG before the
//! first FROM. Its value is a number of seconds since 1970, nothing, or `context`: the time of what the build context
//! was made of, which only a context from elsewhere has (a commit's time, an archive's newest entry).

use crate::build::Error;
use crate::parse;
use crate::stages::{self, PlanOptions};
use std::collections::BTreeMap;

/// Name of the build argument.
pub const NAME: &str = "SOURCE_DATE_EPOCH";

/// The value that means the build context's own time.
const CONTEXT: &str = "context";

/// Puts the value that counts among the build arguments: `context` becomes `time`, and nothing where that is unknown; a
/// default of the Containerfile counts as if it had been given. A Containerfile that is wrong changes nothing here.
pub fn settle(build_args: &mut BTreeMap<String, String>, containerfile: &str, time: Option<i64>) {
    let given = build_args.get(NAME).cloned();
    let wanted = given.or_else(|| declared(build_args, containerfile));
    match wanted.as_deref() {
        Some(CONTEXT) => {
            let value = time.map_or_else(String::new, |seconds| seconds.to_string());
            build_args.insert(NAME.to_owned(), value);
        }
        Some(value) => {
            build_args.insert(NAME.to_owned(), value.to_owned());
        }
        None => {}
    }
}

/// The default of an ARG before the first FROM.
fn declared(build_args: &BTreeMap<String, String>, containerfile: &str) -> Option<String> {
    // Nearly no file has one: the rest need not be read twice.
    if !containerfile.contains(NAME) {
        return None;
    }
    let file = parse::parse("", containerfile).into_result().ok()?;
    let options = PlanOptions { build_args: build_args.clone(), ..PlanOptions::default() };
    stages::global_args(&file, &options).remove(NAME)
}

/// The time that the build arguments set.
pub(crate) fn seconds(build_args: &BTreeMap<String, String>) -> Option<i64> {
    build_args.get(NAME).and_then(|value| value.parse().ok())
}

/// Refuses a value that is no time.
pub(crate) fn check(build_args: &BTreeMap<String, String>) -> Result<(), Error> {
    match build_args.get(NAME) {
        Some(value) if !value.is_empty() && value.parse::<i64>().is_err() => Err(Error::Argument {
            name: NAME,
            value: value.clone(),
            what: "a number of seconds since 1970, or `context`",
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts() {
        let settled = |given: Option<&str>, text: &str, time| {
            let mut args = BTreeMap::from([("BASE".to_owned(), "7".to_owned())]);
            args.extend(given.map(|value| (NAME.to_owned(), value.to_owned())));
            settle(&mut args, text, time);
            args.remove(NAME)
        };
        let text = "ARG BASE\nARG SOURCE_DATE_EPOCH=${BASE}00\nFROM x:$UNKNOWN\n";
        let context = "ARG SOURCE_DATE_EPOCH=context\nFROM scratch\nARG SOURCE_DATE_EPOCH=1\n";
        let stage = "FROM scratch\nARG SOURCE_DATE_EPOCH=1\n";
        assert_eq!(settled(None, text, None).as_deref(), Some("700"));
        assert_eq!(settled(Some("5"), text, Some(9)).as_deref(), Some("5"));
        assert_eq!(settled(Some("context"), text, Some(9)).as_deref(), Some("9"));
        assert_eq!(settled(None, context, Some(-9)).as_deref(), Some("-9"));
        assert_eq!(settled(None, context, None).as_deref(), Some(""));
        assert_eq!(settled(Some(""), context, Some(9)).as_deref(), Some(""));
        assert_eq!(settled(None, stage, Some(9)), None);
        assert_eq!(settled(None, "FROM\nSOURCE_DATE_EPOCH\n", Some(9)), None);
    }
}
