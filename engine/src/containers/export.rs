//! `export`: a container's file system as a tar archive.

use super::Containers;
use crate::{Error, Result};
use std::io::Write;
use std::os::fd::AsFd;
use storage::tar::{WriteOptions, write_tree};

impl Containers<'_> {
    /// Writes the files of a container, without what is mounted into it, as a tar archive.
    pub fn export(&self, name: &str, output: &mut dyn Write) -> Result<()> {
        let record = self.engine.state().find(name)?;
        record.check_owners("export")?;
        let tree = self.engine.container_view(&record)?.tree()?;
        let options = WriteOptions::default();
        let failed =
            |error| Error::os(format!("export container {}", record.name), std::io::Error::other(error));
        let (output, _) = write_tree(tree.as_fd(), &options, output).map_err(failed)?;
        output.flush().map_err(|error| Error::os("write the archive", error))?;
        self.engine.tell_container(&record, "export");
        Ok(())
    }
}
