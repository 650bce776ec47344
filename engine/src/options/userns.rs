//! The words of `--userns`, `--uidmap` and `--gidmap`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The user namespace of a container, as it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserNamespaceMode {
    /// The caller's; for an ordinary user the one that davit entered.
    #[default]
    Host,
    /// A new one in which the caller has an ID of choice.
    KeepId {
        /// The caller's ID inside; `None` = the same as outside.
        uid: Option<u32>,
        /// The caller's group inside; `None` = the same as outside.
        gid: Option<u32>,
        /// Number of IDs; `None` = all there are.
        size: Option<u32>,
    },
    /// A new one in which the caller does not occur.
    NoMap,
    /// A new one with IDs that no other container has.
    Auto(AutoMap),
    /// That of a container.
    Container(String),
    /// An existing one.
    Path(PathBuf),
    /// A new one with these IDs.
    Maps {
        /// `--uidmap`; empty = as the groups.
        users: Vec<String>,
        /// `--gidmap`; empty = as the users.
        groups: Vec<String>,
        /// `--subuidname`.
        user_name: Option<String>,
        /// `--subgidname`.
        group_name: Option<String>,
    },
}

/// `--userns=auto:…`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AutoMap {
    /// Number of IDs; `None` = as many as the image's accounts need.
    pub size: Option<u32>,
    /// Fixed parts, `CONTAINER:HOST:SIZE`.
    pub users: Vec<String>,
    /// Fixed parts, `CONTAINER:HOST:SIZE`.
    pub groups: Vec<String>,
}

/// A line of a map as the user writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MapLine {
    pub(crate) inside: u32,
    pub(crate) outside: u32,
    pub(crate) count: u32,
    /// The outer ID is one of the machine, not of the namespace that davit runs in (`@`).
    pub(crate) of_machine: bool,
    /// Also for the other kind of IDs: neither `u` nor `g` alone was said.
    pub(crate) users: bool,
    pub(crate) groups: bool,
    /// Added to what there is, pushing other lines aside (`+`).
    pub(crate) added: bool,
}

/// Reads `[FLAGS]CONTAINER:HOST[:SIZE]`; FLAGS of `u`, `g`, `+`, and `@` before the host's ID.
pub(crate) fn parse_map_line(text: &str) -> Result<MapLine> {
    let bad = || Error::invalid(format!("ID map {text}"), "expected CONTAINER:HOST[:SIZE]");
    let plain = text.trim_start_matches(['u', 'g', '+']);
    let flags = &text[..text.len() - plain.len()];
    let parts: Vec<&str> = plain.split(':').collect();
    let (inside, outside, count) = match parts.as_slice() {
        [inside, outside] => (*inside, *outside, "1"),
        [inside, outside, count] => (*inside, *outside, *count),
        _ => return Err(bad()),
    };
    let number = |text: &str| text.parse::<u32>().map_err(|_| bad());
    let (of_machine, outside) = match outside.strip_prefix('@') {
        Some(rest) => (true, rest),
        None => (false, outside),
    };
    let line = MapLine {
        inside: number(inside)?,
        outside: number(outside)?,
        count: number(count)?,
        of_machine,
        users: flags.contains('u') || !flags.contains('g'),
        groups: flags.contains('g') || !flags.contains('u'),
        added: flags.contains('+'),
    };
    let fits = |start: u32| start.checked_add(line.count).is_some();
    if line.count == 0 || !fits(line.inside) || !fits(line.outside) {
        return Err(bad());
    }
    Ok(line)
}

impl UserNamespaceMode {
    /// Reads `--userns`.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |reason: String| Error::invalid(format!("userns {text}"), reason);
        let (name, options) = match text.split_once(':') {
            Some((name, options)) => (name, Some(options)),
            None => (text, None),
        };
        let pairs = || -> Result<Vec<(&str, &str)>> {
            options
                .unwrap_or_default()
                .split(',')
                .filter(|pair| !pair.is_empty())
                .map(|pair| pair.split_once('=').ok_or_else(|| bad(format!("{pair}: expected KEY=VALUE"))))
                .collect()
        };
        let number = |key: &str, value: &str| {
            value.parse::<u32>().map_err(|_| bad(format!("{key}={value}: expected a number")))
        };
        match (name, options) {
            ("" | "host", None) => Ok(Self::Host),
            ("nomap", None) => Ok(Self::NoMap),
            ("private", None) => Err(Error::invalid("userns private", "it needs --uidmap and --gidmap")),
            ("container", Some(name)) if !name.is_empty() => Ok(Self::Container(name.to_owned())),
            ("ns", Some(path)) if path.starts_with('/') => Ok(Self::Path(path.into())),
            ("keep-id", _) => {
                let (mut uid, mut gid, mut size) = (None, None, None);
                for (key, value) in pairs()? {
                    match key {
                        "uid" => uid = Some(number(key, value)?),
                        "gid" => gid = Some(number(key, value)?),
                        "size" => size = Some(number(key, value)?),
                        _ => return Err(bad(format!("unknown option {key}: expected uid, gid or size"))),
                    }
                }
                Ok(Self::KeepId { uid, gid, size })
            }
            ("auto", _) => {
                let mut auto = AutoMap::default();
                for (key, value) in pairs()? {
                    match key {
                        "size" => auto.size = Some(number(key, value)?),
                        "uidmapping" => auto.users.push(value.to_owned()),
                        "gidmapping" => auto.groups.push(value.to_owned()),
                        _ => {
                            return Err(bad(format!(
                                "unknown option {key}: expected size, uidmapping or gidmapping"
                            )));
                        }
                    }
                }
                for line in auto.users.iter().chain(&auto.groups) {
                    parse_map_line(line)?;
                }
                Ok(Self::Auto(auto))
            }
            _ => Err(bad("expected host, keep-id, auto, nomap, container:ID or ns:PATH".to_owned())),
        }
    }

    /// Joins `--userns` with `--uidmap`, `--gidmap`, `--subuidname` and `--subgidname`.
    pub fn with_maps(
        self,
        users: Vec<String>,
        groups: Vec<String>,
        user_name: Option<String>,
        group_name: Option<String>,
    ) -> Result<Self> {
        if users.is_empty() && groups.is_empty() && user_name.is_none() && group_name.is_none() {
            return Ok(self);
        }
        if self != Self::Host {
            return Err(Error::invalid(
                "userns",
                "--userns and --uidmap, --gidmap or --subuidname exclude each other",
            ));
        }
        for line in users.iter().chain(&groups) {
            parse_map_line(line)?;
        }
        Ok(Self::Maps { users, groups, user_name, group_name })
    }

    /// As `inspect` shows it.
    pub fn word(&self) -> String {
        match self {
            Self::Host => String::new(),
            Self::Container(name) => format!("container:{name}"),
            Self::Path(path) => format!("ns:{}", path.display()),
            Self::KeepId { .. } | Self::NoMap | Self::Auto(_) | Self::Maps { .. } => "private".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        let parse = |text: &str| UserNamespaceMode::parse(text);
        assert_eq!(parse("host").unwrap(), UserNamespaceMode::Host);
        assert_eq!(
            parse("keep-id:uid=5,gid=6").unwrap(),
            UserNamespaceMode::KeepId { uid: Some(5), gid: Some(6), size: None }
        );
        let UserNamespaceMode::Auto(auto) = parse("auto:size=10,uidmapping=0:5:1").unwrap() else { panic!() };
        assert_eq!((auto.size, auto.users.len()), (Some(10), 1));
        for bad in ["keep-id:x=1", "auto:size=x", "nomap:1", "container:", "ns:x", "private", "else"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let maps = |mode: UserNamespaceMode| mode.with_maps(vec!["0:1:2".into()], vec![], None, None);
        assert!(maps(UserNamespaceMode::Host).is_ok() && maps(UserNamespaceMode::NoMap).is_err());
    }

    #[test]
    fn lines_of_maps() {
        let line = parse_map_line("u+0:@1000:5").unwrap();
        assert!(line.users && !line.groups && line.added && line.of_machine);
        assert_eq!((line.inside, line.outside, line.count), (0, 1000, 5));
        let line = parse_map_line("1:2").unwrap();
        assert!(line.users && line.groups && !line.added && line.count == 1);
        for bad in ["", "1", "1:2:0", "1:2:3:4", "x:1:1", "4294967295:0:2"] {
            assert!(parse_map_line(bad).is_err(), "{bad}");
        }
    }
}
