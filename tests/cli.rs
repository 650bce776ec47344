//! Help, versions, completions, manual pages, refusals.

use crate::support::{Davit, scratch};

#[test]
fn every_command_has_help() {
    let davit = Davit::new();
    let top = davit.run(["--help"]).ok();
    for command in [
        "attach",
        "build",
        "create",
        "exec",
        "history",
        "images",
        "import",
        "info",
        "inspect",
        "kill",
        "load",
        "login",
        "logout",
        "logs",
        "pause",
        "ps",
        "pull",
        "push",
        "rename",
        "restart",
        "rm",
        "rmi",
        "run",
        "save",
        "start",
        "stop",
        "tag",
        "unpause",
        "untag",
        "version",
        "wait",
        "container",
        "image",
        "system",
    ] {
        assert!(
            top.lines().any(|line| line.trim_start().starts_with(command)),
            "{command} is missing in --help"
        );
        let help = davit.run([command, "--help"]).ok();
        assert!(help.contains("Usage: davit"), "{command}: {help}");
    }
}

#[test]
fn versions_and_information() {
    let davit = Davit::new();
    assert_eq!(davit.run(["--version"]).ok(), format!("davit {}", env!("CARGO_PKG_VERSION")));
    assert_eq!(davit.run(["version", "--format", "{{.Client.Version}}"]).ok(), env!("CARGO_PKG_VERSION"));
    let root = davit.run(["info", "--format", "{{.Store.GraphRoot}}"]).ok();
    assert_eq!(root, davit.root().to_str().unwrap());
    assert_eq!(davit.run(["info", "--format", "{{.Store.GraphDriverName}}"]).ok(), "overlay");
}

#[test]
fn completions_and_manual_pages_are_generated() {
    let davit = Davit::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(davit.run(["completion", shell]).ok().contains("davit"));
    }
    let dir = scratch();
    davit.run(["man-pages", dir.path().to_str().unwrap()]).ok();
    for page in ["davit.1", "davit-run.1", "davit-image-prune.1"] {
        assert!(dir.path().join(page).exists(), "{page}");
    }
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    let davit = Davit::new();
    davit.run(["run", "--rdt-class=x", "x"]).fails(125, "--rdt-class of davit run is not built yet");
    davit.run(["kube", "play", "x"]).fails(125, "davit kube");
    davit.run(["run", "--network=bridge", "x"]).fails(125, "bridge");
    davit.run(["build", "--sbom=true", "."]).fails(125, "--sbom of davit build is not built yet");
    davit.run(["rum"]).fails(125, "run");
    davit.run(["run", "--rmm", "x"]).fails(125, "--rm");
    davit.run(["--storage-driver=btrfs", "images"]).fails(125, "btrfs");
    davit.run(["--cgroup-manager=none-such", "images"]).fails(125, "none-such");
}

#[test]
fn lists_take_filters_and_formats() {
    let davit = Davit::with_busybox();
    davit.build("labelled", "FROM busybox\nLABEL team=red\n", &[]).ok();
    assert_eq!(
        davit.run(["images", "--filter", "label=team=red", "--format", "{{.Repository}}"]).ok(),
        "localhost/labelled"
    );
    assert_eq!(davit.run(["images", "--filter", "reference=*lab*", "-q"]).ok().lines().count(), 1);
    let json: serde_json::Value =
        serde_json::from_str(&davit.run(["images", "--format", "json"]).ok()).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 2);
    let table = davit.run(["images"]).ok();
    assert!(table.starts_with("REPOSITORY") && table.lines().next().unwrap().ends_with("SIZE"), "{table}");
    davit.run(["create", "--name", "a1", "-l", "x=1", "busybox"]).ok();
    davit.run(["create", "--name", "a2", "busybox"]).ok();
    assert_eq!(davit.run(["ps", "-a", "--filter", "label=x=1", "--format", "{{.Names}}"]).ok(), "a1");
    assert_eq!(davit.run(["ps", "-a", "--filter", "name=a", "-q"]).ok().lines().count(), 2);
    assert_eq!(davit.run(["ps", "-aq", "--filter", "status=running"]).ok(), "");
    let head = davit.run(["ps", "-a"]).ok();
    assert!(head.starts_with("CONTAINER ID  IMAGE"), "{head}");
    davit.run(["images", "--filter", "nonsense=1"]).fails(125, "nonsense");
    davit.run(["inspect", "nothing"]).fails(125, "nothing");
}
