//! What must hold for any bytes: the bodies of the fuzz targets in `storage/fuzz`, which the tests of this crate run
//! again over the inputs that were kept. Each panics where a promise is broken.

use std::fs::{DirBuilder, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::tar::{Entry, Error, ExtractOptions, Limits, Ownership, Reader, Whiteouts, extract_into};

/// A target's name, and what it does with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 3] = [("decoder", decoder), ("tar_extract", extract), ("tar_read", read)];

/// Bounds that small inputs reach.
fn limits() -> Limits {
    Limits {
        entries: 64,
        name: 300,
        depth: 16,
        extension: 4096,
        attributes: 16,
        sparse_pieces: 50,
        unpacked: 1 << 20,
    }
}

/// The reader of tar streams: what an entry holds is bounded, and how the bytes arrive changes nothing.
pub fn read(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    correct_sums(&mut bytes);
    let whole = read_all(Reader::with_limits(bytes.as_slice(), limits()));
    let pieces = read_all(Reader::with_limits(BufReader::with_capacity(7, bytes.as_slice()), limits()));
    assert_eq!(whole, pieces, "the size of reads changes what is read");
}

fn read_all<R: BufRead>(mut reader: Reader<R>) -> (Vec<(Entry, Vec<u8>)>, Option<String>) {
    let limits = limits();
    let mut entries = Vec::new();
    let mut unpacked = 0;
    loop {
        let entry = match reader.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => return (entries, None),
            Err(error) => {
                let text = error.to_string();
                assert!(text.len() < 4096 && !text.contains('\x1b'), "{text:?}");
                return (entries, Some(text));
            }
        };
        assert!(entry.path.len() <= limits.name && entry.link.len() <= limits.name);
        let attributes: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(entry.xattrs.len() <= limits.attributes);
        assert!(attributes as u64 <= limits.extension, "{attributes} bytes of attributes");
        assert!(entry.mtime.nanoseconds < 1_000_000_000);
        unpacked += entry.size;
        assert!(unpacked <= limits.unpacked);
        if let Some(map) = &entry.sparse {
            // one block of the old form holds up to 21 pieces, and is read whole
            assert!(map.len() <= limits.sparse_pieces + 21);
            assert!(map.iter().all(|(offset, length)| offset + length <= entry.size));
            assert!(map.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
        }
        let mut content = Vec::new();
        let result = reader.content().read_to_end(&mut content);
        if let (Ok(_), None) = (&result, &entry.sparse) {
            assert!(entry.size == 0 || content.len() as u64 == entry.size);
        }
        entries.push((entry, content));
        assert!(entries.len() as u64 <= limits.entries);
    }
}

/// The extractor: nothing beside its directory is made, changed or linked to. The first byte chooses the options.
pub fn extract(bytes: &[u8]) {
    let Some((&choice, bytes)) = bytes.split_first() else { return };
    let mut bytes = bytes.to_vec();
    correct_sums(&mut bytes);
    let top = Scratch::new();
    let (jail, outside) = (top.0.join("jail"), top.0.join("outside"));
    let secret = outside.join("secret");
    make_directory(&jail);
    make_directory(&outside);
    std::fs::write(&secret, "s").expect("write into the scratch directory");
    let state = |path: &Path| {
        let stat = std::fs::symlink_metadata(path).expect("what lies outside stays");
        let times = (stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec());
        (stat.ino(), stat.mode(), stat.uid(), stat.nlink(), stat.size(), times)
    };
    let before = (state(&secret), state(&outside));
    let options = ExtractOptions {
        whiteouts: match choice % 4 {
            0 => Whiteouts::Apply,
            1 => Whiteouts::Overlay { user_namespace: true },
            _ => Whiteouts::Ordinary,
        },
        ownership: Ownership::Caller,
        limits: limits(),
        destination: if choice & 16 == 0 { PathBuf::new() } else { PathBuf::from("a/b") },
        skip_devices: true,
        checksum: None,
    };
    let root = sys::fs::open_dir(&jail).expect("open the scratch directory");
    let mut reader = Reader::with_limits(bytes.as_slice(), limits());
    match extract_into(root.as_fd(), &mut reader, options) {
        Ok(extracted) => assert!(extracted.entries <= limits().entries),
        Err(error @ Error::Io { .. }) => {
            let text = error.to_string();
            assert!(text.len() < 8192, "{text}");
        }
        Err(error) => assert!(error.to_string().len() < 8192, "{error}"),
    }
    assert_eq!(before, (state(&secret), state(&outside)), "something outside was touched");
    assert_eq!(names(&outside), ["secret"]);
    assert_eq!(names(&top.0), ["jail", "outside"]);
}

/// Compressed streams: the same bytes come out however they are read, and no more than asked for.
pub fn decoder(bytes: &[u8]) {
    const MOST: u64 = 1 << 22;
    let all = |source: Box<dyn BufRead + Send + '_>| {
        let (format, reader) = crate::compress::decoder(source).map_err(|error| error.to_string())?;
        let mut plain = Vec::new();
        let end = reader.take(MOST).read_to_end(&mut plain).map_err(|error| error.to_string());
        Ok::<_, String>((format, plain, end.is_ok()))
    };
    let whole = all(Box::new(bytes));
    let pieces = all(Box::new(BufReader::with_capacity(7, bytes)));
    assert_eq!(whole.is_ok(), pieces.is_ok());
    if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
        assert_eq!((whole.0, whole.2), (pieces.0, pieces.2));
        // of a damaged stream the last block may be given out or not
        let shared =
            if whole.2 { whole.1.len().max(pieces.1.len()) } else { whole.1.len().min(pieces.1.len()) };
        assert_eq!(whole.1.get(..shared), pieces.1.get(..shared));
    }
    let _ = crate::compress::sniff_tar(bytes);
}

/// Writes the right sum into every header, as far as sizes in headers lead; no mutation would find it.
fn correct_sums(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(block) = bytes.get_mut(at..at + 512) {
        if block.iter().all(|byte| *byte == 0) {
            return;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let size = crate::tar::header::parse_number(&block[124..136], "size").unwrap_or(0);
        let size = usize::try_from(size).unwrap_or(0).min(1 << 30);
        let content = if matches!(block[156], b'1'..=b'6') { 0 } else { size.div_ceil(512) };
        at += 512 * (1 + content);
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("list the scratch directory");
    let mut names: Vec<_> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn make_directory(path: &Path) {
    DirBuilder::new().mode(0o700).create(path).expect("make a scratch directory");
}

/// A directory that vanishes with this value, whatever modes are in it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/dev/shm/davit-fuzz-{}-{count}", std::process::id()));
        make_directory(&path);
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fn open_all(directory: &Path) {
            let _ = std::fs::set_permissions(directory, Permissions::from_mode(0o700));
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    open_all(&entry.path());
                }
            }
        }
        open_all(&self.0);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_fuzzing_kept_holds() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fuzz");
        for (name, target) in TARGETS {
            let entries: Vec<_> = std::fs::read_dir(root.join(name)).unwrap().collect();
            assert!(entries.len() >= 8, "{name}: {} inputs", entries.len());
            for entry in entries {
                let path = entry.unwrap().path();
                let bytes = std::fs::read(&path).unwrap();
                let held = std::panic::catch_unwind(|| target(&bytes));
                assert!(held.is_ok(), "{} breaks a promise", path.display());
            }
        }
    }
}
