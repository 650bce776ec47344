//! What a build takes from its caller: context, Containerfile, arguments, secrets, agents.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::build::{ContainerfileSource, ContextSource, Secrets, is_address};

use super::super::create::{lines, read_text};
use crate::args::BuildArgs;
use crate::error::{Attempt, Failure};

/// Most bytes of a Containerfile.
const CONTAINERFILE_LIMIT: u64 = 16 << 20;
/// Most bytes of a secret, as BuildKit has it.
const SECRET_LIMIT: u64 = 500 << 10;

/// The context and the Containerfile. Several files are one text, in the order given.
pub(super) fn sources(args: &BuildArgs) -> Result<(ContextSource, ContainerfileSource), Failure> {
    let context = if args.context == "-" {
        if args.file.iter().any(|file| file == "-") {
            return Err(Failure::new("standard input cannot be both the context and the Containerfile"));
        }
        let input =
            std::io::stdin().as_fd().try_clone_to_owned().attempt("read the context from standard input")?;
        ContextSource::Stream(Arc::new(input))
    } else if is_address(&args.context) {
        ContextSource::Address(args.context.clone())
    } else {
        let meta = std::fs::metadata(&args.context).attempt(format!("build context {}", args.context))?;
        // as Podman: a Containerfile in the place of the context means its directory
        if meta.is_file() && args.file.is_empty() {
            let file = PathBuf::from(&args.context);
            let directory = match file.parent() {
                Some(parent) if parent != Path::new("") => parent.to_owned(),
                _ => PathBuf::from("."),
            };
            return Ok((ContextSource::Directory(directory), ContainerfileSource::Path(file)));
        }
        if !meta.is_dir() {
            return Err(Failure::new(format!("build context {}: it is not a directory", args.context)));
        }
        ContextSource::Directory(PathBuf::from(&args.context))
    };
    let source = match args.file.as_slice() {
        [] => ContainerfileSource::Lookup,
        [one] if one == "-" => {
            ContainerfileSource::Text { name: "Containerfile".to_owned(), text: standard_input()? }
        }
        [one] => ContainerfileSource::Path(PathBuf::from(one)),
        several => {
            let mut text = String::new();
            for name in several {
                let path = PathBuf::from(name);
                let path = match &context {
                    ContextSource::Directory(context) if !path.exists() => context.join(name),
                    _ => path,
                };
                text.push_str(&read_text(&path)?);
                if !text.ends_with('\n') {
                    text.push('\n');
                }
            }
            ContainerfileSource::Text { name: several.join("+"), text }
        }
    };
    Ok((context, source))
}

fn standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    let attempt = "read the Containerfile from standard input";
    std::io::stdin().take(CONTAINERFILE_LIMIT + 1).read_to_string(&mut text).attempt(attempt)?;
    if text.len() as u64 > CONTAINERFILE_LIMIT {
        return Err(Failure::new(format!("{attempt}: it is larger than {CONTAINERFILE_LIMIT} bytes")));
    }
    Ok(text)
}

/// `--build-arg-file`, then `--build-arg`.
pub(super) fn build_args(args: &BuildArgs) -> Result<Vec<(String, String)>, Failure> {
    let mut words = Vec::new();
    for file in &args.build_arg_file {
        words.extend(lines(file)?);
    }
    words.extend(args.build_arg.iter().cloned());
    Ok(words.into_iter().filter_map(assignment).collect())
}

/// `NAME=VALUE`, or `NAME` with the caller's value; nothing where the caller has none.
pub(super) fn assignment(word: String) -> Option<(String, String)> {
    match word.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => {
            let value = std::env::var_os(&word).and_then(|value| value.into_string().ok())?;
            Some((word, value))
        }
    }
}

/// `--build-context`; paths become absolute.
pub(super) fn build_contexts(words: &[String], here: &Path) -> Result<Vec<(String, String)>, Failure> {
    words
        .iter()
        .map(|word| {
            let (name, value) = word
                .split_once('=')
                .filter(|(name, value)| !name.is_empty() && !value.is_empty())
                .ok_or_else(|| Failure::new(format!("--build-context={word}: expected NAME=VALUE")))?;
            let value = match value.strip_prefix("oci-layout://") {
                Some(place) => format!("oci-layout://{}", here.join(place).display()),
                None if is_address(value) => value.to_owned(),
                None => here.join(value).display().to_string(),
            };
            Ok((name.to_owned(), value))
        })
        .collect()
}

/// `--secret`: where nothing else is said, a variable of that name, else a file.
pub(super) fn secrets(words: &[String]) -> Result<Secrets, Failure> {
    let mut secrets = BTreeMap::new();
    for word in words {
        let bad = |reason: &str| Failure::new(format!("--secret={word}: {reason}"));
        let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
        for field in word.split(',') {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            match key.trim() {
                "id" => id = Some(value.to_owned()),
                "src" | "source" => file = Some(value.to_owned()),
                "env" => variable = Some(value.to_owned()),
                "type" if matches!(value, "file" | "env") => kind = Some(value.to_owned()),
                "type" => return Err(bad("the type is either file or env")),
                other => return Err(bad(&format!("there is no key {other}"))),
            }
        }
        let id = id.filter(|id| !id.is_empty()).ok_or_else(|| bad("the id is missing"))?;
        if file.is_some() && variable.is_some() {
            return Err(bad("it is either a file or a variable"));
        }
        if kind.as_deref() == Some("env") && variable.is_none() {
            variable = Some(file.take().unwrap_or_else(|| id.clone()));
        }
        if variable.is_none() && file.is_none() {
            if kind.is_none() && std::env::var_os(&id).is_some() {
                variable = Some(id.clone());
            } else {
                file = Some(id.clone());
            }
        }
        let value = match (variable, file) {
            (Some(name), _) => {
                let value = std::env::var_os(&name);
                let value = value.ok_or_else(|| bad(&format!("the variable {name} is not set")))?;
                std::os::unix::ffi::OsStringExt::into_vec(value)
            }
            (None, file) => read_secret(word, &file.unwrap_or_default())?,
        };
        if value.len() as u64 > SECRET_LIMIT {
            return Err(bad(&format!("it is longer than {SECRET_LIMIT} bytes")));
        }
        if secrets.insert(id.clone(), value).is_some() {
            return Err(bad("there is another one with this id"));
        }
    }
    Ok(Secrets(secrets))
}

fn read_secret(word: &str, file: &str) -> Result<Vec<u8>, Failure> {
    let path = match (file.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(file),
    };
    let attempt = || format!("--secret={word}: read {}", path.display());
    let mut value = Vec::new();
    let opened = std::fs::File::open(&path).attempt(attempt())?;
    opened.take(SECRET_LIMIT + 1).read_to_end(&mut value).attempt(attempt())?;
    Ok(value)
}

/// `--ssh`: without a path the agent that the caller uses.
pub(super) fn agents(words: &[String], here: &Path) -> Result<Vec<(String, Vec<PathBuf>)>, Failure> {
    let mut agents: Vec<(String, Vec<PathBuf>)> = Vec::new();
    for word in words {
        let (id, paths) = word.split_once('=').unwrap_or((word, ""));
        let bad = |reason: &str| Failure::new(format!("--ssh={word}: {reason}"));
        if id.is_empty() || agents.iter().any(|(known, _)| known == id) {
            return Err(bad(if id.is_empty() {
                "the id is missing"
            } else {
                "there is another one with this id"
            }));
        }
        let mut paths: Vec<PathBuf> =
            paths.split(',').filter(|path| !path.is_empty()).map(|path| here.join(path)).collect();
        if paths.is_empty() {
            paths
                .extend(std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from));
        }
        agents.push((id.to_owned(), paths));
    }
    Ok(agents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Secrets, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        secrets(&words).map_err(|failure| failure.message)
    }

    #[test]
    fn secrets_of_files_and_variables() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s");
        std::fs::write(&file, "value").unwrap();
        let home = std::env::var("HOME").unwrap();
        let text = format!("id=one,src={}", file.display());
        let found = read(&[&text, "id=two,env=HOME", "id=HOME", "id=three,type=env,src=HOME"]).unwrap().0;
        assert_eq!(found["one"], b"value");
        for id in ["two", "HOME", "three"] {
            assert_eq!(found[id], home.as_bytes(), "{id}");
        }
        for bad in
            ["src=x", "id=", "id=a,src=/nowhere/x", "id=a,env=NOT_SET_ANYWHERE", "id=a,mode=1", "id=a,type=b"]
        {
            assert!(read(&[bad]).is_err(), "{bad}");
        }
        assert!(read(&[&text, &text]).is_err());
    }
}
