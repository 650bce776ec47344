"""Compiles the LinuxSeccomp JSON on stdin with libseccomp and writes the filter to stdout; exit 77 without the library."""
import ctypes
import json
import sys

try:
    lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
except OSError:
    sys.exit(77)


class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


lib.seccomp_init.restype = ctypes.c_void_p
lib.seccomp_init.argtypes = [ctypes.c_uint32]
lib.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
lib.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]
lib.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
OPS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}
ARCHES = {"SCMP_ARCH_X86": 0x40000003, "SCMP_ARCH_X86_64": 0xC000003E}


def value(action, errno):
    errno = 1 if errno is None else errno
    return {
        "SCMP_ACT_KILL": 0,
        "SCMP_ACT_KILL_THREAD": 0,
        "SCMP_ACT_KILL_PROCESS": 0x80000000,
        "SCMP_ACT_TRAP": 0x00030000,
        "SCMP_ACT_ERRNO": 0x00050000 | errno,
        "SCMP_ACT_TRACE": 0x7FF00000 | errno,
        "SCMP_ACT_LOG": 0x7FFC0000,
        "SCMP_ACT_NOTIFY": 0x7FC00000,
        "SCMP_ACT_ALLOW": 0x7FFF0000,
    }[action]


spec = json.load(sys.stdin)
default = value(spec["defaultAction"], spec.get("defaultErrnoRet"))
ctx = lib.seccomp_init(default)
for arch in spec.get("architectures", []):
    if arch in ARCHES:
        result = lib.seccomp_arch_add(ctx, ARCHES[arch])
        assert result in (0, -17), (arch, result)
for rule in spec.get("syscalls", []):
    action = value(rule["action"], rule.get("errnoRet"))
    if action == default:
        continue
    compares = [
        Compare(a["index"], OPS[a["op"][9:]], a["value"], a.get("valueTwo") or 0) for a in rule.get("args") or []
    ]
    indexes = [c.arg for c in compares]
    groups = [compares] if len(set(indexes)) == len(indexes) else [[c] for c in compares]
    for name in rule["names"]:
        number = lib.seccomp_syscall_resolve_name(name.encode())
        if number == -1:
            continue
        for group in groups:
            array = (Compare * max(len(group), 1))(*group)
            result = lib.seccomp_rule_add_array(ctx, action, number, len(group), array)
            assert result in (0, -17), (name, result)
sys.stdout.flush()
result = lib.seccomp_export_bpf(ctx, 1)
assert result == 0, result
