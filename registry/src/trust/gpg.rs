//! Simple signatures, through the programs of `GnuPG`: `gpgv` verifies with the keys of a policy alone, `gpg` signs with
//! the user's. Neither sees more of the other than its arguments and streams.

use super::json::{Parsed, shorten};
use super::signature::MAX_SIGNATURE;
use crate::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Most bytes that are read of what a program says.
const MAX_WORDS: u64 = 1 << 20;
/// Longest time for a verification.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a signature says, if the key of one of these keyrings made it. The outer error is one of the machine.
pub(super) fn verify(keyrings: &[Vec<u8>], message: &[u8]) -> Result<Parsed<Vec<u8>>> {
    let mut ring = Vec::new();
    for keyring in keyrings {
        match binary(keyring) {
            Ok(bytes) => ring.extend(bytes),
            Err(message) => {
                return Err(Error::Config { path: "keyring of the policy".into(), message });
            }
        }
    }
    let file = sys::memfd::sealed("davit-keyring", &[&ring])
        .map_err(Error::stream("keep the keyring of a policy in memory"))?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let arguments = [
        "--quiet",
        "--status-fd",
        "2",
        "--homedir",
        "/nonexistent",
        "--keyring",
        &path,
        "--output",
        "-",
        "-",
    ];
    let done = run("gpgv", "gpgv", &arguments.map(OsStr::new), message, Some(DEADLINE))?;
    Ok(judge(&done).map(|()| done.output))
}

/// Whether what `gpgv` reports is one good signature over the whole message, and nothing else.
fn judge(done: &Done) -> Parsed<()> {
    let words = String::from_utf8_lossy(&done.words);
    let lines: Vec<&str> = words.lines().filter_map(|line| line.strip_prefix("[GNUPG:] ")).collect();
    let count = |keyword: &str| lines.iter().filter(|line| line.split(' ').next() == Some(keyword)).count();
    for (keyword, meaning) in [
        ("BADSIG", "the signature does not fit"),
        ("EXPSIG", "the signature has expired"),
        ("EXPKEYSIG", "the key that made it has expired"),
        ("REVKEYSIG", "the key that made it was revoked"),
        ("NO_PUBKEY", "it was not made with a key of the policy"),
        ("ERRSIG", "it cannot be verified"),
    ] {
        if count(keyword) > 0 {
            return Err(meaning.to_owned());
        }
    }
    if done.cut {
        return Err("it holds too many bytes".to_owned());
    }
    let once = ["NEWSIG", "GOODSIG", "VALIDSIG", "PLAINTEXT"];
    if !done.success || once.iter().any(|keyword| count(keyword) != 1) || count("FAILURE") > 0 {
        return Err("it is no message with one signature".to_owned());
    }
    Ok(())
}

/// Signs a payload with a key of the user's. `passphrase` is a file whose first line unlocks it; without one `gpg` asks its
/// agent.
pub(super) fn sign(key: &str, passphrase: Option<&Path>, payload: &[u8]) -> Result<Vec<u8>> {
    let mut arguments: Vec<&OsStr> =
        ["--batch", "--quiet", "--no-armor", "--no-textmode", "--local-user", key].map(OsStr::new).into();
    if let Some(path) = passphrase {
        arguments.extend(["--pinentry-mode", "loopback", "--passphrase-file"].map(OsStr::new));
        arguments.push(path.as_os_str());
    }
    arguments.extend(["--output", "-", "--sign", "-"].map(OsStr::new));
    // no deadline: somebody may have to type
    let done = run("gpg", "gnupg", &arguments, payload, None)?;
    if done.success && !done.cut && !done.output.is_empty() {
        return Ok(done.output);
    }
    let words = String::from_utf8_lossy(&done.words);
    let last = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
    Err(Error::Signing { what: format!("gpg with the key {key:?}"), message: shorten(last) })
}

/// What a signature says, if this key of the user's keyring made it.
pub(super) fn own(key: &str, message: &[u8]) -> Result<Option<Vec<u8>>> {
    let list = ["--batch", "--quiet", "--with-colons", "--list-secret-keys", "--", key].map(OsStr::new);
    let listed = run("gpg", "gnupg", &list, &[], Some(DEADLINE))?;
    let listed = String::from_utf8_lossy(&listed.output).into_owned();
    let fingerprints: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.strip_prefix("fpr:")?.split(':').find(|cell| !cell.is_empty()))
        .collect();
    // nothing is fetched or decrypted for it
    let verify = [
        "--batch",
        "--quiet",
        "--no-auto-key-retrieve",
        "--status-fd",
        "2",
        "--output",
        "-",
        "--verify",
        "-",
    ]
    .map(OsStr::new);
    let done = run("gpg", "gnupg", &verify, message, Some(DEADLINE))?;
    let words = String::from_utf8_lossy(&done.words).into_owned();
    let valid = words.lines().find_map(|line| line.strip_prefix("[GNUPG:] VALIDSIG "));
    let by = valid.and_then(|line| line.split(' ').next()).unwrap_or_default();
    let is_own = judge(&done).is_ok() && fingerprints.contains(&by);
    Ok(is_own.then_some(done.output))
}

/// Addresses of the owners of a keyring, or their names where they have none, as they stand in it; nobody vouches for them.
pub fn owners(keyring: &[u8]) -> Vec<String> {
    /// Tag of the packet with a user's name.
    const USER_ID: u8 = 13;
    let Ok(ring) = binary(keyring) else { return Vec::new() };
    let mut rest = ring.as_slice();
    let mut found = Vec::new();
    while let Some((tag, body, after)) = packet(rest) {
        rest = after;
        if tag == USER_ID {
            let owner = shorten(&String::from_utf8_lossy(body));
            let address = owner.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
            found.push(address.map(|(address, _)| address.to_owned()).unwrap_or(owner));
        }
    }
    found
}

/// The first packet of OpenPGP (RFC 4880, 4.2): its tag, its body, and what follows. Keyrings have no partial lengths.
fn packet(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&head, rest) = bytes.split_first()?;
    if head & 0x80 == 0 {
        return None;
    }
    let number = |bytes: &[u8]| bytes.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
    let (tag, used, length) = if head & 0x40 == 0 {
        let size = match head & 3 {
            0 => 1,
            1 => 2,
            2 => 4,
            _ => return None,
        };
        ((head >> 2) & 0xf, size, number(rest.get(..size)?))
    } else {
        match *rest.first()? {
            first @ 0..=191 => (head & 0x3f, 1, usize::from(first)),
            first @ 192..=223 => {
                (head & 0x3f, 2, ((usize::from(first) - 192) << 8) + usize::from(*rest.get(1)?) + 192)
            }
            255 => (head & 0x3f, 5, number(rest.get(1..5)?)),
            _ => return None,
        }
    };
    let (body, after) = rest.get(used..)?.split_at_checked(length)?;
    Some((tag, body, after))
}

/// What a program left behind.
struct Done {
    success: bool,
    output: Vec<u8>,
    /// Standard error.
    words: Vec<u8>,
    /// Whether there was more output than allowed.
    cut: bool,
}

fn run(
    program: &'static str,
    package: &'static str,
    arguments: &[&OsStr],
    input: &[u8],
    deadline: Option<Duration>,
) -> Result<Done> {
    let failed = |message: String| Error::Signing { what: program.to_owned(), message };
    let mut child = Command::new(program)
        .args(arguments)
        // what it says is read, not shown
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                failed(format!("it is not installed; simple signatures need it (package {package})"))
            }
            _ => failed(format!("start: {error}")),
        })?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let input = input.to_owned();
    let limited = |stream: Option<Box<dyn Read + Send>>, limit: u64| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // a stream that breaks shows in the exit status
            let _ = stream.map(|stream| stream.take(limit).read_to_end(&mut bytes));
            bytes
        })
    };
    let output = limited(stdout.map(|stream| Box::new(stream) as Box<dyn Read + Send>), MAX_SIGNATURE + 1);
    let words = limited(stderr.map(|stream| Box::new(stream) as Box<dyn Read + Send>), MAX_WORDS);
    let writer = std::thread::spawn(move || {
        // a program that does not read to the end says why
        let _ = stdin.map(|mut stdin| stdin.write_all(&input));
    });
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if deadline.is_some_and(|deadline| started.elapsed() > deadline) => {
                // it cannot be reaped twice, and nothing else knows its ID
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed("it did not end in time".to_owned()));
            }
            Ok(None) => std::thread::sleep(pause),
            Err(error) => return Err(failed(format!("wait: {error}"))),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    let _ = writer.join();
    let mut output = output.join().unwrap_or_default();
    let words = words.join().unwrap_or_default();
    let cut = output.len() as u64 > MAX_SIGNATURE;
    output.truncate(usize::try_from(MAX_SIGNATURE).unwrap_or(usize::MAX));
    Ok(Done { success: status.success(), output, words, cut })
}

/// A keyring without armour.
fn binary(keyring: &[u8]) -> Parsed<Vec<u8>> {
    const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
    const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";
    if keyring.first().is_some_and(|first| first & 0x80 != 0) {
        return Ok(keyring.to_owned());
    }
    let text = std::str::from_utf8(keyring).map_err(|_| "it is no keyring of GPG".to_owned())?;
    let mut found = Vec::new();
    let mut lines = text.lines().map(str::trim_end);
    while lines.by_ref().any(|line| line == BEGIN) {
        let mut body = String::new();
        // headers end with an empty line
        for line in lines.by_ref().skip_while(|line| !line.is_empty()).skip(1) {
            match line {
                END => break,
                // the sum; what it guards is guarded by the signature, too
                sum if sum.starts_with('=') => {}
                line => body.push_str(line),
            }
        }
        found
            .extend(STANDARD.decode(&body).map_err(|_| "the armour of the keyring is not valid".to_owned())?);
    }
    if found.is_empty() { Err("it is no keyring of GPG".to_owned()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn done(words: &str) -> Done {
        Done { success: true, output: Vec::new(), words: words.into(), cut: false }
    }

    const GOOD: &str =
        "[GNUPG:] PLAINTEXT 62 1 \n[GNUPG:] NEWSIG a\n[GNUPG:] GOODSIG 1 Ann\n[GNUPG:] VALIDSIG 2\n";

    #[test]
    fn one_good_signature_and_nothing_else() {
        assert_eq!(judge(&done(GOOD)), Ok(()));
        assert!(judge(&Done { success: false, ..done(GOOD) }).is_err());
        assert!(judge(&Done { cut: true, ..done(GOOD) }).is_err());
        for more in [
            "[GNUPG:] PLAINTEXT 62 1 \n",
            "[GNUPG:] NEWSIG\n",
            "[GNUPG:] ERRSIG 1\n",
            "[GNUPG:] EXPKEYSIG 1\n",
            "[GNUPG:] REVKEYSIG 1\n",
            "[GNUPG:] BADSIG 1\n",
            "[GNUPG:] GOODSIG 1\n",
        ] {
            assert!(judge(&done(&format!("{GOOD}{more}"))).is_err(), "{more}");
        }
        for line in GOOD.lines() {
            assert!(judge(&done(&GOOD.replace(line, ""))).is_err(), "{line}");
        }
        // a name of the key's owner is no status
        let spoofed = GOOD.replace("[GNUPG:] VALIDSIG", "gpgv: from \"x [GNUPG:] VALIDSIG");
        assert!(judge(&done(&spoofed)).is_err());
    }

    #[test]
    fn owners_are_read_from_packets() {
        let name = "Ann <ann@example.com>";
        let mut ring = vec![0x99, 0, 2, 1, 2]; // an old header with two bytes of length
        ring.extend([0xb4, 21]); // an old one with one
        ring.extend(name.bytes());
        ring.extend([0xcd, 3, b'B', b'o', b'b']); // a new one
        assert_eq!(owners(&ring), ["ann@example.com", "Bob"]);
        ring.extend([0xcd, 255, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(owners(&ring).len(), 2);
    }

    #[test]
    fn armour_is_taken_off() {
        let block = |body: &str| {
            format!(
                "-----BEGIN PGP PUBLIC KEY BLOCK-----\nComment: x\n\n{body}\n=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n"
            )
        };
        assert_eq!(binary(format!("{}{}", block("eHg="), block("eQ==")).as_bytes()).unwrap(), b"xxy");
        assert_eq!(binary(&[0x99, 1]).unwrap(), [0x99, 1]);
        for bad in [String::new(), "text".into(), block("%")] {
            assert!(binary(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
