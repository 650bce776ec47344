//! Values of secrets in what is public of an image besides its files: config, history, labels, annotations.

use super::{BuildRequest, Error};
use crate::lower::Lowered;
use crate::secrets::Search;
use serde_json::Value;

/// Fails if a value is in the config or the history that the image will have.
pub(super) fn check(request: &BuildRequest<'_>, lowered: &Lowered, search: &Search) -> Result<(), Error> {
    // The instruction first: it says more than the setting that it makes.
    // What the base image tells is told already.
    for entry in lowered.history.iter().filter(|entry| entry.created.is_none()) {
        let texts = [&entry.created_by, &entry.comment, &entry.author];
        for text in texts.into_iter().flatten() {
            look(request, search, text, &|| format!("history, `{}`", beginning(search, text)))?;
        }
    }
    for (name, text) in &request.image.annotations {
        let place = || format!("annotation {}", search.redact(name));
        look(request, search, name, &place)?;
        look(request, search, text, &place)?;
    }
    // Only strings, numbers and lists; serialising them cannot fail.
    let config = serde_json::to_value(&lowered.config).expect("an image config is plain data");
    walk(request, search, &config, "config")
}

/// An instruction's keyword and the name that it sets, if it does: all the rest may be part of the value.
fn beginning(search: &Search, text: &str) -> String {
    let mut words = text.split_whitespace();
    let keyword = words.next().unwrap_or_default();
    let name = match keyword {
        "ARG" | "ENV" | "LABEL" => words.next().and_then(|word| word.split_once('=')),
        _ => None,
    };
    match name {
        Some((name, _)) => search.redact(&format!("{keyword} {name}=***")).into_owned(),
        None => search.redact(keyword).into_owned(),
    }
}

fn walk(request: &BuildRequest<'_>, search: &Search, value: &Value, path: &str) -> Result<(), Error> {
    match value {
        Value::String(text) => look(request, search, text, &|| {
            // Of a variable its name, which helps.
            let name = text.split_once('=').map(|(name, _)| search.redact(name).into_owned());
            name.map_or_else(|| path.to_owned(), |name| format!("{path} {name}"))
        }),
        Value::Array(items) => items.iter().try_for_each(|item| walk(request, search, item, path)),
        Value::Object(fields) => fields.iter().try_for_each(|(key, value)| {
            let inner = format!("{path}.{}", search.redact(key));
            look(request, search, key, &|| inner.clone())?;
            walk(request, search, value, &inner)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn look(
    request: &BuildRequest<'_>,
    search: &Search,
    text: &str,
    place: &dyn Fn() -> String,
) -> Result<(), Error> {
    let Some(found) = search.find(text.as_bytes()) else { return Ok(()) };
    let mut place = place();
    // A value that is written out in the file is found there; one that came by an argument is not.
    let lines = request.containerfile.lines().enumerate();
    let line = lines.into_iter().find(|(_, line)| {
        search.find(line.as_bytes()).is_some_and(|other| other.id == found.id && other.form == found.form)
    });
    if let Some((number, _)) = line {
        place.push_str(&format!(" ({}:{})", request.containerfile_name, number + 1));
    }
    Err(Error::Exposed { id: found.id, form: found.form, place })
}
