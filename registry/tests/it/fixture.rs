//! Images made up for tests, and a source and destination in memory.

use oci::{
    Compression, Descriptor, DiffId, Digest, History, ImageConfig, Index, Manifest, ManifestOrIndex,
    Platform, Raw, media_type,
};
use registry::client::RetryPolicy;
use registry::testing::Server;
use registry::transport::{Blob, Destination, Placement, Source, Which};
use registry::{Client, ClientOptions, Error, Reference, Registries, Result};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An image, or several under an index, in memory.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) blobs: Mutex<HashMap<Digest, Vec<u8>>>,
    pub(crate) root: Mutex<Option<Raw<ManifestOrIndex>>>,
}

/// Bytes that compress badly and repeat.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(crate) fn layer_tar(seed: u64, length: usize) -> Vec<u8> {
    let content = noise(seed, length);
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, format!("file-{seed}"), content.as_slice()).unwrap();
    builder.into_inner().unwrap()
}

fn compress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    match compression {
        Compression::None => bytes.to_vec(),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => zstd::stream::encode_all(bytes, 1).unwrap(),
    }
}

impl Memory {
    /// One image with a layer of each given compression and size.
    pub(crate) fn image(platform: &Platform, layers: &[(Compression, usize)]) -> Self {
        let memory = Self::default();
        let raw = memory.add_image(platform, layers);
        *memory.root.lock().unwrap() = Some(raw);
        memory
    }

    pub(crate) fn small() -> Self {
        Self::image(
            &Platform::host(),
            &[(Compression::Gzip, 3000), (Compression::Gzip, 200_000), (Compression::Gzip, 10)],
        )
    }

    /// An index of one image for each platform.
    pub(crate) fn index(platforms: &[&str]) -> Self {
        let memory = Self::default();
        let entries = platforms.iter().enumerate().map(|(position, platform)| {
            let platform: Platform = platform.parse().unwrap();
            let raw = memory.add_image(&platform, &[(Compression::Gzip, 1000 + position)]);
            memory.put(raw.bytes());
            Descriptor { platform: Some(platform), ..raw.descriptor() }
        });
        let raw = Raw::from_value(Index::new(entries.collect())).unwrap();
        *memory.root.lock().unwrap() = Some(raw.into());
        memory
    }

    fn put(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.blobs.lock().unwrap().insert(digest.clone(), bytes.to_vec());
        digest
    }

    fn add_image(&self, platform: &Platform, layers: &[(Compression, usize)]) -> Raw<ManifestOrIndex> {
        let mut config = ImageConfig::new(platform);
        config.created = Some("2026-01-01T00:00:00Z".into());
        config.config.cmd = Some(vec!["sh".into()]);
        config.config.env = vec!["PATH=/bin".into()];
        let mut descriptors = Vec::new();
        for (position, (compression, size)) in layers.iter().enumerate() {
            let plain = layer_tar(position as u64 + 1, *size);
            config.rootfs.diff_ids.push(DiffId(Digest::of(&plain)));
            config
                .history
                .push(History { created_by: Some(format!("layer {position}")), ..History::default() });
            let blob = compress(*compression, &plain);
            descriptors.push(Descriptor::of(compression.oci_layer(), &blob));
            self.put(&blob);
        }
        let config = Raw::from_value(config).unwrap();
        self.put(config.bytes());
        Raw::from_value(Manifest::new(config.descriptor(), descriptors)).unwrap().into()
    }

    pub(crate) fn root(&self) -> Raw<ManifestOrIndex> {
        self.root.lock().unwrap().clone().unwrap()
    }

    pub(crate) fn manifest(&self) -> Manifest {
        self.root().value().manifest().unwrap().clone()
    }

    /// Puts everything into a test server.
    pub(crate) fn serve(&self, server: &Server, repository: &str, tag: &str) {
        for bytes in self.blobs.lock().unwrap().values() {
            server.put_blob(repository, bytes);
        }
        if let Some(index) = self.root().value().index() {
            for entry in &index.manifests {
                let bytes = self.blobs.lock().unwrap()[&entry.digest].clone();
                server.put_manifest(repository, entry.digest.as_str(), &entry.media_type, &bytes);
            }
        }
        let root = self.root();
        server.put_manifest(repository, tag, root.media_type(), root.bytes());
    }
}

impl Source for Memory {
    fn describe(&self) -> String {
        "memory".into()
    }

    fn manifest(&self, which: Which<'_>) -> Result<Raw<ManifestOrIndex>> {
        match which {
            Which::Root => Ok(self.root()),
            Which::Entry(entry) => {
                let bytes = self.blobs.lock().unwrap()[&entry.digest].clone();
                Raw::parse(bytes, Some(&entry.media_type)).map_err(|error| Error::external("parse", error))
            }
        }
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let blobs = self.blobs.lock().unwrap();
        let bytes = blobs
            .get(&descriptor.digest)
            .ok_or_else(|| Error::NotFound { what: descriptor.digest.to_string(), place: "memory".into() })?;
        let offset = usize::try_from(offset).unwrap();
        Ok(Box::new(std::io::Cursor::new(bytes[offset..].to_vec())))
    }
}

impl Destination for Memory {
    fn describe(&self) -> String {
        "memory".into()
    }

    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool> {
        Ok(self.blobs.lock().unwrap().contains_key(&descriptor.digest))
    }

    fn put_blob(&self, blob: &Blob<'_>) -> Result<()> {
        let mut bytes = Vec::new();
        blob.verified()?.read_to_end(&mut bytes).map_err(|error| Error::external("read blob", error))?;
        self.put(&bytes);
        Ok(())
    }

    fn put_manifest(&self, raw: &Raw<ManifestOrIndex>, placement: Placement) -> Result<()> {
        self.put(raw.bytes());
        if placement == Placement::Root {
            *self.root.lock().unwrap() = Some(raw.clone());
        }
        Ok(())
    }
}

/// Options for a plain-http registry on loopback, with short waits.
pub(crate) fn options(insecure: &str) -> ClientOptions {
    let mut registries = Registries::default();
    registries.add_insecure(insecure);
    ClientOptions {
        registries: Arc::new(registries),
        certs_d: Vec::new(),
        ca_bundles: Vec::new(),
        connect_timeout: Duration::from_secs(10),
        read_timeout: Duration::from_secs(20),
        retry: RetryPolicy {
            retries: 2,
            rate_limit_retries: 4,
            first_delay: Duration::from_millis(5),
            max_delay: Duration::from_millis(20),
        },
        ..ClientOptions::default()
    }
}

pub(crate) fn client(server: &Server) -> Client {
    Client::new(options(&server.address()))
}

pub(crate) fn reference(server: &Server, rest: &str) -> Reference {
    Reference::parse(&format!("{}/{rest}", server.address())).unwrap()
}

/// Reads to the end, with errors as text.
pub(crate) fn drain(mut reader: impl Read) -> std::result::Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map(|_| bytes).map_err(|error| error.to_string())
}

pub(crate) const ALL: registry::Selection = registry::Selection::All;

pub(crate) fn copy_all(source: &dyn Source, destination: &dyn Destination) -> Result<registry::Report> {
    registry::copy(source, destination, &registry::CopyOptions { selection: ALL, ..Default::default() })
}

pub(crate) fn layer_type_is_known(manifest: &Manifest) -> bool {
    manifest.layers.iter().all(|layer| Compression::from_media_type(&layer.media_type).is_some())
        && media_type::is_config(&manifest.config.media_type)
}
