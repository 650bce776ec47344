//! What each rule is for, in a sentence, and where more is said about it.

/// What a rule is for; empty for what is none.
pub fn description(rule: &str) -> &'static str {
    match rule {
        "ConsistentInstructionCasing" => {
            "Instructions of a file are all written in upper or all in lower case"
        }
        "CopyIgnoredFile" => "A file that the ignore file leaves out cannot be copied",
        "DuplicateStageName" => "Each stage has a name of its own",
        "ExposeInvalidFormat" => "EXPOSE names ports, not addresses or ports of the host",
        "ExposeProtoCasing" => "The protocol of EXPOSE is written in lower case",
        "FromAsCasing" => "FROM and AS are written in the same case",
        "FromPlatformFlagConstDisallowed" => "The platform of FROM is left to the command line",
        "InvalidBaseImagePlatform" => "A base image is of the platform that is built for",
        "InvalidDefaultArgInFrom" => "Without build arguments FROM still names an image",
        "InvalidDefinitionDescription" => "A comment above a stage or an argument describes it",
        "JSONArgsRecommended" => "CMD and ENTRYPOINT are JSON arrays, so that signals arrive",
        "LegacyKeyValueFormat" => "Keys and values are joined by =",
        "MaintainerDeprecated" => "A label names the author, not MAINTAINER",
        "MultipleInstructionsDisallowed" => {
            "An instruction of which only the last counts stands once in a stage"
        }
        "NoEmptyContinuation" => "A continued instruction has no empty lines inside",
        "RedundantTargetPlatform" => "FROM does not repeat the default platform",
        "ReservedStageName" => "A stage has none of the reserved names",
        "SecretsUsedInArgOrEnv" => "Secrets are mounted, not kept in ARG or ENV",
        "StageNameCasing" => "Names of stages are written in lower case",
        "UndefinedArgInFrom" => "FROM uses arguments that are declared before it",
        "UndefinedVar" => "Variables are set before they are used",
        "WorkdirRelativePath" => "The first WORKDIR of a stage is absolute",
        _ => "",
    }
}

/// The page about a rule in Docker's documentation, whose names these are.
pub fn url(rule: &str) -> String {
    let mut words = String::new();
    let bytes = rule.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        let upper = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_uppercase);
        // JSONArgs is json-args: a word ends before a capital that is followed by a small letter.
        if at > 0 && upper(at) && (!upper(at - 1) || (at + 1 < bytes.len() && !upper(at + 1))) {
            words.push('-');
        }
        words.push(char::from(byte.to_ascii_lowercase()));
    }
    format!("https://docs.docker.com/go/dockerfile/rule/{words}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_described() {
        for rule in super::super::RULES {
            assert!(!description(rule).is_empty(), "{rule}");
        }
        assert!(url("JSONArgsRecommended").ends_with("/json-args-recommended/"));
        assert!(url("StageNameCasing").ends_with("/stage-name-casing/"));
    }
}
