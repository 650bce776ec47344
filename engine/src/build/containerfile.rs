//! Finds and reads the Containerfile of a build.

use super::{BuildRequest, ContainerfileSource};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// The Containerfile that a request means.
pub(super) struct Containerfile {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) path: Option<PathBuf>,
}

impl Containerfile {
    pub(super) fn find(request: &BuildRequest) -> Result<Self> {
        let read = |path: PathBuf| -> Result<Self> {
            Ok(Self { name: path.display().to_string(), text: read_text(&path)?, path: Some(path) })
        };
        match &request.containerfile {
            ContainerfileSource::Text { name, text } => {
                Ok(Self { name: name.clone(), text: text.clone(), path: None })
            }
            ContainerfileSource::Path(path) => {
                if path.is_file() || path.is_absolute() {
                    return read(path.clone());
                }
                match &request.context {
                    Some(context) if context.join(path).is_file() => read(context.join(path)),
                    _ => read(path.clone()),
                }
            }
            ContainerfileSource::Lookup => {
                let Some(context) = &request.context else {
                    return Err(Error::invalid(
                        "build",
                        "there is no context to look for a Containerfile in",
                    ));
                };
                for name in ["Containerfile", "Dockerfile"] {
                    let path = context.join(name);
                    if path.is_file() {
                        return read(path);
                    }
                }
                Err(Error::NotFound {
                    what: "Containerfile or Dockerfile in",
                    name: context.display().to_string(),
                })
            }
        }
    }
}

pub(super) fn read_text(path: &Path) -> Result<String> {
    let bytes = crate::state::files::read(path)?.ok_or_else(|| {
        Error::os(format!("read {}", path.display()), std::io::Error::from(std::io::ErrorKind::NotFound))
    })?;
    String::from_utf8(bytes).map_err(|_| Error::invalid(path.display().to_string(), "it is not UTF-8 text"))
}
