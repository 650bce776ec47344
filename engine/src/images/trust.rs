//! Signatures: the gate for what comes, the signers of what leaves, `image sign`.

use super::{ImageSignRequest, Images, RegistryOptions, SignRequest};
use crate::{Engine, Error, Result};
use oci::{ManifestOrIndex, Raw};
use registry::transport::RemoteSource;
use registry::trust::{Gate, ImageSigner, KeyError, Place, PrivateKey, SigningParameters};
use registry::{Reference, Secret, Source, Which};
use std::io::Read;
use std::path::Path;

/// Most bytes of a key or a passphrase file.
const MAX_KEY: u64 = 1 << 20;

impl Engine {
    /// What decides whether an image may be used.
    pub(crate) fn gate(&self, options: &RegistryOptions) -> Result<Gate> {
        Ok(Gate::new(self.policy(options.signature_policy.as_deref())?))
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |source: std::io::Error| Error::os(format!("read {}", path.display()), source);
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(MAX_KEY).read_to_end(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}

/// The first line of a file.
fn passphrase(path: &Path) -> Result<Secret> {
    let bytes = read(path)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::invalid(format!("passphrase file {}", path.display()), "it is no text"))?;
    Ok(Secret::new(text.lines().next().unwrap_or_default()))
}

impl SignRequest {
    /// Reads the keys.
    pub(crate) fn signers(&self) -> Result<Vec<ImageSigner>> {
        let mut signers = Vec::new();
        if let Some(key) = &self.gpg_key {
            signers
                .push(ImageSigner::Gpg { key: key.clone(), passphrase_file: self.passphrase_file.clone() });
        }
        if let Some(path) = &self.private_key {
            signers.push(self.sigstore(path, self.passphrase_file.as_deref())?);
        }
        if let Some(path) = &self.parameters {
            let parameters =
                SigningParameters::load(path).map_err(crate::error::registry("read how to sign"))?;
            let file = parameters.passphrase_file.as_deref().or(self.passphrase_file.as_deref());
            signers.push(self.sigstore(&parameters.private_key, file)?);
        }
        Ok(signers)
    }

    fn sigstore(&self, path: &Path, passphrase_file: Option<&Path>) -> Result<ImageSigner> {
        let text = read(path)?;
        let secret = passphrase_file.map(passphrase).transpose()?;
        let mut key = PrivateKey::parse_pem(&text, secret.as_ref());
        if let (Err(KeyError::Passphrase(_)), None, Some(ask)) = (&key, &secret, self.ask)
            && let Some(typed) = ask(path)
        {
            key = PrivateKey::parse_pem(&text, Some(&Secret::new(typed)));
        }
        key.map(ImageSigner::Sigstore).map_err(|error| {
            let reason = match error {
                KeyError::Passphrase(reason) => format!("{reason}; use --sign-passphrase-file"),
                KeyError::Other(reason) => reason,
            };
            Error::invalid(format!("private key {}", path.display()), reason)
        })
    }
}

impl Images<'_> {
    /// Fails unless a file is a policy, for commands that use no image and yet may name one.
    pub fn check_policy(&self, policy: &Path) -> Result<()> {
        self.engine.policy(Some(policy)).map(drop)
    }

    /// Makes simple signatures for images of registries, in files. Gives back the names that were signed.
    pub fn sign(&self, request: &ImageSignRequest) -> Result<Vec<String>> {
        if request.key.is_empty() {
            return Err(Error::invalid("--sign-by", "say with whose key to sign"));
        }
        if let Some(directory) = &request.directory
            && !directory.is_dir()
        {
            return Err(Error::invalid(
                format!("--directory {}", directory.display()),
                "there is no such directory",
            ));
        }
        let signer = ImageSigner::Gpg { key: request.key.clone(), passphrase_file: None };
        let client = self.engine.client(&request.registry)?;
        let mut signed = Vec::new();
        for image in &request.images {
            if let (transport, _) = super::transfer::split_transport(image)
                && transport != "docker"
            {
                return Err(Error::unsupported(
                    format!("signing an image of {transport}:"),
                    "only images of registries have a name to sign: docker://NAME",
                ));
            }
            let (name, root) = self.remote_root(image, &request.registry)?;
            let failed = || crate::error::registry(format!("sign {name}"));
            let place = match &request.directory {
                Some(directory) => Place::Directory(directory.join(name.repository())),
                None => client
                    .signature_config()
                    .and_then(|config| config.writing(&name))
                    .map_err(failed())?
                    .ok_or_else(|| {
                        Error::invalid(format!("sign {name}"), "no place is known: use --directory")
                    })?,
            };
            let source = RemoteSource::new(&client, &name).map_err(failed())?;
            for manifest in to_sign(&source, &root, request.all, &name)? {
                let signature = signer.sign(manifest.digest(), &name).map_err(failed())?;
                place.write(manifest.digest(), &[signature]).map_err(failed())?;
            }
            signed.push(name.to_string());
        }
        Ok(signed)
    }
}

/// The manifests that are signed: the image itself, or all of an index.
fn to_sign(
    source: &dyn Source,
    root: &Raw<ManifestOrIndex>,
    all: bool,
    name: &Reference,
) -> Result<Vec<Raw<ManifestOrIndex>>> {
    match root.value() {
        ManifestOrIndex::Index(index) if all => index
            .manifests
            .iter()
            .map(|entry| source.manifest(Which::Entry(entry)))
            .collect::<registry::Result<_>>()
            .map_err(crate::error::registry(format!("read the images of {name}"))),
        ManifestOrIndex::Manifest(_) if all => {
            Err(Error::invalid(format!("image {name}"), "--all: it is one image, not a list"))
        }
        _ => Ok(vec![root.clone()]),
    }
}
