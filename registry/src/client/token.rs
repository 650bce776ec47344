//! Bearer tokens: asked from the realm that the challenge names, kept per set of scopes until shortly before they
//! expire.

use super::connection::{Connection, Payload, Request};
use super::response;
use crate::auth::{Challenge, Credentials};
use crate::url::{Url, encode};
use crate::{Error, Result, Secret};
use serde::Deserialize;
use std::time::{Duration, Instant};
use ureq::http::Method;

/// Most bytes of a token answer.
const MAX_ANSWER: u64 = 1 << 20;
/// Validity where the answer names none, and the least that is assumed, seconds.
const LEAST_VALIDITY: u64 = 60;
/// Named to token services that want to know.
const CLIENT_ID: &str = "davit";

#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) value: Secret,
    pub(super) expires: Instant,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<i64>,
}

/// Asks the token service.
pub(super) fn fetch(
    connection: &Connection,
    challenge: &Challenge,
    scopes: &[String],
    credentials: Option<&Credentials>,
) -> Result<Token> {
    let Challenge::Bearer { realm, service, .. } = challenge else {
        return Err(Error::Unsupported("a token was wanted where the challenge is not bearer"));
    };
    let realm = Url::parse(realm)?;
    let has_secret = credentials.is_some();
    if has_secret && realm.scheme == "http" && connection.uses_https() && !connection.insecure() {
        return Err(Error::Protocol {
            url: realm.shown(),
            message: "the token service is not https: no credentials are sent to it".into(),
        });
    }
    let asked = Instant::now();
    let response = match credentials {
        Some(Credentials::IdentityToken(token)) => {
            let mut form = format!("grant_type=refresh_token&refresh_token={}", encode(token.expose()));
            if let Some(service) = service {
                form.push_str(&format!("&service={}", encode(service)));
            }
            if !scopes.is_empty() {
                form.push_str(&format!("&scope={}", encode(&scopes.join(" "))));
            }
            form.push_str(&format!("&client_id={CLIENT_ID}"));
            let headers = vec![("content-type", "application/x-www-form-urlencoded".to_owned())];
            connection.exchange(
                &Request { method: Method::POST, url: realm.clone(), headers },
                &mut Payload::Bytes(form.as_bytes()),
                None,
            )?
        }
        other => {
            let mut url = realm.clone();
            let mut authorization = None;
            if let Some(Credentials::Basic { username, password }) = other {
                url = url.with_parameter("account", username);
                authorization = Some(Credentials::basic_header(username, password));
            }
            if let Some(service) = service {
                url = url.with_parameter("service", service);
            }
            for scope in scopes {
                url = url.with_parameter("scope", scope);
            }
            let request = Request { method: Method::GET, url, headers: Vec::new() };
            connection.exchange(&request, &mut Payload::None, authorization.as_deref())?
        }
    };
    if response.status() != 200 {
        return Err(response.into_error("GET"));
    }
    let shown = realm.shown();
    let bytes = response.read(MAX_ANSWER)?;
    let answer: Answer = serde_json::from_slice(&bytes).map_err(|_| Error::Protocol {
        url: shown.clone(),
        message: "the token service's answer is not valid JSON".into(),
    })?;
    let value = answer.token.or(answer.access_token).filter(|token| !token.is_empty()).ok_or_else(|| {
        Error::Protocol { url: shown.clone(), message: "the token service gave no token".into() }
    })?;
    if !response::is_header_text(&value) {
        return Err(Error::Protocol {
            url: shown,
            message: "the token has characters that a header cannot have".into(),
        });
    }
    let seconds = answer.expires_in.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
    let seconds = seconds.clamp(LEAST_VALIDITY, 24 * 3600);
    // a tenth less, so that it does not expire on its way
    let expires = asked + Duration::from_secs(seconds - seconds / 10);
    Ok(Token { value: Secret::new(value), expires })
}
