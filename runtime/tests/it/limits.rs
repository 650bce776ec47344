//! Resource limits and the records they leave.

use crate::lab::{Lab, Test, spec};
use serde_json::json;

pub(crate) const TESTS: &[Test] = &[
    ("limits::rlimits", rlimits),
    ("limits::pids", pids),
    ("limits::out_of_memory", out_of_memory),
    ("limits::oom_score", oom_score),
];

fn rlimits(lab: &Lab) {
    let mut value = spec(&["sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c"]);
    value["process"]["rlimits"] = json!([
        { "type": "RLIMIT_NOFILE", "soft": 333, "hard": 444 }, { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }
    ]);
    assert_eq!(lab.run_spec(&value).stdout, "333\n444\n0\n");
}

fn pids(lab: &Lab) {
    let mut value = spec(&["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait"]);
    value["linux"]["resources"] = json!({ "pids": { "limit": 5 } });
    let output = lab.run_limited(&value);
    assert!(output.stderr.contains("fork"), "{output:?}");
}

fn out_of_memory(lab: &Lab) {
    let mut value =
        spec(&["sh", "-c", "head -c 200m /dev/zero | tail; x=$(yes | head -c 100000000); echo survived"]);
    value["process"]["args"] = json!(["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"]);
    value["linux"]["resources"] =
        json!({ "memory": { "limit": 16 * 1024 * 1024, "swap": 16 * 1024 * 1024 } });
    let record = lab.run_limited(&value).record;
    assert_eq!((record.code, record.oom_killed), (137, true), "{record:?}");
    assert_eq!(record.memory_limit_bytes, Some(16 * 1024 * 1024));
    assert!(record.memory_peak_bytes.is_some_and(|peak| peak > 8 * 1024 * 1024), "{record:?}");
}

fn oom_score(lab: &Lab) {
    let mut value = spec(&["cat", "/proc/self/oom_score_adj"]);
    value["process"]["oomScoreAdj"] = json!(321);
    assert_eq!(lab.run_spec(&value).stdout, "321\n");
}
