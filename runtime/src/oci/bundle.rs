//! Reading a bundle's configuration.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde_json::Value;

use super::{Error, Result};

/// Longest configuration accepted, bytes.
pub(super) const MAX_CONFIG: u64 = 16 << 20;

/// A configuration as read.
#[derive(Debug)]
pub struct Bundle {
    /// The bundle's directory, absolute.
    pub directory: PathBuf,
    /// The configuration's bytes.
    pub bytes: Vec<u8>,
    /// What they mean.
    pub spec: Spec,
    /// What was left out of that: capabilities that this program does not know.
    pub warnings: Vec<String>,
}

impl Bundle {
    /// Reads `config.json` of a bundle, or another file in its place.
    ///
    /// # Errors
    /// The file is missing, or says what cannot be meant.
    pub fn read(directory: &Path, config: Option<&Path>) -> Result<Self> {
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|error| Error::os(format!("find {}", path.display()), error))
        };
        let directory = absolute(directory)?;
        let file = match config {
            Some(file) => absolute(file)?,
            None => directory.join("config.json"),
        };
        let bytes = sys::fs::read_limited(&file, MAX_CONFIG)?;
        let parsed = parse(&bytes).map_err(|error| Error::os(format!("parse {}", file.display()), error))?;
        Ok(Self { directory, spec: parsed.0, warnings: parsed.1, bytes })
    }

    /// The properties of the configuration that nothing here knows. The specification wants them passed over, so
    /// they are no failure; but not without a word.
    #[must_use]
    pub fn unknown_properties(&self) -> Vec<String> {
        // Not what `spec` holds: that may have been changed since.
        let understood = parse(&self.bytes).and_then(|(spec, _)| serde_json::to_value(spec));
        let (Ok(given), Ok(understood)) = (serde_json::from_slice::<Value>(&self.bytes), understood) else {
            return Vec::new();
        };
        let mut unknown = Vec::new();
        compare("", &given, &understood, &mut unknown);
        unknown
    }
}

fn parse(bytes: &[u8]) -> Result<(Spec, Vec<String>), serde_json::Error> {
    let error = match serde_json::from_slice(bytes) {
        Ok(spec) => return Ok((spec, Vec::new())),
        Err(error) => error,
    };
    // Go writes what is empty as null. Capabilities of newer kernels are not to be a failure.
    let Ok(mut value) = serde_json::from_slice::<Value>(bytes) else { return Err(error) };
    let mut warnings = Vec::new();
    drop_nulls(&mut value);
    drop_unknown_capabilities(&mut value, &mut warnings);
    // With the path in the message, which the second reading has lost the line for.
    serde_json::from_value(value).map(|spec| (spec, warnings)).map_err(|_| error)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn drop_unknown_capabilities(value: &mut Value, warnings: &mut Vec<String>) {
    let sets = value.pointer_mut("/process/capabilities").and_then(Value::as_object_mut);
    for (set, list) in sets.into_iter().flatten() {
        let Some(list) = list.as_array_mut() else { continue };
        list.retain(|name| {
            let name = name.as_str().unwrap_or_default();
            let known = crate::capabilities::parse(name).is_some();
            if !known {
                warnings.push(format!("process.capabilities.{set}: {name} is not known, and left out"));
            }
            known
        });
    }
}

fn compare(path: &str, given: &Value, understood: &Value, unknown: &mut Vec<String>) {
    match (given, understood) {
        (Value::Object(given), Value::Object(understood)) => {
            for (key, value) in given {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match understood.get(key) {
                    Some(understood) => compare(&path, value, understood, unknown),
                    None if is_empty(value) => {}
                    None => unknown.push(path),
                }
            }
        }
        (Value::Array(given), Value::Array(understood)) if given.len() == understood.len() => {
            for (index, (given, understood)) in given.iter().zip(understood).enumerate() {
                compare(&format!("{path}[{index}]"), given, understood, unknown);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(set) => !set,
        Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(json: &str) -> Bundle {
        let (spec, warnings) = parse(json.as_bytes()).unwrap();
        Bundle { directory: "/b".into(), bytes: json.into(), spec, warnings }
    }

    #[test]
    fn unknown_properties_are_named() {
        let json = r#"{"ociVersion":"1.0.2","root":{"path":"rootfs","colour":"red"},
            "linux":{"future":{"a":1},"namespaces":[{"type":"pid","x":1}],"none":[]},"x":{}}"#;
        let mut unknown = bundle(json).unknown_properties();
        unknown.sort();
        assert_eq!(unknown, ["linux.future", "linux.namespaces[0].x", "root.colour"]);
    }

    #[test]
    fn unknown_capabilities_are_left_out_with_a_warning() {
        let json = r#"{"ociVersion":"1.0.2","process":{"cwd":"/","user":{"uid":0,"gid":0},
            "capabilities":{"bounding":["CAP_KILL","CAP_FLY"]}},"hooks":null}"#;
        let bundle = bundle(json);
        assert_eq!(bundle.warnings, ["process.capabilities.bounding: CAP_FLY is not known, and left out"]);
        let sets = bundle.spec.process().as_ref().unwrap().capabilities().as_ref().unwrap();
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 1);
    }

    #[test]
    fn unknown_values_are_refused() {
        let json = r#"{"ociVersion":"1.0.2","linux":{"namespaces":[{"type":"dream"}]}}"#;
        assert!(parse(json.as_bytes()).unwrap_err().to_string().contains("dream"));
    }
}
