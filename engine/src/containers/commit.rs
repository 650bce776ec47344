//! `commit`: what a container changed becomes an image.

use super::files::piped;
use super::{Containers, Status};
use crate::events::Event;
use crate::images::import::apply_change;
use crate::images::lookup::local_reference;
use crate::images::store_end::image_record;
use crate::state::{ContainerRecord, names};
use crate::time::Instant;
use crate::{Error, Result};
use oci::{ChainId, ContainerConfig, Descriptor, History, ImageConfig, Raw, media_type};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use storage::diff::{diff_id_of, write_diff_without};
use storage::snapshot::open_detached;
use storage::tar::{ExtractOptions, Ownership, Reader, Whiteouts, WriteOptions, extract_into, write_tree};
use storage::{Layer, Lease, Prepare};

/// Make an image of a container.
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    /// Name or ID.
    pub container: String,
    /// Name of the image; `None` = it gets none.
    pub image: Option<String>,
    /// Who made it.
    pub author: String,
    /// What is said about it in its history.
    pub message: String,
    /// Containerfile instructions that change its config.
    pub changes: Vec<String>,
    /// File with a config as JSON, whose values are put over those of the container before `changes`.
    pub config: Option<PathBuf>,
    /// Docker's media types in its manifest instead of the OCI's.
    pub docker_format: bool,
    /// The processes are frozen meanwhile.
    pub pause: bool,
    /// One layer instead of the image's layers and one more.
    pub squash: bool,
    /// The places of the container's mounts become volumes of the image.
    pub include_volumes: bool,
}

/// Most bytes of a file with a config.
const MAX_CONFIG: u64 = 1 << 20;

/// A container that is frozen until this is dropped.
struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        // one that ended or was removed meanwhile needs none
        let _ = runtime::resume(&self.0);
    }
}

impl Containers<'_> {
    /// Makes an image of a container; returns its ID, 64 hex digits.
    pub fn commit(&self, request: &CommitRequest) -> Result<String> {
        let engine = self.engine;
        let record = engine.state().find(&request.container)?;
        record.check_owners("commit")?;
        let reference = request.image.as_deref().map(local_reference).transpose()?;
        let attempt = || crate::error::storage(format!("commit container {}", record.name));
        let base = engine.find_image(&record.image_id)?;
        let base_config = engine.image_config(&base.image)?;
        let mut config = container_config(&record, &base_config.value().config);
        if request.include_volumes {
            for mount in &record.settings.mounts {
                let place = mount.destination.to_string_lossy().into_owned();
                config.volumes.insert(place, oci::Empty {});
            }
        }
        if let Some(path) = &request.config {
            put_over(&mut config, read_config(path)?);
        }
        for change in &request.changes {
            apply_change(&mut config, change)?;
        }
        let store = engine.store()?;
        let lease = store.lease(&format!("commit {}", record.name)).map_err(attempt())?;
        let frozen = match request.pause && engine.seen(&record.id)?.status == Status::Running {
            true => {
                let run_dir = engine.state().run_directory(&record.id);
                runtime::pause(&run_dir).map_err(|error| {
                    crate::error::runtime(format!("pause container {}", record.name), error)
                })?;
                Some(Frozen(run_dir))
            }
            false => None,
        };
        let layer = self.layer_of(&record, &lease, request.squash)?;
        drop(frozen);

        let now = Instant::now().rfc3339();
        let old = base_config.value();
        let mut image = ImageConfig {
            author: Some(request.author.clone()).filter(|author| !author.is_empty()),
            config,
            created: Some(now.clone()),
            ..ImageConfig::new(&old.platform())
        };
        let mut layers = Vec::new();
        if !request.squash {
            image.history.clone_from(&old.history);
            image.rootfs.diff_ids.clone_from(&old.rootfs.diff_ids);
            layers.clone_from(&base.image.record.layers);
        }
        image.rootfs.diff_ids.push(layer.diff_id.clone());
        layers.push(layer.chain_id.clone());
        image.history.push(History {
            created: Some(now),
            created_by: Some(record.argv().join(" ")),
            author: image.author.clone(),
            comment: Some(request.message.clone()).filter(|message| !message.is_empty()),
            ..History::default()
        });
        let raw = Raw::from_value(image).map_err(crate::error::document("write the config"))?;
        store.content().put(&lease, raw.bytes()).map_err(attempt())?;
        let kind = if request.docker_format { media_type::DOCKER_CONFIG } else { media_type::OCI_CONFIG };
        let descriptor = Descriptor::new(kind, raw.digest().clone(), raw.size());
        let mut new = image_record(store, &raw, descriptor, layers, None).map_err(attempt())?;
        new.annotations = Some(BTreeMap::new());
        new.parent = Some(base.id().clone());
        store.images().put(&lease, &new).map_err(attempt())?;
        let id = new.id.hex().to_owned();
        if let Some(reference) = reference {
            engine.name_image(&reference.to_string(), &engine.find_image(&id)?)?;
        }
        engine.tell(Event::container(&record, "commit"));
        Ok(id)
    }

    /// What the container changed, or with `whole` all that it has, as a recorded layer.
    fn layer_of(&self, record: &ContainerRecord, lease: &Lease, whole: bool) -> Result<Layer> {
        let engine = self.engine;
        let store = engine.store()?;
        let attempt = || crate::error::storage(format!("copy the layer of container {}", record.name));
        let failed = |error| {
            Error::os(format!("copy the layer of container {}", record.name), std::io::Error::other(error))
        };
        let parent = match (&record.chain, whole) {
            (Some(chain), false) => {
                let layer = store.layers().hold(lease, chain).map_err(attempt())?;
                Some(layer.ok_or_else(|| Error::NotFound { what: "layer", name: chain.to_string() })?)
            }
            _ => None,
        };
        let stubs = engine.stubs(record)?;
        let skip = |path: &[u8]| stubs.contains(path);
        let key = format!("commit-{}", names::random_id()?);
        let snapshots = store.snapshots();
        let prepare = Prepare::new(&key, parent.as_ref().map(|layer| layer.snapshot.as_str()));
        let mounts = snapshots.prepare(lease, &prepare).map_err(attempt())?;
        let root = open_detached(&mounts).map_err(attempt())?;
        let tree = match whole {
            true => Some(engine.container_view(record)?.tree()?),
            false => None,
        };
        piped(
            |mut sink| {
                match &tree {
                    Some(tree) => {
                        let options = WriteOptions { skip: Some(&skip), ..WriteOptions::default() };
                        write_tree(tree.as_fd(), &options, &mut sink).map(drop).map_err(failed)?;
                    }
                    None => {
                        write_diff_without(store, &record.snapshot, &skip, &mut sink)
                            .map(drop)
                            .map_err(attempt())?;
                    }
                }
                sink.flush().map_err(|error| Error::os("write to a pipe", error))
            },
            |stream| {
                let options = ExtractOptions {
                    whiteouts: if whole { Whiteouts::Ordinary } else { Whiteouts::Apply },
                    ownership: match store.user_namespace() {
                        true => Ownership::StreamIfMapped,
                        false => Ownership::Stream,
                    },
                    skip_devices: store.user_namespace(),
                    ..ExtractOptions::default()
                };
                let mut reader = Reader::new(stream);
                extract_into(root.as_fd(), &mut reader, options).map(drop).map_err(failed)
            },
        )?;
        // a committed snapshot must not be mounted writable
        drop(root);
        let name = format!("commit-{}", names::random_id()?);
        snapshots.commit(lease, &name, &key, None).map_err(attempt())?;
        let diff = diff_id_of(store, &name).map_err(attempt())?;
        let below = parent.map(|layer| layer.chain_id);
        let layer = Layer {
            chain_id: ChainId::next(below.as_ref(), &diff.diff_id),
            diff_id: diff.diff_id,
            parent: below,
            snapshot: name,
            blobs: Vec::new(),
            tar_size: diff.tar_size,
            unpacked_size: diff.content_size,
            created: Instant::now().rfc3339(),
        };
        // the files are on the disk before a record names them
        store.sync().map_err(attempt())?;
        store.layers().put(lease, &layer).map_err(attempt())
    }
}

/// What containers of the new image run: what this one runs.
fn container_config(record: &ContainerRecord, image: &ContainerConfig) -> ContainerConfig {
    let settings = &record.settings;
    let words = |words: &[String]| Some(words.to_vec()).filter(|words| !words.is_empty());
    ContainerConfig {
        user: settings.user.clone().unwrap_or_default(),
        exposed_ports: settings.expose.iter().map(|port| (port.clone(), oci::Empty {})).collect(),
        env: settings.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        entrypoint: words(&record.entrypoint),
        cmd: words(&record.command),
        working_dir: settings.workdir.clone().unwrap_or_default(),
        labels: settings.labels.clone(),
        stop_signal: settings.stop_signal.clone(),
        ..image.clone()
    }
}

/// Reads a config, as an image has it under `config`.
fn read_config(path: &Path) -> Result<ContainerConfig> {
    let shown = path.display();
    let failed = |error| Error::os(format!("read {shown}"), error);
    let mut bytes = Vec::new();
    // one byte more tells that there is more
    std::fs::File::open(path)
        .map_err(failed)?
        .take(MAX_CONFIG + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_CONFIG {
        return Err(Error::invalid(format!("config {shown}"), "it is larger than 1 MiB"));
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        Error::invalid(format!("config {shown}"), format!("expected an image's config as JSON: {error}"))
    })
}

/// Puts what a config says over another: single values and lists take the place of the old ones; ports, volumes, labels and
/// variables join them, and count more where both have a name.
fn put_over(config: &mut ContainerConfig, over: ContainerConfig) {
    fn text(old: &mut String, new: String) {
        if !new.is_empty() {
            *old = new;
        }
    }
    fn value<T>(old: &mut Option<T>, new: Option<T>) {
        if new.is_some() {
            *old = new;
        }
    }
    text(&mut config.user, over.user);
    text(&mut config.working_dir, over.working_dir);
    // an entry point of its own does not go with the old one's arguments
    if over.entrypoint.is_some() && over.cmd.is_none() {
        config.cmd = None;
    }
    value(&mut config.entrypoint, over.entrypoint);
    value(&mut config.cmd, over.cmd);
    value(&mut config.stop_signal, over.stop_signal);
    value(&mut config.stop_timeout, over.stop_timeout);
    value(&mut config.shell, over.shell);
    value(&mut config.healthcheck, over.healthcheck);
    config.exposed_ports.extend(over.exposed_ports);
    config.volumes.extend(over.volumes);
    config.labels.extend(over.labels);
    if !over.on_build.is_empty() {
        config.on_build = over.on_build;
    }
    for variable in over.env {
        let name = variable.split('=').next().unwrap_or_default();
        config.env.retain(|known| known.split('=').next() != Some(name));
        config.env.push(variable);
    }
}
