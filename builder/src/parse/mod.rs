//! From the text of a Containerfile to its tree.
//!
//! The lexer joins continued lines and keeps for every byte of the joined line where it came from; the parser cuts
//! words out of joined lines. Errors are collected, so that one run shows them all. Nothing is read or expanded.

mod source;

pub use source::{Source, Span, Spanned};

use crate::diagnostic::{Diagnostic, Report};
use crate::instruction::{Containerfile, Statement};

/// A file's tree, and what is wrong with it.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The tree. Instructions with errors are missing in it.
    pub file: Containerfile,
    /// Errors, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// The tree if there was no error.
    pub fn into_result(self) -> Result<Containerfile, Report> {
        if self.diagnostics.iter().any(Diagnostic::is_error) {
            return Err(Report::new(self.file.source, self.diagnostics));
        }
        Ok(self.file)
    }
}

/// Reads a whole file.
pub fn parse(source_name: &str, text: &str) -> Parsed {
    let _ = (source_name, text);
    todo!()
}

/// Reads an ONBUILD trigger out of an image's config. Places in the result are those in `text`.
pub fn parse_trigger(source_name: &str, text: &str) -> Result<Statement, Report> {
    let _ = (source_name, text);
    todo!()
}
