//! Contexts behind an address: git repositories, and what a web server gives.

use super::context::{Stream, scratch, scratch_name, unpack};
use super::resolver::ImageResolver;
use crate::{Error, ErrorKind, Result};
use builder::context::{parse_git_address, without_password};
use builder::ports::{Cancel, GitAccess, HttpAnswer, HttpRequest, PortError, Resolver, SshAgents};
use rustix::fs::OFlags;
use std::collections::BTreeMap;
use std::io::Seek;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use storage::Lease;

/// Build argument that keeps the `.git` of a context, as with BuildKit.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// Brings what lies behind addresses into the build's lease.
pub(super) struct Fetcher<'a> {
    pub(super) resolver: ImageResolver<'a>,
    pub(super) lease: &'a Lease,
    pub(super) agents: &'a SshAgents,
    pub(super) cancel: &'a Cancel,
}

/// What lay there.
pub(super) enum Fetched {
    /// A directory that somebody else made.
    Directory(Place),
    /// A Containerfile: name, text, and what the server says is the time of its last change.
    Text(String, String, Option<i64>),
}

/// A directory that was made of what lay behind an address.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    pub(super) directory: PathBuf,
    /// Its time in seconds since 1970: the commit's, or that of an archive's newest entry.
    pub(super) time: Option<i64>,
    /// Whether all files have that time.
    pub(super) dated: bool,
    /// A checkout whose files have the times of this build, because its address does not say otherwise.
    pub(super) fresh: Option<PathBuf>,
}

/// Whether a context is an address and not a path.
pub fn is_address(text: &str) -> bool {
    text.contains("://") || text.starts_with("git@") || text.starts_with("github.com/")
}

/// The address of a repository, where a context is one.
fn repository(address: &str) -> Option<String> {
    if address.starts_with("github.com/") {
        return Some(format!("https://{address}"));
    }
    if ["git://", "ssh://", "git@"].iter().any(|start| address.starts_with(start)) {
        return Some(address.to_owned());
    }
    let path = address.split(['#', '?']).next().unwrap_or_default();
    (is_web(address) && path.ends_with(".git")).then(|| address.to_owned())
}

fn is_web(address: &str) -> bool {
    address.starts_with("http://") || address.starts_with("https://")
}

impl Fetcher<'_> {
    /// Fetches a context.
    pub(super) fn fetch(&self, address: &str) -> Result<Fetched> {
        if let Some(address) = repository(address) {
            return self.check_out(&address).map(Fetched::Directory);
        }
        if !is_web(address) {
            return Err(Error::unsupported(
                format!("build context {}", without_password(address)),
                "an address begins with http://, https://, git://, ssh:// or git@",
            ));
        }
        self.download(address)
    }

    fn download(&self, url: &str) -> Result<Fetched> {
        let what = format!("the build context {}", without_password(url));
        let request = HttpRequest { url, known: None, authorization: None, cancel: self.cancel };
        let answer = self.resolver.http(&request).map_err(failed(format!("download {what}")))?;
        let HttpAnswer::File { mut body, memory } = answer else {
            return Err(Error::invalid(what, "the server said that nothing changed, and was not asked"));
        };
        body.rewind().map_err(|error| Error::os(format!("read {what}"), error))?;
        let directory = scratch(self.lease, &scratch_name("http", url))?;
        let path = url.split(['#', '?']).next().unwrap_or_default();
        let name = path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("Containerfile");
        Ok(match unpack(body, &what, &directory)? {
            Stream::Unpacked(newest) => {
                let time = newest.or(memory.last_modified);
                Fetched::Directory(Place { directory, time, ..Place::default() })
            }
            Stream::Text(text) => Fetched::Text(name.to_owned(), text, memory.last_modified),
        })
    }

    fn check_out(&self, address: &str) -> Result<Place> {
        let what = format!("build context {}", without_password(address));
        let mut op = parse_git_address(address).map_err(|reason| Error::invalid(what.clone(), reason))?;
        let keep = self.resolver.request.build_args.iter().find(|(name, _)| name == KEEP_GIT_DIR);
        op.source.keep_git_dir |= keep.is_some_and(|(_, value)| matches!(value.as_str(), "1" | "true"));
        let secrets = &self.resolver.request.secrets.0;
        let host = host_of(&op.source.remote);
        let (header, token) =
            (secret(secrets, "GIT_AUTH_HEADER", host), secret(secrets, "GIT_AUTH_TOKEN", host));
        let access = GitAccess {
            header: header.as_deref(),
            token: token.as_deref(),
            agent: self.agents.get("default").map(PathBuf::as_path),
            cancel: self.cancel,
        };
        let commit =
            self.resolver.git_commit(&op.source, &access).map_err(failed(format!("fetch the {what}")))?;
        if let Some(expected) = &op.checksum
            && !commit.starts_with(expected.as_str())
        {
            return Err(Error::invalid(what, format!("it is at commit {commit}, not {expected}")));
        }
        let directory = scratch(self.lease, &scratch_name("git", address))?;
        let time = self
            .resolver
            .git_checkout(&op.source, &access, &commit, &directory)
            .map_err(failed(format!("fetch the {what}")))?;
        let fresh = op.source.commit_times.is_none().then(|| directory.clone());
        let directory = match op.source.subdir.as_str() {
            "" => directory,
            subdir => inside(&directory, subdir)
                .map_err(|error| Error::os(format!("find {subdir} in the {what}"), error))?,
        };
        Ok(Place { directory, time: Some(time), dated: op.source.commit_times == Some(true), fresh })
    }
}

/// A directory of a checkout; its links lead nowhere outside of it.
fn inside(root: &Path, subdir: &str) -> std::io::Result<PathBuf> {
    let root = sys::beneath::open_root(root)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let found = sys::beneath::open_in_root(&root, Path::new(subdir), flags, 0)?;
    std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

fn secret(secrets: &BTreeMap<String, Vec<u8>>, name: &str, host: &str) -> Option<String> {
    let value = secrets.get(&format!("{name}.{host}")).or_else(|| secrets.get(name))?;
    Some(String::from_utf8_lossy(value).trim().to_owned())
}

fn host_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    host.rsplit_once('@').map_or(host, |(_, host)| host)
}

fn failed(attempt: String) -> impl FnOnce(PortError) -> Error {
    move |source| {
        let kind = source.downcast_ref::<Error>().map_or(ErrorKind::Internal, Error::kind);
        Error::Part { attempt, kind, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_addresses_are_repositories() {
        for (text, expected) in [
            ("https://h/o/r.git", Some("https://h/o/r.git")),
            ("https://h/o/r.git#main:dir", Some("https://h/o/r.git#main:dir")),
            ("http://h/r.git?ref=x", Some("http://h/r.git?ref=x")),
            ("github.com/o/r", Some("https://github.com/o/r")),
            ("git@h:o/r", Some("git@h:o/r")),
            ("https://h/context.tar.gz", None),
            ("https://h/Containerfile?x=.git", None),
        ] {
            assert!(is_address(text));
            assert_eq!(repository(text).as_deref(), expected, "{text}");
        }
        assert!(!is_address("./directory") && !is_address("https"));
        assert_eq!(host_of("https://a:b@h:1/r.git"), "h:1");
    }
}
