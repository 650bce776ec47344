//! `copy`.

use engine::Engine;
use engine::images::{ImageCopyRequest, RegistryOptions};

use super::registry::{options, retry_delay};
use crate::args::{CopyArgs, MultiArch, RegistryArgs};
use crate::error::{Attempt, Outcome};
use crate::output::{self, progress};

/// Where docker's client would look for its daemon.
fn docker_host() -> Option<String> {
    std::env::var("DOCKER_HOST").ok()
}

/// `davit copy`
pub(crate) fn copy(engine: &Engine, args: CopyArgs) -> Outcome {
    let delay = retry_delay(args.retry_delay.as_ref())?;
    let retry = args.retry;
    let both = |args: RegistryArgs| -> Result<RegistryOptions, crate::error::Failure> {
        Ok(RegistryOptions { retry: Some(retry), retry_delay: delay, ..options(args)? })
    };
    let from = both(RegistryArgs {
        authfile: args.src_authfile.or_else(|| args.authfile.clone()),
        cert_dir: args.src_cert_dir,
        creds: args.src_creds,
        tls_verify: args.src_tls_verify.or(args.tls_verify),
    })?;
    let request = ImageCopyRequest {
        from: args.source,
        to: args.destination,
        all: args.all || args.multi_arch == Some(MultiArch::All),
        platform: args.platform,
        preserve_digests: args.preserve_digests,
        from_daemon: args.src_daemon_host.or_else(docker_host),
        to_daemon: args.dest_daemon_host.or_else(docker_host),
        remove_signatures: args.sign.remove_signatures,
        from_registry: RegistryOptions { signature_policy: args.trust.signature_policy, ..from },
        to_registry: both(RegistryArgs {
            authfile: args.dest_authfile.or(args.authfile),
            cert_dir: args.dest_cert_dir,
            creds: args.dest_creds,
            tls_verify: args.dest_tls_verify.or(args.tls_verify),
        })?,
        compression: args.dest_compress_format,
        sign: super::trust::signers(args.sign),
    };
    let progress = progress::Transfer::new(args.quiet);
    let result = engine.images().copy(&request, &|event| progress.event(&event));
    progress.finish();
    let report = result?;
    for warning in report.warnings {
        output::note(&format!("Warning: {warning}"));
    }
    if let Some(path) = args.digestfile {
        std::fs::write(&path, &report.digest).attempt(format!("write {}", path.display()))?;
    }
    if let Some(id) = report.id.filter(|id| !id.is_empty()) {
        output::line(&id);
    }
    Ok(0)
}
