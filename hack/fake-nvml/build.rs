//! Gives the library the name that the real one carries inside, and keeps it in the process once it is loaded: what it
//! counts is per process, also for a client that unloads it and loads it again.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libnvidia-ml.so.1");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
