//! `search`.

use engine::Engine;
use engine::images::{SearchHit, SearchRequest};
use serde_json::{Value, json};

use super::lists::{self, cut};
use crate::args::SearchArgs;
use crate::error::{Failure, Outcome};

const TABLE: &str = "table {{.Name}}\t{{.Description}}";
const COMPATIBLE: &str = "table {{.Name}}\t{{.Description}}\t{{.Stars}}\t{{.Official}}\t{{.Automated}}";
const TAGS: &str = "table {{.Name}}\t{{.Tag}}";
/// Characters of a description where it is not shown whole.
const DESCRIPTION: usize = 44;

/// `davit search`
pub(crate) fn search(engine: &Engine, args: SearchArgs) -> Outcome {
    let request = SearchRequest {
        term: args.term,
        filters: args.filter,
        limit: args.limit,
        list_tags: args.list_tags,
        registry: super::registry::options(args.registry)?,
    };
    let (hits, errors) = engine.images().search(&request)?;
    for error in errors {
        Failure::from(error).print();
    }
    let rows: Vec<Value> = hits.iter().map(|hit| row(hit, args.no_trunc)).collect();
    let objects = || match args.list_tags {
        true => tags(&hits),
        false => hits.iter().map(|hit| row(hit, true)).collect(),
    };
    if rows.is_empty() && args.format.is_none() {
        return Ok(0);
    }
    let default = match (args.list_tags, args.compatible) {
        (true, _) => TAGS,
        (false, true) => COMPATIBLE,
        (false, false) => TABLE,
    };
    lists::print(args.format.as_deref(), default, &rows, objects, &[], true)
}

fn row(hit: &SearchHit, whole: bool) -> Value {
    let mark = |yes: bool| if yes { "[OK]" } else { "" };
    let description = hit.description.replace(['\n', '\t'], " ");
    json!({
        "Index": hit.index,
        "Name": hit.name,
        "Description": if whole { description } else { cut(&description, DESCRIPTION) },
        "Stars": hit.stars,
        "Official": mark(hit.official),
        "Automated": mark(hit.automated),
        "Tag": hit.tag,
    })
}

/// Each repository with its tags.
fn tags(hits: &[SearchHit]) -> Vec<Value> {
    let Some(first) = hits.first() else { return Vec::new() };
    let tags: Vec<&str> = hits.iter().map(|hit| hit.tag.as_str()).collect();
    vec![json!({"Name": first.name, "Tags": tags})]
}
