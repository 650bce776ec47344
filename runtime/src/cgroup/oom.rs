//! Out-of-memory kills: whether they happened, and a descriptor that tells when.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Result, file_error, read_optional, write};

/// What the counters tell of memory that ran out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OomEvent {
    /// Processes of the group killed for lack of memory.
    pub kills: u64,
    /// The group's limit, bytes; `None` without one.
    pub limit_bytes: Option<u64>,
    /// Its highest use, bytes.
    pub peak_bytes: Option<u64>,
}

/// Becomes ready when a group's memory runs out.
///
/// Poll [`OomWatch::as_fd`] for reading or, in the unified tree, for inotify events (reading as well); then call
/// [`OomWatch::drain`] and ask [`super::Manager::oom_event`] whether a kill happened.
#[derive(Debug)]
pub struct OomWatch {
    event: OwnedFd,
    // The kernel drops the registration when this is closed.
    _control: Option<fs::File>,
}

impl OomWatch {
    /// Watches `memory.events` through inotify: the kernel reports each change of the file as a modification.
    pub(super) fn v2(directory: &Path) -> Result<Option<Self>> {
        use rustix::fs::inotify;
        let path = directory.join("memory.events");
        let event = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .map_err(|errno| file_error("watch", &path, errno.into()))?;
        match inotify::add_watch(&event, &path, inotify::WatchFlags::MODIFY) {
            Ok(_) => Ok(Some(Self { event, _control: None })),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(errno) => Err(file_error("watch", &path, errno.into())),
        }
    }

    /// Registers an eventfd for `memory.oom_control`.
    pub(super) fn v1(directory: &Path) -> Result<Option<Self>> {
        use rustix::event::EventfdFlags;
        use std::os::fd::AsRawFd as _;
        let path = directory.join("memory.oom_control");
        let control = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(file_error("open", &path, source)),
        };
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| file_error("watch", &path, errno.into()))?;
        let text = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
        write(&directory.join("cgroup.event_control"), &text)?;
        Ok(Some(Self { event, _control: Some(control) }))
    }

    /// Takes the pending notifications; returns whether there were any. Never blocks.
    #[must_use]
    pub fn drain(&self) -> bool {
        let mut buffer = [0_u8; 1024];
        let mut any = false;
        while rustix::io::read(&self.event, &mut buffer).is_ok_and(|count| count > 0) {
            any = true;
        }
        any
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

fn number(path: PathBuf) -> Result<Option<u64>> {
    Ok(read_optional(&path)?.and_then(|text| text.trim().parse().ok()))
}

fn count(text: Option<String>) -> u64 {
    let text = text.unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

pub(super) fn read_v2(directory: &Path) -> Result<OomEvent> {
    Ok(OomEvent {
        kills: count(read_optional(&directory.join("memory.events"))?),
        limit_bytes: number(directory.join("memory.max"))?,
        peak_bytes: number(directory.join("memory.peak"))?,
    })
}

pub(super) fn read_v1(directory: &Path) -> Result<OomEvent> {
    Ok(OomEvent {
        // The kill counter is in this file since Linux 4.13.
        kills: count(read_optional(&directory.join("memory.oom_control"))?),
        limit_bytes: number(directory.join("memory.limit_in_bytes"))?
            .filter(|limit| *limit < 0x7fff_ffff_ffff_0000),
        peak_bytes: number(directory.join("memory.max_usage_in_bytes"))?,
    })
}
