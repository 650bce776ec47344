//! `image sign`, `image trust`, and who signs what is pushed.

use std::io::IsTerminal;
use std::path::Path;

use engine::Engine;
use engine::images::{ImageSignRequest, RegistryOptions, SignRequest, TrustRow, TrustSetRequest};

use crate::args::{Deferred, ImageSignArgs, SignArgs, TrustCommand, TrustSetArgs, TrustShowArgs};
use crate::error::{Attempt, Failure, Outcome};
use crate::output;
use crate::output::table::Table;

/// Who signs.
pub(super) fn signers(args: SignArgs) -> SignRequest {
    SignRequest {
        gpg_key: args.sign_by,
        private_key: args.sign_by_sigstore_private_key,
        parameters: args.sign_by_sigstore,
        passphrase_file: args.sign_passphrase_file,
        ask: Some(ask),
    }
}

/// The passphrase of a key, if someone can be asked.
fn ask(path: &Path) -> Option<String> {
    if !std::io::stdin().is_terminal() {
        return None;
    }
    super::registry::ask(&format!("Passphrase of {}: ", path.display()), false).ok()
}

/// `davit image sign`
pub(crate) fn sign(engine: &Engine, args: ImageSignArgs) -> Outcome {
    let key = args.sign_by.filter(|key| !key.is_empty());
    let request = ImageSignRequest {
        images: args.images,
        key: key.ok_or_else(|| Failure::new("say with whose key to sign: --sign-by KEY"))?,
        all: args.all,
        directory: args.directory,
        registry: RegistryOptions {
            authfile: args.authfile,
            cert_dir: args.cert_dir,
            ..RegistryOptions::default()
        },
    };
    engine.images().sign(&request)?;
    Ok(0)
}

/// `davit image trust`
pub(crate) fn trust(engine: &Engine, command: TrustCommand) -> Outcome {
    match command {
        TrustCommand::Set(Deferred(args)) => set(engine, args),
        TrustCommand::Show(Deferred(args)) => show(engine, &args),
    }
}

fn set(engine: &Engine, args: TrustSetArgs) -> Outcome {
    let request = TrustSetRequest {
        scope: args.registry,
        kind: args.r#type,
        keys: args.pubkeysfile,
        policy: args.policypath,
    };
    engine.images().trust_set(&request)?;
    Ok(0)
}

fn show(engine: &Engine, args: &TrustShowArgs) -> Outcome {
    let policy = args.policypath.as_deref();
    if args.raw {
        output::raw(&engine.images().trust_raw(policy)?);
        output::line("");
        return Ok(0);
    }
    let mut rows = engine.images().trust_rows(policy, args.registrypath.as_deref())?;
    if let Some(registry) = &args.registry {
        rows.retain(|row| concerns(row, registry));
    }
    if args.json {
        let text = serde_json::to_string_pretty(&rows).attempt("print the policy")?;
        output::line(&text);
        return Ok(0);
    }
    let mut table = Table::new();
    if !args.noheading {
        table.row(["TRANSPORT", "NAME", "TYPE", "ID", "STORE"]);
    }
    for row in rows {
        table.row([row.transport, row.repo_name, row.kind, row.owners, row.store]);
    }
    output::raw(table.render().as_bytes());
    Ok(0)
}

/// Whether a row speaks of a registry, of a part of it, or of what it is a part of.
fn concerns(row: &TrustRow, registry: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@']))
    };
    row.repo_name == "default"
        || row.repo_name.is_empty()
        || within(&row.repo_name, registry)
        || within(registry, &row.repo_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_concern_what_contains_them_and_what_they_contain() {
        let row = |name: &str| TrustRow {
            transport: "repository".into(),
            name: name.into(),
            repo_name: name.into(),
            store: String::new(),
            kind: "accept".into(),
            owners: String::new(),
        };
        for name in ["r.example", "r.example/a", "r.example/a:1", "r.example/a/b", "default"] {
            assert!(concerns(&row(name), "r.example/a"), "{name}");
        }
        for name in ["r.example/ab", "r.example2", "s.example"] {
            assert!(!concerns(&row(name), "r.example/a"), "{name}");
        }
    }
}
