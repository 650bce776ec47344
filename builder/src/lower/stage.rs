//! One stage: its base, its instructions in order, the state they leave.

use super::state::State;
use super::variables::{Arguments, Environment};
use super::{Error, Lowering, history};
use crate::diagnostic::{Diagnostic, Report};
use crate::expand::Word;
use crate::graph::{DirectoryOp, Edge, FileTimes, ImageOp, Op, Place, Vertex, VertexId, WorkdirOp};
use crate::instruction::{Arg, Command, Healthcheck, Instruction, Statement, parse_ports};
use crate::parse::{Span, parse_trigger};
use crate::ports::ResolvedImage;
use crate::stages::Base;
use oci::{Empty, History, ImageConfig, Platform};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Levels of stages that are asked for by triggers of images that other stages are based on.
const MAX_DEPTH: usize = 32;

/// What a trigger costs besides its text: the vertex that it becomes.
const TRIGGER: usize = 512;

impl Lowering<'_> {
    /// The result of a stage; lowers what it needs, and it, if that was not done yet.
    pub(super) fn stage(&mut self, index: usize, span: Span) -> Result<VertexId, Error> {
        // Only what triggers ask for comes here from within a stage: the rest was lowered before it.
        if self.depth > MAX_DEPTH {
            let message = format!("triggers ask for stages more than {MAX_DEPTH} levels deep");
            return Err(self.refuse(span, message));
        }
        self.depth += 1;
        for needed in self.missing(index) {
            self.lower_stage(needed)?;
        }
        self.depth -= 1;
        match self.vertices.get(&index) {
            Some(vertex) => Ok(*vertex),
            None => Err(self.refuse(span, format!("stage {index} needs itself"))),
        }
    }

    /// The stage and those that it needs, without those that are lowered, in an order in which that is possible.
    fn missing(&self, index: usize) -> BTreeSet<usize> {
        let mut missing = BTreeSet::new();
        let mut open = vec![index];
        while let Some(next) = open.pop() {
            if !self.vertices.contains_key(&next) && missing.insert(next) {
                open.extend(&self.plan.stages[next].dependencies);
            }
        }
        missing
    }

    fn lower_stage(&mut self, index: usize) -> Result<(), Error> {
        if self.vertices.contains_key(&index) {
            return Ok(());
        }
        let file = self.file;
        let stage = &file.stages[index];
        let mut state = self.base(index)?;
        let options = self.options.image;
        state.env.apply(&options.env, &options.unset_env);
        state.environment = None;
        if options.drop_base_labels && !matches!(self.plan.stages[index].base, Base::Stage(_)) {
            state.config.config.labels.clear();
        }
        let triggers = std::mem::take(&mut state.config.config.on_build);
        let mut statements: Vec<Statement> = Vec::new();
        for text in &triggers {
            self.spend(text.len() + TRIGGER, stage.span)?;
            statements.push(parse_trigger("ONBUILD of the base image", text)?);
        }
        let makes_layer = |statement: &&Statement| {
            matches!(
                statement.node,
                Instruction::Run(_) | Instruction::Copy(_) | Instruction::Add(_) | Instruction::Workdir(_)
            )
        };
        // As BuildKit and buildah: an image always has a PATH.
        if !state.env.contains("PATH") {
            state.env.set("PATH", crate::ops::exec::DEFAULT_PATH);
        }
        state.steps = 1
            + statements.iter().filter(makes_layer).count()
            + stage.instructions.iter().filter(makes_layer).count();
        state.step = 1;
        self.name_base(&state, stage.text.as_str());
        for statement in &statements {
            // Places in a trigger are not places in the file: what is wrong is shown at FROM.
            let moved = at_span(statement, stage.span);
            self.instruction(&mut state, &moved)?;
        }
        for statement in &stage.instructions {
            self.instruction(&mut state, statement)?;
        }
        self.vertices.insert(index, state.vertex);
        if self.users[index] > 0 {
            self.states.insert(index, state);
        }
        Ok(())
    }

    /// What a stage is that another one is built on: itself for the last such one, else a copy.
    fn inherit(&mut self, index: usize, span: Span) -> Result<State, Error> {
        self.users[index] = self.users[index].saturating_sub(1);
        if self.users[index] == 0
            && let Some(state) = self.states.remove(&index)
        {
            return Ok(state);
        }
        let Some(state) = self.states.get(&index).cloned() else {
            return Err(self.refuse(span, format!("stage {index} is not there")));
        };
        self.spend(state.size(), span)?;
        Ok(state)
    }

    /// Gives the base's vertex its place in the stage that uses it first.
    fn name_base(&mut self, state: &State, text: &str) {
        let line = self.file.source.line(self.file.stages[state.index].span.start);
        let place = Place { line, ..state.place(text) };
        let vertex = self.graph.vertex_mut(state.vertex);
        if matches!(vertex.op, Op::Image(_)) && vertex.place.step == 0 {
            vertex.place = place;
        }
    }

    fn base(&mut self, index: usize) -> Result<State, Error> {
        let file = self.file;
        let stage = &file.stages[index];
        let planned = &self.plan.stages[index];
        let platform = match &planned.platform {
            None => self.options.platform.clone(),
            Some(text) => text.parse::<Platform>().map_err(|error| {
                let span = stage.platform.as_ref().map_or(stage.span, |word| word.span);
                self.refuse(span, error.to_string())
            })?,
        };
        let label = stage.label();
        let no_cache = self.options.no_cache
            || self
                .options
                .no_cache_filter
                .iter()
                .any(|name| name.eq_ignore_ascii_case(&label) || name.parse() == Ok(index));
        let line = self.file.source.line(stage.span.start);
        let fresh = |vertex, base_layers, mut config: ImageConfig, history: Vec<History>| State {
            vertex,
            base_layers,
            env: Environment::new(std::mem::take(&mut config.config.env)),
            config,
            history: history.into_iter().map(Arc::new).collect(),
            args: Arguments::default(),
            environment: None,
            looked_up: Cell::new(0),
            cmd_set: false,
            platform: platform.clone(),
            no_cache,
            label: label.clone(),
            index,
            step: 0,
            steps: 0,
            line,
        };
        match &planned.base {
            Base::Scratch => {
                let vertex = self.scratch();
                Ok(fresh(vertex, 0, ImageConfig::new(&platform), Vec::new()))
            }
            Base::Stage(number) => {
                // What is inherited besides files: config, history, and the ARGs.
                let mut state = self.inherit(*number, stage.base.span)?;
                if planned.platform.is_some() {
                    state.platform = platform;
                }
                Ok(State { cmd_set: false, no_cache, label, index, line, ..state })
            }
            Base::Context(name) => match self.options.contexts.get(name) {
                Some(crate::build::NamedContext::Image(reference)) => {
                    let image = self.image(reference, &platform, stage.span)?;
                    let vertex = self.image_vertex(&image);
                    let (config, history) = split_config(&image.config);
                    Ok(fresh(vertex, image.chain.len(), config, history))
                }
                Some(crate::build::NamedContext::Directory(_)) => {
                    let source = self.directory(Some(name.clone()));
                    let scratch = self.scratch();
                    let op = crate::graph::CopyOp {
                        add: false,
                        sources: vec![crate::graph::CopySource::Path { input: 1, path: "/".to_owned() }],
                        destination: "/".to_owned(),
                        chown: None,
                        chmod: None,
                        exclude: Vec::new(),
                        parents: false,
                        unpack: false,
                        keep_owners: false,
                        times: FileTimes::Kept,
                    };
                    let vertex = self.graph.add(Vertex {
                        op: Op::Copy(Box::new(op)),
                        inputs: vec![Edge::whole(scratch), Edge::by_content(source)],
                        no_cache,
                        place: Place {
                            text: stage.text.clone(),
                            stage: label.clone(),
                            step: 1,
                            steps: 1,
                            line,
                        },
                    });
                    let history = vec![history::entry(&format!("FROM {name}"), true, true)];
                    Ok(fresh(vertex, 0, ImageConfig::new(&platform), history))
                }
                None => Err(self.refuse(stage.span, format!("no build context {name:?}"))),
            },
            Base::Image(reference) => {
                let image = self.image(reference, &platform, stage.base.span)?;
                let vertex = self.image_vertex(&image);
                let (config, history) = split_config(&image.config);
                Ok(fresh(vertex, image.chain.len(), config, history))
            }
        }
    }

    pub(super) fn image(
        &self,
        reference: &str,
        platform: &Platform,
        span: Span,
    ) -> Result<Arc<ResolvedImage>, Error> {
        (self.images)(reference, platform).map_err(|source| {
            // A name that is almost a stage's is more often a slip of the pen than an image.
            let stages = self.file.stages.iter().filter_map(|stage| stage.name.as_ref());
            let diagnostic = Diagnostic::error(span, format!("resolve image {reference}"))
                .with_nearest(reference, stages.map(|name| name.node.as_str()));
            Error::Image {
                reference: reference.to_owned(),
                place: Report::new(self.file.source.clone(), vec![diagnostic]),
                source,
            }
        })
    }

    pub(super) fn scratch(&mut self) -> VertexId {
        self.root(Vec::new(), Op::Scratch)
    }

    pub(super) fn image_vertex(&mut self, image: &ResolvedImage) -> VertexId {
        if image.chain.is_empty() {
            return self.scratch();
        }
        let op = ImageOp {
            name: image.name.clone(),
            digest: Some(image.digest.clone()),
            chain: image.chain.clone(),
        };
        self.root(image.chain.clone(), Op::Image(op))
    }

    fn root(&mut self, chain: Vec<oci::ChainId>, op: Op) -> VertexId {
        if let Some(vertex) = self.roots.get(&chain) {
            return *vertex;
        }
        let vertex =
            self.graph.add(Vertex { op, inputs: Vec::new(), no_cache: false, place: Place::default() });
        self.roots.insert(chain, vertex);
        vertex
    }

    pub(super) fn directory(&mut self, name: Option<String>) -> VertexId {
        if let Some(vertex) = self.directories.get(&name) {
            return *vertex;
        }
        let vertex = self.graph.add(Vertex {
            op: Op::Directory(DirectoryOp { name: name.clone() }),
            inputs: Vec::new(),
            no_cache: false,
            place: Place::default(),
        });
        self.directories.insert(name, vertex);
        vertex
    }

    /// Expands a word with what the stage knows now.
    pub(super) fn expand(&mut self, state: &State, word: &Word) -> Result<String, Error> {
        let lookup = |name: &str| state.lookup(name);
        let value = word.expand(&lookup).map_err(|diagnostic| self.fail(diagnostic))?;
        self.spend_values(state, word.span)?;
        self.spend(value.len().saturating_sub(word.raw.len()), word.span)?;
        Ok(value)
    }

    /// Counts the values that were looked up since the last time.
    pub(super) fn spend_values(&mut self, state: &State, span: Span) -> Result<(), Error> {
        self.spend(state.looked_up.take(), span)
    }

    fn instruction(&mut self, state: &mut State, statement: &Statement) -> Result<(), Error> {
        state.line = self.file.source.line(statement.span.start);
        match &statement.node {
            Instruction::Add(copy) => self.copy(state, statement, copy, true),
            Instruction::Copy(copy) => self.copy(state, statement, copy, false),
            Instruction::Run(run) => self.run(state, statement, run),
            Instruction::Arg(arg) => self.arg(state, arg),
            Instruction::Env(pairs) => {
                let pairs = self.pairs(state, &pairs.pairs)?;
                state.environment = None;
                for (name, value) in &pairs {
                    state.env.set(name, value);
                }
                state.note(&joined("ENV", &pairs));
                Ok(())
            }
            Instruction::Label(pairs) => {
                let pairs = self.pairs(state, &pairs.pairs)?;
                state.note(&joined("LABEL", &pairs));
                state.config.config.labels.extend(pairs);
                Ok(())
            }
            Instruction::Workdir(word) => self.workdir(state, statement, word),
            Instruction::User(word) => {
                let user = self.expand(state, word)?;
                state.note(&format!("USER {user}"));
                state.config.config.user = user;
                Ok(())
            }
            Instruction::Cmd(command) => {
                let argv = command_line(state, command);
                state.note(&format!("CMD {}", history::quoted_list(&argv)));
                state.config.config.cmd = (!argv.is_empty()).then_some(argv);
                state.config.config.args_escaped = true;
                state.cmd_set = true;
                Ok(())
            }
            Instruction::Entrypoint(command) => {
                let argv = command_line(state, command);
                state.note(&format!("ENTRYPOINT {}", history::quoted_list(&argv)));
                state.config.config.entrypoint = (!argv.is_empty()).then_some(argv);
                if !state.cmd_set {
                    state.config.config.cmd = None;
                }
                Ok(())
            }
            Instruction::Shell(words) => {
                let shell: Vec<String> = words.iter().map(|word| word.node.clone()).collect();
                state.note(&format!("SHELL {}", history::plain_list(&shell)));
                state.config.config.shell = Some(shell);
                Ok(())
            }
            Instruction::Expose(words) => self.expose(state, words),
            Instruction::Volume(words) => {
                let mut volumes = Vec::new();
                for word in words {
                    let volume = self.expand(state, word)?;
                    if volume.is_empty() {
                        return Err(self.refuse(word.span, "VOLUME with an empty path"));
                    }
                    volumes.push(volume);
                }
                state.note(&format!("VOLUME {}", history::plain_list(&volumes)));
                state.config.config.volumes.extend(volumes.into_iter().map(|volume| (volume, Empty {})));
                Ok(())
            }
            Instruction::Stopsignal(word) => {
                let signal = self.expand(state, word)?;
                if !is_signal(&signal) {
                    return Err(self.refuse(word.span, format!("unknown signal {signal:?}")));
                }
                state.note(&format!("STOPSIGNAL {signal}"));
                state.config.config.stop_signal = Some(signal);
                Ok(())
            }
            Instruction::Healthcheck(check) => {
                healthcheck(state, check);
                Ok(())
            }
            Instruction::Maintainer(author) => {
                state.config.author = Some(author.node.clone());
                state.note(&format!("MAINTAINER {}", author.node));
                Ok(())
            }
            Instruction::Onbuild(onbuild) => {
                state.config.config.on_build.push(onbuild.text.clone());
                Ok(())
            }
        }
    }

    fn pairs(&mut self, state: &State, pairs: &[(Word, Word)]) -> Result<Vec<(String, String)>, Error> {
        let mut expanded = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            let name = self.expand(state, key)?;
            if name.is_empty() {
                return Err(self.refuse(key.span, "empty name"));
            }
            expanded.push((name, self.expand(state, value)?));
        }
        Ok(expanded)
    }

    fn arg(&mut self, state: &mut State, arg: &Arg) -> Result<(), Error> {
        let mut declared = Vec::new();
        for name in &arg.names {
            let key = self.expand(state, &name.name)?;
            let value = if let Some(value) = self.options.build_args.get(&key) {
                self.used_args.insert(key.clone());
                Some(value.clone())
            } else if let Some(default) = &name.default {
                Some(self.expand(state, default)?)
            } else {
                let global = self.plan.global_args.get(&key).or_else(|| self.options.platform_args.get(&key));
                let proxy =
                    || self.options.proxy.iter().find(|(name, _)| *name == key).map(|(_, value)| value);
                global.or_else(proxy).cloned()
            };
            declared.push(value.as_ref().map_or_else(|| key.clone(), |value| format!("{key}={value}")));
            state.args.set(key, value);
        }
        state.environment = None;
        state.note(&format!("ARG {}", declared.join(" ")));
        Ok(())
    }

    fn workdir(&mut self, state: &mut State, statement: &Statement, word: &Word) -> Result<(), Error> {
        let text = self.expand(state, word)?;
        if text.is_empty() {
            return Err(self.refuse(word.span, "WORKDIR with an empty path"));
        }
        let absolute = state.absolute(&text);
        let path = if absolute == "/" { absolute } else { absolute.trim_end_matches('/').to_owned() };
        let path = if path.is_empty() { "/".to_owned() } else { path };
        self.spend(path.len() + state.config.config.user.len(), word.span)?;
        state.step += 1;
        state.config.config.working_dir.clone_from(&path);
        let layer = path != "/";
        if layer {
            let op = WorkdirOp {
                path: path.clone(),
                user: state.config.config.user.clone(),
                times: FileTimes::Kept,
            };
            state.vertex = self.graph.add(Vertex {
                op: Op::Workdir(op),
                inputs: vec![Edge::whole(state.vertex)],
                no_cache: state.no_cache,
                place: state.place(&statement.text),
            });
        }
        state.push(history::entry(&format!("WORKDIR {path}"), layer, false));
        Ok(())
    }

    fn expose(&mut self, state: &mut State, words: &[Word]) -> Result<(), Error> {
        let mut ports = Vec::new();
        for word in words {
            let lookup = |name: &str| state.lookup(name);
            let expanded = word.expand_words(&lookup).map_err(|diagnostic| self.fail(diagnostic))?;
            self.spend_values(state, word.span)?;
            for text in expanded {
                let before = ports.len();
                ports.extend(parse_ports(&text).map_err(|reason| self.refuse(word.span, reason))?);
                self.spend(32 * (ports.len() - before).saturating_sub(1), word.span)?;
            }
        }
        state.note(&format!("EXPOSE {}", history::plain_list(&ports)));
        state.config.config.exposed_ports.extend(ports.into_iter().map(|port| (port, Empty {})));
        Ok(())
    }

    /// What `--from` and `from=` name: a named context, a stage above, or an image.
    pub(super) fn source(&mut self, state: &State, name: &str, span: Span) -> Result<VertexId, Error> {
        match self.options.contexts.get(name) {
            Some(crate::build::NamedContext::Directory(_)) => {
                return Ok(self.directory(Some(name.to_owned())));
            }
            Some(crate::build::NamedContext::Image(reference)) => {
                let image = self.image(reference, &state.platform, span)?;
                return Ok(self.image_vertex(&image));
            }
            None => {}
        }
        if let Some(index) = self.file.stage_above(name, state.index) {
            return self.stage(index, span);
        }
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self.fail(
                Diagnostic::error(span, format!("no stage {name} above this one"))
                    .with_label(format!("this is stage {}", state.index)),
            ));
        }
        if name.eq_ignore_ascii_case("scratch") {
            return Ok(self.scratch());
        }
        let image = self.image(name, &state.platform, span)?;
        Ok(self.image_vertex(&image))
    }
}

/// The config that a stage starts with, and the history of its layers.
fn split_config(config: &ImageConfig) -> (ImageConfig, Vec<History>) {
    let mut config = config.clone();
    let history = std::mem::take(&mut config.history);
    config.rootfs = oci::RootFs::default();
    config.created = None;
    // What a builder of old noted about its last container says nothing about this image.
    for key in ["container", "container_config", "docker_version", "id", "parent"] {
        config.unknown.remove(key);
    }
    (config, history)
}

fn joined(keyword: &str, pairs: &[(String, String)]) -> String {
    let mut text = keyword.to_owned();
    for (key, value) in pairs {
        text.push(' ');
        text.push_str(key);
        text.push('=');
        text.push_str(value);
    }
    text
}

fn command_line(state: &State, command: &Command) -> Vec<String> {
    match command {
        Command::Exec(words) => words.iter().map(|word| word.node.clone()).collect(),
        Command::Shell(text) => {
            let mut argv = state.shell();
            argv.push(text.node.clone());
            argv
        }
    }
}

fn healthcheck(state: &mut State, check: &Healthcheck) {
    let nanos = |value: &Option<std::time::Duration>| {
        value.map_or(0, |value| i64::try_from(value.as_nanos()).unwrap_or(i64::MAX))
    };
    let config = match check {
        Healthcheck::None => oci::Healthcheck { test: vec!["NONE".to_owned()], ..Default::default() },
        Healthcheck::Test { command, interval, timeout, start_period, start_interval, retries } => {
            let test = match command {
                Command::Exec(words) => std::iter::once("CMD".to_owned())
                    .chain(words.iter().map(|word| word.node.clone()))
                    .collect(),
                Command::Shell(text) => vec!["CMD-SHELL".to_owned(), text.node.clone()],
            };
            oci::Healthcheck {
                test,
                interval: nanos(interval),
                timeout: nanos(timeout),
                start_period: nanos(start_period),
                start_interval: nanos(start_interval),
                retries: i64::from(retries.unwrap_or(0)),
                ..Default::default()
            }
        }
    };
    let quoted = |nanos: i64| {
        let value = std::time::Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
        format!("\"{}\"", history::duration(value))
    };
    // Go prints the number of retries as a character.
    let retries = u32::try_from(config.retries).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
    let retries = match retries {
        '\'' => "\\'".to_owned(),
        c => history::quoted(&c.to_string()).trim_matches('"').to_owned(),
    };
    state.note(&format!(
        "HEALTHCHECK &{{{} {} {} {} {} '{retries}'}}",
        history::quoted_list(&config.test),
        quoted(config.interval),
        quoted(config.timeout),
        quoted(config.start_period),
        quoted(config.start_interval),
    ));
    state.config.config.healthcheck = Some(config);
}

/// A statement out of a trigger, with all of it at one place of the file.
fn at_span(statement: &Statement, span: Span) -> Statement {
    Statement { node: statement.node.clone(), span, text: statement.text.clone() }
}

/// Whether the text is a signal's number or name, with or without SIG.
fn is_signal(text: &str) -> bool {
    const NAMES: &str = " HUP INT QUIT ILL TRAP ABRT IOT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CLD \
                         CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO POLL PWR SYS UNUSED RTMIN RTMAX ";
    if let Ok(number) = text.parse::<u32>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN+").or_else(|| name.strip_prefix("RTMAX-")) {
        return offset.parse::<u32>().is_ok_and(|offset| offset <= 30);
    }
    !name.is_empty() && !name.contains(' ') && NAMES.contains(&format!(" {name} "))
}
