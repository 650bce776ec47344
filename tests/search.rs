//! `search`, `pull --all-tags`, `push --format`: what registries have, and how it is sent.

use crate::support::{Access, Davit, Registry, tool};

fn filled() -> (Davit, Registry) {
    let davit = Davit::with_busybox();
    let registry = Registry::start(Access::Plain);
    for name in ["team/one:1", "team/one:2", "team/two:1", "other:1"] {
        davit.run(["push", "-q", "--tls-verify=false", "busybox", &format!("{}/{name}", registry.host)]).ok();
    }
    (davit, registry)
}

#[test]
fn repositories_and_tags_are_found() {
    let (davit, registry) = filled();
    let host = &registry.host;
    let search = |words: &[&str]| davit.run([&["search", "--tls-verify=false"], words].concat());
    let found = search(&["--format", "{{.Name}}", &format!("{host}/team")]).ok();
    assert_eq!(found, format!("{host}/team/one\n{host}/team/two"));
    assert_eq!(search(&["--format", "{{.Name}}", &format!("{host}/")]).ok().lines().count(), 3);
    assert_eq!(
        search(&["--format", "{{.Name}}", "--limit", "1", &format!("{host}/")]).ok().lines().count(),
        1
    );
    let table = search(&[&format!("{host}/team")]).ok();
    assert!(table.starts_with("NAME") && table.lines().next().unwrap().contains("DESCRIPTION"), "{table}");
    assert_eq!(search(&[&format!("{host}/nosuch")]).ok(), "");
    let tags = search(&["--list-tags", &format!("{host}/team/one")]).ok();
    let mut tags: Vec<&str> =
        tags.lines().skip(1).map(|line| line.split_whitespace().last().unwrap()).collect();
    tags.sort_unstable();
    assert_eq!(tags, ["1", "2"]);
    let json = search(&["--list-tags", "--format=json", &format!("{host}/team/one")]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["Tags"].as_array().unwrap().len(), 2);
    search(&["--list-tags", &format!("{host}/team/nosuch")]).fails(125, "team/nosuch");
    search(&["--filter", "nosuch=1", &format!("{host}/team")]).fails(125, "nosuch");
    assert_eq!(
        search(&["--filter", "is-official=true", "--format", "{{.Name}}", &format!("{host}/team")]).ok(),
        ""
    );
    // without a registry, those of registries.conf
    search(&["team"]).fails(125, "unqualified-search-registries");
    let conf = davit.dir.path().join("registries.conf");
    std::fs::write(&conf, format!("unqualified-search-registries = [\"{host}\"]\n")).unwrap();
    let output = davit
        .command()
        .env("CONTAINERS_REGISTRIES_CONF", &conf)
        .args(["search", "--tls-verify=false", "--format", "{{.Name}}", "two"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{host}/team/two\n"));
}

#[test]
fn every_tag_is_pulled() {
    let (_davit, registry) = filled();
    let other = Davit::new();
    other.run(["pull", "-q", "-a", "--tls-verify=false", &format!("{}/team/one", registry.host)]).ok();
    let names = other.run(["images", "--format", "{{.Tag}}"]).ok();
    let mut tags: Vec<&str> = names.lines().collect();
    tags.sort_unstable();
    assert_eq!(tags, ["1", "2"]);
}

#[test]
fn a_manifest_is_sent_in_the_format_that_is_asked_for() {
    let (davit, registry) = filled();
    let name = format!("{}/f:1", registry.host);
    let kind = || {
        let raw =
            tool("skopeo", ["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]).ok();
        serde_json::from_str::<serde_json::Value>(&raw).unwrap()["mediaType"].as_str().unwrap().to_owned()
    };
    davit.run(["push", "-q", "--tls-verify=false", "--format=v2s2", "busybox", &name]).ok();
    assert_eq!(kind(), "application/vnd.docker.distribution.manifest.v2+json");
    davit.run(["push", "-q", "--tls-verify=false", "--format=oci", "busybox", &name]).ok();
    assert_eq!(kind(), "application/vnd.oci.image.manifest.v1+json");
    davit
        .run(["push", "-q", "--tls-verify=false", "--format=v1", "busybox", &name])
        .fails(125, "oci or v2s2");
}
