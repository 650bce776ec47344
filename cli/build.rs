//! Links the program to a fixed address.
//!
//! A position-independent executable is relocated at each start: 26,000 addresses, on half a megabyte of pages that each
//! process then has for itself. Every container's monitor is such a process. The heap, the stack and the libraries lie
//! at random addresses all the same.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |key: &str| std::env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    if target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
