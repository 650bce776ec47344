//! Docker's daemon at its socket, as far as images go in and out: archives over HTTP.
//!
//! Own few lines of HTTP/1.1, because the registry client knows neither Unix sockets nor bodies without an end.

use crate::{Error, Result};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the daemon listens unless something else is said.
const SOCKET: &str = "/var/run/docker.sock";
/// Most bytes of an answer's head, and of what it says of a failure.
const MAX_HEAD: u64 = 64 << 10;
/// How long the daemon may say nothing.
const PATIENCE: Duration = Duration::from_secs(600);

/// A daemon.
#[derive(Debug, Clone)]
pub struct DockerDaemon {
    socket: PathBuf,
}

impl DockerDaemon {
    /// The daemon at `unix://PATH`, or at its usual place.
    pub fn new(host: Option<&str>) -> Result<Self> {
        let host = host.filter(|host| !host.is_empty());
        let socket = match host {
            None => Path::new(SOCKET),
            Some(host) => Path::new(
                host.strip_prefix("unix://").filter(|path| path.starts_with('/')).ok_or_else(|| {
                    Error::external(
                        format!("docker's daemon at {host}"),
                        "only sockets of this host are spoken to: unix:///PATH",
                    )
                })?,
            ),
        };
        Ok(Self { socket: socket.to_owned() })
    }

    /// The archive of an image, as `docker save` writes it.
    pub fn export(&self, name: &str) -> Result<impl Read + Send + use<>> {
        self.check_name(name)?;
        let mut stream = self.connect()?;
        write!(stream, "GET /images/{name}/get HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
            .map_err(self.failed("ask"))?;
        self.answer(stream, &format!("image {name}"))
    }

    /// Sends an archive, as `docker load` does; `write` writes it.
    pub fn load<T>(&self, write: impl FnOnce(&mut (dyn Write + Send)) -> Result<T>) -> Result<T> {
        let mut stream = self.connect()?;
        let head = "POST /images/load?quiet=1 HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\
                    Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).map_err(self.failed("send to"))?;
        let sending = stream.try_clone().map_err(self.failed("send to"))?;
        let mut body = BufWriter::with_capacity(256 << 10, Chunks(sending));
        let written = write(&mut body);
        let ended = match &written {
            Ok(_) => body.flush().and_then(|()| stream.write_all(b"0\r\n\r\n")),
            // an archive that has no end is none
            Err(_) => stream.shutdown(std::net::Shutdown::Both),
        };
        // what could not be written must not be sent late
        let (_, _) = body.into_parts();
        let value = written?;
        let told = ended.map_err(self.failed("send to")).and_then(|()| {
            let mut text = String::new();
            let answer = self.answer(stream, "the archive")?;
            answer.take(MAX_HEAD).read_to_string(&mut text).map_err(self.failed("read from"))?;
            Ok(text)
        })?;
        // failures come in a stream of lines, behind a head that says that all is well
        for line in told.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            if let Some(error) = line.get("error").and_then(serde_json::Value::as_str) {
                return Err(self.refused("load the archive", error));
            }
        }
        Ok(value)
    }

    /// Where it listens.
    pub fn describe(&self) -> String {
        format!("docker's daemon at {}", self.socket.display())
    }

    /// A name goes into the address of a request as it is.
    fn check_name(&self, name: &str) -> Result<()> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/@".contains(&byte);
        if !name.is_empty() && name.bytes().all(plain) && !name.contains("..") {
            return Ok(());
        }
        Err(self.refused(&format!("ask for image {name:?}"), "it is no name of an image"))
    }

    fn connect(&self) -> Result<UnixStream> {
        let stream = UnixStream::connect(&self.socket).map_err(self.failed("reach"))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(self.failed("reach"))?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(self.failed("reach"))?;
        Ok(stream)
    }

    fn failed(&self, operation: &str) -> impl FnOnce(std::io::Error) -> Error + use<> {
        Error::stream(format!("{operation} {}", self.describe()))
    }

    fn refused(&self, what: &str, message: &str) -> Error {
        Error::external(format!("{what} ({})", self.describe()), message.to_owned())
    }

    /// Reads the head of an answer; gives its body.
    fn answer(&self, stream: UnixStream, what: &str) -> Result<Body> {
        let mut reader = BufReader::with_capacity(256 << 10, stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let read = (&mut reader)
                .take(MAX_HEAD)
                .read_until(b'\n', &mut head)
                .map_err(self.failed("read from"))?;
            if read == 0 || head.len() as u64 > MAX_HEAD {
                return Err(self.refused(what, "the answer has no head"));
            }
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
        let mut left = Left::UntilClosed;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            match (name, value.trim()) {
                ("transfer-encoding", "chunked") => left = Left::Chunk(0),
                ("content-length", length) if left == Left::UntilClosed => {
                    let length =
                        length.parse().map_err(|_| self.refused(what, "the answer has no length"))?;
                    left = Left::Bytes(length);
                }
                _ => {}
            }
        }
        let mut body = Body { reader, left };
        if status.starts_with('2') {
            return Ok(body);
        }
        let mut text = String::new();
        // what it says besides its status is a help, no more
        let _ = (&mut body).take(MAX_HEAD).read_to_string(&mut text);
        if status == "404" {
            return Err(Error::NotFound { what: what.to_owned(), place: self.describe() });
        }
        let told: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let message = told.get("message").and_then(serde_json::Value::as_str).map(str::to_owned);
        Err(self.refused(what, &message.unwrap_or_else(|| format!("status {status}"))))
    }
}

/// Writes pieces of a body whose length nobody knows.
struct Chunks(UnixStream);

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.is_empty() {
            // a piece of nothing would be the end
            return Ok(0);
        }
        write!(self.0, "{:x}\r\n", bytes.len())?;
        self.0.write_all(bytes)?;
        self.0.write_all(b"\r\n")?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// What is to come of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    UntilClosed,
    Bytes(u64),
    /// Bytes of the piece that is being read; a new one begins behind it.
    Chunk(u64),
    Nothing,
}

/// The body of an answer. One that ends too early is a failure.
#[derive(Debug)]
struct Body<R = BufReader<UnixStream>> {
    reader: R,
    left: Left,
}

impl<R: BufRead> Body<R> {
    /// Reads the line that begins a piece.
    fn piece(&mut self) -> std::io::Result<u64> {
        let mut line = String::new();
        (&mut self.reader).take(64).read_line(&mut line)?;
        let length = line.trim_end().split(';').next().unwrap_or_default();
        u64::from_str_radix(length, 16).map_err(|_| {
            std::io::Error::new(std::io::ErrorKind::InvalidData, "a piece of the answer has no length")
        })
    }

    fn end_of_piece(&mut self) -> std::io::Result<()> {
        let mut end = [0; 2];
        self.reader.read_exact(&mut end)?;
        if end == *b"\r\n" { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
    }
}

impl<R: BufRead> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.left == Left::Chunk(0) {
            self.left = match self.piece()? {
                0 => Left::Nothing,
                length => Left::Chunk(length),
            };
        }
        let most = match self.left {
            Left::Nothing | Left::Bytes(0) => return Ok(0),
            Left::UntilClosed => return self.reader.read(buffer),
            Left::Bytes(left) | Left::Chunk(left) => left,
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.reader.read(&mut buffer[..most])?;
        if length == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match &mut self.left {
            Left::Bytes(left) => *left -= length as u64,
            Left::Chunk(left) => {
                *left -= length as u64;
                if *left == 0 {
                    self.end_of_piece()?;
                }
            }
            Left::UntilClosed | Left::Nothing => {}
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str, left: Left) -> std::io::Result<String> {
        let mut out = String::new();
        Body { reader: text.as_bytes(), left }.read_to_string(&mut out).map(|_| out)
    }

    #[test]
    fn bodies_end_where_they_say() {
        assert_eq!(read("5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n", Left::Chunk(0)).unwrap(), "hello!");
        assert_eq!(read("hello and more", Left::Bytes(5)).unwrap(), "hello");
        assert_eq!(read("all", Left::UntilClosed).unwrap(), "all");
        for cut in
            ["5\r\nhel", "5\r\nhello\r\n", "5\r\nhelloXX0\r\n\r\n", "zz\r\n", "", "ffffffffffffffffffff\r\n"]
        {
            assert!(read(cut, Left::Chunk(0)).is_err(), "{cut:?}");
        }
        assert!(read("hell", Left::Bytes(5)).is_err());
    }

    #[test]
    fn hosts_and_names() {
        assert_eq!(DockerDaemon::new(None).unwrap().socket, Path::new(SOCKET));
        assert_eq!(DockerDaemon::new(Some("unix:///x/y")).unwrap().socket, Path::new("/x/y"));
        for host in ["tcp://1.2.3.4:2375", "unix://x", "ssh://h"] {
            assert!(DockerDaemon::new(Some(host)).is_err(), "{host}");
        }
        let daemon = DockerDaemon::new(Some("unix:///nosuch")).unwrap();
        for name in ["", "a b", "a\r\nHost: x", "../containers", "a?b"] {
            assert!(daemon.check_name(name).is_err(), "{name:?}");
        }
        assert!(daemon.check_name("localhost:5000/a/b:1").is_ok());
    }
}
