//! Whole filters, interpreted; and compared with libseccomp's where it is installed.

use std::collections::BTreeSet;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompBuilder};
use sys::seccomp_load::Instruction;

use super::table::Architecture;
use super::*;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const EINVAL: u32 = 0x0005_0016;

/// What the kernel hands to a filter.
#[derive(Clone, Copy, Debug)]
struct Call {
    architecture: u32,
    number: u32,
    arguments: [u64; 6],
}

/// Runs a program as the kernel does, with its checks: every jump forward and inside, every load aligned.
fn judge(program: &[Instruction], call: Call) -> u32 {
    let mut data = Vec::new();
    data.extend(call.number.to_ne_bytes());
    data.extend(call.architecture.to_ne_bytes());
    data.extend(0_u64.to_ne_bytes());
    for argument in call.arguments {
        data.extend(argument.to_ne_bytes());
    }
    let mut a = 0_u32;
    let mut x = 0_u32;
    let mut memory = [0_u32; 16];
    let mut pc = 0;
    loop {
        let i = program[pc];
        pc += 1;
        let take = |hit: bool| usize::from(if hit { i.jt } else { i.jf });
        let k = usize::try_from(i.k).unwrap();
        match i.code {
            0x20 => a = u32::from_ne_bytes(data[k..k + 4].try_into().unwrap()),
            0x05 => pc += k,
            0x15 => pc += take(a == i.k),
            0x25 => pc += take(a > i.k),
            0x35 => pc += take(a >= i.k),
            0x54 => a &= i.k,
            0x06 => return i.k,
            // libseccomp's alone: scratch memory and the index register.
            0x02 => memory[k] = a,
            0x60 => a = memory[k],
            0x07 => x = a,
            0x87 => a = x,
            0x00 => a = i.k,
            code => panic!("instruction {code:#x}"),
        }
    }
}

fn call(architecture: Architecture, name: &str, arguments: &[u64]) -> Call {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    let number = architecture.numbers().get(name).unwrap_or_else(|| panic!("{name}"));
    Call { architecture: architecture.audit(), number, arguments: all }
}

fn seccomp(json: &str) -> LinuxSeccomp {
    serde_json::from_str(json).unwrap()
}

fn program(json: &str) -> Vec<Instruction> {
    compile::compile_for(&seccomp(json), &[Architecture::X86_64, Architecture::X86]).unwrap()
}

/// A profile with one rule for `personality` (x86-64 135) that allows, the rest ENOSYS.
fn one_rule(args: &str) -> Vec<Instruction> {
    program(&format!(
        r#"{{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,
            "syscalls":[{{"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{args}]}}]}}"#
    ))
}

#[test]
fn comparisons_are_of_64_bits() {
    let values = [0, 1, 5, 6, 0xffff_ffff, 1 << 32, (1 << 32) + 5, (5 << 32) + 4, u64::MAX - 1, u64::MAX];
    type Holds = fn(u64, u64) -> bool;
    let operators: [(&str, Holds); 6] = [
        ("EQ", |a, b| a == b),
        ("NE", |a, b| a != b),
        ("LT", |a, b| a < b),
        ("LE", |a, b| a <= b),
        ("GT", |a, b| a > b),
        ("GE", |a, b| a >= b),
    ];
    for (operator, holds) in operators {
        for value in values {
            let filter = one_rule(&format!(r#"{{"index":3,"value":{value},"op":"SCMP_CMP_{operator}"}}"#));
            for argument in values {
                let probe = call(Architecture::X86_64, "personality", &[9, 9, 9, argument]);
                assert_eq!(
                    judge(&filter, probe) == ALLOW,
                    holds(argument, value),
                    "{argument} {operator} {value}"
                );
            }
        }
    }
    for (mask, value) in [(0xf0, 0x30), (0xff_0000_0000, 0x11_0000_0000), (0x1_0000_000f, 3), (u64::MAX, 5)] {
        let filter = one_rule(&format!(
            r#"{{"index":0,"value":{mask},"valueTwo":{value},"op":"SCMP_CMP_MASKED_EQ"}}"#
        ));
        for argument in [0, 3, 0x35, 0x13, 0x11_0000_0000, 0x1_0000_0003, 5, 0x11_0000_00ff] {
            let probe = call(Architecture::X86_64, "personality", &[argument]);
            assert_eq!(
                judge(&filter, probe) == ALLOW,
                argument & mask == value,
                "{argument:#x} {mask:#x} {value:#x}"
            );
        }
    }
}

#[test]
fn several_conditions_must_all_hold_unless_they_share_an_argument() {
    let both =
        one_rule(r#"{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":1,"value":2,"op":"SCMP_CMP_NE"}"#);
    let ask =
        |filter: &[Instruction], a, b| judge(filter, call(Architecture::X86_64, "personality", &[a, b]));
    assert_eq!((ask(&both, 1, 3), ask(&both, 1, 2), ask(&both, 2, 3)), (ALLOW, ENOSYS, ENOSYS));
    let either =
        one_rule(r#"{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":7,"op":"SCMP_CMP_EQ"}"#);
    assert_eq!((ask(&either, 1, 0), ask(&either, 7, 0), ask(&either, 2, 0)), (ALLOW, ALLOW, ENOSYS));
    let beyond = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_KILL",
        "args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#;
    assert!(matches!(compile(&seccomp(beyond)), Err(Error::Rule { .. })));
}

#[test]
fn of_duplicate_rules_the_first_without_conditions_wins() {
    let filter = program(
        r#"{"defaultAction":"SCMP_ACT_KILL_PROCESS","syscalls":[
        {"names":["getpid"],"action":"SCMP_ACT_LOG","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]},
        {"names":["getpid"],"action":"SCMP_ACT_ALLOW"},{"names":["getpid","getppid"],"action":"SCMP_ACT_ERRNO"}]}"#,
    );
    assert_eq!(judge(&filter, call(Architecture::X86_64, "getpid", &[1])), ALLOW);
    assert_eq!(judge(&filter, call(Architecture::X86_64, "getppid", &[])), EPERM);
    assert_eq!(judge(&filter, call(Architecture::X86_64, "read", &[])), 0x8000_0000);
}

#[test]
fn every_action_has_its_value() {
    for (action, value) in [
        ("KILL", 0),
        ("KILL_THREAD", 0),
        ("KILL_PROCESS", 0x8000_0000),
        ("TRAP", 0x0003_0000),
        ("ERRNO", 0x0005_0005),
        ("TRACE", 0x7ff0_0005),
        ("LOG", 0x7ffc_0000),
        ("NOTIFY", 0x7fc0_0000),
    ] {
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["read"],"action":"SCMP_ACT_{action}","errnoRet":5}}]}}"#
        );
        assert_eq!(judge(&program(&json), call(Architecture::X86_64, "read", &[])), value, "{action}");
    }
    let notify = r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_TSYNC"],
        "syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}]}"#;
    assert_eq!(compile(&seccomp(notify)).unwrap().flags, 1 | 8 | 16);
}

#[test]
fn other_architectures_and_x32_do_not_get_around_a_list_of_refusals() {
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],
        "syscalls":[{"names":["mount","socket"],"action":"SCMP_ACT_ERRNO"}]}"#;
    let filter = program(json);
    let mut x32 = call(Architecture::X86_64, "mount", &[]);
    x32.number |= 0x4000_0000;
    assert_eq!(judge(&filter, x32), ENOSYS);
    assert_eq!(judge(&filter, call(Architecture::X86, "mount", &[])), EPERM);
    assert_eq!(judge(&filter, call(Architecture::X86, "socketcall", &[1])), EPERM);
    assert_eq!(judge(&filter, call(Architecture::X86, "socketcall", &[2])), ALLOW);
    let other = Call { architecture: Architecture::Arm.audit(), number: 0, arguments: [0; 6] };
    assert_eq!(judge(&filter, other), 0);
    let skipped = Call { architecture: Architecture::X86_64.audit(), number: u32::MAX, arguments: [0; 6] };
    assert_eq!(judge(&filter, skipped), ALLOW);
}

#[test]
fn long_programs_jump_far_and_too_long_ones_are_refused() {
    let rules = |count: u64| {
        let args: Vec<String> =
            (0..count).map(|n| format!(r#"{{"index":0,"value":{},"op":"SCMP_CMP_EQ"}}"#, n << 33)).collect();
        format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
                {{"names":["getpid"],"action":"SCMP_ACT_ERRNO","args":[{}]}},
                {{"names":["getppid","mount"],"action":"SCMP_ACT_ERRNO"}}]}}"#,
            args.join(",")
        )
    };
    let filter = program(&rules(150));
    assert!(filter.len() > 700);
    for (value, verdict) in [(0, EPERM), (149 << 33, EPERM), (150 << 33, ALLOW), (1, ALLOW)] {
        assert_eq!(judge(&filter, call(Architecture::X86_64, "getpid", &[value])), verdict);
    }
    assert_eq!(judge(&filter, call(Architecture::X86_64, "getppid", &[])), EPERM);
    assert_eq!(judge(&filter, call(Architecture::X86_64, "write", &[])), ALLOW);
    assert_eq!(judge(&filter, call(Architecture::X86, "mount", &[])), EPERM);
    assert!(matches!(compile(&seccomp(&rules(2000))), Err(Error::TooLong { .. })));
}

#[test]
fn the_default_profile_answers_as_expected() {
    let spec = default_for(CapabilitySet::DEFAULT);
    let filter = compile::compile_for(&spec, &[Architecture::X86_64, Architecture::X86]).unwrap();
    println!("{} instructions", filter.len());
    let ask = |name: &str, arguments: &[u64]| judge(&filter, call(Architecture::X86_64, name, arguments));
    assert_eq!(ask("read", &[]), ALLOW);
    assert_eq!(ask("kexec_load", &[]), EPERM);
    assert_eq!(ask("file_setattr", &[]), ENOSYS);
    assert_eq!(ask("chroot", &[]), ALLOW);
    assert_eq!(ask("settimeofday", &[]), EPERM);
    assert_eq!(ask("personality", &[0xffff_ffff]), ALLOW);
    assert_eq!(ask("personality", &[1]), ENOSYS);
    assert_eq!(ask("socket", &[16, 0, 9]), EINVAL);
    assert_eq!((ask("socket", &[16, 0, 0]), ask("socket", &[2, 1, 0])), (ALLOW, ALLOW));
    assert_eq!(ask("socket", &[40, 1, 0]), EPERM);
    assert_eq!(ask("bpf", &[]), EPERM);
    let all = default_for(CapabilitySet::ALL);
    let filter = compile::compile_for(&all, &[Architecture::X86_64]).unwrap();
    assert_eq!(judge(&filter, call(Architecture::X86_64, "bpf", &[])), ALLOW);
    assert_eq!(judge(&filter, call(Architecture::X86_64, "socket", &[16, 0, 9])), ALLOW);
}

/// Every call of an architecture with arguments at and around the values that the profile compares with.
fn probes(architecture: Architecture, spec: &LinuxSeccomp) -> Vec<Call> {
    let rules = || spec.syscalls().iter().flatten();
    let mut values: BTreeSet<u64> = [0, 1, u64::from(u32::MAX), 1 << 32].into();
    for argument in rules().flat_map(|rule| rule.args().iter().flatten()) {
        values.extend([
            argument.value(),
            argument.value().wrapping_add(1),
            argument.value_two().unwrap_or(0),
        ]);
    }
    if !architecture.is_wide() {
        values = values.into_iter().map(|value| value & u64::from(u32::MAX)).collect();
    }
    let conditional: BTreeSet<&str> = rules()
        .filter(|rule| rule.args().as_ref().is_some_and(|args| !args.is_empty()))
        .flat_map(|rule| rule.names().iter().map(String::as_str))
        .collect();
    let numbers = architecture.numbers();
    let conditional: BTreeSet<u32> = conditional.into_iter().filter_map(|name| numbers.get(name)).collect();
    let mut probes = Vec::new();
    for number in (0..600).chain([0x3fff_ffff, u32::MAX]) {
        let plain = Call { architecture: architecture.audit(), number, arguments: [0; 6] };
        probes.push(plain);
        if conditional.contains(&number) {
            for a in &values {
                for c in &values {
                    probes.push(Call { arguments: [*a, 1, *c, 0, 0, 0], ..plain });
                }
            }
        }
    }
    probes
}

/// Lets libseccomp compile the same rules, fed in the way crun feeds them.
fn libseccomp(spec: &LinuxSeccomp) -> Option<Vec<Instruction>> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    const FEEDER: &str = include_str!("libseccomp.py");
    let child =
        Command::new("python3").args(["-c", FEEDER]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else { return None };
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(spec).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.code() == Some(77) {
        return None;
    }
    assert!(output.status.success());
    let instructions = output.stdout.chunks_exact(8).map(|raw| Instruction {
        code: u16::from_ne_bytes([raw[0], raw[1]]),
        jt: raw[2],
        jf: raw[3],
        k: u32::from_ne_bytes([raw[4], raw[5], raw[6], raw[7]]),
    });
    Some(instructions.collect())
}

fn agree_with_libseccomp(what: &str, spec: &LinuxSeccomp) {
    let Some(theirs) = libseccomp(spec) else {
        println!("skipped: no python3 with libseccomp.so.2");
        return;
    };
    let ours = compile::compile_for(spec, &[Architecture::X86_64, Architecture::X86]).unwrap();
    let mut count = 0;
    let mut different = Vec::new();
    for architecture in [Architecture::X86_64, Architecture::X86] {
        for probe in probes(architecture, spec) {
            count += 1;
            let (own, peer) = (judge(&ours, probe), judge(&theirs, probe));
            if own != peer {
                different.push(format!("{probe:x?}: {own:#x}, libseccomp {peer:#x}"));
            }
        }
    }
    println!(
        "{what}: {count} probes, {} different; {} instructions, libseccomp {}",
        different.len(),
        ours.len(),
        theirs.len()
    );
    assert!(different.is_empty(), "{what}:\n{}", different[..different.len().min(30)].join("\n"));
}

#[test]
fn default_profile_agrees_with_libseccomp() {
    for capabilities in
        [CapabilitySet::EMPTY, CapabilitySet::DEFAULT, CapabilitySet::DOCKER, CapabilitySet::ALL]
    {
        agree_with_libseccomp("built-in profile", &default_for(capabilities));
    }
}

#[test]
fn installed_profile_agrees_with_libseccomp() {
    let Ok(bytes) = std::fs::read("/usr/share/containers/seccomp.json") else {
        println!("skipped: no /usr/share/containers/seccomp.json");
        return;
    };
    let profile = Profile::parse(&bytes).unwrap();
    for capabilities in [CapabilitySet::EMPTY, CapabilitySet::DEFAULT, CapabilitySet::ALL] {
        agree_with_libseccomp("installed profile", &profile.resolve(capabilities));
    }
}

/// For a machine with the peer's file of the same generation: `DAVIT_PEER_SECCOMP=/usr/share/containers/seccomp.json`.
#[test]
fn built_in_profile_equals_the_peers_file() {
    let Some(path) = std::env::var_os("DAVIT_PEER_SECCOMP") else {
        println!("skipped: DAVIT_PEER_SECCOMP names no file");
        return;
    };
    let peer = Profile::parse(&std::fs::read(path).unwrap()).unwrap();
    let architectures = [Architecture::X86_64, Architecture::X86, Architecture::Aarch64, Architecture::Arm];
    let single = CapabilitySet::ALL.iter().map(|one| CapabilitySet::EMPTY.with(one));
    for capabilities in single.chain([CapabilitySet::EMPTY, CapabilitySet::DEFAULT, CapabilitySet::ALL]) {
        let (own, theirs) = (default_for(capabilities), peer.resolve(capabilities));
        for architecture in architectures {
            let ours = compile::compile_for(&own, &[architecture]).unwrap();
            let peers = compile::compile_for(&theirs, &[architecture]).unwrap();
            for probe in probes(architecture, &theirs) {
                assert_eq!(
                    judge(&ours, probe),
                    judge(&peers, probe),
                    "{probe:x?} {:?}",
                    capabilities.names()
                );
            }
        }
    }
}

#[test]
fn odd_profiles_agree_with_libseccomp() {
    for (what, rules) in [
        (
            "operators",
            r#"{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":5,"op":"SCMP_CMP_GT"},{"index":2,"value":4294967296,"op":"SCMP_CMP_LE"}]},
            {"names":["write"],"action":"SCMP_ACT_TRAP","args":[{"index":0,"value":5,"op":"SCMP_CMP_LT"}]},
            {"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]},
            {"names":["ioctl"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":7,"op":"SCMP_CMP_GE"}]}"#,
        ),
        (
            "masks and values beyond them",
            r#"{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":15,"valueTwo":19,"op":"SCMP_CMP_MASKED_EQ"}]}"#,
        ),
        (
            "one argument twice",
            r#"{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":5,"op":"SCMP_CMP_EQ"}]}"#,
        ),
        (
            "conditions before and after a rule without",
            r#"{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]},
            {"names":["read"],"action":"SCMP_ACT_TRAP"},{"names":["read"],"action":"SCMP_ACT_ALLOW"},
            {"names":["no_such_call","write"],"action":"SCMP_ACT_ALLOW"}"#,
        ),
        ("multiplexed", r#"{"names":["bind","semop","accept4"],"action":"SCMP_ACT_ALLOW"}"#),
    ] {
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32"],"syscalls":[{rules}]}}"#
        );
        agree_with_libseccomp(what, &seccomp(&json));
    }
}

#[test]
fn a_profile_without_rules_compiles() {
    let empty = LinuxSeccompBuilder::default().build().unwrap();
    let program = compile(&empty).unwrap();
    assert_eq!(judge(&program.instructions, call(Architecture::native().unwrap(), "read", &[])), ALLOW);
}
