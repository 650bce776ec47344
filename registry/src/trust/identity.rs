//! Which name a signature must have been made for.

use super::json::{Object, Parsed, Strict, shorten};
use crate::Reference;
use crate::reference::is_registry;

/// The name that a signature must be for: `signedIdentity`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SignedIdentity {
    /// The image's own, with the same tag or digest.
    MatchExact,
    /// The image's own; where that has a digest, another of the same repository.
    #[default]
    MatchRepoDigestOrExact,
    /// Any of the image's repository.
    MatchRepository,
    /// This one.
    ExactReference(Reference),
    /// Any of this repository, `HOST/PATH`.
    ExactRepository(String),
    /// As `MatchRepoDigestOrExact`, after `prefix` of the image's name was replaced.
    RemapIdentity {
        /// What the image's name begins with.
        prefix: String,
        /// What the signed name begins with.
        signed_prefix: String,
    },
}

impl SignedIdentity {
    pub(super) fn parse(value: Strict, what: &str) -> Parsed<Self> {
        let mut object = value.object(what)?;
        let identity = match object.text("type")?.as_str() {
            "matchExact" => Self::MatchExact,
            "matchRepoDigestOrExact" => Self::MatchRepoDigestOrExact,
            "matchRepository" => Self::MatchRepository,
            "exactReference" => {
                let text = object.text("dockerReference")?;
                let reference = Reference::parse_docker(&text)
                    .map_err(|error| format!("{}: {error}", object.path("dockerReference")))?;
                if reference.tag().is_none() && reference.digest().is_none() {
                    return Err(format!("{} has neither tag nor digest", object.path("dockerReference")));
                }
                Self::ExactReference(reference)
            }
            "exactRepository" => {
                let text = object.text("dockerRepository")?;
                let reference = Reference::parse_docker(&text)
                    .map_err(|error| format!("{}: {error}", object.path("dockerRepository")))?;
                if reference.tag().is_some() || reference.digest().is_some() {
                    return Err(format!("{} is more than a repository", object.path("dockerRepository")));
                }
                Self::ExactRepository(reference.name())
            }
            "remapIdentity" => Self::RemapIdentity {
                prefix: prefix(&mut object, "prefix")?,
                signed_prefix: prefix(&mut object, "signedPrefix")?,
            },
            other => return Err(format!("{what} has the type {:?}, which is not known", shorten(other))),
        };
        object.end()?;
        Ok(identity)
    }

    /// Whether a signature for `signed` is one for the image. `image` is missing where the transport gives no name.
    pub fn matches(&self, image: Option<&Reference>, signed: &str) -> bool {
        let Ok(signed) = Reference::parse_docker(signed) else { return false };
        match self {
            Self::MatchExact => image.is_some_and(|image| has_target(image) && *image == signed),
            Self::MatchRepoDigestOrExact => image.is_some_and(|image| same_or_by_digest(image, &signed)),
            Self::MatchRepository => image.is_some_and(|image| image.name() == signed.name()),
            Self::ExactReference(wanted) => *wanted == signed,
            Self::ExactRepository(wanted) => *wanted == signed.name(),
            Self::RemapIdentity { prefix, signed_prefix } => image.is_some_and(|image| {
                let name = image.to_string();
                match remap(&name, prefix, signed_prefix) {
                    None => same_or_by_digest(image, &signed),
                    Some(name) => {
                        Reference::parse(&name).is_ok_and(|image| same_or_by_digest(&image, &signed))
                    }
                }
            }),
        }
    }
}

fn has_target(reference: &Reference) -> bool {
    reference.tag().is_some() || reference.digest().is_some()
}

fn same_or_by_digest(image: &Reference, signed: &Reference) -> bool {
    if image.digest().is_some() && image.tag().is_none() {
        // the digest was checked against the manifest: any name of the repository will do, but not the bare one
        return has_target(signed) && image.name() == signed.name();
    }
    image.tag().is_some() && image == signed
}

/// The name with another prefix; `None` where it does not begin with this one.
fn remap(name: &str, prefix: &str, signed_prefix: &str) -> Option<String> {
    let rest = name.strip_prefix(prefix)?;
    // a host ends at a slash, a repository also at its tag or digest
    let ends = if prefix.contains('/') {
        rest.is_empty() || rest.starts_with(['/', ':', '@'])
    } else {
        rest.starts_with('/')
    };
    ends.then(|| format!("{signed_prefix}{rest}"))
}

fn prefix(object: &mut Object, key: &str) -> Parsed<String> {
    let text = object.text(key)?;
    let path = object.path(key);
    let expected = || format!("{path}: {:?} is no host[:port], namespace or repository", shorten(&text));
    if !text.contains('/') {
        return if is_registry(&text) { Ok(text) } else { Err(expected()) };
    }
    // not expanded: `docker.io/library` must stay a namespace
    let (host, repository) = text.split_once('/').ok_or_else(expected)?;
    let valid = Reference::parse(&format!("{host}/{repository}"))
        .is_ok_and(|found| found.tag().is_none() && found.digest().is_none() && found.registry() == host);
    if valid { Ok(text) } else { Err(expected()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn identity(text: &str) -> Parsed<SignedIdentity> {
        SignedIdentity::parse(Strict::parse(text.as_bytes()).unwrap(), "signedIdentity")
    }

    fn matches(rule: &str, image: &str, signed: &str) -> bool {
        let image = Reference::parse(image).unwrap();
        identity(rule).unwrap().matches(Some(&image), signed)
    }

    const D: &str = "@sha256:0000000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn names_are_compared_as_the_kind_says() {
        let exact = r#"{"type":"matchExact"}"#;
        assert!(matches(exact, "r.example/a:1", "r.example/a:1"));
        assert!(!matches(exact, "r.example/a:1", "r.example/a:2"));
        assert!(!matches(exact, &format!("r.example/a{D}"), "r.example/a:1"));
        assert!(matches(exact, "docker.io/library/a:1", "a:1"));
        let usual = r#"{"type":"matchRepoDigestOrExact"}"#;
        assert!(matches(usual, "r.example/a:1", "r.example/a:1"));
        assert!(!matches(usual, "r.example/a:1", "r.example/a:2"));
        assert!(!matches(usual, "r.example/a:1", "r.example/a"));
        assert!(matches(usual, &format!("r.example/a{D}"), "r.example/a:2"));
        assert!(!matches(usual, &format!("r.example/a{D}"), "r.example/a"));
        assert!(!matches(usual, &format!("r.example/a{D}"), "r.example/b:2"));
        let repository = r#"{"type":"matchRepository"}"#;
        assert!(matches(repository, "r.example/a:1", "r.example/a"));
        assert!(!matches(repository, "r.example/a:1", "r.example/ab"));
        assert!(!matches(repository, "r.example/a:1", "../a"));
        assert!(!identity(repository).unwrap().matches(None, "r.example/a"));
    }

    #[test]
    fn fixed_names_need_no_name_of_the_image() {
        let rule = identity(r#"{"type":"exactReference","dockerReference":"busybox:1"}"#).unwrap();
        assert!(rule.matches(None, "docker.io/library/busybox:1") && !rule.matches(None, "busybox:2"));
        let rule = identity(r#"{"type":"exactRepository","dockerRepository":"r.example/a"}"#).unwrap();
        assert!(rule.matches(None, "r.example/a:9") && !rule.matches(None, "r.example/b:9"));
    }

    #[test]
    fn prefixes_are_replaced_at_their_ends() {
        let rule = r#"{"type":"remapIdentity","prefix":"m.example:5000/v","signedPrefix":"vendor.example"}"#;
        assert!(matches(rule, "m.example:5000/v/a:1", "vendor.example/a:1"));
        assert!(!matches(rule, "m.example:5000/vv/a:1", "vendor.example/v/a:1"));
        assert!(matches(rule, "m.example:5000/w/a:1", "m.example:5000/w/a:1"));
        let host = r#"{"type":"remapIdentity","prefix":"m.example","signedPrefix":"v.example/ns"}"#;
        assert!(matches(host, "m.example/a:1", "v.example/ns/a:1"));
        assert!(!matches(host, "m.example:5000/a:1", "v.example/ns/a:1"));
        let one = r#"{"type":"remapIdentity","prefix":"m.example/a","signedPrefix":"v.example/b"}"#;
        assert!(matches(one, "m.example/a:1", "v.example/b:1"));
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for bad in [
            r#"{}"#,
            r#"{"type":"x"}"#,
            r#"{"type":"matchExact","prefix":"a"}"#,
            r#"{"type":"exactReference","dockerReference":"r.example/a"}"#,
            r#"{"type":"exactRepository","dockerRepository":"r.example/a:1"}"#,
            r#"{"type":"remapIdentity","prefix":"r.example/a:1","signedPrefix":"b.example"}"#,
            r#"{"type":"remapIdentity","prefix":"a b","signedPrefix":"b.example"}"#,
            r#"{"type":"remapIdentity","prefix":"","signedPrefix":"b.example"}"#,
            r#"{"type":"remapIdentity","prefix":"a.example/","signedPrefix":"b.example"}"#,
        ] {
            assert!(identity(bad).is_err(), "{bad}");
        }
        assert!(
            identity(r#"{"type":"remapIdentity","prefix":"docker.io/library","signedPrefix":"b.example"}"#)
                .is_ok()
        );
    }
}
