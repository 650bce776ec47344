//! Sending a request again after failures that pass.

use super::RetryPolicy;
use crate::{Error, Result};
use std::time::Duration;

/// Runs `attempt` until it succeeds, fails for good, or the policy is used up.
pub(super) fn with_retry<T>(policy: &RetryPolicy, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut retries = policy.retries;
    let mut rate_limit_retries = policy.rate_limit_retries;
    let mut delay = policy.first_delay;
    loop {
        let error = match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if error.is_retryable() => error,
            Err(error) => return Err(error),
        };
        let (left, asked) = match &error {
            Error::Status { status: 429, retry_after, .. } => (&mut rate_limit_retries, *retry_after),
            Error::Status { retry_after, .. } => (&mut retries, *retry_after),
            _ => (&mut retries, None),
        };
        if *left == 0 {
            return Err(error);
        }
        *left -= 1;
        std::thread::sleep(asked.unwrap_or(delay).min(policy.max_delay));
        delay = (delay * 2).min(policy.max_delay);
    }
}

/// Parses `Retry-After`: seconds, or a date.
pub(super) fn parse_retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    let wait = date.duration_since(jiff::Timestamp::now());
    Some(Duration::try_from(wait).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            retries: 2,
            rate_limit_retries: 4,
            first_delay: Duration::from_millis(1),
            max_delay: Duration::from_millis(5),
        }
    }

    fn status(status: u16) -> Error {
        Error::Status {
            operation: "GET".into(),
            url: "x".into(),
            status,
            errors: Vec::new(),
            retry_after: None,
        }
    }

    #[test]
    fn attempts_are_counted() {
        for (code, attempts) in [(503, 3), (429, 5), (404, 1), (500, 1)] {
            let mut count = 0;
            let result: Result<()> = with_retry(&policy(), || {
                count += 1;
                Err(status(code))
            });
            assert!(result.is_err());
            assert_eq!(count, attempts, "{code}");
        }
        let mut count = 0;
        with_retry(&policy(), || {
            count += 1;
            if count < 3 { Err(status(502)) } else { Ok(()) }
        })
        .unwrap();
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(parse_retry_after("3"), Some(Duration::from_secs(3)));
        assert_eq!(parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("soon"), None);
    }
}
