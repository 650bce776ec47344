//! BPF programs for cgroup devices.
