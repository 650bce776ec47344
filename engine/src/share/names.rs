//! Repositories of the served store and the names that images have in it. Pure.
//!
//! A repository whose first part is a registry (`docker.io/library/debian`) is the name itself; any other (`app`) is the
//! local name `localhost/app`, and where there is none the name at Docker's hub, so that the store can be a mirror of it.

use registry::Reference;

/// Whether the first part of a repository names a registry, by Docker's rule.
fn is_registry(text: &str) -> bool {
    text == "localhost" || text.contains(['.', ':'])
}

/// The names without tag that a repository may stand for, the best first.
pub(super) fn candidates(repository: &str) -> Vec<String> {
    match repository.split_once('/') {
        Some((first, _)) if is_registry(first) => vec![repository.to_owned()],
        rest => {
            let mut names = vec![format!("localhost/{repository}"), format!("docker.io/{repository}")];
            if rest.is_none() {
                names.push(format!("docker.io/library/{repository}"));
            }
            names
        }
    }
}

/// The full references that a repository and a tag may stand for, the best first; none where they are no name.
pub(super) fn references(repository: &str, tag: &str) -> Vec<Reference> {
    candidates(repository)
        .iter()
        .filter_map(|name| Reference::parse(name).ok()?.without_target().with_tag(tag).ok())
        .collect()
}

/// The repository under which a recorded name is offered.
pub(super) fn repository_of(name: &Reference) -> String {
    let full = name.name();
    full.strip_prefix("localhost/").map_or(full.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_stand_for_names() {
        let of = |repository: &str| -> Vec<String> {
            references(repository, "1").iter().map(ToString::to_string).collect()
        };
        assert_eq!(of("app"), ["localhost/app:1", "docker.io/library/app:1", "docker.io/library/app:1"]);
        assert_eq!(of("team/app"), ["localhost/team/app:1", "docker.io/team/app:1"]);
        assert_eq!(of("quay.io/team/app"), ["quay.io/team/app:1"]);
        assert!(of("UPPER").is_empty() && of("a//b").is_empty() && references("app", "a b").is_empty());
        for name in ["localhost/app:1", "docker.io/library/app:1", "localhost/a/b:x"] {
            let reference = Reference::parse(name).unwrap();
            let repository = repository_of(&reference);
            let found = references(&repository, reference.tag().unwrap());
            assert_eq!(found[0].to_string(), name, "{repository}");
        }
    }
}
