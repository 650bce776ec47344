//! `RUN --mount`.

use super::state::State;
use super::{Error, Lowering};
use crate::diagnostic::Diagnostic;
use crate::graph::{Edge, MountKind as Kind, MountOp, Sharing};
use crate::instruction::{CacheSharing, Mount, MountKind};
use crate::parse::Spanned;

/// Options that only buildah has, read.
#[derive(Default)]
struct Extra {
    options: Vec<String>,
    chown: bool,
    mode: Option<u32>,
    copy_up: bool,
    keep_link: bool,
}

impl Lowering<'_> {
    /// `agents`: how many agents were mounted before.
    pub(super) fn mount(
        &mut self,
        state: &State,
        mount: Mount,
        inputs: &mut Vec<Edge>,
        agents: usize,
    ) -> Result<MountOp, Error> {
        let span = mount.span;
        let mut extra = self.extra(&mount)?;
        let mut target = mount.target;
        let kind = match mount.kind {
            MountKind::Bind { from, source } => {
                let vertex = match from {
                    Some(from) => self.source(state, &from.node, from.span)?,
                    None => self.directory(None),
                };
                inputs.push(Edge::by_content(vertex));
                Kind::Bind { input: inputs.len() - 1, source, keep_link: extra.keep_link }
            }
            MountKind::Cache { id, sharing, mode, uid, gid, from, source } => {
                let namespace = self.options.build_args.get("BUILDKIT_CACHE_MOUNT_NS");
                let name = id.unwrap_or_else(|| state.absolute(&target));
                let mut id = match namespace {
                    Some(namespace) => format!("{namespace}/{name}"),
                    None => name,
                };
                let from = match from {
                    None => None,
                    Some(from) => {
                        let vertex = self.source(state, &from.node, from.span)?;
                        inputs.push(Edge::by_content(vertex));
                        // Directories that began differently are different ones.
                        id.push_str(&format!("@{}:{source}", from.node));
                        Some((inputs.len() - 1, source))
                    }
                };
                let sharing = match sharing {
                    CacheSharing::Shared => Sharing::Shared,
                    CacheSharing::Locked => Sharing::Locked,
                    CacheSharing::Private => Sharing::Private,
                };
                Kind::Cache { id, sharing, mode, uid, gid, from }
            }
            MountKind::Tmpfs { size } => {
                Kind::Tmpfs { size, mode: extra.mode.take(), copy_up: std::mem::take(&mut extra.copy_up) }
            }
            MountKind::Secret { id, env, required, mode, uid, gid } => {
                let file = env.is_none() || !target.is_empty();
                if target.is_empty() {
                    target = format!("/run/secrets/{id}");
                }
                Kind::Secret { id, file, env, required, mode, uid, gid }
            }
            MountKind::Ssh { id, required, mode, uid, gid } => {
                if target.is_empty() {
                    target = format!("/run/buildkit/ssh_agent.{agents}");
                }
                // Of several, the variable names the first.
                Kind::Ssh { id, required, mode, uid, gid, env: agents == 0 }
            }
        };
        let absolute = state.absolute(&target);
        self.spend(absolute.len().saturating_sub(target.len()), span)?;
        let target = if absolute.len() > 1 { absolute.trim_end_matches('/').to_owned() } else { absolute };
        if target == "/" {
            return Err(self.refuse(span, "a mount at / would hide the image"));
        }
        Ok(MountOp { target, read_only: mount.read_only, options: extra.options, chown: extra.chown, kind })
    }

    /// Reads the options that only buildah has. Labels of SELinux mean nothing where there is none.
    fn extra(&self, mount: &Mount) -> Result<Extra, Error> {
        let mut extra = Extra::default();
        let is_bind = matches!(mount.kind, MountKind::Bind { .. });
        let is_cache = matches!(mount.kind, MountKind::Cache { .. });
        let is_tmpfs = matches!(mount.kind, MountKind::Tmpfs { .. });
        for option in &mount.extra {
            let (key, value) = match option.node.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (option.node.as_str(), None),
            };
            let wrong = |what: &str| self.refuse(option.span, format!("`{key}` {what}"));
            match key {
                "z" | "relabel" => {}
                "nosuid" | "nodev" | "noexec" | "suid" | "dev" | "exec"
                    if is_bind || is_cache || is_tmpfs =>
                {
                    if self.on(option, value)? {
                        extra.options.push(key.to_owned());
                    }
                }
                "bind-propagation" if is_bind || is_cache => {
                    const KNOWN: [&str; 6] = ["private", "rprivate", "slave", "rslave", "shared", "rshared"];
                    let value = value.unwrap_or_default();
                    if !KNOWN.contains(&value) {
                        let error =
                            Diagnostic::error(option.span, format!("`{value}` is no propagation of mounts"));
                        return Err(self.fail(error.with_hint(format!("it is one of {}", KNOWN.join(", ")))));
                    }
                    extra.options.push(value.to_owned());
                }
                "bind-nonrecursive" if is_bind => {
                    if self.on(option, value)? {
                        extra.options.push("bind".to_owned());
                    }
                }
                "u" | "chown" if is_bind || is_cache => extra.chown = self.on(option, value)?,
                "tmpfs-mode" if is_tmpfs => {
                    let mode = value.and_then(|value| u32::from_str_radix(value, 8).ok());
                    extra.mode = Some(
                        mode.filter(|mode| *mode <= 0o7777).ok_or_else(|| wrong("needs an octal mode"))?,
                    );
                }
                "tmpcopyup" if is_tmpfs => extra.copy_up = self.on(option, value)?,
                "notmpcopyup" if is_tmpfs => extra.copy_up = !self.on(option, value)?,
                "no-dereference" if is_bind => extra.keep_link = self.on(option, value)?,
                _ => return Err(wrong("is no option of this type of mount")),
            }
        }
        Ok(extra)
    }

    fn on(&self, option: &Spanned<String>, value: Option<&str>) -> Result<bool, Error> {
        match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(_) => Err(self.refuse(option.span, "this option is either true or false")),
        }
    }
}
