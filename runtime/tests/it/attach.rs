//! Terminals, attach, detach, logs.

use std::os::fd::AsFd;

use crate::lab::{Lab, Test, collect, finish, parse, spec};
use runtime::attach::{Client, Event, PumpEnd, PumpStreams};
use runtime::{LogConfig, StdinMode};
use serde_json::json;

pub(crate) const TESTS: &[Test] = &[
    ("attach::terminal", terminal),
    ("attach::resize", resize),
    ("attach::detach_and_return", detach_and_return),
    ("attach::several_clients", several_clients),
    ("attach::input_that_stays_open", input_that_stays_open),
    ("attach::log", log),
];

fn terminal(lab: &Lab) {
    let mut value = spec(&[
        "sh",
        "-c",
        "tty; stty size; stat -c %t:%T /dev/console; echo err >&2; ls -l /proc/self/fd/0",
    ]);
    value["process"]["terminal"] = json!(true);
    value["process"]["consoleSize"] = json!({ "height": 33, "width": 77 });
    let output = lab.run_spec(&value);
    assert!(output.stdout.starts_with("/dev/pts/0\r\n33 77\r\n88:0\r\nerr\r\n"), "{output:?}");
    assert_eq!(output.stderr, "");
}

fn resize(lab: &Lab) {
    let mut value =
        spec(&["sh", "-c", "trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.05; done"]);
    value["process"]["terminal"] = json!(true);
    let spec = parse(&value);
    let mut launched = lab.spawner.launch(lab.launch(&spec)).unwrap();
    let client = launched.attach.take().unwrap();
    assert_eq!(client.receive().unwrap(), Event::Stdout(b"ready\r\n".to_vec()));
    client.resize(44, 99).unwrap();
    let (end, stdout, _) = collect(&client, None);
    assert!(matches!(end, PumpEnd::Exited(record) if record.code == 3));
    assert_eq!(stdout, "44 99\r\n");
}

fn detach_and_return(lab: &Lab) {
    let mut value = spec(&["sh", "-c", "read a; echo got $a; read b; echo got $b"]);
    value["process"]["terminal"] = json!(true);
    let spec = parse(&value);
    let mut launch = lab.launch(&spec);
    launch.stdin = StdinMode::Attach { keep_open: true };
    let run_dir = launch.run_dir.clone();
    let mut launched = lab.spawner.launch(launch).unwrap();
    let client = launched.attach.take().unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, b"one\n\x10\x11").unwrap();
    let streams =
        PumpStreams { stdin: Some(reader.as_fd()), detach_keys: &[16, 17], ..PumpStreams::default() };
    assert_eq!(client.pump(&streams).unwrap(), PumpEnd::Detached);
    drop(client);
    let client = Client::connect(&run_dir).unwrap();
    client.send_stdin(b"two\n").unwrap();
    let (end, stdout, _) = collect(&client, None);
    assert!(matches!(end, PumpEnd::Exited(_)));
    assert!(stdout.contains("got two"), "{stdout}");
    launched.wait().unwrap();
    launched.finish();
}

fn several_clients(lab: &Lab) {
    let spec = parse(&spec(&["sh", "-c", "read x; echo $x; echo e >&2"]));
    let mut launch = lab.launch(&spec);
    launch.stdin = StdinMode::Attach { keep_open: true };
    let run_dir = launch.run_dir.clone();
    let launched = lab.spawner.launch(launch).unwrap();
    let second = Client::connect(&run_dir).unwrap();
    second.send_stdin(b"hello\n").unwrap();
    let first = finish(launched, None);
    let (_, stdout, stderr) = collect(&second, None);
    assert_eq!((stdout.as_str(), stderr.as_str()), ("hello\n", "e\n"));
    assert_eq!(first.stdout, "hello\n");
}

fn input_that_stays_open(lab: &Lab) {
    let spec = parse(&spec(&["sh", "-c", "read x; echo $x"]));
    let mut launch = lab.launch(&spec);
    launch.stdin = StdinMode::Attach { keep_open: true };
    let run_dir = launch.run_dir.clone();
    let mut launched = lab.spawner.launch(launch).unwrap();
    let client = launched.attach.take().unwrap();
    client.close_stdin().unwrap();
    drop(client);
    assert!(
        launched
            .wait_until(std::time::Instant::now() + std::time::Duration::from_millis(200))
            .unwrap()
            .is_none()
    );
    Client::connect(&run_dir).unwrap().send_stdin(b"late\n").unwrap();
    assert_eq!(launched.wait().unwrap().code, 0);
    launched.finish();
}

fn log(lab: &Lab) {
    let spec = parse(&spec(&["sh", "-c", "echo one; echo two >&2; sleep 0.1; printf three"]));
    let mut launch = lab.launch(&spec);
    let path = launch.run_dir.join("ctr.log");
    launch.log = Some(LogConfig { path: path.clone(), max_bytes: 0 });
    finish(lab.spawner.launch(launch).unwrap(), None);
    let text = std::fs::read_to_string(path).unwrap();
    let records: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(records.len(), 3, "{text}");
    for record in ["stdout F one", "stderr F two", "stdout P three"] {
        assert!(records.contains(&record), "{text}");
    }
}
