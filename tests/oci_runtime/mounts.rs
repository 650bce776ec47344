//! `mounts`, the root file system, masked and read-only paths.

use serde_json::json;

use super::lab::{Lab, each, mount, namespace};

/// The options of a mount as the container sees them.
fn options(table: &str, place: &str) -> String {
    let line = table.lines().rfind(|line| line.split(' ').nth(4) == Some(place));
    line.unwrap_or_else(|| panic!("{place} is not mounted: {table}")).split(' ').nth(5).unwrap().to_owned()
}

#[test]
fn attributes_of_a_new_file_system() {
    each(|lab| {
        for (given, wanted) in [
            (vec![], "rw,relatime"),
            (vec!["ro"], "ro,relatime"),
            (vec!["nosuid", "nodev", "noexec"], "rw,nosuid,nodev,noexec,relatime"),
            (vec!["noatime", "nodiratime"], "rw,noatime,nodiratime"),
            (vec!["strictatime"], "rw"),
            (vec!["nosuid", "suid", "ro", "rw"], "rw,relatime"),
            (vec!["async", "diratime", "relatime"], "rw,relatime"),
            (vec!["size=1m", "mode=700", "sync", "dirsync"], "rw,relatime"),
        ] {
            if lab.is_crun() && given.contains(&"suid") {
                // crun 1.28 sets whatever is ever named
                continue;
            }
            let table = lab.sh("cat /proc/self/mountinfo", |config| {
                mount(
                    config,
                    json!({ "destination": "/a", "type": "tmpfs", "source": "tmpfs", "options": given }),
                );
            });
            let found = options(&table, "/a");
            let found = found.trim_end_matches(",sync").trim_end_matches(",dirsync");
            assert_eq!(found, wanted, "{given:?}");
        }
        let said = lab.sh("stat -c %a /a; df -k /a | tail -1", |config| {
            let options = json!(["size=1m", "mode=700"]);
            mount(
                config,
                json!({ "destination": "/a", "type": "tmpfs", "source": "tmpfs", "options": options }),
            );
        });
        // runc 1.1 gives it the mode of the directory below
        assert!((!lab.ours || said.starts_with("700\n")) && said.contains(" 1024 "), "{said}");
    });
}

#[test]
fn bind_mounts_and_what_is_below_them() {
    each(|lab| {
        let source = lab.path("source");
        std::fs::create_dir_all(source.join("below")).unwrap();
        std::fs::write(source.join("file"), "x").unwrap();
        let below = source.join("below");
        crate::support::tool("mount", ["-t", "tmpfs", "below", below.to_str().unwrap()]).ok();
        let run = |options: &[&str]| {
            lab.sh("cat /proc/self/mountinfo", |config| {
                mount(
                    config,
                    json!({ "destination": "/a", "type": "bind", "source": source, "options": options }),
                );
            })
        };
        let plain = run(&["bind", "ro", "nosuid"]);
        assert!(options(&plain, "/a").starts_with("ro,nosuid,"), "{plain}");
        assert!(!plain.contains("/a/below"), "{plain}");
        let recursive = run(&["rbind", "ro"]);
        assert!(options(&recursive, "/a").starts_with("ro,"));
        assert!(options(&recursive, "/a/below").starts_with("rw,"), "{recursive}");
        let all = run(&["rbind", "rro", "rnosuid"]);
        assert!(options(&all, "/a/below").starts_with("ro,nosuid,"), "{all}");
        let more = if lab.is_crun() {
            &["rbind", "rnodev", "rnoexec"][..]
        } else {
            &["rbind", "rnodev", "rnoatime", "rnodiratime", "rnoexec"]
        };
        let more = run(more);
        assert!(options(&more, "/a/below").starts_with("rw,nodev,noexec,"), "{more}");
        assert!(lab.is_crun() || options(&more, "/a/below").ends_with("noatime,nodiratime"), "{more}");
        if lab.ours {
            // runc 1.1 clears before it sets, whatever the order
            let back = run(&["rbind", "rro", "rrw", "defaults"]);
            assert!(options(&back, "/a/below").starts_with("rw,"), "{back}");
        }
        crate::support::tool("umount", [&below]).ok();
        // files, and sources relative to the bundle
        let said = lab.sh("cat /a/copied /etc/passwd", |config| {
            let source = source.join("file");
            mount(config, json!({ "destination": "/a/copied", "type": "bind", "source": "../source/file", "options": ["bind"] }));
            mount(config, json!({ "destination": "/etc/passwd", "source": source, "options": ["rbind", "ro"] }));
            config["mounts"].as_array_mut().unwrap().insert(0, json!({ "destination": "/a", "type": "tmpfs", "source": "t" }));
        });
        assert_eq!(said, "xx");
        let missing = lab.run("true", |config| {
            mount(
                config,
                json!({ "destination": "/a", "type": "bind", "source": "/none", "options": ["bind"] }),
            );
        });
        assert!(missing.code == 1 && missing.stderr.to_lowercase().contains("no such file"), "{missing:?}");
    });
}

#[test]
fn mounts_are_made_in_their_order() {
    each(|lab| {
        let said = lab.sh("ls /a; ls /a/b", |config| {
            mount(config, json!({ "destination": "/a", "type": "tmpfs", "source": "t" }));
            mount(config, json!({ "destination": "/a/b", "type": "tmpfs", "source": "t" }));
            mount(config, json!({ "destination": "/a/b/c", "type": "tmpfs", "source": "t" }));
        });
        assert_eq!(said, "b\nc");
    });
}

#[test]
fn links_of_the_image_lead_nowhere_else() {
    each(|lab| {
        let root = lab.path("root");
        crate::support::tool("cp", ["-a", super::lab::rootfs().to_str().unwrap(), root.to_str().unwrap()])
            .ok();
        let outside = lab.path("outside");
        std::fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
        let done = lab.run("ls -d /link/.", |config| {
            config["root"] = json!({ "path": root, "readonly": false });
            mount(config, json!({ "destination": "/link/sub", "type": "tmpfs", "source": "t" }));
        });
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{done:?}");
    });
}

#[test]
fn a_copy_of_what_the_image_has() {
    each(|lab| {
        let said = lab.sh("cat /etc/deep/file; echo more >/etc/new; ls /etc", |config| {
            mount(
                config,
                json!({ "destination": "/etc", "type": "tmpfs", "source": "t", "options": ["tmpcopyup"] }),
            );
        });
        assert!(said.starts_with("from the image\n") && said.contains("new"), "{said}");
    });
}

#[test]
fn propagation_of_mounts_and_root() {
    each(|lab| {
        let source = lab.path("source");
        std::fs::create_dir(&source).unwrap();
        crate::support::tool("mount", ["-t", "tmpfs", "--make-shared", "s", source.to_str().unwrap()]).ok();
        for (option, word) in [("rshared", "shared:"), ("rslave", "master:"), ("rprivate", "")] {
            let table = lab.sh("cat /proc/self/mountinfo", |config| {
                let options = json!(["rbind", option]);
                mount(
                    config,
                    json!({ "destination": "/a", "type": "bind", "source": source, "options": options }),
                );
                if option != "rprivate" {
                    config["linux"]["rootfsPropagation"] = json!("rslave");
                }
            });
            let line = table.lines().find(|line| line.split(' ').nth(4) == Some("/a")).unwrap();
            let optional = line.split(" - ").next().unwrap().split(' ').skip(6).collect::<Vec<_>>().join(" ");
            if word.is_empty() {
                assert_eq!(optional, "", "{option}: {line}");
            } else if !lab.is_crun() || option != "rshared" {
                // crun makes slaves of all that is below a root that is one
                assert!(optional.contains(word), "{option}: {line}");
            }
        }
        crate::support::tool("umount", [&source]).ok();
        // runc sets it on the tree around the root, and the root itself stays private
        for (word, wanted) in [("shared", "shared:"), ("unbindable", "unbindable"), ("private", "")] {
            if !lab.ours {
                continue;
            }
            let table = lab.sh("cat /proc/self/mountinfo", |config| {
                config["linux"]["rootfsPropagation"] = json!(word);
            });
            let line = table.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
            let optional = line.split(" - ").next().unwrap().split(' ').skip(6).collect::<Vec<_>>().join(" ");
            assert_eq!(optional.split(':').next().unwrap(), wanted.trim_end_matches(':'), "{word}: {line}");
        }
    });
}

#[test]
fn masked_read_only_and_root() {
    each(|lab| {
        let said = lab.sh(
            "cat /proc/keys | wc -c; ls /sys/firmware | wc -l; (echo 1 >/proc/sys/net/ipv4/ip_forward) 2>&1 | \
             grep -c Read-only; touch /x 2>&1 | grep -c Read-only; cat /etc/deep/file | wc -c; touch /tmp/x",
            |config| {
                config["linux"]["maskedPaths"] = json!(["/proc/keys", "/sys/firmware", "/etc/deep/file", "/none"]);
                config["linux"]["readonlyPaths"] = json!(["/proc/sys", "/none"]);
            },
        );
        assert_eq!(said, "0\n0\n1\n1\n0");
    });
}

#[test]
fn owners_through_a_mapping_of_the_mount() {
    // runc 1.1 has no mappings of mounts
    let lab = Lab::davit();
    let source = lab.path("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "x").unwrap();
    std::os::unix::fs::chown(source.join("file"), Some(1000), Some(1001)).unwrap();
    let map = |outside: u32| json!([{ "containerID": outside, "hostID": 5000, "size": 10 }]);
    for option in ["idmap", "ridmap"] {
        let said = lab.sh("stat -c %u:%g /a/file", |config| {
            mount(
                config,
                json!({ "destination": "/a", "type": "bind", "source": source, "options": ["rbind", option],
                "uidMappings": map(1000), "gidMappings": map(1001) }),
            );
        });
        assert_eq!(said, "5000:5000", "{option}");
    }
    // with the container's own mapping
    let said = lab.sh("stat -c %u:%g /a/file", |config| {
        namespace(config, json!({ "type": "user" }));
        config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
        config["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
        mount(
            config,
            json!({ "destination": "/a", "type": "bind", "source": source, "options": ["bind", "idmap"] }),
        );
    });
    assert_eq!(said, "1000:1001");
}

#[test]
fn remounts_and_links_that_are_not_followed() {
    let lab = Lab::davit();
    let table = lab.sh("cat /proc/self/mountinfo", |config| {
        mount(config, json!({ "destination": "/a", "type": "tmpfs", "source": "t" }));
        mount(config, json!({ "destination": "/a", "type": "none", "source": "none", "options": ["remount", "ro", "nosymfollow"] }));
    });
    assert_eq!(options(&table, "/a"), "ro,relatime,nosymfollow");
}

#[test]
fn the_root_may_be_changed_without_pivot() {
    each(|lab| {
        let bundle = lab.bundle("ls /; cat /proc/1/root/etc/deep/file", |_| {});
        let done = lab.verb(["run", "--no-pivot", "-b", bundle.to_str().unwrap(), &lab.id()]);
        assert!(done.ok().ends_with("from the image"), "{done:?}");
    });
}
