//! Volumes: made, filled, shared, kept, removed; archives and links that would lead out of them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::support::{Davit, Done, mounts_below, tool};

/// A davit with an image whose /data has content, an owner and a mode of its own, and is declared a volume.
fn with_data() -> Davit {
    let davit = Davit::with_busybox();
    let text = "FROM busybox\nRUN mkdir -p /data/sub && echo one > /data/a && echo two > /data/sub/b && ln -s a /data/link && chown -R 7:8 /data && chmod 0751 /data\nVOLUME /data\n";
    davit.build("data", text, &[]).ok();
    davit
}

fn sh(davit: &Davit, options: &[&str], image: &str, script: &str) -> Done {
    let mut words = vec!["run", "--rm", "--network=none"];
    words.extend(options);
    words.extend([image, "sh", "-c", script]);
    davit.run(words)
}

fn mountpoint(davit: &Davit, name: &str) -> PathBuf {
    davit.run(["volume", "inspect", "-f", "{{.Mountpoint}}", name]).ok().into()
}

fn names(davit: &Davit) -> Vec<String> {
    davit.run(["volume", "ls", "-q"]).ok().lines().map(str::to_owned).collect()
}

#[test]
fn volumes_are_made_listed_described_and_removed() {
    let davit = Davit::new();
    assert_eq!(davit.run(["volume", "ls"]).ok(), "");
    assert_eq!(davit.run(["volume", "create", "--label", "a=b", "one"]).ok(), "one");
    let random = davit.run(["volume", "create"]).ok();
    assert!(random.len() == 64 && random.bytes().all(|byte| byte.is_ascii_hexdigit()), "{random}");
    davit.run(["volume", "create", "one"]).fails(125, "volume one exists already");
    assert_eq!(davit.run(["volume", "create", "--ignore", "one"]).ok(), "one");
    davit.run(["volume", "create", "a/b"]).fails(125, "names must match");
    davit.run(["volume", "create", "--opt", "foo=bar"]).fails(125, "foo");
    davit.run(["volume", "create", "--driver", "nosuch"]).fails(125, "nosuch");
    let table = davit.run(["volume", "ls"]).ok();
    assert!(table.starts_with("DRIVER      VOLUME NAME\n"), "{table}");
    assert!(table.contains("local       one"), "{table}");
    assert_eq!(davit.run(["volume", "ls", "-q", "--filter", "label=a=b"]).ok(), "one");
    assert_eq!(davit.run(["volume", "ls", "-q", "--filter", "name=on"]).ok(), "one");
    davit.run(["volume", "ls", "--filter", "nosuch=1"]).fails(125, "nosuch");
    davit.run(["volume", "ls", "--filter", "dangling=maybe"]).fails(125, "true or false");
    let report: serde_json::Value =
        serde_json::from_str(&davit.run(["volume", "inspect", "one"]).ok()).unwrap();
    assert_eq!(report[0]["Labels"]["a"], "b");
    assert_eq!(report[0]["NeedsCopyUp"], true);
    assert!(Path::new(report[0]["Mountpoint"].as_str().unwrap()).is_dir());
    assert_eq!(davit.inspect("one", "{{.Driver}}"), "local");
    assert_eq!(davit.run(["volume", "exists", "one"]).code, 0);
    assert_eq!(davit.run(["volume", "exists", "two"]).code, 1);
    davit.run(["volume", "rm", "two"]).fails(1, "no such volume: two");
    assert_eq!(davit.run(["volume", "rm", "-f", "two"]).code, 0);
    assert_eq!(davit.run(["volume", "rm", &random[..8]]).code, 0);
    assert_eq!(davit.run(["volume", "prune", "-f"]).ok(), "one");
    assert!(names(&davit).is_empty());
}

#[test]
fn a_new_volume_gets_what_the_image_has() {
    let davit = with_data();
    let look =
        "stat -c '%u:%g %a' /data; cat /data/a /data/sub/b; readlink /data/link; stat -c %u /data/sub/b";
    let seen = "7:8 751\none\ntwo\na\n7";
    assert_eq!(sh(&davit, &["-v", "vol:/data"], "data", look).ok(), seen);
    sh(&davit, &["-v", "vol:/data"], "data", "echo more >> /data/a; rm /data/link").ok();
    // a later image does not fill it again
    assert_eq!(sh(&davit, &["-v", "vol:/data"], "data", "cat /data/a; ls /data").ok(), "one\nmore\na\nsub");
    assert_eq!(sh(&davit, &["-v", "vol:/x"], "busybox", "cat /x/a").ok(), "one\nmore");
    // without the copy it stays empty, and the next mount still gets it
    assert_eq!(sh(&davit, &["-v", "later:/data:nocopy"], "data", "ls /data").ok(), "");
    assert_eq!(sh(&davit, &["-v", "later:/data"], "data", "cat /data/a").ok(), "one");
    // what is there already is never covered
    davit.run(["volume", "create", "full"]).ok();
    std::fs::write(mountpoint(&davit, "full").join("mine"), "x").unwrap();
    assert_eq!(sh(&davit, &["-v", "full:/data"], "data", "ls /data").ok(), "mine");
    // read-only, and with a layer over it
    assert_eq!(sh(&davit, &["-v", "vol:/data:ro"], "data", "touch /data/n 2>/dev/null; echo $?").ok(), "1");
    assert_eq!(
        sh(&davit, &["-v", "vol:/data:O"], "data", "rm /data/a; echo n > /data/n; ls /data").ok(),
        "n\nsub"
    );
    assert_eq!(sh(&davit, &["-v", "vol:/data"], "data", "ls /data").ok(), "a\nsub");
    assert!(mounts_below(davit.dir.path().to_str().unwrap()).is_empty());
}

#[test]
fn the_owner_of_an_empty_volume_is_the_user_of_the_container() {
    let davit = Davit::with_busybox();
    let look = "stat -c %u:%g /new";
    assert_eq!(sh(&davit, &["-u", "1000:50", "-v", "mine:/new"], "busybox", look).ok(), "1000:50");
    assert_eq!(sh(&davit, &["-u", "5", "-v", "mine:/new"], "busybox", look).ok(), "1000:50");
    davit.run(["volume", "create", "--uid", "33", "--gid", "44", "theirs"]).ok();
    assert_eq!(sh(&davit, &["-u", "5", "-v", "theirs:/new"], "busybox", look).ok(), "33:44");
}

#[test]
fn anonymous_volumes_go_with_their_container() {
    let davit = with_data();
    // of the image, and one of the command line
    davit
        .run([
            "run",
            "--name",
            "one",
            "-v",
            "/more",
            "data",
            "sh",
            "-c",
            "echo x > /more/x; echo y > /data/y",
        ])
        .ok();
    let mounts = davit.inspect("one", "{{range .Mounts}}{{.Type}}:{{.Destination}}:{{.Driver}} {{end}}");
    assert_eq!(mounts.trim(), "volume:/more:local volume:/data:local");
    assert_eq!(names(&davit).len(), 2);
    davit.run(["volume", "prune", "-f"]).ok();
    assert_eq!(names(&davit).len(), 2, "a container has them");
    // rm leaves them, rm -v does not
    davit.run(["rm", "one"]).ok();
    assert_eq!(names(&davit).len(), 2);
    davit.run(["volume", "prune", "-f"]).ok();
    davit.run(["run", "--name", "two", "data", "true"]).ok();
    davit.run(["rm", "-v", "two"]).ok();
    sh(&davit, &["-v", "/more"], "data", "echo x > /more/x").ok();
    sh(&davit, &["--image-volume=ignore"], "data", "cat /data/a").ok();
    assert_eq!(
        sh(&davit, &["--image-volume=tmpfs"], "data", "grep -c ' /data tmpfs' /proc/mounts").ok(),
        "1"
    );
    assert!(names(&davit).is_empty(), "{:?}", names(&davit));
    // a container that cannot be made leaves none
    assert_ne!(davit.run(["create", "--cidfile", "/no/such/dir/id", "data", "true"]).code, 0);
    assert!(names(&davit).is_empty(), "{:?}", names(&davit));
}

#[test]
fn containers_share_a_volume_and_its_data_outlives_them() {
    let davit = Davit::with_busybox();
    davit
        .run([
            "run",
            "-d",
            "--name",
            "writer",
            "--network=none",
            "-v",
            "shared:/w",
            "busybox",
            "sh",
            "-c",
            "echo from-writer > /w/f; exec sleep 1000",
        ])
        .ok();
    assert_eq!(
        sh(
            &davit,
            &["-v", "shared:/r"],
            "busybox",
            "while [ ! -s /r/f ]; do sleep 0.1; done; cat /r/f; echo reply > /r/g"
        )
        .ok(),
        "from-writer"
    );
    assert_eq!(davit.run(["exec", "writer", "cat", "/w/g"]).ok(), "reply");
    davit.run(["volume", "rm", "shared"]).fails(2, "volume shared is in use by container writer");
    assert_eq!(
        davit.run(["ps", "-q", "--no-trunc", "--filter", "volume=shared"]).ok(),
        davit.inspect("writer", "{{.Id}}")
    );
    assert_eq!(sh(&davit, &["--volumes-from", "writer"], "busybox", "cat /w/g").ok(), "reply");
    assert_eq!(
        sh(&davit, &["--volumes-from", "writer:ro"], "busybox", "touch /w/x 2>/dev/null; echo $?").ok(),
        "1"
    );
    davit.run(["rm", "-f", "-t", "0", "writer"]).ok();
    assert_eq!(sh(&davit, &["-v", "shared:/again"], "busybox", "cat /again/f").ok(), "from-writer");
    davit.run(["create", "--name", "holds", "-v", "shared:/w", "busybox", "true"]).ok();
    davit.run(["volume", "rm", "-f", "shared"]).ok();
    assert_eq!(davit.run(["ps", "-aq"]).ok(), "", "--force takes the containers along");
    assert!(names(&davit).is_empty());
}

#[test]
fn every_type_of_mount() {
    let davit = with_data();
    let file = davit.dir.path().join("f.conf");
    std::fs::write(&file, "conf\n").unwrap();
    let dir = davit.dir.path().to_str().unwrap();
    let mount = |words: &str, script: &str| sh(&davit, &["--mount", words], "busybox", script);
    assert_eq!(
        mount("type=image,src=data,dst=/i", "cat /i/data/a; touch /i/x 2>/dev/null; echo $?").ok(),
        "one\n1"
    );
    assert_eq!(
        mount("type=image,src=data,dst=/i,rw=true", "rm /i/data/a; echo n > /i/n; cat /i/n").ok(),
        "n"
    );
    assert_eq!(mount("type=ramfs,dst=/r", "grep -c ' /r ramfs' /proc/mounts").ok(), "1");
    assert_eq!(
        mount(
            "type=devpts,dst=/dev/pts,mode=0600",
            "grep -o ' /dev/pts devpts.*mode=[0-9]*' /proc/mounts | grep -c mode=600"
        )
        .ok(),
        "1"
    );
    assert_eq!(mount(&format!("type=glob,src={dir}/*.conf,dst=/g"), "cat /g/f.conf").ok(), "conf");
    mount(&format!("type=glob,src={dir}/*.nosuch,dst=/g"), "true").fails(125, "no such file that matches");
    mount("type=nonsense,dst=/x", "true").fails(125, "nonsense");
    mount("type=image,src=nosuch,dst=/x", "true").fails(125, "nosuch");
    // a part of a volume
    sh(&davit, &["-v", "parts:/p"], "busybox", "mkdir -p /p/a/b; echo deep > /p/a/b/f; ln -s / /p/out").ok();
    assert_eq!(mount("type=volume,src=parts,dst=/d,subpath=a/b", "cat /d/f").ok(), "deep");
    mount("type=volume,src=parts,dst=/d,subpath=nosuch", "true").fails(125, "subpath nosuch");
    mount("type=volume,src=parts,dst=/d,subpath=../..", "true").fails(125, "subpath");
    // a link in it that leads to the host's root is no way out
    mount("type=volume,src=parts,dst=/d,subpath=out/etc", "cat /d/passwd").fails(125, "subpath out/etc");
    // while a container has the image mounted its layers stay, and go with it
    davit
        .run([
            "create",
            "--name",
            "keeps",
            "--mount",
            "type=image,src=data,dst=/i",
            "busybox",
            "cat",
            "/i/data/a",
        ])
        .ok();
    davit.run(["rmi", "-f", "data"]).ok();
    davit.run(["system", "prune", "--build", "-f", "--filter", "label=nosuch"]).ok();
    assert_eq!(davit.run(["start", "-a", "keeps"]).ok(), "one");
    davit.run(["rm", "keeps"]).ok();
    let active = std::fs::read_dir(davit.root().join("active")).unwrap().count();
    assert_eq!(active, 0, "snapshots are left");
    assert!(mounts_below(dir).is_empty(), "{:?}", mounts_below(dir));
}

#[test]
fn volumes_on_file_systems_of_their_own() {
    let davit = Davit::with_busybox();
    let place = davit.dir.path().to_str().unwrap().to_owned();
    davit
        .run([
            "volume",
            "create",
            "--opt",
            "type=tmpfs",
            "--opt",
            "device=tmpfs",
            "--opt",
            "o=size=4m,nosuid",
            "mem",
        ])
        .ok();
    davit
        .run([
            "run",
            "-d",
            "--name",
            "holds",
            "--network=none",
            "-v",
            "mem:/m",
            "busybox",
            "sh",
            "-c",
            "echo in-memory > /m/f; exec sleep 1000",
        ])
        .ok();
    assert_eq!(
        sh(
            &davit,
            &["-v", "mem:/m"],
            "busybox",
            "while [ ! -s /m/f ]; do sleep 0.1; done; cat /m/f; df -k /m | awk 'END {print $2}'"
        )
        .ok(),
        "in-memory\n4096"
    );
    assert_eq!(davit.run(["volume", "inspect", "-f", "{{.MountCount}}", "mem"]).ok(), "1");
    assert_eq!(mounts_below(&place).len(), 1, "while it is used it is mounted once");
    davit.run(["rm", "-f", "-t", "0", "holds"]).ok();
    assert!(mounts_below(&place).is_empty(), "{:?}", mounts_below(&place));
    // by hand
    let path = davit.run(["volume", "mount", "mem"]).ok();
    std::fs::write(Path::new(&path).join("x"), "by hand").unwrap();
    assert_eq!(sh(&davit, &["-v", "mem:/m"], "busybox", "cat /m/x").ok(), "by hand");
    assert_eq!(mounts_below(&place).len(), 1, "a container's end leaves it");
    davit.run(["volume", "rm", "mem"]).fails(2, "volume unmount mem");
    davit.run(["volume", "unmount", "mem"]).ok();
    assert!(mounts_below(&place).is_empty());
    davit.run(["volume", "rm", "mem"]).ok();
    // a directory of the host
    let host = davit.dir.path().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("f"), "of the host").unwrap();
    let device = format!("device={}", host.display());
    davit.run(["volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", &device, "bound"]).ok();
    assert_eq!(sh(&davit, &["-v", "bound:/b"], "busybox", "cat /b/f; echo back > /b/g").ok(), "of the host");
    assert_eq!(std::fs::read_to_string(host.join("g")).unwrap(), "back\n");
    davit.run(["volume", "rm", "bound"]).ok();
    assert!(host.join("f").exists(), "the host's directory stays");
}

#[test]
fn archives_come_and_go() {
    let davit = with_data();
    sh(&davit, &["-v", "from:/data"], "data", "echo more > /data/m").ok();
    let tar = davit.dir.path().join("v.tar");
    let tar = tar.to_str().unwrap();
    davit.run(["volume", "export", "-o", tar, "from"]).ok();
    let listed = tool("tar", ["-tvf", tar]).ok();
    assert!(listed.contains("7/8") && listed.contains("sub/b"), "{listed}");
    davit.run(["volume", "import", "nosuch", tar]).fails(125, "no such volume: nosuch");
    davit.run(["volume", "create", "to"]).ok();
    tool("gzip", ["-k", tar]).ok();
    davit.run(["volume", "import", "to", &format!("{tar}.gz")]).ok();
    assert_eq!(
        sh(&davit, &["-v", "to:/t"], "busybox", "cat /t/a /t/m; stat -c %u /t/sub").ok(),
        "one\nmore\n7"
    );
    davit.run_with_input(["volume", "import", "to", "-"], &std::fs::read(tar).unwrap()).ok();
    // one made to do harm: through a link, by absolute path, by ..
    let victim = davit.dir.path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind: tar::EntryType, link: &Path, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        let bytes = &mut header.as_old_mut().name;
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        if kind == tar::EntryType::Symlink {
            header.set_link_name(link).unwrap();
        }
        header.set_cksum();
        builder.append(&header, content).unwrap();
    };
    add("out", tar::EntryType::Symlink, &victim, b"");
    add("out/by-link", tar::EntryType::Regular, &victim, b"x");
    add("../../../by-dots", tar::EntryType::Regular, &victim, b"x");
    let bytes = builder.into_inner().unwrap();
    davit.run(["volume", "create", "hostile"]).ok();
    davit.run_with_input(["volume", "import", "hostile", "-"], &bytes);
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 0);
    assert!(!davit.dir.path().join("by-dots").exists() && !davit.root().join("by-dots").exists());
}

#[test]
fn links_in_an_image_do_not_lead_a_copy_out() {
    let davit = Davit::with_busybox();
    // the place itself is a link to the host's /etc, as seen from outside: it is resolved inside
    davit.build("linked", "FROM busybox\nRUN mkdir -p /real && echo inside > /real/f && ln -s /real /place && ln -s ../../../../../../etc /up\n", &[]).ok();
    assert_eq!(sh(&davit, &["-v", "a:/place"], "linked", "cat /place/f").ok(), "inside");
    let copied = sh(&davit, &["-v", "b:/up"], "linked", "cat /up/passwd").ok();
    assert!(copied.starts_with("root:x:0:0:root:/root:/bin/sh\nann:"), "the image's own: {copied}");
    let hosts = std::fs::metadata("/etc/passwd").unwrap().ino();
    assert_ne!(std::fs::metadata(mountpoint(&davit, "b").join("passwd")).unwrap().ino(), hosts);
}

#[test]
fn sizes_and_the_end_of_all() {
    let davit = Davit::with_busybox();
    sh(&davit, &["-v", "big:/b"], "busybox", "head -c 3000000 /dev/zero > /b/f").ok();
    let df = davit.run(["system", "df"]).ok();
    let line = df.lines().find(|line| line.starts_with("Local Volumes")).unwrap().to_owned();
    assert!(line.contains("3MB") || line.contains("3.0"), "{df}");
    assert!(davit.run(["system", "df", "-v"]).ok().contains("big"));
    let events = davit
        .run(["events", "--stream=false", "--filter", "type=volume", "--format", "{{.Status}} {{.Name}}"])
        .ok();
    assert!(events.contains("create big"), "{events}");
    assert!(davit.run(["system", "prune", "-f"]).ok().contains("reclaimed"));
    assert_eq!(names(&davit), ["big"], "volumes stay unless asked for");
    let done = davit.run(["system", "prune", "-f", "--volumes"]).ok();
    assert!(done.contains("Deleted Volumes\nbig"), "{done}");
    davit.run(["volume", "create", "again"]).ok();
    davit.run(["system", "reset", "-f"]).ok();
    assert!(names(&davit).is_empty());
}

#[test]
fn user_namespaces_see_their_own_owners_in_a_filled_volume() {
    let davit = with_data();
    let options = ["--uidmap=0:200000:65536", "--gidmap=0:200000:65536", "-v", "mapped:/data"];
    assert_eq!(sh(&davit, &options, "data", "stat -c %u:%g /data /data/a; id -u").ok(), "7:8\n7:8\n0");
    let outside = std::fs::metadata(mountpoint(&davit, "mapped").join("a")).unwrap();
    assert_eq!((outside.uid(), outside.gid()), (200_007, 200_008));
    let options = ["--uidmap=0:200000:65536", "--gidmap=0:200000:65536", "-v", "empty:/none", "-u", "9"];
    assert_eq!(sh(&davit, &options, "busybox", "stat -c %u /none").ok(), "9");
}

#[test]
fn fifty_commands_at_once_make_one_volume() {
    let davit = Davit::with_busybox();
    let children: Vec<_> = (0..50)
        .map(|number| {
            let script = format!("echo {number} > /v/{number}");
            davit
                .command()
                .args(["run", "--rm", "--network=none", "-v", "one:/v", "busybox", "sh", "-c", &script])
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(names(&davit), ["one"]);
    assert_eq!(std::fs::read_dir(mountpoint(&davit, "one")).unwrap().count(), 50);
}

#[test]
fn ordinary_users_have_volumes_too() {
    let davit = crate::rootless::Rootless::new();
    std::fs::create_dir_all(davit.dir.path().join("xdg")).unwrap();
    davit.file(
        "c/Containerfile",
        "FROM busybox\nRUN mkdir /data && echo one > /data/a && chown -R 7:8 /data\nVOLUME /data\n",
    );
    davit.run(&["import", "-q", "-c", "CMD [\"sh\"]", "busybox.tar", "busybox"]).ok();
    davit.run(&["build", "-q", "-t", "data", "c"]).ok();
    let sh = |options: &[&str], image: &str, script: &str| {
        davit.run(&[&["run", "--rm", "--network=none"], options, &[image, "sh", "-c", script]].concat())
    };
    assert_eq!(
        sh(&["-v", "vol:/data"], "data", "cat /data/a; stat -c %u:%g /data /data/a; echo two > /data/b").ok(),
        "one\n7:8\n7:8"
    );
    assert_eq!(sh(&["-v", "vol:/x"], "busybox", "cat /x/a /x/b").ok(), "one\ntwo");
    assert_eq!(sh(&["-v", "vol:/x:O"], "busybox", "rm /x/a; echo n > /x/n; ls /x").ok(), "b\nn");
    assert_eq!(sh(&["-v", "vol:/x"], "busybox", "ls /x").ok(), "a\nb");
    assert_eq!(sh(&["--mount", "type=image,src=data,dst=/i"], "busybox", "cat /i/data/a").ok(), "one");
    assert_eq!(
        davit.run(&["volume", "ls", "-q"]).ok(),
        "vol",
        "those of the image went with their containers"
    );
    davit.run(&["volume", "export", "-o", "v.tar", "vol"]).ok();
    davit.run(&["volume", "create", "other"]).ok();
    davit.run(&["volume", "import", "other", "v.tar"]).ok();
    assert_eq!(sh(&["-v", "other:/x"], "busybox", "cat /x/b; stat -c %u /x/a").ok(), "two\n7");
    davit.run(&["volume", "create", "--opt", "type=tmpfs", "memory"]).ok();
    sh(&["-v", "memory:/x"], "busybox", "true").fails(125, "does not outlive the command");
    davit.run(&["volume", "rm", "-a"]).ok();
}
