//! RUN: forms, flags and mounts.

use super::Heredoc;
use crate::diagnostic::Diagnostic;
use crate::expand::{Lookup, Word};
use crate::parse::{Span, Spanned};

/// A command in one of its two forms. Variables in it are the shell's, not the builder's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Text for the shell.
    Shell(Spanned<String>),
    /// A JSON array: command and arguments.
    Exec(Vec<Spanned<String>>),
}

/// RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// `--mount`, in order.
    pub mounts: Vec<MountFlag>,
    /// `--network`
    pub network: Option<Spanned<Network>>,
    /// `--security`
    pub security: Option<Spanned<Security>>,
    /// `--device`, as written.
    pub devices: Vec<Word>,
    /// What is run; use [`Run::script`].
    pub command: Command,
    /// Here-documents on the line, in order.
    pub heredocs: Vec<Heredoc>,
}

/// What a RUN really starts, here-documents put in their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// Command and arguments, without a shell.
    Exec(Vec<String>),
    /// One argument behind the words of SHELL.
    Shell(String),
    /// A file to be executed by itself: a here-document that begins with `#!`.
    File {
        /// Its name: the end marker.
        name: String,
        /// Its content.
        content: String,
    },
}

/// `RUN --network`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// `default`
    Default,
    /// `none`
    None,
    /// `host`
    Host,
}

/// `RUN --security`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// `sandbox`
    Sandbox,
    /// `insecure`
    Insecure,
}

/// `RUN --mount` as written: read its values with [`MountFlag::evaluate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// Place of the flag's value.
    pub span: Span,
    /// The fields, in order.
    pub fields: Vec<MountField>,
}

/// `key[=value]` of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountField {
    /// The key in lower case.
    pub key: Spanned<String>,
    /// The value.
    pub value: Option<Word>,
}

/// A mount with its values expanded and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where; empty for a secret or ssh mount that uses the default. Relative paths are joined to WORKDIR.
    pub target: String,
    /// Whether the step may not write.
    pub read_only: bool,
    /// What.
    pub kind: MountKind,
    /// Place of the flag's value.
    pub span: Span,
    /// `key[=value]` of options that buildah has and BuildKit does not, for those who support them.
    pub extra: Vec<Spanned<String>>,
}

/// Kinds of mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// `type=bind`
    Bind {
        /// Stage, named context or image; `None` = build context.
        from: Option<Spanned<String>>,
        /// Path in it; empty = all of it.
        source: String,
    },
    /// `type=cache`
    Cache {
        /// Its name; `None` = the target.
        id: Option<String>,
        /// How steps share it.
        sharing: CacheSharing,
        /// Where its first content comes from.
        from: Option<Spanned<String>>,
        /// Path in `from`.
        source: String,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// `type=tmpfs`
    Tmpfs {
        /// Limit in bytes.
        size: Option<u64>,
    },
    /// `type=secret`
    Secret {
        /// Which one.
        id: String,
        /// The variable that gets the value. Without a target there is no file then.
        env: Option<String>,
        /// Whether the build fails without it.
        required: bool,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// `type=ssh`
    Ssh {
        /// Which agent.
        id: String,
        /// Whether the build fails without it.
        required: bool,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// `sharing=`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheSharing {
    /// All use it at once.
    #[default]
    Shared,
    /// One waits for the other.
    Locked,
    /// A second one gets a directory of its own.
    Private,
}

/// All keys of `--mount`: those of BuildKit, then those that only buildah has.
pub(crate) const MOUNT_KEYS: [&str; 36] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "required",
    "size",
    "id",
    "sharing",
    "mode",
    "uid",
    "gid",
    "env",
    "tmpfs-size",
    "tmpfs-mode",
    "tmpcopyup",
    "bind-propagation",
    "bind-nonrecursive",
    "relabel",
    "z",
    "u",
    "nosuid",
    "nodev",
    "noexec",
    "no-dereference",
    "notmpcopyup",
    "suid",
    "dev",
    "exec",
    "chown",
];

/// Keys that only buildah has and that change nothing which this crate decides.
const EXTRA_KEYS: [&str; 16] = [
    "tmpfs-mode",
    "tmpcopyup",
    "bind-propagation",
    "bind-nonrecursive",
    "relabel",
    "z",
    "u",
    "nosuid",
    "nodev",
    "noexec",
    "no-dereference",
    "notmpcopyup",
    "suid",
    "dev",
    "exec",
    "chown",
];

impl Run {
    /// What is started, here-documents put in their place.
    pub fn script(&self) -> Script {
        let text = match &self.command {
            Command::Exec(words) => {
                return Script::Exec(words.iter().map(|word| word.node.clone()).collect());
            }
            Command::Shell(text) => text,
        };
        match self.heredocs.as_slice() {
            // Nothing but a here-document: its body is the script.
            [only] if only.span == text.span => {
                if only.content.starts_with("#!") {
                    // The marker becomes a file's name.
                    let name = match only.name.as_str() {
                        "." | ".." => "_".to_owned(),
                        name => name.replace('/', "_"),
                    };
                    return Script::File { name, content: only.content.clone() };
                }
                Script::Shell(only.content.clone())
            }
            // With something beside it, the shell reads the here-documents itself.
            heredocs => {
                let mut script = text.node.clone();
                for heredoc in heredocs {
                    script.push('\n');
                    script.push_str(&heredoc.raw);
                    script.push_str(&heredoc.name);
                }
                Script::Shell(script)
            }
        }
    }
}

/// Values of a mount's fields, before they are put together.
#[derive(Default)]
struct Values {
    kind: Option<(String, Span)>,
    from: Option<Spanned<String>>,
    source: Option<Spanned<String>>,
    target: Option<Spanned<String>>,
    read_only: Option<bool>,
    required: Option<Spanned<bool>>,
    size: Option<Spanned<u64>>,
    id: Option<Spanned<String>>,
    sharing: Option<Spanned<CacheSharing>>,
    mode: Option<Spanned<u32>>,
    uid: Option<Spanned<u32>>,
    gid: Option<Spanned<u32>>,
    env: Option<Spanned<String>>,
    extra: Vec<Spanned<String>>,
}

impl MountFlag {
    /// Expands the values and checks them.
    pub fn evaluate(&self, lookup: Lookup<'_>) -> Result<Mount, Diagnostic> {
        let mut values = Values::default();
        for field in &self.fields {
            values.read(field, lookup)?;
        }
        values.mount(self.span)
    }

    /// Stage, named context or image that the mount reads: never expanded.
    pub fn from(&self) -> Option<Spanned<&str>> {
        let field = self.fields.iter().rev().find(|field| field.key.node == "from")?;
        field.value.as_ref().map(|value| Spanned::new(value.raw.as_str(), value.span))
    }
}

impl Values {
    fn read(&mut self, field: &MountField, lookup: Lookup<'_>) -> Result<(), Diagnostic> {
        let key = field.key.node.as_str();
        let span = field.value.as_ref().map_or(field.key.span, |value| value.span);
        if EXTRA_KEYS.contains(&key) {
            let text = match &field.value {
                Some(value) => format!("{key}={}", value.expand(lookup)?),
                None => key.to_owned(),
            };
            self.extra.push(Spanned::new(text, field.key.span.to(span)));
            return Ok(());
        }
        let value = match &field.value {
            Some(value) if key == "from" => Some(value.raw.clone()),
            Some(value) => Some(value.expand(lookup)?),
            None => None,
        };
        if let "readonly" | "ro" | "readwrite" | "rw" | "required" = key {
            let on = switch(value.as_deref())
                .ok_or_else(|| Diagnostic::error(span, format!("`{key}` is either true or false")))?;
            match key {
                "readonly" | "ro" => self.read_only = Some(on),
                "required" => self.required = Some(Spanned::new(on, field.key.span)),
                _ => self.read_only = Some(!on),
            }
            return Ok(());
        }
        let Some(value) = value else {
            return Err(
                Diagnostic::error(span, format!("`{key}` needs a value")).with_hint(format!("{key}=VALUE"))
            );
        };
        let number = |base: u32, what: &str| {
            u32::from_str_radix(&value, base)
                .map(|number| Spanned::new(number, span))
                .map_err(|_| Diagnostic::error(span, format!("`{value}` is no {what}")))
        };
        match key {
            "type" => self.kind = Some((value.to_lowercase(), span)),
            "from" => self.from = Some(Spanned::new(value, span)),
            "source" | "src" => self.source = Some(Spanned::new(value, span)),
            "target" | "dst" | "destination" => self.target = Some(Spanned::new(value, span)),
            "size" | "tmpfs-size" => {
                let bytes = parse_bytes(&value).ok_or_else(|| {
                    Diagnostic::error(span, format!("`{value}` is no size: for example 64m"))
                })?;
                self.size = Some(Spanned::new(bytes, span));
            }
            "id" => self.id = Some(Spanned::new(value, span)),
            "sharing" => {
                let sharing = match value.to_lowercase().as_str() {
                    "shared" => CacheSharing::Shared,
                    "locked" => CacheSharing::Locked,
                    "private" => CacheSharing::Private,
                    other => {
                        return Err(Diagnostic::error(span, format!("`sharing` cannot be `{value}`"))
                            .with_hint("it is one of shared, locked, private")
                            .with_nearest(other, ["shared", "locked", "private"]));
                    }
                };
                self.sharing = Some(Spanned::new(sharing, span));
            }
            "mode" => self.mode = Some(number(8, "octal mode")?),
            "uid" => self.uid = Some(number(10, "user ID")?),
            "gid" => self.gid = Some(number(10, "group ID")?),
            "env" => self.env = Some(Spanned::new(value, span)),
            _ => return Err(Diagnostic::error(field.key.span, format!("unknown mount option `{key}`"))),
        }
        Ok(())
    }

    fn mount(mut self, span: Span) -> Result<Mount, Diagnostic> {
        let (kind, kind_span) = self.kind.take().unwrap_or_else(|| ("bind".to_owned(), span));
        let read_only = self.read_only;
        let extra = std::mem::take(&mut self.extra);
        self.refuse_foreign(&kind)?;
        let target = self.target.take();
        if let Some(target) =
            target.as_ref().filter(|target| target.node.split('/').all(|part| matches!(part, "" | ".")))
        {
            return Err(Diagnostic::error(
                target.span,
                format!("`{}` cannot be the target of a mount", target.node),
            ));
        }
        let path = target.as_ref().map(|target| target.node.clone()).unwrap_or_default();
        let source = self.source.take();
        let number =
            |given: &Option<Spanned<u32>>, default: u32| given.as_ref().map_or(default, |value| value.node);
        let (uid, gid) = (number(&self.uid, 0), number(&self.gid, 0));
        let required = self.required.as_ref().is_some_and(|required| required.node);
        let id = self.id.take().map(|id| id.node);
        let source_path = source.as_ref().map(|source| source.node.clone()).unwrap_or_default();
        let (read_only, kind) = match kind.as_str() {
            "bind" => (read_only.unwrap_or(true), MountKind::Bind { from: self.from, source: source_path }),
            "cache" => {
                let sharing = self.sharing.map_or(CacheSharing::Shared, |sharing| sharing.node);
                let mode = number(&self.mode, 0o755);
                let kind =
                    MountKind::Cache { id, sharing, from: self.from, source: source_path, mode, uid, gid };
                (read_only.unwrap_or(false), kind)
            }
            "tmpfs" => {
                (read_only.unwrap_or(false), MountKind::Tmpfs { size: self.size.map(|size| size.node) })
            }
            "secret" => {
                if let (Some(_), Some(source)) = (&id, &source) {
                    return Err(Diagnostic::error(
                        source.span,
                        "a secret has either `id` or `source`, not both",
                    ));
                }
                let base = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
                let id = id.or(source.map(|source| source.node)).unwrap_or(base);
                if id.is_empty() {
                    return Err(Diagnostic::error(span, "a secret needs an `id` or a `target`"));
                }
                let env = self.env.map(|env| env.node);
                let mode = number(&self.mode, 0o400);
                (read_only.unwrap_or(true), MountKind::Secret { id, env, required, mode, uid, gid })
            }
            "ssh" => {
                let id = id.unwrap_or_else(|| "default".to_owned());
                (
                    read_only.unwrap_or(true),
                    MountKind::Ssh { id, required, mode: number(&self.mode, 0o600), uid, gid },
                )
            }
            other => {
                return Err(Diagnostic::error(kind_span, format!("unknown mount type `{other}`"))
                    .with_hint("it is one of bind, cache, tmpfs, secret, ssh")
                    .with_nearest(other, ["bind", "cache", "tmpfs", "secret", "ssh"]));
            }
        };
        let needs_target =
            matches!(kind, MountKind::Bind { .. } | MountKind::Cache { .. } | MountKind::Tmpfs { .. });
        if needs_target && path.is_empty() {
            return Err(Diagnostic::error(span, "the mount has no target").with_hint("add target=PATH"));
        }
        Ok(Mount { target: path, read_only, kind, span, extra })
    }

    /// Keys that the type does not have.
    fn refuse_foreign(&self, kind: &str) -> Result<(), Diagnostic> {
        let checks: [(&str, &[&str], Option<Span>); 8] = [
            ("mode", &["cache", "secret", "ssh"], self.mode.as_ref().map(|value| value.span)),
            ("uid", &["cache", "secret", "ssh"], self.uid.as_ref().map(|value| value.span)),
            ("gid", &["cache", "secret", "ssh"], self.gid.as_ref().map(|value| value.span)),
            ("sharing", &["cache"], self.sharing.as_ref().map(|value| value.span)),
            ("size", &["tmpfs"], self.size.as_ref().map(|value| value.span)),
            ("env", &["secret"], self.env.as_ref().map(|value| value.span)),
            ("required", &["secret", "ssh"], self.required.as_ref().map(|value| value.span)),
            ("from", &["bind", "cache"], self.from.as_ref().map(|value| value.span)),
        ];
        let known = ["bind", "cache", "tmpfs", "secret", "ssh"].contains(&kind);
        for (key, kinds, span) in checks {
            if let Some(span) = span
                && known
                && !kinds.contains(&kind)
            {
                return Err(Diagnostic::error(span, format!("a {kind} mount has no option `{key}`")));
            }
        }
        Ok(())
    }
}

fn switch(value: Option<&str>) -> Option<bool> {
    match value {
        None => Some(true),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Some(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Some(false),
        Some(_) => None,
    }
}

/// `64m`, `1.5g`, `4096`: units of 1024.
fn parse_bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let shift = match unit.trim().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift);
    }
    // A fraction: three digits of it are enough for a size.
    let (whole, fraction) = number.split_once('.')?;
    let whole: u64 = whole.parse().ok()?;
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let padded: String = fraction.chars().chain("000".chars()).take(3).collect();
    let thousandths: u64 = padded.parse().ok()?;
    let unit = 1_u64 << shift;
    whole.checked_mul(unit)?.checked_add(unit / 1000 * thousandths + unit % 1000 * thousandths / 1000)
}
