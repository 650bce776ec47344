//! The little of D-Bus that asking systemd takes: one connection, method calls, their answers, signals.
//!
//! Only little-endian messages (a bus passes on what its local peers send), only the types that the calls of
//! `systemd.rs` need. Sizes are bounded and every read of a message is checked, so that a strange peer is an error.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest message accepted, bytes. The specification allows 128 MiB; what systemd answers is below 1 KiB.
const MAX_MESSAGE: usize = 1 << 20;
/// Longest line of the authentication dialogue, bytes.
const MAX_LINE: usize = 1024;
/// How long any answer may take.
const DEADLINE: Duration = Duration::from_secs(30);

pub(super) const METHOD_CALL: u8 = 1;
pub(super) const METHOD_RETURN: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;

/// A method call, without its arguments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    /// Types of the arguments.
    pub(super) signature: &'a str,
}

/// The bus itself.
pub(super) const BUS: Call<'static> = Call {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "",
    signature: "",
};

impl<'a> Call<'a> {
    /// Another method of the same object.
    pub(super) fn member(self, member: &'a str, signature: &'a str) -> Self {
        Self { member, signature, ..self }
    }
}

/// A received message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) reply_to: Option<u32>,
    pub(super) member: Option<String>,
    pub(super) error: Option<String>,
    pub(super) signature: String,
    pub(super) body: Vec<u8>,
}

impl Message {
    /// The reader of the arguments.
    pub(super) fn arguments(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0 }
    }

    /// The human text of an error answer.
    pub(super) fn error_text(&self) -> String {
        let name = self.error.clone().unwrap_or_else(|| "unnamed error".to_owned());
        match self.signature.starts_with('s').then(|| self.arguments().string()) {
            Some(Ok(text)) => format!("{text} ({name})"),
            _ => name,
        }
    }
}

/// A connection, authenticated and introduced.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    serial: u32,
}

impl Connection {
    /// Connects to the bus at `socket` as user `uid`, which is the user's ID outside of any user namespace.
    pub(super) fn open(socket: &Path, uid: u32) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        let identity: String = uid.to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
        stream.write_all(format!("\0AUTH EXTERNAL {identity}\r\n").as_bytes())?;
        let answer = read_line(&mut stream)?;
        if !answer.starts_with("OK ") {
            return Err(io::Error::other(format!("the bus refuses user {uid}: {answer}")));
        }
        stream.write_all(b"BEGIN\r\n")?;
        let mut connection = Self { stream, serial: 0 };
        let hello = connection.call(BUS.member("Hello", ""), |_| {})?;
        connection.answer_to(hello)?.map_err(|message| io::Error::other(message.error_text()))?;
        Ok(connection)
    }

    /// Sends a call; returns its number, by which the answer is known.
    pub(super) fn call(&mut self, call: Call<'_>, arguments: impl FnOnce(&mut Writer)) -> io::Result<u32> {
        self.serial += 1;
        let mut body = Writer::default();
        arguments(&mut body);
        self.stream.write_all(&encode(call, self.serial, &body.bytes)?)?;
        Ok(self.serial)
    }

    /// Waits for the answer to a call, dropping what else arrives; an error answer is `Ok(Err)`.
    pub(super) fn answer_to(&mut self, serial: u32) -> io::Result<Result<Message, Message>> {
        loop {
            let message = self.receive()?;
            if message.reply_to == Some(serial) {
                return Ok(if message.kind == ERROR { Err(message) } else { Ok(message) });
            }
        }
    }

    /// Waits for the next message.
    pub(super) fn receive(&mut self) -> io::Result<Message> {
        let mut head = [0; 16];
        self.stream.read_exact(&mut head)?;
        let (fields, body) = lengths(&head)?;
        let mut rest = vec![0; fields.next_multiple_of(8) + body];
        self.stream.read_exact(&mut rest)?;
        decode(head[1], &rest, fields)
    }
}

fn read_line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        if line.len() == MAX_LINE {
            return Err(malformed("a line without end"));
        }
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    line.truncate(line.len() - 2);
    String::from_utf8(line).map_err(|_| malformed("a line that is no text"))
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the bus sent {what}"))
}

fn encode(call: Call<'_>, serial: u32, body: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut message = Writer { bytes: vec![b'l', METHOD_CALL, 0, 1] };
    message.u32(length);
    message.u32(serial);
    message.array(8, |fields| {
        let text = [
            (1, "o", call.path),
            (2, "s", call.interface),
            (3, "s", call.member),
            (6, "s", call.destination),
        ];
        for (code, kind, value) in text {
            fields.align(8);
            fields.bytes.push(code);
            fields.signature(kind);
            fields.string(value);
        }
        if !call.signature.is_empty() {
            fields.align(8);
            fields.bytes.push(8);
            fields.signature("g");
            fields.signature(call.signature);
        }
    });
    message.align(8);
    message.bytes.extend_from_slice(body);
    Ok(message.bytes)
}

/// Lengths of the header's fields and of the body, from the first 16 bytes.
fn lengths(head: &[u8; 16]) -> io::Result<(usize, usize)> {
    if head[0] != b'l' || head[3] != 1 {
        return Err(malformed("a message of another byte order or version"));
    }
    let number =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
    let (body, fields) = (number(4), number(12));
    if fields > MAX_MESSAGE || body > MAX_MESSAGE {
        return Err(malformed("a message that is too long"));
    }
    Ok((fields, body))
}

/// `rest` is what follows the first 16 bytes: `fields` bytes of header fields, padding, body.
fn decode(kind: u8, rest: &[u8], fields: usize) -> io::Result<Message> {
    let cut = || malformed("a message that is cut off");
    let mut message = Message { kind, ..Message::default() };
    message.body = rest.get(fields.next_multiple_of(8)..).ok_or_else(cut)?.to_vec();
    let mut reader = Reader { bytes: rest.get(..fields).ok_or_else(cut)?, at: 0 };
    while reader.at < reader.bytes.len() {
        reader.align(8);
        let code = reader.take(1)?[0];
        match (code, reader.signature()?) {
            (3, "s") => message.member = Some(reader.string()?.to_owned()),
            (4, "s") => message.error = Some(reader.string()?.to_owned()),
            (5, "u") => message.reply_to = Some(reader.u32()?),
            (8, "g") => reader.signature()?.clone_into(&mut message.signature),
            (_, "s" | "o") => drop(reader.string()?),
            (_, "u") => drop(reader.u32()?),
            (_, "g") => drop(reader.signature()?),
            _ => return Err(malformed("a header field of unknown type")),
        }
    }
    Ok(message)
}

/// Values on their way out, each aligned to its size from the start of the message or body.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, size: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(size), 0);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.align(8);
        self.bytes.extend(value.to_le_bytes());
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.u32(u32::from(value));
    }

    /// A string or an object path.
    pub(super) fn string(&mut self, text: &str) {
        self.u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.bytes.extend(text.bytes());
        self.bytes.push(0);
    }

    pub(super) fn signature(&mut self, text: &str) {
        self.bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.bytes.extend(text.bytes());
        self.bytes.push(0);
    }

    /// An array whose elements are aligned to `alignment`; the padding before the first is not counted.
    pub(super) fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Self)) {
        self.u32(0);
        let length_at = self.bytes.len() - 4;
        self.align(alignment);
        let start = self.bytes.len();
        elements(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// A name with a variant: one element of `a(sv)`.
    pub(super) fn property(&mut self, name: &str, signature: &str, value: impl FnOnce(&mut Self)) {
        self.align(8);
        self.string(name);
        self.signature(signature);
        value(self);
    }
}

/// Values as they arrive.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, size: usize) {
        self.at = self.at.next_multiple_of(size);
    }

    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| malformed("a value that is cut off"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    pub(super) fn u32(&mut self) -> io::Result<u32> {
        self.align(4);
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A string or an object path.
    pub(super) fn string(&mut self) -> io::Result<&'a str> {
        let length = self.u32()? as usize;
        self.text(length)
    }

    fn signature(&mut self) -> io::Result<&'a str> {
        let length = usize::from(self.take(1)?[0]);
        self.text(length)
    }

    fn text(&mut self, length: usize) -> io::Result<&'a str> {
        let text = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(text).map_err(|_| malformed("a string that is no text"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let call =
            Call { destination: "a.b", path: "/c", interface: "d.e", member: "Do", signature: "sa(sv)u" };
        let mut body = Writer::default();
        body.string("name");
        body.array(8, |all| {
            all.property("Flag", "b", |value| value.bool(true));
            all.property("Ids", "au", |value| value.array(4, |ids| ids.u32(7)));
            all.property("Most", "t", |value| value.u64(u64::MAX));
        });
        body.u32(5);
        encode(call, 9, &body.bytes).unwrap()
    }

    fn parse(bytes: &[u8]) -> io::Result<Message> {
        let head: [u8; 16] = bytes.get(..16).ok_or_else(|| malformed("too little"))?.try_into().unwrap();
        let (fields, _) = lengths(&head)?;
        decode(head[1], &bytes[16..], fields)
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = sample();
        let message = parse(&bytes).unwrap();
        assert_eq!(message.member.as_deref(), Some("Do"));
        assert_eq!(message.signature, "sa(sv)u");
        let mut arguments = message.arguments();
        assert_eq!(arguments.string().unwrap(), "name");
        let length = arguments.u32().unwrap() as usize;
        arguments.align(8);
        arguments.take(length).unwrap();
        assert_eq!(arguments.u32().unwrap(), 5);
        assert!(arguments.u32().is_err());
    }

    #[test]
    fn the_layout_is_the_specifications() {
        // Written by hand from the specification: an empty call with serial 1.
        let call = Call { destination: "b", path: "/", interface: "i", member: "M", signature: "" };
        let wanted: &[u8] = b"l\x01\0\x01\0\0\0\0\x01\0\0\0\x3a\0\0\0\
            \x01\x01o\0\x01\0\0\0/\0\0\0\0\0\0\0\
            \x02\x01s\0\x01\0\0\0i\0\0\0\0\0\0\0\
            \x03\x01s\0\x01\0\0\0M\0\0\0\0\0\0\0\
            \x06\x01s\0\x01\0\0\0b\0\0\0\0\0\0\0";
        assert_eq!(encode(call, 1, &[]).unwrap(), wanted);
    }

    #[test]
    fn damaged_messages_are_errors_and_no_panics() {
        let bytes = sample();
        for end in 0..bytes.len() {
            let _ = parse(&bytes[..end]).map(|message| drop(message.arguments().string()));
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                let _ = parse(&damaged).map(|message| message.error_text());
            }
        }
        assert!(lengths(b"l\x01\0\x01\xff\xff\xff\xff\x01\0\0\0\0\0\0\0").is_err());
        assert!(lengths(b"B\x01\0\x01\0\0\0\0\x01\0\0\0\0\0\0\0").is_err());
    }
}
