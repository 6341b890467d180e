//! A driver's libraries in a container, as its own loader finds them.

use e2e::{Team, claim, container, one_gpu, pod, shared};
use serde_json::{Value, json};

/// A container in which glibc's loader is to load CUDA's library with every program, and says how it looks for it.
fn loading(claims: &[&str]) -> Value {
    let mut main = container("main", claims, &["env"]);
    main["env"] = json!([{"name": "LD_PRELOAD", "value": "libcuda.so.1"}, {"name": "LD_DEBUG", "value": "libs"}]);
    main
}

#[test]
fn a_container_finds_the_drivers_libraries_by_its_loaders_cache() {
    let team = Team::new(shared(), "libraries");
    let uses = [json!({"name": "gpu", "resourceClaimName": "gpu"})];
    team.apply(&[
        claim("gpu", &one_gpu()),
        pod("training", &uses, &[loading(&["gpu"])]),
        pod("stranger", &[], &[loading(&[])]),
    ]);
    for pod in ["training", "stranger"] {
        team.wait_running(pod);
    }
    let maps = |pod: &str| team.try_exec(pod, "main", &[cluster::DYNAMIC, "/proc/self/maps"]);
    let said = maps("training");
    assert!(said.contains("search cache=/etc/ld.so.cache"), "{said}");
    let version = shared().machine().hardware().unwrap().driver.version;
    let mapped = format!("/libcuda.so.{version}");
    assert!(said.lines().any(|line| line.ends_with(&mapped) && line.contains(" r-xp ")), "{said}");
    // By the cache alone: neither by the directories that a loader knows itself nor by a variable.
    let of_cuda = said.split("find library=libcuda.so.1").nth(1).unwrap().split("find library=").next().unwrap();
    assert!(!of_cuda.contains("search path="), "{of_cuda}");
    assert!(!team.log("training", "main", "NVIDIA_VISIBLE_DEVICES").contains("LD_LIBRARY_PATH"));

    let said = maps("stranger");
    assert!(said.contains("libcuda.so.1' from LD_PRELOAD cannot be preloaded"), "{said}");
}
