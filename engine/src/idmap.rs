//! ID maps of containers: which user and group IDs of the caller's namespace a container's own ones are.

use crate::config::Identity;
use crate::options::{AutoMap, UserNamespaceMode, parse_map_line};
use crate::{Error, Result};
use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};
use serde::{Deserialize, Serialize};
use sys::idmap::Range;

/// Fewest IDs of `--userns=auto`, Podman's.
const AUTO_LEAST: u32 = 1024;
/// Whose subordinate IDs `--userns=auto` takes as root.
const AUTO_USER: &str = "containers";
/// More IDs than anybody has.
const ALL: u32 = u32::MAX;

/// The maps of a container's user namespace; `outside` are IDs of the namespace that davit runs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    /// Users.
    pub users: Vec<Range>,
    /// Groups.
    pub groups: Vec<Range>,
}

impl IdMaps {
    /// The outer IDs of an owner inside; IDs without a mapping stay as they are.
    pub(crate) fn outside(&self, uid: u32, gid: u32) -> (u32, u32) {
        let through = |ranges: &[Range], id: u32| {
            ranges
                .iter()
                .find(|range| id >= range.inside && id - range.inside < range.count)
                .map_or(id, |range| range.outside + (id - range.inside))
        };
        (through(&self.users, uid), through(&self.groups, gid))
    }

    pub(crate) fn spec(ranges: &[Range]) -> Vec<LinuxIdMapping> {
        let mapping = |range: &Range| {
            let builder = LinuxIdMappingBuilder::default().container_id(range.inside).host_id(range.outside);
            builder.size(range.count).build()
        };
        ranges.iter().filter_map(|range| mapping(range).ok()).collect()
    }
}

/// What maps are made from.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) identity: Identity,
    /// Maps of the namespace that davit runs in.
    pub(crate) own_users: Vec<Range>,
    pub(crate) own_groups: Vec<Range>,
    pub(crate) subuid: String,
    pub(crate) subgid: String,
    /// Outer IDs that other containers have, start and count.
    pub(crate) taken: Vec<(u32, u32)>,
    /// Number of IDs that the image's accounts need.
    pub(crate) needed: u32,
}

impl Surroundings {
    pub(crate) fn look(identity: Identity, taken: Vec<(u32, u32)>, needed: u32) -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            identity,
            own_users: sys::idmap::parse(&text("/proc/self/uid_map")),
            own_groups: sys::idmap::parse(&text("/proc/self/gid_map")),
            subuid: text("/etc/subuid"),
            subgid: text("/etc/subgid"),
            taken,
            needed,
        }
    }

    /// Number of IDs in the namespace that davit runs in, as far as they lie side by side from 0 on.
    fn available(ranges: &[Range]) -> u32 {
        let mut sorted: Vec<&Range> = ranges.iter().collect();
        sorted.sort_by_key(|range| range.inside);
        let mut next = 0_u32;
        for range in sorted {
            if range.inside != next {
                break;
            }
            next = next.saturating_add(range.count);
        }
        next
    }
}

/// The maps that a mode asks for; `None` = no user namespace of its own (or an existing one).
pub(crate) fn maps(mode: &UserNamespaceMode, here: &Surroundings) -> Result<Option<IdMaps>> {
    let both = |users, groups| Ok(Some(IdMaps { users, groups }));
    match mode {
        UserNamespaceMode::Host | UserNamespaceMode::Container(_) | UserNamespaceMode::Path(_) => Ok(None),
        UserNamespaceMode::KeepId { uid, gid, size } => {
            if !here.identity.rootless {
                // as Podman: root is the one that it keeps
                return Ok(None);
            }
            let own_gid =
                here.own_groups.iter().find(|range| range.inside == 0).map_or(0, |range| range.outside);
            let limit = |ranges: &[Range]| Surroundings::available(ranges).min(size.unwrap_or(ALL));
            both(
                kept(uid.unwrap_or(here.identity.uid), limit(&here.own_users)),
                kept(gid.unwrap_or(own_gid), limit(&here.own_groups)),
            )
        }
        UserNamespaceMode::NoMap => {
            if !here.identity.rootless {
                return Err(Error::invalid(
                    "userns nomap",
                    "it is for ordinary users: root has no ID to leave out",
                ));
            }
            let without = |ranges: &[Range]| match Surroundings::available(ranges) {
                0 | 1 => Err(Error::invalid(
                    "userns nomap",
                    "there are no subordinate IDs: give this user a line in /etc/subuid and in /etc/subgid",
                )),
                count => Ok(vec![Range { inside: 0, outside: 1, count: count - 1 }]),
            };
            both(without(&here.own_users)?, without(&here.own_groups)?)
        }
        UserNamespaceMode::Auto(auto) => automatic(auto, here).map(Some),
        UserNamespaceMode::Maps { users, groups, user_name, group_name } => {
            let subordinate = |name: &Option<String>, text: &str, file: &str| match name {
                None => Ok(Vec::new()),
                Some(name) => match stacked(&subordinate_of(text, name)) {
                    empty if empty.is_empty() => {
                        Err(Error::invalid(format!("user {name}"), format!("it has no line in {file}")))
                    }
                    ranges => Ok(ranges),
                },
            };
            let mut all_users = subordinate(user_name, &here.subuid, "/etc/subuid")?;
            let group_name = group_name.as_ref().or(user_name.as_ref()).cloned();
            let mut all_groups = subordinate(&group_name, &here.subgid, "/etc/subgid")?;
            let lines = |list: &[String], is_users: bool| -> Result<Vec<Range>> {
                let mut ranges = Vec::new();
                for text in list {
                    let line = parse_map_line(text)?;
                    if if is_users { line.users } else { line.groups } {
                        let own = if is_users { &here.own_users } else { &here.own_groups };
                        ranges.push(resolved(&line, own, text)?);
                    }
                }
                Ok(ranges)
            };
            // one list alone serves for both
            all_users.extend(lines(if users.is_empty() { groups } else { users }, true)?);
            all_groups.extend(lines(if groups.is_empty() { users } else { groups }, false)?);
            check(&all_users)?;
            check(&all_groups)?;
            both(split(&all_users, &here.own_users), split(&all_groups, &here.own_groups))
        }
    }
}

fn resolved(line: &crate::options::MapLine, own: &[Range], text: &str) -> Result<Range> {
    if !line.of_machine {
        return Ok(Range { inside: line.inside, outside: line.outside, count: line.count });
    }
    let found =
        own.iter().find(|range| line.outside >= range.outside && line.outside - range.outside < range.count);
    let Some(range) = found else {
        return Err(Error::invalid(format!("ID map {text}"), "this user does not have that ID of the host"));
    };
    Ok(Range {
        inside: line.inside,
        outside: range.inside + (line.outside - range.outside),
        count: line.count,
    })
}

/// A map in which the own ID, 0 in davit's namespace, is `kept` inside, and the others move up.
fn kept(kept: u32, available: u32) -> Vec<Range> {
    let others = available.saturating_sub(1);
    let below = kept.min(others);
    let mut ranges = Vec::new();
    if below > 0 {
        ranges.push(Range { inside: 0, outside: 1, count: below });
    }
    ranges.push(Range { inside: kept, outside: 0, count: 1 });
    if others > below {
        ranges.push(Range { inside: kept + 1, outside: below + 1, count: others - below });
    }
    ranges
}

fn automatic(auto: &AutoMap, here: &Surroundings) -> Result<IdMaps> {
    let size = auto.size.unwrap_or_else(|| here.needed.max(AUTO_LEAST));
    // root shares the machine's IDs with others and takes those set apart for this
    let pool = if here.identity.rootless {
        let count = Surroundings::available(&here.own_users).min(Surroundings::available(&here.own_groups));
        vec![(1, count.saturating_sub(1))]
    } else {
        common(&subordinate_of(&here.subuid, AUTO_USER), &subordinate_of(&here.subgid, AUTO_USER))
    };
    if pool.is_empty() {
        return Err(Error::invalid(
            "userns auto",
            format!(
                "the user {AUTO_USER} needs a line in /etc/subuid and in /etc/subgid, such as {AUTO_USER}:2147483647:2147483648"
            ),
        ));
    }
    let start = free(&pool, &here.taken, size).ok_or_else(|| {
        Error::invalid("userns auto", format!("no {size} IDs in a row are free of those set apart for it"))
    })?;
    let fill = |fixed: &[String]| -> Result<Vec<Range>> {
        let mut ranges = Vec::new();
        for text in fixed {
            let line = parse_map_line(text)?;
            ranges.push(Range { inside: line.inside, outside: line.outside, count: line.count });
        }
        ranges.sort_by_key(|range| range.inside);
        let (mut inside, mut outside, mut gaps) = (0, start, Vec::new());
        for range in &ranges {
            let gap = range.inside.min(size).saturating_sub(inside);
            if gap > 0 {
                gaps.push(Range { inside, outside, count: gap });
                outside += gap;
            }
            inside = range.inside.saturating_add(range.count);
        }
        if inside < size {
            gaps.push(Range { inside, outside, count: size - inside });
        }
        ranges.extend(gaps);
        ranges.sort_by_key(|range| range.inside);
        check(&ranges)?;
        Ok(ranges)
    };
    Ok(IdMaps {
        users: split(&fill(&auto.users)?, &here.own_users),
        groups: split(&fill(&auto.groups)?, &here.own_groups),
    })
}

/// Cuts ranges where the outer namespace's own do not go on: the kernel takes none that lies in two of them.
fn split(ranges: &[Range], own: &[Range]) -> Vec<Range> {
    let mut cut = Vec::new();
    for range in ranges {
        let mut left = *range;
        while left.count > 0 {
            let around =
                own.iter().find(|own| left.outside >= own.inside && left.outside - own.inside < own.count);
            // an ID that is not there is the kernel's to refuse
            let length =
                around.map_or(left.count, |own| own.count - (left.outside - own.inside)).min(left.count);
            cut.push(Range { count: length, ..left });
            left = Range {
                inside: left.inside.saturating_add(length),
                outside: left.outside.saturating_add(length),
                count: left.count - length,
            };
        }
    }
    cut
}

/// The first place of `size` IDs in a row in the pool that nobody has.
fn free(pool: &[(u32, u32)], taken: &[(u32, u32)], size: u32) -> Option<u32> {
    for (start, count) in pool {
        let end = start.saturating_add(*count);
        let mut candidate = *start;
        'next: while candidate.checked_add(size).is_some_and(|last| last <= end) {
            for (other, length) in taken {
                if candidate < other.saturating_add(*length) && *other < candidate + size {
                    candidate = other.saturating_add(*length);
                    continue 'next;
                }
            }
            return Some(candidate);
        }
    }
    None
}

/// What two lists of ranges have in common.
fn common(left: &[(u32, u32)], right: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    for (a, count_a) in left {
        for (b, count_b) in right {
            let start = *a.max(b);
            let end = a.saturating_add(*count_a).min(b.saturating_add(*count_b));
            if start < end {
                found.push((start, end - start));
            }
        }
    }
    found
}

fn check(ranges: &[Range]) -> Result<()> {
    let overlap =
        |a: (u32, u32), b: (u32, u32)| a.0 < b.0.saturating_add(b.1) && b.0 < a.0.saturating_add(a.1);
    for (at, range) in ranges.iter().enumerate() {
        for other in &ranges[..at] {
            if overlap((range.inside, range.count), (other.inside, other.count))
                || overlap((range.outside, range.count), (other.outside, other.count))
            {
                return Err(Error::invalid(
                    format!("ID map {}:{}:{}", range.inside, range.outside, range.count),
                    format!("it overlaps {}:{}:{}", other.inside, other.outside, other.count),
                ));
            }
        }
    }
    Ok(())
}

fn stacked(ranges: &[(u32, u32)]) -> Vec<Range> {
    let mut inside = 0_u32;
    let mut maps = Vec::new();
    for (start, count) in ranges {
        maps.push(Range { inside, outside: *start, count: *count });
        inside = inside.saturating_add(*count);
    }
    maps
}

/// The subordinate ranges of a user or group, start and count.
fn subordinate_of(text: &str, name: &str) -> Vec<(u32, u32)> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let (start, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            (owner == name && count > 0).then_some((start, count))
        })
        .collect()
}

/// Number of IDs that the accounts of an image need: the highest one and those below it.
pub(crate) fn needed(files: [&[u8]; 2]) -> u32 {
    let highest = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let ids = text.lines().filter_map(|line| line.split(':').nth(2)?.parse::<u32>().ok());
        // "nobody" and its likes are no accounts that files belong to
        ids.filter(|id| *id < 65_534).max().map_or(1, |id| id + 1)
    };
    files.into_iter().map(highest).max().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(rootless: bool) -> Surroundings {
        let own = |outside| {
            if rootless {
                vec![
                    Range { inside: 0, outside, count: 1 },
                    Range { inside: 1, outside: 100_000, count: 65_536 },
                ]
            } else {
                vec![Range { inside: 0, outside: 0, count: u32::MAX }]
            }
        };
        Surroundings {
            identity: Identity { uid: if rootless { 1000 } else { 0 }, rootless },
            own_users: own(1000),
            own_groups: own(1001),
            subuid: "containers:200000:10000\nann:500:10\nann:900:5\n".into(),
            subgid: "containers:200000:9000\nann:500:20\n".into(),
            taken: Vec::new(),
            needed: 1,
        }
    }

    fn parse(text: &str) -> UserNamespaceMode {
        UserNamespaceMode::parse(text).unwrap()
    }

    fn lines(ranges: &[Range]) -> String {
        sys::idmap::format(ranges).trim().replace('\n', ", ")
    }

    #[test]
    fn an_ordinary_user_keeps_its_id() {
        let made = maps(&parse("keep-id"), &here(true)).unwrap().unwrap();
        assert_eq!(lines(&made.users), "0 1 1000, 1000 0 1, 1001 1001 64536");
        assert_eq!(lines(&made.groups), "0 1 1001, 1001 0 1, 1002 1002 64535");
        assert_eq!(made.outside(1000, 1001), (0, 0));
        let made = maps(&parse("keep-id:uid=0,gid=5"), &here(true)).unwrap().unwrap();
        assert_eq!(lines(&made.users), "0 0 1, 1 1 65536");
        assert_eq!(maps(&parse("keep-id"), &here(false)).unwrap(), None);
        let made = maps(&parse("nomap"), &here(true)).unwrap().unwrap();
        assert_eq!(lines(&made.users), "0 1 65536");
        assert!(maps(&parse("nomap"), &here(false)).is_err());
    }

    #[test]
    fn automatic_maps_do_not_meet() {
        let mut here = here(false);
        let made = maps(&parse("auto"), &here).unwrap().unwrap();
        assert_eq!(lines(&made.users), "0 200000 1024");
        here.taken.push((200_000, 1024));
        here.needed = 2000;
        let made = maps(&parse("auto"), &here).unwrap().unwrap();
        assert_eq!(lines(&made.groups), "0 201024 2000");
        let made = maps(&parse("auto:size=10,uidmapping=3:7:1"), &here).unwrap().unwrap();
        assert_eq!(lines(&made.users), "0 201024 3, 3 7 1, 4 201027 6");
        assert!(maps(&parse("auto:size=9000"), &here).is_err());
        here.subgid.clear();
        assert!(maps(&parse("auto"), &here).unwrap_err().to_string().contains("/etc/subgid"));
    }

    #[test]
    fn maps_that_are_given() {
        let of = |users: &[&str], groups: &[&str], name: Option<&str>| {
            let list = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
            let mode =
                UserNamespaceMode::Host.with_maps(list(users), list(groups), name.map(str::to_owned), None);
            maps(&mode.unwrap(), &here(true)).map(Option::unwrap)
        };
        let made = of(&["0:1:10", "10:@1000:1"], &["0:1:10", "g10:@1001:1"], None).unwrap();
        assert_eq!(lines(&made.users), "0 1 10, 10 0 1");
        assert_eq!(made.users, made.groups);
        assert!(of(&["0:@5:1"], &[], None).is_err());
        let made = of(&[], &[], Some("ann")).unwrap();
        assert_eq!(
            (lines(&made.users), lines(&made.groups)),
            ("0 500 10, 10 900 5".into(), "0 500 20".into())
        );
        assert_eq!(lines(&of(&["0:0:10"], &[], None).unwrap().users), "0 0 1, 1 1 9");
        assert!(of(&["0:1:10", "5:100:10"], &[], None).is_err());
        assert!(of(&[], &[], Some("nobody-here")).is_err());
    }

    #[test]
    fn accounts_need_ids() {
        assert_eq!(needed([b"a:x:0:0:::\nnobody:x:65534:1::\nb:x:1000:1:::", b"g:x:1500:"]), 1501);
    }
}
