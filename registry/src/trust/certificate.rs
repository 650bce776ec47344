//! Certificates of signers: chains up to the authorities of a policy, and what the signer's own one says.

use super::encoding::{
    BOOLEAN, Der, GENERALIZED_TIME, OBJECT, OCTET_STRING, SEQUENCE, UTC_TIME, UTF8_STRING, pem,
};
use super::json::{Parsed, shorten};
use super::keys::PublicKey;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// `codeSigning`.
const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];
const OID_SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// Fulcio's issuer, as bare text, and as a string of DER.
const OID_ISSUER: &[u8] = &[0x2b, 6, 1, 4, 1, 0x83, 0xbf, 0x30, 1, 1];
const OID_ISSUER_STRING: &[u8] = &[0x2b, 6, 1, 4, 1, 0x83, 0xbf, 0x30, 1, 8];
/// Most certificates of a chain that comes with a signature.
const MAX_CHAIN: usize = 16;

/// What is asked of a certificate.
pub(super) struct Wanted<'a> {
    /// Certificates of the authorities, PEM.
    pub(super) authorities: &'a [Vec<u8>],
    /// Certificates between, PEM.
    pub(super) intermediates: &'a [Vec<u8>],
    /// When it must be valid, seconds since 1970.
    pub(super) time: i64,
    pub(super) oidc_issuer: Option<&'a str>,
    pub(super) subject_email: Option<&'a str>,
    pub(super) subject_hostname: Option<&'a str>,
}

/// The key of a certificate that holds what is asked of it. `chain`: what came with the signature, the root last.
pub(super) fn verify(certificate: &[u8], chain: Option<&[u8]>, wanted: &Wanted<'_>) -> Parsed<PublicKey> {
    let mut own = certificates(certificate)?.into_iter();
    let (Some(leaf), None) = (own.next(), own.next()) else {
        return Err("there is not exactly one certificate of the signer".to_owned());
    };
    let mut intermediates = Vec::new();
    for text in wanted.intermediates {
        intermediates.extend(certificates(text)?);
    }
    if let Some(chain) = chain {
        let mut chain = certificates(chain)?;
        // the last is the root, which only the policy names
        chain.pop();
        if chain.len() > MAX_CHAIN {
            return Err(format!("its chain has more than {MAX_CHAIN} certificates"));
        }
        intermediates.extend(chain);
    }
    let mut roots = Vec::new();
    for text in wanted.authorities {
        roots.extend(certificates(text)?);
    }
    let valid = |der: &&CertificateDer<'_>| {
        read(der).is_ok_and(|facts| (facts.not_before..=facts.not_after).contains(&wanted.time))
    };
    let anchors: Vec<_> =
        roots.iter().filter(valid).filter_map(|der| anchor_from_trusted_cert(der).ok()).collect();
    if anchors.is_empty() {
        return Err("no certificate of the policy's authorities is usable at that time".to_owned());
    }
    let end = EndEntityCert::try_from(&leaf).map_err(|error| format!("the signer's certificate: {error}"))?;
    let time = u64::try_from(wanted.time).map_err(|_| "the time lies before 1970".to_owned())?;
    end.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors,
        &intermediates,
        UnixTime::since_unix_epoch(Duration::from_secs(time)),
        KeyUsage::required_if_present(CODE_SIGNING),
        None,
        None,
    )
    .map_err(|error| format!("the signer's certificate is not one of the policy's authorities: {error}"))?;

    let facts = read(&leaf)?;
    if let Some(issuer) = wanted.oidc_issuer {
        let found = facts.issuer()?;
        if found != issuer {
            return Err(format!("the signer was known to {:?}, not to {issuer:?}", shorten(&found)));
        }
    }
    if let Some(email) = wanted.subject_email
        && !facts.emails.iter().any(|found| found == email)
    {
        return Err(format!("the signer is {:?}, not {email:?}", shorten(&facts.emails.join(", "))));
    }
    if let Some(host) = wanted.subject_hostname {
        let name = ServerName::try_from(host).map_err(|_| format!("{host:?} is no host name"))?;
        end.verify_is_valid_for_subject_name(&name)
            .map_err(|_| format!("the signer's certificate is not for the host {host:?}"))?;
    }
    facts.key.map_err(|error| format!("the key of the signer's certificate: {error}"))
}

fn certificates(text: &[u8]) -> Parsed<Vec<CertificateDer<'static>>> {
    let mut found = Vec::new();
    for block in pem(text)? {
        if block.label != "CERTIFICATE" {
            return Err(format!("a {:?} stands among the certificates", shorten(&block.label)));
        }
        found.push(CertificateDer::from(block.bytes));
    }
    if found.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(found) }
}

/// What a certificate says, verified or not.
struct Facts {
    /// Of an authority it may be one that no signer may have.
    key: Parsed<PublicKey>,
    not_before: i64,
    not_after: i64,
    emails: Vec<String>,
    issuer: Option<String>,
    issuer_string: Option<String>,
}

impl Facts {
    fn issuer(&self) -> Parsed<String> {
        match (&self.issuer, &self.issuer_string) {
            (Some(old), Some(new)) if old != new => {
                Err("the signer's certificate names two issuers".to_owned())
            }
            (Some(issuer), _) | (None, Some(issuer)) => Ok(issuer.clone()),
            (None, None) => Err("the signer's certificate names no OIDC issuer".to_owned()),
        }
    }
}

fn read(der: &[u8]) -> Parsed<Facts> {
    let mut outer = Der(der);
    let mut signed = Der(outer.take(SEQUENCE)?);
    outer.end()?;
    let mut body = Der(signed.take(SEQUENCE)?);
    body.take_if(0xa0)?; // version
    body.any()?; // serial number
    body.take(SEQUENCE)?; // algorithm
    body.take(SEQUENCE)?; // issuer
    let mut validity = Der(body.take(SEQUENCE)?);
    let (not_before, not_after) = (time(&mut validity)?, time(&mut validity)?);
    body.take(SEQUENCE)?; // subject
    let start = body.0;
    body.take(SEQUENCE)?;
    let key = PublicKey::parse_der(&start[..start.len() - body.0.len()]);
    body.take_if(0x81)?;
    body.take_if(0x82)?;
    let mut facts =
        Facts { key, not_before, not_after, emails: Vec::new(), issuer: None, issuer_string: None };
    let Some(extensions) = body.take_if(0xa3)? else { return Ok(facts) };
    let mut extensions = Der(Der(extensions).take(SEQUENCE)?);
    let mut seen = Vec::new();
    while !extensions.is_empty() {
        let mut extension = Der(extensions.take(SEQUENCE)?);
        let id = extension.take(OBJECT)?;
        extension.take_if(BOOLEAN)?;
        let value = extension.take(OCTET_STRING)?;
        if seen.contains(&id) {
            return Err("a certificate has an extension twice".to_owned());
        }
        seen.push(id);
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_owned())
                .map_err(|_| "a certificate has a text that is none".to_owned())
        };
        match id {
            OID_SUBJECT_ALT_NAME => {
                let mut names = Der(Der(value).take(SEQUENCE)?);
                while !names.is_empty() {
                    // rfc822Name
                    if let (0x81, name) = names.any()? {
                        facts.emails.push(text(name)?);
                    }
                }
            }
            OID_ISSUER => facts.issuer = Some(text(value)?),
            OID_ISSUER_STRING => facts.issuer_string = Some(text(Der(value).take(UTF8_STRING)?)?),
            _ => {}
        }
    }
    Ok(facts)
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`, in seconds since 1970.
fn time(der: &mut Der<'_>) -> Parsed<i64> {
    let odd = || "a certificate has a time that is not valid".to_owned();
    let (tag, content) = der.any()?;
    let text = std::str::from_utf8(content).map_err(|_| odd())?;
    let text = match (tag, text.len()) {
        (UTC_TIME, 13) => {
            let century = if text.starts_with(['0', '1', '2', '3', '4']) { "20" } else { "19" };
            format!("{century}{text}")
        }
        (GENERALIZED_TIME, 15) => text.to_owned(),
        _ => return Err(odd()),
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", &text).map_err(|_| odd())?;
    let time = jiff::tz::TimeZone::UTC.to_timestamp(time).map_err(|_| odd())?;
    Ok(time.as_second())
}

/// Whatever the bytes are, reading them as certificates ends, and no chain of them is believed without authorities.
pub(crate) fn promises_of_certificate(bytes: &[u8]) {
    let _ = read(bytes);
    let wanted = Wanted {
        authorities: &[],
        intermediates: &[],
        time: 1_700_000_000,
        oidc_issuer: None,
        subject_email: None,
        subject_hostname: None,
    };
    assert!(verify(bytes, Some(bytes), &wanted).is_err());
}
