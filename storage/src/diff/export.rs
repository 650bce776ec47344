//! A recorded layer as bytes, in the compression that is wanted.

use std::io::{self, Read, Write};

use oci::{ChainId, Compression, Descriptor, DiffId, Digester};

use super::write_diff;
use crate::compress::Encoder;
use crate::error::{Error, Result};
use crate::ingest::LayerError;
use crate::ingest::receive::open_plain;
use crate::layers::Layer;
use crate::leases::{Hold, Lease};
use crate::store::Store;

/// Writes a layer's stream, compressed as wanted; returns the length in bytes of what was written.
///
/// A blob that has this compression already is copied as it is. Otherwise the plain stream comes from another
/// blob or from the files, and is verified while it is written: after an error the sink holds nothing of use.
pub fn export_layer(
    store: &Store,
    chain_id: &ChainId,
    compression: Compression,
    sink: impl Write,
) -> Result<u64> {
    let layer = find(store, chain_id)?;
    let mut sink = Counting { sink, count: 0 };
    let fail = |source| Error::from(LayerError::Write { layer: chain_id.to_string(), source });
    if let Some(blob) = present(store, &layer, Some(compression))? {
        let mut file = store.content().open(&blob.digest)?;
        return io::copy(&mut file, &mut sink).map_err(fail);
    }
    let mut encoder = Encoder::new(&mut sink, compression, None);
    write_plain(store, &layer, &mut encoder)?;
    encoder.finish().map_err(fail)?;
    Ok(sink.count)
}

/// Returns the descriptor of a layer's blob with this compression, which the lease then holds. It is made once,
/// and remembered beside the layer; its bytes do not depend on the machine.
pub fn layer_blob(
    store: &Store,
    lease: &Lease,
    chain_id: &ChainId,
    compression: Compression,
) -> Result<Descriptor> {
    let layer = find(store, chain_id)?;
    if let Some(blob) = present(store, &layer, Some(compression))?
        && lease.hold(Hold::Blob(blob.digest.clone()))?
    {
        return Ok(Descriptor { media_type: compression.oci_layer().to_owned(), ..blob.clone() });
    }
    let mut new = store.content().create(lease)?;
    let fail = |source| Error::from(LayerError::Write { layer: chain_id.to_string(), source });
    let mut encoder = Encoder::new(&mut new, compression, None);
    write_plain(store, &layer, &mut encoder)?;
    encoder.finish().map_err(fail)?;
    let (digest, size) = new.finish()?;
    let blob = Descriptor::new(compression.oci_layer(), digest, size);
    store.layers().add_blob(chain_id, &blob)?;
    Ok(blob)
}

fn find(store: &Store, chain_id: &ChainId) -> Result<Layer> {
    store.layers().get(chain_id)?.ok_or_else(|| Error::LayerNotFound { chain_id: chain_id.clone() })
}

/// A blob of the layer that is in the store, of this compression or, without one, of any.
fn present<'a>(
    store: &Store,
    layer: &'a Layer,
    compression: Option<Compression>,
) -> Result<Option<&'a Descriptor>> {
    for blob in &layer.blobs {
        let found = Compression::from_media_type(&blob.media_type);
        if found.is_some()
            && (compression.is_none() || found == compression)
            && store.content().has(&blob.digest)?
        {
            return Ok(Some(blob));
        }
    }
    Ok(None)
}

/// Writes the plain stream and verifies that it is the layer's.
fn write_plain(store: &Store, layer: &Layer, sink: impl Write) -> Result<()> {
    let mut tee = Tee { sink, digester: Digester::new() };
    if let Some(blob) = present(store, layer, None)? {
        let name = || blob.digest.to_string();
        let mut plain = open_plain(store.content().open(&blob.digest)?)
            .map_err(|source| LayerError::Inflate { layer: name(), source })?;
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let length = match plain.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(LayerError::Inflate { layer: name(), source }.into()),
            };
            tee.write_all(&buffer[..length])
                .map_err(|source| LayerError::Write { layer: layer.chain_id.to_string(), source })?;
        }
    } else {
        write_diff(store, &layer.snapshot, &mut tee)?;
    }
    let actual = DiffId(tee.digester.finish());
    if actual != layer.diff_id {
        let expected = layer.diff_id.clone();
        return Err(LayerError::Damaged { snapshot: layer.snapshot.clone(), expected, actual }.into());
    }
    Ok(())
}

struct Tee<W> {
    sink: W,
    digester: Digester,
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.sink.write(bytes)?;
        self.digester.update(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

struct Counting<W> {
    sink: W,
    count: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.sink.write(bytes)?;
        self.count += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
