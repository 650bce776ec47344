//! `search`: repositories and tags of registries.

use super::{Images, RegistryOptions};
use crate::filters::{Filters, parse_bool};
use crate::{Error, Result};
use registry::{Client, Reference};

/// How many repositories or tags are listed where nothing is said.
const USUAL: usize = 25;
/// How many at most.
const MOST: usize = 100_000;

/// Look for images.
#[derive(Debug, Clone, Default)]
pub struct SearchRequest {
    /// `[REGISTRY/]TERM`; a repository for `list_tags`.
    pub term: String,
    /// `stars=N`, `is-official=BOOL`, `is-automated=BOOL`.
    pub filters: Vec<String>,
    /// At most so many from each registry; 0 = 25.
    pub limit: usize,
    /// The tags of a repository instead.
    pub list_tags: bool,
    /// How registries are reached.
    pub registry: RegistryOptions,
}

/// A repository, or with `list_tags` one of its tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchHit {
    /// The registry.
    pub index: String,
    /// The name with the registry.
    pub name: String,
    /// What it is.
    pub description: String,
    /// How many like it.
    pub stars: u64,
    /// Whether the registry's own people look after it.
    pub official: bool,
    /// Whether it is built by a machine.
    pub automated: bool,
    /// The tag.
    pub tag: String,
}

impl Images<'_> {
    /// Looks for repositories in the registry that the term names, else in all that are searched; gives what was found, and
    /// the registries that could not be asked.
    pub fn search(&self, request: &SearchRequest) -> Result<(Vec<SearchHit>, Vec<Error>)> {
        let filters =
            Filters::parse("searches", &request.filters, &["stars", "is-official", "is-automated"])?;
        let limit = if request.limit == 0 { USUAL } else { request.limit.min(MOST) };
        let client = self.engine.client(&request.registry)?;
        if request.list_tags {
            return Ok((self.tags_of(&client, request, limit)?, Vec::new()));
        }
        let (registries, term) = match request.term.split_once('/') {
            Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => {
                (vec![first.to_owned()], rest)
            }
            _ => (self.engine.registries()?.search_registries().to_vec(), request.term.as_str()),
        };
        if registries.is_empty() {
            return Err(Error::invalid(
                format!("search {}", request.term),
                "no registry is searched: name one, REGISTRY/TERM, or give unqualified-search-registries in registries.conf",
            ));
        }
        let (mut hits, mut errors) = (Vec::new(), Vec::new());
        for registry in &registries {
            match client.search(registry, term, limit) {
                Ok(found) => hits.extend(found.into_iter().map(|found| SearchHit {
                    index: registry.clone(),
                    name: format!("{registry}/{}", in_registry(registry, &found.name)),
                    description: found.description,
                    stars: found.stars,
                    official: found.official,
                    automated: found.automated,
                    tag: String::new(),
                })),
                Err(error) => {
                    errors.push(crate::error::registry(format!("search {registry}"))(error));
                }
            }
        }
        if hits.is_empty() && errors.len() == registries.len() {
            return Err(errors.swap_remove(0));
        }
        for (key, wanted) in [("is-official", true), ("is-automated", false)] {
            for text in filters.values(key) {
                let value = parse_bool(key, text)?;
                hits.retain(|hit| value == if wanted { hit.official } else { hit.automated });
            }
        }
        for text in filters.values("stars") {
            let least: u64 = text
                .parse()
                .map_err(|_| Error::invalid(format!("filter stars={text}"), "expected a number"))?;
            hits.retain(|hit| hit.stars >= least);
        }
        Ok((hits, errors))
    }

    fn tags_of(&self, client: &Client, request: &SearchRequest, limit: usize) -> Result<Vec<SearchHit>> {
        let text = request.term.strip_prefix("docker://").unwrap_or(&request.term);
        let failed = || crate::error::registry(format!("list the tags of {text}"));
        let reference = Reference::parse_docker(text).map_err(failed())?;
        if reference.tag().is_some() || reference.digest().is_some() {
            return Err(Error::invalid(format!("search {text}"), "a repository is named without a tag"));
        }
        let tags = client.tags(&reference).map_err(failed())?;
        let hit = |tag: String| SearchHit {
            index: reference.registry().to_owned(),
            name: reference.name(),
            description: String::new(),
            stars: 0,
            official: false,
            automated: false,
            tag,
        };
        Ok(tags.into_iter().take(limit).map(hit).collect())
    }
}

/// The name of a repository as it is pulled: the hub's own have a part that its search leaves out.
fn in_registry(registry: &str, name: &str) -> String {
    match registry {
        "docker.io" if !name.contains('/') => format!("library/{name}"),
        _ => name.to_owned(),
    }
}
