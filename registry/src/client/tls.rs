//! Certificates: the system's authorities, and `certs.d/HOST[:PORT]` with `*.crt` (authorities), `*.cert` and
//! `*.key` (client pairs).

use super::ClientOptions;
use crate::{Error, Result, files};
use std::path::{Path, PathBuf};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

/// Most bytes of one certificate file.
const MAX_FILE: u64 = 8 << 20;

/// The TLS settings for a registry.
pub(super) fn settings(options: &ClientOptions, registry: &str, insecure: bool) -> Result<TlsConfig> {
    let directory = match &options.cert_dir {
        Some(directory) => Some(directory.clone()),
        None => options.certs_d.iter().map(|directory| directory.join(registry)).find(|path| path.is_dir()),
    };
    let mut authorities = Vec::new();
    let mut client = None;
    if let Some(directory) = directory {
        let mut names: Vec<PathBuf> = std::fs::read_dir(&directory)
            .map_err(Error::file("read directory", &directory))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<_>>()
            .map_err(Error::file("read directory", &directory))?;
        names.sort();
        for path in &names {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => authorities.extend(certificates(path)?),
                Some("cert") => {
                    let key = path.with_extension("key");
                    if !names.contains(&key) {
                        return Err(invalid(path, "the key of the same name is missing"));
                    }
                    client = Some(client_pair(path, &key)?);
                }
                Some("key") if !names.contains(&path.with_extension("cert")) => {
                    return Err(invalid(path, "the certificate (.cert) of the same name is missing"));
                }
                _ => {}
            }
        }
    }
    let mut builder = TlsConfig::builder().client_cert(client).disable_verification(insecure);
    if !insecure {
        let bundle = options.ca_bundles.iter().find(|path| path.is_file());
        if let Some(bundle) = bundle {
            authorities.extend(certificates(bundle)?);
        }
        if !authorities.is_empty() {
            builder = builder.root_certs(RootCerts::new_with_certs(&authorities));
        }
    }
    Ok(builder.build())
}

fn invalid(path: &Path, message: impl Into<String>) -> Error {
    Error::Certificate { path: path.to_owned(), message: message.into() }
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let pem = files::read(path, MAX_FILE)?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(invalid(path, format!("not valid PEM: {error}"))),
        }
    }
    if found.is_empty() {
        return Err(invalid(path, "there is no certificate in it"));
    }
    Ok(found)
}

fn client_pair(certificate: &Path, key: &Path) -> Result<ClientCert> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let chain = certificates(certificate)?;
    let pem = files::read(key, MAX_FILE)?;
    let private = PrivateKey::from_pem(&pem).map_err(|error| invalid(key, error.to_string()))?;
    // ureq would end the process on a pair that does not fit, so it is tried here
    let der = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| invalid(key, format!("{error:?}")))?;
    let certificates = chain.iter().map(|one| CertificateDer::from(one.der().to_vec())).collect();
    let provider = rustls::crypto::ring::default_provider();
    rustls::sign::CertifiedKey::from_der(certificates, der, &provider)
        .map_err(|error| invalid(certificate, format!("not a usable pair with its key: {error}")))?;
    Ok(ClientCert::new_with_certs(&chain, private))
}
