//! Git repositories, through the host's `git`.
//!
//! Repositories are foreign: hooks, filters and the file system monitor of their configuration are off, only protocols
//! that talk to servers are allowed (none of git's own helpers), nothing asks on a terminal, and the user's git
//! configuration is not read. Credentials go through the environment, where other users cannot see them.

use crate::{Error, Result};
use builder::ports::{Cancel, GitAccess, GitSource};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Most bytes of what git prints that are kept.
const MAX_OUTPUT: u64 = 8 << 20;

/// Runs git as a process group that ends with its standard input: with this process, however that ends, too. Modes of
/// files come from the umask. The one who waits for the end keeps none of git's pipes open.
const SCRIPT: &str = "umask 022; exec 3<&0 </dev/null; { read -r _ <&3; kill -9 0; } >/dev/null 2>&1 & \
                      watcher=$!; exec 3<&-; git \"$@\"; code=$?; \
                      exec 2>/dev/null; kill $watcher; wait $watcher; exit $code";

/// The `git` of the host, as one build uses it.
#[derive(Debug)]
pub(crate) struct Git<'a> {
    /// Environment for it: proxies.
    pub(crate) environment: &'a [(String, String)],
    /// Whether certificates are checked.
    pub(crate) verify: bool,
    /// The hosts that the user knows, where OpenSSH would look elsewhere for them.
    pub(crate) known_hosts: Option<PathBuf>,
}

/// Whom git talks to, and with what.
struct At<'a> {
    remote: &'a str,
    access: &'a GitAccess<'a>,
}

impl Git<'_> {
    /// The commit that a reference stands for: a branch before a tag of the same name, and a tag's commit rather than
    /// the tag itself.
    pub(crate) fn commit(&self, source: &GitSource, access: &GitAccess<'_>) -> Result<String> {
        let name = if source.reference.is_empty() { "HEAD" } else { source.reference.as_str() };
        let peeled = format!("{name}^{{}}");
        let at = At { remote: &source.remote, access };
        let text = self.run(&at, None, ["ls-remote", "-q", "--", &source.remote, name, &peeled])?;
        let candidates = [
            name.to_owned(),
            format!("refs/heads/{name}"),
            format!("refs/tags/{name}^{{}}"),
            format!("refs/tags/{name}"),
            format!("refs/{name}^{{}}"),
            format!("refs/{name}"),
            peeled,
        ];
        let found = |wanted: &str| {
            text.lines().filter_map(|line| line.split_once('\t')).find(|(_, name)| *name == wanted)
        };
        // A full name of a tag is peeled too.
        let full = name.starts_with("refs/tags/").then(|| format!("{name}^{{}}"));
        let commit =
            full.iter().chain(&candidates).find_map(|wanted| found(wanted)).map(|(commit, _)| commit);
        match commit.filter(|commit| is_commit(commit)) {
            Some(commit) => Ok(commit.to_owned()),
            None => Err(Error::NotFound {
                what: "branch, tag or reference",
                name: format!("{name} of {}", shown(&source.remote)),
            }),
        }
    }

    /// Checks a commit out into an empty directory; gives its time in seconds since 1970.
    pub(crate) fn checkout(
        &self,
        source: &GitSource,
        access: &GitAccess<'_>,
        commit: &str,
        into: &Path,
    ) -> Result<i64> {
        if !is_commit(commit) {
            return Err(Error::invalid(format!("commit {commit}"), "it is no digest of a commit"));
        }
        let format = if commit.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
        let at = At { remote: &source.remote, access };
        self.run(&at, Some(into), ["init", "-q", "--template=", format, "."])?;
        self.run(&at, Some(into), ["remote", "add", "--", "origin", &source.remote])?;
        let fetch = |arguments: &[&str]| {
            let all = ["fetch", "-q", "--no-recurse-submodules", "--no-tags"];
            self.run(&at, Some(into), all.iter().chain(arguments))
        };
        // Not every server gives a commit that is asked for by itself: then the reference, then everything.
        let mut fetched = fetch(&["--depth=1", "origin", commit]);
        if fetched.is_err() && !access.cancel.is_cancelled() {
            fetched = fetch(&["origin", "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]);
        }
        fetched?;
        self.run(&at, Some(into), ["checkout", "-q", "--detach", "--force", commit])?;
        if source.submodules && into.join(".gitmodules").is_file() {
            let update = ["submodule", "-q", "update", "--init", "--recursive", "--depth=1", "--force"];
            self.run(&at, Some(into), update)?;
        }
        let shown =
            self.run(&at, Some(into), ["show", "-s", "--no-show-signature", "--format=%ct", commit])?;
        let time = shown.trim().parse().map_err(|_| {
            Error::invalid(format!("commit {commit}"), format!("its time is {:?}", shown.trim()))
        })?;
        if !source.keep_git_dir {
            remove_git(into)?;
        }
        if source.commit_times == Some(true) {
            set_times(into, time)?;
        }
        Ok(time)
    }

    /// Runs git to its end; gives its output.
    fn run<I, S>(&self, at: &At<'_>, directory: Option<&Path>, arguments: I) -> Result<String>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        const SETTINGS: [(&str, &str); 13] = [
            ("core.hooksPath", "/dev/null"),
            ("core.fsmonitor", "false"),
            ("core.untrackedCache", "false"),
            ("core.askPass", ""),
            ("credential.helper", ""),
            ("protocol.allow", "never"),
            ("protocol.http.allow", "always"),
            ("protocol.https.allow", "always"),
            ("protocol.git.allow", "always"),
            ("protocol.ssh.allow", "always"),
            ("gc.auto", "0"),
            ("advice.detachedHead", "false"),
            ("init.defaultBranch", "main"),
        ];
        let At { remote, access } = *at;
        let arguments: Vec<S> = arguments.into_iter().collect();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "git"]);
        for (key, value) in SETTINGS {
            command.arg("-c").arg(format!("{key}={value}"));
        }
        command.args(&arguments).env_clear().envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", "/nonexistent").env("LC_ALL", "C");
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        command
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_LFS_SKIP_SMUDGE", "1");
        // A host that is not known yet is learnt; one whose key changed is refused.
        command.env("GIT_SSH_COMMAND", ssh_command(self.known_hosts.as_deref()));
        if let Some(agent) = access.agent {
            command.env("SSH_AUTH_SOCK", agent);
        }
        let mut secret = Vec::new();
        if let Some(header) = access.header.map(str::to_owned).or_else(|| access.token.map(token_header)) {
            // For this server alone: submodules may lie elsewhere.
            if let Some(origin) = origin_of(remote) {
                secret.push((format!("http.{origin}/.extraHeader"), format!("Authorization: {header}")));
            }
        }
        if !self.verify {
            secret.push(("http.sslVerify".to_owned(), "false".to_owned()));
        }
        command.env("GIT_CONFIG_COUNT", secret.len().to_string());
        for (number, (key, value)) in secret.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{number}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        if let Some(directory) = directory {
            command.current_dir(directory);
            // A directory above is never taken for the repository.
            command.env("GIT_CEILING_DIRECTORIES", directory.parent().unwrap_or(directory));
        }
        let what = arguments.first().map(|word| word.as_ref().to_string_lossy().into_owned());
        finish(command, &format!("git {}", what.unwrap_or_default()), access.cancel)
    }
}

/// The ssh that git starts.
fn ssh_command(known_hosts: Option<&Path>) -> String {
    let mut command = "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new".to_owned();
    // One quoting for the shell, one for ssh; a path that means something in either is left to ssh's own choice.
    let plain = |path: &&str| !path.contains(['\'', '"', '\\', '%', '$', '\n']);
    if let Some(path) = known_hosts.and_then(Path::to_str).filter(plain) {
        command += &format!(" -o 'UserKnownHostsFile=\"{path}\"'");
    }
    command
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Scheme and host of an http address.
fn origin_of(remote: &str) -> Option<String> {
    let (scheme, rest) =
        remote.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))?;
    let host = rest.split('/').next()?;
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    Some(format!("{scheme}://{host}"))
}

fn token_header(token: &str) -> String {
    registry::Credentials::basic_header("x-access-token", &registry::Secret::new(token))
}

/// An address without a password.
fn shown(remote: &str) -> String {
    match remote.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?))) {
        Some((scheme, (login, rest))) if !login.contains('/') => format!("{scheme}://{rest}"),
        _ => remote.to_owned(),
    }
}

/// Waits for a process; kills it when the build is given up.
fn finish(mut command: Command, what: &str, cancel: &Cancel) -> Result<String> {
    use rustix::event::{PollFd, PollFlags, poll};
    let failed = |error| Error::os(what.to_owned(), error);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(failed)?;
    let mut lifeline = child.stdin.take();
    let read = |stream: Option<Box<dyn Read + Send>>| {
        let mut bytes = Vec::new();
        if let Some(stream) = stream {
            let mut stream = stream.take(MAX_OUTPUT);
            let _ = stream.read_to_end(&mut bytes);
            // Nobody shall wait for a full pipe.
            let _ = std::io::copy(&mut stream.into_inner(), &mut std::io::sink());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let stdout = child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>);
    let stderr = child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>);
    let (status, output, errors) = std::thread::scope(|scope| {
        let output = scope.spawn(move || read(stdout));
        let errors = scope.spawn(move || read(stderr));
        let status = loop {
            match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => break Ok(status),
                Err(error) => break Err(error),
            }
            let mut fds = [PollFd::new(cancel, PollFlags::IN)];
            let wait = Duration::from_millis(10);
            let wait = rustix::event::Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(0),
                tv_nsec: i64::from(wait.subsec_nanos()),
            };
            let _ = poll(&mut fds, Some(&wait));
            if cancel.is_cancelled() {
                // Not the shell alone: what git started would keep its pipes open, and with them this build.
                lifeline = None;
            }
        };
        drop(lifeline);
        (status, output.join().unwrap_or_default(), errors.join().unwrap_or_default())
    });
    let status = status.map_err(failed)?;
    if status.success() {
        return Ok(output);
    }
    if status.code() == Some(127) {
        return Err(Error::unsupported(what, "the program `git` is not installed on this host"));
    }
    let lines: Vec<&str> = errors.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(4)..].join("; ");
    Err(Error::invalid(what.to_owned(), if last.is_empty() { status.to_string() } else { last }))
}

/// Gives everything below a directory, and the directory, one time.
pub(super) fn set_times(directory: &Path, seconds: i64) -> Result<()> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    let failed =
        |path: &Path, error: std::io::Error| Error::os(format!("set the times of {}", path.display()), error);
    // Nobody else writes there: a path stays what it was when it was listed.
    let mut open = vec![directory.to_owned()];
    while let Some(here) = open.pop() {
        for entry in std::fs::read_dir(&here).map_err(|error| failed(&here, error))? {
            let entry = entry.map_err(|error| failed(&here, error))?;
            let path = entry.path();
            if entry.file_type().map_err(|error| failed(&path, error))?.is_dir() {
                open.push(path);
            } else {
                utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|error| failed(&path, error.into()))?;
            }
        }
        utimensat(CWD, &here, &times, AtFlags::empty()).map_err(|error| failed(&here, error.into()))?;
    }
    Ok(())
}

/// Removes what git keeps for itself, of submodules too.
fn remove_git(directory: &Path) -> Result<()> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error: std::io::Error| Error::os(format!("remove {}", path.display()), error)
    };
    let mut open: Vec<PathBuf> = vec![directory.to_owned()];
    let modules = directory.join(".git").join("modules").is_dir();
    while let Some(here) = open.pop() {
        let git = here.join(".git");
        match std::fs::symlink_metadata(&git) {
            Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(&git).map_err(failed(&git))?,
            Ok(_) => std::fs::remove_file(&git).map_err(failed(&git))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&git)(error)),
        }
        if !modules {
            break;
        }
        for entry in std::fs::read_dir(&here).map_err(failed(&here))?.flatten() {
            // Links are not followed: they are the repository's.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
        }
    }
    Ok(())
}
