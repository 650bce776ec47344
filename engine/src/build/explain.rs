//! Why the steps of an image ran, from the trace that its build left.

use crate::{Engine, Error, Result};
use builder::explain::{Outcome, explain_image};

/// One step of the build that made an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedStep {
    /// `[stage 2/5] RUN make`.
    pub name: String,
    /// Line in the Containerfile, 1 = first.
    pub line: usize,
    /// Whether it is a step at all, and not a base image.
    pub is_step: bool,
    /// What had changed when it ran, each with old and new digest; `None` where its result was known.
    pub causes: Option<Vec<String>>,
}

impl Engine {
    /// Why the steps of the build that made an image ran. Only images that were built in this store have such a record.
    pub fn explain(&self, image: &str) -> Result<Vec<ExplainedStep>> {
        let found = self.find_image(image)?;
        let steps = explain_image(self.store()?, found.id())
            .map_err(crate::error::storage(format!("read the trace of image {image}")))?;
        let Some(steps) = steps else {
            return Err(Error::NotFound { what: "record of a build of image", name: image.to_owned() });
        };
        Ok(steps
            .into_iter()
            .map(|step| ExplainedStep {
                name: step.name,
                line: step.line,
                is_step: step.outcome != Outcome::Source,
                causes: (step.outcome == Outcome::Ran)
                    .then(|| step.causes.iter().map(ToString::to_string).collect()),
            })
            .collect())
    }
}
