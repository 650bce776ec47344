//! As much of HTTP/1.1 as clients of registries speak: a connection, its requests, and answers with files in them.
//!
//! Of our own because a blob goes from the page cache to the socket without a copy (sendfile), which needs the socket; heads
//! are read by httparse. Everything that a client sends is bounded.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longest head of a request, bytes.
const MAX_HEAD: usize = 64 << 10;
/// Most headers of a request.
const MAX_HEADERS: usize = 100;
/// How much of a body that nobody read is read to keep the connection, bytes.
const MAX_DRAIN: u64 = 1 << 20;
/// How long a client may be silent.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A request without its body.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// Decoded, without the query.
    pub(super) path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    /// Whether the client goes on with the same connection.
    pub(super) keep_alive: bool,
}

impl Request {
    /// A header by its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What an answer carries.
#[derive(Debug)]
pub(super) enum Payload {
    /// Nothing.
    Empty,
    /// These bytes.
    Bytes(Vec<u8>),
    /// A part of a file: offset and length.
    File(File, u64, u64),
}

/// An answer.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    headers: Vec<(&'static str, String)>,
    payload: Payload,
    /// The length that is told where no payload follows, as to HEAD.
    length: Option<u64>,
}

impl Response {
    pub(super) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), payload: Payload::Empty, length: None }
    }

    /// With a header; what would end it early is left out.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value: String = value.into().chars().filter(|letter| !letter.is_control()).collect();
        self.headers.push((name, value));
        self
    }

    pub(super) fn carrying(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    /// The same without its payload, whose length is told all the same.
    pub(super) fn head(mut self) -> Self {
        self.length = Some(self.payload_length());
        self.payload = Payload::Empty;
        self
    }

    fn payload_length(&self) -> u64 {
        match &self.payload {
            Payload::Empty => 0,
            Payload::Bytes(bytes) => bytes.len() as u64,
            Payload::File(_, _, length) => *length,
        }
    }
}

/// A client's connection.
pub(super) struct Connection {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { writer: stream.try_clone()?, reader: BufReader::with_capacity(128 << 10, stream) })
    }

    /// The next request and how its body is sent; `None` where the client has gone.
    pub(super) fn request(&mut self) -> io::Result<Option<(Request, Length)>> {
        let mut head = Vec::new();
        // Clients try TLS first: what does not begin as a request is answered at once.
        if self
            .reader
            .fill_buf()?
            .first()
            .is_some_and(|byte| !byte.is_ascii_uppercase() && !b"\r\n".contains(byte))
        {
            return Err(invalid("this is no HTTP"));
        }
        // line by line, so that nothing of the body is taken
        loop {
            let room = (MAX_HEAD + 1).saturating_sub(head.len()) as u64;
            let read = (&mut self.reader).take(room).read_until(b'\n', &mut head)?;
            match read {
                0 if head.is_empty() => return Ok(None),
                0 => return Err(invalid("the head of the request is cut off or too long")),
                _ if head == b"\r\n" || head == b"\n" => head.clear(),
                _ if head.ends_with(b"\r\n\r\n") || head.ends_with(b"\n\n") => break,
                _ => {}
            }
        }
        parse(&head).map(Some)
    }

    /// The body of the request that was read last.
    pub(super) fn body(&mut self, length: Length) -> Body<'_> {
        Body { reader: &mut self.reader, state: length }
    }

    /// Tells a client that waits for it to send the body.
    pub(super) fn go_on(&mut self) -> io::Result<()> {
        self.writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
    }

    /// Sends an answer.
    pub(super) fn answer(&mut self, response: Response, keep_alive: bool) -> io::Result<()> {
        let length = response.length.unwrap_or_else(|| response.payload_length());
        let mut head = format!("HTTP/1.1 {} {}\r\n", response.status, reason(response.status));
        head += "Docker-Distribution-Api-Version: registry/2.0\r\nX-Content-Type-Options: nosniff\r\n";
        for (name, value) in &response.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if response.status != 204 {
            head += &format!("Content-Length: {length}\r\n");
        }
        if !keep_alive {
            head += "Connection: close\r\n";
        }
        head += "\r\n";
        match response.payload {
            Payload::Empty => self.writer.write_all(head.as_bytes()),
            Payload::Bytes(bytes) => self.writer.write_all(&[head.as_bytes(), &bytes].concat()),
            Payload::File(file, offset, length) => {
                self.writer.write_all(head.as_bytes())?;
                send_file(&self.writer, &file, offset, length)
            }
        }
    }
}

/// Sends a part of a file from the page cache.
fn send_file(socket: &TcpStream, file: &File, mut offset: u64, mut length: u64) -> io::Result<()> {
    while length > 0 {
        let part = usize::try_from(length).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::sendfile(socket, file, Some(&mut offset), part) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(sent) => length -= sent as u64,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

/// How a body is sent, and how much of it is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// So many bytes.
    Known(u64),
    /// Chunks; so many bytes of this one. `None` before the first and between two.
    Chunked(Option<u64>),
    /// Chunks, all of which have come.
    Done,
}

/// Reads a request's head.
fn parse(head: &[u8]) -> io::Result<(Request, Length)> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(invalid("the head of the request is cut off")),
        Err(error) => return Err(invalid(&error.to_string())),
    }
    let mut headers = Vec::new();
    for field in parsed.headers.iter() {
        let value = String::from_utf8_lossy(field.value).trim().to_owned();
        headers.push((field.name.to_ascii_lowercase(), value));
    }
    let header =
        |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let lengths = headers.iter().filter(|(name, _)| name == "content-length").count();
    let length = match (header("transfer-encoding"), header("content-length")) {
        // both, or one twice, may mean another thing to whoever stands between
        (Some(_), Some(_)) => return Err(invalid("the length of the body is told twice")),
        (None, Some(_)) if lengths > 1 => return Err(invalid("the length of the body is told twice")),
        (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Length::Chunked(None),
        (Some(_), None) => return Err(invalid("only the transfer coding chunked is known")),
        (None, Some(text)) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Length::Known(text.parse().map_err(|_| invalid("the length of the body is no number"))?)
        }
        (None, Some(_)) => return Err(invalid("the length of the body is no number")),
        (None, None) => Length::Known(0),
    };
    let keep_alive = match (parsed.version, header("connection")) {
        (_, Some(word)) if word.eq_ignore_ascii_case("close") => false,
        (Some(1), _) => true,
        _ => false,
    };
    let target = parsed.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = decoded(path).ok_or_else(|| invalid("the path is not UTF-8"))?;
    let mut parameters = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let both = decoded(&key.replace('+', " ")).zip(decoded(&value.replace('+', " ")));
        parameters.push(both.ok_or_else(|| invalid("the query is not UTF-8"))?);
    }
    let method = parsed.method.unwrap_or_default().to_owned();
    Ok((Request { method, path, query: parameters, headers, keep_alive }, length))
}

/// A text with its `%XX` read.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match (first, hex.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

/// The body of a request.
pub(super) struct Body<'a> {
    reader: &'a mut BufReader<TcpStream>,
    state: Length,
}

impl Body<'_> {
    /// Reads what nobody wanted; says whether the connection can go on.
    pub(super) fn drain(&mut self) -> bool {
        let read = io::copy(&mut self.by_ref().take(MAX_DRAIN), &mut io::sink());
        read.is_ok() && matches!(self.state, Length::Known(0) | Length::Done)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        (&mut *self.reader).take(1024).read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\n") {
            Some(text) => Ok(String::from_utf8_lossy(text).trim().to_owned()),
            None => Err(invalid("a chunk of the body is cut off")),
        }
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let left = match self.state {
            Length::Known(0) | Length::Done => return Ok(0),
            Length::Known(left) => left,
            Length::Chunked(Some(left)) => left,
            Length::Chunked(None) => {
                let line = self.line()?;
                let digits = line.split(';').next().unwrap_or_default().trim();
                if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(invalid("the length of a chunk is no number"));
                }
                let size = u64::from_str_radix(digits, 16).map_err(|_| invalid("a chunk is too long"))?;
                if size == 0 {
                    // headers behind the body say nothing here
                    for _ in 0..MAX_HEADERS {
                        if self.line()?.is_empty() {
                            self.state = Length::Done;
                            return Ok(0);
                        }
                    }
                    return Err(invalid("the body does not end"));
                }
                size
            }
        };
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.reader.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the client has gone within the body"));
        }
        let left = left - read as u64;
        self.state = match self.state {
            Length::Known(_) => Length::Known(left),
            _ if left > 0 => Length::Chunked(Some(left)),
            _ => {
                self.line()?;
                Length::Chunked(None)
            }
        };
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> io::Result<(Request, Length)> {
        parse(text.replace('\n', "\r\n").as_bytes())
    }

    #[test]
    fn heads_are_read() {
        let (request, length) =
            head("PUT /v2/a%2Fb/x?digest=sha256%3Aab&n=1 HTTP/1.1\nHost: h\nContent-Length: 7\n\n").unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("PUT", "/v2/a/b/x"));
        assert_eq!(request.parameter("digest"), Some("sha256:ab"));
        assert_eq!(request.header("host"), Some("h"));
        assert_eq!(length, Length::Known(7));
        assert!(request.keep_alive);
        let (request, length) =
            head("GET / HTTP/1.1\nConnection: close\nTransfer-Encoding: chunked\n\n").unwrap();
        assert!(!request.keep_alive && length == Length::Chunked(None));
    }

    #[test]
    fn lengths_that_two_readers_could_take_differently_are_refused() {
        for bad in [
            "Content-Length: 1\nContent-Length: 1",
            "Content-Length: 1\nTransfer-Encoding: chunked",
            "Content-Length: +1",
            "Content-Length: 99999999999999999999999",
            "Transfer-Encoding: gzip",
        ] {
            assert!(head(&format!("GET / HTTP/1.1\n{bad}\n\n")).is_err(), "{bad}");
        }
    }
}
