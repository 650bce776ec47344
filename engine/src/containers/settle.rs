//! What the settings of a new container need to know of the machine and of other containers.

use super::settings::Argv;
use super::{Containers, CreateRequest};
use crate::idmap::{Surroundings, maps, needed};
use crate::options::{Namespace, Network, Seccomp, UserNamespaceMode};
use crate::sandbox::{View, accounts, shift_owners};
use crate::{Error, ErrorKind, Result};
use oci::ContainerConfig;
use sys::mount::Mount;

/// Stops a container whose first process is systemd.
const SYSTEMD_STOP: &str = "SIGRTMIN+3";
/// Label of an image that holds its filter of system calls.
const SECCOMP_LABEL: &str = "io.containers.seccomp.profile";

impl Containers<'_> {
    /// Names of other containers become IDs, and what follows from the image and the command is filled in.
    pub(super) fn settle(
        &self,
        settings: &mut CreateRequest,
        image: &ContainerConfig,
        argv: &Argv,
    ) -> Result<()> {
        let id_of = |name: &str| self.engine.state().find(name).map(|record| record.id);
        let mut partners = Vec::new();
        let mut fix = |name: &mut String| -> Result<()> {
            *name = id_of(name)?;
            partners.push(name.clone());
            Ok(())
        };
        for namespace in [&mut settings.pid, &mut settings.ipc, &mut settings.uts, &mut settings.cgroupns] {
            if let Namespace::Container(name) = namespace {
                fix(name)?;
            }
        }
        if let Network::Container(name) = &mut settings.network {
            fix(name)?;
        }
        if let UserNamespaceMode::Container(name) = &mut settings.userns {
            fix(name)?;
        }
        let required = settings.requires.iter().map(|name| id_of(name)).collect::<Result<Vec<_>>>()?;
        settings.requires = required;
        // a container whose namespaces are joined is started first too
        for id in partners {
            if !settings.requires.contains(&id) {
                settings.requires.push(id);
            }
        }
        // told now, and not by a container that does not start
        self.described(&settings.cdi_devices)?;
        let words: Vec<String> = argv.entrypoint.iter().chain(&argv.command).cloned().collect();
        if settings.systemd.applies(&words) && settings.stop_signal.is_none() {
            settings.stop_signal = Some(SYSTEMD_STOP.to_owned());
        }
        if settings.seccomp_of_image
            && settings.security.seccomp == Seccomp::Default
            && let Some(profile) = image.labels.get(SECCOMP_LABEL)
        {
            settings.security.seccomp = Seccomp::Text(profile.clone());
        }
        if let UserNamespaceMode::KeepId { .. } = settings.userns {
            let identity = self.engine.config().identity;
            if identity.rootless {
                settings.host_users.push(identity.uid.to_string());
            }
        }
        if settings.init && settings.init_path.is_none() && self.engine.config().runtime.is_some() {
            return Err(Error::unsupported(
                "init",
                "davit's own init needs davit's own runtime; with --runtime give --init-path",
            ));
        }
        Ok(())
    }

    /// Chooses the IDs of the container's user namespace, and sees to it that its files belong to them. Gives a lock
    /// that keeps others from choosing the same.
    pub(super) fn map_ids(
        &self,
        settings: &mut CreateRequest,
        mounts: &[Mount],
    ) -> Result<Option<sys::lock::FileLock>> {
        if settings.userns == UserNamespaceMode::Host {
            return Ok(None);
        }
        let engine = self.engine;
        let config = engine.config();
        if config.runtime.is_some() {
            return Err(Error::unsupported(
                "user namespace",
                "another runtime looks for the root file system as root of that namespace, which cannot reach it; use davit's own",
            ));
        }
        let path = config.containers().join(".idmap.lock");
        let lock = sys::lock::exclusive(&path)
            .map_err(|error| Error::os(format!("lock {}", path.display()), error.source))?;
        if let UserNamespaceMode::Container(id) = &settings.userns {
            // the same IDs, so that files belong to them in the same way
            let partner = engine.state().find(id)?;
            settings.maps = partner.settings.maps;
        } else {
            let mut taken = Vec::new();
            for other in engine.state().list()? {
                if let (UserNamespaceMode::Auto(_), Some(maps)) =
                    (&other.settings.userns, &other.settings.maps)
                {
                    let ranges = maps.users.iter().chain(&maps.groups);
                    taken.extend(ranges.map(|range| (range.outside, range.count)));
                }
            }
            let (passwd, group) = accounts(&View::of_mounts(mounts)?)?;
            let here = Surroundings::look(config.identity, taken, needed([&passwd, &group]));
            settings.maps = maps(&settings.userns, &here)?;
        }
        let Some(maps) = &settings.maps else { return Ok(Some(lock)) };
        if let UserNamespaceMode::KeepId { .. } = settings.userns
            && settings.user.as_deref().is_none_or(str::is_empty)
        {
            let inside = |ranges: &[sys::idmap::Range]| {
                ranges.iter().find(|range| range.outside == 0).map_or(0, |range| range.inside)
            };
            settings.user = Some(format!("{}:{}", inside(&maps.users), inside(&maps.groups)));
        }
        if settings.rootfs.is_none() && !runtime::maps_owners() {
            shift_owners(mounts, maps)?;
            settings.owners_shifted = true;
        }
        if let Some(rootfs) = &settings.rootfs
            && (rootfs.overlay || rootfs.id_mapped)
            && !runtime::maps_owners()
        {
            return Err(Error::Part {
                attempt: "map the owners of the root file system".to_owned(),
                kind: ErrorKind::Unsupported,
                source: "that takes root and Linux 6.15".into(),
            });
        }
        Ok(Some(lock))
    }
}
