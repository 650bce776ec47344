//! Finds and reads the Containerfile of a build, and its ignore file.

use super::context::{CONTAINERFILE_LIMIT, Opened};
use super::requests::{BuildRequest, ContainerfileSource};
use crate::{Error, Result};
use builder::context::find_ignore_file;
use rustix::fs::{FileType, OFlags};
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names of a Containerfile that nobody names, best first.
const NAMES: [&str; 2] = ["Containerfile", "Dockerfile"];

/// The Containerfile that a request means.
pub(super) struct Containerfile {
    pub(super) name: String,
    pub(super) text: String,
    /// Where it lies on the host; `None` = nowhere, or inside of a context that is not the user's own.
    path: Option<PathBuf>,
}

impl Containerfile {
    pub(super) fn find(request: &BuildRequest, opened: &Opened) -> Result<Self> {
        if let Some((name, text)) = &opened.containerfile {
            return Ok(Self { name: name.clone(), text: text.clone(), path: None });
        }
        let read_in = |path: PathBuf, patience| -> Result<Self> {
            let text = read_text(&path, patience)?;
            Ok(Self { name: path.display().to_string(), text, path: Some(path) })
        };
        let read = |path| read_in(path, PATIENCE);
        let context = opened.directory.as_deref();
        match &request.containerfile {
            ContainerfileSource::Text { name, text } => {
                Ok(Self { name: name.clone(), text: text.clone(), path: None })
            }
            ContainerfileSource::Path(path) => {
                if path.is_file() || path.is_absolute() {
                    return read(path.clone());
                }
                match context {
                    Some(context) if opened.foreign => {
                        let name = path.display().to_string();
                        match read_inside(context, path)? {
                            Some(text) => Ok(Self { name, text, path: None }),
                            None => Err(Error::NotFound { what: "file in the build context", name }),
                        }
                    }
                    Some(context) if context.join(path).is_file() => read(context.join(path)),
                    _ => read(path.clone()),
                }
            }
            ContainerfileSource::Lookup => {
                let Some(context) = context else {
                    return Err(Error::invalid(
                        "build",
                        "there is no context to look for a Containerfile in",
                    ));
                };
                for name in NAMES {
                    let path = context.join(name);
                    // What is no file is refused, not passed over: another one may have been meant.
                    if !opened.foreign && path.symlink_metadata().is_ok() {
                        return read_in(path, Duration::ZERO);
                    }
                    if opened.foreign
                        && let Some(text) = read_inside(context, Path::new(name))?
                    {
                        return Ok(Self { name: name.to_owned(), text, path: None });
                    }
                }
                Err(Error::NotFound {
                    what: "Containerfile or Dockerfile in",
                    name: match opened.foreign {
                        true => "the build context".to_owned(),
                        false => context.display().to_string(),
                    },
                })
            }
        }
    }

    /// Name and text of the ignore file that belongs to it.
    pub(super) fn ignore_file(
        &self,
        request: &BuildRequest,
        opened: &Opened,
    ) -> Result<Option<(String, String)>> {
        if let Some(path) = &request.ignore_file {
            return Ok(Some((path.display().to_string(), read_text(path, PATIENCE)?)));
        }
        let Some(context) = &opened.directory else { return Ok(None) };
        if opened.foreign {
            let beside = ["dockerignore", "containerignore"].map(|suffix| format!("{}.{suffix}", self.name));
            let inside = [".containerignore", ".dockerignore"].map(str::to_owned);
            for name in beside.into_iter().chain(inside) {
                if let Some(text) = read_inside(context, Path::new(&name))? {
                    return Ok(Some((name, text)));
                }
            }
            return Ok(None);
        }
        match find_ignore_file(context, self.path.as_deref()) {
            Some(path) => Ok(Some((path.display().to_string(), read_text(&path, Duration::ZERO)?))),
            None => Ok(None),
        }
    }
}

/// How long a FIFO that the user names may have no writer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Reads a regular file, a FIFO, or what a shell passes as `/dev/fd/N`. Anything else could keep the build waiting for
/// ever, and so could a FIFO to which nothing is written: that is waited for as long as `patience` says.
pub(super) fn read_text(path: &Path, patience: Duration) -> Result<String> {
    let failed = |error| Error::os(format!("read {}", path.display()), error);
    let refused = |reason: &str| Error::invalid(path.display().to_string(), reason.to_owned());
    let passed = ["/dev/fd", "/dev/stdin", "/proc/self/fd"].iter().any(|start| path.starts_with(start));
    let kind = path.metadata().map_err(failed)?.file_type();
    if kind.is_dir() {
        return Err(refused("it is a directory"));
    }
    if !kind.is_file() && !kind.is_fifo() && !passed {
        return Err(refused("it is no regular file"));
    }
    let bytes = sys::named_file::read(path, CONTAINERFILE_LIMIT, patience).map_err(|error| {
        match error.kind() == std::io::ErrorKind::FileTooLarge {
            true => refused(&format!("it is larger than {} MiB", CONTAINERFILE_LIMIT >> 20)),
            false => failed(error),
        }
    })?;
    String::from_utf8(bytes).map_err(|_| refused("it is not UTF-8 text"))
}

/// Reads a file of a tree that somebody else made: no link leads out of it.
fn read_inside(root: &Path, path: &Path) -> Result<Option<String>> {
    let failed = |error| Error::os(format!("read {} in the build context", path.display()), error);
    let root = sys::beneath::open_root(root).map_err(failed)?;
    // a pipe in the place of a file must not make the build wait
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match sys::beneath::open_in_root(&root, path, flags, 0) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let stat = rustix::fs::fstat(&file).map_err(|error| failed(error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(CONTAINERFILE_LIMIT + 1).read_to_end(&mut bytes).map_err(failed)?;
    let what = || path.display().to_string();
    if bytes.len() as u64 > CONTAINERFILE_LIMIT {
        return Err(Error::invalid(what(), format!("it is longer than {CONTAINERFILE_LIMIT} bytes")));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| Error::invalid(what(), "it is not UTF-8 text"))
}
