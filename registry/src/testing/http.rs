//! The protocol side of the test registry: HTTP/1.1 with keep-alive.

use super::{Auth, FaultKind, Seen, Shared, lock};
use base64::Engine as _;
use oci::{Digest, media_type};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// For HEAD: the length to announce.
    length: Option<usize>,
}

impl Answer {
    fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), length: None }
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = bytes.into();
        self
    }

    fn error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({ "errors": [{ "code": code, "message": message }] });
        Self::new(status).with("content-type", "application/json").body(body.to_string())
    }
}

impl Request {
    fn read(reader: &mut impl BufRead) -> Option<Self> {
        let mut line = String::new();
        reader.by_ref().take(16 << 10).read_line(&mut line).ok().filter(|count| *count > 0)?;
        let mut words = line.split_whitespace();
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        if !words.next()?.starts_with("HTTP/1.") {
            return None;
        }
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.by_ref().take(16 << 10).read_line(&mut line).ok().filter(|count| *count > 0)?;
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':')?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut request = Self { method, target, headers, body: Vec::new() };
        if request.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            request.body = read_chunked(reader)?;
        } else if let Some(length) =
            request.header("content-length").and_then(|text| text.parse::<u64>().ok())
        {
            reader.take(length).read_to_end(&mut request.body).ok()?;
            if request.body.len() as u64 != length {
                return None;
            }
        }
        Some(request)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    fn parameter(&self, name: &str) -> Option<String> {
        parameters(self.target.split_once('?')?.1)
            .into_iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }
}

fn read_chunked(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let size = u64::from_str_radix(line.trim(), 16).ok()?;
        reader.take(size).read_to_end(&mut body).ok()?;
        reader.read_line(&mut String::new()).ok()?;
        if size == 0 {
            return Some(body);
        }
    }
}

fn parameters(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), decode(value)))
        .collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            (other, _) => {
                bytes.push(*other);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Shared {
    pub(super) fn serve(&self, stream: &TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut reader = BufReader::new(stream);
        while !self.stop.load(Ordering::Relaxed) {
            let Some(request) = Request::read(&mut reader) else { return };
            let fault = self.take_fault(&request);
            let answer = match fault {
                Some(FaultKind::Status(status, retry_after)) => {
                    let answer = Answer::error(status, "TESTFAULT", "as asked");
                    match retry_after {
                        Some(seconds) => answer.with("retry-after", seconds.to_string()),
                        None => answer,
                    }
                }
                _ => self.answer(&request),
            };
            lock(&self.seen).push(Seen {
                method: request.method.clone(),
                target: request.target.clone(),
                authorization: request.header("authorization").map(str::to_owned),
                range: request.header("range").map(str::to_owned),
                body_bytes: request.body.len() as u64,
                status: answer.status,
            });
            if !self.write(stream, &request, answer, fault) {
                return;
            }
        }
    }

    fn take_fault(&self, request: &Request) -> Option<FaultKind> {
        let mut faults = lock(&self.faults);
        let hit = faults.iter_mut().find(|fault| {
            fault.times > 0 && fault.method == request.method && request.target.contains(&fault.path)
        })?;
        hit.times -= 1;
        Some(hit.kind)
    }

    /// Writes the answer; false if the connection must end.
    fn write(
        &self,
        mut stream: &TcpStream,
        request: &Request,
        mut answer: Answer,
        fault: Option<FaultKind>,
    ) -> bool {
        match fault {
            Some(FaultKind::Corrupt(at)) if at < answer.body.len() => answer.body[at] ^= 0x01,
            Some(FaultKind::Truncate(at)) => answer.body.truncate(at),
            Some(FaultKind::Extend(count)) => answer.body.extend(vec![b'x'; count]),
            _ => {}
        }
        let length = answer.length.unwrap_or(answer.body.len());
        let mut head = format!("HTTP/1.1 {} Status\r\ncontent-length: {length}\r\n", answer.status);
        if let Some(warning) = &self.options.warning {
            head.push_str(&format!("warning: 299 - \"{warning}\"\r\n"));
        }
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        if stream.write_all(head.as_bytes()).is_err() {
            return false;
        }
        if request.method == "HEAD" {
            return true;
        }
        match fault {
            Some(FaultKind::Cut(at)) => {
                let _ = stream.write_all(&answer.body[..at.min(answer.body.len())]);
                let _ = stream.shutdown(std::net::Shutdown::Both);
                false
            }
            Some(FaultKind::Stall(at)) => {
                let _ = stream.write_all(&answer.body[..at.min(answer.body.len())]);
                // until the client gives up, or the server ends
                let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
                for _ in 0..600 {
                    let mut probe = [0_u8; 1];
                    let gone = matches!(stream.peek(&mut probe), Ok(0));
                    if gone || self.stop.load(Ordering::Relaxed) {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                false
            }
            _ => stream.write_all(&answer.body).is_ok(),
        }
    }

    fn answer(&self, request: &Request) -> Answer {
        if request.path() == "/token" {
            return self.token(request);
        }
        if let Some(challenge) = self.refuse(request) {
            return challenge;
        }
        let Some(rest) = request.path().strip_prefix("/v2/") else {
            return Answer::error(404, "UNSUPPORTED", "no such path");
        };
        if rest.is_empty() {
            return Answer::new(200).body("{}");
        }
        for (marker, handler) in [
            ("/blobs/uploads/", Self::upload as fn(&Self, &Request, &str, &str) -> Answer),
            ("/blobs/", Self::blobs),
            ("/manifests/", Self::manifests),
        ] {
            if let Some((repository, target)) = rest.split_once(marker) {
                return handler(self, request, repository, target);
            }
        }
        match rest.strip_suffix("/tags/list") {
            Some(repository) => self.tags(request, repository),
            None => Answer::error(404, "UNSUPPORTED", "no such path"),
        }
    }

    /// The challenge, if the request lacks what it needs.
    fn refuse(&self, request: &Request) -> Option<Answer> {
        let given = request.header("authorization");
        match &self.options.auth {
            Auth::None => None,
            Auth::Basic { username, password } => {
                if given == Some(&basic(username, password)) {
                    return None;
                }
                Some(
                    Answer::error(401, "UNAUTHORIZED", "authentication required")
                        .with("www-authenticate", "Basic realm=\"test\""),
                )
            }
            Auth::Bearer { .. } => {
                let repository = request.path().strip_prefix("/v2/").and_then(|rest| {
                    let end = rest
                        .find("/blobs/")
                        .or_else(|| rest.find("/manifests/"))
                        .or_else(|| rest.find("/tags/"))?;
                    Some(&rest[..end])
                });
                let action = match request.method.as_str() {
                    "GET" | "HEAD" => "pull",
                    "DELETE" if !request.path().contains("/uploads/") => "delete",
                    _ => "push",
                };
                let needed = repository.map(|name| format!("repository:{name}:{action}"));
                let granted = given
                    .and_then(|text| text.strip_prefix("Bearer "))
                    .and_then(|token| lock(&self.state).tokens.get(token).cloned());
                let enough = match (&granted, repository) {
                    (Some(_), None) => true,
                    (Some(granted), Some(name)) => granted.split(' ').any(|scope| {
                        scope
                            .strip_prefix(&format!("repository:{name}:"))
                            .is_some_and(|actions| actions.split(',').any(|one| one == action))
                    }),
                    (None, _) => false,
                };
                if enough {
                    return None;
                }
                let mut header = format!("Bearer realm=\"http://{}/token\",service=\"test\"", self.address);
                if let Some(needed) = needed {
                    header.push_str(&format!(",scope=\"{needed}\""));
                }
                if granted.is_some() {
                    header.push_str(",error=\"insufficient_scope\"");
                }
                Some(
                    Answer::error(401, "UNAUTHORIZED", "authentication required")
                        .with("www-authenticate", header),
                )
            }
        }
    }

    fn token(&self, request: &Request) -> Answer {
        let Auth::Bearer { username, password, refresh_token, anonymous_pull } = &self.options.auth else {
            return Answer::new(404);
        };
        let denied = || Answer::error(401, "UNAUTHORIZED", "wrong user or password");
        let scopes = if request.method == "POST" {
            let form = parameters(&String::from_utf8_lossy(&request.body));
            let get = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
            if get("grant_type") != Some("refresh_token") || get("refresh_token") != Some(refresh_token) {
                return denied();
            }
            get("scope").unwrap_or_default().to_owned()
        } else {
            let query = request.target.split_once('?').map_or("", |(_, query)| query);
            let asked: Vec<String> = parameters(query)
                .into_iter()
                .filter(|(key, _)| key == "scope")
                .map(|(_, value)| value)
                .collect();
            match request.header("authorization") {
                Some(given) if given == basic(username, password) => asked.join(" "),
                Some(_) => return denied(),
                None if *anonymous_pull => {
                    let only_pull = |scope: &String| {
                        let end = scope.rfind(':').unwrap_or(0);
                        let pull = scope[end + 1..].split(',').any(|one| one == "pull");
                        pull.then(|| format!("{}:pull", &scope[..end]))
                    };
                    asked.iter().filter_map(only_pull).collect::<Vec<_>>().join(" ")
                }
                None => return denied(),
            }
        };
        let mut state = lock(&self.state);
        state.next_token += 1;
        let token = format!("token-{}", state.next_token);
        state.tokens.insert(token.clone(), scopes);
        let body = serde_json::json!({ "token": token, "expires_in": 300 });
        Answer::new(200).with("content-type", "application/json").body(body.to_string())
    }

    fn blobs(&self, request: &Request, repository: &str, target: &str) -> Answer {
        let unknown = || Answer::error(404, "BLOB_UNKNOWN", "blob unknown to registry");
        let Ok(digest) = target.parse::<Digest>() else {
            return Answer::error(400, "DIGEST_INVALID", target);
        };
        if request.method == "DELETE" {
            let gone = lock(&self.state).delete_blob(repository, &digest);
            return if gone { Answer::new(202) } else { unknown() };
        }
        if let Some(origin) = self.options.redirect_blobs.as_ref().filter(|_| request.method == "GET") {
            return Answer::new(307).with("location", format!("{origin}{}", request.path()));
        }
        let Some(bytes) = lock(&self.state).blob(repository, &digest) else { return unknown() };
        let head = |status| Answer::new(status).with("docker-content-digest", digest.to_string());
        if request.method == "HEAD" {
            return Answer { length: Some(bytes.len()), ..head(200) };
        }
        let from = request
            .header("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        match from.filter(|_| !self.options.ignore_ranges) {
            Some(from) if from < bytes.len() => {
                let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
                head(206).with("content-range", range).body(&bytes[from..])
            }
            Some(_) => Answer::error(416, "SIZE_INVALID", "no such range"),
            None => head(200).body(bytes.as_slice()),
        }
    }

    fn manifests(&self, request: &Request, repository: &str, target: &str) -> Answer {
        let unknown = || Answer::error(404, "MANIFEST_UNKNOWN", "manifest unknown");
        let mut state = lock(&self.state);
        match request.method.as_str() {
            "PUT" => {
                let kind = request.header("content-type").unwrap_or(media_type::OCI_MANIFEST).to_owned();
                if target.contains(':') && target != Digest::of(&request.body).as_str() {
                    return Answer::error(400, "DIGEST_INVALID", "the manifest has another digest");
                }
                let digest = state.put_manifest(repository, target, &kind, request.body.clone());
                Answer::new(201)
                    .with("location", format!("/v2/{repository}/manifests/{digest}"))
                    .with("docker-content-digest", digest.to_string())
            }
            "DELETE" => {
                if state.delete_manifest(repository, target) {
                    Answer::new(202)
                } else {
                    unknown()
                }
            }
            _ => {
                let Some((kind, bytes)) = state.manifest(repository, target) else { return unknown() };
                let answer = Answer::new(200)
                    .with("content-type", kind)
                    .with("docker-content-digest", Digest::of(&bytes).to_string());
                if request.method == "HEAD" {
                    return Answer { length: Some(bytes.len()), ..answer };
                }
                answer.body(bytes.as_slice())
            }
        }
    }

    fn tags(&self, request: &Request, repository: &str) -> Answer {
        let all = lock(&self.state).tags(repository);
        if all.is_empty() {
            return Answer::error(404, "NAME_UNKNOWN", "repository name not known to registry");
        }
        let last = request.parameter("last").unwrap_or_default();
        // small pages, so that paging happens in tests
        let page: Vec<&String> = all.iter().filter(|tag| **tag > last).take(2).collect();
        let more = page.last().filter(|tag| **tag != all.last().unwrap_or(tag));
        let link = more.map(|tag| format!("</v2/{repository}/tags/list?n=2&last={tag}>; rel=\"next\""));
        let body = serde_json::json!({ "name": repository, "tags": page }).to_string();
        let answer = Answer::new(200).with("content-type", "application/json").body(body);
        match link {
            Some(link) => answer.with("link", link),
            None => answer,
        }
    }

    fn upload(&self, request: &Request, repository: &str, id: &str) -> Answer {
        let mut state = lock(&self.state);
        let location = |id: &str| format!("/v2/{repository}/blobs/uploads/{id}?_state=a%2Fb");
        let unknown = || Answer::error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
        match request.method.as_str() {
            "POST" => {
                let mount = request.parameter("mount").and_then(|text| text.parse::<Digest>().ok());
                if let (Some(digest), Some(from)) = (mount, request.parameter("from"))
                    && !self.options.refuse_mounts
                    && state.mount(repository, &from, &digest)
                {
                    return Answer::new(201).with("location", format!("/v2/{repository}/blobs/{digest}"));
                }
                let id = state.begin_upload();
                Answer::new(202).with("location", location(&id))
            }
            "PATCH" => {
                if request.parameter("_state").as_deref() != Some("a/b")
                    || !state.extend_upload(id, &request.body)
                {
                    return unknown();
                }
                Answer::new(202).with("location", location(id))
            }
            "PUT" => {
                let Some(mut bytes) = state.take_upload(id) else { return unknown() };
                bytes.extend_from_slice(&request.body);
                let wanted = request.parameter("digest").unwrap_or_default();
                if wanted != Digest::of(&bytes).as_str() {
                    return Answer::error(
                        400,
                        "DIGEST_INVALID",
                        "provided digest did not match uploaded content",
                    );
                }
                state.put_blob(repository, bytes);
                Answer::new(201)
                    .with("location", format!("/v2/{repository}/blobs/{wanted}"))
                    .with("docker-content-digest", wanted)
            }
            "DELETE" => {
                if state.take_upload(id).is_some() {
                    Answer::new(204)
                } else {
                    unknown()
                }
            }
            _ => unknown(),
        }
    }
}

fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}")))
}
