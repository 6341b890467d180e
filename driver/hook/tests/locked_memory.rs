//! The hook as a container runtime calls it for a process that is about to become a container.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};

fn hook(state: &str) -> Output {
    let mut hook = Command::new(env!("CARGO_BIN_EXE_tessera-hook"))
        .arg("--lift-locked-memory")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    hook.stdin.take().unwrap().write_all(state.as_bytes()).unwrap();
    hook.wait_with_output().unwrap()
}

/// The limit of a process, what it may go up to by itself and how high that may be, as the kernel writes it.
fn limit(of: &Child) -> [String; 2] {
    let limits = fs::read_to_string(format!("/proc/{}/limits", of.id())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory")).unwrap();
    let mut words = line.split_whitespace().map(str::to_owned);
    [words.next().unwrap(), words.next().unwrap()]
}

#[test]
fn a_limit_is_lifted() {
    // Below the highest, so that it can be lifted without rights where the highest is none.
    let mut child = Command::new("sh").args(["-c", "ulimit -S -l 64; exec sleep 60"]).spawn().unwrap();
    while limit(&child)[0] != "65536" {
        std::thread::yield_now();
    }
    let [_, highest] = limit(&child);
    let output = hook(&format!(r#"{{"ociVersion":"1.2.0","pid":{},"bundle":"/nowhere"}}"#, child.id()));
    let now = limit(&child);
    child.kill().unwrap();
    child.wait().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    if told.is_empty() {
        assert_eq!(now, ["unlimited", "unlimited"]);
    } else {
        // Where not even root may: the container starts all the same.
        assert!(highest != "unlimited" && told.contains("LimitMEMLOCK=infinity"), "{told}");
        assert_eq!(now, ["65536".to_owned(), highest]);
    }
}

#[test]
fn a_state_without_a_process_is_refused() {
    for state in ["{}", r#"{"pid":1}"#, r#"{"pid":2147483647}"#] {
        let output = hook(state);
        assert!(!output.status.success() && !output.stderr.is_empty(), "{state}");
    }
}
