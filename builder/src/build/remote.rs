//! What ADD takes from the network: files and commits, fetched when somebody needs their bytes.
//!
//! A file that was downloaded before is asked for with its `ETag` and `Last-Modified`; "not modified" is enough to know
//! the key of the step, and the bytes are fetched only where the step has to run all the same. One small record a URL:
//! ```text
//! build/downloads/DIGEST_OF_URL.json
//! {"version":1,"url":"..","etag":"..","last_modified":1700000000,"digest":"sha256:.."}
//! ```
//! A record is replaced as a whole and never synced: losing it costs one download. Of a commit nothing is remembered:
//! its name is its content.

use crate::graph::{GitOp, HttpOp};
use crate::ops::tree::Tree;
use crate::ops::{self, beneath, io_error};
use crate::ports::{
    Cancel, GitAccess, GitSource, HttpAnswer, HttpMemory, HttpRequest, PortError, Resolver, Secrets,
    SshAgents,
};
use oci::{Digest, Digester};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use storage::{Lease, Store};

/// What remote sources need of a build.
pub(super) struct Remote<'a> {
    pub(super) store: &'a Store,
    pub(super) lease: &'a Lease,
    pub(super) resolver: &'a dyn Resolver,
    pub(super) secrets: &'a Secrets,
    pub(super) ssh: &'a SshAgents,
    pub(super) cancel: &'a Cancel,
}

/// A downloaded file, or what is known of one that did not change.
#[derive(Debug)]
pub(super) struct Download {
    url: String,
    pub(super) digest: Digest,
    pub(super) modified: Option<i64>,
    file: Mutex<Option<Arc<File>>>,
}

/// A commit, and its files once somebody asked for them.
#[derive(Debug)]
pub(super) struct Commit {
    op: GitOp,
    pub(super) commit: String,
    tree: OnceLock<Tree>,
    fetching: Mutex<()>,
}

impl Commit {
    /// Digest of what a copy takes of it.
    pub(super) fn digest(&self) -> Digest {
        let GitSource { subdir, keep_git_dir, submodules, commit_times, .. } = &self.op.source;
        let times = if *commit_times == Some(true) { "\0commit" } else { "" };
        Digest::of(format!("{}\0{subdir}\0{keep_git_dir}\0{submodules}{times}", self.commit).as_bytes())
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    url: String,
    #[serde(flatten)]
    memory: HttpMemory,
    digest: Digest,
}

const VERSION: u32 = 1;
/// Most bytes of a record.
const MAX_RECORD: u64 = 64 << 10;

impl Remote<'_> {
    /// Finds out what a file is; its bytes come along where they are new.
    pub(super) fn download(&self, op: &HttpOp) -> Result<Download, ops::Error> {
        let path = self.record_path(&op.url);
        let record = read_record(&path, &op.url);
        // A file that must have a digest, and had it the last time, is not asked for again.
        let pinned = |record: &&Record| op.checksum.as_ref().is_some_and(|digest| *digest == record.digest);
        if let Some(record) = record.as_ref().filter(pinned) {
            return Ok(unchanged(&op.url, record));
        }
        let conditional = |record: &&Record| {
            op.checksum.is_none() && (record.memory.etag.is_some() || record.memory.last_modified.is_some())
        };
        let known = record.as_ref().filter(conditional);
        match self.fetch(&op.url, known.map(|record| &record.memory))? {
            HttpAnswer::Unchanged => match known {
                Some(record) => Ok(unchanged(&op.url, record)),
                None => {
                    Err(failed(&op.url)("the server says that nothing changed, and was not asked".into()))
                }
            },
            HttpAnswer::File { body, memory } => {
                let digest = digest_of(&body, op.checksum.as_ref(), &op.url)?;
                if let Some(expected) = op.checksum.as_ref().filter(|expected| **expected != digest) {
                    return Err(ops::Error::Checksum {
                        url: op.url.clone(),
                        expected: expected.clone(),
                        actual: digest,
                    });
                }
                let modified = memory.last_modified;
                let record = Record { version: VERSION, url: op.url.clone(), memory, digest: digest.clone() };
                write_record(&path, &record);
                let file = Mutex::new(Some(Arc::new(body)));
                Ok(Download { url: op.url.clone(), digest, modified, file })
            }
        }
    }

    /// The bytes of a download.
    pub(super) fn file(&self, download: &Download) -> Result<Arc<File>, ops::Error> {
        let mut file = download.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*file {
            return Ok(file.clone());
        }
        let HttpAnswer::File { body, .. } = self.fetch(&download.url, None)? else {
            return Err(failed(&download.url)("the server gives no file".into()));
        };
        let actual = digest_of(&body, Some(&download.digest), &download.url)?;
        if actual != download.digest {
            return Err(ops::Error::Checksum {
                url: download.url.clone(),
                expected: download.digest.clone(),
                actual,
            });
        }
        let body = Arc::new(body);
        *file = Some(body.clone());
        Ok(body)
    }

    fn fetch(&self, url: &str, known: Option<&HttpMemory>) -> Result<HttpAnswer, ops::Error> {
        let host = host_of(url);
        let header = self.secret(&[format!("HTTP_AUTH_HEADER_{host}")]);
        let token = self.secret(&[format!("HTTP_AUTH_TOKEN_{host}")]);
        let authorization = header.or_else(|| token.map(|token| format!("Bearer {token}")));
        let request =
            HttpRequest { url, known, authorization: authorization.as_deref(), cancel: self.cancel };
        self.resolver.http(&request).map_err(failed(url))
    }

    fn secret(&self, names: &[String]) -> Option<String> {
        let found = names.iter().find_map(|name| self.secrets.get(name))?;
        Some(String::from_utf8_lossy(found).trim_end_matches(['\n', '\r']).to_owned())
    }

    fn record_path(&self, url: &str) -> PathBuf {
        let name = format!("{}.json", Digest::of(url.as_bytes()).hex());
        self.store.root().join("build").join("downloads").join(name)
    }

    /// Finds out which commit a reference is.
    pub(super) fn commit(&self, op: &GitOp) -> Result<Commit, ops::Error> {
        let is_commit =
            |text: &str| matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let commit = if is_commit(&op.source.reference) {
            op.source.reference.clone()
        } else {
            self.git(&op.source, |access| self.resolver.git_commit(&op.source, access))?
        };
        if let Some(expected) = op.checksum.as_ref().filter(|expected| !commit.starts_with(*expected)) {
            return Err(ops::Error::Commit {
                remote: op.source.remote.clone(),
                expected: expected.clone(),
                actual: commit,
            });
        }
        Ok(Commit { op: op.clone(), commit, tree: OnceLock::new(), fetching: Mutex::new(()) })
    }

    /// The files of a commit.
    pub(super) fn tree(&self, commit: &Commit) -> Result<Tree, ops::Error> {
        let _one = commit.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tree) = commit.tree.get() {
            return Ok(tree.clone());
        }
        let source = &commit.op.source;
        let name = format!("git-{}", &commit.digest().hex()[..16]);
        let into = self.lease.directory()?.join(name);
        // What is there was begun by a step that failed.
        sys::fs::remove_tree(&into).map_err(storage::Error::from)?;
        sys::fs::create_dir_all(&into, 0o755).map_err(storage::Error::from)?;
        self.git(source, |access| self.resolver.git_checkout(source, access, &commit.commit, &into))?;
        let root = sys::fs::open_dir(&into).map_err(storage::Error::from)?;
        let all = Tree::new(root, None);
        let tree = if source.subdir.is_empty() {
            all
        } else {
            let path = beneath::clean(Path::new(&source.subdir));
            let found = all.resolve(&path, &source.subdir)?.filter(beneath::Canonical::is_directory);
            let found = found.ok_or_else(|| ops::Error::NotFound { path: source.subdir.clone() })?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let root = beneath::open_beneath(all.root(), &found.path, flags)
                .map_err(io_error("open", source.subdir.as_str()))?;
            Tree::new(root, None)
        };
        Ok(commit.tree.get_or_init(|| tree).clone())
    }

    fn git<T>(
        &self,
        source: &GitSource,
        ask: impl FnOnce(&GitAccess<'_>) -> Result<T, PortError>,
    ) -> Result<T, ops::Error> {
        let host = host_of(&source.remote);
        let header = self.secret(&[format!("GIT_AUTH_HEADER.{host}"), "GIT_AUTH_HEADER".to_owned()]);
        let token = self.secret(&[format!("GIT_AUTH_TOKEN.{host}"), "GIT_AUTH_TOKEN".to_owned()]);
        let access = GitAccess {
            header: header.as_deref(),
            token: token.as_deref(),
            agent: self.ssh.get("default").map(PathBuf::as_path),
            cancel: self.cancel,
        };
        ask(&access).map_err(|source_error| {
            if self.cancel.is_cancelled() {
                return crate::solver::Broken::Cancelled.into();
            }
            ops::Error::Port { action: "fetch the repository".to_owned(), source: source_error }
        })
    }
}

fn unchanged(url: &str, record: &Record) -> Download {
    Download {
        url: url.to_owned(),
        digest: record.digest.clone(),
        modified: record.memory.last_modified,
        file: Mutex::new(None),
    }
}

fn failed(url: &str) -> impl Fn(PortError) -> ops::Error {
    let action = format!("download {url}");
    move |source| ops::Error::Port { action: action.clone(), source }
}

/// Host, with its port where one is written.
fn host_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    host.rsplit_once('@').map_or(host, |(_, host)| host)
}

fn digest_of(file: &File, like: Option<&Digest>, url: &str) -> Result<Digest, ops::Error> {
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
    let mut reader = sys::fs::open(Path::new(&path)).map_err(storage::Error::from)?;
    let mut digester = like.map_or_else(Digester::new, Digester::for_digest);
    std::io::copy(&mut reader, &mut digester).map_err(io_error("read", url))?;
    Ok(digester.finish())
}

fn read_record(path: &Path, url: &str) -> Option<Record> {
    let bytes = sys::fs::read_limited(path, MAX_RECORD).ok()?;
    let record: Record = serde_json::from_slice(&bytes).ok()?;
    (record.version == VERSION && record.url == url).then_some(record)
}

fn write_record(path: &Path, record: &Record) {
    // Losing it costs one download.
    if let (Some(directory), Ok(bytes)) = (path.parent(), serde_json::to_vec(record)) {
        let _ = sys::fs::create_dir_all(directory, 0o700);
        let _ = sys::fs::write_atomic(path, &bytes, 0o600, sys::fs::Sync::None);
    }
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn hosts() {
        assert_eq!(host_of("https://user:pw@h.example:8443/x?y#z"), "h.example:8443");
        assert_eq!(host_of("http://h?x"), "h");
    }
}
