//! COPY and ADD.

use super::state::State;
use super::{Error, Lowering, git, history};
use crate::expand::Word;
use crate::graph::{CopyOp, CopySource, Edge, FileTimes, GitOp, HttpOp, Op, Place, Vertex};
use crate::instruction::{Copy, CopySource as Source, Statement, parse_chmod};
use crate::parse::Span;

impl Lowering<'_> {
    pub(super) fn copy(
        &mut self,
        state: &mut State,
        statement: &Statement,
        copy: &Copy,
        add: bool,
    ) -> Result<(), Error> {
        let keyword = if add { "ADD" } else { "COPY" };
        let flags = &copy.flags;
        let optional = |this: &mut Self, word: &Option<Word>| match word {
            Some(word) => this.expand(state, word).map(|value| Some((value, word.span))),
            None => Ok(None),
        };
        let chown = optional(self, &flags.chown)?.map(|(value, _)| value);
        let chmod = optional(self, &flags.chmod)?;
        let checksum = optional(self, &flags.checksum)?;
        if let Some((value, span)) = &chmod {
            parse_chmod(value).map_err(|reason| self.refuse(*span, reason))?;
        }
        let chmod = chmod.map(|(value, _)| value);
        let mut exclude = Vec::new();
        for word in &flags.exclude {
            exclude.push(self.expand(state, word)?);
        }
        let parents = flags.parents.as_ref().is_some_and(|flag| flag.node);
        let link = flags.link.as_ref().is_some_and(|flag| flag.node);
        let written = self.expand(state, &copy.destination)?;
        if written.is_empty() {
            return Err(self.refuse(copy.destination.span, "empty destination"));
        }
        let destination = state.absolute(&written);
        self.spend(destination.len().saturating_sub(written.len()), copy.destination.span)?;

        // As in BuildKit: --chmod takes the meaning from --link. A name in --chown is looked up in what is below.
        let by_number = chown.as_deref().is_none_or(is_numeric);
        let own_layer = link && chmod.is_none() && by_number;
        let below = if own_layer { self.scratch() } else { state.vertex };
        let mut inputs = vec![Edge::whole(below)];
        let mut tree_input = None;
        let mut sources = Vec::new();
        let mut text = keyword.to_owned();
        if parents {
            text.push_str(" --parents");
        }
        for (name, value) in [("chown", &chown), ("chmod", &chmod)] {
            if let Some(value) = value {
                text.push_str(&format!(" --{name}={value}"));
            }
        }
        if link {
            text.push_str(" --link");
        }
        let mut downloads = 0;
        for source in &copy.sources {
            match source {
                Source::Heredoc(heredoc) => {
                    let content = if heredoc.expand {
                        let lookup = |name: &str| state.lookup(name);
                        let content =
                            heredoc.expand(&lookup).map_err(|diagnostic| self.fail(diagnostic))?.value;
                        self.spend_values(state, heredoc.span)?;
                        self.spend(content.len().saturating_sub(heredoc.content.len()), heredoc.span)?;
                        content
                    } else {
                        heredoc.content.clone()
                    };
                    text.push_str(&format!(" <<{}", heredoc.name));
                    sources.push(CopySource::Text { name: heredoc.name.clone(), content });
                }
                Source::Path(word) => {
                    let path = self.expand(state, word)?;
                    text.push(' ');
                    text.push_str(&path);
                    match remote(&path) {
                        Some(_) if !add => {
                            let message = format!("COPY of {path}: a URL needs ADD");
                            return Err(self.refuse(word.span, message));
                        }
                        Some(Remote::Git) => {
                            downloads += 1;
                            let keep = flags.keep_git_dir.as_ref().map(|flag| flag.node);
                            let op = self.git(&path, keep, checksum.as_ref(), word.span)?;
                            let vertex = self.download(state, &path, Op::Git(op));
                            inputs.push(Edge::by_content(vertex));
                            sources.push(CopySource::Path { input: inputs.len() - 1, path: "/".to_owned() });
                        }
                        Some(Remote::Http) => {
                            downloads += 1;
                            let checksum = match &checksum {
                                None => None,
                                Some((value, span)) => Some(
                                    value
                                        .parse::<oci::Digest>()
                                        .map_err(|error| self.refuse(*span, error.to_string()))?,
                                ),
                            };
                            let op = HttpOp { url: path.clone(), checksum };
                            let vertex = self.download(state, &path, Op::Http(op));
                            inputs.push(Edge::by_content(vertex));
                            let unpack = flags.unpack.as_ref().is_some_and(|flag| flag.node);
                            let name = url_name(&path);
                            sources.push(CopySource::Download { input: inputs.len() - 1, name, unpack });
                        }
                        None => {
                            let input = match tree_input {
                                Some(input) => input,
                                None => {
                                    let vertex = match &flags.from {
                                        Some(from) => self.source(state, &from.node, from.span)?,
                                        None => self.directory(None),
                                    };
                                    inputs.push(Edge::by_content(vertex));
                                    inputs.len() - 1
                                }
                            };
                            tree_input = Some(input);
                            sources.push(CopySource::Path { input, path });
                        }
                    }
                }
            }
        }
        if let Some((_, span)) = &checksum
            && downloads != 1
        {
            return Err(self.refuse(*span, "--checksum is for one download"));
        }
        text.push(' ');
        text.push_str(&destination);
        // Archives bring owners of their own, and what is downloaded has none.
        let keep_owners = tree_input.is_some_and(|input: usize| {
            !matches!(self.graph.vertex(inputs[input].from).op, Op::Directory(_))
        });
        let op = CopyOp {
            add,
            sources,
            destination,
            chown,
            chmod,
            exclude,
            parents,
            unpack: flags.unpack.as_ref().map_or(add, |flag| flag.node),
            keep_owners,
            times: FileTimes::Kept,
        };
        state.step += 1;
        let place = state.place(&statement.text);
        let made = self.graph.add(Vertex {
            op: Op::Copy(Box::new(op)),
            inputs,
            no_cache: state.no_cache,
            place: place.clone(),
        });
        state.vertex = if own_layer {
            // Not a step of its own for users.
            let place = Place { step: 0, ..place };
            let inputs = vec![Edge::whole(state.vertex), Edge::whole(made)];
            self.graph.add(Vertex { op: Op::Stack, inputs, no_cache: false, place })
        } else {
            made
        };
        state.push(history::entry(&text, true, true));
        Ok(())
    }

    /// A vertex for what comes from the network.
    fn download(&mut self, state: &State, shown: &str, op: Op) -> crate::graph::VertexId {
        let text = format!("download {}", git::without_password(shown));
        let place = Place { step: 0, ..state.place(&text) };
        self.graph.add(Vertex { op, inputs: Vec::new(), no_cache: state.no_cache, place })
    }

    fn git(
        &self,
        address: &str,
        keep_git_dir: Option<bool>,
        checksum: Option<&(String, Span)>,
        span: Span,
    ) -> Result<GitOp, Error> {
        let mut found = git::parse(address).map_err(|reason| self.refuse(span, reason))?;
        if let Some((value, span)) = checksum {
            if !git::is_commit_prefix(value) {
                let message = format!("`{value}` is no commit: it is 7 to 64 hexadecimal digits");
                return Err(self.refuse(*span, message));
            }
            if found.checksum.as_ref().is_some_and(|other| other != value) {
                return Err(self.refuse(*span, "the address asks for another commit"));
            }
            found.checksum = Some(value.clone());
        }
        if let Some(keep) = keep_git_dir {
            found.source.keep_git_dir = keep;
        }
        Ok(found)
    }
}

fn is_numeric(owner: &str) -> bool {
    owner.split(':').all(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
}

enum Remote {
    Http,
    Git,
}

/// What a source is that is no path.
fn remote(source: &str) -> Option<Remote> {
    let http = source.starts_with("http://") || source.starts_with("https://");
    let before_fragment = source.split(['#', '?']).next().unwrap_or(source);
    if http {
        return Some(if before_fragment.ends_with(".git") { Remote::Git } else { Remote::Http });
    }
    let plain =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let scp = source.split_once(':').is_some_and(|(login, path)| {
        login.split_once('@').is_some_and(|(user, host)| plain(user) && plain(host)) && !path.is_empty()
    });
    let git = source.starts_with("git://") || source.starts_with("ssh://") || scp;
    git.then_some(Remote::Git)
}

/// The name of a downloaded file: the last part of the URL's path.
fn url_name(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let name = path.split_once('/').map_or("", |(_, path)| path).rsplit('/').next().unwrap_or("");
    // What `BuildKit` calls a file whose URL says nothing.
    if name.is_empty() { "__unnamed__".to_owned() } else { name.to_owned() }
}
