use crate::Problem;
use crate::device::Variable;
use crate::object::Object;

pub(super) const FIELD: &str = "logging";

/// What libtpu writes. Where nothing is said, libtpu's own defaults hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoggingConfig {
    /// The least severe messages that are written at all.
    pub level: Option<LogLevel>,
    /// The least severe messages that are also written to the container's stderr; where it is unset, `level` is taken.
    pub stderr_level: Option<LogLevel>,
}

/// How severe a message of libtpu is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// 0.
    Info,
    /// 1.
    Warning,
    /// 2.
    Error,
    /// 3.
    Fatal,
}

const LEVELS: &[(u64, LogLevel)] =
    &[(0, LogLevel::Info), (1, LogLevel::Warning), (2, LogLevel::Error), (3, LogLevel::Fatal)];

impl LogLevel {
    /// As configs and libtpu's environment write it, 0 to 3.
    pub const fn number(self) -> u8 {
        match self {
            Self::Info => 0,
            Self::Warning => 1,
            Self::Error => 2,
            Self::Fatal => 3,
        }
    }
}

impl LoggingConfig {
    /// The variables are those that Google's driver sets.
    pub(super) fn environment(&self) -> Vec<Variable> {
        [
            ("TPU_MIN_LOG_LEVEL", "logging.level", self.level),
            ("TPU_STDERR_LOG_LEVEL", "logging.stderrLevel", self.stderr_level.or(self.level)),
        ]
        .into_iter()
        .filter_map(|(name, path, level)| Some(Variable { name, path, value: level?.number().to_string() }))
        .collect()
    }
}

/// What one config says about these. What it leaves out stays as it was, so that a claim which chooses one level keeps the
/// other that its class has chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    level: Option<LogLevel>,
    stderr_level: Option<LogLevel>,
}

impl Settings {
    pub(crate) fn apply(&self, config: &mut LoggingConfig) {
        let LoggingConfig { level, stderr_level } = config;
        *level = self.level.or(*level);
        *stderr_level = self.stderr_level.or(*stderr_level);
    }
}

pub(super) fn settings(object: &Object<'_>) -> Result<Settings, Problem> {
    let Some(logging) = object.object(FIELD)? else { return Ok(Settings::default()) };
    logging.only(&["level", "stderrLevel"])?;
    let level = logging.number("level", LEVELS)?;
    let stderr_level = logging.number("stderrLevel", LEVELS)?;
    Ok(Settings { level, stderr_level })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_written_as_they_are_read() {
        for (number, level) in LEVELS {
            assert_eq!(u64::from(level.number()), *number);
        }
    }

    #[test]
    fn stderr_follows_the_level_unless_it_has_its_own() {
        use LogLevel::{Error, Fatal, Info, Warning};
        let cases: [(_, _, &[&str]); 5] = [
            (None, None, &[]),
            (Some(Error), None, &["TPU_MIN_LOG_LEVEL=2", "TPU_STDERR_LOG_LEVEL=2"]),
            (None, Some(Warning), &["TPU_STDERR_LOG_LEVEL=1"]),
            (Some(Info), Some(Fatal), &["TPU_MIN_LOG_LEVEL=0", "TPU_STDERR_LOG_LEVEL=3"]),
            (Some(Fatal), Some(Info), &["TPU_MIN_LOG_LEVEL=3", "TPU_STDERR_LOG_LEVEL=0"]),
        ];
        for (level, stderr_level, expected) in cases {
            let environment = LoggingConfig { level, stderr_level }.environment();
            let lines: Vec<_> = environment.iter().map(ToString::to_string).collect();
            assert_eq!(lines, expected, "{level:?} {stderr_level:?}");
        }
    }
}
