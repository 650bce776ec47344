//! Points in time as users, records and images write them.

use crate::{Error, Result};
use jiff::Timestamp;

/// Nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(pub(crate) i64);

impl Instant {
    pub(crate) fn now() -> Self {
        Self::from(Timestamp::now())
    }

    /// Reads RFC 3339, Unix seconds (with a fraction), or a duration before `now` such as `10m`.
    pub(crate) fn parse(option: &str, text: &str, now: Instant) -> Result<Self> {
        if let Some(seconds) = text.parse::<f64>().ok().filter(|seconds| seconds.abs() < 9e9) {
            #[allow(clippy::cast_possible_truncation, reason = "the range was checked")]
            return Ok(Self((seconds * 1e9) as i64));
        }
        if let Some(time) = Self::parse_rfc3339(text) {
            return Ok(time);
        }
        if let Some(nanos) = parse_duration(text) {
            return Ok(Self(now.0 - nanos));
        }
        // a civil time without offset is local time, as the peers take it
        if let Ok(civil) = text.parse::<jiff::civil::DateTime>()
            && let Ok(timestamp) = jiff::tz::TimeZone::system().to_timestamp(civil)
        {
            return Ok(Self::from(timestamp));
        }
        Err(Error::invalid(
            format!("{option}={text}"),
            "expected a time (RFC 3339 or Unix seconds) or a duration such as 10m",
        ))
    }

    /// The same for an end: a duration lies ahead, as in Podman; one with a minus lies behind.
    pub(crate) fn parse_end(option: &str, text: &str, now: Instant) -> Result<Self> {
        match parse_duration(text) {
            Some(nanos) if text.parse::<f64>().is_err() => {
                Ok(Self(now.0.saturating_add(if text.starts_with('-') { -nanos } else { nanos })))
            }
            _ => Self::parse(option, text, now),
        }
    }

    pub(crate) fn parse_rfc3339(text: &str) -> Option<Self> {
        text.parse::<Timestamp>().ok().map(Self::from)
    }

    /// Whole seconds since 1970.
    pub(crate) fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// RFC 3339 in UTC with the digits that are needed.
    pub(crate) fn rfc3339(self) -> String {
        Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or_default().to_string()
    }
}

impl From<Timestamp> for Instant {
    fn from(timestamp: Timestamp) -> Self {
        Self(i64::try_from(timestamp.as_nanosecond()).unwrap_or(i64::MAX))
    }
}

/// Go's duration syntax: `1h30m`, `10s`, `1.5h`, `100ms`; nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let mut rest = text.strip_prefix('-').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(rest.len());
        let factor = match &rest[..unit] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 6e10,
            "h" => 3.6e12,
            _ => return None,
        };
        total += number * factor;
        rest = &rest[unit..];
    }
    if total > 9e18 {
        return None;
    }
    #[allow(clippy::cast_possible_truncation, reason = "the range was checked")]
    let nanos = total as i64;
    Some(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_all_forms() {
        let now = Instant(1_000_000_000_000);
        assert_eq!(Instant::parse("since", "10m", now).unwrap().0, 400_000_000_000);
        assert_eq!(Instant::parse("since", "5", now).unwrap().0, 5_000_000_000);
        assert_eq!(Instant::parse("since", "1970-01-01T00:00:01Z", now).unwrap().0, 1_000_000_000);
        assert!(Instant::parse("since", "soon", now).is_err());
        assert_eq!(parse_duration("1h30m"), Some(5_400_000_000_000));
        assert_eq!(Instant(0).rfc3339(), "1970-01-01T00:00:00Z");
    }
}
