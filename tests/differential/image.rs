//! An image as what counts when two are compared.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde_json::Value;

/// A file of an image; its line without the path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    kind: char,
    mode: u32,
    owner: (u64, u64),
    xattrs: BTreeMap<String, String>,
    /// Content, link target or device number.
    content: String,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    files: BTreeMap<String, Node>,
    config: BTreeMap<String, Value>,
}

/// The parts of a config that are compared.
const PARTS: [&str; 13] = [
    "Env",
    "Cmd",
    "Entrypoint",
    "User",
    "WorkingDir",
    "Labels",
    "ExposedPorts",
    "Volumes",
    "StopSignal",
    "Healthcheck",
    "Shell",
    "OnBuild",
    "Author",
];

impl Image {
    #[cfg(test)]
    pub(super) fn add_file(&mut self, path: &str, mode: u32, owner: (u64, u64), content: &[u8]) {
        let content = shown(content);
        let node = Node { kind: 'f', mode, owner, xattrs: BTreeMap::new(), content };
        self.files.insert(path.to_owned(), node);
    }

    /// An image out of an archive in Docker's format: its layers, one on the other.
    pub(super) fn of_archive(path: &Path) -> Self {
        let mut parts: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut links: Vec<(String, String)> = Vec::new();
        let mut archive = tar::Archive::new(File::open(path).unwrap());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            if let Some(target) = entry.link_name().unwrap() {
                links.push((name, target.to_str().unwrap().trim_start_matches("../").to_owned()));
                continue;
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            parts.insert(name, bytes);
        }
        for (name, target) in links {
            let bytes = parts[&target].clone();
            parts.insert(name, bytes);
        }
        let manifest: Value = serde_json::from_slice(&parts["manifest.json"]).unwrap();
        let manifest = &manifest[0];
        let config: Value = serde_json::from_slice(&parts[manifest["Config"].as_str().unwrap()]).unwrap();
        let mut image = Self { files: BTreeMap::new(), config: read_config(&config) };
        for layer in manifest["Layers"].as_array().unwrap() {
            image.apply(&parts[layer.as_str().unwrap()]);
        }
        image
    }

    fn apply(&mut self, layer: &[u8]) {
        let mut opaque = Vec::new();
        let mut gone = Vec::new();
        let mut new: BTreeMap<String, Node> = BTreeMap::new();
        let mut archive = tar::Archive::new(layer);
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path_bytes().into_owned();
            let path = format!("/{}", shown_path(&path).trim_start_matches("./").trim_matches('/'));
            let (parent, name) = path.rsplit_once('/').unwrap();
            if name == ".wh..wh..opq" {
                opaque.push(parent.to_owned());
                continue;
            }
            if let Some(name) = name.strip_prefix(".wh.") {
                gone.push(format!("{parent}/{name}"));
                continue;
            }
            let mut xattrs = BTreeMap::new();
            for extension in entry.pax_extensions().unwrap().into_iter().flatten() {
                let extension = extension.unwrap();
                if let Some(name) = extension.key().unwrap().strip_prefix("SCHILY.xattr.") {
                    xattrs.insert(name.to_owned(), shown(extension.value_bytes()));
                }
            }
            let header = entry.header().clone();
            let kind = header.entry_type();
            let link = entry.link_name_bytes().map(|link| shown_path(&link)).unwrap_or_default();
            let mut node = Node {
                kind: '?',
                mode: header.mode().unwrap() & 0o7777,
                owner: (header.uid().unwrap(), header.gid().unwrap()),
                xattrs,
                content: String::new(),
            };
            match kind {
                tar::EntryType::Link => {
                    let target = format!("/{}", link.trim_start_matches("./").trim_matches('/'));
                    node = new.get(&target).or_else(|| self.files.get(&target)).unwrap().clone();
                }
                tar::EntryType::Symlink => (node.kind, node.mode, node.content) = ('l', 0o777, link),
                tar::EntryType::Directory => node.kind = 'd',
                tar::EntryType::Fifo => node.kind = 'p',
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    let mut bytes = Vec::new();
                    entry.read_to_end(&mut bytes).unwrap();
                    (node.kind, node.content) = ('f', shown(&bytes));
                }
                other => panic!("{path}: {other:?}"),
            }
            new.insert(path, node);
        }
        let below = |path: &str, top: &str| path.len() > top.len() && path.starts_with(&format!("{top}/"));
        self.files.retain(|path, _| {
            !opaque.iter().any(|top| below(path, top))
                && !gone.iter().any(|top| path == top || below(path, top))
        });
        for (path, node) in new {
            if node.kind != 'd' {
                self.files.retain(|known, _| !below(known, &path));
            }
            self.files.insert(path, node);
        }
        self.files.remove("/");
    }

    /// An image out of a directory with all its files.
    pub(super) fn of_directory(root: &Path, config: &Value) -> Self {
        let mut image = Self { files: BTreeMap::new(), config: read_config(config) };
        let mut open = vec![root.to_owned()];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                let meta = std::fs::symlink_metadata(&path).unwrap();
                let mut node = Node {
                    kind: '?',
                    mode: meta.mode() & 0o7777,
                    owner: (meta.uid().into(), meta.gid().into()),
                    xattrs: BTreeMap::new(),
                    content: String::new(),
                };
                let kind = meta.file_type();
                if kind.is_dir() {
                    node.kind = 'd';
                    open.push(path.clone());
                } else if kind.is_symlink() {
                    let target = std::fs::read_link(&path).unwrap();
                    node.content = shown_path(target.as_os_str().as_encoded_bytes());
                    node.kind = 'l';
                } else if kind.is_fifo() {
                    node.kind = 'p';
                } else {
                    node.kind = 'f';
                    node.content = shown(&std::fs::read(&path).unwrap());
                }
                if kind.is_dir() || kind.is_file() {
                    let file = File::open(&path).unwrap();
                    for name in sys::xattr::list(file.as_fd()).unwrap() {
                        let value = sys::xattr::get(file.as_fd(), &name).unwrap().unwrap_or_default();
                        node.xattrs.insert(name.to_string_lossy().into_owned(), shown(&value));
                    }
                }
                let name = path.strip_prefix(root).unwrap().as_os_str().as_encoded_bytes();
                image.files.insert(format!("/{}", shown_path(name)), node);
            }
        }
        image
    }

    /// All that is compared, a line each.
    pub(super) fn lines(&self) -> Vec<String> {
        let files = self.files.iter().map(|(path, node)| node.line(path));
        files.chain(self.config.iter().map(|(key, value)| format!("{key} {value}"))).collect()
    }

    /// The lines that another image does not have, and what is gone.
    pub(super) fn beside(&self, base: &Self) -> Vec<String> {
        let gone = base.files.keys().filter(|path| !self.files.contains_key(*path));
        let gone: Vec<String> = gone.map(|path| format!("gone {path}")).collect();
        let before = base.lines();
        let unset = base.config.keys().filter(|key| !self.config.contains_key(*key));
        let unset: Vec<String> = unset.map(|key| format!("unset {key}")).collect();
        let lines = self.lines().into_iter().filter(|line| !before.contains(line));
        gone.into_iter().chain(unset).chain(lines).collect()
    }
}

impl Node {
    fn line(&self, path: &str) -> String {
        let (kind, mode, (uid, gid)) = (self.kind, self.mode, self.owner);
        let mut line = format!("{kind} {path} {mode:o} {uid}:{gid}");
        for (name, value) in &self.xattrs {
            line.push_str(&format!(" {name}={value}"));
        }
        if matches!(kind, 'f' | 'l') {
            line.push(' ');
            line.push_str(&self.content);
        }
        line
    }
}

fn read_config(config: &Value) -> BTreeMap<String, Value> {
    let mut parts = BTreeMap::new();
    for part in PARTS {
        let mut value =
            if part == "Author" { config["author"].clone() } else { config["config"][part].clone() };
        if let Some(labels) = value.as_object_mut().filter(|_| part == "Labels") {
            // buildah's own mark
            labels.remove("io.buildah.version");
        }
        if let Some(variables) = value.as_array_mut().filter(|_| part == "Env") {
            // The order means nothing, and buildah changes it.
            variables.sort_by_key(Value::to_string);
        }
        let empty = match &value {
            Value::Null => true,
            Value::String(text) => text.is_empty() || (part == "WorkingDir" && text == "/"),
            Value::Array(items) => items.is_empty(),
            Value::Object(items) => items.is_empty(),
            _ => false,
        };
        if !empty {
            parts.insert(part.to_owned(), value);
        }
    }
    parts
}

/// A content fit to be read, or its length and a sum.
fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= 200 => format!("{text:?}"),
        _ => {
            let sum = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
                (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
            format!("<{} bytes, {sum:x}>", bytes.len())
        }
    }
}

fn shown_path(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
