//! The words of `--health-*` and of an image's HEALTHCHECK.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::parse_duration;
use crate::{Error, Result};

const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_RETRIES: u32 = 3;

/// What the caller said of a container's health check; what is left open is the image's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthRequest {
    /// No check, whatever the image says.
    pub off: bool,
    /// A shell line, a JSON array of words, or `none`.
    pub command: Option<String>,
    /// Between checks; zero = only when asked for.
    pub interval: Option<Duration>,
    /// Longest that a check may take.
    pub timeout: Option<Duration>,
    /// Failures in a row until unhealthy.
    pub retries: Option<u32>,
    /// While the container starts failures do not count.
    pub start_period: Option<Duration>,
    /// Between checks during the start period.
    pub start_interval: Option<Duration>,
    /// The check that must succeed before the other one begins, as `command`.
    pub startup_command: Option<String>,
    /// Of the check at startup.
    pub startup_interval: Option<Duration>,
    /// Of the check at startup.
    pub startup_timeout: Option<Duration>,
    /// Failures of the check at startup until the container is restarted; 0 = never.
    pub startup_retries: u32,
    /// Successes that the check at startup needs; 0 = one.
    pub startup_successes: u32,
    /// What happens to an unhealthy container.
    pub on_failure: OnFailure,
    /// Where results are kept.
    pub log: HealthLog,
}

/// What happens to an unhealthy container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Nothing.
    #[default]
    None,
    /// SIGKILL.
    Kill,
    /// Stop and start.
    Restart,
    /// Stop.
    Stop,
}

impl OnFailure {
    /// Reads `--health-on-failure`.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "" | "none" => Self::None,
            "kill" => Self::Kill,
            "restart" => Self::Restart,
            "stop" => Self::Stop,
            other => {
                return Err(Error::invalid(
                    format!("health-on-failure {other}"),
                    "expected none, kill, restart or stop",
                ));
            }
        })
    }

    /// As Podman writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Stop => "stop",
        }
    }
}

/// Where the results of checks are kept, and how many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthLog {
    /// `local`, `events_logger`, or a directory.
    pub destination: String,
    /// Results that are kept; 0 = all.
    pub count: u32,
    /// Characters of output that are kept of each; 0 = all.
    pub size: u32,
}

impl Default for HealthLog {
    fn default() -> Self {
        Self { destination: "local".to_owned(), count: 5, size: 500 }
    }
}

/// The health check of a container, complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// `["CMD", ..]` or `["CMD-SHELL", line]`.
    pub test: Vec<String>,
    /// Between checks; zero = only when asked for.
    pub interval: Duration,
    /// Longest that a check may take.
    pub timeout: Duration,
    /// Failures in a row until unhealthy.
    pub retries: u32,
    /// While the container starts failures do not count.
    pub start_period: Duration,
    /// Between checks during the start period; zero = as later.
    #[serde(default)]
    pub start_interval: Duration,
    /// The check that comes first.
    #[serde(default)]
    pub startup: Option<StartupCheck>,
    /// What happens to an unhealthy container.
    pub on_failure: OnFailure,
    /// Where results are kept.
    pub log: HealthLog,
}

/// The check that must succeed before the other one begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartupCheck {
    /// As [`HealthCheck::test`].
    pub test: Vec<String>,
    /// Between checks; zero = only when asked for.
    pub interval: Duration,
    /// Longest that a check may take.
    pub timeout: Duration,
    /// Failures until the container is restarted; 0 = never.
    pub retries: u32,
    /// Successes that it needs.
    pub successes: u32,
}

/// Reads a duration of a `--health-*` option.
pub fn parse_health_duration(option: &str, text: &str) -> Result<Duration> {
    let nanos = parse_duration(text).filter(|_| !text.starts_with('-'));
    let nanos = nanos.and_then(|nanos| u64::try_from(nanos).ok());
    // Go reads a bare 0 too
    match (nanos, text) {
        (Some(nanos), _) => Ok(Duration::from_nanos(nanos)),
        (None, "0") => Ok(Duration::ZERO),
        (None, _) => {
            Err(Error::invalid(format!("{option}={text}"), "expected a duration such as 30s or 1m30s"))
        }
    }
}

/// The words of a command: a JSON array is executed, anything else a line for the shell; `None` for `none`.
fn words(text: &str) -> Option<Vec<String>> {
    if text.eq_ignore_ascii_case("none") || text.is_empty() {
        return None;
    }
    if let Ok(words) = serde_json::from_str::<Vec<String>>(text) {
        return match words.first().map(String::as_str) {
            None | Some("NONE") => None,
            Some("CMD" | "CMD-SHELL") => Some(words),
            Some(_) => Some(std::iter::once("CMD".to_owned()).chain(words).collect()),
        };
    }
    Some(vec!["CMD-SHELL".to_owned(), text.to_owned()])
}

impl HealthRequest {
    /// The check, from what the caller said and, where that says nothing, from the image.
    pub(crate) fn merge(&self, image: Option<&oci::Healthcheck>) -> Result<Option<HealthCheck>> {
        let invalid = |reason: &str| Err(Error::invalid("health check", reason));
        if self.off {
            return match self.command {
                Some(_) => invalid("--no-healthcheck and --health-cmd exclude each other"),
                None => Ok(None),
            };
        }
        let image = image.filter(|image| image.test.first().is_some_and(|first| first != "NONE"));
        let test = match &self.command {
            Some(text) => words(text),
            None => image.map(|image| image.test.clone()),
        };
        let Some(test) = test else {
            return match &self.startup_command {
                Some(_) => invalid("a check at startup needs a regular one: give --health-cmd too"),
                None => Ok(None),
            };
        };
        let of_image = |value: fn(&oci::Healthcheck) -> i64| {
            let nanos = image.map_or(0, value);
            u64::try_from(nanos).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos)
        };
        let retries = image.and_then(|image| u32::try_from(image.retries).ok()).filter(|count| *count > 0);
        let check = HealthCheck {
            test,
            interval: self.interval.or(of_image(|check| check.interval)).unwrap_or(DEFAULT_INTERVAL),
            timeout: self.timeout.or(of_image(|check| check.timeout)).unwrap_or(DEFAULT_TIMEOUT),
            retries: self.retries.or(retries).unwrap_or(DEFAULT_RETRIES),
            start_period: self.start_period.or(of_image(|check| check.start_period)).unwrap_or_default(),
            start_interval: self
                .start_interval
                .or(of_image(|check| check.start_interval))
                .unwrap_or_default(),
            startup: self.startup_command.as_ref().and_then(|text| words(text)).map(|test| StartupCheck {
                test,
                interval: self.startup_interval.unwrap_or(DEFAULT_INTERVAL),
                timeout: self.startup_timeout.unwrap_or(DEFAULT_TIMEOUT),
                retries: self.startup_retries,
                successes: self.startup_successes.max(1),
            }),
            on_failure: self.on_failure,
            log: self.log.clone(),
        };
        if check.retries == 0 {
            return invalid("--health-retries must be at least 1");
        }
        let second = Duration::from_secs(1);
        if check.timeout < second || check.startup.as_ref().is_some_and(|startup| startup.timeout < second) {
            return invalid("a timeout must be at least 1 second");
        }
        match check.log.destination.as_str() {
            "" | "local" | "events_logger" => {}
            directory if std::path::Path::new(directory).is_dir() => {}
            other => {
                return Err(Error::invalid(
                    format!("health-log-destination {other}"),
                    "expected local, events_logger or a directory that exists",
                ));
            }
        }
        Ok(Some(check))
    }
}

/// What is to be different about a health check; what is `None` or missing stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthChange {
    /// Command, times, retries, or that there is none.
    pub request: HealthRequest,
    /// Failures of the startup check until the container is restarted.
    pub startup_retries: Option<u32>,
    /// Successes that the startup check needs.
    pub startup_successes: Option<u32>,
    /// What happens to an unhealthy container.
    pub on_failure: Option<OnFailure>,
    /// Where results are kept.
    pub log_destination: Option<String>,
    /// Results that are kept.
    pub log_count: Option<u32>,
    /// Characters of output that are kept of each.
    pub log_size: Option<u32>,
}

impl HealthChange {
    /// The check as it is afterwards.
    pub(crate) fn apply(&self, known: Option<HealthCheck>) -> Result<Option<HealthCheck>> {
        if *self == Self::default() {
            return Ok(known);
        }
        let mut request = self.request.clone();
        if let Some(known) = known.filter(|_| !request.off) {
            request.interval = request.interval.or(Some(known.interval));
            request.timeout = request.timeout.or(Some(known.timeout));
            request.retries = request.retries.or(Some(known.retries));
            request.start_period = request.start_period.or(Some(known.start_period));
            request.start_interval = request.start_interval.or(Some(known.start_interval));
            let json = |words: &[String]| serde_json::to_string(words).unwrap_or_default();
            request.command = request.command.or_else(|| Some(json(&known.test)));
            if let Some(startup) = known.startup {
                request.startup_command = request.startup_command.or_else(|| Some(json(&startup.test)));
                request.startup_interval = request.startup_interval.or(Some(startup.interval));
                request.startup_timeout = request.startup_timeout.or(Some(startup.timeout));
                request.startup_retries = self.startup_retries.unwrap_or(startup.retries);
                request.startup_successes = self.startup_successes.unwrap_or(startup.successes);
            }
            request.on_failure = self.on_failure.unwrap_or(known.on_failure);
            request.log = HealthLog {
                destination: self.log_destination.clone().unwrap_or(known.log.destination),
                count: self.log_count.unwrap_or(known.log.count),
                size: self.log_size.unwrap_or(known.log.size),
            };
        }
        let made = request.merge(None)?;
        if made.is_none() && !request.off && request.command.is_none() {
            return Err(Error::invalid("health check", "the container has none: give --health-cmd"));
        }
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_lines_words_or_none() {
        assert_eq!(words("true && x").unwrap(), ["CMD-SHELL", "true && x"]);
        assert_eq!(words("[\"a\", \"b c\"]").unwrap(), ["CMD", "a", "b c"]);
        assert_eq!(words("[\"CMD-SHELL\", \"b c\"]").unwrap(), ["CMD-SHELL", "b c"]);
        assert!(words("none").is_none() && words("").is_none() && words("[\"NONE\"]").is_none());
    }

    #[test]
    fn the_caller_counts_more_than_the_image() {
        let image = oci::Healthcheck {
            test: vec!["CMD".into(), "probe".into()],
            interval: 5_000_000_000,
            retries: 7,
            ..oci::Healthcheck::default()
        };
        let check = HealthRequest::default().merge(Some(&image)).unwrap().unwrap();
        assert_eq!(
            (check.interval, check.retries, check.timeout),
            (Duration::from_secs(5), 7, DEFAULT_TIMEOUT)
        );
        let request =
            HealthRequest { retries: Some(1), command: Some("x".into()), ..HealthRequest::default() };
        let check = request.merge(Some(&image)).unwrap().unwrap();
        assert_eq!((check.test[0].as_str(), check.retries), ("CMD-SHELL", 1));
        assert!(
            HealthRequest { off: true, ..HealthRequest::default() }.merge(Some(&image)).unwrap().is_none()
        );
        for bad in [
            HealthRequest { off: true, command: Some("x".into()), ..HealthRequest::default() },
            HealthRequest { retries: Some(0), ..HealthRequest::default() },
            HealthRequest { timeout: Some(Duration::ZERO), ..HealthRequest::default() },
        ] {
            assert!(bad.merge(Some(&image)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let request =
            HealthRequest { command: Some("a".into()), retries: Some(9), ..HealthRequest::default() };
        let known = request.merge(None).unwrap();
        assert_eq!(HealthChange::default().apply(known.clone()).unwrap(), known);
        let change = HealthChange {
            request: HealthRequest { interval: Some(Duration::from_secs(3)), ..HealthRequest::default() },
            log_count: Some(1),
            ..HealthChange::default()
        };
        let made = change.apply(known.clone()).unwrap().unwrap();
        assert_eq!(
            (made.interval, made.retries, made.log.count, made.log.size),
            (Duration::from_secs(3), 9, 1, 500)
        );
        assert_eq!(made.test, ["CMD-SHELL", "a"]);
        assert!(change.apply(None).is_err(), "there is nothing to change");
        let off = HealthChange {
            request: HealthRequest { off: true, ..HealthRequest::default() },
            ..HealthChange::default()
        };
        assert!(off.apply(known).unwrap().is_none());
    }

    #[test]
    fn durations() {
        assert_eq!(parse_health_duration("x", "1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(parse_health_duration("x", "0").unwrap(), Duration::ZERO);
        assert!(parse_health_duration("x", "-1s").is_err() && parse_health_duration("x", "5").is_err());
    }
}
