//! `--restart`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Whether a container that has ended is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// Where its exit code is not 0, at most so many times; 0 = without limit.
    OnFailure(u32),
    /// Always, and after a boot.
    Always,
    /// Always; after a boot only where it was not stopped before.
    UnlessStopped,
}

/// The first wait before a restart; it doubles with every further one.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(60);

impl RestartPolicy {
    /// Reads `--restart`.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |reason| Err(Error::invalid(format!("restart {text}"), reason));
        let (name, count) = match text.split_once(':') {
            Some((name, count)) => (name, Some(count)),
            None => (text, None),
        };
        match (name, count) {
            ("" | "no" | "never", None) => Ok(Self::No),
            ("always", None) => Ok(Self::Always),
            ("unless-stopped", None) => Ok(Self::UnlessStopped),
            ("on-failure", None) => Ok(Self::OnFailure(0)),
            ("on-failure", Some(count)) => match count.parse() {
                Ok(count) => Ok(Self::OnFailure(count)),
                Err(_) => bad("expected on-failure:NUMBER"),
            },
            (_, Some(_)) => bad("only on-failure takes a number"),
            _ => bad("expected no, always, unless-stopped or on-failure[:NUMBER]"),
        }
    }

    /// As Podman writes it, without the number.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure(_) => "on-failure",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
        }
    }

    /// Whether `--filter restart-policy=` means it: by name, or with its number.
    pub(crate) fn is_named(self, text: &str) -> bool {
        match text.split_once(':') {
            None => text == self.as_str() || (self == Self::No && text == "never"),
            Some(_) => Self::parse(text).is_ok_and(|policy| policy == self),
        }
    }

    /// The most restarts; 0 = no limit.
    pub fn limit(self) -> u32 {
        match self {
            Self::OnFailure(count) => count,
            _ => 0,
        }
    }

    /// Whether an end with this code, after so many restarts since the user's start, is followed by another.
    pub(crate) fn restarts_after(self, code: i32, restarts: u32) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure(0) => code != 0,
            Self::OnFailure(limit) => code != 0 && restarts < limit,
            Self::Always | Self::UnlessStopped => true,
        }
    }
}

/// How long to wait before a restart that follows so many others in a row.
pub(crate) fn restart_delay(in_a_row: u32) -> Duration {
    FIRST_DELAY.saturating_mul(1 << in_a_row.min(16)).min(LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        assert_eq!(RestartPolicy::parse("on-failure:3").unwrap(), RestartPolicy::OnFailure(3));
        assert_eq!(RestartPolicy::parse("never").unwrap(), RestartPolicy::No);
        for bad in ["sometimes", "always:3", "on-failure:x", "on-failure:-1"] {
            assert!(RestartPolicy::parse(bad).is_err(), "{bad}");
        }
        let limited = RestartPolicy::OnFailure(2);
        assert!(
            limited.restarts_after(1, 1) && !limited.restarts_after(1, 2) && !limited.restarts_after(0, 0)
        );
        assert!(RestartPolicy::Always.restarts_after(0, 99) && !RestartPolicy::No.restarts_after(1, 0));
    }

    #[test]
    fn waits_grow_and_end() {
        assert_eq!(restart_delay(0), FIRST_DELAY);
        assert_eq!(restart_delay(3), FIRST_DELAY * 8);
        assert_eq!(restart_delay(4000), LONGEST_DELAY);
    }
}
