//! `create`: a record, a name and a writable snapshot.

use super::settings::{argv, merge};
use super::{Containers, CreateRequest, Created};
use crate::images::{PullPolicy, PullRequest, TransferProgress};
use crate::sandbox::{View, ensure_directory, user_in};
use crate::state::{ContainerLock, ContainerRecord, RECORD_VERSION, Remains, files, names};
use crate::time::Instant;
use crate::{Engine, Error, Result};
use std::path::Path;
use storage::Prepare;

impl Containers<'_> {
    /// Makes a container without starting it.
    pub fn create(&self, request: &CreateRequest, progress: TransferProgress<'_>) -> Result<Created> {
        let (record, _lock, warnings) = self.make(request, false, progress)?;
        Ok(Created { id: record.id, name: record.name, warnings })
    }

    /// Makes a container; its lock is still held. `starts`: the caller starts it before it gives the lock up.
    pub(super) fn make(
        &self,
        request: &CreateRequest,
        starts: bool,
        progress: TransferProgress<'_>,
    ) -> Result<(ContainerRecord, ContainerLock, Vec<String>)> {
        if let Some(name) = &request.name {
            names::check(name)?;
        }
        let engine = self.engine;
        let mut warnings = Vec::new();
        if let Some(directory) = &request.rootfs {
            return self.make_of_directory(request, &directory.path.display().to_string(), starts);
        }
        let found = match request.pull {
            PullPolicy::Never | PullPolicy::Missing if request.platform.is_none() => {
                engine.find_image_optional(&request.image)?
            }
            _ => None,
        };
        let found = match found {
            Some(found) => found,
            None => {
                let pull = PullRequest {
                    reference: request.image.clone(),
                    policy: request.pull,
                    platform: request.platform.clone(),
                    registry: request.registry.clone(),
                };
                let report = engine.images().pull(&pull, progress)?;
                warnings.extend(report.warnings);
                let mut found = engine.find_image(&report.id)?;
                found.name = report.name.or(found.name);
                found
            }
        };
        let config = engine.image_config(&found.image)?;
        let base = Base {
            config: config.value().config.clone(),
            shown: found.shown(),
            id: found.id().hex().to_owned(),
            digest: found
                .image
                .record
                .manifest
                .as_ref()
                .map(|manifest| manifest.digest.to_string())
                .unwrap_or_default(),
            chain: found.image.record.layers.last().cloned(),
        };
        self.make_on(&base, request, starts, warnings)
    }

    /// A container whose root file system is a directory.
    fn make_of_directory(
        &self,
        request: &CreateRequest,
        name: &str,
        starts: bool,
    ) -> Result<(ContainerRecord, ContainerLock, Vec<String>)> {
        let base = Base { shown: name.to_owned(), ..Base::default() };
        self.make_on(&base, request, starts, Vec::new())
    }

    fn make_on(
        &self,
        base: &Base,
        request: &CreateRequest,
        starts: bool,
        warnings: Vec<String>,
    ) -> Result<(ContainerRecord, ContainerLock, Vec<String>)> {
        let engine = self.engine;
        let image = &base.config;
        if request.replace
            && let Some(name) = &request.name
            && let Ok(old) = engine.state().find(name)
        {
            self.remove_one(&old, true, None)?;
        }
        let id = names::random_id()?;
        let argv = argv(request, image)?;
        let own_workdir = request.workdir.is_some();
        let mut settings = merge(self.with_volumes(request)?, image, &id)?;
        self.settle(&mut settings, image, &argv)?;
        let images = self.mounted_images(&mut settings)?;
        engine.seccomp_profile(&settings.security)?;
        if let Some(parent) = &settings.cgroup_parent {
            engine.cgroup_path(Some(parent), &id)?;
        }
        if settings.cgroups == crate::options::CgroupsMode::Split {
            engine.split_cgroup_path(&id)?;
        }
        let store = engine.store()?;
        let failed = |what: &'static str| crate::error::storage(format!("{what} of a new container"));
        engine.state().reap(engine)?;
        crate::sandbox::reap_steps(&engine.config().run_steps())?;
        let lease = store
            .lease(&format!("create container from {}", request.image))
            .map_err(failed("make the lease"))?;

        let lock = engine.state().begin(&id)?;
        let name = self.claim(&settings, &id)?;
        let made = || -> Result<ContainerRecord> {
            let mut settings = settings.clone();
            let chain = base.chain.clone();
            let parent = match &chain {
                Some(chain) => {
                    let layer = store.layers().hold(&lease, chain).map_err(failed("hold the layers"))?;
                    Some(
                        layer
                            .ok_or_else(|| Error::NotFound { what: "layer", name: chain.to_string() })?
                            .snapshot,
                    )
                }
                None => None,
            };
            let snapshot = snapshot_key(&id);
            let holder = engine.state().directory(&id).join("config.json");
            let prepare =
                Prepare { key: &snapshot, parent: parent.as_deref(), holder: Some(&holder), volatile: true };
            let mounts =
                store.snapshots().prepare(&lease, &prepare).map_err(failed("make the file system"))?;
            if !own_workdir && let Some(workdir) = &settings.workdir {
                let view = View::of_mounts(&mounts)?;
                if !view.is_directory(Path::new(workdir)) {
                    let user = user_in(&view, settings.user.as_deref().unwrap_or_default(), &[]);
                    let owner = user.map_or((0, 0), |user| (user.uid, user.gid));
                    ensure_directory(view, &mounts, Path::new(workdir), owner)?;
                }
            }
            // held until the record says which IDs are taken
            let _map_lock = self.map_ids(&mut settings, &mounts)?;
            for (number, parent) in &images {
                let key = crate::volumes::image_snapshot_key(&id, *number);
                if let Some(chain) = parent {
                    store.layers().hold(&lease, chain).map_err(failed("hold the layers of a mount"))?;
                }
                let parent = match parent {
                    Some(chain) => {
                        let layer =
                            store.layers().get(chain).map_err(failed("find the layers of a mount"))?;
                        layer.map(|layer| layer.snapshot)
                    }
                    None => None,
                };
                let prepare =
                    Prepare { key: &key, parent: parent.as_deref(), holder: Some(&holder), volatile: true };
                store.snapshots().prepare(&lease, &prepare).map_err(failed("make an image mount"))?;
            }
            // held until the record says who uses them
            let _volumes = self.engine.volumes().for_container(&mut settings, &id)?;
            let record = ContainerRecord {
                version: RECORD_VERSION,
                id: id.clone(),
                name: name.clone(),
                created_nanos: Instant::now().0,
                image_name: base.shown.clone(),
                image_id: base.id.clone(),
                image_digest: base.digest.clone(),
                chain,
                runtime: engine.config().runtime.clone(),
                snapshot,
                settings: CreateRequest { name: Some(name.clone()), ..settings.clone() },
                entrypoint: argv.entrypoint.clone(),
                command: argv.command.clone(),
            };
            if let Some(cidfile) = &settings.cidfile {
                write_new(cidfile, &record.id)?;
            }
            if starts && settings.auto_remove {
                engine.state().mark_starting(&record.id)?;
                engine.state().write_passing(&record)?;
            } else {
                engine.state().write(&record)?;
            }
            Ok(record)
        };
        match made() {
            Ok(record) => {
                engine.tell_container(&record, "create");
                Ok((record, lock, warnings))
            }
            Err(error) => {
                // what is left is a directory without a record, which any later command would clear away too
                drop(lease);
                let _ = engine.state().release_name(&name, &id);
                drop(lock);
                let _ = engine.state().reap(engine);
                let _ = engine.volumes().reap_if_any();
                Err(error)
            }
        }
    }

    fn claim(&self, settings: &CreateRequest, id: &str) -> Result<String> {
        let state = self.engine.state();
        if let Some(name) = &settings.name {
            match state.claim_name(name, id) {
                Err(Error::NameTaken { id: holder, .. }) if self.reclaim_by_id(&holder)? => {
                    state.claim_name(name, id)?;
                }
                other => other?,
            }
            return Ok(name.clone());
        }
        for attempt in 0..20 {
            let name = names::random_name(attempt)?;
            match state.claim_name(&name, id) {
                Ok(()) => return Ok(name),
                Err(Error::NameTaken { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        state.claim_name(&id[..12], id)?;
        Ok(id[..12].to_owned())
    }
}

/// What a container is made on.
#[derive(Debug, Default)]
struct Base {
    config: oci::ContainerConfig,
    shown: String,
    id: String,
    digest: String,
    chain: Option<oci::ChainId>,
}

/// The key of a container's writable snapshot, which follows from its ID.
pub(crate) fn snapshot_key(id: &str) -> String {
    format!("container-{id}")
}

fn write_new(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    let failed = |error| Error::os(format!("write {}", path.display()), error);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

impl Remains for Engine {
    fn remove(&self, id: &str) -> Result<()> {
        let run_dir = self.state().run_directory(id);
        // a monitor that was killed leaves a control group behind, and maybe processes in it
        if run_dir.is_dir() {
            let _ = runtime::kill_all(&run_dir);
            crate::sandbox::release(&run_dir)?;
        }
        self.unmount(id, true)?;
        self.store()?
            .snapshots()
            .remove(&snapshot_key(id))
            .map_err(crate::error::storage(format!("remove the file system of container {id}")))?;
        files::remove_tree(&run_dir)
    }
}
