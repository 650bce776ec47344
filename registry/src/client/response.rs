//! Answers: status, headers, bounded bodies, error bodies.

use super::retry::parse_retry_after;
use crate::url::Url;
use crate::{ApiError, Error, Result};
use serde::Deserialize;
use std::io::Read;
use std::time::Duration;
use ureq::http::HeaderMap;

/// Most bytes that are read of an error body.
const MAX_ERROR: u64 = 1 << 20;

pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: ureq::BodyReader<'static>,
    /// Where the answer came from, after redirects.
    pub(super) url: Url,
    pub(super) read_timeout: Duration,
}

impl Response {
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Reads the body, of at most `limit` bytes.
    pub(super) fn read(self, limit: u64) -> Result<Vec<u8>> {
        let shown = self.url.shown();
        let after = self.read_timeout;
        crate::files::read_bounded(self.body, limit, &format!("answer of {shown}"), || {
            move |error| body_error(error, &shown, after)
        })
    }

    /// Reads and drops a small body, so that the connection can be used again.
    pub(super) fn drain(self) {
        // a body that breaks here matters to nobody: the status said what there was to say
        let _ = std::io::copy(&mut self.body.take(64 << 10), &mut std::io::sink());
    }

    /// What a status that was not expected means.
    pub(super) fn into_error(self, operation: &str) -> Error {
        let status = self.status;
        let url = self.url.shown();
        let retry_after = self.header("retry-after").and_then(parse_retry_after);
        let mut text = Vec::new();
        let _ = self.body.take(MAX_ERROR).read_to_end(&mut text);
        let errors = parse_errors(&text);
        if status == 401 {
            let message = errors.first().map_or_else(
                || "authentication required".to_owned(),
                |error| if error.message.is_empty() { error.code.clone() } else { error.message.clone() },
            );
            return Error::Unauthorized { url, message };
        }
        Error::Status { operation: operation.to_owned(), url, status, errors, retry_after }
    }
}

/// The entries of an error body; a body of another form becomes one entry of its first line.
fn parse_errors(text: &[u8]) -> Vec<ApiError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        errors: Vec<Entry>,
        details: Option<String>,
        error: Option<String>,
        error_description: Option<String>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        code: serde_json::Value,
        #[serde(default)]
        message: Option<String>,
    }
    let plain = |value: &str| clean(value, 500);
    match serde_json::from_slice::<Body>(text) {
        Ok(body) if !body.errors.is_empty() => body
            .errors
            .iter()
            .take(16)
            .map(|entry| ApiError {
                code: plain(entry.code.as_str().unwrap_or("error")),
                message: plain(entry.message.as_deref().unwrap_or_default()),
            })
            .collect(),
        Ok(body) => {
            let message = body.details.or(body.error_description).unwrap_or_default();
            let code = body.error.unwrap_or_default();
            if message.is_empty() && code.is_empty() {
                return Vec::new();
            }
            vec![ApiError { code: plain(&code), message: plain(&message) }]
        }
        Err(_) => {
            let first = String::from_utf8_lossy(&text[..text.len().min(2000)]).trim().to_owned();
            if first.is_empty() || first.starts_with('<') {
                return Vec::new();
            }
            vec![ApiError { code: plain(first.lines().next().unwrap_or_default()), message: String::new() }]
        }
    }
}

/// A foreign text for a terminal: no control characters, bounded.
pub(super) fn clean(text: &str, limit: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(limit).collect()
}

/// Whether a text may stand in a header.
pub(super) fn is_header_text(text: &str) -> bool {
    text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

/// What a failed read of a body means.
pub(super) fn body_error(error: std::io::Error, url: &str, after: Duration) -> Error {
    match crate::error::unwrap_io(error) {
        Ok(own) => own,
        Err(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
            Some(ureq::Error::Timeout(_)) => {
                Error::Timeout { operation: "read".into(), url: url.to_owned(), after }
            }
            _ => Error::Connection { operation: "read".into(), url: url.to_owned(), source: Box::new(error) },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_bodies() {
        let errors =
            parse_errors(br#"{"errors":[{"code":"DENIED","message":"no\u001b[31m way","detail":{}}]}"#);
        assert_eq!(errors, [ApiError { code: "DENIED".into(), message: "no [31m way".into() }]);
        assert_eq!(parse_errors(br#"{"details":"wrong password"}"#)[0].message, "wrong password");
        assert_eq!(parse_errors(b"plain text\nmore")[0].code, "plain text");
        assert!(
            parse_errors(b"<html>").is_empty()
                && parse_errors(b"").is_empty()
                && parse_errors(b"{}").is_empty()
        );
    }
}
