//! A store, a context directory, an executor and a resolver for tests.

use builder::build::{
    AssertCached, BuildRequest, Built, CacheOptions, Context, Error, NamedContext, RewriteTimes, build,
};
use builder::ports::{
    Cancel, Event, Executor, GitAccess, GitSource, HttpAnswer, HttpMemory, HttpRequest, NetworkMode,
    PortError, Progress, ResolvedImage, Resolver, StepExit, StepIo, StepMountSource, StepSpec,
};
use oci::{Digest, ImageConfig, Platform};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use storage::{Driver, Store, StoreOptions};
use tempfile::TempDir;

/// Ends a test that needs root where there is none; under CI that is a failure.
macro_rules! require_root {
    () => {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "CI must run this test as root");
            println!("skipped: needs root");
            return;
        }
    };
}
pub(crate) use require_root;

pub(crate) struct Lab {
    directory: TempDir,
    pub(crate) store: Store,
    pub(crate) executor: Chroot,
    pub(crate) images: Images,
    pub(crate) events: Events,
}

/// What a test changes of a request.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) args: Vec<(&'static str, &'static str)>,
    pub(crate) target: Option<&'static str>,
    pub(crate) no_cache: bool,
    pub(crate) now: bool,
    pub(crate) ignore: Option<&'static str>,
    pub(crate) labels: Vec<(&'static str, &'static str)>,
    pub(crate) annotations: Vec<(&'static str, &'static str)>,
    pub(crate) secrets: Vec<(&'static str, &'static str)>,
    pub(crate) proxy: Vec<(&'static str, &'static str)>,
    pub(crate) named: Vec<(&'static str, NamedContext)>,
    pub(crate) assert_cached: Option<AssertCached>,
    pub(crate) env: Vec<(&'static str, &'static str)>,
    pub(crate) ssh: Vec<(&'static str, PathBuf)>,
    pub(crate) allow: Vec<&'static str>,
    pub(crate) rewrite_times: RewriteTimes,
    pub(crate) timestamp: Option<i64>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with_driver(Driver::Auto)
    }

    pub(crate) fn with_driver(driver: Driver) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("store");
        let store = Store::open(StoreOptions { root, driver, user_namespace: false }).unwrap();
        std::fs::create_dir(directory.path().join("context")).unwrap();
        let scratch = directory.path().join("mounts");
        std::fs::create_dir(&scratch).unwrap();
        Self {
            store,
            executor: Chroot { scratch, ran: AtomicUsize::new(0) },
            images: Images::default(),
            events: Events::default(),
            directory,
        }
    }

    pub(crate) fn context(&self) -> PathBuf {
        self.directory.path().join("context")
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.context().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn try_build(&self, text: &str, options: &Options) -> Result<Built, Error> {
        let lease = self.store.lease("test").unwrap();
        let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        self.events.0.lock().unwrap().clear();
        build(&BuildRequest {
            store: &self.store,
            lease: &lease,
            context: Context::Directory(self.context()),
            named_contexts: options
                .named
                .iter()
                .map(|(name, context)| ((*name).to_owned(), context.clone()))
                .collect(),
            named_ignores: BTreeMap::new(),
            containerfile_name: "Containerfile".into(),
            containerfile: text.into(),
            ignore: options.ignore.map(|text| (".dockerignore".into(), text.into())),
            target: options.target.map(str::to_owned),
            from: None,
            all_stages: false,
            build_args: owned(&options.args).into_iter().collect(),
            proxy: owned(&options.proxy),
            secrets: options
                .secrets
                .iter()
                .map(|(id, value)| ((*id).to_owned(), value.as_bytes().to_vec()))
                .collect(),
            ssh: options.ssh.iter().map(|(id, path)| ((*id).to_owned(), path.clone())).collect(),
            allow: options.allow.iter().map(|name| (*name).to_owned()).collect(),
            no_cache: options.no_cache,
            no_cache_filter: Vec::new(),
            jobs: None,
            platform: Platform::host(),
            image: builder::build::ImageOptions {
                labels: owned(&options.labels),
                annotations: owned(&options.annotations).into_iter().collect(),
                env: owned(&options.env),
                ..Default::default()
            },
            network: NetworkMode::Default,
            step_settings: String::new(),
            context_time: None,
            timestamp: (!options.now).then_some(options.timestamp.unwrap_or(1_000_000_000)),
            rewrite_times: options.rewrite_times,
            executor: &self.executor,
            resolver: &self.images,
            progress: &self.events,
            cancel: Cancel::new().unwrap(),
            cache: CacheOptions {
                line: "test".into(),
                assert_cached: options.assert_cached.clone(),
                ..CacheOptions::default()
            },
        })
    }

    pub(crate) fn build_with(&self, text: &str, options: &Options) -> Built {
        match self.try_build(text, options) {
            Ok(built) => built,
            Err(error) => {
                let mut chain = vec![error.to_string()];
                let mut next = std::error::Error::source(&error);
                while let Some(error) = next {
                    chain.push(error.to_string());
                    next = error.source();
                }
                panic!("{}\n{}", chain.join(": "), self.events.output());
            }
        }
    }

    pub(crate) fn build(&self, text: &str) -> Built {
        self.build_with(text, &Options::default())
    }

    /// Runs a script on an image's files, with the image at `$R`, and returns what it prints.
    pub(crate) fn look(&self, built: &Built, script: &str) -> String {
        let lease = self.store.lease("look").unwrap();
        let top = built.layers.last().expect("an image with layers");
        let layer = self.store.layers().hold(&lease, &top.chain_id).unwrap().unwrap();
        let at = tempfile::tempdir_in(&self.executor.scratch).unwrap();
        sys::mount::mount_all(&self.store.snapshots().view(&layer.snapshot).unwrap(), at.path()).unwrap();
        let output = Command::new("sh").arg("-c").arg(script).env("R", at.path()).output().unwrap();
        sys::mount::umount_detach(at.path()).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Makes `busybox` an image with a shell.
    pub(crate) fn add_busybox(&self) {
        std::fs::copy(busybox(), self.context().join("busybox")).unwrap();
        let built = self.build(
            "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"/bin\"]\n\
             COPY <<passwd <<group /etc/\nroot:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\npasswd\n\
             root:x:0:\napp:x:1001:\nweb:x:33:\ngroup\nCMD [\"sh\"]\n",
        );
        std::fs::remove_file(self.context().join("busybox")).unwrap();
        self.add_image("busybox", &built);
    }

    pub(crate) fn add_image(&self, name: &str, built: &Built) {
        let config: ImageConfig = serde_json::from_slice(&built.config).unwrap();
        let image = ResolvedImage {
            name: name.into(),
            digest: built.image_id.clone(),
            config,
            chain: built.layers.iter().map(|layer| layer.chain_id.clone()).collect(),
        };
        self.images.known.lock().unwrap().insert(name.into(), image);
    }
}

pub(crate) fn config(built: &Built) -> ImageConfig {
    serde_json::from_slice(&built.config).unwrap()
}

fn busybox() -> &'static Path {
    let path = Path::new("/bin/busybox");
    assert!(path.exists(), "install busybox-static");
    path
}

/// Runs steps by mounting their root file system somewhere and `chroot`.
pub(crate) struct Chroot {
    scratch: PathBuf,
    pub(crate) ran: AtomicUsize,
}

impl Executor for Chroot {
    fn run(&self, spec: StepSpec, io: StepIo<'_>) -> Result<StepExit, PortError> {
        self.ran.fetch_add(1, Ordering::SeqCst);
        let at = tempfile::tempdir_in(&self.scratch)?;
        let root = at.path();
        sys::mount::mount_all(&spec.rootfs, root)?;
        let mut held = Vec::new();
        let mut targets = Vec::new();
        for mount in &spec.mounts {
            let target = root.join(mount.target.trim_start_matches('/'));
            let source = match &mount.source {
                StepMountSource::Path(path) => path.clone(),
                StepMountSource::Bytes { content, .. } => {
                    // Open for writing nowhere, or the step cannot execute it.
                    let file = tempfile::NamedTempFile::new_in(&self.scratch)?.into_temp_path();
                    std::fs::write(&file, content)?;
                    let path = file.to_path_buf();
                    Command::new("chmod").arg("755").arg(&path).status()?;
                    held.push((None, Some(file)));
                    path
                }
                StepMountSource::Snapshot { mounts, subpath } => {
                    let directory = tempfile::tempdir_in(&self.scratch)?;
                    sys::mount::mount_all(mounts, directory.path())?;
                    let path = directory.path().join(subpath);
                    held.push((Some(directory), None));
                    path
                }
                StepMountSource::Tmpfs { .. } => {
                    std::fs::create_dir_all(&target)?;
                    sys::mount::mount_all(&[sys::mount::Mount::tmpfs(0o755, None)], &target)?;
                    targets.push(target);
                    continue;
                }
            };
            if source.is_dir() {
                std::fs::create_dir_all(&target)?;
            } else {
                std::fs::create_dir_all(target.parent().unwrap())?;
                std::fs::OpenOptions::new().append(true).create(true).open(&target)?;
            }
            let mut bind = sys::mount::Mount::bind(&source);
            if mount.read_only {
                bind = bind.with(sys::mount::Attributes::READ_ONLY);
            }
            sys::mount::attach(sys::mount::detached(&bind)?, rustix::fs::CWD, &target)?;
            targets.push(target);
        }
        // As a runtime does: mount points that are not there are made.
        std::fs::create_dir_all(root.join("proc"))?;
        std::fs::create_dir_all(root.join("etc"))?;
        std::fs::OpenOptions::new().append(true).create(true).open(root.join("etc/resolv.conf"))?;

        let mut command = Command::new("chroot");
        if !spec.user.is_empty() {
            command.arg(format!("--userspec={}", spec.user));
        }
        command.arg(root).args(["/bin/busybox", "env", "-i"]).args(&spec.env);
        command
            .args(["/bin/busybox", "sh", "-c", "cd \"$0\" && exec \"$@\""])
            .arg(&spec.cwd)
            .args(&spec.argv);
        let mut child = command.stdin(Stdio::null()).stdout(io.stdout).stderr(io.stderr).spawn()?;
        drop(command);
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if io.cancel.is_cancelled() {
                child.kill()?;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        };
        for target in targets.iter().rev() {
            sys::mount::umount_detach(target)?;
        }
        for (directory, _) in &held {
            if let Some(directory) = directory {
                sys::mount::umount_detach(directory.path())?;
            }
        }
        sys::mount::umount_detach(root)?;
        let signal = status.signal();
        let code = status.code().unwrap_or_else(|| 128 + signal.unwrap_or(0));
        Ok(StepExit { code, signal, oom_killed: false, ..StepExit::default() })
    }
}

/// Images by name.
#[derive(Default)]
pub(crate) struct Images {
    pub(crate) known: Mutex<BTreeMap<String, ResolvedImage>>,
    /// Downloads and checkouts that were asked for.
    pub(crate) asked: Mutex<Vec<(String, Option<HttpMemory>)>>,
}

impl Resolver for Images {
    fn image(&self, reference: &str, _platform: &Platform) -> Result<ResolvedImage, PortError> {
        self.known.lock().unwrap().get(reference).cloned().ok_or_else(|| "no such image".into())
    }

    fn http(&self, request: &HttpRequest<'_>) -> Result<HttpAnswer, PortError> {
        self.asked.lock().unwrap().push((request.url.to_owned(), request.known.cloned()));
        let memory = HttpMemory { etag: Some("e".into()), last_modified: Some(1_234_567_890) };
        if request.known == Some(&memory) {
            return Ok(HttpAnswer::Unchanged);
        }
        let mut body = tempfile::tempfile()?;
        match request.url.strip_prefix("http://x/tar/") {
            Some(text) => {
                let mut tar = tar::Builder::new(&mut body);
                let mut header = tar::Header::new_ustar();
                header.set_size(text.len() as u64);
                header.set_mode(0o640);
                header.set_mtime(5);
                tar.append_data(&mut header, "in/side", text.as_bytes())?;
                tar.finish()?;
            }
            None => std::io::Write::write_all(&mut body, request.url.as_bytes())?,
        }
        Ok(HttpAnswer::File { body, memory })
    }

    fn git_commit(&self, source: &GitSource, _access: &GitAccess<'_>) -> Result<String, PortError> {
        Ok(Digest::of(source.reference.as_bytes()).hex()[..40].to_owned())
    }

    fn git_checkout(
        &self,
        source: &GitSource,
        _access: &GitAccess<'_>,
        commit: &str,
        into: &Path,
    ) -> Result<i64, PortError> {
        self.asked.lock().unwrap().push((source.remote.clone(), None));
        std::fs::create_dir_all(into.join("sub"))?;
        std::fs::write(into.join("commit"), commit)?;
        std::fs::write(into.join("sub/file"), "in the directory")?;
        Ok(5)
    }
}

/// Remembers what happened.
#[derive(Default)]
pub(crate) struct Events(pub(crate) Mutex<Vec<String>>);

impl Events {
    pub(crate) fn output(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

impl Progress for Events {
    fn event(&self, event: Event<'_>) {
        let text = match event {
            Event::Plan(vertices) => {
                vertices.iter().map(|vertex| vertex.name.clone()).collect::<Vec<_>>().join("\n")
            }
            Event::Log { text, .. } => format!("out {}", String::from_utf8_lossy(text).trim_end()),
            Event::Missed(vertex, causes) => {
                let causes: Vec<String> = causes.iter().map(ToString::to_string).collect();
                format!("missed {vertex}: {}", causes.join("; "))
            }
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(text);
    }
}
