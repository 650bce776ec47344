//! buildah with a store of its own; its images are read where it keeps them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::image::Image;
use crate::support::{Done, finish, scratch};

pub(super) struct Buildah {
    dir: tempfile::TempDir,
}

impl Buildah {
    pub(super) fn new() -> Self {
        Self { dir: scratch() }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub(super) fn run(&self, arguments: &[&str], more: &[String]) -> Done {
        let path = |name: &str| self.dir.path().join(name).to_str().unwrap().to_owned();
        let mut all = vec!["--storage-driver=vfs".to_owned(), "--root".into(), path("root")];
        all.extend(["--runroot".into(), path("run")]);
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        all.extend(more.iter().cloned());
        let mut command = Command::new("buildah");
        // Where its cache mounts lie.
        finish(command.args(all).env("TMPDIR", self.dir.path()).stdin(Stdio::null()))
    }

    /// With this driver the directory of the top layer holds the whole tree.
    pub(super) fn image(&self, tag: &str) -> Image {
        let images = self.root().join("vfs-images");
        let index: Value =
            serde_json::from_slice(&std::fs::read(images.join("images.json")).unwrap()).unwrap();
        let name = format!("localhost/{tag}:latest");
        let has_name = |image: &&Value| {
            image["names"].as_array().is_some_and(|names| names.iter().any(|known| *known == name))
        };
        let image = index.as_array().unwrap().iter().find(has_name).unwrap();
        let id = image["id"].as_str().unwrap();
        // The config is kept under its digest, written in base 64.
        let name = format!("={}", base64(format!("sha256:{id}").as_bytes()));
        let config = std::fs::read(images.join(id).join(name)).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        let empty = self.dir.path().join("empty");
        let root = match image["layer"].as_str() {
            Some(layer) => self.root().join("vfs/dir").join(layer),
            None => {
                std::fs::create_dir_all(&empty).unwrap();
                empty
            }
        };
        Image::of_directory(&root, &config)
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().fold(0_usize, |number, byte| number << 8 | usize::from(*byte));
        let number = number << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[number >> (18 - 6 * place) & 63];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}
