//! Plain downloads with the client's certificates, proxies and time limits: what ADD asks of a web server.

use super::connection::bypasses_proxy;
use super::response::{clean, is_header_text};
use super::retry::with_retry;
use super::{ClientOptions, tls};
use crate::url::Url;
use crate::{Error, Result};
use std::fs::File;
use std::io::{Read, Seek, Write};
use ureq::http::{HeaderMap, header};

/// Most redirects of one download.
const MAX_REDIRECTS: usize = 10;

/// What to download.
pub struct Download<'a> {
    /// An http or https address.
    pub url: &'a str,
    /// `ETag` of an earlier download.
    pub etag: Option<&'a str>,
    /// `Last-Modified` of an earlier download, seconds since 1970.
    pub last_modified: Option<i64>,
    /// `Authorization`, for the address's own origin alone.
    pub authorization: Option<&'a str>,
    /// Asked between two reads: whether to give up.
    pub cancelled: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for Download<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What became of a download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Downloaded {
    /// Nothing changed since the earlier one.
    Unchanged,
    /// The file is written.
    Written {
        /// `ETag`.
        etag: Option<String>,
        /// `Last-Modified`, seconds since 1970.
        last_modified: Option<i64>,
    },
}

/// Downloads into an open file, which is emptied first.
pub fn download(options: &ClientOptions, request: &Download<'_>, into: &mut File) -> Result<Downloaded> {
    with_retry(&options.retry, || attempt(options, request, into))
}

fn attempt(options: &ClientOptions, request: &Download<'_>, into: &mut File) -> Result<Downloaded> {
    let first = Url::parse(request.url)?;
    let mut url = first.clone();
    for _ in 0..=MAX_REDIRECTS {
        let authorization = request.authorization.filter(|_| url.same_origin(&first));
        let (status, headers, body) = exchange(options, request, &url, authorization)?;
        match status {
            200 => return receive(options, request, &url, &headers, body, into),
            304 if request.etag.is_some() || request.last_modified.is_some() => {
                return Ok(Downloaded::Unchanged);
            }
            301 | 302 | 303 | 307 | 308 => {
                let target = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
                let Some(target) = target else { return Err(unexpected(&url, status)) };
                let next = url.join(target)?;
                if url.scheme == "https" && next.scheme == "http" {
                    return Err(Error::Protocol {
                        url: url.shown(),
                        message: format!("it redirects from https to plain http ({})", next.shown()),
                    });
                }
                url = next;
            }
            _ => return Err(unexpected(&url, status)),
        }
    }
    Err(Error::Protocol { url: first.shown(), message: "too many redirects".into() })
}

fn unexpected(url: &Url, status: u16) -> Error {
    Error::Status { operation: "GET".into(), url: url.shown(), status, errors: Vec::new(), retry_after: None }
}

type Answer = (u16, HeaderMap, ureq::BodyReader<'static>);

fn exchange(
    options: &ClientOptions,
    request: &Download<'_>,
    url: &Url,
    authorization: Option<&str>,
) -> Result<Answer> {
    let proxy = if url.scheme == "https" { &options.proxy.https } else { &options.proxy.http };
    let direct = bypasses_proxy(url.host(), options.proxy.no_proxy.as_deref().unwrap_or_default());
    let proxy = match proxy.as_deref().filter(|proxy| !proxy.is_empty() && !direct) {
        None => None,
        Some(address) => Some(ureq::Proxy::new(address).map_err(|_| Error::Config {
            path: "proxy settings".into(),
            message: "the address of the proxy is not valid".into(),
        })?),
    };
    let insecure = options.tls_verify == Some(false);
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .tls_config(tls::settings(options, &url.authority, insecure)?)
        .proxy(proxy)
        .user_agent(&options.user_agent)
        .timeout_connect(Some(options.connect_timeout))
        .timeout_resolve(Some(options.connect_timeout))
        .timeout_per_read(Some(options.read_timeout))
        .timeout_per_write(Some(options.read_timeout))
        .build()
        .new_agent();
    let mut builder = ureq::http::Request::get(url.to_string());
    if let Some(authorization) = authorization {
        builder = builder.header(header::AUTHORIZATION, authorization);
    }
    if let Some(etag) = request.etag.filter(|etag| is_header_text(etag)) {
        builder = builder.header(header::IF_NONE_MATCH, etag);
    }
    if let Some(date) = request.last_modified.and_then(http_date) {
        builder = builder.header(header::IF_MODIFIED_SINCE, date);
    }
    let invalid = |error: ureq::http::Error| Error::Protocol { url: url.shown(), message: error.to_string() };
    let response = agent.run(builder.body(()).map_err(invalid)?).map_err(|error| match error {
        ureq::Error::Timeout(_) => {
            Error::Timeout { operation: "GET".into(), url: url.shown(), after: options.read_timeout }
        }
        other => Error::Connection { operation: "GET".into(), url: url.shown(), source: Box::new(other) },
    })?;
    let (parts, body) = response.into_parts();
    Ok((parts.status.as_u16(), parts.headers, body.into_reader()))
}

fn receive(
    options: &ClientOptions,
    request: &Download<'_>,
    url: &Url,
    headers: &HeaderMap,
    mut body: ureq::BodyReader<'static>,
    into: &mut File,
) -> Result<Downloaded> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let broken = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::TimedOut => {
            Error::Timeout { operation: "GET".into(), url: url.shown(), after: options.read_timeout }
        }
        _ => Error::Connection { operation: "GET".into(), url: url.shown(), source: Box::new(source) },
    };
    let unwritable =
        |source| Error::Stream { operation: format!("write what {} sends", url.shown()), source };
    into.set_len(0).and_then(|()| into.rewind()).map_err(unwritable)?;
    let mut buffer = vec![0; 128 << 10];
    let mut received = 0_u64;
    loop {
        if (request.cancelled)() {
            return Err(Error::Stream {
                operation: format!("download {}", url.shown()),
                source: std::io::Error::other("given up"),
            });
        }
        let read = body.read(&mut buffer).map_err(broken)?;
        if read == 0 {
            break;
        }
        into.write_all(&buffer[..read]).map_err(unwritable)?;
        received += read as u64;
    }
    if let Some(length) = text(header::CONTENT_LENGTH).and_then(|value| value.parse::<u64>().ok())
        && length != received
    {
        return Err(Error::Protocol {
            url: url.shown(),
            message: format!("it sent {received} bytes of {length}"),
        });
    }
    Ok(Downloaded::Written {
        etag: text(header::ETAG).map(|etag| clean(etag, 1024)),
        last_modified: text(header::LAST_MODIFIED).and_then(parse_date),
    })
}

/// An HTTP date, seconds since 1970.
fn parse_date(text: &str) -> Option<i64> {
    Some(jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp().as_second())
}

fn http_date(seconds: i64) -> Option<String> {
    let time = jiff::Timestamp::from_second(seconds).ok()?;
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    /// Answers one request after the other; gives what was asked.
    fn server(answers: Vec<&'static str>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while reader.read_line(&mut head).unwrap() > 2 {}
                asked.push(head.to_lowercase());
                stream.write_all(answer.as_bytes()).unwrap();
            }
            asked
        });
        (address, thread)
    }

    fn get(url: &str, etag: Option<&str>, last_modified: Option<i64>) -> (Result<Downloaded>, String) {
        let mut file = tempfile::tempfile().unwrap();
        let mut options = ClientOptions::default();
        options.retry.retries = 0;
        let request =
            Download { url, etag, last_modified, authorization: Some("Bearer x"), cancelled: &|| false };
        let result = download(&options, &request, &mut file);
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        (result, text)
    }

    #[test]
    fn a_file_its_headers_and_no_second_time() {
        let (address, thread) = server(vec![
            "HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 200 OK\r\nETag: \"e1\"\r\nLast-Modified: Sun, 09 Sep 2001 01:46:40 GMT\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
            "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n",
        ]);
        let (result, text) = get(&format!("{address}/a"), None, None);
        let expected =
            Downloaded::Written { etag: Some("\"e1\"".into()), last_modified: Some(1_000_000_000) };
        assert_eq!((result.unwrap(), text.as_str()), (expected, "hello"));
        let (result, _) = get(&format!("{address}/b"), Some("\"e1\""), Some(1_000_000_000));
        assert_eq!(result.unwrap(), Downloaded::Unchanged);
        let asked = thread.join().unwrap();
        assert!(asked[0].contains("authorization: bearer x"), "{asked:?}");
        assert!(asked[2].contains("if-none-match: \"e1\""), "{asked:?}");
        assert!(asked[2].contains("if-modified-since: sun, 09 sep 2001 01:46:40 gmt"), "{asked:?}");
    }

    #[test]
    fn what_is_cut_off_or_missing_is_an_error() {
        let (address, thread) = server(vec![
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nhello",
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        ]);
        assert!(get(&address, None, None).0.is_err());
        assert!(matches!(get(&address, None, None).0, Err(Error::Status { status: 404, .. })));
        thread.join().unwrap();
    }
}
