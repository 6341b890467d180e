//! What the controller costs, by the number of nodes: a policy is carried out on all of them, whose agents answer at once.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets};
use serde_json::{Map, Value, json};
use testkit::api_server::Resource;
use testkit::{ApiServer, CutNodes};

/// GPUs of a node.
const DEVICES: usize = 8;
const PATIENCE: Duration = Duration::from_secs(600);
/// Ticks of the kernel's clock in a second, as user space is told of them on every machine that Linux runs on.
const TICKS: f64 = 100.0;

/// What one size costs.
struct Cost {
    nodes: usize,
    /// Resident memory once all is done, in MiB.
    rss_mib: f64,
    /// The most that it was.
    peak_mib: f64,
    /// Processor time for each node that was changed, in milliseconds.
    cpu_ms: f64,
    /// Requests for each node that was changed.
    calls: f64,
    seconds: f64,
}

/// The controller as a process.
struct Controller(Child);

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures a quarter of the nodes, half of them and all, prints what they cost, and gives it as one flat JSON object.
pub(crate) fn measure(program: &Path, nodes: usize) -> Result<String> {
    let costs = [nodes / 4, nodes / 2, nodes].map(|nodes| carry_out(program, nodes));
    let costs = costs.into_iter().collect::<Result<Vec<_>>>()?;
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["FIGURE", "VALUE", "WHAT"]);
    let mut all = Map::new();
    for cost in costs {
        for (key, value, what) in [
            ("rss", cost.rss_mib, "resident memory when all nodes are done, MiB"),
            ("rss_peak", cost.peak_mib, "the most that it was, MiB"),
            ("cpu_per_change", cost.cpu_ms, "processor time for each node that was changed, ms"),
            ("calls_per_change", cost.calls, "requests for each node that was changed"),
            ("rollout", cost.seconds, "a policy on all nodes, a tenth at a time, s"),
        ] {
            let key = format!("controller_{}_{key}", cost.nodes);
            table.add_row([key.clone(), format!("{value:.2}"), what.to_owned()]);
            all.insert(key, json!(value));
        }
    }
    println!("{table}");
    Ok(Value::Object(all).to_string())
}

fn carry_out(program: &Path, nodes: usize) -> Result<Cost> {
    let directory = tempfile::tempdir().context("no temporary directory")?;
    let (server, mut agents) = (ApiServer::start(), CutNodes::new(DEVICES));
    let kubeconfig = directory.path().join("kubeconfig");
    server.write_kubeconfig(&kubeconfig);
    for index in 0..nodes {
        server.put_node(&format!("node-{index:05}"), &format!("uid-{index}"));
    }
    server.put(Resource::Policies, policy());
    let log = directory.path().join("log");
    let mut command = Command::new(program);
    command.arg("--kubeconfig").arg(&kubeconfig).args(["--http", "off"]).stdin(Stdio::null());
    let child = command.stderr(File::create(&log).context("a file for the log")?).spawn();
    let controller = Controller(child.with_context(|| format!("starting {}", program.display()))?);
    // Until every node is known: what is measured is changes.
    let begun = Instant::now();
    let until = |agents: &mut CutNodes, holds: &dyn Fn() -> bool| {
        while !holds() {
            agents.answer(&server);
            std::thread::sleep(Duration::from_millis(20));
            if begun.elapsed() > PATIENCE {
                bail!("not within {PATIENCE:?}; {}", fs::read_to_string(&log).unwrap_or_default());
            }
        }
        Ok(())
    };
    let tally = |field: &str| {
        let policy = server.get(Resource::Policies, "", "bench").unwrap_or_default();
        let number = policy["status"]["nodes"][field].as_u64().and_then(|number| usize::try_from(number).ok());
        let paused = policy["spec"]["rollout"]["paused"] == true;
        (number.unwrap_or(0), policy["status"]["devices"].as_u64().unwrap_or(0), paused)
    };
    until(&mut agents, &|| tally("waiting").1 == (nodes * DEVICES) as u64)?;
    let (cpu, started) = (cpu_seconds(&controller)?, Instant::now());
    server.forget_requests();
    server.edit(Resource::Policies, "", "bench", |policy| policy["spec"]["rollout"]["paused"] = json!(false));
    until(&mut agents, &|| tally("ready").0 == nodes)?;
    let seconds = started.elapsed().as_secs_f64();
    let each = |total: f64| total / nodes as f64;
    Ok(Cost {
        nodes,
        rss_mib: of_status(&controller, "VmRSS:")?,
        peak_mib: of_status(&controller, "VmHWM:")?,
        cpu_ms: each((cpu_seconds(&controller)? - cpu) * 1000.0),
        calls: each(server.requests().all() as f64),
        seconds,
    })
}

fn policy() -> Value {
    json!({
        "apiVersion": "tessera.dev/v1alpha1", "kind": "PartitionPolicy", "metadata": {"name": "bench"},
        "spec": {
            "rules": [
                {"devices": {"cel": "device.attributes['tessera.dev'].model == 'H100'"}, "maxPerNode": 1,
                 "layout": {"partitions": [{"profile": "1g.10gb", "count": 7}]}},
                {"devices": {"driver": "gpu.nvidia.com"}, "layout": {"dynamic": {}}},
            ],
            "rollout": {"maxUnavailable": "10%", "paused": true},
        },
    })
}

/// A line of /proc's status, in MiB.
fn of_status(controller: &Controller, name: &str) -> Result<f64> {
    let status =
        fs::read_to_string(format!("/proc/{}/status", controller.0.id())).context("the controller has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("the kernel tells no memory")?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().context("the kernel's number")?;
    Ok(kibibytes / 1024.0)
}

/// In user and kernel mode.
fn cpu_seconds(controller: &Controller) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", controller.0.id())).context("the controller has ended")?;
    // The name may have spaces and brackets; the fields after it do not.
    let fields: Vec<_> = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).context("the kernel's times");
    Ok((ticks(11)? + ticks(12)?) / TICKS)
}
