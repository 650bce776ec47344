//! The engine: containers, images, builds and state. What the user means, without wording, output or exit codes.
//!
//! One concrete [`Engine`] serves the command line and later the REST service, with plain request and report
//! structs. Everything is synchronous. Any process may be killed at any instant: the truth lies on disk, and the
//! next command works from it.
#![forbid(unsafe_code)]

pub mod artifacts;
pub mod build;
pub mod cdi;
mod check;
mod config;
pub mod containers;
pub mod entry;
mod error;
pub mod events;
mod filters;
mod groups;
mod idmap;
pub mod images;
pub mod login;
mod mounting;
pub mod oci_runtime;
pub mod options;
mod sandbox;
pub mod share;
pub mod spec;
mod state;
pub mod system;
mod time;
pub mod usage;
pub mod volumes;

pub use check::{CheckReport, CheckRequest};
pub use error::{Error, ErrorKind, Result};
pub use idmap::IdMaps;
pub use mounting::Shown;
pub use system::version;

use config::Config;
use registry::Registries;
use registry::trust::Policy;
use runtime::Spawner;
use state::State;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use storage::{Driver, Store, StoreOptions};

/// The global options.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// `--root`; `None` = /var/lib/davit, or the user's data directory.
    pub root: Option<PathBuf>,
    /// `--runroot`; `None` = /run/davit, or the user's runtime directory.
    pub runroot: Option<PathBuf>,
    /// `--storage-driver`: `overlay` or `vfs`; `None` = what works here.
    pub storage_driver: Option<String>,
    /// `--cgroup-manager`: `systemd`, `cgroupfs` or `none`; `None` = what works here.
    pub cgroup_manager: Option<String>,
    /// `--runtime`: `davit` or `None` = the built-in one; others are refused by name for now.
    pub runtime: Option<String>,
    /// `--events-backend`: `file` or `none`; `None` = `file`.
    pub events_backend: Option<String>,
    /// `--tmpdir`.
    pub tmpdir: Option<PathBuf>,
    /// `--cdi-spec-dir`: where devices are described, lowest precedence first; empty = /etc/cdi and /var/run/cdi.
    pub cdi_dirs: Vec<PathBuf>,
    /// `--log-level`, handed on to the commands that monitors run.
    pub log_level: Option<String>,
}

/// One store, one state directory, one run directory.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    state: State,
    spawner: Option<Spawner>,
    store: OnceLock<Store>,
    host: OnceLock<spec::Host>,
    groups: OnceLock<groups::Groups>,
    registries: OnceLock<Arc<Registries>>,
}

impl Engine {
    /// Opens store and state; nothing is scanned, and nothing is made before it is needed.
    pub fn open(options: EngineOptions, entered: entry::Entered) -> Result<Self> {
        let config = Config::new(options, entered.identity)?;
        driver(&config)?;
        let state = State::new(&config);
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                state,
                spawner: entered.spawner,
                store: OnceLock::new(),
                host: OnceLock::new(),
                groups: OnceLock::new(),
                registries: OnceLock::new(),
            }),
        })
    }

    /// The images.
    pub fn images(&self) -> images::Images<'_> {
        images::Images { engine: self }
    }

    /// The containers.
    pub fn containers(&self) -> containers::Containers<'_> {
        containers::Containers { engine: self }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(crate) fn state(&self) -> &State {
        &self.inner.state
    }

    /// The store, opened on first use: `ps` and `logs` need none.
    pub(crate) fn store(&self) -> Result<&Store> {
        if let Some(store) = self.inner.store.get() {
            return Ok(store);
        }
        let config = self.config();
        let options = StoreOptions {
            root: config.root.clone(),
            driver: driver(config)?,
            user_namespace: sys::idmap::in_user_namespace(),
        };
        let store = Store::open(options)
            .map_err(error::storage(format!("open the store {}", config.root.display())))?;
        Ok(self.inner.store.get_or_init(|| store))
    }

    pub(crate) fn spawner(&self) -> Result<&Spawner> {
        self.inner.spawner.as_ref().ok_or_else(|| Error::Unsupported {
            what: "starting processes".to_owned(),
            reason: "the program entered the engine without saying that it would (entry::Needs::Launch)"
                .to_owned(),
        })
    }

    /// What this machine offers to containers.
    pub(crate) fn host(&self) -> Result<&spec::Host> {
        if let Some(host) = self.inner.host.get() {
            return Ok(host);
        }
        let host = spec::Host::look(&self.groups()?.layout)?;
        Ok(self.inner.host.get_or_init(|| host))
    }

    /// Who makes control groups.
    pub(crate) fn groups(&self) -> Result<&groups::Groups> {
        if let Some(groups) = self.inner.groups.get() {
            return Ok(groups);
        }
        let groups = groups::Groups::look(self.config())?;
        Ok(self.inner.groups.get_or_init(|| groups))
    }

    /// `registries.conf`.
    pub(crate) fn registries(&self) -> Result<&Arc<Registries>> {
        if let Some(registries) = self.inner.registries.get() {
            return Ok(registries);
        }
        let registries = Registries::load(&self.config().registries_paths())
            .map_err(error::registry("read the configuration of registries"))?;
        Ok(self.inner.registries.get_or_init(|| Arc::new(registries)))
    }

    /// What images may be used, by a chosen file or by the one that counts here. Where there is none, all may: a fresh
    /// machine has no policy. It is read anew each time: a service must not go on with an old one.
    pub(crate) fn policy(&self, chosen: Option<&Path>) -> Result<Arc<Policy>> {
        let failed = || error::registry("read the policy for images");
        if let Some(path) = chosen {
            return Policy::load(path).map(Arc::new).map_err(failed());
        }
        for path in self.config().policy_files() {
            if let Some(policy) = Policy::load_optional(&path).map_err(failed())? {
                return Ok(Arc::new(policy));
            }
        }
        Ok(Arc::new(Policy::accept_anything()))
    }
}

fn driver(config: &Config) -> Result<Driver> {
    match config.driver.as_deref() {
        None | Some("auto") => Ok(Driver::Auto),
        Some("overlay" | "overlay2") => Ok(Driver::Overlay),
        Some("vfs") => Ok(Driver::Vfs),
        Some(other) => Err(Error::unsupported(format!("storage driver {other}"), "use overlay or vfs")),
    }
}
