//! HEALTHCHECK.

use super::flags::Flags;
use super::statement::Context;
use super::words::Args;
use crate::diagnostic::Diagnostic;
use crate::expand::Word;
use crate::instruction::{Command, Healthcheck};
use std::time::Duration;

impl Context<'_, '_> {
    pub(super) fn healthcheck(&mut self, flags: &mut Flags, args: &Args<'_>) -> Option<Healthcheck> {
        let interval = self.duration(flags, "interval");
        let timeout = self.duration(flags, "timeout");
        let start_period = self.duration(flags, "start-period");
        let start_interval = self.duration(flags, "start-interval");
        let retries = flags.value("retries", self.diagnostics);
        let retries = retries.and_then(|word| self.retries(&word));
        let (kind, rest) = args.first();
        match kind.text().to_ascii_uppercase().as_str() {
            "NONE" if rest.is_empty() => Some(Healthcheck::None),
            "NONE" => self.fail(rest.full_span(), "HEALTHCHECK NONE has no arguments"),
            "CMD" => {
                let command = self.command(&rest)?;
                if matches!(&command, Command::Exec(words) if words.is_empty()) {
                    return self.fail(kind.full_span(), "the command is missing behind HEALTHCHECK CMD");
                }
                Some(Healthcheck::Test { command, interval, timeout, start_period, start_interval, retries })
            }
            _ => {
                let error = Diagnostic::error(
                    kind.full_span(),
                    format!("HEALTHCHECK begins with CMD or NONE, not `{}`", kind.text()),
                );
                self.diagnostics.push(error.with_nearest(kind.text(), ["CMD", "NONE"]));
                None
            }
        }
    }

    /// A duration of at least 1 ms; 0 means the engine's default.
    fn duration(&mut self, flags: &mut Flags, name: &'static str) -> Option<Duration> {
        let word = flags.value(name, self.diagnostics)?;
        let Some(duration) = parse_duration(&word.raw) else {
            let error = Diagnostic::error(word.span, format!("`{}` is no duration", word.raw))
                .with_hint("for example 1m30s, 5s or 500ms");
            self.diagnostics.push(error);
            return None;
        };
        if duration.is_zero() {
            return None;
        }
        if duration < Duration::from_millis(1) {
            return self.fail(word.span, format!("`--{name}` cannot be less than 1ms"));
        }
        Some(duration)
    }

    fn retries(&mut self, word: &Word) -> Option<u32> {
        match word.raw.parse() {
            Ok(0) => None,
            Ok(number) => Some(number),
            Err(_) => self.fail(word.span, format!("`{}` is no number of retries", word.raw)),
        }
    }
}

/// Go's notation: numbers with units, `1h15m30.5s`. Negative ones are none here.
fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut nanoseconds = 0_u128;
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|char: char| char.is_ascii_digit() || char == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.into() };
        nanoseconds = nanoseconds.checked_add(whole.checked_mul(unit)?)?;
        let mut place = unit;
        for digit in fraction.bytes() {
            if digit == b'.' {
                return None;
            }
            place /= 10;
            nanoseconds += u128::from(digit - b'0') * place;
        }
        rest = tail;
    }
    // Go's durations end at 292 years.
    let nanoseconds = u64::try_from(nanoseconds).ok().filter(|&value| i64::try_from(value).is_ok())?;
    Some(Duration::from_nanos(nanoseconds))
}
