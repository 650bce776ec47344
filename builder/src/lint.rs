//! The build checks that need nothing but the tree (`docker build --check` has the same names).

use crate::diagnostic::Diagnostic;
use crate::instruction::Containerfile;
use crate::stages::PlanOptions;

/// The `# check=` directive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckSettings {
    /// Rules to leave out, in lower case.
    pub skip: Vec<String>,
    /// `skip=all`
    pub skip_all: bool,
    /// `error=true`: a warning fails the build.
    pub error: bool,
    /// Experimental rules to use, in lower case; `all` for all.
    pub experimental: Vec<String>,
}

/// All warnings, in the order of the file, without those that the file skips.
pub fn check(file: &Containerfile, options: &PlanOptions) -> Vec<Diagnostic> {
    let _ = (file, options);
    todo!()
}
