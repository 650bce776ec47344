//! JSON shapes of the wire, converted from the engine's plain reports here and nowhere else.

use serde::Serialize;

/// The body of a failure. Docker's clients read `message`, Podman's read all three.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorBody {
    /// The innermost cause.
    pub cause: String,
    /// The whole text.
    pub message: String,
    /// The HTTP status again.
    pub response: u16,
}

impl ErrorBody {
    /// The body for an engine's error.
    pub fn of(error: &engine::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = message.clone();
        let mut source = std::error::Error::source(error);
        while let Some(next) = source {
            cause = next.to_string();
            if !message.contains(&cause) {
                message.push_str(": ");
                message.push_str(&cause);
            }
            source = next.source();
        }
        Self { cause, message, response: crate::status(error.kind()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_carry_the_status() {
        let error = engine::Error::NotFound { what: "image", name: "x".to_owned() };
        let body = serde_json::to_string(&ErrorBody::of(&error)).expect("plain data");
        assert_eq!(body, r#"{"cause":"no such image: x","message":"no such image: x","response":404}"#);
    }
}
