//! The one question of trust: may this manifest be used?

use super::SignedIdentity;
use super::gpg;
use super::json::{Parsed, shorten};
use super::payload::{Kind, Payload};
use super::policy::{Material, Policy, Requirement, Signer};
use super::scope::Origin;
use super::signature::{MAX_SIGNATURES, SIGSTORE_TYPE, Signature, Signatures};
use super::sigstore::Trusted;
use crate::transport::Source;
use crate::{Error, Result};
use oci::{ManifestOrIndex, Raw};
use std::sync::Arc;

/// Most reasons of one refusal that are told.
const MAX_REASONS: usize = 4;

/// Applies a policy.
#[derive(Debug, Clone)]
pub struct Gate {
    policy: Arc<Policy>,
}

/// A manifest whose signatures count, and these once they were asked for.
struct Subject<'a> {
    source: &'a dyn Source,
    manifest: &'a Raw<ManifestOrIndex>,
    found: Option<Signatures>,
}

impl Subject<'_> {
    fn signatures(&mut self) -> Result<&Signatures> {
        if self.found.is_none() {
            self.found = Some(self.source.signatures(self.manifest.digest())?);
        }
        Ok(self.found.as_ref().expect("set above"))
    }
}

impl Gate {
    /// A gate that keeps this policy.
    pub fn new(policy: Arc<Policy>) -> Self {
        Self { policy }
    }

    /// Fails unless the policy lets a manifest or index of the source be used. `list` is the index that named it: a
    /// signature of that speaks for its entries, because it names them by digest.
    pub fn may_be_used(
        &self,
        source: &dyn Source,
        manifest: &Raw<ManifestOrIndex>,
        list: Option<&Raw<ManifestOrIndex>>,
    ) -> Result<()> {
        let origin = source.origin();
        let mut subjects: Vec<Subject<'_>> = Some(manifest)
            .into_iter()
            .chain(list)
            .map(|manifest| Subject { source, manifest, found: None })
            .collect();
        for requirement in self.policy.requirements(&origin) {
            let held = self.holds(requirement, &origin, &mut subjects)?;
            held.map_err(|reason| self.rejected(source.describe(), reason))?;
        }
        Ok(())
    }

    /// Fails unless the policy lets something be used that can have no signatures.
    pub fn unsigned_may_be_used(&self, origin: &Origin, what: &str) -> Result<()> {
        for requirement in self.policy.requirements(origin) {
            let held = self.holds(requirement, origin, &mut [])?;
            held.map_err(|reason| self.rejected(what.to_owned(), reason))?;
        }
        Ok(())
    }

    fn rejected(&self, image: String, reason: String) -> Error {
        Error::Rejected { image, reason, policy: self.policy.source().to_owned() }
    }

    /// Whether a requirement holds, or why not. The outer error is one of the machine or of the policy.
    fn holds(
        &self,
        requirement: &Requirement,
        origin: &Origin,
        subjects: &mut [Subject<'_>],
    ) -> Result<Parsed<()>> {
        match requirement {
            Requirement::Accept => Ok(Ok(())),
            Requirement::Reject => Ok(Err("it is rejected".to_owned())),
            Requirement::SignedBy { keys, identity } => {
                signed(subjects, identity, origin, Kind::Simple, &mut SimpleVerifier::new(keys))
            }
            Requirement::SigstoreSigned { signer, rekor, identity } => {
                let mut verifier = SigstoreVerifier { signer, rekor: rekor.as_ref(), trusted: None };
                signed(subjects, identity, origin, Kind::Sigstore, &mut verifier)
            }
        }
    }
}

/// Says what a signature of its kind says, if it is good.
trait Verify {
    fn verify(&mut self, signature: &Signature) -> Result<Parsed<Payload>>;
}

struct SimpleVerifier<'a> {
    keys: &'a Material,
    rings: Option<Vec<Vec<u8>>>,
}

impl<'a> SimpleVerifier<'a> {
    fn new(keys: &'a Material) -> Self {
        Self { keys, rings: None }
    }
}

impl Verify for SimpleVerifier<'_> {
    fn verify(&mut self, signature: &Signature) -> Result<Parsed<Payload>> {
        let Signature::Simple(message) = signature else { return Ok(Err("it is no simple one".to_owned())) };
        if self.rings.is_none() {
            self.rings = Some(self.keys.read()?);
        }
        let text = gpg::verify(self.rings.as_deref().unwrap_or_default(), message)?;
        Ok(text.and_then(|text| Payload::parse(&text, Kind::Simple)))
    }
}

struct SigstoreVerifier<'a> {
    signer: &'a Signer,
    rekor: Option<&'a Material>,
    trusted: Option<Trusted<'a>>,
}

impl Verify for SigstoreVerifier<'_> {
    fn verify(&mut self, signature: &Signature) -> Result<Parsed<Payload>> {
        let Signature::Sigstore { payload, annotations, .. } = signature else {
            return Ok(Err("it is no sigstore one".to_owned()));
        };
        let trusted = match self.trusted.take() {
            Some(trusted) => trusted,
            None => Trusted::new(self.signer, self.rekor, jiff::Timestamp::now().as_second())?,
        };
        let trusted = self.trusted.insert(trusted);
        Ok(trusted.verify(payload, annotations))
    }
}

/// Whether one of the signatures is accepted.
fn signed(
    subjects: &mut [Subject<'_>],
    identity: &SignedIdentity,
    origin: &Origin,
    kind: Kind,
    verifier: &mut dyn Verify,
) -> Result<Parsed<()>> {
    let mut reasons = Vec::new();
    let mut note = None;
    for subject in subjects {
        let digest = subject.manifest.digest().clone();
        let bytes = subject.manifest.bytes();
        let found = subject.signatures()?;
        note = note.or_else(|| found.note.clone());
        let of_kind = found.list.iter().filter(|signature| match signature {
            Signature::Simple(_) => kind == Kind::Simple,
            Signature::Sigstore { media_type, .. } => kind == Kind::Sigstore && media_type == SIGSTORE_TYPE,
        });
        for signature in of_kind.take(MAX_SIGNATURES) {
            let accepted = verifier.verify(signature)?.and_then(|payload| {
                if payload.digest != digest && payload.digest.verify(bytes).is_err() {
                    return Err(format!("it is for another manifest, {}", payload.digest));
                }
                if !identity.matches(origin.reference.as_ref(), &payload.reference) {
                    return Err(format!("it is for the name {:?}", shorten(&payload.reference)));
                }
                Ok(())
            });
            match accepted {
                Ok(()) => return Ok(Ok(())),
                Err(reason) => reasons.push(shorten(&reason)),
            }
        }
    }
    let wanted = match kind {
        Kind::Simple => "simple",
        Kind::Sigstore => "sigstore",
    };
    Ok(Err(match reasons.as_slice() {
        [] => {
            let note = note.filter(|_| kind == Kind::Sigstore).map(|note| format!("; {note}"));
            format!("it needs a {wanted} signature and has none{}", note.unwrap_or_default())
        }
        [one] => format!("its {wanted} signature is not accepted: {one}"),
        all => {
            let told = all[..all.len().min(MAX_REASONS)].join("; ");
            format!("none of its {} {wanted} signatures is accepted: {told}", all.len())
        }
    }))
}
