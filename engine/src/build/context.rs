//! The build context, wherever it comes from: a directory of the host, or one that is unpacked below the build's lease.

use super::address::{Fetched, Fetcher, Place};
use super::requests::{BuildRequest, ContainerfileSource, ContextSource};
use crate::{Error, Result};
use builder::build::Context;
use oci::Digest;
use std::io::{BufReader, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use storage::Lease;
use storage::compress::{Format, decoder, sniff_tar};
use storage::tar::{ExtractOptions, Limits, Ownership, Reader, extract_into};

/// Most bytes of a Containerfile.
pub(super) const CONTAINERFILE_LIMIT: u64 = 16 << 20;
/// Most bytes of all files of an archive that is a context.
const UNPACKED_LIMIT: u64 = 64 << 30;
/// Most files of one.
const ENTRIES_LIMIT: u64 = 4_000_000;
/// Bytes that show whether a plain stream is a tar.
const BLOCK: u64 = 512;

/// An open context.
#[derive(Debug)]
pub(super) struct Opened {
    /// For the builder.
    pub(super) context: Context,
    /// Its directory, if it has one.
    pub(super) directory: Option<PathBuf>,
    /// Whether somebody else made it: then no link of it is followed out of it.
    pub(super) foreign: bool,
    /// The Containerfile that came instead of a context: name and text.
    pub(super) containerfile: Option<(String, String)>,
    /// The time of what it was made of, in seconds since 1970; `None` for a directory of the user.
    pub(super) time: Option<i64>,
    /// Whether all files have that time.
    pub(super) dated: bool,
    /// A checkout whose files have the times of this build, where nobody said otherwise.
    pub(super) fresh: Option<PathBuf>,
}

/// What a stream turned out to be.
pub(super) enum Stream {
    /// An archive, which is unpacked; the time of its newest entry, in seconds since 1970.
    Unpacked(Option<i64>),
    /// Text.
    Text(String),
}

impl Opened {
    fn directory(place: Place, foreign: bool) -> Self {
        let Place { directory, time, dated, fresh } = place;
        let context = Context::Directory(directory.clone());
        Self { context, directory: Some(directory), foreign, containerfile: None, time, dated, fresh }
    }

    fn alone(containerfile: Option<(String, String)>, time: Option<i64>) -> Self {
        let place = Place { time, ..Place::default() };
        let opened = Self::directory(place, false);
        Self { context: Context::Empty, directory: None, containerfile, ..opened }
    }

    /// Opens the context of a build.
    pub(super) fn new(request: &BuildRequest, lease: &Lease, fetcher: &Fetcher<'_>) -> Result<Self> {
        match &request.context {
            ContextSource::None => Ok(Self::alone(None, None)),
            ContextSource::Directory(directory) if directory.is_dir() => {
                Ok(Self::directory(Place { directory: directory.clone(), ..Place::default() }, false))
            }
            ContextSource::Directory(directory) => Err(Error::os(
                format!("open the build context {}", directory.display()),
                std::io::Error::from(std::io::ErrorKind::NotADirectory),
            )),
            ContextSource::Stream(stream) => {
                let stream =
                    stream.try_clone().map_err(|error| Error::os("read the build context", error))?;
                let name = "the build context on standard input";
                Self::of_stream(std::fs::File::from(stream), name, "Containerfile", request, lease)
            }
            ContextSource::Address(address) => match fetcher.fetch(address)? {
                Fetched::Directory(place) => Ok(Self::directory(place, true)),
                Fetched::Text(name, text, time) => Self::of_text(&name, text, time, address, request),
            },
        }
    }

    /// A stream is a context if it is an archive, and else the Containerfile.
    fn of_stream(
        stream: impl Read + Send,
        what: &str,
        name: &str,
        request: &BuildRequest,
        lease: &Lease,
    ) -> Result<Self> {
        let directory = scratch(lease, "context")?;
        match unpack(stream, what, &directory)? {
            Stream::Unpacked(time) => {
                Ok(Self::directory(Place { directory, time, ..Place::default() }, true))
            }
            Stream::Text(text) => Self::of_text(name, text, None, what, request),
        }
    }

    fn of_text(
        name: &str,
        text: String,
        time: Option<i64>,
        what: &str,
        request: &BuildRequest,
    ) -> Result<Self> {
        if request.containerfile != ContainerfileSource::Lookup {
            return Err(Error::invalid(
                what,
                "it is no archive; a Containerfile that is named besides needs one to lie in",
            ));
        }
        Ok(Self::alone(Some((name.to_owned(), text)), time))
    }
}

/// A directory of the build's own, which goes with its lease.
pub(super) fn scratch(lease: &Lease, name: &str) -> Result<PathBuf> {
    let directory = lease.directory().map_err(crate::error::storage("make a working directory"))?.join(name);
    crate::state::files::create_directory(&directory)?;
    Ok(directory)
}

/// The name of a scratch directory for something that is named.
pub(super) fn scratch_name(kind: &str, name: &str) -> String {
    format!("{kind}-{}", &Digest::of(name.as_bytes()).hex()[..16])
}

/// Unpacks an archive, or gives the text that the stream is.
pub(super) fn unpack(mut stream: impl Read + Send, what: &str, directory: &Path) -> Result<Stream> {
    let failed = |error| Error::os(format!("read {what}"), error);
    let mut start = Vec::new();
    (&mut stream).take(BLOCK).read_to_end(&mut start).map_err(failed)?;
    let packed = Format::detect(&start) != Format::Plain;
    if !packed && sniff_tar(start.as_slice()).map_err(failed)?.is_none() {
        let mut text = start;
        stream.take(CONTAINERFILE_LIMIT + 1).read_to_end(&mut text).map_err(failed)?;
        if text.len() as u64 > CONTAINERFILE_LIMIT {
            return Err(Error::invalid(
                what,
                format!(
                    "it is no archive, and longer than a Containerfile may be ({CONTAINERFILE_LIMIT} bytes)"
                ),
            ));
        }
        return match String::from_utf8(text) {
            Ok(text) => Ok(Stream::Text(text)),
            Err(_) => Err(Error::invalid(what, "it is neither an archive nor a Containerfile in UTF-8")),
        };
    }
    let whole = BufReader::with_capacity(1 << 17, std::io::Cursor::new(start).chain(stream));
    let (_, plain) = decoder(whole).map_err(failed)?;
    let root = sys::fs::open_dir(directory)
        .map_err(|error| Error::os(format!("open {}", directory.display()), std::io::Error::other(error)))?;
    let options = ExtractOptions {
        // COPY gives its own owners to what it takes
        ownership: Ownership::Fixed(0, 0),
        limits: Limits { entries: ENTRIES_LIMIT, unpacked: UNPACKED_LIMIT, ..Limits::default() },
        skip_devices: true,
        ..ExtractOptions::default()
    };
    let mut reader = Reader::new(BufReader::with_capacity(1 << 17, plain));
    extract_into(root.as_fd(), &mut reader, options)
        .map_err(|error| Error::os(format!("unpack {what}"), std::io::Error::other(error)))?;
    Ok(Stream::Unpacked(reader.newest()))
}
