//! The reader of foreign tar streams: one pass, bounded memory, no seeking.
//!
//! Understands v7, `ustar`, PAX (also global headers), GNU long names, star prefixes, and GNU sparse files in
//! the old form and the PAX forms 0.0, 0.1 and 1.0. Where readers in the field differ, an entry that would be
//! read as two different things is refused.

use std::io::{BufRead, Read};

use ::tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::error::{Error, Fault, HeaderFault, entry as refuse, show};
use super::header::{BLOCK, checksum_matches, parse_number, text};
use super::pax;

/// A point in time; nanoseconds count upwards from the second, also before 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// Bounds on what a stream may ask for.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Entries of the stream.
    pub entries: u64,
    /// Length of a name or link target, in bytes.
    pub name: usize,
    /// Components of a name.
    pub depth: usize,
    /// Length of one extended header (PAX records or a GNU long name), and of the PAX records of one entry, in bytes.
    pub extension: u64,
    /// Extended attributes of one entry.
    pub attributes: usize,
    /// Pieces of a sparse file.
    pub sparse_pieces: usize,
    /// Sum of the file contents, in bytes.
    pub unpacked: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 16_000_000,
            // PATH_MAX: a longer name could be made, but no program could open it.
            name: 4096,
            // A descriptor is held for each component on the way down.
            depth: 256,
            extension: 1 << 20,
            // Linux lists no more than 64 KiB of names.
            attributes: 4096,
            sparse_pieces: 1 << 18,
            unpacked: 1 << 42,
        }
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// Another name of an earlier file.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// One entry, with every extension applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name as it stands in the stream: may be absolute, hold `.` or `..`, end in `/`.
    pub path: Vec<u8>,
    /// Target of a hard or symbolic link.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size of the file's content with holes, in bytes; 0 for all but files.
    pub size: u64,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// Device numbers, major and minor.
    pub device: (u32, u32),
    /// Extended attributes, in the order of the stream.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// For a sparse file the pieces (offset, length) that hold data, ascending.
    pub sparse: Option<Vec<(u64, u64)>>,
}

impl Entry {
    /// An entry owned by 0:0 with mode 0755 (directories), 0777 (links) or 0644, of size 0 and time 0.
    pub fn new(kind: EntryKind, path: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.into(),
            link: Vec::new(),
            kind,
            mode: match kind {
                EntryKind::Directory => 0o755,
                EntryKind::Symlink => 0o777,
                _ => 0o644,
            },
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Timestamp::default(),
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
        }
    }
}

/// Reads the entries of a tar stream.
#[derive(Debug)]
pub struct Reader<R> {
    inner: R,
    limits: Limits,
    offset: u64,
    /// Stored bytes of the current entry not yet consumed.
    remaining: u64,
    /// Bytes up to the next block boundary after the stored bytes.
    padding: u64,
    current: Vec<u8>,
    global: Vec<pax::Record>,
    entries: u64,
    unpacked: u64,
    ended: bool,
    newest: Option<i64>,
}

impl<R: BufRead> Reader<R> {
    /// Reads with the default [`Limits`].
    pub fn new(inner: R) -> Self {
        Self::with_limits(inner, Limits::default())
    }

    /// Reads within `limits`.
    pub fn with_limits(inner: R, limits: Limits) -> Self {
        Self {
            inner,
            limits,
            offset: 0,
            remaining: 0,
            padding: 0,
            current: Vec::new(),
            global: Vec::new(),
            entries: 0,
            unpacked: 0,
            ended: false,
            newest: None,
        }
    }

    /// The latest time of last modification that an entry had so far, in seconds since 1970.
    pub fn newest(&self) -> Option<i64> {
        self.newest
    }

    /// Returns the source, positioned after what has been consumed.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// Bytes of the stream consumed so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Moves to the next entry, skipping what is left of the current one; `None` at the end mark or at a clean
    /// end of the stream.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        if self.ended {
            return Ok(None);
        }
        self.skip_rest()?;
        let mut extensions = Extensions::default();
        loop {
            let at = self.offset;
            let Some(block) = self.read_block()? else {
                self.ended = true;
                return match extensions.any {
                    true => Err(Error::Truncated { inside: "an extended header".to_owned() }),
                    false => Ok(None),
                };
            };
            if block.iter().all(|b| *b == 0) {
                self.ended = true;
                return match self.read_block()? {
                    Some(second) if second.iter().any(|b| *b != 0) => {
                        Err(Error::Header { offset: at, fault: HeaderFault::LoneZeroBlock })
                    }
                    _ => Ok(None),
                };
            }
            let fail = |fault| Error::Header { offset: at, fault };
            if !checksum_matches(&block) {
                return Err(fail(HeaderFault::Checksum));
            }
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(Error::Limit { what: "entries", limit: self.limits.entries });
            }
            match block[156] {
                b'x' | b'X' => {
                    let data = self.read_extension(&block, at)?;
                    extensions.any = true;
                    // Any number of headers may stand in front of one entry.
                    extensions.length += data.len() as u64;
                    if extensions.length > self.limits.extension {
                        let limit = self.limits.extension;
                        return Err(Error::Limit { what: "bytes in an extended header", limit });
                    }
                    extensions.records.extend(pax::parse(&data).map_err(fail)?);
                }
                b'g' => {
                    let data = self.read_extension(&block, at)?;
                    for (key, value) in pax::parse(&data).map_err(fail)? {
                        // A name or size for every entry makes no sense; an attack would.
                        if matches!(&key[..], b"mtime" | b"uid" | b"gid") {
                            self.global.retain(|(known, _)| *known != key);
                            self.global.push((key, value));
                        }
                    }
                }
                b'L' => {
                    extensions.any = true;
                    extensions.long_name = Some(text(&self.read_extension(&block, at)?).to_vec());
                }
                b'K' => {
                    extensions.any = true;
                    extensions.long_link = Some(text(&self.read_extension(&block, at)?).to_vec());
                }
                // The label of a GNU volume: no file.
                b'V' => {
                    self.start_data(stored_size(&block).map_err(fail)?);
                    self.skip_rest()?;
                }
                _ => {
                    let entry = self.finish_entry(&block, at, extensions)?;
                    self.newest = self.newest.max(Some(entry.mtime.seconds));
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Returns stored bytes of the current entry without consuming them; empty at their end.
    pub fn data(&mut self) -> Result<&[u8], Error> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let available = self.inner.fill_buf().map_err(|source| Error::Read { source })?;
        if available.is_empty() {
            return Err(Error::Truncated { inside: show(&self.current) });
        }
        let length = available.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        Ok(&available[..length])
    }

    /// Consumes `length` of the bytes that [`data`](Self::data) returned.
    pub fn consume(&mut self, length: usize) {
        self.inner.consume(length);
        self.remaining -= length as u64;
        self.offset += length as u64;
    }

    /// The stored bytes of the current entry as a reader; of a sparse file its pieces alone.
    pub fn content(&mut self) -> Content<'_, R> {
        Content { reader: self }
    }

    /// Reads the stream to its very end: what follows the end mark belongs to the digest of a layer.
    pub fn drain(&mut self) -> Result<(), Error> {
        self.ended = true;
        loop {
            let length = self.inner.fill_buf().map_err(|source| Error::Read { source })?.len();
            if length == 0 {
                return Ok(());
            }
            self.inner.consume(length);
            self.offset += length as u64;
        }
    }

    fn skip_rest(&mut self) -> Result<(), Error> {
        while self.remaining > 0 {
            let length = self.data()?.len();
            self.consume(length);
        }
        while self.padding > 0 {
            let available = self.inner.fill_buf().map_err(|source| Error::Read { source })?.len();
            if available == 0 {
                // Some writers leave the last padding out.
                self.padding = 0;
                break;
            }
            let length = available.min(usize::try_from(self.padding).unwrap_or(BLOCK));
            self.inner.consume(length);
            self.offset += length as u64;
            self.padding -= length as u64;
        }
        Ok(())
    }

    fn start_data(&mut self, size: u64) {
        self.remaining = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    /// One whole block, or `None` when the stream ends exactly before it.
    fn read_block(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(Error::Truncated { inside: "a header".to_owned() }),
                Ok(length) => filled += length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Read { source }),
            }
        }
        self.offset += BLOCK as u64;
        Ok(Some(block))
    }

    fn read_extension(&mut self, block: &[u8; BLOCK], at: u64) -> Result<Vec<u8>, Error> {
        let size = stored_size(block).map_err(|fault| Error::Header { offset: at, fault })?;
        if size > self.limits.extension {
            return Err(Error::Limit { what: "bytes in an extended header", limit: self.limits.extension });
        }
        self.current = b"an extended header".to_vec();
        self.start_data(size);
        let mut data = Vec::new();
        while self.remaining > 0 {
            let piece = self.data()?;
            let length = piece.len();
            data.extend_from_slice(piece);
            self.consume(length);
        }
        self.skip_rest()?;
        Ok(data)
    }

    fn finish_entry(
        &mut self,
        block: &[u8; BLOCK],
        at: u64,
        mut extensions: Extensions,
    ) -> Result<Entry, Error> {
        let fail = |fault| Error::Header { offset: at, fault };
        let mut entry = parse_block(block).map_err(fail)?;
        let mut stored = stored_size(block).map_err(fail)?;
        let mut pax = PaxSparse::default();
        let own = std::mem::take(&mut extensions.records);
        let named_by_pax = own.iter().any(|(key, _)| key == b"path");
        let linked_by_pax = own.iter().any(|(key, _)| key == b"linkpath");
        let attributes = own.iter().filter(|(key, _)| key.starts_with(pax::XATTR_PREFIX)).count();
        if attributes > self.limits.attributes {
            let limit = self.limits.attributes as u64;
            return Err(Error::Limit { what: "extended attributes of an entry", limit });
        }
        for (key, value) in self.global.iter().chain(own.iter()) {
            apply_record(&mut entry, &mut stored, &mut pax, key, value).map_err(fail)?;
        }
        for (long, by_pax, name) in [
            (extensions.long_name, named_by_pax, &mut entry.path),
            (extensions.long_link, linked_by_pax, &mut entry.link),
        ] {
            if let Some(long) = long {
                if by_pax && long != *name {
                    return Err(fail(HeaderFault::TwoNames));
                }
                *name = long;
            }
        }
        if let Some(name) = pax.name.take() {
            entry.path = name;
        }
        if entry.path.len() > self.limits.name || entry.link.len() > self.limits.name {
            return Err(refuse(&entry.path, Fault::TooLong));
        }
        if entry.kind == EntryKind::File && entry.path.ends_with(b"/") {
            entry.kind = EntryKind::Directory;
        }
        self.current = entry.path.clone();
        // Only files have content, whatever the size field says: GNU tar and Go's reader agree on that, and a
        // reader that did not would see other entries than they do.
        if matches!(block[156], b'1'..=b'6') {
            stored = 0;
        }
        self.start_data(stored);
        if entry.kind == EntryKind::File {
            self.read_sparse(block, at, &mut entry, stored, pax)?;
            self.unpacked = self.unpacked.saturating_add(entry.size);
            if self.unpacked > self.limits.unpacked {
                return Err(Error::Limit { what: "bytes of content", limit: self.limits.unpacked });
            }
        } else {
            entry.size = 0;
        }
        Ok(entry)
    }

    fn read_sparse(
        &mut self,
        block: &[u8; BLOCK],
        at: u64,
        entry: &mut Entry,
        stored: u64,
        pax: PaxSparse,
    ) -> Result<(), Error> {
        let fail = |fault| Error::Header { offset: at, fault };
        entry.size = stored;
        if block[156] == b'S' {
            let gnu = Header::from_byte_slice(block).as_gnu().ok_or(fail(HeaderFault::Sparse))?;
            entry.size = number(&gnu.realsize, "realsize").map_err(fail)?;
            // The map's continuation blocks come before the data and are not counted in its size.
            entry.sparse = Some(self.read_old_map(block, at)?);
        } else if pax.version_1 {
            entry.size = pax.real_size.ok_or(fail(HeaderFault::PaxValue("GNU.sparse.realsize")))?;
            entry.sparse = Some(self.read_data_map(at)?);
        } else if !pax.numbers.is_empty() || pax.real_size.is_some() {
            if !pax.numbers.len().is_multiple_of(2) || pax.numbers.len() / 2 > self.limits.sparse_pieces {
                return Err(fail(HeaderFault::Sparse));
            }
            entry.size = pax.real_size.ok_or(fail(HeaderFault::PaxValue("GNU.sparse.size")))?;
            entry.sparse = Some(pax.numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect());
        }
        if let Some(map) = &entry.sparse {
            let mut end = 0_u64;
            let mut held = 0_u64;
            for (offset, length) in map {
                let piece_end = offset.checked_add(*length).ok_or(fail(HeaderFault::Sparse))?;
                if *offset < end || piece_end > entry.size {
                    return Err(fail(HeaderFault::Sparse));
                }
                end = piece_end;
                held += length;
            }
            if held != self.remaining {
                return Err(fail(HeaderFault::Sparse));
            }
        }
        Ok(())
    }

    fn read_old_map(&mut self, block: &[u8; BLOCK], at: u64) -> Result<Vec<(u64, u64)>, Error> {
        let fail = |fault| Error::Header { offset: at, fault };
        let mut map = Vec::new();
        let gnu = Header::from_byte_slice(block).as_gnu().ok_or(fail(HeaderFault::Sparse))?;
        push_pieces(&mut map, &gnu.sparse).map_err(fail)?;
        let mut extended = gnu.isextended[0] != 0;
        while extended {
            let block =
                self.read_block()?.ok_or_else(|| Error::Truncated { inside: "a sparse map".to_owned() })?;
            let mut more = GnuExtSparseHeader::new();
            more.as_mut_bytes().copy_from_slice(&block);
            push_pieces(&mut map, &more.sparse).map_err(fail)?;
            if map.len() > self.limits.sparse_pieces {
                return Err(fail(HeaderFault::Sparse));
            }
            extended = more.isextended[0] != 0;
        }
        Ok(map)
    }

    /// The map of PAX sparse format 1.0: decimal lines at the start of the data, padded to a block.
    fn read_data_map(&mut self, at: u64) -> Result<Vec<(u64, u64)>, Error> {
        let fail = |fault| Error::Header { offset: at, fault };
        let mut line = Vec::new();
        let mut numbers: Vec<u64> = Vec::new();
        let mut wanted: Option<u64> = None;
        loop {
            if self.remaining < BLOCK as u64 {
                return Err(fail(HeaderFault::Sparse));
            }
            let block =
                self.read_block()?.ok_or_else(|| Error::Truncated { inside: "a sparse map".to_owned() })?;
            self.remaining -= BLOCK as u64;
            for byte in block {
                if byte != b'\n' {
                    line.push(byte);
                    if line.len() > 20 {
                        return Err(fail(HeaderFault::Sparse));
                    }
                    continue;
                }
                let value = pax::decimal(&line).ok_or(fail(HeaderFault::Sparse))?;
                line.clear();
                match wanted {
                    None if value > self.limits.sparse_pieces as u64 => {
                        return Err(fail(HeaderFault::Sparse));
                    }
                    None => wanted = Some(value * 2),
                    Some(_) => numbers.push(value),
                }
                if wanted == Some(numbers.len() as u64) {
                    return Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect());
                }
            }
        }
    }
}

/// The stored bytes of the current entry; see [`Reader::content`].
#[derive(Debug)]
pub struct Content<'a, R> {
    reader: &'a mut Reader<R>,
}

impl<R: BufRead> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let piece = self.reader.data().map_err(|error| match error {
            Error::Read { source } => source,
            Error::Truncated { .. } => std::io::Error::new(std::io::ErrorKind::UnexpectedEof, error),
            other => std::io::Error::other(other),
        })?;
        let length = piece.len().min(buffer.len());
        buffer[..length].copy_from_slice(&piece[..length]);
        self.reader.consume(length);
        Ok(length)
    }
}

/// Extended headers in front of an entry.
#[derive(Default)]
struct Extensions {
    any: bool,
    /// Bytes of the headers that the records came in.
    length: u64,
    records: Vec<pax::Record>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

/// What PAX records say of a sparse file.
#[derive(Default)]
struct PaxSparse {
    version_1: bool,
    real_size: Option<u64>,
    name: Option<Vec<u8>>,
    /// Offsets and lengths in turn (formats 0.0 and 0.1).
    numbers: Vec<u64>,
}

fn number(field: &[u8], name: &'static str) -> Result<u64, HeaderFault> {
    u64::try_from(parse_number(field, name)?).map_err(|_| HeaderFault::Number(name))
}

fn stored_size(block: &[u8; BLOCK]) -> Result<u64, HeaderFault> {
    number(&block[124..136], "size")
}

fn push_pieces(map: &mut Vec<(u64, u64)>, pieces: &[GnuSparseHeader]) -> Result<(), HeaderFault> {
    for piece in pieces.iter().take_while(|piece| piece.offset[0] != 0 && piece.numbytes[0] != 0) {
        map.push((number(&piece.offset, "sparse")?, number(&piece.numbytes, "sparse")?));
    }
    Ok(())
}

/// Reads the fields that do not depend on extensions.
fn parse_block(block: &[u8; BLOCK]) -> Result<Entry, HeaderFault> {
    let kind = match block[156] {
        // A GNU dump directory lists names as its data; the listing is skipped.
        0 | b'0' | b'7' | b'S' => EntryKind::File,
        b'1' => EntryKind::HardLink,
        b'2' => EntryKind::Symlink,
        b'3' => EntryKind::CharDevice,
        b'4' => EntryKind::BlockDevice,
        b'5' | b'D' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        other => return Err(HeaderFault::Type(char::from(other))),
    };
    let id =
        |field: &[u8], name| u32::try_from(parse_number(field, name)?).map_err(|_| HeaderFault::Number(name));
    let header = Header::from_byte_slice(block);
    let fields = header.as_old();
    let mut path = text(&fields.name).to_vec();
    // POSIX and star carry a prefix; GNU uses the same bytes for other things.
    if let Some(ustar) = header.as_ustar() {
        let star = ustar.pad[8..] == *b"tar\0";
        let prefix = text(if star { &ustar.prefix[..131] } else { &ustar.prefix });
        if !prefix.is_empty() {
            path = [prefix, b"/", &path].concat();
        }
    }
    let numbers = match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => Some((&ustar.dev_major, &ustar.dev_minor)),
        (_, Some(gnu)) => Some((&gnu.dev_major, &gnu.dev_minor)),
        _ => None,
    };
    let device = match numbers {
        Some((major, minor)) if matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice) => {
            (id(major, "devmajor")?, id(minor, "devminor")?)
        }
        _ => (0, 0),
    };
    Ok(Entry {
        path,
        link: text(&fields.linkname).to_vec(),
        kind,
        // Some writers put the type bits in as well.
        mode: u32::try_from(parse_number(&fields.mode, "mode")? & 0o7777).unwrap_or(0),
        uid: id(&fields.uid, "uid")?,
        gid: id(&fields.gid, "gid")?,
        size: 0,
        mtime: Timestamp { seconds: parse_number(&fields.mtime, "mtime")?, nanoseconds: 0 },
        device,
        xattrs: Vec::new(),
        sparse: None,
    })
}

fn apply_record(
    entry: &mut Entry,
    stored: &mut u64,
    sparse: &mut PaxSparse,
    key: &[u8],
    value: &[u8],
) -> Result<(), HeaderFault> {
    let decimal = |name| pax::decimal(value).ok_or(HeaderFault::PaxValue(name));
    let id = |name| u32::try_from(decimal(name)?).map_err(|_| HeaderFault::PaxValue(name));
    match key {
        // An empty value takes an earlier record back (POSIX), which leaves the header's field.
        _ if value.is_empty() && !key.starts_with(pax::XATTR_PREFIX) => {}
        b"path" => entry.path = value.to_vec(),
        b"linkpath" => entry.link = value.to_vec(),
        b"size" => *stored = decimal("size")?,
        b"uid" => entry.uid = id("uid")?,
        b"gid" => entry.gid = id("gid")?,
        b"mtime" => entry.mtime = pax::time(value).ok_or(HeaderFault::PaxValue("mtime"))?,
        b"GNU.sparse.major" => sparse.version_1 = decimal("GNU.sparse.major")? == 1,
        b"GNU.sparse.name" => sparse.name = Some(value.to_vec()),
        b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
            sparse.real_size = Some(decimal("GNU.sparse.realsize")?);
        }
        b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => sparse.numbers.push(decimal("GNU.sparse.offset")?),
        b"GNU.sparse.map" => {
            for part in value.split(|b| *b == b',') {
                sparse.numbers.push(pax::decimal(part).ok_or(HeaderFault::PaxValue("GNU.sparse.map"))?);
            }
        }
        _ => {
            if let Some(name) = key.strip_prefix(pax::XATTR_PREFIX) {
                entry.xattrs.retain(|(known, _)| known != name);
                entry.xattrs.push((name.to_vec(), value.to_vec()));
            }
        }
    }
    Ok(())
}
