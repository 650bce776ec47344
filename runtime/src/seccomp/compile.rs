//! Compiles a [`LinuxSeccomp`] to classic BPF: architecture, then a binary search over the call numbers, then
//! comparisons of arguments.
//!
//! Semantics follow libseccomp 2.5 where profiles rely on them: of several rules for one call without conditions the
//! first one wins, and it wins over every rule with conditions; a rule that says what the default says is dropped;
//! conditions on one and the same argument are alternatives (as crun and runc feed them); an architecture that is not in the profile is killed;
//! names that an architecture lacks are skipped. x32 is always refused with ENOSYS: it is the same architecture word with
//! other numbers, so any filter that forgets it can be walked around.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
};
use sys::seccomp_load::{self, Instruction};

use super::Error;
use super::table::{self, Architecture};

/// A filter, ready to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The instructions for `sys::seccomp_load::install`.
    pub instructions: Vec<Instruction>,
    /// The flags for it (`sys::seccomp_load::FLAG_*`), with `FLAG_NEW_LISTENER` when a rule notifies.
    pub flags: u32,
}

// Operations of classic BPF (linux/bpf_common.h).
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const RET_KILL_THREAD: u32 = 0;
const RET_ERRNO: u32 = 0x0005_0000;
const ENOSYS: u32 = 38;
const EPERM: u32 = 1;
const X32_BIT: u32 = 0x4000_0000;
const MAX_INSTRUCTIONS: usize = 4096;

/// The kernel's return value of an action.
fn return_value(action: LinuxSeccompAction, errno: Option<u32>) -> u32 {
    let data = errno.unwrap_or(EPERM) & 0xffff;
    match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => RET_KILL_THREAD,
        LinuxSeccompAction::ScmpActKillProcess => 0x8000_0000,
        LinuxSeccompAction::ScmpActTrap => 0x0003_0000,
        LinuxSeccompAction::ScmpActErrno => RET_ERRNO | data,
        LinuxSeccompAction::ScmpActNotify => 0x7fc0_0000,
        LinuxSeccompAction::ScmpActTrace => 0x7ff0_0000 | data,
        LinuxSeccompAction::ScmpActLog => 0x7ffc_0000,
        LinuxSeccompAction::ScmpActAllow => 0x7fff_0000,
    }
}

/// `(argument & mask) OP value`, after the operands were prepared for the architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Condition {
    index: u32,
    operator: LinuxSeccompOperator,
    mask: u64,
    value: u64,
}

/// What happens to one call.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// Always this value.
    Fixed(u32),
    /// The first entry all of whose conditions hold; the default if none does.
    Chain(Vec<(Vec<Condition>, u32)>),
}

/// Compiles `seccomp` for this machine's kernel.
///
/// # Errors
/// A rule that cannot be expressed, a machine without a table, or a program above the kernel's length.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Program, Error> {
    let native = Architecture::native()
        .ok_or_else(|| Error::Architecture { architecture: std::env::consts::ARCH.into() })?;
    let wanted = seccomp.architectures().as_deref().unwrap_or_default();
    let mut architectures = vec![native];
    let listed = |arch: Architecture| {
        wanted.iter().any(|listed| {
            matches!(
                (listed, arch),
                (Arch::ScmpArchX86, Architecture::X86) | (Arch::ScmpArchArm, Architecture::Arm)
            )
        })
    };
    architectures.extend(native.narrow().filter(|narrow| listed(*narrow)));
    let instructions = compile_for(seccomp, &architectures)?;
    if instructions.len() > MAX_INSTRUCTIONS {
        return Err(Error::TooLong { instructions: instructions.len() });
    }
    let mut flags = 0;
    for flag in seccomp.flags().iter().flatten() {
        flags |= match flag {
            // Init has one thread when it loads the filter, so this changes nothing; it is passed on all the same.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => seccomp_load::FLAG_TSYNC,
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => seccomp_load::FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => seccomp_load::FLAG_SPEC_ALLOW,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                seccomp_load::FLAG_WAIT_KILLABLE_RECV
            }
        };
    }
    let notifies = seccomp.default_action() == LinuxSeccompAction::ScmpActNotify
        || seccomp.syscalls().iter().flatten().any(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify);
    if notifies {
        flags |= seccomp_load::FLAG_NEW_LISTENER;
        if flags & seccomp_load::FLAG_TSYNC != 0 {
            flags |= seccomp_load::FLAG_TSYNC_ESRCH;
        }
    }
    Ok(Program { instructions, flags })
}

pub(super) fn compile_for(
    seccomp: &LinuxSeccomp,
    architectures: &[Architecture],
) -> Result<Vec<Instruction>, Error> {
    let default = return_value(seccomp.default_action(), seccomp.default_errno_ret());
    let mut program = vec![load(ARCHITECTURE)];
    for architecture in architectures {
        let verdicts = verdicts(seccomp, *architecture, default)?;
        let mut block = vec![load(NUMBER)];
        if *architecture == Architecture::X86_64 {
            // -1 is what a tracer leaves for a call to be skipped; everything else up there is x32.
            block.extend([
                jump(JUMP_GREATER_EQUAL, X32_BIT, 0, 3),
                jump(JUMP_EQUAL, u32::MAX, 0, 1),
                ret(default),
                ret(RET_ERRNO | ENOSYS),
            ]);
        }
        search(&segments(&verdicts, default), default, &mut block);
        // The block may be longer than a conditional jump reaches.
        program.push(jump(JUMP_EQUAL, architecture.audit(), 1, 0));
        program.push(far(block.len()));
        program.extend(block);
    }
    program.push(ret(RET_KILL_THREAD));
    Ok(program)
}

/// What the rules say about each call of one architecture.
fn verdicts(
    seccomp: &LinuxSeccomp,
    architecture: Architecture,
    default: u32,
) -> Result<BTreeMap<u32, Verdict>, Error> {
    let numbers = architecture.numbers();
    let mut verdicts = BTreeMap::new();
    for rule in seccomp.syscalls().iter().flatten() {
        let action = return_value(rule.action(), rule.errno_ret());
        let arguments = rule.args().as_deref().unwrap_or_default();
        for name in rule.names() {
            let conditions = alternatives(name, arguments, architecture)?;
            if action == default {
                continue;
            }
            if let Some(number) = numbers.get(name) {
                add(&mut verdicts, number, &conditions, action);
            }
            if architecture == Architecture::X86 {
                let multiplexed = [("socketcall", table::socketcall(name)), ("ipc", table::ipc(name))];
                for (call, selector) in multiplexed {
                    let (Some(number), Some(selector)) = (numbers.get(call), selector) else { continue };
                    let selected = Condition {
                        index: 0,
                        operator: LinuxSeccompOperator::ScmpCmpEq,
                        // The high half of ipc's selector is a version.
                        mask: if call == "ipc" { 0xffff } else { u64::from(u32::MAX) },
                        value: u64::from(selector),
                    };
                    // The call's own arguments lie in memory behind the second one, out of a filter's reach.
                    if arguments.is_empty() || call == "socketcall" {
                        add(&mut verdicts, number, &[vec![selected]], action);
                    }
                }
            }
        }
    }
    Ok(verdicts)
}

/// The sets of conditions under which a rule applies: one, or one for each condition where an argument occurs twice.
fn alternatives(
    name: &str,
    arguments: &[LinuxSeccompArg],
    architecture: Architecture,
) -> Result<Vec<Vec<Condition>>, Error> {
    let mut conditions = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let index =
            u32::try_from(argument.index()).ok().filter(|index| *index < 6).ok_or_else(|| Error::Rule {
                syscall: name.into(),
                reason: format!("argument {} does not exist, calls have 0 to 5", argument.index()),
            })?;
        let (mask, value) = match argument.op() {
            LinuxSeccompOperator::ScmpCmpMaskedEq => (argument.value(), argument.value_two().unwrap_or(0)),
            _ => (u64::MAX, argument.value()),
        };
        // A 32-bit call's arguments have no high half, so -1 written as 64 bits is -1 there too.
        let width = if architecture.is_wide() { u64::MAX } else { u64::from(u32::MAX) };
        let mask = mask & width;
        conditions.push(Condition { index, operator: argument.op(), mask, value: value & mask });
    }
    let repeated = (0..conditions.len())
        .any(|one| conditions[..one].iter().any(|other| other.index == conditions[one].index));
    Ok(if repeated { conditions.into_iter().map(|one| vec![one]).collect() } else { vec![conditions] })
}

fn add(verdicts: &mut BTreeMap<u32, Verdict>, number: u32, alternatives: &[Vec<Condition>], action: u32) {
    for conditions in alternatives {
        let verdict = verdicts.entry(number).or_insert_with(|| Verdict::Chain(Vec::new()));
        match verdict {
            Verdict::Fixed(_) => {}
            Verdict::Chain(_) if conditions.is_empty() => *verdict = Verdict::Fixed(action),
            Verdict::Chain(entries) => entries.push((conditions.clone(), action)),
        }
    }
}

/// One range of call numbers with one verdict: from `start` to the next segment's start.
struct Segment<'a> {
    start: u32,
    verdict: Option<&'a Verdict>,
}

fn segments(verdicts: &BTreeMap<u32, Verdict>, default: u32) -> Vec<Segment<'_>> {
    let fallback = Verdict::Fixed(default);
    let mut segments: Vec<Segment<'_>> = Vec::new();
    let mut next = 0;
    for (number, verdict) in verdicts {
        if *number > next {
            join(&mut segments, next, None, &fallback);
        }
        join(&mut segments, *number, Some(verdict), &fallback);
        next = number.saturating_add(1);
    }
    join(&mut segments, next, None, &fallback);
    segments
}

fn join<'a>(segments: &mut Vec<Segment<'a>>, start: u32, verdict: Option<&'a Verdict>, fallback: &Verdict) {
    let same = segments.last().is_some_and(|last| match (last.verdict, verdict) {
        (None, None) => true,
        (Some(Verdict::Chain(_)), _) | (_, Some(Verdict::Chain(_))) => false,
        (one, other) => one.unwrap_or(fallback) == other.unwrap_or(fallback),
    });
    if !same {
        segments.push(Segment { start, verdict });
    }
}

/// Emits a balanced search tree; the accumulator holds the call number.
fn search(segments: &[Segment<'_>], default: u32, block: &mut Vec<Instruction>) {
    match segments {
        [] => block.push(ret(default)),
        [one] => match one.verdict {
            None => block.push(ret(default)),
            Some(Verdict::Fixed(value)) => block.push(ret(*value)),
            Some(Verdict::Chain(entries)) => chain(entries, default, block),
        },
        _ => {
            let (low, high) = segments.split_at(segments.len() / 2);
            let mut left = Vec::new();
            search(low, default, &mut left);
            let middle = high[0].start;
            match u8::try_from(left.len()) {
                Ok(length) => block.push(jump(JUMP_GREATER_EQUAL, middle, length, 0)),
                Err(_) => {
                    block.push(jump(JUMP_GREATER_EQUAL, middle, 0, 1));
                    block.push(far(left.len()));
                }
            }
            block.extend(left);
            search(high, default, block);
        }
    }
}

fn chain(entries: &[(Vec<Condition>, u32)], default: u32, block: &mut Vec<Instruction>) {
    for (conditions, action) in entries {
        let mut code = Vec::new();
        for condition in conditions {
            compare(*condition, &mut code);
        }
        // Every condition leaves a jump marked FAIL where it does not hold: to the next entry, behind our return. A rule
        // has at most six conditions of seven instructions, so a short jump reaches.
        let end = code.len() + 1;
        for (index, marked) in code.iter_mut().enumerate() {
            let distance = u8::try_from(end - index - 1).unwrap_or(u8::MAX);
            if marked.fail_true {
                marked.instruction.jt = distance;
            }
            if marked.fail_false {
                marked.instruction.jf = distance;
            }
        }
        block.extend(code.into_iter().map(|marked| marked.instruction));
        block.push(ret(*action));
    }
    block.push(ret(default));
}

/// An instruction one of whose jumps may still have to be pointed at the next entry.
struct Marked {
    instruction: Instruction,
    fail_true: bool,
    fail_false: bool,
}

/// Emits code that falls through where the condition holds.
fn compare(condition: Condition, code: &mut Vec<Marked>) {
    use LinuxSeccompOperator as Op;
    let plain = |instruction| Marked { instruction, fail_true: false, fail_false: false };
    let half = |value: u64, high: bool| {
        let shifted = if high { value >> 32 } else { value & u64::from(u32::MAX) };
        u32::try_from(shifted).unwrap_or(u32::MAX)
    };
    let address = ARGUMENTS + 8 * condition.index;
    // `struct seccomp_data` is in the machine's byte order.
    let (low_at, high_at) = if cfg!(target_endian = "little") { (0, 4) } else { (4, 0) };
    let (mask_high, mask_low) = (half(condition.mask, true), half(condition.mask, false));
    let (high, low) = (half(condition.value, true), half(condition.value, false));
    let load_half = |code: &mut Vec<Marked>, at: u32, mask: u32| {
        code.push(plain(load(address + at)));
        if mask != u32::MAX {
            code.push(plain(Instruction { code: AND, jt: 0, jf: 0, k: mask }));
        }
    };
    // With a mask without high bits (32-bit calls always) the high half is 0 on both sides.
    let wide = mask_high != 0;
    match condition.operator {
        Op::ScmpCmpEq | Op::ScmpCmpMaskedEq => {
            if wide {
                load_half(code, high_at, mask_high);
                code.push(Marked {
                    instruction: jump(JUMP_EQUAL, high, 0, 0),
                    fail_true: false,
                    fail_false: true,
                });
            }
            load_half(code, low_at, mask_low);
            code.push(Marked {
                instruction: jump(JUMP_EQUAL, low, 0, 0),
                fail_true: false,
                fail_false: true,
            });
        }
        Op::ScmpCmpNe => {
            if wide {
                load_half(code, high_at, mask_high);
                // Different above: holds, over the load and the comparison of the low half.
                code.push(plain(jump(JUMP_EQUAL, high, 0, 2)));
            }
            load_half(code, low_at, mask_low);
            code.push(Marked {
                instruction: jump(JUMP_EQUAL, low, 0, 0),
                fail_true: true,
                fail_false: false,
            });
        }
        Op::ScmpCmpGt | Op::ScmpCmpGe => {
            if wide {
                load_half(code, high_at, mask_high);
                // Greater: holds, over three instructions. Not greater and not equal: fails.
                code.push(plain(jump(JUMP_GREATER, high, 3, 0)));
                code.push(Marked {
                    instruction: jump(JUMP_EQUAL, high, 0, 0),
                    fail_true: false,
                    fail_false: true,
                });
            }
            load_half(code, low_at, mask_low);
            let operation =
                if condition.operator == Op::ScmpCmpGt { JUMP_GREATER } else { JUMP_GREATER_EQUAL };
            code.push(Marked { instruction: jump(operation, low, 0, 0), fail_true: false, fail_false: true });
        }
        Op::ScmpCmpLt | Op::ScmpCmpLe => {
            if wide {
                load_half(code, high_at, mask_high);
                // Greater: fails. Less: holds, over the two instructions for the low half.
                code.push(Marked {
                    instruction: jump(JUMP_GREATER, high, 0, 0),
                    fail_true: true,
                    fail_false: false,
                });
                code.push(plain(jump(JUMP_EQUAL, high, 0, 2)));
            }
            load_half(code, low_at, mask_low);
            let operation =
                if condition.operator == Op::ScmpCmpLt { JUMP_GREATER_EQUAL } else { JUMP_GREATER };
            code.push(Marked { instruction: jump(operation, low, 0, 0), fail_true: true, fail_false: false });
        }
    }
}

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, jt: 0, jf: 0, k: offset }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// A jump over `length` instructions without the 8-bit bound.
fn far(length: usize) -> Instruction {
    // The whole program is held to 4096 instructions afterwards.
    Instruction { code: JUMP, jt: 0, jf: 0, k: u32::try_from(length).unwrap_or(u32::MAX) }
}

fn ret(value: u32) -> Instruction {
    Instruction { code: RETURN, jt: 0, jf: 0, k: value }
}
