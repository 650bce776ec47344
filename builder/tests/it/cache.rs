//! What hits the cache and what misses: the table of docs and peers.

use crate::harness::{Lab, Options, require_root};
use builder::build::RewriteTimes;
use std::sync::atomic::Ordering;

/// Builds twice and says which steps ran the second time.
fn second(
    first: &str,
    options: &Options,
    again: &str,
    options_again: &Options,
    between: impl FnOnce(&Lab),
) -> usize {
    let lab = Lab::new();
    lab.add_busybox();
    lab.write("f", "content");
    lab.write("g", "other");
    lab.build_with(first, options);
    between(&lab);
    lab.build_with(again, options_again).ran
}

#[test]
fn an_unchanged_build_runs_nothing_and_gives_the_same_image() {
    require_root!();
    let lab = Lab::new();
    lab.add_busybox();
    lab.write("dir/f", "content");
    let mut text =
        String::from("FROM busybox AS a\nRUN echo x > /x\nFROM busybox\nCOPY --from=a /x /x\nCOPY dir /d\n");
    for index in 0..17 {
        text.push_str(&format!("RUN echo {index} > /{index}\n"));
    }
    let first = lab.build(&text);
    let ran = lab.executor.ran.load(Ordering::SeqCst);
    // Once more so that the files are old enough to be remembered.
    std::thread::sleep(std::time::Duration::from_millis(80));
    lab.build(&text);
    let begin = std::time::Instant::now();
    let second = lab.build(&text);
    println!("cached build of 21 steps: {:?}", begin.elapsed());
    assert_eq!(second.ran, 0);
    assert_eq!(second.image_id, first.image_id);
    assert_eq!(lab.executor.ran.load(Ordering::SeqCst), ran);
    assert_eq!(second.cached, 20);
}

#[test]
fn the_table() {
    require_root!();
    let none = Options::default;
    let base = "FROM busybox\nARG V\nENV E=1\nCOPY f /f\nRUN true\n";
    let arg = |value| Options { args: vec![("V", value)], ..Options::default() };
    let nothing = |_: &Lab| {};
    // An ARG above COPY and RUN: only RUN misses, also when nothing uses it.
    assert_eq!(second(base, &arg("1"), base, &arg("2"), nothing), 1, "ARG value");
    assert_eq!(second(base, &arg("1"), base, &arg("1"), nothing), 0, "same ARG value");
    let changed = base.replace("E=1", "E=2");
    assert_eq!(second(base, &none(), &changed, &none(), nothing), 1, "ENV");
    for line in
        ["LABEL a=b", "EXPOSE 80", "CMD [\"x\"]", "VOLUME /v", "STOPSIGNAL SIGTERM", "HEALTHCHECK NONE"]
    {
        let changed = base.replace("ENV E=1", &format!("{line}\nENV E=1"));
        assert_eq!(second(base, &none(), &changed, &none(), nothing), 0, "{line}");
    }
    for line in ["USER app", "SHELL [\"/bin/ash\", \"-c\"]"] {
        let changed = base.replace("RUN", &format!("{line}\nRUN"));
        assert_eq!(second(base, &none(), &changed, &none(), nothing), 1, "{line}");
    }
    let changed = base.replace("RUN true", "RUN  true; true");
    assert_eq!(second(base, &none(), &changed, &none(), nothing), 1, "RUN text");
    assert_eq!(second(base, &none(), base, &Options { no_cache: true, ..none() }, nothing), 2, "--no-cache");
    let proxy = Options { proxy: vec![("http_proxy", "http://x")], ..none() };
    assert_eq!(second(base, &none(), base, &proxy, nothing), 0, "proxy");
    let label = Options { labels: vec![("a", "b")], ..none() };
    assert_eq!(second(base, &none(), base, &label, nothing), 0, "--label");
}

#[test]
fn files() {
    require_root!();
    let text = "FROM busybox\nCOPY f /f\nRUN true\n";
    let none = Options::default();
    let shell = |script: &'static str| {
        move |lab: &Lab| {
            let status =
                std::process::Command::new("sh").arg("-ec").arg(script).current_dir(lab.context()).status();
            assert!(status.unwrap().success(), "{script}");
        }
    };
    for (script, ran) in [
        ("touch -d 2001-01-01 f", 0),
        ("chown 5:5 f", 0),
        ("chmod 755 f", 2),
        ("echo changed > f", 2),
        ("echo changed > g", 0),
        ("cp f f2 && mv f2 f", 0),
        ("rm f && ln -s g f", 2),
        ("setfattr -n user.x -v y f 2>/dev/null || chmod 700 f", 2),
    ] {
        assert_eq!(second(text, &none, text, &none, shell(script)), ran, "{script}");
    }
}

#[test]
fn secrets_and_cache_mounts_do_not_count() {
    require_root!();
    let text = "FROM busybox\nRUN --mount=type=secret,id=s cat /run/secrets/s\nRUN --mount=type=cache,target=/c date >> /c/x\n";
    let secret = |value| Options { secrets: vec![("s", value)], ..Options::default() };
    assert_eq!(second(text, &secret("1"), text, &secret("2"), |_| {}), 0);
    let text = "FROM busybox\nRUN --mount=type=bind,source=f,target=/f cat /f\nRUN --mount=type=bind,source=g,target=/g cat /g\n";
    let none = Options::default();
    assert_eq!(second(text, &none, text, &none, |lab| lab.write("g", "changed")), 1);
}

#[test]
fn an_equal_result_of_a_changed_stage_hits() {
    require_root!();
    let text = |comment: &str| {
        format!(
            "FROM busybox AS a\nRUN echo same > /out # {comment}\nFROM busybox\nCOPY --from=a /out /out\nRUN true\n"
        )
    };
    let none = Options::default();
    assert_eq!(second(&text("one"), &none, &text("two"), &none, |_| {}), 1);
}

#[test]
fn what_a_failed_build_made_becomes_part_of_the_next_image() {
    require_root!();
    let lab = Lab::new();
    lab.add_busybox();
    let none = Options::default();
    lab.try_build("FROM busybox\nRUN echo 1 > /1\nRUN echo 2 > /2\nRUN exit 1\n", &none).unwrap_err();
    // Those layers have no digests yet.
    let built = lab.build("FROM busybox\nRUN echo 1 > /1\nRUN echo 2 > /2\nLABEL a=b\n");
    assert_eq!((built.ran, built.layers.len()), (0, 5));
    assert_eq!(lab.look(&built, "cat $R/1 $R/2"), "1\n2");
}

#[test]
fn records_survive_a_sweep_and_a_lost_one_is_built_again() {
    require_root!();
    let lab = Lab::new();
    lab.add_busybox();
    let text = "FROM busybox\nRUN echo 1 > /1\nRUN echo 2 > /2\n";
    let first = lab.build(text);
    lab.store.sweep(storage::SweepOptions::default()).unwrap();
    assert_eq!(lab.build(text).ran, 0);
    // Without the image and the record of the last step, only that one runs again.
    lab.store.images().remove(&first.image_id).unwrap();
    let records = lab.store.cache().list().unwrap();
    let last = records.iter().filter(|record| record.data["text"] == "RUN echo 2 > /2");
    for record in last {
        lab.store.cache().remove(&record.key).unwrap();
    }
    lab.store.sweep(storage::SweepOptions::default()).unwrap();
    assert_eq!(lab.build(text).ran, 1);
}

#[test]
fn a_known_result_keeps_its_time() {
    require_root!();
    let lab = Lab::new();
    lab.add_busybox();
    let text = "FROM busybox\nENV A=1\nRUN true\nENV B=1\nRUN echo > /x\nCMD [\"x\"]\n";
    let now = || Options { now: true, ..Options::default() };
    let first = lab.build_with(text, &now());
    std::thread::sleep(std::time::Duration::from_millis(20));
    let second = lab.build_with(text, &now());
    assert_eq!(first.image_id, second.image_id);
    let times: Vec<String> =
        crate::harness::config(&first).history.iter().map(|entry| entry.created.clone().unwrap()).collect();
    let new = &times[times.len() - 5..];
    assert_eq!((&new[0], &new[2]), (&new[1], &new[1]));
    assert_eq!(new[4], new[3]);
    assert!(new[1] < new[3]);
    // Another image on the same layers is another image, with the same times.
    let third = lab.build_with(&format!("{text}LABEL a=b\n"), &now());
    assert_ne!(third.image_id, first.image_id);
    assert_eq!(crate::harness::config(&third).created, crate::harness::config(&first).created);
    let again = lab.build_with(text, &Options { no_cache: true, ..now() });
    assert_eq!(again.ran, 2);
}

#[test]
fn layers_with_rewritten_times_serve_only_builds_that_ask_for_the_same() {
    require_root!();
    let text = "FROM busybox\nCOPY f /f\nRUN echo x > /x\nWORKDIR /new/dir\nCOPY --link f /linked/f\n";
    let times = |rewrite_times, timestamp: i64| Options {
        rewrite_times,
        timestamp: Some(timestamp),
        ..Options::default()
    };
    for driver in [storage::Driver::Auto, storage::Driver::Vfs] {
        let lab = Lab::with_driver(driver);
        lab.add_busybox();
        lab.write("f", "content");
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(900_000_000);
        std::fs::File::open(lab.context().join("f")).unwrap().set_modified(old).unwrap();
        let look = |options: &Options| {
            let built = lab.build_with(text, options);
            let times = lab
                .look(&built, "cd $R && stat -c %Y f x new/dir linked/f linked bin/busybox | tr '\\n' ' '");
            let times: Vec<i64> = times.split_whitespace().map(|word| word.parse().unwrap()).collect();
            (built.ran, times)
        };
        let (_, kept) = look(&times(RewriteTimes::No, 1_000_000_000));
        assert_eq!(kept[0], 900_000_000);
        assert!(kept[1..].iter().filter(|time| **time > 1_000_000_000).count() >= 3, "{kept:?}");
        // The steps below the image's are left alone in any case.
        let busybox = kept[5];
        let (limit, other) = (1_000_000_000, 1_000_000_001);
        for (options, ran, want) in [
            (times(RewriteTimes::Clamp, limit), 5, [900_000_000, limit, limit, 900_000_000, limit, busybox]),
            (times(RewriteTimes::Clamp, other), 5, [900_000_000, other, other, 900_000_000, other, busybox]),
            (times(RewriteTimes::Set, limit), 5, [limit, limit, limit, limit, limit, busybox]),
            (times(RewriteTimes::Clamp, limit), 0, [900_000_000, limit, limit, 900_000_000, limit, busybox]),
            (times(RewriteTimes::Set, limit), 0, [limit, limit, limit, limit, limit, busybox]),
        ] {
            assert_eq!(look(&options), (ran, want.to_vec()), "{driver:?} {:?}", options.rewrite_times);
        }
        assert_eq!(look(&times(RewriteTimes::No, 5)), (0, kept), "{driver:?}");
    }
}
