//! From words to a [`Command`].

use std::str::FromStr;

use super::change::{Change, GpuReference, Setting};
use super::mig::{MigChange, ProcessChange};
use super::tpu::{self, TpuSetting};
use super::{Command, CommandError};
use crate::event::EventType;
use crate::fault::Fault;
use crate::functions::FUNCTIONS;
use crate::nvml_error::NvmlError;
use crate::process::Process;

type Result<T> = std::result::Result<T, CommandError>;

/// Fields and their values.
type Pairs<'w> = Vec<(&'w str, &'w str)>;

const COMMANDS: &str = "list, set, event, mig, process, reset, reboot, record, calls";

pub(super) fn command(words: &[&str]) -> Result<Command> {
    match words {
        ["list"] => Ok(Command::List),
        ["list", rest, ..] => Err(CommandError::new("list", rest, "takes nothing more")),
        ["set", rest @ ..] => set(rest).map(Command::Change),
        ["event", rest @ ..] => event(rest).map(Command::Change),
        ["mig", rest @ ..] => {
            let (gpu, rest) = gpu_first(rest)?;
            Ok(Command::Change(Change::Mig { gpu, change: MigChange::parse(rest)? }))
        }
        ["process", rest @ ..] => {
            let (gpu, rest) = gpu_first(rest)?;
            Ok(Command::Change(Change::Process { gpu, change: process(rest)? }))
        }
        ["reset", rest @ ..] => match gpu_first(rest)? {
            (gpu, []) => Ok(Command::Change(Change::Reset { gpu })),
            (_, [more, ..]) => Err(CommandError::new("reset", more, "takes nothing more than a GPU")),
        },
        ["reboot"] => Ok(Command::Change(Change::Reboot)),
        ["reboot", rest, ..] => Err(CommandError::new("reboot", rest, "takes nothing more")),
        ["record", "on"] => Ok(Command::Record(true)),
        ["record", "off"] => Ok(Command::Record(false)),
        ["record", rest @ ..] => Err(CommandError::new("record", &rest.join(" "), "allowed: on, off")),
        ["calls"] => Ok(Command::Calls),
        ["calls", rest, ..] => Err(CommandError::new("calls", rest, "takes nothing more")),
        [] => Err(CommandError::new("command", "", format!("missing; allowed: {COMMANDS}"))),
        [other, ..] => Err(CommandError::new("command", other, format!("not known; allowed: {COMMANDS}"))),
    }
}

/// The fields that `set` knows.
const FIELDS: &str = "present, lost, minor, driver.version, driver.cuda, fail, latency_ms, function, from, times";

fn set(words: &[&str]) -> Result<Change> {
    if let [first, rest @ ..] = words
        && let Some(tpu) = tpu::position(first)
    {
        let settings = pairs(rest)?.into_iter().map(|(field, value)| TpuSetting::parse(field, value));
        return Ok(Change::Tpu { tpu, settings: settings.collect::<Result<_>>()? });
    }
    let (gpu, pairs) = split(words)?;
    let mut settings = Vec::new();
    let mut rule: Option<Fault> = None;
    let mut modifiers = Vec::new();
    for (field, value) in pairs {
        match field {
            "present" => settings.push(Setting::Present(boolean(field, value)?)),
            "lost" => settings.push(Setting::Lost(boolean(field, value)?)),
            "minor" => settings.push(Setting::Minor(number(field, value)?)),
            "driver.version" => settings.push(Setting::DriverVersion(driver_version(value)?)),
            "driver.cuda" => settings.push(Setting::DriverCuda(
                value.to_owned().try_into().map_err(|problem: String| CommandError::new(field, value, problem))?,
            )),
            "fail" if value == "none" => settings.push(Setting::NoFaults),
            "latency_ms" if value == "0" => settings.push(Setting::NoLatency),
            "fail" => fail(value, rule.get_or_insert_with(|| Fault::new("*")))?,
            "latency_ms" => rule.get_or_insert_with(|| Fault::new("*")).latency_ms = number(field, value)?,
            "function" | "from" | "times" => modifiers.push((field, value)),
            _ => return Err(CommandError::new(field, value, format!("no such field; allowed: {FIELDS}"))),
        }
    }
    for (field, value) in modifiers {
        let rule = rule.as_mut().ok_or_else(|| CommandError::new(field, value, "goes only with fail or latency_ms"))?;
        match field {
            "function" => rule.function = function(value)?,
            "from" => rule.from = positive(field, value)?,
            _ => rule.times = Some(positive(field, value)?),
        }
    }
    settings.extend(rule.map(Setting::Fault));
    Ok(Change::Set { gpu, settings })
}

fn fail(value: &str, rule: &mut Fault) -> Result<()> {
    let Some((name, error)) = value.split_once(':') else {
        let problem = "allowed: <function>:<error>, like nvmlDeviceGetUUID:GPU_IS_LOST, or none";
        return Err(CommandError::new("fail", value, problem));
    };
    rule.function = function(name)?;
    rule.error = Some(NvmlError::from_str(error).map_err(|problem| CommandError::new("fail", value, problem))?);
    Ok(())
}

/// A function that the library does not export would make a rule that never acts, and a test that proves nothing.
fn function(name: &str) -> Result<String> {
    if name == "*" || FUNCTIONS.contains(&name) {
        return Ok(name.to_owned());
    }
    let alike: Vec<&str> =
        FUNCTIONS.iter().copied().filter(|known| known.starts_with(name.trim_end_matches("_v2"))).collect();
    let allowed =
        if alike.is_empty() { "* or an exported function, like nvmlInit_v2".to_owned() } else { alike.join(", ") };
    Err(CommandError::new("function", name, format!("not exported by the simulated NVML; allowed: {allowed}")))
}

fn event(words: &[&str]) -> Result<Change> {
    let (gpu, pairs) = split(words)?;
    let gpu = gpu.ok_or_else(|| CommandError::new("gpu", "", "missing; allowed: an index, a UUID or a PCI address"))?;
    let (mut raised, mut gpu_instance, mut compute_instance) = (None, None, None);
    for (field, value) in pairs {
        match (field, EventType::ALL.iter().find(|(word, _)| *word == field)) {
            ("gi", _) => gpu_instance = Some(number(field, value)?),
            ("ci", _) => compute_instance = Some(number(field, value)?),
            (_, Some((_, kind))) => raised = Some((*kind, number(field, value)?)),
            (_, None) => {
                return Err(CommandError::new(field, value, format!("no such field; allowed: gi, ci, {}", types())));
            }
        }
    }
    let (kind, data) = raised.ok_or_else(|| CommandError::new("type", "", format!("missing; allowed: {}", types())))?;
    Ok(Change::Event { gpu, kind, data, gpu_instance, compute_instance })
}

fn process(words: &[&str]) -> Result<ProcessChange> {
    const ALLOWED: &str = "allowed: start, stop";
    let (start, rest) = match words {
        ["start", rest @ ..] => (true, rest),
        ["stop", rest @ ..] => (false, rest),
        [other, ..] => return Err(CommandError::new("process", other, ALLOWED)),
        [] => return Err(CommandError::new("process", "", ALLOWED)),
    };
    let (mut pid, mut memory_mib, mut gpu_instance, mut compute_instance) = (None, 0, None, None);
    for (field, value) in pairs(rest)? {
        match field {
            "pid" => pid = Some(positive(field, value)?),
            "memory_mib" if start => memory_mib = number(field, value)?,
            "gi" if start => gpu_instance = Some(number(field, value)?),
            "ci" if start => compute_instance = Some(number(field, value)?),
            _ if start => {
                return Err(CommandError::new(field, value, "no such field; allowed: pid, memory_mib, gi, ci"));
            }
            _ => return Err(CommandError::new(field, value, "no such field; allowed: pid")),
        }
    }
    let pid = pid.and_then(|pid| u32::try_from(pid).ok());
    let pid = pid.ok_or_else(|| CommandError::new("pid", "", "missing; allowed: a process id, 1 or more"))?;
    let instance = match (gpu_instance, compute_instance) {
        (None, None) => None,
        (Some(gpu_instance), Some(compute_instance)) => Some((gpu_instance, compute_instance)),
        _ => return Err(CommandError::new("gi", "", "gi and ci go together: gi=<id> ci=<id>")),
    };
    Ok(if start { ProcessChange::Start(Process { pid, memory_mib, instance }) } else { ProcessChange::Stop(pid) })
}

fn types() -> String {
    EventType::ALL.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ")
}

/// The GPU, if the first word is one, and the `field=value` pairs after it.
fn split<'w>(words: &[&'w str]) -> Result<(Option<GpuReference>, Pairs<'w>)> {
    let (gpu, rest) = match words {
        [first, rest @ ..] if !first.contains('=') => (Some(GpuReference::parse(first)?), rest),
        all => (None, all),
    };
    Ok((gpu, pairs(rest)?))
}

/// The GPU that a command must name, and the words after it.
fn gpu_first<'a, 'w>(words: &'a [&'w str]) -> Result<(GpuReference, &'a [&'w str])> {
    match words {
        [first, rest @ ..] => Ok((GpuReference::parse(first)?, rest)),
        [] => Err(CommandError::new("gpu", "", "missing; allowed: an index, a UUID or a PCI address")),
    }
}

/// One `field=value` or more.
fn pairs<'w>(words: &[&'w str]) -> Result<Pairs<'w>> {
    let split =
        |word: &&'w str| word.split_once('=').ok_or_else(|| CommandError::new(word, "", "allowed: <field>=<value>"));
    let pairs = words.iter().map(split).collect::<Result<Pairs<'w>>>()?;
    if pairs.is_empty() {
        return Err(CommandError::new("field", "", "missing; allowed: <field>=<value>, one or more"));
    }
    Ok(pairs)
}

pub(super) fn boolean(field: &str, value: &str) -> Result<bool> {
    value.parse().map_err(|_| CommandError::new(field, value, "allowed: true, false"))
}

pub(super) fn number<N: FromStr>(field: &str, value: &str) -> Result<N> {
    value.parse().map_err(|_| CommandError::new(field, value, "allowed: a whole number, 0 or more"))
}

fn positive(field: &str, value: &str) -> Result<u64> {
    match value.parse() {
        Ok(number @ 1..) => Ok(number),
        _ => Err(CommandError::new(field, value, "allowed: a whole number, 1 or more")),
    }
}

/// Becomes a part of file names.
fn driver_version(value: &str) -> Result<String> {
    let digits = |part: &str| !part.is_empty() && part.len() <= 6 && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = value.split('.').collect();
    if (2..=3).contains(&parts.len()) && parts.iter().all(|part| digits(part)) {
        return Ok(value.to_owned());
    }
    Err(CommandError::new("driver.version", value, "allowed: two or three numbers, like 570.1 or 550.163.01"))
}
