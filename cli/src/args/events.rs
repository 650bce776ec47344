//! `events`.

use clap::Args;

use super::parse_go_bool;

/// `davit events`
#[derive(Args, Clone, Debug)]
pub(crate) struct EventsArgs {
    /// Only events that match KEY=VALUE (repeatable)
    #[arg(long, short = 'f', value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Go template, or json
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Whole IDs
    #[arg(long, value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_go_bool, hide_possible_values = true)]
    pub(crate) no_trunc: bool,
    /// From this time on: a time, or a duration before now
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Go on with what comes
    #[arg(long, value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_go_bool, hide_possible_values = true)]
    pub(crate) stream: bool,
    /// Up to this time: a time, or a duration from now on
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) until: Option<String>,
}
