//! Device rules as a BPF program for the unified tree, which has no files for them.
//!
//! The kernel runs the program for each access with a context of three u32: kind (low half) and access (high half),
//! major, minor. The last matching rule decides, as the order of writes to the old layout's files does; so rules are
//! compiled from the last to the first, and the first hit returns.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use sys::bpf::Instruction;

// BPF_DEVCG_DEV_*, BPF_DEVCG_ACC_*
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
const EVERY_ACCESS: i32 = MKNOD | READ | WRITE;

// Registers: r1 is the context and later scratch; r2 kind, r3 access, r4 major, r5 minor.
fn load_word(register: u8, offset: i16) -> Instruction {
    Instruction { code: 0x61, registers: register | 1 << 4, offset, immediate: 0 }
}

fn immediate(code: u8, register: u8, immediate: i32) -> Instruction {
    Instruction { code, registers: register, offset: 0, immediate }
}

const AND32: u8 = 0x54;
const RSH32: u8 = 0x74;
const MOV32: u8 = 0xb4;
const MOV64: u8 = 0xb7;
/// `w1 = w3`: 32-bit move of register 3 to register 1.
const COPY_ACCESS: Instruction = Instruction { code: 0xbc, registers: 1 | 3 << 4, offset: 0, immediate: 0 };
const EXIT: Instruction = Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 };
/// Jump when not equal, 64-bit: the registers hold zero-extended words.
const JNE: u8 = 0x55;

/// What one rule matches.
struct Rule {
    allow: bool,
    kind: Option<i32>,
    access: i32,
    major: Option<i32>,
    minor: Option<i32>,
}

impl Rule {
    fn new(rule: &LinuxDeviceCgroup) -> Self {
        let kind = match rule.typ() {
            Some(LinuxDeviceType::B) => Some(BLOCK),
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(CHARACTER),
            // A pipe is no device; nothing asks for it, and `a` or nothing is both kinds.
            _ => None,
        };
        let mut access = 0;
        for letter in rule.access().as_deref().unwrap_or("").chars() {
            access |= match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MKNOD,
                _ => 0,
            };
        }
        // `a` means everything to the kernel's own files, whatever numbers follow.
        if kind.is_none() {
            return Self { allow: rule.allow(), kind: None, access: EVERY_ACCESS, major: None, minor: None };
        }
        let number =
            |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok()).map(u32::cast_signed);
        Self {
            allow: rule.allow(),
            kind,
            access: if access == 0 { EVERY_ACCESS } else { access },
            major: number(rule.major()),
            minor: number(rule.minor()),
        }
    }

    fn matches_everything(&self) -> bool {
        self.kind.is_none() && self.access == EVERY_ACCESS && self.major.is_none() && self.minor.is_none()
    }
}

/// Compiles the rules; without a rule that says otherwise everything is refused.
pub(super) fn compile(rules: &[LinuxDeviceCgroup]) -> Vec<Instruction> {
    let mut program = vec![
        load_word(2, 0),
        immediate(AND32, 2, 0xffff),
        load_word(3, 0),
        immediate(RSH32, 3, 16),
        load_word(4, 4),
        load_word(5, 8),
    ];
    let mut complete = false;
    for rule in rules.iter().rev().map(Rule::new) {
        if rule.matches_everything() {
            program.extend([immediate(MOV64, 0, i32::from(rule.allow)), EXIT]);
            complete = true;
            break;
        }
        append(&mut program, &rule);
    }
    if !complete {
        program.extend([immediate(MOV64, 0, 0), EXIT]);
    }
    program
}

fn append(program: &mut Vec<Instruction>, rule: &Rule) {
    let mut block = Vec::new();
    if let Some(kind) = rule.kind {
        block.push(immediate(JNE, 2, kind));
    }
    if rule.access != EVERY_ACCESS {
        block.push(COPY_ACCESS);
        if rule.allow {
            // Allowed only if nothing beyond the rule's access is asked.
            block.push(immediate(AND32, 1, !rule.access & EVERY_ACCESS));
            block.push(immediate(JNE, 1, 0));
        } else {
            // Refused if any of the rule's access is asked.
            block.push(immediate(AND32, 1, rule.access));
            block.push(Instruction { code: 0x15, registers: 1, offset: 0, immediate: 0 });
        }
    }
    // A comparison sign-extends its operand to 64 bits, so numbers from 2^31 are compared as 32-bit words.
    for (register, number) in [(4, rule.major), (5, rule.minor)] {
        if let Some(number) = number {
            block.push(immediate(0x56, register, number));
        }
    }
    block.extend([immediate(MOV32, 0, i32::from(rule.allow)), EXIT]);
    let end = block.len();
    for (index, instruction) in block.iter_mut().enumerate() {
        if matches!(instruction.code, 0x15 | 0x55 | 0x56) {
            // At most ten instructions a block.
            instruction.offset = i16::try_from(end - index - 1).unwrap_or(0);
        }
    }
    program.extend(block);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Runs a program of the few instructions that `compile` uses.
    pub(crate) fn allowed(program: &[Instruction], kind: i32, access: i32, major: u32, minor: u32) -> bool {
        let context = [(access.cast_unsigned() << 16) | kind.cast_unsigned(), major, minor];
        let mut r = [0_u64; 11];
        let mut pc = 0;
        loop {
            let i = program[pc];
            let dst = usize::from(i.registers & 15);
            let imm = i.immediate.cast_unsigned();
            pc += 1;
            let skip = usize::try_from(i.offset).unwrap();
            #[allow(clippy::cast_possible_truncation)]
            let low = r[dst] as u32;
            match i.code {
                0x61 => r[dst] = u64::from(context[skip / 4]),
                AND32 => r[dst] = u64::from(low & imm),
                RSH32 => r[dst] = u64::from(low >> imm),
                MOV32 | MOV64 => r[dst] = u64::from(imm),
                0xbc => r[dst] = r[3],
                0x55 if r[dst] != i64::from(i.immediate).cast_unsigned() => pc += skip,
                0x15 if r[dst] == i64::from(i.immediate).cast_unsigned() => pc += skip,
                0x56 if low != imm => pc += skip,
                0x55 | 0x15 | 0x56 => {}
                0x95 => return r[0] == 1,
                code => panic!("instruction {code:#x}"),
            }
        }
    }

    fn rule(json: &str) -> LinuxDeviceCgroup {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_last_matching_rule_decides() {
        let program = compile(&[
            rule(r#"{"allow":false,"access":"rwm"}"#),
            rule(r#"{"allow":true,"type":"c","access":"m"}"#),
            rule(r#"{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"}"#),
            rule(r#"{"allow":true,"type":"c","major":136,"access":"rw"}"#),
            rule(r#"{"allow":false,"type":"c","major":1,"minor":3,"access":"w"}"#),
        ]);
        let ask = |access, major, minor| allowed(&program, CHARACTER, access, major, minor);
        assert!(ask(READ, 1, 3) && ask(MKNOD, 9, 9) && ask(READ | WRITE, 136, 7));
        assert!(
            !ask(WRITE, 1, 3) && !ask(READ | WRITE, 1, 3) && !ask(READ, 1, 5) && !ask(READ | MKNOD, 136, 7)
        );
        assert!(!allowed(&program, BLOCK, MKNOD, 1, 3));
    }

    #[test]
    fn ends_and_large_numbers() {
        assert!(!allowed(&compile(&[]), CHARACTER, READ, 1, 3));
        assert!(allowed(&compile(&[rule(r#"{"allow":true,"access":"rwm"}"#)]), BLOCK, WRITE, 8, 0));
        let high = compile(&[rule(r#"{"allow":true,"type":"b","major":4294967295,"minor":0,"access":"r"}"#)]);
        assert!(allowed(&high, BLOCK, READ, u32::MAX, 0) && !allowed(&high, BLOCK, READ, 1, 0));
    }

    #[test]
    fn the_kernel_verifies_our_programs() {
        let rules: Vec<_> = (0..40)
            .map(|n| rule(&format!(r#"{{"allow":true,"type":"c","major":{n},"access":"rw"}}"#)))
            .collect();
        if let Err(error) = sys::bpf::load_cgroup_device(&compile(&rules)) {
            assert!(
                matches!(error.raw_os_error(), Some(nix::libc::EPERM | nix::libc::ENOSYS)),
                "the verifier refused the program: {error}"
            );
        }
    }
}
