//! A tar file as a set of named byte ranges. Nothing is extracted: members are read where they lie, so names in the
//! archive never become paths on this machine.
//!
//! Own reading of headers, because foreign archives need bounds on everything that is held in memory.

use crate::{Error, Result, files};
use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BLOCK: u64 = 512;
/// Most members of an archive.
const MAX_MEMBERS: usize = 100_000;
/// Most bytes of an extended header or a long name.
const MAX_EXTENSION: u64 = 1 << 20;
/// Most bytes that an archive may unpack to when it is compressed or comes through a pipe.
const MAX_SPOOL: u64 = 1 << 38;
/// Bytes that a compressed archive may unpack to whatever its size, and how many times its size it may beyond that: more
/// than gzip can, and what no image does.
const FREE_SPOOL: u64 = 4 << 30;
const MAX_RATIO: u64 = 1100;
/// Most links from member to member.
const MAX_LINKS: usize = 8;

/// What an archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveKind {
    /// A tar of an OCI layout.
    Oci,
    /// What `docker save` writes.
    Docker,
}

#[derive(Debug, Clone)]
enum Member {
    File { offset: u64, size: u64 },
    Link(String),
}

/// An open tar file and its table of members.
#[derive(Debug)]
pub struct TarFile {
    file: Arc<File>,
    name: String,
    /// Where it lies, unless it came as a stream.
    path: Option<PathBuf>,
    members: HashMap<String, Member>,
}

/// Bytes that an archive may have unpacked to when so many of it were read.
fn spool_limit(packed: u64) -> u64 {
    packed.saturating_mul(MAX_RATIO).clamp(FREE_SPOOL, MAX_SPOOL)
}

/// Counts what is read.
struct Counted<'a, R> {
    inner: R,
    count: &'a Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.count.set(self.count.get() + length as u64);
        Ok(length)
    }
}

impl TarFile {
    /// Opens an archive. One that is compressed (gzip, zstd, bzip2, xz), or no regular file, is first written to a
    /// nameless file in the directory `scratch`.
    pub fn open(path: &Path, scratch: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(Error::file("open", path))?;
        let name = path.display().to_string();
        let regular = file.metadata().map_err(Error::file("stat", path))?.is_file();
        if regular {
            let mut magic = [0_u8; 6];
            let count = read_up_to(&mut file, &mut magic).map_err(Error::file("read", path))?;
            file.seek(SeekFrom::Start(0)).map_err(Error::file("seek", path))?;
            if Packing::of(&magic[..count]) == Packing::Plain {
                return Ok(Self { path: Some(path.to_owned()), ..Self::index(file, name)? });
            }
        }
        Ok(Self { path: Some(path.to_owned()), ..Self::from_reader(file, name, scratch)? })
    }

    /// Where it lies, unless it came as a stream.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Reads an archive from a stream; `name` is for messages.
    pub fn from_reader(mut reader: impl Read, name: String, scratch: &Path) -> Result<Self> {
        let mut magic = [0_u8; 6];
        let failed = |operation: &str| Error::stream(format!("{operation} {name}"));
        let count = read_up_to(&mut reader, &mut magic).map_err(failed("read"))?;
        let packing = Packing::of(&magic[..count]);
        let packed = Cell::new(0);
        let whole = Counted { inner: magic[..count].chain(reader), count: &packed };
        let mut spool = files::unnamed(scratch)?;
        let limited = |reader: &mut dyn Read, spool: &mut File| -> Result<()> {
            let mut buffer = vec![0; 256 << 10];
            let mut unpacked = 0_u64;
            loop {
                let length = match reader.read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(length) => length,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(failed("unpack")(error)),
                };
                unpacked += length as u64;
                let most = spool_limit(packed.get());
                if unpacked > most {
                    return Err(Error::TooLarge { what: format!("{name}, unpacked,"), limit: most });
                }
                spool.write_all(&buffer[..length]).map_err(failed("unpack"))?;
            }
        };
        match packing {
            Packing::Plain => limited(&mut { whole }, &mut spool)?,
            Packing::Gzip => limited(&mut flate2::read::MultiGzDecoder::new(whole), &mut spool)?,
            Packing::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(whole).map_err(failed("unpack"))?;
                limited(&mut decoder, &mut spool)?;
            }
            Packing::Bzip2 => limited(&mut bzip2::read::MultiBzDecoder::new(whole), &mut spool)?,
            Packing::Xz => {
                limited(&mut lzma_rust2::XzReader::new(oci::xz::BoundedXz::new(whole), true), &mut spool)?;
            }
        }
        spool.flush().map_err(failed("write"))?;
        Self::index(spool, name)
    }

    fn index(file: File, name: String) -> Result<Self> {
        let mut archive = Self { file: Arc::new(file), name, path: None, members: HashMap::new() };
        let length = archive.file.metadata().map_err(Error::stream(format!("stat {}", archive.name)))?.len();
        let mut extension = Extension::default();
        let mut position = 0;
        let mut headers = 0_usize;
        while position + BLOCK <= length {
            let mut block = [0_u8; 512];
            archive.file.read_exact_at(&mut block, position).map_err(archive.failed())?;
            position += BLOCK;
            if block.iter().all(|byte| *byte == 0) {
                break;
            }
            headers += 1;
            if headers > 4 * MAX_MEMBERS || archive.members.len() > MAX_MEMBERS {
                return Err(archive.invalid(format!("more than {MAX_MEMBERS} members")));
            }
            let header = Header::parse(&block).ok_or_else(|| archive.invalid("not a valid tar header"))?;
            let size = extension.size.filter(|_| !header.is_extension()).unwrap_or(header.size);
            let has_content = matches!(header.kind, b'0' | 0 | b'7' | b'x' | b'g' | b'L' | b'K' | b'S');
            let content = if has_content { size } else { 0 };
            let end = position.checked_add(content).filter(|end| *end <= length);
            let end = end.ok_or_else(|| archive.invalid("it is cut short"))?;
            match header.kind {
                b'x' | b'g' | b'L' | b'K' => {
                    if content > MAX_EXTENSION {
                        return Err(archive.invalid("an extended header is too large"));
                    }
                    let mut bytes = vec![0; usize::try_from(content).unwrap_or_default()];
                    archive.file.read_exact_at(&mut bytes, position).map_err(archive.failed())?;
                    extension.take(header.kind, &bytes);
                }
                kind => {
                    let extension = std::mem::take(&mut extension);
                    let raw_name = extension.path.unwrap_or(header.name);
                    let link = extension.link.unwrap_or(header.link);
                    if let Some(name) = clean_name(&raw_name) {
                        match kind {
                            b'0' | 0 | b'7' => {
                                archive
                                    .members
                                    .insert(name, Member::File { offset: position, size: content });
                            }
                            b'1' => {
                                archive.members.extend(clean_name(&link).map(|to| (name, Member::Link(to))));
                            }
                            b'2' => {
                                let base = name.rsplit_once('/').map_or("", |(directory, _)| directory);
                                let target = join_link(base, &link);
                                archive.members.extend(target.map(|to| (name, Member::Link(to))));
                            }
                            b'S' => return Err(archive.invalid("sparse members are not supported")),
                            // directories and the rest have no content that anything here would read
                            _ => {}
                        }
                    }
                }
            }
            position = end.div_ceil(BLOCK) * BLOCK;
        }
        if archive.members.is_empty() {
            return Err(archive.invalid("not a tar archive, or an empty one"));
        }
        Ok(archive)
    }

    /// The archive's name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it holds, by the members it has; `None` if it is no image archive.
    pub fn kind(&self) -> Option<ArchiveKind> {
        if self.find("index.json").is_some() && self.find("oci-layout").is_some() {
            Some(ArchiveKind::Oci)
        } else if self.find("manifest.json").is_some() || self.find("repositories").is_some() {
            Some(ArchiveKind::Docker)
        } else {
            None
        }
    }

    fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = name.to_owned();
        for _ in 0..MAX_LINKS {
            match self.members.get(&name)? {
                Member::File { offset, size } => return Some((*offset, *size)),
                Member::Link(target) => name.clone_from(target),
            }
        }
        None
    }

    /// Size of a member in bytes.
    pub(crate) fn size(&self, name: &str) -> Option<u64> {
        self.find(name).map(|(_, size)| size)
    }

    /// Opens a member at an offset.
    pub(crate) fn open_member(&self, name: &str, skip: u64) -> Option<Section> {
        let (offset, size) = self.find(name)?;
        let skip = skip.min(size);
        Some(Section { file: self.file.clone(), position: offset + skip, left: size - skip })
    }

    /// Reads a small member.
    pub(crate) fn read_member(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(section) = self.open_member(name, 0) else { return Ok(None) };
        let what = format!("{name} of {}", self.name);
        files::read_bounded(section, limit, &what, || self.failed()).map(Some)
    }

    pub(crate) fn invalid(&self, message: impl Into<String>) -> Error {
        Error::Archive { path: self.name.clone(), message: message.into() }
    }

    pub(crate) fn failed(&self) -> impl FnOnce(std::io::Error) -> Error + use<> {
        Error::stream(format!("read {}", self.name))
    }
}

/// A member's bytes.
#[derive(Debug)]
pub(crate) struct Section {
    file: Arc<File>,
    position: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.file.read_at(&mut buffer[..wanted], self.position)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.position += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Packing {
    fn of(magic: &[u8]) -> Self {
        match magic {
            [b'B', b'Z', b'h', ..] => Packing::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Packing::Xz,
            _ => match oci::Compression::from_magic(magic) {
                oci::Compression::None => Packing::Plain,
                oci::Compression::Gzip => Packing::Gzip,
                oci::Compression::Zstd => Packing::Zstd,
            },
        }
    }
}

fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match reader.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

#[derive(Debug, Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Extension {
    fn take(&mut self, kind: u8, bytes: &[u8]) {
        let text = |bytes: &[u8]| bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        match kind {
            b'L' => self.path = Some(text(bytes)),
            b'K' => self.link = Some(text(bytes)),
            b'x' => {
                let mut rest = bytes;
                while let Some((key, value, after)) = pax_record(rest) {
                    match key {
                        b"path" => self.path = Some(value.to_vec()),
                        b"linkpath" => self.link = Some(value.to_vec()),
                        b"size" => {
                            self.size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok())
                        }
                        _ => {}
                    }
                    rest = after;
                }
            }
            _ => {}
        }
    }
}

/// Splits `LENGTH KEY=VALUE\n` off the front.
fn pax_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &bytes[length..]))
}

struct Header {
    name: Vec<u8>,
    link: Vec<u8>,
    size: u64,
    kind: u8,
}

impl Header {
    fn parse(block: &[u8; 512]) -> Option<Self> {
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) })
            .sum();
        if number(&block[148..156]) != Some(sum) {
            return None;
        }
        let text = |range: std::ops::Range<usize>| {
            block[range].split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
        };
        let mut name = text(0..100);
        // only POSIX headers have a prefix; GNU keeps times there
        if &block[257..263] == b"ustar\0" {
            let prefix = text(345..500);
            if !prefix.is_empty() {
                name = [prefix, b"/".to_vec(), name].concat();
            }
        }
        Some(Self { name, link: text(157..257), size: number(&block[124..136])?, kind: block[156] })
    }

    fn is_extension(&self) -> bool {
        matches!(self.kind, b'x' | b'g' | b'L' | b'K')
    }
}

/// Octal, or base 256 with the top bit set.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        if field[0] != 0x80 || field[1..field.len() - 8].iter().any(|byte| *byte != 0) {
            return None;
        }
        let low: [u8; 8] = field[field.len() - 8..].try_into().ok()?;
        return Some(u64::from_be_bytes(low));
    }
    let text = std::str::from_utf8(field).ok()?;
    let text = text.trim_matches(['\0', ' ']);
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

/// A member's name as a key: no leading `./` or `/`; names with `..` are no names here.
fn clean_name(name: &[u8]) -> Option<String> {
    join_link("", name)
}

/// Resolves a link target against a directory within the archive; one that leaves the archive is dropped.
fn join_link(base: &str, target: &[u8]) -> Option<String> {
    let target = std::str::from_utf8(target).ok()?;
    let mut parts: Vec<&str> = if target.starts_with('/') { Vec::new() } else { base.split('/').collect() };
    parts.retain(|part| !part.is_empty());
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            other => parts.push(other),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sample() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, bytes).unwrap();
        };
        add("./manifest.json", b"[]");
        add(&format!("{}/deep", "d".repeat(150)), b"long");
        add("b/layer.tar", b"layer");
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "a/layer.tar", "../b/layer.tar").unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "evil", "../../etc/passwd").unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "loop", "loop").unwrap();
        builder.into_inner().unwrap()
    }

    fn read(archive: &TarFile, name: &str) -> Option<Vec<u8>> {
        archive.read_member(name, 100).unwrap()
    }

    #[test]
    fn members_are_found_by_clean_names() {
        let dir = tempfile::tempdir().unwrap();
        let archive = TarFile::from_reader(sample().as_slice(), "x.tar".into(), dir.path()).unwrap();
        assert_eq!(archive.kind(), Some(ArchiveKind::Docker));
        assert_eq!(read(&archive, "manifest.json").unwrap(), b"[]");
        assert_eq!(read(&archive, &format!("{}/deep", "d".repeat(150))).unwrap(), b"long");
        assert_eq!(read(&archive, "a/layer.tar").unwrap(), b"layer");
        assert_eq!(read(&archive, "evil"), None);
        assert_eq!(read(&archive, "loop"), None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the spool has no name");
    }

    #[test]
    fn compressed_archives_are_unpacked() {
        let dir = tempfile::tempdir().unwrap();
        let plain = sample();
        let path = dir.path().join("x");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(&plain).unwrap();
        let zstd = zstd::stream::encode_all(plain.as_slice(), 1).unwrap();
        for bytes in [plain.clone(), gzip.finish().unwrap(), bzip2.finish().unwrap(), zstd] {
            std::fs::write(&path, bytes).unwrap();
            let archive = TarFile::open(&path, dir.path()).unwrap();
            assert_eq!(read(&archive, "b/layer.tar").unwrap(), b"layer");
        }
    }

    #[test]
    fn what_an_archive_unpacks_to_is_bounded() {
        assert_eq!(spool_limit(0), FREE_SPOOL);
        assert_eq!(spool_limit(100 << 20), (100 << 20) * MAX_RATIO);
        assert_eq!(spool_limit(1 << 50), MAX_SPOOL);
    }

    #[test]
    fn damaged_archives_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let good = sample();
        let open = |bytes: &[u8]| TarFile::from_reader(bytes, "x".into(), dir.path());
        assert!(open(b"").is_err());
        assert!(open(&[0; 2048]).is_err());
        assert!(open(&good[..600]).is_ok() || open(&good[..600]).is_err());
        let mut huge = good.clone();
        huge[124..136].copy_from_slice(b"77777777777\0");
        assert!(open(&huge).is_err(), "checksum");
        let mut noise = vec![0x41; 4096];
        assert!(open(&noise).is_err());
        // no input makes it panic
        for step in 0..200 {
            noise.clone_from(&good);
            let at = (step * 37) % good.len();
            noise[at] ^= 0xff;
            let _ = open(&noise);
        }
    }
}
