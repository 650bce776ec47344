//! The files that the engine binds into a root file system: hosts, hostname, resolv.conf, .containerenv. They lie in
//! the run directory and never become part of a layer.

use crate::state::files;
use crate::{Error, Result};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Name servers of a container.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resolver {
    pub(crate) servers: Vec<String>,
    pub(crate) search: Vec<String>,
    pub(crate) options: Vec<String>,
}

impl Resolver {
    fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.search.is_empty() && self.options.is_empty()
    }
}

/// What /etc/hosts begins with.
#[derive(Debug, Clone, Default)]
pub(crate) enum HostsBase {
    /// The host's.
    #[default]
    Host,
    /// A file of the host.
    File(PathBuf),
    /// This text.
    Text(String),
}

impl HostsBase {
    fn read(&self) -> Result<String> {
        match self {
            Self::Host => Ok(std::fs::read_to_string("/etc/hosts").unwrap_or_default()),
            Self::Text(text) => Ok(text.clone()),
            Self::File(path) => std::fs::read_to_string(path)
                .map_err(|error| Error::os(format!("read the hosts file {}", path.display()), error)),
        }
    }
}

/// What the files say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    /// `None`: the host's.
    pub(crate) hostname: Option<String>,
    /// Further names of the container itself.
    pub(crate) aliases: Vec<String>,
    /// Lines `NAME:ADDRESS`.
    pub(crate) add_hosts: Vec<String>,
    pub(crate) resolver: Resolver,
    /// Whether it has the host's network.
    pub(crate) host_network: bool,
    pub(crate) hosts: HostsBase,
    pub(crate) no_hosts: bool,
    pub(crate) no_hostname: bool,
    /// Text of /run/.containerenv.
    pub(crate) containerenv: Option<String>,
}

impl Names {
    /// Writes the files into a run directory; gives sources and destinations.
    pub(crate) fn write(&self, directory: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
        let mut made = Vec::new();
        let mut add = |name: &str, destination: &str, text: &str| -> Result<()> {
            let path = directory.join(name);
            // all users of the container read them
            files::write(&path, text.as_bytes(), 0o644, false)?;
            made.push((path, PathBuf::from(destination)));
            Ok(())
        };
        if !self.no_hosts {
            let base = self.hosts.read()?;
            add("hosts", "/etc/hosts", &self.hosts(&base)?)?;
        }
        // a container with the host's network has the host's name, which its image cannot know
        let of_host = || {
            let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
            (self.host_network && self.containerenv.is_some()).then_some(name)
        };
        if let Some(hostname) = self.hostname.clone().or_else(of_host)
            && !self.no_hostname
        {
            add("hostname", "/etc/hostname", &format!("{hostname}\n"))?;
        }
        let servers_none = self.resolver.servers.iter().any(|server| server == "none");
        if (self.host_network || !self.resolver.is_empty()) && !servers_none {
            let base = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
            add("resolv.conf", "/etc/resolv.conf", &self.resolv_conf(&base))?;
        }
        if let Some(text) = &self.containerenv {
            add("containerenv", "/run/.containerenv", text)?;
        }
        Ok(made)
    }

    fn hosts(&self, base: &str) -> Result<String> {
        let mut text = String::new();
        let names = |line: &str| -> Vec<String> {
            let line = line.split('#').next().unwrap_or_default();
            line.split_whitespace().skip(1).map(str::to_owned).collect()
        };
        let mut lines: Vec<String> = Vec::new();
        for line in &self.add_hosts {
            let (name, address) = line
                .split_once(':')
                .ok_or_else(|| Error::invalid(format!("add-host {line}"), "expected NAME:ADDRESS"))?;
            // without a bridge the host is reached at the loopback address
            let address =
                if address == "host-gateway" { "127.0.0.1" } else { address.trim_matches(['[', ']']) };
            let address: IpAddr = address
                .parse()
                .map_err(|_| Error::invalid(format!("add-host {line}"), "expected NAME:ADDRESS"))?;
            lines.push(format!("{address}\t{name}"));
        }
        let taken: Vec<String> = lines.iter().flat_map(|line| names(line)).collect();
        let mut has_localhost = false;
        for line in base.lines() {
            let known = names(line);
            if known.iter().any(|name| taken.contains(name)) {
                continue;
            }
            has_localhost |= known.iter().any(|name| name == "localhost");
            text.push_str(line);
            text.push('\n');
        }
        if !has_localhost && !taken.iter().any(|name| name == "localhost") {
            text.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost\n");
        }
        for line in lines {
            text.push_str(&line);
            text.push('\n');
        }
        if let Some(hostname) = &self.hostname {
            let mut own = vec![hostname.clone()];
            own.extend(self.aliases.iter().filter(|alias| *alias != hostname).cloned());
            own.retain(|name| !taken.contains(name));
            if !own.is_empty() {
                // writing to a string cannot fail
                let _ = writeln!(text, "127.0.0.1\t{}", own.join(" "));
            }
        }
        Ok(text)
    }

    fn resolv_conf(&self, base: &str) -> String {
        let resolver = &self.resolver;
        if resolver.is_empty() {
            return base.to_owned();
        }
        let of_base = |keyword: &str| -> Vec<String> {
            base.lines()
                .filter_map(|line| {
                    let mut words = line.split_whitespace();
                    (words.next() == Some(keyword)).then(|| words.map(str::to_owned).collect::<Vec<_>>())
                })
                .flatten()
                .collect()
        };
        let or_base = |own: &[String], keyword: &str| {
            if own.is_empty() { of_base(keyword) } else { own.to_vec() }
        };
        let mut text = String::new();
        let search = or_base(&resolver.search, "search");
        if !search.is_empty() && search != ["."] {
            let _ = writeln!(text, "search {}", search.join(" "));
        }
        for server in or_base(&resolver.servers, "nameserver") {
            let _ = writeln!(text, "nameserver {server}");
        }
        let options = or_base(&resolver.options, "options");
        if !options.is_empty() {
            let _ = writeln!(text, "options {}", options.join(" "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_the_base_the_additions_and_the_own_name() {
        let names = Names {
            hostname: Some("abc".into()),
            aliases: vec!["web".into()],
            add_hosts: vec!["db:10.0.0.1".into(), "six:[::2]".into()],
            ..Names::default()
        };
        let text = names.hosts("127.0.0.1 localhost\n10.9.9.9 db old\n10.1.1.1 other\n").unwrap();
        assert_eq!(text, "127.0.0.1 localhost\n10.1.1.1 other\n10.0.0.1\tdb\n::2\tsix\n127.0.0.1\tabc web\n");
    }

    #[test]
    fn resolv_conf_takes_what_is_given_and_the_rest_from_the_host() {
        let base = "nameserver 1.1.1.1\nsearch example.org\noptions ndots:2\n";
        let plain = Names::default();
        assert_eq!(plain.resolv_conf(base), base);
        let names = Names {
            resolver: Resolver { servers: vec!["9.9.9.9".into()], ..Resolver::default() },
            ..Names::default()
        };
        assert_eq!(names.resolv_conf(base), "search example.org\nnameserver 9.9.9.9\noptions ndots:2\n");
    }
}
