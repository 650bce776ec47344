//! COPY and ADD.

use super::state::State;
use super::{Error, Lowering, history};
use crate::expand::Word;
use crate::graph::{CopyOp, CopySource, Edge, HttpOp, Op, Place, Vertex};
use crate::instruction::{Copy, CopySource as Source, Statement, parse_chmod};

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
        if let Some(flag) = &flags.keep_git_dir {
            return Err(self.refuse(flag.span, "ADD of git repositories is not supported"));
        }
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
        let checksum = match checksum {
            None => None,
            Some((value, span)) => {
                Some(value.parse::<oci::Digest>().map_err(|error| self.refuse(span, error.to_string()))?)
            }
        };
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

        let mut inputs = vec![Edge::whole(state.vertex)];
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
                            return Err(self.refuse(word.span, "ADD of git repositories is not supported"));
                        }
                        Some(Remote::Http) => {
                            if flags.unpack.as_ref().is_some_and(|flag| flag.node) {
                                let message = "ADD --unpack of a URL is not supported";
                                return Err(self.refuse(word.span, message));
                            }
                            downloads += 1;
                            let vertex = self.graph.add(Vertex {
                                op: Op::Http(HttpOp { url: path.clone(), checksum: checksum.clone() }),
                                inputs: Vec::new(),
                                no_cache: state.no_cache,
                                place: Place { step: 0, ..state.place(&format!("download {path}")) },
                            });
                            inputs.push(Edge::by_content(vertex));
                            let name = url_name(&path);
                            sources.push(CopySource::Download { input: inputs.len() - 1, name });
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
        if checksum.is_some() && downloads == 0 {
            let span = flags.checksum.as_ref().map_or(statement.span, |word| word.span);
            return Err(self.refuse(span, "--checksum is for downloads"));
        }
        text.push(' ');
        text.push_str(&destination);
        let op = CopyOp {
            add,
            sources,
            destination,
            chown,
            chmod,
            exclude,
            parents,
            unpack: flags.unpack.as_ref().map_or(add, |flag| flag.node),
        };
        state.step += 1;
        state.vertex = self.graph.add(Vertex {
            op: Op::Copy(Box::new(op)),
            inputs,
            no_cache: state.no_cache,
            place: state.place(&statement.text),
        });
        state.push(history::entry(&text, true, true));
        Ok(())
    }
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
    let scp = source
        .split_once(':')
        .is_some_and(|(host, path)| host.contains('@') && !host.contains('/') && !path.is_empty());
    let git = source.starts_with("git://")
        || source.starts_with("ssh://")
        || (scp && before_fragment.ends_with(".git"));
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
