//! `system df`, `system reset`, `update`.

use crate::support::Davit;

#[test]
fn df_counts_shared_layers_once() {
    let davit = Davit::with_busybox();
    davit.run(["run", "--name", "c", "busybox", "sh", "-c", "dd if=/dev/zero of=/x bs=1000 count=3000"]).ok();
    davit.run(["commit", "-q", "c", "more"]).ok();
    let rows = davit
        .run([
            "system",
            "df",
            "--format",
            "{{.Type}}|{{.Total}}|{{.Active}}|{{.RawSize}}|{{.RawReclaimable}}",
        ])
        .ok();
    let rows: Vec<Vec<&str>> = rows.lines().map(|line| line.split('|').collect()).collect();
    let number = |row: usize, column: usize| rows[row][column].parse::<u64>().unwrap();
    assert_eq!(rows[0][..3], ["Images", "2", "1"]);
    assert_eq!(rows[1][..3], ["Containers", "1", "0"]);
    assert_eq!(rows[2], ["Local Volumes", "0", "0", "0", "0"]);
    let base: u64 = davit.inspect("busybox", "{{.Size}}").parse().unwrap();
    let whole = number(0, 3);
    assert!(whole < base + 3_100_000, "the base counts once: {whole} with a base of {base}");
    // only what the container does not need can go
    assert_eq!(number(0, 4), 3_000_000);
    assert!((3_000_000..3_100_000).contains(&number(1, 3)));
    // Podman's table
    let table = davit.run(["system", "df"]).ok();
    assert!(table.starts_with("TYPE           TOTAL       ACTIVE      SIZE        RECLAIMABLE\nImages         2           1           "), "{table}");
    assert!(table.contains("3MB ("), "{table}");
    let verbose = davit.run(["system", "df", "-v"]).ok();
    assert!(verbose.contains("REPOSITORY         TAG         IMAGE ID"), "{verbose}");
    assert!(
        verbose.contains("UNIQUE SIZE  CONTAINERS") && verbose.contains("Containers space usage:"),
        "{verbose}"
    );
}

#[test]
fn a_reset_leaves_nothing() {
    let davit = Davit::with_busybox();
    davit.run(["run", "-d", "busybox", "sleep", "100"]).ok();
    davit.run(["manifest", "create", "list", "busybox"]).ok();
    davit.run_with_input(["system", "reset"], b"n\n").ok();
    assert_eq!(davit.run(["ps", "-q"]).ok().lines().count(), 1);
    davit.run(["system", "reset", "-f"]).ok();
    assert_eq!(davit.run(["ps", "-aq"]).ok(), "");
    assert_eq!(davit.run(["images", "-q"]).ok(), "");
    assert_ne!(davit.run(["manifest", "exists", "list"]).code, 0);
    for left in ["containers", "snapshots", "active", "blobs/sha256", "names"] {
        let path = davit.root().join(left);
        let names: Vec<_> =
            std::fs::read_dir(&path).map(|entries| entries.flatten().collect()).unwrap_or_default();
        assert!(names.is_empty(), "{left}: {names:?}");
    }
}

#[test]
fn limits_change_while_a_container_runs() {
    let davit = Davit::with_busybox();
    davit
        .run(["run", "-d", "--name", "c", "-m", "64m", "-e", "A=1", "-e", "B=1", "busybox", "sleep", "100"])
        .ok();
    let id = davit.inspect("c", "{{.Id}}");
    assert_eq!(davit.run(["update", "-m", "100m", "--pids-limit", "50", "--cpus", "0.5", "c"]).ok(), id);
    assert_eq!(
        davit.inspect("c", "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.NanoCpus}}"),
        "104857600 50 500000000"
    );
    let limit = davit.run(["stats", "--no-stream", "--format", "{{.MemLimit}}", "c"]).ok();
    assert_eq!(limit, "104857600", "the kernel has it too");
    let forks = davit.run(["exec", "c", "sh", "-c", "for i in $(seq 60); do sleep 5 & done; wait"]);
    assert!(forks.stderr.contains("fork") && forks.code != 0, "{forks:?}");
    davit.run(["update", "-m", "1k", "c"]).fails(125, "memory 1024");
    davit.run(["update", "--cpus", "1", "--cpu-quota", "5", "c"]).fails(125, "--cpus");
    assert_eq!(davit.inspect("c", "{{.HostConfig.Memory}}"), "104857600", "what was refused changes nothing");
    // from the next start on
    davit.run(["update", "-e", "A=2", "--unsetenv", "B", "-l"]).ok();
    davit.run(["restart", "-t", "0", "c"]).ok();
    assert_eq!(davit.run(["exec", "c", "sh", "-c", "echo $A$B"]).ok(), "2");
    assert_eq!(
        davit.run(["events", "--stream=false", "--filter=event=update", "--format={{.Name}}"]).ok(),
        "c\nc"
    );
}
