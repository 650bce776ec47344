//! Processes: clone3, setns, exec, wait.
