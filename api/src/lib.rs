//! The REST service over the engine, for the clients of Docker and of Podman.
//!
//! So far there are the registry that `davit registry serve` offers, and the seam of the service: how an engine's error
//! becomes a status and a body on the wire. The service's routes come with it.
#![forbid(unsafe_code)]

pub mod registry;
pub mod wire;

use engine::ErrorKind;

/// The HTTP status for a kind of failure. Docker's and Podman's clients tell 404 and 409 apart from the rest.
pub fn status(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::NotFound => 404,
        ErrorKind::Conflict | ErrorKind::InUse => 409,
        ErrorKind::Invalid => 400,
        ErrorKind::Denied => 403,
        ErrorKind::Unsupported => 501,
        // A command that cannot be run is the request's fault in Docker's API.
        ErrorKind::CommandNotFound | ErrorKind::CommandNotRunnable => 400,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_can_tell_missing_and_taken_apart() {
        assert_eq!(status(ErrorKind::NotFound), 404);
        assert_eq!(status(ErrorKind::Conflict), 409);
        assert_eq!(status(ErrorKind::Internal), 500);
    }
}
