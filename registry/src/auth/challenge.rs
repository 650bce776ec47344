//! `WWW-Authenticate`.

/// How a registry wants to be convinced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String>, error: Option<String> },
}

/// Parses the challenges of one header value; schemes that are not known are left out.
pub(crate) fn parse_challenges(header: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut rest = header.trim();
    while !rest.is_empty() && challenges.len() < 8 {
        let end = rest.find(|c: char| c.is_whitespace() || c == ',').unwrap_or(rest.len());
        let scheme = &rest[..end];
        let (parameters, after) = parse_parameters(rest[end..].trim_start());
        let find = |name: &str| {
            parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            challenges.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = find("realm")
        {
            challenges.push(Challenge::Bearer {
                realm,
                service: find("service"),
                scope: find("scope"),
                error: find("error"),
            });
        }
        rest = after.trim_start_matches([',', ' ', '\t']);
    }
    challenges
}

/// Parses `key=value, key="value"` up to the next scheme.
fn parse_parameters(text: &str) -> (Vec<(String, String)>, &str) {
    let mut parameters = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)));
        let Some(end) = end else { return (parameters, rest) };
        let Some(after) = rest[end..].trim_start().strip_prefix('=') else { return (parameters, rest) };
        let key = &rest[..end];
        if key.is_empty() {
            return (parameters, "");
        }
        let after = after.trim_start();
        let (value, next) = if let Some(quoted) = after.strip_prefix('"') {
            let mut value = String::new();
            let mut characters = quoted.char_indices();
            let mut close = quoted.len();
            while let Some((at, character)) = characters.next() {
                match character {
                    '"' => {
                        close = at + 1;
                        break;
                    }
                    '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                    other => value.push(other),
                }
            }
            (value, &quoted[close..])
        } else {
            let end = after.find([',', ' ', '\t']).unwrap_or(after.len());
            (after[..end].to_owned(), &after[end..])
        };
        parameters.push((key.to_owned(), value));
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>, error: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
            error: error.map(Into::into),
        }
    }

    #[test]
    fn usual_headers() {
        assert_eq!(parse_challenges("Basic realm=\"x\""), [Challenge::Basic]);
        assert_eq!(
            parse_challenges(
                "Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:a/b:pull,push\",error=\"insufficient_scope\""
            ),
            [bearer("https://a/t", Some("s"), Some("repository:a/b:pull,push"), Some("insufficient_scope"))]
        );
        assert_eq!(
            parse_challenges("Negotiate, bearer Realm=http://a/t , Service = \"a\\\"b\", basic realm=\"z\""),
            [bearer("http://a/t", Some("a\"b"), None, None), Challenge::Basic]
        );
    }

    #[test]
    fn nonsense_ends() {
        for text in [
            "",
            ",,,",
            "Bearer",
            "Bearer realm",
            "Bearer realm=\"unclosed",
            "Bearer =,=",
            "\"\"",
            "Bearer realm=\"a\\",
        ] {
            let _ = parse_challenges(text);
        }
    }
}
