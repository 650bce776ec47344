//! The builder's errors as the engine's.

use crate::{Error, ErrorKind};
use builder::diagnostic::caused_by;

pub(super) fn build_error(error: builder::build::Error) -> Error {
    use builder::build::Error as Broken;
    match &error {
        Broken::Containerfile(report) => {
            Error::Containerfile { rendered: report.render(false), kind: ErrorKind::Invalid }
        }
        Broken::Step { report, source, .. } => {
            let rendered = report.render(false);
            match error.step_exit() {
                Some((exit, _)) => Error::StepFailed { rendered, code: exit.code },
                None => Error::Containerfile { rendered, kind: step_kind(source) },
            }
        }
        Broken::Image { place, source, .. } => {
            let kind = source.downcast_ref::<Error>().map_or(ErrorKind::Internal, Error::kind);
            let mut place = place.clone();
            for diagnostic in &mut place.diagnostics {
                diagnostic.message = caused_by(&diagnostic.message, Some(&**source));
            }
            Error::Containerfile { rendered: place.render(false), kind }
        }
        Broken::IgnoreFile { .. } | Broken::UnknownStage { .. } => {
            Error::Part { attempt: "build".to_owned(), kind: ErrorKind::Invalid, source: Box::new(error) }
        }
        _ => Error::Part { attempt: "build".to_owned(), kind: ErrorKind::Internal, source: Box::new(error) },
    }
}

/// The kind of a step's failure other than by its command's exit.
fn step_kind(error: &(dyn std::error::Error + 'static)) -> ErrorKind {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<Error>() {
            return error.kind();
        }
        next = error.source();
    }
    ErrorKind::Internal
}
