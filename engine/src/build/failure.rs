//! The builder's errors as the engine's.

use crate::{Error, ErrorKind};
use std::fmt::Write as _;

pub(super) fn build_error(error: builder::build::Error) -> Error {
    use builder::build::Error as Broken;
    match &error {
        Broken::Containerfile(report) => {
            Error::Containerfile { rendered: report.render(false), kind: ErrorKind::Invalid }
        }
        Broken::Step { .. } if error.step_exit().is_some() => {
            let code = error.step_exit().map_or(1, |(exit, _)| exit.code);
            Error::StepFailed { step: error.to_string(), code }
        }
        Broken::Image { place, source, .. } => {
            let kind = source.downcast_ref::<Error>().map_or(ErrorKind::Internal, Error::kind);
            let mut place = place.clone();
            for diagnostic in &mut place.diagnostics {
                diagnostic.message = with_causes(&diagnostic.message, Some(&**source));
            }
            Error::Containerfile { rendered: place.render(false), kind }
        }
        Broken::IgnoreFile { .. } | Broken::UnknownStage { .. } => {
            Error::Part { attempt: "build".to_owned(), kind: ErrorKind::Invalid, source: Box::new(error) }
        }
        _ => Error::Part { attempt: "build".to_owned(), kind: ErrorKind::Internal, source: Box::new(error) },
    }
}

/// A message with its causes on the same line; what is said already is left out.
fn with_causes(message: &str, source: Option<&dyn std::error::Error>) -> String {
    let mut text = message.to_owned();
    let mut next = source;
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            let _ = write!(text, ": {words}");
        }
        next = cause.source();
    }
    text
}
