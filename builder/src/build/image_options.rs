//! What the command line makes of an image besides its instructions.

use std::collections::BTreeMap;

/// What an image is besides the result of its instructions.
#[derive(Debug, Clone, Default)]
pub struct ImageOptions {
    /// `--label`, in order.
    pub labels: Vec<(String, String)>,
    /// `--unsetlabel`: labels that a base image has and this one has not.
    pub unset_labels: Vec<String>,
    /// `--inherit-labels=false`: no label of a base image stays.
    pub drop_base_labels: bool,
    /// `--env`: set before the first instruction of each stage, and again at the end, as buildah does.
    pub env: Vec<(String, String)>,
    /// `--unsetenv`, at the same two places.
    pub unset_env: Vec<String>,
    /// `--annotation`: of the manifest that the image will have.
    pub annotations: BTreeMap<String, String>,
    /// What becomes of the steps' layers.
    pub layers: Layers,
    /// `--omit-history`.
    pub omit_history: bool,
    /// `--format=docker`: manifest and config get Docker's media types.
    pub docker: bool,
}

/// What becomes of the layers that steps make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layers {
    /// They are the image's.
    #[default]
    Keep,
    /// Those above the base image become one (`--squash`, `--layers=false`).
    Squash,
    /// All of them become one, the base image's too (`--squash-all`).
    SquashAll,
}
