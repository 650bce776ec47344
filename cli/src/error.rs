//! From failures to words and exit codes: the only place that chooses them.

use std::fmt::Display;

use engine::ErrorKind;

/// What ends a command: words for standard error, and an exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Without the leading `Error: `.
    pub(crate) message: String,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// Exit code.
    pub(crate) code: u8,
}

/// Result of a command: its exit code.
pub(crate) type Outcome = Result<u8, Failure>;

/// Exit code of davit's own failures, as Podman's and Docker's.
pub(crate) const FAILED: u8 = 125;

impl Failure {
    /// A failure of davit's own.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, code: FAILED }
    }

    /// The same with another exit code.
    pub(crate) fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// The same with what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, said already: nothing is left but its exit code.
    pub(crate) fn told(self) -> Self {
        Self { message: String::new(), hint: None, ..self }
    }

    /// Says it on standard error, unless that was done.
    pub(crate) fn print(&self) {
        if self.message.is_empty() {
            return;
        }
        // Drawn diagnostics begin with the word themselves.
        match self.message.strip_prefix("error: ") {
            Some(rest) => crate::output::note(&format!("Error: {rest}")),
            None => crate::output::note(&format!("Error: {}", self.message)),
        }
        if let Some(hint) = &self.hint {
            crate::output::note(&format!("Hint: {hint}"));
        }
    }
}

/// An error and its causes in one line; a cause that its effect repeats already is left out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        let code = match error.kind() {
            ErrorKind::CommandNotFound => 127,
            ErrorKind::CommandNotRunnable => 126,
            _ => FAILED,
        };
        let code = error.step_code().and_then(|code| u8::try_from(code).ok()).unwrap_or(code);
        Self { message: chain(&error), hint: hint(&error), code }
    }
}

/// What a user can do about an error.
fn hint(error: &engine::Error) -> Option<String> {
    let text = chain(error);
    if text.contains("server gave HTTP response") || text.contains("speaks plain http") {
        return Some(
            "for a registry without TLS, use --tls-verify=false or mark it insecure in registries.conf"
                .to_owned(),
        );
    }
    if text.contains("UnknownIssuer") || text.contains("invalid peer certificate") {
        return Some(
            "put the authority's certificate as ca.crt into a directory and name it with --cert-dir"
                .to_owned(),
        );
    }
    if text.contains("git ") && text.contains("terminal prompts disabled") {
        return Some(
            "give what the server asks for as --secret=id=GIT_AUTH_TOKEN,src=FILE or id=GIT_AUTH_HEADER,src=FILE"
                .to_owned(),
        );
    }
    if text.contains("git ") && text.contains("Permission denied (publickey") {
        return Some(
            "name an agent or a key that the server knows: --ssh=default or --ssh=default=KEYFILE".to_owned(),
        );
    }
    match error {
        engine::Error::NotFound { what: "image", .. } => {
            Some("`davit images` lists the images of the local store".to_owned())
        }
        engine::Error::NotFound { what: "container", .. } => {
            Some("`davit ps -a` lists the containers".to_owned())
        }
        _ => None,
    }
}

/// Adds what was attempted to a failure of reading or writing a file.
pub(crate) trait Attempt<T> {
    /// `attempt: cause`.
    fn attempt(self, attempt: impl Display) -> Result<T, Failure>;
}

impl<T, E: std::error::Error> Attempt<T> for Result<T, E> {
    fn attempt(self, attempt: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(format!("{attempt}: {}", chain(&error))))
    }
}

impl From<crate::output::template::Error> for Failure {
    fn from(error: crate::output::template::Error) -> Self {
        Self::new(error.to_string())
    }
}
