//! Sizes, times and durations for people, with the rounding of Docker's `go-units`.

use jiff::Timestamp;

/// A size with a decimal unit and at most `digits` digits: `204 MB`, or `204MB` without `blank`.
fn size(bytes: f64, digits: usize, blank: &str) -> String {
    const UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{blank}{}", significant(value, digits), UNITS[unit])
}

/// A number as C's `%.{digits}g` writes it for values between 0 and 1000: no trailing zeros.
fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    // The exponent after rounding decides how many decimals are left (999.6 becomes 1e+03 in Go; we print 1000).
    let scientific = format!("{:.*e}", digits.saturating_sub(1), value);
    let exponent: i32 = scientific.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let decimals = usize::try_from(i32::try_from(digits).unwrap_or(i32::MAX) - 1 - exponent).unwrap_or(0);
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Bytes as `images` and `history` show them: `204 MB`.
#[allow(clippy::cast_precision_loss)] // three digits are shown
pub(crate) fn image_size(bytes: u64) -> String {
    size(bytes as f64, 3, " ")
}

/// Bytes as `ps --size` shows them: `204MB`.
#[allow(clippy::cast_precision_loss)] // four digits are shown
pub(crate) fn short_size(bytes: u64) -> String {
    size(bytes as f64, 4, "")
}

/// A length of time, as `go-units` words it: `About a minute`, `3 hours`.
pub(crate) fn duration(seconds: i64) -> String {
    let plural = |count: i64, unit: &str| format!("{count} {unit}");
    let minutes = seconds / 60;
    // Hours are rounded to the nearest, all longer units are cut.
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => plural(seconds, "seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => plural(minutes, "minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => plural(hours, "hours"),
        () if hours < 24 * 7 * 2 => plural(hours / 24, "days"),
        () if hours < 24 * 30 * 2 => plural(hours / 24 / 7, "weeks"),
        () if hours < 24 * 365 * 2 => plural(hours / 24 / 30, "months"),
        () => plural(hours / 24 / 365, "years"),
    }
}

/// A time before now: `3 hours ago`.
pub(crate) fn ago(time: Timestamp) -> String {
    format!("{} ago", duration(Timestamp::now().as_second() - time.as_second()))
}

/// A time as Go prints it by default in UTC: `2026-11-23 10:00:00.5 +0000 UTC`.
pub(crate) fn go_time(time: Timestamp) -> String {
    let zoned = time.to_zoned_datetime(jiff::tz::TimeZone::UTC);
    let nanoseconds = zoned.subsec_nanosecond();
    let fraction = if nanoseconds == 0 {
        String::new()
    } else {
        format!(".{nanoseconds:09}").trim_end_matches('0').to_owned()
    };
    format!("{}{fraction} +0000 UTC", zoned.strftime("%Y-%m-%d %H:%M:%S"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_keep_three_or_four_digits() {
        for (bytes, text) in
            [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (204_300_000, "204 MB"), (4_321, "4.32 kB")]
        {
            assert_eq!(image_size(bytes), text);
        }
        assert_eq!(short_size(203_812_345), "203.8MB");
    }

    #[test]
    fn durations_read_like_the_originals() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5400, "2 hours"),
            (172_800, "2 days"),
            (86_400 * 20, "2 weeks"),
            (86_400 * 90, "3 months"),
            (86_400 * 800, "2 years"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }
}
