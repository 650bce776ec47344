//! `image trust`: showing and changing the policy for images.

use super::{Images, TrustRow, TrustSetRequest};
use crate::{Error, Result};
use registry::trust::{Material, Policy, Requirement, SignatureConfig, SignaturePaths, Signer, owners};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// What `default-docker` and an unknown scope are looked up as.
const NO_SCOPE: &str = "";

impl Images<'_> {
    /// The bytes of a policy, a chosen one or the one that counts.
    pub fn trust_raw(&self, policy: Option<&Path>) -> Result<Vec<u8>> {
        let chosen = policy.map(Path::to_owned).or_else(|| self.engine.config().policy_in_use());
        let missing = |name: String| Error::NotFound { what: "policy", name };
        let path = chosen.ok_or_else(|| missing("policy.json: every image may be used".to_owned()))?;
        std::fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => missing(path.display().to_string()),
            _ => Error::os(format!("read {}", path.display()), error),
        })
    }

    /// What a policy asks for, requirement by requirement. `registries_d` replaces the usual directory.
    pub fn trust_rows(&self, policy: Option<&Path>, registries_d: Option<&Path>) -> Result<Vec<TrustRow>> {
        let policy = self.engine.policy(policy)?;
        let mut paths = self.engine.config().signatures();
        if let Some(directory) = registries_d {
            paths = SignaturePaths { registries_d: Some(directory.to_owned()), ..paths };
        }
        let config =
            SignatureConfig::load(&paths).map_err(crate::error::registry("read where signatures lie"))?;
        let mut rows = Vec::new();
        let mut add = |transport: &str, name: &str, repo_name: &str, scope: &str, list: &[Requirement]| {
            let store = config.nearest(scope).and_then(|namespace| namespace.reading()).unwrap_or_default();
            for requirement in list {
                let (kind, owners) = described(requirement);
                rows.push(TrustRow {
                    transport: transport.to_owned(),
                    name: name.to_owned(),
                    repo_name: repo_name.to_owned(),
                    store: store.to_owned(),
                    kind: kind.to_owned(),
                    owners,
                });
            }
        };
        add("all", "* (default)", "default", NO_SCOPE, policy.default_requirements());
        for (transport, scope, list) in policy.scopes() {
            let shown = if transport == "docker" { "repository" } else { transport };
            add(shown, scope, scope, scope, list);
        }
        Ok(rows)
    }

    /// Changes a policy; returns its file.
    pub fn trust_set(&self, request: &TrustSetRequest) -> Result<PathBuf> {
        let requirements = requirements(request)?;
        let config = self.engine.config();
        let path = request.policy.clone().unwrap_or_else(|| config.policy_to_write());
        // a link leads to the file that is replaced
        let path = path.canonicalize().unwrap_or(path);
        let failed = || crate::error::registry(format!("change the policy {}", path.display()));
        let what = || format!("policy {}", path.display());
        // a user's first own policy begins as what counted until now
        let base = match &request.policy {
            None if !path.exists() => config.policy_in_use(),
            _ => Some(path.clone()),
        };
        let old = base.as_deref().map(Policy::load_optional).transpose().map_err(failed())?.flatten();
        let mut policy = match old {
            // it was just read strictly, so no key stands twice
            Some(_) => serde_json::from_slice(&self.trust_raw(base.as_deref())?)
                .map_err(|error| Error::invalid(what(), error.to_string()))?,
            None => Value::Object(Map::new()),
        };
        if request.scope == "default" {
            policy["default"] = requirements;
        } else {
            if policy.get("default").is_none() {
                return Err(Error::invalid(
                    what(),
                    "the default must be set first: davit image trust set -t reject default",
                ));
            }
            let transports = policy["transports"].take();
            let mut transports = match transports {
                Value::Object(transports) => transports,
                _ => Map::new(),
            };
            let known = transports.values_mut().find_map(|scopes| scopes.get_mut(&request.scope));
            match known {
                Some(known) => *known = requirements,
                None => {
                    let docker = transports.entry("docker").or_insert_with(|| json!({}));
                    docker[&request.scope] = requirements;
                }
            }
            policy["transports"] = Value::Object(transports);
        }
        let mut text = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
        serde::Serialize::serialize(&policy, &mut serializer)
            .map_err(|error| Error::invalid(what(), error.to_string()))?;
        text.push(b'\n');
        let new = Policy::parse(&text, &path.display().to_string()).map_err(failed())?;
        new.replace(&path, &text).map_err(failed())?;
        Ok(path)
    }
}

fn described(requirement: &Requirement) -> (&'static str, String) {
    match requirement {
        Requirement::Accept => ("accept", String::new()),
        Requirement::Reject => ("reject", String::new()),
        Requirement::SignedBy { keys, .. } => {
            let rings: Vec<Vec<u8>> = match keys {
                // a file that is not there shows as nobody; using the policy fails and names it
                Material::Paths(paths) => paths.iter().filter_map(|path| std::fs::read(path).ok()).collect(),
                Material::Data(data) => data.clone(),
            };
            ("signed", rings.iter().flat_map(|ring| owners(ring)).collect::<Vec<_>>().join(", "))
        }
        Requirement::SigstoreSigned { signer: Signer::Keys(_) | Signer::Certificate(_), .. } => {
            ("sigstoreSigned", "N/A".to_owned())
        }
    }
}

fn requirements(request: &TrustSetRequest) -> Result<Value> {
    let kind = match request.kind.as_str() {
        "accept" => "insecureAcceptAnything",
        kind @ ("insecureAcceptAnything" | "reject" | "signedBy" | "sigstoreSigned") => kind,
        other => {
            return Err(Error::invalid(
                format!("trust type {other}"),
                "expected accept, reject, signedBy or sigstoreSigned",
            ));
        }
    };
    let needs_keys = matches!(kind, "signedBy" | "sigstoreSigned");
    if !needs_keys && !request.keys.is_empty() {
        return Err(Error::invalid(format!("trust type {}", request.kind), "it takes no public keys"));
    }
    if !needs_keys {
        return Ok(json!([{ "type": kind }]));
    }
    if request.keys.is_empty() {
        return Err(Error::invalid(
            format!("trust type {kind}"),
            "at least one public key is needed: --pubkeysfile FILE",
        ));
    }
    let mut list = Vec::new();
    for key in &request.keys {
        let path = std::path::absolute(key).unwrap_or_else(|_| key.clone());
        if !path.is_file() {
            return Err(Error::invalid(format!("public key {}", path.display()), "there is no such file"));
        }
        let path = path
            .to_str()
            .ok_or_else(|| Error::invalid(format!("public key {}", path.display()), "its path is no text"))?;
        list.push(match kind {
            "signedBy" => json!({ "type": kind, "keyType": "GPGKeys", "keyPath": path }),
            _ => json!({ "type": kind, "keyPath": path }),
        });
    }
    Ok(Value::Array(list))
}
