//! The environment of a container's processes.

use std::path::Path;

use super::SpecOptions;

/// PATH where neither image nor user sets one.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The value of `container`. Programs mostly test its presence, but some (Ansible's facts, systemd's detect-virt) know
/// a list of names and treat the others as "other"; parity with Podman lists this very value, so it is the one.
const CONTAINER: &str = "podman";

/// An ordered set of variables: a later value replaces an earlier one in its place, so the result repeats.
struct Variables(Vec<(String, String)>);

impl Variables {
    fn set(&mut self, key: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((key.to_owned(), value.to_owned())),
        }
    }

    fn set_default(&mut self, key: &str, value: &str) {
        if !self.0.iter().any(|(known, _)| known == key) {
            self.set(key, value);
        }
    }

    fn set_all(&mut self, list: &[String]) {
        for variable in list {
            // Without `=` an image's variable is empty, not absent.
            let (key, value) = variable.split_once('=').unwrap_or((variable, ""));
            if !key.is_empty() {
                self.set(key, value);
            }
        }
    }

    fn finish(self) -> Vec<String> {
        self.0.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
    }
}

/// Defaults, over them the image's, over them the user's; HOME and HOSTNAME where none of these set them.
pub(super) fn container(options: &SpecOptions, hostname: &str) -> Vec<String> {
    let mut variables = Variables(Vec::new());
    variables.set("PATH", DEFAULT_PATH);
    variables.set("container", CONTAINER);
    if options.terminal {
        variables.set("TERM", "xterm");
    }
    if options.systemd {
        variables.set("container_uuid", options.id.get(..32).unwrap_or(&options.id));
    }
    variables.set_all(&options.image_env);
    if options.unset_env_all {
        variables.0.clear();
    }
    variables.0.retain(|(key, _)| !options.unset_env.contains(key));
    for (key, value) in &options.env {
        variables.set(key, value);
    }
    let home = options.user.home.to_string_lossy();
    variables.set_default("HOME", if home.is_empty() { "/" } else { &home });
    variables.set_default("HOSTNAME", hostname);
    variables.finish()
}

/// The container's, less HOSTNAME (observed in Podman 5.8.6), with another user's home, over them the session's.
pub(super) fn exec(
    container: &[String],
    own: &[(String, String)],
    home: Option<&Path>,
    terminal: bool,
) -> Vec<String> {
    let mut variables = Variables(Vec::new());
    variables.set_all(container);
    variables.0.retain(|(key, _)| key != "HOSTNAME");
    if terminal {
        variables.set_default("TERM", "xterm");
    }
    if let Some(home) = home {
        variables.set("HOME", &home.to_string_lossy());
    }
    for (key, value) in own {
        variables.set(key, value);
    }
    variables.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_values_win_in_place() {
        let options = SpecOptions {
            image_env: vec!["PATH=/bin".into(), "A=1".into(), "EMPTY".into(), "GONE=1".into()],
            env: vec![("A".into(), "2=3".into())],
            unset_env: vec!["GONE".into()],
            terminal: true,
            ..SpecOptions::default()
        };
        assert_eq!(
            container(&options, "h"),
            ["PATH=/bin", "container=podman", "TERM=xterm", "A=2=3", "EMPTY=", "HOME=/", "HOSTNAME=h"]
        );
        let bare = SpecOptions { unset_env_all: true, ..options };
        assert_eq!(container(&bare, "h"), ["A=2=3", "HOME=/", "HOSTNAME=h"]);
    }

    #[test]
    fn exec_has_no_hostname() {
        let env = exec(
            &["PATH=/bin".into(), "HOSTNAME=h".into(), "HOME=/root".into()],
            &[("B".into(), "1".into())],
            Some(Path::new("/home/bob")),
            true,
        );
        assert_eq!(env, ["PATH=/bin", "HOME=/home/bob", "TERM=xterm", "B=1"]);
    }
}
