//! `volume export` and `volume import`.

use super::backing::{self, Backing};
use super::{Volumes, missing};
use crate::{Error, Result};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use storage::compress::decoder;
use storage::tar::{ExtractOptions, Reader, WriteOptions, extract_into, write_tree};

impl Volumes<'_> {
    /// Writes the content of a volume as a tar archive.
    pub fn export(&self, name: &str, output: &mut dyn Write) -> Result<()> {
        let name = self.files().find(name)?.name;
        let (tree, _lock) = self.content(&name, false)?;
        let failed = |error| Error::os(format!("export volume {name}"), std::io::Error::other(error));
        let options = WriteOptions::default();
        let (output, _) = write_tree(tree.as_fd(), &options, output).map_err(failed)?;
        output.flush().map_err(|error| Error::os("write the archive", error))?;
        self.engine.tell_volume(&name, "export");
        Ok(())
    }

    /// Unpacks a tar archive, plain or compressed, into a volume. No entry leads out of it.
    pub fn import(&self, name: &str, input: impl Read + Send + 'static) -> Result<()> {
        let name = self.files().find(name)?.name;
        let (tree, _lock) = self.content(&name, true)?;
        let failed = |error| Error::os(format!("import to volume {name}"), std::io::Error::other(error));
        let (_, plain) =
            decoder(BufReader::new(input)).map_err(|error| Error::os("read the archive", error))?;
        let mut reader = Reader::new(BufReader::new(plain));
        extract_into(tree.as_fd(), &mut reader, ExtractOptions::default()).map_err(failed)?;
        // what padding is left must not break the writer's pipe
        drain(reader.into_inner()).map_err(|error| Error::os("read the archive", error))?;
        self.engine.tell_volume(&name, "import");
        Ok(())
    }

    /// The content of a volume, open for reading. What fills it excludes others that do.
    fn content(&self, name: &str, fills: bool) -> Result<(OwnedFd, super::VolumeLock)> {
        let files = self.files();
        let lock = files.lock(name, fills)?.ok_or_else(|| missing(name))?;
        let path = self.content_path(name)?;
        let tree = sys::fs::open_dir(&path)
            .map_err(|error| Error::os(format!("open {}", path.display()), error.source))?;
        Ok((tree, lock))
    }

    /// Where the content of a volume lies that need not be mounted, or is.
    pub(crate) fn content_path(&self, name: &str) -> Result<PathBuf> {
        let files = self.files();
        let record = files.read(name)?.ok_or_else(|| missing(name))?;
        Ok(match backing::of(&record)? {
            Backing::Directory => files.data(name),
            Backing::Bind(path) => path,
            Backing::Mounted { .. } if super::record::is_mounted(&files.data(name)) => files.data(name),
            Backing::Mounted { .. } => {
                return Err(Error::State {
                    attempt: "read or fill",
                    what: "volume",
                    name: name.to_owned(),
                    state: format!("not mounted; `davit volume mount {name}` does that"),
                });
            }
        })
    }
}

fn drain(mut rest: impl BufRead) -> std::io::Result<()> {
    std::io::copy(&mut rest, &mut std::io::sink()).map(drop)
}
