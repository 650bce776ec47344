//! RUN.

use super::state::State;
use super::{Error, Lowering, history};
use crate::graph::{Edge, ExecOp, MountKind as Kind, MountOp, Op, Script as ScriptFile, Sharing, Vertex};
use crate::instruction::{CacheSharing, Mount, MountKind, Network, Run, Script, Security, Statement};
use crate::ports::NetworkMode;
use std::sync::Arc;

/// Where scripts of here-documents stand while their step runs.
const SCRIPTS: &str = "/dev/pipes";

impl Lowering<'_> {
    pub(super) fn run(&mut self, state: &mut State, statement: &Statement, run: &Run) -> Result<(), Error> {
        if let Some(device) = run.devices.first() {
            return Err(self.refuse(device.span, "RUN --device is not supported"));
        }
        if let Some(security) = &run.security
            && security.node == Security::Insecure
        {
            return Err(self.refuse(security.span, "RUN --security=insecure is not allowed"));
        }
        let mut script_file = None;
        let argv = match run.script() {
            Script::Exec(argv) => argv,
            Script::Shell(text) => {
                let mut argv = state.shell();
                argv.push(text);
                argv
            }
            Script::File { name, content } => {
                let path = format!("{SCRIPTS}/{name}");
                script_file = Some(ScriptFile { path: path.clone(), content });
                vec![path]
            }
        };
        let mut inputs = vec![Edge::whole(state.vertex)];
        let mut mounts = Vec::new();
        for flag in &run.mounts {
            let lookup = |name: &str| state.lookup(name);
            let mount = flag.evaluate(&lookup).map_err(|diagnostic| self.fail(diagnostic))?;
            self.spend_values(state, mount.span)?;
            // Labels of SELinux mean nothing where there is none; the others would be missed.
            let label = |option: &str| matches!(option, "z") || option.starts_with("relabel=");
            if let Some(extra) = mount.extra.iter().find(|extra| !label(&extra.node)) {
                return Err(
                    self.refuse(extra.span, format!("the mount option `{}` is not supported", extra.node))
                );
            }
            mounts.push(self.mount(state, mount, &mut inputs)?);
        }
        let network = match run.network.as_ref().map(|network| network.node) {
            None => self.options.network,
            Some(Network::Default) => self.options.network,
            Some(Network::None) => NetworkMode::None,
            Some(Network::Host) => NetworkMode::Host,
        };
        let set = state.env.entries().len();
        let env = self.environment(state, statement)?;
        let args = env[set..].iter().filter_map(|entry| entry.split('=').next()).map(str::to_owned).collect();
        let inherited = state.config.config.user.len()
            + state.workdir().len()
            + state.shell().iter().map(String::len).sum::<usize>();
        self.spend(inherited, statement.span)?;
        let hostname = self.options.build_args.get("BUILDKIT_SANDBOX_HOSTNAME").cloned();
        let text = history_text(state, &argv);
        self.spend(text.len().saturating_sub(argv.iter().map(String::len).sum()), statement.span)?;
        let op = ExecOp {
            argv,
            env,
            cwd: state.workdir().to_owned(),
            user: state.config.config.user.clone(),
            network,
            insecure: false,
            mounts,
            script: script_file,
            settings: self.options.step_settings.to_owned(),
            platform: state.platform.clone(),
            proxy: self.options.proxy.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            shell: state.shell().swap_remove(0),
            hostname,
            args,
        };
        state.step += 1;
        state.vertex = self.graph.add(Vertex {
            op: Op::Exec(Box::new(op)),
            inputs,
            no_cache: state.no_cache,
            place: state.place(&statement.text),
        });
        state.push(history::entry(&text, true, true));
        Ok(())
    }

    /// What a step sees: ENV, and the ARGs that it does not hide.
    fn environment(&mut self, state: &mut State, statement: &Statement) -> Result<Arc<Vec<String>>, Error> {
        if let Some(known) = &state.environment {
            return Ok(known.clone());
        }
        let mut env = state.env.entries().to_vec();
        for (name, value) in state.args.iter() {
            if let Some(value) = value
                && !state.env.contains(name)
            {
                env.push(format!("{name}={value}"));
            }
        }
        self.spend(env.iter().map(|entry| entry.len() + size_of::<String>()).sum(), statement.span)?;
        let env = Arc::new(env);
        state.environment = Some(env.clone());
        Ok(env)
    }

    fn mount(&mut self, state: &State, mount: Mount, inputs: &mut Vec<Edge>) -> Result<MountOp, Error> {
        let span = mount.span;
        let mut target = mount.target;
        let kind = match mount.kind {
            MountKind::Bind { from, source } => {
                let vertex = match from {
                    Some(from) => self.source(state, &from.node, from.span)?,
                    None => self.directory(None),
                };
                inputs.push(Edge::by_content(vertex));
                Kind::Bind { input: inputs.len() - 1, source }
            }
            MountKind::Cache { from: Some(from), .. } => {
                return Err(self.refuse(from.span, "RUN --mount=type=cache with from= is not supported"));
            }
            MountKind::Cache { id, sharing, mode, uid, gid, .. } => {
                let namespace = self.options.build_args.get("BUILDKIT_CACHE_MOUNT_NS");
                let name = id.unwrap_or_else(|| state.absolute(&target));
                let id = match namespace {
                    Some(namespace) => format!("{namespace}/{name}"),
                    None => name,
                };
                let sharing = match sharing {
                    CacheSharing::Shared => Sharing::Shared,
                    CacheSharing::Locked => Sharing::Locked,
                    CacheSharing::Private => Sharing::Private,
                };
                Kind::Cache { id, sharing, mode, uid, gid }
            }
            MountKind::Tmpfs { size } => Kind::Tmpfs { size },
            MountKind::Secret { id, env, required, mode, uid, gid } => {
                let file = env.is_none() || !target.is_empty();
                if target.is_empty() {
                    target = format!("/run/secrets/{id}");
                }
                Kind::Secret { id, file, env, required, mode, uid, gid }
            }
            MountKind::Ssh { .. } => {
                return Err(self.refuse(span, "RUN --mount=type=ssh is not supported"));
            }
        };
        let absolute = state.absolute(&target);
        self.spend(absolute.len().saturating_sub(target.len()), span)?;
        let target = if absolute.len() > 1 { absolute.trim_end_matches('/').to_owned() } else { absolute };
        if target == "/" {
            return Err(self.refuse(span, "a mount at / would hide the image"));
        }
        Ok(MountOp { target, read_only: mount.read_only, kind })
    }
}

/// The command with the ARGs in scope before it.
fn history_text(state: &State, argv: &[String]) -> String {
    let mut words = Vec::new();
    if state.args.len() > 0 {
        words.push(format!("|{}", state.args.len()));
        for (name, value) in state.args.iter() {
            let value = state.env.get(name).or(value).unwrap_or_default();
            words.push(format!("{name}={value}"));
        }
    }
    words.extend(argv.iter().cloned());
    format!("RUN {}", words.join(" "))
}
