//! Certificates and transparency logs, made with `openssl` as Fulcio and Rekor make them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci::{Descriptor, Digest, Manifest, ManifestOrIndex, Raw};
use registry::Source;
use registry::transport::Which;
use registry::trust::{
    Gate, Kind, Origin, Payload, Policy, PrivateKey, SIGSTORE_TYPE, Signature, Signatures,
};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const NAME: &str = "r.example/a:1";

/// An image with signatures, and nothing else.
struct Signed {
    manifest: Raw<ManifestOrIndex>,
    signatures: Vec<Signature>,
}

impl Source for Signed {
    fn describe(&self) -> String {
        NAME.into()
    }

    fn manifest(&self, _which: Which<'_>) -> registry::Result<Raw<ManifestOrIndex>> {
        Ok(self.manifest.clone())
    }

    fn origin(&self) -> Origin {
        Origin::registry(&registry::Reference::parse(NAME).unwrap())
    }

    fn signatures(&self, _manifest: &Digest) -> registry::Result<Signatures> {
        Ok(Signatures { list: self.signatures.clone(), note: None })
    }

    fn blob(&self, _: &Descriptor, _: u64) -> registry::Result<Box<dyn Read + Send + '_>> {
        unreachable!("nothing asks for blobs")
    }
}

struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn openssl(&self, arguments: &str) {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let done = Command::new("openssl").args(&arguments).current_dir(self.dir.path()).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn key(&self, name: &str) {
        self.openssl(&format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key"));
        self.openssl(&format!("pkey -in {name}.key -pubout -out {name}.pub"));
    }

    fn private(&self, name: &str) -> PrivateKey {
        PrivateKey::parse_pem(self.text(&format!("{name}.key")).as_bytes(), None).unwrap()
    }

    /// A certificate of `name`, signed by `issuer`, or by itself.
    fn certificate(&self, name: &str, issuer: Option<&str>, extensions: &str, days: i32) {
        self.key(name);
        std::fs::write(self.path("ext"), format!("[x]\n{extensions}\n")).unwrap();
        self.openssl(&format!("req -new -key {name}.key -subj /CN={name} -out {name}.csr"));
        let by = match issuer {
            Some(issuer) => format!("-CA {issuer}.crt -CAkey {issuer}.key -CAcreateserial"),
            None => format!("-signkey {name}.key"),
        };
        self.openssl(&format!(
            "x509 -req -in {name}.csr {by} -days {days} -sha256 -extfile ext -extensions x -out {name}.crt"
        ));
    }
}

const AUTHORITY: &str = "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign";

fn leaf(more: &str) -> String {
    format!("keyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\n{more}")
}

/// What Fulcio writes for a user of this issuer.
fn fulcio_leaf(email: &str, issuer: &str) -> String {
    let hex: Vec<String> = issuer.bytes().map(|byte| format!("{byte:02x}")).collect();
    leaf(&format!(
        "subjectAltName=critical,email:{email}\n1.3.6.1.4.1.57264.1.1=DER:{}\n1.3.6.1.4.1.57264.1.8=ASN1:UTF8String:{issuer}",
        hex.join(":")
    ))
}

fn image() -> Raw<ManifestOrIndex> {
    let manifest = Manifest::new(Descriptor::of(oci::media_type::OCI_CONFIG, b"{}"), Vec::new());
    Raw::from_value(ManifestOrIndex::Manifest(manifest)).unwrap()
}

/// A signature with the key `name`, and the bundle of a log that took it in.
struct Made {
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl Made {
    fn new(lab: &Lab, name: &str) -> Self {
        let payload = Payload { digest: image().digest().clone(), reference: NAME.into() };
        let payload = payload.write(Kind::Sigstore, 1);
        let signature = lab.private(name).sign(&payload).unwrap();
        Self { payload, signature }
    }

    fn bundle(&self, lab: &Lab, rekor: &str, signer: &str, time: i64) -> String {
        let hash = Digest::of(&self.payload);
        let body = serde_json::json!({
            "apiVersion": "0.0.1", "kind": "hashedrekord",
            "spec": {
                "data": { "hash": { "algorithm": "sha256", "value": hash.hex() } },
                "signature": {
                    "content": STANDARD.encode(&self.signature),
                    "publicKey": { "content": STANDARD.encode(signer) },
                },
            },
        });
        let payload = serde_json::json!({
            "body": STANDARD.encode(body.to_string()), "integratedTime": time, "logIndex": 7,
            "logID": "c0d23d6ad406973f9559f3ba2d1ca01f84147d8ffc5b8445c224f98b9591801d",
        });
        // sorted keys, as the canonical form wants them; the order by character is the same here
        let canonical = format!(
            "{{\"body\":{},\"integratedTime\":{},\"logID\":{},\"logIndex\":{}}}",
            payload["body"], payload["integratedTime"], payload["logID"], payload["logIndex"]
        );
        let timestamp = lab.private(rekor).sign(canonical.as_bytes()).unwrap();
        serde_json::json!({ "SignedEntryTimestamp": STANDARD.encode(timestamp), "Payload": payload })
            .to_string()
    }

    fn with(&self, more: &[(&str, &str)]) -> Signature {
        let own = [("dev.cosignproject.cosign/signature", STANDARD.encode(&self.signature))];
        let more = more.iter().map(|(key, value)| (*key, (*value).to_owned()));
        Signature::Sigstore {
            media_type: SIGSTORE_TYPE.into(),
            payload: self.payload.clone(),
            annotations: own.into_iter().chain(more).map(|(key, value)| (key.to_owned(), value)).collect(),
        }
    }
}

/// What the gate says of an image with this signature: nothing, or why it is refused.
fn judged(requirement: &str, signature: Signature) -> String {
    let policy = Policy::parse(format!("{{\"default\":[{requirement}]}}").as_bytes(), "p").unwrap();
    let source = Signed { manifest: image(), signatures: vec![signature] };
    match Gate::new(Arc::new(policy)).may_be_used(&source, &source.manifest, None) {
        Ok(()) => String::new(),
        Err(error @ registry::Error::Rejected { .. }) => error.to_string(),
        Err(other) => panic!("{other}"),
    }
}

fn shown(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

const BUNDLE: &str = "dev.sigstore.cosign/bundle";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";

#[test]
fn a_transparency_log_must_know_the_signature() {
    let lab = Lab::new();
    for name in ["k", "other", "rekor"] {
        lab.key(name);
    }
    let requirement = |rekor: &str| {
        let (key, rekor) = (shown(&lab.path("k.pub")), shown(&lab.path(rekor)));
        format!(r#"{{"type":"sigstoreSigned","keyPath":{key},"rekorPublicKeyPath":{rekor}}}"#)
    };
    let made = Made::new(&lab, "k");
    let signer = lab.text("k.pub");
    let bundle = made.bundle(&lab, "rekor", &signer, 1_700_000_000);
    let good = made.with(&[(BUNDLE, &bundle)]);
    assert_eq!(judged(&requirement("rekor.pub"), good.clone()), "");
    assert!(judged(&requirement("other.pub"), good).contains("not signed with a key of the policy"));
    assert!(judged(&requirement("rekor.pub"), made.with(&[])).contains("no annotation"));
    let others = made.bundle(&lab, "rekor", &lab.text("other.pub"), 1);
    assert!(judged(&requirement("rekor.pub"), made.with(&[(BUNDLE, &others)])).contains("another signer"));
    // the same text signed twice gives two signatures
    let second = Made::new(&lab, "k");
    let swapped = second.with(&[(BUNDLE, &bundle)]);
    assert!(judged(&requirement("rekor.pub"), swapped).contains("another signature"));
    for (old, new) in [
        ("\"logIndex\":7", "\"logIndex\":8"),
        ("1700000000", "1700000001"),
        ("\"logIndex\":7", "\"logIndex\":7,\"x\":1"),
    ] {
        let changed = bundle.replace(old, new);
        assert_ne!(changed, bundle);
        assert_ne!(judged(&requirement("rekor.pub"), made.with(&[(BUNDLE, &changed)])), "", "{new}");
    }
}

#[test]
fn certificates_of_fulcio_count_at_the_time_of_the_log() {
    let lab = Lab::new();
    lab.key("rekor");
    lab.certificate("root", None, AUTHORITY, 30);
    lab.certificate("middle", Some("root"), AUTHORITY, 30);
    lab.certificate("ann", Some("middle"), &fulcio_leaf("ann@example.com", "https://issuer.example"), 1);
    lab.certificate("stranger", None, AUTHORITY, 30);
    let requirement = |root: &str, issuer: &str, email: &str| {
        let (root, rekor) = (shown(&lab.path(root)), shown(&lab.path("rekor.pub")));
        format!(
            r#"{{"type":"sigstoreSigned","fulcio":{{"caPath":{root},"oidcIssuer":"{issuer}","subjectEmail":"{email}"}},"rekorPublicKeyPath":{rekor}}}"#
        )
    };
    let usual = requirement("root.crt", "https://issuer.example", "ann@example.com");
    let made = Made::new(&lab, "ann");
    let certificate = lab.text("ann.crt");
    let chain = lab.text("middle.crt") + &lab.text("root.crt");
    let now = jiff::Timestamp::now().as_second();
    let signature = |time: i64, chain: &str| {
        let bundle = made.bundle(&lab, "rekor", &certificate, time);
        made.with(&[(BUNDLE, &bundle), (CERTIFICATE, &certificate), (CHAIN, chain)])
    };
    assert_eq!(judged(&usual, signature(now, &chain)), "");
    // a day and more after and before it is not valid
    for time in [now + 2 * 86400, now - 2 * 86400] {
        assert_ne!(judged(&usual, signature(time, &chain)), "");
    }
    assert!(
        judged(&usual, signature(now, &lab.text("root.crt"))).contains("not one of the policy's authorities")
    );
    let wrong = |requirement: String| judged(&requirement, signature(now, &chain));
    assert_ne!(wrong(requirement("stranger.crt", "https://issuer.example", "ann@example.com")), "");
    assert!(
        wrong(requirement("root.crt", "https://other.example", "ann@example.com")).contains("issuer.example")
    );
    assert!(
        wrong(requirement("root.crt", "https://issuer.example", "eve@example.com"))
            .contains("ann@example.com")
    );
    // a certificate that is no one's of the log, and one that may not sign code
    let bundle = made.bundle(&lab, "rekor", &certificate, now);
    let other = lab.text("middle.crt");
    assert_ne!(judged(&usual, made.with(&[(BUNDLE, &bundle), (CERTIFICATE, &other), (CHAIN, &chain)])), "");
    let extensions =
        fulcio_leaf("ann@example.com", "https://issuer.example").replace("codeSigning", "serverAuth");
    lab.certificate("server", Some("root"), &extensions, 1);
    let made = Made::new(&lab, "server");
    let certificate = lab.text("server.crt");
    let bundle = made.bundle(&lab, "rekor", &certificate, now);
    assert_ne!(judged(&usual, made.with(&[(BUNDLE, &bundle), (CERTIFICATE, &certificate)])), "");
}

#[test]
fn certificates_of_ones_own_authorities_are_valid_now() {
    let lab = Lab::new();
    lab.certificate("root", None, AUTHORITY, 30);
    lab.certificate("middle", Some("root"), AUTHORITY, 30);
    let names = leaf("subjectAltName=email:ann@example.com,DNS:build.example.com");
    lab.certificate("ann", Some("middle"), &names, 1);
    lab.certificate("late", Some("middle"), &names, 0);
    let requirement = |more: &str| {
        let root = shown(&lab.path("root.crt"));
        format!(r#"{{"type":"sigstoreSigned","pki":{{"caRootsPath":{root},{more}}}}}"#)
    };
    let middle = format!(r#""caIntermediatesPath":{}"#, shown(&lab.path("middle.crt")));
    let email = r#""subjectEmail":"ann@example.com""#;
    let made = Made::new(&lab, "ann");
    let certificate = lab.text("ann.crt");
    let signature = || made.with(&[(CERTIFICATE, &certificate)]);
    assert_eq!(judged(&requirement(&format!("{email},{middle}")), signature()), "");
    let host = r#""subjectHostname":"build.example.com""#;
    assert_eq!(judged(&requirement(&format!("{email},{host},{middle}")), signature()), "");
    assert_ne!(judged(&requirement(email), signature()), "", "the certificate between is missing");
    let chain = lab.text("middle.crt") + &lab.text("root.crt");
    let with_chain = made.with(&[(CERTIFICATE, &certificate), (CHAIN, &chain)]);
    assert_eq!(judged(&requirement(email), with_chain), "");
    let other = r#""subjectHostname":"other.example.com""#;
    assert!(judged(&requirement(&format!("{other},{middle}")), signature()).contains("other.example.com"));
    let late = Made::new(&lab, "late");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let late = late.with(&[(CERTIFICATE, &lab.text("late.crt"))]);
    assert_ne!(judged(&requirement(&format!("{email},{middle}")), late), "");
    // the key of one certificate and the certificate of another
    lab.certificate("eve", Some("middle"), &names, 1);
    let eve = Made::new(&lab, "eve").with(&[(CERTIFICATE, &certificate)]);
    assert!(judged(&requirement(&format!("{email},{middle}")), eve).contains("does not fit"));
}

#[test]
fn signatures_go_along_where_they_are_asked_to() {
    use registry::transport::{DirDestination, DirSource};
    use registry::{CopyOptions, Selection, copy};
    let lab = Lab::new();
    let manifest = Manifest::new(Descriptor::of(oci::media_type::OCI_CONFIG, b"{}"), Vec::new());
    let manifest = Raw::from_value(ManifestOrIndex::Manifest(manifest)).unwrap();
    let index = oci::Index::new(vec![manifest.descriptor()]);
    let index = Raw::from_value(ManifestOrIndex::Index(index)).unwrap();
    let from = lab.path("from");
    std::fs::create_dir(&from).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(from.join(name), bytes).unwrap();
    write("version", b"Directory Transport Version: 1.1\n");
    write("manifest.json", index.bytes());
    write(&format!("{}.manifest.json", manifest.digest().hex()), manifest.bytes());
    write(Digest::of(b"{}").hex(), b"{}");
    let [one, two] = [1, 2].map(|byte| Signature::Simple(vec![0x90, byte]));
    write("signature-1", &one.to_bytes());
    write(&format!("{}.signature-1", manifest.digest().hex()), &two.to_bytes());
    let source = DirSource::open(&from).unwrap();
    for (keep, expected) in [(false, [Vec::new(), Vec::new()]), (true, [vec![one], vec![two]])] {
        let to = lab.path(if keep { "with" } else { "without" });
        let destination = DirDestination::create(&to).unwrap();
        let options =
            CopyOptions { selection: Selection::All, keep_signatures: keep, ..CopyOptions::default() };
        for _ in 0..2 {
            copy(&source, &destination, &options).unwrap();
        }
        let found = DirSource::open(&to).unwrap();
        let of = |digest: &Digest| found.signatures(digest).unwrap().list;
        assert_eq!([of(index.digest()), of(manifest.digest())], expected);
    }
}
