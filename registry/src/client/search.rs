//! Looking for repositories in a registry: by its own search where it has one, else through its catalogue.

use super::Target;
use super::connection::{Payload, Request};
use super::retry::with_retry;
use crate::{Error, Result};
use serde::Deserialize;
use ureq::http::Method;

/// Most bytes of one answer.
const MAX_ANSWER: u64 = 16 << 20;
/// Most pages of a catalogue that are read.
const MAX_PAGES: usize = 1000;
/// Names asked for at a time.
const PAGE: &str = "1000";

/// A repository that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundRepository {
    /// Its name without the registry.
    pub name: String,
    /// What it is, in its owner's words.
    pub description: String,
    /// How many like it.
    pub stars: u64,
    /// Whether the registry's own people look after it.
    pub official: bool,
    /// Whether it is built by a machine.
    pub automated: bool,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    results: Vec<Hit>,
}

#[derive(Deserialize)]
struct Hit {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    star_count: u64,
    #[serde(default)]
    is_official: bool,
    #[serde(default)]
    is_automated: bool,
}

#[derive(Deserialize)]
struct Catalogue {
    repositories: Option<Vec<String>>,
}

impl Target<'_> {
    /// Repositories whose name or description has the term; at most `limit`.
    pub(super) fn search(&self, term: &str, limit: usize) -> Result<Vec<FoundRepository>> {
        match self.search_index(term, limit)? {
            Some(found) => Ok(found),
            None => self.search_catalogue(term, limit),
        }
    }

    fn search_index(&self, term: &str, limit: usize) -> Result<Option<Vec<FoundRepository>>> {
        let url = self.connection.url("_catalog")?.join("/v1/search")?;
        let url = url.with_parameter("q", term).with_parameter("n", &limit.to_string());
        let request = Request { method: Method::GET, url, headers: Vec::new() };
        let response = self.send(&[], &request, &mut Payload::None)?;
        if response.status() != 200 {
            response.drain();
            return Ok(None);
        }
        let bytes = response.read(MAX_ANSWER)?;
        // a page for people is no answer either
        let Ok(answer) = serde_json::from_slice::<Answer>(&bytes) else { return Ok(None) };
        let found = answer.results.into_iter().take(limit).map(|hit| FoundRepository {
            name: hit.name,
            description: hit.description.unwrap_or_default(),
            stars: hit.star_count,
            official: hit.is_official,
            automated: hit.is_automated,
        });
        Ok(Some(found.collect()))
    }

    fn search_catalogue(&self, term: &str, limit: usize) -> Result<Vec<FoundRepository>> {
        let scope = ["registry:catalog:*".to_owned()];
        let mut next = Some(self.connection.url("_catalog")?.with_parameter("n", PAGE));
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let Some(url) = next.take() else { break };
            let (page, following) = with_retry(&self.connection.options().retry, || {
                let request = Request { method: Method::GET, url: url.clone(), headers: Vec::new() };
                let response = self.send(&scope, &request, &mut Payload::None)?;
                if response.status() != 200 {
                    return Err(response.into_error("GET"));
                }
                let following =
                    response.header("link").and_then(super::manifest::next_link).map(str::to_owned);
                let bytes = response.read(MAX_ANSWER)?;
                let page: Catalogue = serde_json::from_slice(&bytes).map_err(|_| Error::Protocol {
                    url: url.shown(),
                    message: "the catalogue is not valid JSON".into(),
                })?;
                Ok((page.repositories.unwrap_or_default(), following))
            })?;
            let matching = page.into_iter().filter(|name| name.contains(term));
            found.extend(matching.map(|name| FoundRepository { name, ..FoundRepository::default() }));
            if found.len() >= limit {
                found.truncate(limit);
                break;
            }
            next = following
                .map(|target| self.same_place(&url, &target))
                .transpose()?
                .filter(|next| *next != url);
        }
        Ok(found)
    }
}
