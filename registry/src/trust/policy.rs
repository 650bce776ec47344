//! `policy.json`: what must hold of an image before it may be used, by where it comes from.
//!
//! The form is `{"default": [REQUIREMENT..], "transports": {TRANSPORT: {SCOPE: [REQUIREMENT..]}}}`. The requirements of the
//! narrowest scope apply, and all of them; `default` where nothing else does.

use super::identity::SignedIdentity;
use super::json::{Object, Parsed, Strict, shorten};
use super::scope::{Origin, check_scope};
use crate::{Error, Result, files};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Most bytes of a policy.
const MAX_POLICY: u64 = 4 << 20;

/// Something given as a file or in the policy itself, read when it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Material {
    /// Files.
    Paths(Vec<PathBuf>),
    /// The content.
    Data(Vec<Vec<u8>>),
}

/// Whose certificates are believed, and what they must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keyless {
    /// Certificates of Fulcio, which live for minutes: the time of the transparency log counts.
    Fulcio {
        /// Certificates of the authorities, PEM.
        authorities: Material,
        /// Who told Fulcio that the user is the user.
        oidc_issuer: String,
        /// The user's address.
        subject_email: String,
    },
    /// Certificates of one's own authorities, which must be valid now.
    Pki {
        /// Certificates of the authorities, PEM.
        roots: Material,
        /// Certificates between those and the signer's.
        intermediates: Option<Material>,
        /// Address that the certificate must name.
        subject_email: Option<String>,
        /// Host that the certificate must name.
        subject_hostname: Option<String>,
    },
}

/// Who must have signed for sigstore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signer {
    /// The owner of one of these public keys, PEM.
    Keys(Material),
    /// Whoever has a certificate.
    Certificate(Keyless),
}

/// One thing that must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// `insecureAcceptAnything`: nothing.
    Accept,
    /// `reject`: nothing can.
    Reject,
    /// `signedBy`: a simple signature.
    SignedBy {
        /// Keyrings of GPG.
        keys: Material,
        /// Which name must have been signed.
        identity: SignedIdentity,
    },
    /// `sigstoreSigned`: a sigstore signature.
    SigstoreSigned {
        /// Whose.
        signer: Signer,
        /// Keys of transparency logs of which one must know the signature.
        rekor: Option<Material>,
        /// Which name must have been signed.
        identity: SignedIdentity,
    },
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    source: String,
    default: Vec<Requirement>,
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

impl Policy {
    /// Accepts everything: what counts where there is no policy.
    pub fn accept_anything() -> Self {
        Self { source: "none".to_owned(), default: vec![Requirement::Accept], transports: BTreeMap::new() }
    }

    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self> {
        Self::parse(&files::read(path, MAX_POLICY)?, &path.display().to_string())
    }

    /// Reads a file if it exists.
    pub fn load_optional(path: &Path) -> Result<Option<Self>> {
        let Some(bytes) = files::read_optional(path, MAX_POLICY)? else { return Ok(None) };
        Self::parse(&bytes, &path.display().to_string()).map(Some)
    }

    /// Parses a policy; `source` names it in messages.
    pub fn parse(bytes: &[u8], source: &str) -> Result<Self> {
        let parsed = Strict::parse(bytes).and_then(|value| Self::read(value, source));
        parsed.map_err(|message| Error::Config { path: source.to_owned(), message })
    }

    fn read(value: Strict, source: &str) -> Parsed<Self> {
        let mut object = value.object("the policy")?;
        let default = requirements(object.required("default")?, "\"default\"")?;
        let mut transports = BTreeMap::new();
        if let Some(value) = object.optional("transports") {
            for (transport, value) in value.object("\"transports\"")?.entries() {
                let what = format!("transport {:?}", shorten(&transport));
                let mut scopes = BTreeMap::new();
                for (scope, value) in value.object(&what)?.entries() {
                    let what = format!("scope {:?} of {what}", shorten(&scope));
                    check_scope(&transport, &scope).map_err(|reason| format!("{what}: {reason}"))?;
                    scopes.insert(scope, requirements(value, &what)?);
                }
                transports.insert(transport, scopes);
            }
        }
        object.end()?;
        Ok(Self { source: source.to_owned(), default, transports })
    }

    /// The file.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What must hold where nothing else is said.
    pub fn default_requirements(&self) -> &[Requirement] {
        &self.default
    }

    /// Transport, scope and requirements, sorted.
    pub fn scopes(&self) -> impl Iterator<Item = (&str, &str, &[Requirement])> {
        self.transports.iter().flat_map(|(transport, scopes)| {
            scopes.iter().map(move |(scope, list)| (transport.as_str(), scope.as_str(), list.as_slice()))
        })
    }

    /// Replaces the file at `path` by the text that this policy was parsed from.
    pub fn replace(&self, path: &Path, text: &[u8]) -> Result<()> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(Error::file("create directory", parent))?;
        }
        files::write_atomic(path, text, 0o644)
    }

    /// What must hold of images from there.
    pub fn requirements(&self, origin: &Origin) -> &[Requirement] {
        let Some(scopes) = self.transports.get(origin.transport) else { return &self.default };
        let narrowest = origin.scopes.iter().find_map(|scope| scopes.get(scope));
        narrowest.or_else(|| scopes.get("")).unwrap_or(&self.default)
    }
}

fn requirements(value: Strict, what: &str) -> Parsed<Vec<Requirement>> {
    let list = value.list(what)?;
    if list.is_empty() {
        return Err(format!("{what} is empty: {{\"type\":\"reject\"}} refuses everything"));
    }
    list.into_iter().map(|value| requirement(value, &format!("a requirement of {what}"))).collect()
}

fn requirement(value: Strict, what: &str) -> Parsed<Requirement> {
    let mut object = value.object(what)?;
    let found = match object.text("type")?.as_str() {
        "insecureAcceptAnything" => Requirement::Accept,
        "reject" => Requirement::Reject,
        "signedBy" => {
            match object.text("keyType")?.as_str() {
                "GPGKeys" => {}
                other => {
                    return Err(format!(
                        "{} is {:?}, not \"GPGKeys\"",
                        object.path("keyType"),
                        shorten(other)
                    ));
                }
            }
            let keys = one_of(&mut object, &["keyPath", "keyPaths", "keyData"])?
                .ok_or_else(|| format!("{what} has none of keyPath, keyPaths and keyData"))?;
            Requirement::SignedBy { keys, identity: identity(&mut object)? }
        }
        "sigstoreSigned" => sigstore(&mut object, what)?,
        other => return Err(format!("{what} has the type {:?}, which is not known", shorten(other))),
    };
    object.end()?;
    Ok(found)
}

fn identity(object: &mut Object) -> Parsed<SignedIdentity> {
    let path = object.path("signedIdentity");
    match object.optional("signedIdentity") {
        Some(value) => SignedIdentity::parse(value, &path),
        None => Ok(SignedIdentity::default()),
    }
}

fn sigstore(object: &mut Object, what: &str) -> Parsed<Requirement> {
    let keys = one_of(object, &["keyPath", "keyPaths", "keyData", "keyDatas"])?.map(Signer::Keys);
    let path = object.path("fulcio");
    let fulcio = object.optional("fulcio").map(|value| fulcio(value, &path)).transpose()?;
    let path = object.path("pki");
    let pki = object.optional("pki").map(|value| pki(value, &path)).transpose()?;
    let by_fulcio = fulcio.is_some();
    let by_pki = pki.is_some();
    let mut signers =
        keys.into_iter().chain(fulcio.map(Signer::Certificate)).chain(pki.map(Signer::Certificate));
    let (Some(signer), None) = (signers.next(), signers.next()) else {
        return Err(format!(
            "{what} needs one of keyPath, keyPaths, keyData, keyDatas, fulcio and pki, and no other"
        ));
    };
    let rekor = one_of(
        object,
        &["rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas"],
    )?;
    if by_fulcio && rekor.is_none() {
        return Err(format!("{what} has fulcio without a key of Rekor (rekorPublicKeyPath or another)"));
    }
    if by_pki && rekor.is_some() {
        return Err(format!("{what} has pki and a key of Rekor, which davit does not combine"));
    }
    Ok(Requirement::SigstoreSigned { signer, rekor, identity: identity(object)? })
}

fn fulcio(value: Strict, what: &str) -> Parsed<Keyless> {
    let mut object = value.object(what)?;
    let authorities = one_of(&mut object, &["caPath", "caData"])?
        .ok_or_else(|| format!("{what} has neither caPath nor caData"))?;
    let oidc_issuer = filled(&mut object, "oidcIssuer")?;
    let subject_email = filled(&mut object, "subjectEmail")?;
    object.end()?;
    Ok(Keyless::Fulcio { authorities, oidc_issuer, subject_email })
}

fn pki(value: Strict, what: &str) -> Parsed<Keyless> {
    let mut object = value.object(what)?;
    let roots = one_of(&mut object, &["caRootsPath", "caRootsData"])?
        .ok_or_else(|| format!("{what} has neither caRootsPath nor caRootsData"))?;
    let intermediates = one_of(&mut object, &["caIntermediatesPath", "caIntermediatesData"])?;
    let subject_email = object.optional_text("subjectEmail")?.filter(|text| !text.is_empty());
    let subject_hostname = object.optional_text("subjectHostname")?.filter(|text| !text.is_empty());
    if subject_email.is_none() && subject_hostname.is_none() {
        return Err(format!("{what} has neither subjectEmail nor subjectHostname"));
    }
    object.end()?;
    Ok(Keyless::Pki { roots, intermediates, subject_email, subject_hostname })
}

fn filled(object: &mut Object, key: &str) -> Parsed<String> {
    let text = object.text(key)?;
    if text.is_empty() { Err(format!("{} is empty", object.path(key))) } else { Ok(text) }
}

/// The one of these keys that is there; their endings say what they hold.
fn one_of(object: &mut Object, keys: &[&str]) -> Parsed<Option<Material>> {
    let mut found = None;
    for key in keys {
        let path = object.path(key);
        let material = if key.ends_with("Paths") || key.ends_with("Datas") {
            let Some(list) = object.optional_list(key)? else { continue };
            if key.ends_with("Paths") {
                let paths: Parsed<Vec<String>> = list.into_iter().map(|value| value.text(&path)).collect();
                Material::Paths(paths?.into_iter().map(PathBuf::from).collect())
            } else {
                let data: Parsed<Vec<Vec<u8>>> = list.into_iter().map(|value| value.base64(&path)).collect();
                Material::Data(data?)
            }
        } else if key.ends_with("Path") {
            let Some(text) = object.optional_text(key)? else { continue };
            Material::Paths(vec![PathBuf::from(text)])
        } else {
            let Some(data) = object.optional_base64(key)? else { continue };
            Material::Data(vec![data])
        };
        let empty = match &material {
            Material::Paths(paths) => paths.iter().any(|path| path.as_os_str().is_empty()),
            Material::Data(data) => data.iter().any(Vec::is_empty),
        };
        if empty {
            return Err(format!("{path} is empty"));
        }
        if found.replace(material).is_some() {
            return Err(format!("{path} stands beside another of {}", keys.join(", ")));
        }
    }
    Ok(found)
}

impl Material {
    /// Everything that it holds; each file has at most 4 MiB.
    pub(super) fn read(&self) -> Result<Vec<Vec<u8>>> {
        match self {
            Self::Paths(paths) => paths.iter().map(|path| files::read(path, MAX_POLICY)).collect(),
            Self::Data(data) => Ok(data.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Reference;

    fn parse(text: &str) -> Result<Policy> {
        Policy::parse(text.as_bytes(), "policy.json")
    }

    #[test]
    fn the_narrowest_scope_counts() {
        let policy = parse(
            r#"{"default":[{"type":"reject"}],"transports":{
              "docker":{"":[{"type":"insecureAcceptAnything"}],
                "r.example":[{"type":"reject"}],
                "r.example/ns":[{"type":"insecureAcceptAnything"},{"type":"reject"}],
                "r.example/ns/a:1":[{"type":"insecureAcceptAnything"}],
                "*.w.example":[{"type":"reject"}]},
              "dir":{"/tmp":[{"type":"insecureAcceptAnything"}]}}}"#,
        )
        .unwrap();
        let of =
            |text: &str| policy.requirements(&Origin::registry(&Reference::parse(text).unwrap())).to_vec();
        assert_eq!(of("r.example/ns/a:1"), [Requirement::Accept]);
        assert_eq!(of("r.example/ns/a:2"), [Requirement::Accept, Requirement::Reject]);
        assert_eq!(of("r.example/b"), [Requirement::Reject]);
        assert_eq!(of("other.example/b"), [Requirement::Accept]);
        assert_eq!(of("a.b.w.example:5000/b"), [Requirement::Reject]);
        let path = |transport, path: &str| {
            policy.requirements(&Origin::path(transport, path.as_ref(), None)).to_vec()
        };
        assert_eq!(path("dir", "/tmp/x"), [Requirement::Accept]);
        assert_eq!(path("dir", "/usr"), [Requirement::Reject]);
        assert_eq!(path("oci", "/tmp/x"), [Requirement::Reject]);
        assert_eq!(policy.requirements(&Origin::unscoped("")), [Requirement::Reject]);
    }

    #[test]
    fn all_kinds_are_read() {
        let policy = parse(
            r#"{"default":[
              {"type":"signedBy","keyType":"GPGKeys","keyPaths":["/a","/b"],"signedIdentity":{"type":"matchExact"}},
              {"type":"sigstoreSigned","keyData":"eA=="},
              {"type":"sigstoreSigned","keyPath":"/k","rekorPublicKeyDatas":["eA=="]},
              {"type":"sigstoreSigned","fulcio":{"caData":"eA==","oidcIssuer":"i","subjectEmail":"e"},"rekorPublicKeyPath":"/r"},
              {"type":"sigstoreSigned","pki":{"caRootsPath":"/r","caIntermediatesData":"eA==","subjectHostname":"h"}}]}"#,
        )
        .unwrap();
        assert_eq!(policy.default.len(), 5);
        assert_eq!(
            policy.default[0],
            Requirement::SignedBy {
                keys: Material::Paths(vec!["/a".into(), "/b".into()]),
                identity: SignedIdentity::MatchExact
            }
        );
        assert!(matches!(&policy.default[2], Requirement::SigstoreSigned { rekor: Some(_), .. }));
    }

    #[test]
    fn whatever_is_not_known_fails() {
        let with = |requirement: &str| format!("{{\"default\":[{requirement}]}}");
        let mut bad: Vec<String> = [
            "",
            "{}",
            "[]",
            "{\"default\":[]}",
            "{\"default\":[{\"type\":\"reject\"}],\"x\":1}",
            "{\"default\":[{\"type\":\"reject\"}],\"default\":[{\"type\":\"insecureAcceptAnything\"}]}",
            "{\"default\":[{\"type\":\"reject\"}],\"transports\":{\"docker\":{\"a\":[]}}}",
            "{\"default\":[{\"type\":\"reject\"}],\"transports\":{\"dir\":{\"a\":[{\"type\":\"reject\"}]}}}",
            "{\"default\":[{\"type\":\"reject\"}],\"transports\":{\"docker\":{},\"docker\":{}}}",
        ]
        .map(str::to_owned)
        .into();
        bad.extend(
            [
                r#"{"type":"x"}"#,
                r#"{"type":"reject","x":1}"#,
                r#"{"type":"signedBy","keyType":"X","keyPath":"/a"}"#,
                r#"{"type":"signedBy","keyType":"GPGKeys"}"#,
                r#"{"type":"signedBy","keyType":"GPGKeys","keyPath":"/a","keyData":"eA=="}"#,
                r#"{"type":"signedBy","keyType":"GPGKeys","keyPath":""}"#,
                r#"{"type":"signedBy","keyType":"GPGKeys","keyPaths":[]}"#,
                r#"{"type":"signedBy","keyType":"GPGKeys","keyData":"%"}"#,
                r#"{"type":"sigstoreSigned"}"#,
                r#"{"type":"sigstoreSigned","keyPath":"/a","fulcio":{"caPath":"/c","oidcIssuer":"i","subjectEmail":"e"},"rekorPublicKeyPath":"/r"}"#,
                r#"{"type":"sigstoreSigned","fulcio":{"caPath":"/c","oidcIssuer":"i","subjectEmail":"e"}}"#,
                r#"{"type":"sigstoreSigned","fulcio":{"caPath":"/c","subjectEmail":"e"},"rekorPublicKeyPath":"/r"}"#,
                r#"{"type":"sigstoreSigned","pki":{"caRootsPath":"/c"}}"#,
                r#"{"type":"sigstoreSigned","keyPath":"/a","keyType":"GPGKeys"}"#,
            ]
            .map(with),
        );
        for text in bad {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.starts_with("policy.json: "), "{text}: {error}");
        }
    }
}
