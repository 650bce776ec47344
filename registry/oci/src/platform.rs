//! Platforms: parsing, normalising and ranked matching.

use crate::{Error, Result, null_is_default};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What an image runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture in Go's words: `amd64`, `arm64`, `arm`, `386`, ...
    #[serde(default, deserialize_with = "null_is_default")]
    pub architecture: String,
    /// Operating system in Go's words: `linux`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub os: String,
    /// Version of the operating system (Windows).
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features of the operating system (Windows).
    #[serde(
        default,
        rename = "os.features",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub os_features: Vec<String>,
    /// Variant of the architecture: `v7` of arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// A platform of operating system and architecture, normalised.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let variant = variant.map(str::to_ascii_lowercase).filter(|variant| !variant.is_empty());
        let (architecture, variant) = match architecture.to_ascii_lowercase().as_str() {
            "x86_64" | "x86-64" | "amd64" => ("amd64".to_owned(), variant.filter(|variant| variant != "v1")),
            "aarch64" | "arm64" => {
                let variant = variant.map(|variant| if variant == "8" { "v8".to_owned() } else { variant });
                ("arm64".to_owned(), variant)
            }
            "armhf" => ("arm".to_owned(), Some("v7".to_owned())),
            "armel" => ("arm".to_owned(), Some("v6".to_owned())),
            "arm" => {
                let variant = variant.map(|variant| {
                    if variant.len() == 1 && variant.bytes().all(|byte| byte.is_ascii_digit()) {
                        format!("v{variant}")
                    } else {
                        variant
                    }
                });
                ("arm".to_owned(), variant)
            }
            "i386" | "i486" | "i586" | "i686" | "x86" => ("386".to_owned(), variant),
            "powerpc64le" => ("ppc64le".to_owned(), variant),
            other => (other.to_owned(), variant),
        };
        Self { architecture, os, os_version: None, os_features: Vec::new(), variant }
    }

    /// The platform this program was built for.
    pub fn host() -> Self {
        let variant = if cfg!(target_arch = "arm") {
            Some(if cfg!(target_feature = "v7") { "v7" } else { "v6" })
        } else {
            None
        };
        let architecture = match std::env::consts::ARCH {
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "mips64" if cfg!(target_endian = "little") => "mips64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self::new("linux", architecture, variant)
    }

    /// How well `candidate` serves this wanted platform: 0 is best, `None` is not at all. Versions and features
    /// of the operating system are not looked at on Linux.
    pub fn rank(&self, candidate: &Platform) -> Option<u32> {
        let candidate = Platform::new(&candidate.os, &candidate.architecture, candidate.variant.as_deref());
        if self.os != candidate.os || self.architecture != candidate.architecture {
            return None;
        }
        let offered = candidate.variant.as_deref();
        let Some(wanted) = self.variant.as_deref() else {
            return Some(u32::from(offered.is_some()));
        };
        if offered == Some(wanted) {
            return Some(0);
        }
        let order: &[&str] = match self.architecture.as_str() {
            "arm" => &["v8", "v7", "v6", "v5"],
            "arm64" => &["v8"],
            _ => &[],
        };
        // weaker variants in order, then no variant at all
        let after = order.iter().position(|variant| *variant == wanted).map_or(order.len(), |at| at + 1);
        match offered {
            None => Some(100),
            Some(offered) => {
                let at = order.iter().skip(after).position(|variant| *variant == offered)?;
                u32::try_from(at + 1).ok()
            }
        }
    }

    /// Whether an image of `candidate` can serve this wanted platform.
    pub fn accepts(&self, candidate: &Platform) -> bool {
        self.rank(candidate).is_some()
    }
}

impl FromStr for Platform {
    type Err = Error;

    /// Parses `os/arch[/variant]`, `arch` alone (on Linux) or `os` alone (host architecture).
    fn from_str(text: &str) -> Result<Self> {
        let invalid = |reason| Err(Error::InvalidPlatform { text: text.to_owned(), reason });
        let parts: Vec<&str> = text.split('/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return invalid("an empty part");
        }
        let word = |part: &str| {
            part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        };
        if !parts.iter().all(|part| word(part)) {
            return invalid("only letters, digits, '_', '-' and '.' are allowed");
        }
        match parts.as_slice() {
            ["linux" | "Linux"] => Ok(Self::host()),
            [architecture] => Ok(Self::new("linux", architecture, None)),
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => invalid("expected os/arch[/variant]"),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if let Some(variant) = &self.variant {
            write!(f, "/{variant}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_normalised() {
        for (text, shown) in [
            ("linux/x86_64", "linux/amd64"),
            ("Linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64/v8"),
            ("linux/arm/7", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("arm64", "linux/arm64"),
            ("linux/i686", "linux/386"),
            ("macos/arm64", "darwin/arm64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), shown, "{text}");
        }
        for text in ["", "/", "linux/", "a/b/c/d", "linux/a b"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_host_matches_itself() {
        let host = Platform::host();
        assert_eq!(host.rank(&host), Some(0));
        assert_eq!("linux".parse::<Platform>().unwrap(), host);
    }

    #[test]
    fn arm64_with_and_without_variant_are_the_same_machine() {
        let plain: Platform = "linux/arm64".parse().unwrap();
        let v8: Platform = "linux/arm64/v8".parse().unwrap();
        assert!(plain.accepts(&v8) && v8.accepts(&plain));
    }
}
