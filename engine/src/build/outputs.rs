//! `--output`: what is made of a built image besides its record in the store.

use crate::images::ArchiveFormat;
use crate::{Engine, Error, Result};
use rustix::fd::AsFd;
use std::io::{BufWriter, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use storage::snapshot::open_tree;
use storage::tar::{ExtractOptions, Ownership, Reader, TreeWriter, WriteOptions, extract_into};

/// One output of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The files of the image, below a directory.
    Local {
        /// The directory, made when missing.
        dest: PathBuf,
    },
    /// The files of the image, as one tar.
    Tar {
        /// Where to.
        dest: Target,
    },
    /// The image as an archive.
    Archive {
        /// Its format.
        format: ArchiveFormat,
        /// Where to.
        dest: Target,
        /// Its name in the archive; `None` = the names of the build.
        name: Option<String>,
    },
    /// The image as an OCI layout directory.
    Layout {
        /// The directory.
        dest: PathBuf,
        /// Its name in the layout; `None` = the names of the build.
        name: Option<String>,
    },
    /// The image under further names in the store.
    Image {
        /// The names.
        names: Vec<String>,
        /// Whether it is sent to their registries.
        push: bool,
    },
}

/// Where an output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A file, which appears when it is complete.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

impl Output {
    /// Reads `--output`: a directory, `-`, or `type=TYPE,KEY=VALUE,..`. Relative paths are below `base`.
    pub fn parse(text: &str, base: &Path) -> Result<Self> {
        let bad = |reason: String| Error::invalid(format!("output {text}"), reason);
        if text == "-" {
            return Ok(Output::Tar { dest: Target::Stdout });
        }
        let fields = fields(text).ok_or_else(|| bad("a quote is not closed".to_owned()))?;
        if let [only] = fields.as_slice()
            && !only.contains('=')
        {
            return match only.as_str() {
                "" => Err(bad("the directory is missing".to_owned())),
                directory => Ok(Output::Local { dest: base.join(directory) }),
            };
        }
        let (mut kind, mut dest, mut names, mut push, mut tar) = (None, None, Vec::new(), None, true);
        for field in &fields {
            let (key, value) =
                field.split_once('=').ok_or_else(|| bad(format!("expected KEY=VALUE, not {field}")))?;
            let switch = || match value {
                "true" | "1" | "" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err(bad(format!("{key} is either true or false"))),
            };
            match key {
                "type" => kind = Some(value),
                "dest" => dest = Some(value),
                "name" => names.extend(value.split(',').map(str::trim).map(str::to_owned)),
                "push" => push = Some(switch()?),
                "tar" => tar = switch()?,
                // see rewrites_times
                "rewrite-timestamp" => drop(switch()?),
                other => {
                    return Err(Error::unsupported(
                        format!("key {other} of output {text}"),
                        "the keys are type, dest, name, push, tar and rewrite-timestamp",
                    ));
                }
            }
        }
        let target = |dest: &str| match dest {
            "-" => Target::Stdout,
            path => Target::File(base.join(path)),
        };
        let needed = || dest.filter(|dest| !dest.is_empty()).ok_or_else(|| bad("dest is missing".to_owned()));
        let kind = kind.ok_or_else(|| bad("the type is missing".to_owned()))?;
        if !names.is_empty() && matches!(kind, "local" | "tar") {
            return Err(bad(format!("files have no name: leave it out, or choose another type than {kind}")));
        }
        if push.is_some() && !matches!(kind, "image" | "registry") {
            return Err(bad(format!("{kind} cannot be pushed")));
        }
        let one = |names: Vec<String>| match names.len() {
            0 | 1 => Ok(names.into_iter().next()),
            _ => Err(bad("an archive takes one name".to_owned())),
        };
        match kind {
            "local" if needed()? == "-" => Err(bad("files cannot go to standard output: use tar".to_owned())),
            "local" => Ok(Output::Local { dest: base.join(needed()?) }),
            "tar" => Ok(Output::Tar { dest: dest.map_or(Target::Stdout, target) }),
            "oci" if !tar => match needed()? {
                "-" => Err(bad("a directory cannot go to standard output".to_owned())),
                dest => Ok(Output::Layout { dest: base.join(dest), name: one(names)? }),
            },
            "oci" => Ok(Output::Archive {
                format: ArchiveFormat::Oci,
                dest: dest.map_or(Target::Stdout, target),
                name: one(names)?,
            }),
            "docker" => match dest {
                Some(dest) => Ok(Output::Archive {
                    format: ArchiveFormat::Docker,
                    dest: target(dest),
                    name: one(names)?,
                }),
                // where Docker loads the image into its own store, this is ours
                None => Ok(Output::Image { names, push: false }),
            },
            "image" => Ok(Output::Image { names, push: push.unwrap_or(false) }),
            "registry" => Ok(Output::Image { names, push: push.unwrap_or(true) }),
            other => Err(bad(format!(
                "there is no type {other}: expected local, tar, oci, docker, image or registry"
            ))),
        }
    }

    /// Whether an output asks for times of new files that are not later than the image's. Layers are what they are, so
    /// that all outputs of the build have these.
    pub fn rewrites_times(text: &str) -> bool {
        let asks =
            |field: &str| matches!(field.split_once('='), Some(("rewrite-timestamp", "true" | "1" | "")));
        fields(text).is_some_and(|fields| fields.iter().any(|field| asks(field)))
    }

    /// Whether it writes to standard output.
    pub fn is_stdout(&self) -> bool {
        matches!(self, Output::Tar { dest: Target::Stdout } | Output::Archive { dest: Target::Stdout, .. })
    }
}

/// Splits at commas; a field may be quoted as in CSV.
fn fields(text: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let field = fields.last_mut()?;
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            letter => field.push(letter),
        }
    }
    (!quoted).then_some(fields)
}

/// Writes a file so that it appears only when it is complete, or to standard output.
pub(super) fn write_to(
    target: &Target,
    stdout: Option<&OwnedFd>,
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<()>,
) -> Result<()> {
    let path = match target {
        Target::File(path) => path,
        Target::Stdout => {
            let stdout = stdout.ok_or_else(|| Error::invalid("output -", "there is no standard output"))?;
            let failed = |error| Error::os("write the output", error);
            let mut sink = BufWriter::new(std::fs::File::from(stdout.try_clone().map_err(failed)?));
            write(&mut sink)?;
            return sink.flush().map_err(failed);
        }
    };
    let failed = |error| Error::os(format!("write {}", path.display()), error);
    // a device or a pipe is written as it is
    if path.symlink_metadata().is_ok_and(|meta| !meta.is_file() && !meta.is_symlink()) {
        let mut sink = BufWriter::new(std::fs::File::options().write(true).open(path).map_err(failed)?);
        write(&mut sink)?;
        return sink.flush().map_err(failed);
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".partial-{}", std::process::id()));
    let partial = PathBuf::from(partial);
    let file = std::fs::File::create(&partial).map_err(failed)?;
    let mut sink = BufWriter::new(file);
    let written = write(&mut sink).and_then(|()| {
        let file = sink.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_data().map_err(failed)?;
        std::fs::rename(&partial, path).map_err(failed)
    });
    if written.is_err() {
        // the write's own failure is the one to tell
        let _ = std::fs::remove_file(&partial);
    }
    written
}

/// The files of one image.
pub(super) struct Files {
    root: OwnedFd,
    /// Directory of its platform, where there are several: `linux_arm64/`.
    pub(super) prefix: String,
}

impl Files {
    /// Opens the files of an image, without mounting them anywhere.
    pub(super) fn open(engine: &Engine, id: &str, empty: &Path, prefix: String) -> Result<Self> {
        let store = engine.store()?;
        let failed = || crate::error::storage(format!("open the files of image {id}"));
        let image = engine.find_image(id)?.image;
        let root = match image.record.layers.last() {
            None => {
                std::fs::create_dir_all(empty)
                    .map_err(|error| Error::os("make an empty directory", error))?;
                sys::fs::open_dir(empty)
                    .map_err(|error| Error::os("open an empty directory", std::io::Error::other(error)))?
            }
            Some(top) => {
                let layer = store.layers().get(top).map_err(failed())?;
                let layer = layer.ok_or_else(|| Error::NotFound { what: "layer", name: top.to_string() })?;
                let mounts = store.snapshots().view(&layer.snapshot).map_err(failed())?;
                open_tree(&mounts).map_err(failed())?
            }
        };
        Ok(Self { root, prefix })
    }
}

/// Writes the files of images as one tar.
pub(super) fn write_tar(trees: &[Files], sink: &mut (dyn Write + Send)) -> Result<()> {
    let failed = |error: storage::tar::Error| Error::os("write the tar", std::io::Error::other(error));
    let [tree] = trees else {
        let mut sink = sink;
        for (number, tree) in trees.iter().enumerate() {
            let options =
                WriteOptions { prefix: tree.prefix.clone().into_bytes(), ..WriteOptions::default() };
            let mut writer = TreeWriter::new(NoEnd { sink: &mut sink, held: Vec::new() }, &options);
            writer.tree(tree.root.as_fd()).map_err(failed)?;
            let (mut body, _) = writer.finish().map_err(failed)?;
            if number + 1 == trees.len() {
                body.release().map_err(|error| Error::os("write the tar", error))?;
            }
        }
        return Ok(());
    };
    let (_, _) =
        storage::tar::write_tree(tree.root.as_fd(), &WriteOptions::default(), sink).map_err(failed)?;
    Ok(())
}

/// Holds back the two zero blocks that end a tar, so that another tree can follow.
struct NoEnd<'a> {
    sink: &'a mut (dyn Write + Send),
    held: Vec<u8>,
}

/// Bytes of the end of a tar.
const END: usize = 1024;

impl NoEnd<'_> {
    fn release(&mut self) -> std::io::Result<()> {
        self.sink.write_all(&std::mem::take(&mut self.held))
    }
}

impl Write for NoEnd<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() > END {
            let ready = self.held.len() - END;
            self.sink.write_all(&self.held[..ready])?;
            self.held.drain(..ready);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes the files of an image below a directory. Without root they all belong to the user, as what BuildKit and
/// Podman write there does.
pub(super) fn write_directory(tree: &Files, dest: &Path, rootless: bool) -> Result<()> {
    let dest = dest.join(&tree.prefix);
    let shown = dest.display().to_string();
    let failed = |error: storage::tar::Error| {
        Error::os(format!("write the files to {shown}"), std::io::Error::other(error))
    };
    std::fs::create_dir_all(&dest).map_err(|error| Error::os(format!("create {shown}"), error))?;
    let root = sys::fs::open_dir(&dest)
        .map_err(|error| Error::os(format!("open {shown}"), std::io::Error::other(error)))?;
    let (reader, writer) = std::io::pipe().map_err(|error| Error::os("create a pipe", error))?;
    std::thread::scope(|scope| {
        let source = tree.root.as_fd();
        let writing = scope.spawn(move || {
            let sink = BufWriter::with_capacity(1 << 17, writer);
            let (mut sink, _) = storage::tar::write_tree(source, &WriteOptions::default(), sink)?;
            // what does not arrive is missed by the reader
            let _ = sink.flush();
            Ok::<(), storage::tar::Error>(())
        });
        let options = ExtractOptions {
            ownership: if rootless { Ownership::Fixed(0, 0) } else { Ownership::Stream },
            skip_devices: rootless,
            ..ExtractOptions::default()
        };
        let mut reader = Reader::new(std::io::BufReader::with_capacity(1 << 17, reader));
        let read = extract_into(root.as_fd(), &mut reader, options);
        drop(reader);
        let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        read.map_err(failed)?;
        written.map_err(failed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Output> {
        Output::parse(text, Path::new("/here"))
    }

    #[test]
    fn forms() {
        assert_eq!(parse("out").unwrap(), Output::Local { dest: "/here/out".into() });
        assert_eq!(parse("-").unwrap(), Output::Tar { dest: Target::Stdout });
        assert_eq!(parse("type=local,dest=x").unwrap(), Output::Local { dest: "/here/x".into() });
        assert_eq!(
            parse("type=tar,dest=/a.tar").unwrap(),
            Output::Tar { dest: Target::File("/a.tar".into()) }
        );
        assert_eq!(
            parse("type=oci,dest=-,name=a:1").unwrap(),
            Output::Archive { format: ArchiveFormat::Oci, dest: Target::Stdout, name: Some("a:1".into()) }
        );
        assert_eq!(
            parse("type=oci,tar=false,dest=d").unwrap(),
            Output::Layout { dest: "/here/d".into(), name: None }
        );
        assert_eq!(
            parse("type=image,\"name=a,b\",push=true").unwrap(),
            Output::Image { names: vec!["a".into(), "b".into()], push: true }
        );
        assert_eq!(
            parse("type=registry,name=a").unwrap(),
            Output::Image { names: vec!["a".into()], push: true }
        );
        assert_eq!(parse("type=docker").unwrap(), Output::Image { names: vec![], push: false });
        assert!(parse("type=tar").unwrap().is_stdout());
    }

    #[test]
    fn mistakes() {
        for text in [
            "",
            "dest=x",
            "type=nonsense,dest=x",
            "type=local",
            "type=local,dest=-",
            "type=local,dest=x,name=y",
            "type=tar,push=true",
            "type=oci,tar=false",
            "type=image,compression=zstd",
            "type=local,\"dest=x",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
