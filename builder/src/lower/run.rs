//! RUN.

use super::state::State;
use super::{Error, Lowering, history};
use crate::diagnostic::Diagnostic;
use crate::graph::{Edge, ExecOp, FileTimes, MountKind, MountOp, Op, Script as ScriptFile, Vertex};
use crate::instruction::{Network, Run, Script, Security, Statement};
use crate::parse::Span;
use crate::ports::NetworkMode;
use std::sync::Arc;

/// Where scripts of here-documents stand while their step runs.
const SCRIPTS: &str = "/dev/pipes";

/// Bytes of one argument or variable of a command, its end included (`MAX_ARG_STRLEN`).
const MAX_STRING: usize = 128 << 10;

/// How much cheaper it is to hash an environment than to keep it.
const KEY_SHARE: usize = 32;

impl Lowering<'_> {
    pub(super) fn run(&mut self, state: &mut State, statement: &Statement, run: &Run) -> Result<(), Error> {
        let insecure = match &run.security {
            Some(security) if security.node == Security::Insecure => {
                self.need("security.insecure", "RUN --security=insecure", security.span)?;
                true
            }
            _ => false,
        };
        let mut devices = Vec::new();
        for word in &run.devices {
            let text = self.expand(state, word)?;
            devices.extend(self.device(&text, word.span)?);
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
            let is_agent = |mount: &&MountOp| matches!(mount.kind, MountKind::Ssh { .. });
            let agents = mounts.iter().filter(is_agent).count();
            mounts.push(self.mount(state, mount, &mut inputs, agents)?);
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
        // Each step's key is made of all of it.
        self.spend(env.iter().map(String::len).sum::<usize>() / KEY_SHARE, statement.span)?;
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
            insecure,
            devices,
            mounts,
            script: script_file,
            settings: self.options.step_settings.to_owned(),
            platform: state.platform.clone(),
            proxy: self.options.proxy.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            shell: state.shell().swap_remove(0),
            hostname,
            args,
            times: FileTimes::Kept,
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
        if env.iter().any(|entry| entry.len() >= MAX_STRING) {
            return Err(
                self.refuse(statement.span, "a variable is longer than the kernel takes for a command")
            );
        }
        self.spend(env.iter().map(|entry| entry.len() + size_of::<String>()).sum(), statement.span)?;
        let env = Arc::new(env);
        state.environment = Some(env.clone());
        Ok(env)
    }

    /// Fails unless the caller of the build allowed it.
    fn need(&self, entitlement: &str, what: &str, span: Span) -> Result<(), Error> {
        if self.options.allow.contains(entitlement) {
            return Ok(());
        }
        let error = Diagnostic::error(span, format!("{what} is not allowed"));
        Err(self.fail(error.with_hint(format!("build with --allow {entitlement}"))))
    }

    /// `NAME[,required]`: a device of the host by its path, or one that a vendor describes (CDI). One of the latter
    /// that is not required and that nobody describes here is left out.
    fn device(&self, text: &str, span: Span) -> Result<Option<String>, Error> {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default();
        let mut required = false;
        for part in parts {
            match part {
                "required" | "required=true" => required = true,
                "required=false" => required = false,
                _ => return Err(self.refuse(span, format!("a device has no option `{part}`"))),
            }
        }
        let is_known = match name.starts_with("/dev/") {
            true => true,
            false => (self.options.is_device)(name).map_err(|why| self.refuse(span, why))?,
        };
        if is_known {
            self.need("device", "RUN --device", span)?;
            return Ok(Some(name.to_owned()));
        }
        if required || !name.contains('/') {
            let error = Diagnostic::error(span, format!("the device `{name}` is not known"));
            return Err(self.fail(error.with_hint(
                "devices are given by path, like /dev/fuse, or as VENDOR/CLASS=NAME where a file in /etc/cdi or /var/run/cdi describes them",
            )));
        }
        Ok(None)
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
