//! `--rootfs`: a directory in the place of an image.

use crate::{Error, Result};
use std::path::Path;
use sys::mount::{Filesystem, Mount};

/// The directory with a container's own layer over it, so that it stays as it is.
pub(super) fn over(directory: &Path, own: &[Mount]) -> Result<Vec<Mount>> {
    let [Mount { filesystem: Filesystem::Bind { source, .. }, .. }] = own else {
        return Err(Error::unsupported(
            "rootfs with :O",
            "the storage driver has no layer that lies over it",
        ));
    };
    let failed = |error: sys::fs::Error| Error::os("make the layer over the root file system", error.source);
    let work = source.with_file_name("rootfs-work");
    sys::fs::create_dir_all(&work, 0o700).map_err(failed)?;
    // as the store does for its own: what the kernel notes beyond a layer's files has no place there
    let mount = Mount::overlay(vec![directory.to_owned()], source.clone(), work);
    let mount = mount.with_option("index", "off").with_option("metacopy", "off");
    Ok(vec![if sys::idmap::in_user_namespace() { mount.with_flag("userxattr") } else { mount }])
}
