//! What must hold for any bytes: the bodies of the fuzz targets in `registry/fuzz`, which the tests of this crate run
//! again over the inputs that were kept. Each panics where a promise is broken.

use crate::auth::challenge::{Challenge, parse_challenges};
use crate::transport::{ArchiveKind, DockerArchive, Layout, Selector, Source, TarFile, Which, read_blob};
use crate::trust::{
    Kind, Origin, Payload, Place, Policy, PrivateKey, PublicKey, Requirement, Signature, SignatureConfig,
};
use crate::{Name, Reference, Registries};
use oci::{Descriptor, Digest, ImageConfig, Manifest, ManifestOrIndex, Platform, Raw};
use std::path::Path;
use std::sync::Arc;

/// A target's name, and what it does with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 10] = [
    ("archive", archive),
    ("auth_file", auth_file),
    ("challenge", challenge),
    ("document", document),
    ("policy", policy),
    ("reference", reference),
    ("registries", registries),
    ("registries_d", registries_d),
    ("signature", signature),
    ("signing_key", signing_key),
];

/// Image names: what is printed is read as the same name.
pub fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for parsed in [Reference::parse(text), Reference::parse_docker(text), Reference::parse_local(text)] {
        let parsed = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                assert!(error.full_text().len() < 4 * text.len() + 500, "{error}");
                continue;
            }
        };
        assert_eq!(Reference::parse(&parsed.to_string()).ok(), Some(parsed.clone()), "{parsed}");
        assert_eq!(Reference::parse_docker(&parsed.familiar()).ok(), Some(parsed.clone()), "{parsed}");
        let name = parsed.name();
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic()), "{name:?}");
        assert!(!name.split('/').any(|part| matches!(part, "" | "." | "..")), "{name:?}");
        let tagged = parsed.with_default_tag();
        assert!(tagged.tag().is_some() || tagged.digest().is_some());
    }
    if let Ok(Name::Short(short)) = Name::parse(text) {
        for registry in ["docker.io", "127.0.0.1:5000"] {
            if let Ok(full) = short.in_registry(registry) {
                assert_eq!(full.registry(), registry);
                assert_eq!((full.tag(), full.digest()), (short.tag(), short.digest()));
            }
        }
    }
}

/// Manifests, indexes and configs. The first byte chooses the media type of the answer.
pub fn document(bytes: &[u8]) {
    let Some((&choice, bytes)) = bytes.split_first() else { return };
    let hints = [
        None,
        Some(oci::media_type::OCI_MANIFEST),
        Some(oci::media_type::DOCKER_MANIFEST),
        Some(oci::media_type::OCI_INDEX),
        Some(oci::media_type::DOCKER_LIST),
        Some("application/json; charset=utf-8"),
    ];
    let hint = hints[usize::from(choice) % hints.len()];
    if let Ok(raw) = Raw::<ManifestOrIndex>::parse(bytes.to_vec(), hint) {
        assert_eq!((raw.bytes(), raw.digest()), (bytes, &Digest::of(bytes)));
        let is_index = raw.value().index().is_some();
        assert_eq!(oci::media_type::is_index(raw.media_type()), is_index);
        assert_ne!(oci::media_type::is_manifest(raw.media_type()), is_index);
        if let Some(index) = raw.value().index() {
            let chosen = index.select(&Platform::new("linux", "arm64", None));
            assert!(chosen.is_none_or(|chosen| index.manifests.contains(chosen)));
            let _ = index.platforms();
        }
        if let Some(manifest) = raw.value().manifest() {
            let total: u64 = manifest.layers.iter().map(|layer| layer.size).sum();
            assert!(i64::try_from(total).is_ok(), "the sum of the sizes overflows");
            let own = Raw::from_value(manifest.clone()).expect("what was read can be written");
            let again = Raw::<Manifest>::parse(own.bytes().to_vec(), Some(raw.media_type()));
            assert_eq!(again.as_ref().map(Raw::value), Ok(manifest), "a manifest changes when it is written");
        }
        assert_ne!(raw.clone().into_manifest().is_ok(), raw.into_index().is_ok());
    }
    if let Ok(raw) = Raw::<ImageConfig>::parse(bytes.to_vec(), None) {
        let own = Raw::from_value(raw.value().clone()).expect("what was read can be written");
        let again = Raw::<ImageConfig>::parse(own.bytes().to_vec(), None);
        assert_eq!(again.as_ref().map(Raw::value), Ok(raw.value()), "a config changes when it is written");
        let _ = (raw.value().platform(), oci::ChainId::chain(raw.value().diff_ids()));
    }
}

/// Credential files: an error quotes none of the secrets that the file has, and a helper is no path.
pub fn auth_file(bytes: &[u8]) {
    crate::auth::files::promises_of_file(bytes);
}

/// `WWW-Authenticate`: no more comes out than went in.
pub fn challenge(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let challenges = parse_challenges(text);
    assert!(challenges.len() <= 8);
    for challenge in challenges {
        let Challenge::Bearer { realm, service, scope, error } = challenge else { continue };
        let length = |part: Option<String>| part.map_or(0, |part| part.len());
        assert!(realm.len() + length(service) + length(scope) + length(error) <= 4 * text.len());
        // what is asked of the realm must be an address that can be shown
        if let Ok(url) = crate::url::Url::parse(&realm) {
            assert!(!url.shown().is_empty());
        }
    }
}

/// `registries.conf`: every endpoint of a pull is a name, and nothing blocked is asked.
pub fn registries(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let registries = match Registries::parse(text, "registries.conf") {
        Ok(registries) => registries,
        Err(error) => return assert!(error.full_text().len() < 4096 + 4 * text.len(), "{error}"),
    };
    let digest = Digest::of(b"");
    for name in ["docker.io/library/debian", "r.example/a/b:tag", "a.b.example:5000/c", "localhost/x"] {
        let Ok(name) = Reference::parse(name) else { continue };
        for name in [name.with_digest(digest.clone()), name.with_default_tag()] {
            if registries.find(&name).is_some_and(|found| found.blocked) {
                assert!(registries.endpoints(&name).is_err(), "{name} is blocked");
            }
            for endpoint in registries.endpoints(&name).into_iter().flatten() {
                let shown = endpoint.reference.to_string();
                assert_eq!(Reference::parse(&shown).ok(), Some(endpoint.reference), "{shown}");
            }
        }
    }
    for short in ["debian", "a/b:tag"] {
        let Ok(Name::Short(short)) = Name::parse(short) else { continue };
        for full in registries.resolve(&short).into_iter().flatten() {
            assert_eq!(Reference::parse(&full.to_string()).ok(), Some(full));
        }
    }
}

/// `policy.json`: there is always something that must hold, and nothing is let in by a text that was not understood.
pub fn policy(bytes: &[u8]) {
    let policy = match Policy::parse(bytes, "policy.json") {
        Ok(policy) => policy,
        Err(error) => return assert!(error.full_text().len() < 4096, "{error}"),
    };
    let Ok(name) = Reference::parse("r.example:5000/ns/a:1") else { return };
    let origins = [
        Origin::registry(&name),
        Origin::path("dir", Path::new("/ns/a"), None),
        Origin::path("oci", Path::new("/ns/a"), Some("1")),
        Origin::unscoped("docker-archive"),
        Origin::unscoped(""),
    ];
    for origin in &origins {
        assert!(!policy.requirements(origin).is_empty());
    }
    let of_others = Origin::unscoped("no transport of anyone's");
    assert_eq!(policy.requirements(&of_others), policy.default_requirements());
    for requirement in policy.scopes().flat_map(|(_, _, list)| list) {
        if let Requirement::SignedBy { identity, .. } | Requirement::SigstoreSigned { identity, .. } =
            requirement
        {
            assert!(!identity.matches(Some(&name), "no name at all!"));
            let _ = identity.matches(Some(&name), "r.example:5000/ns/a:1");
        }
    }
}

/// `registries.d`: places are absolute paths or web addresses, below which the repository stands as it is.
pub fn registries_d(bytes: &[u8]) {
    let mut config = SignatureConfig::default();
    if let Err(error) = config.merge(bytes, "a.yaml") {
        return assert!(error.full_text().len() < 4096, "{error}");
    }
    for name in ["docker.io/library/debian", "r.example/ns/a:1"] {
        let Ok(name) = Reference::parse(name) else { continue };
        let _ = config.attachments(&name);
        for place in [config.reading(&name), config.writing(&name)].into_iter().flatten().flatten() {
            match place {
                Place::Directory(path) => assert!(path.is_absolute() && path.ends_with(name.repository())),
                Place::Server(url) => assert!(url.starts_with("http") && url.ends_with(name.repository())),
            }
        }
        let _ = config.nearest(&name.to_string());
    }
}

/// Signatures, what is signed, and bundles of a transparency log: what is written is read as the same.
pub fn signature(bytes: &[u8]) {
    if let Ok(signature) = Signature::parse(bytes) {
        assert_eq!(Signature::parse(&signature.to_bytes()), Ok(signature));
    }
    for kind in [Kind::Simple, Kind::Sigstore] {
        if let Ok(payload) = Payload::parse(bytes, kind) {
            assert_eq!(Payload::parse(&payload.write(kind, 1), kind), Ok(payload));
        }
    }
    crate::trust::promises_of_bundle(bytes);
}

/// Keys, certificates and keyrings, PEM or DER.
pub fn signing_key(bytes: &[u8]) {
    for key in [PublicKey::parse_pem(bytes), PublicKey::parse_der(bytes)] {
        match key {
            Ok(key) => assert!(!key.verify(b"message", b"no signature")),
            Err(message) => assert!(message.len() < 4096, "{message}"),
        }
    }
    // without a passphrase, nothing costly is done
    if let Ok(key) = PrivateKey::parse_pem(bytes, None) {
        assert!(key.sign(b"message").is_ok());
    }
    crate::trust::promises_of_certificate(bytes);
    let length: usize = crate::trust::owners(bytes).iter().map(String::len).sum();
    assert!(length <= 4 * bytes.len() + 64);
}

/// Image archives. Headers whose sums are wrong are put right, which no mutation would do.
pub fn archive(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    if !matches!(&bytes[..], [0x1f, ..] | [b'B', b'Z', ..] | [0xfd, ..] | [0x28, ..]) {
        correct_sums(&mut bytes);
    }
    let length = bytes.len() as u64;
    let scratch = Path::new("/dev/shm");
    let opened = TarFile::from_reader(bytes.as_slice(), "archive".to_owned(), scratch);
    let archive = match opened {
        Ok(archive) => Arc::new(archive),
        Err(error) => return assert!(error.full_text().len() < 4096, "{error}"),
    };
    let selectors = || (0..3).map(Selector::Position).chain([Selector::Only, Selector::Name("a:b".into())]);
    match archive.kind() {
        Some(ArchiveKind::Docker) => {
            let Ok(images) = DockerArchive::open(&archive) else { return };
            assert!(images.images().len() as u64 <= length.max(1 << 20));
            for source in selectors().filter_map(|selector| images.source(&selector).ok()) {
                read_all(&source);
            }
        }
        Some(ArchiveKind::Oci) => {
            let Ok(images) = Layout::open_archive(&archive) else { return };
            for source in selectors().filter_map(|selector| images.source(&selector).ok()) {
                read_all(&source);
            }
        }
        None => {}
    }
}

/// What is read is what the manifest says, or an error.
fn read_all(source: &dyn Source) {
    let Ok(root) = source.manifest(Which::Root) else { return };
    let mut manifests = vec![root.clone()];
    for entry in root.value().index().iter().flat_map(|index| &index.manifests).take(4) {
        if let Ok(manifest) = source.manifest(Which::Entry(entry)) {
            assert_eq!(manifest.digest(), &entry.digest);
            manifests.push(manifest);
        }
    }
    for manifest in manifests.iter().filter_map(|raw| raw.value().manifest()) {
        let blobs: Vec<&Descriptor> = manifest.layers.iter().chain([&manifest.config]).take(8).collect();
        for blob in blobs {
            if let Ok(bytes) = read_blob(source, blob, 1 << 20) {
                assert!(bytes.len() as u64 == blob.size && blob.digest.verify(&bytes).is_ok(), "{blob:?}");
            }
        }
    }
}

/// Writes the right sum into every header, as far as sizes in headers lead.
fn correct_sums(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(block) = bytes.get_mut(at..at + 512) {
        if block.iter().all(|byte| *byte == 0) {
            return;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let digits = block[124..136].iter().filter(|byte| (b'0'..=b'7').contains(*byte));
        let size = digits.fold(0_usize, |size, digit| size.wrapping_mul(8) + usize::from(digit - b'0'));
        let content = if matches!(block[156], b'1'..=b'6') { 0 } else { size.div_ceil(512).min(1 << 20) };
        at += 512 * (1 + content);
    }
}
