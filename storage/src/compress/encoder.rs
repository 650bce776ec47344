//! Parallel compression whose bytes depend on the input alone.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, OnceLock};

use oci::Compression;

/// Level of gzip when none is asked for.
pub const DEFAULT_GZIP_LEVEL: i32 = 6;
/// Level of zstd when none is asked for.
pub const DEFAULT_ZSTD_LEVEL: i32 = 3;

/// Input of one gzip member, in bytes. Changing it changes the digests of all layers built later.
const GZIP_PIECE: usize = 1 << 20;
/// Input of one zstd frame, in bytes: the window of the default level. The same warning holds.
const ZSTD_PIECE: usize = 2 << 20;
/// Pieces in work at once at most, whatever the number of processors: bounds the memory to about 32 MB.
const MOST_IN_WORK: usize = 8;

/// Compresses what is written to it into `sink`, in order, on a pool of its own.
///
/// The pool is not rayon's global one: a caller may stand on any other pool, and waiting for work that was
/// queued behind the caller itself would never end.
#[derive(Debug)]
pub struct Encoder<W> {
    sink: W,
    compression: Compression,
    level: i32,
    piece: Vec<u8>,
    in_work: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    started: bool,
}

impl<W: Write> Encoder<W> {
    /// Starts a stream. Levels: gzip 1 to 12, zstd 1 to 22; others are brought into the range.
    pub fn new(sink: W, compression: Compression, level: Option<i32>) -> Self {
        let level = match compression {
            Compression::None => 0,
            Compression::Gzip => level.unwrap_or(DEFAULT_GZIP_LEVEL).clamp(1, 12),
            Compression::Zstd => level.unwrap_or(DEFAULT_ZSTD_LEVEL).clamp(1, 22),
        };
        Self { sink, compression, level, piece: Vec::new(), in_work: VecDeque::new(), started: false }
    }

    /// Writes what is still in work and returns the sink.
    pub fn finish(mut self) -> io::Result<W> {
        // An empty stream still is a stream of its format.
        if self.compression != Compression::None && (!self.piece.is_empty() || !self.started) {
            self.submit()?;
        }
        while !self.in_work.is_empty() {
            self.write_oldest()?;
        }
        self.sink.flush()?;
        Ok(self.sink)
    }

    fn piece_size(&self) -> usize {
        if self.compression == Compression::Gzip { GZIP_PIECE } else { ZSTD_PIECE }
    }

    fn submit(&mut self) -> io::Result<()> {
        self.started = true;
        let pool = pool()?;
        while self.in_work.len() >= (pool.current_num_threads() + 1).min(MOST_IN_WORK) {
            self.write_oldest()?;
        }
        let piece = std::mem::take(&mut self.piece);
        let (compression, level) = (self.compression, self.level);
        let (sender, receiver) = sync_channel(1);
        // Nobody listens any more after an error elsewhere.
        pool.spawn(move || drop(sender.send(compress(&piece, compression, level))));
        self.in_work.push_back(receiver);
        Ok(())
    }

    fn write_oldest(&mut self) -> io::Result<()> {
        let Some(receiver) = self.in_work.pop_front() else { return Ok(()) };
        let bytes = receiver.recv().map_err(|_| io::Error::other("a compressing thread panicked"))??;
        self.sink.write_all(&bytes)
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.compression == Compression::None {
            return self.sink.write(bytes);
        }
        let size = self.piece_size();
        if self.piece.capacity() == 0 {
            self.piece.reserve_exact(size);
        }
        let length = bytes.len().min(size - self.piece.len());
        self.piece.extend_from_slice(&bytes[..length]);
        if self.piece.len() == size {
            self.submit()?;
        }
        Ok(length)
    }

    /// Does nothing: cutting a piece short would change the bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pool() -> io::Result<Arc<rayon::ThreadPool>> {
    static POOL: OnceLock<Arc<rayon::ThreadPool>> = OnceLock::new();
    if let Some(pool) = POOL.get() {
        return Ok(Arc::clone(pool));
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let built = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|at| format!("compress-{at}"))
        .build()
        .map_err(io::Error::other)?;
    Ok(Arc::clone(POOL.get_or_init(|| Arc::new(built))))
}

thread_local! {
    static GZIP: RefCell<Option<(i32, libdeflater::Compressor)>> = const { RefCell::new(None) };
    static ZSTD: RefCell<Option<(i32, zstd::bulk::Compressor<'static>)>> = const { RefCell::new(None) };
}

fn compress(piece: &[u8], compression: Compression, level: i32) -> io::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(piece.to_vec()),
        Compression::Gzip => GZIP.with_borrow_mut(|slot| {
            if slot.as_ref().is_none_or(|(known, _)| *known != level) {
                let valid = libdeflater::CompressionLvl::new(level)
                    .map_err(|_| io::Error::other("gzip level out of range"))?;
                *slot = Some((level, libdeflater::Compressor::new(valid)));
            }
            let (_, compressor) = slot.as_mut().expect("filled above");
            let mut out = vec![0; compressor.gzip_compress_bound(piece.len())];
            let length = compressor.gzip_compress(piece, &mut out).map_err(io::Error::other)?;
            out.truncate(length);
            Ok(out)
        }),
        Compression::Zstd => ZSTD.with_borrow_mut(|slot| {
            if slot.as_ref().is_none_or(|(known, _)| *known != level) {
                let mut compressor = zstd::bulk::Compressor::new(level)?;
                compressor.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))?;
                *slot = Some((level, compressor));
            }
            let (_, compressor) = slot.as_mut().expect("filled above");
            compressor.compress(piece)
        }),
    }
}
