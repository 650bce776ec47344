//! Registries that lie, and layers made to do harm: each is refused by name, nothing is left, nothing outside changes.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use oci::Digest;

use crate::rootless::Rootless;
use crate::support::{Davit, Done, mounts_below, scratch};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An answer, byte by byte under the test's control.
#[derive(Clone, Default)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn of(media_type: &str, body: &[u8]) -> Self {
        let headers = vec![("Content-Type".to_owned(), media_type.to_owned())];
        Self { status: 200, headers, body: body.to_vec() }
    }
}

/// Path and `Authorization` of every request.
type Seen = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// A registry that says whatever it was told to, to whoever has the password, if there is one.
struct Liar {
    host: String,
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    seen: Seen,
}

impl Liar {
    fn start(password: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let answers: Arc<Mutex<HashMap<String, Answer>>> = Arc::default();
        let seen = Seen::default();
        let (shared, log) = (answers.clone(), seen.clone());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (answers, log) = (shared.clone(), log.clone());
                std::thread::spawn(move || {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                        head.push(byte[0]);
                        // davit tries https first: what does not begin as a request ends at once.
                        if !head[0].is_ascii_uppercase() {
                            return;
                        }
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    let find = |line: &str| {
                        let (name, value) = line.split_once(':')?;
                        name.eq_ignore_ascii_case("authorization").then(|| value.trim().to_owned())
                    };
                    let authorization = head.lines().find_map(find);
                    log.lock().unwrap().push((path.clone(), authorization.clone()));
                    let mut answer = answers.lock().unwrap().get(&path).cloned().unwrap_or(match &*path {
                        "/v2/" => Answer { status: 200, ..Answer::default() },
                        _ => Answer { status: 404, ..Answer::default() },
                    });
                    if password && authorization.is_none() {
                        let challenge = ("WWW-Authenticate".to_owned(), "Basic realm=\"r\"".to_owned());
                        answer = Answer { status: 401, headers: vec![challenge], body: Vec::new() };
                    }
                    let mut text = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", answer.status);
                    if !answer.headers.iter().any(|(name, _)| name == "Content-Length") {
                        text += &format!("Content-Length: {}\r\n", answer.body.len());
                    }
                    for (name, value) in &answer.headers {
                        text += &format!("{name}: {value}\r\n");
                    }
                    let _ = stream.write_all(format!("{text}\r\n").as_bytes());
                    if !head.starts_with("HEAD") {
                        let _ = stream.write_all(&answer.body);
                    }
                });
            }
        });
        Self { host, answers, seen }
    }

    fn says(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(format!("/v2/{path}"), answer);
    }

    /// Serves `app:NAME` of these layers (media type, blob, diffID); gives the paths of manifest, config and layers.
    fn image(&self, name: &str, layers: &[(&str, &[u8], Digest)]) -> Vec<String> {
        let diff_ids: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", layer.2)).collect();
        let config = format!(
            "{{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{{\"Cmd\":[\"sh\"]}},\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[{}]}}}}",
            diff_ids.join(",")
        );
        let config = config.replace("amd64", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" });
        let list: Vec<String> = layers.iter().map(|(kind, blob, _)| descriptor(kind, blob)).collect();
        let manifest = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{MANIFEST}\",\"config\":{},\"layers\":[{}]}}",
            descriptor(CONFIG, config.as_bytes()),
            list.join(",")
        );
        let mut paths = vec![format!("app/manifests/{name}")];
        self.says(&paths[0], Answer::of(MANIFEST, manifest.as_bytes()));
        for blob in [config.as_bytes()].into_iter().chain(layers.iter().map(|layer| layer.1)) {
            let path = format!("app/blobs/{}", Digest::of(blob));
            self.says(&path, Answer::of("application/octet-stream", blob));
            paths.push(path);
        }
        paths
    }

    fn plain(&self, name: &str, layers: &[&[u8]]) -> Vec<String> {
        let layers: Vec<_> = layers.iter().map(|layer| (LAYER, *layer, Digest::of(layer))).collect();
        self.image(name, &layers)
    }

    fn pull(&self, davit: &Davit, name: &str) -> Done {
        let name = format!("{}/app:{name}", self.host);
        davit.run(["pull", "-q", "--tls-verify=false", "--retry=0", &name])
    }
}

fn descriptor(media_type: &str, blob: &[u8]) -> String {
    let digest = Digest::of(blob);
    format!("{{\"mediaType\":\"{media_type}\",\"digest\":\"{digest}\",\"size\":{}}}", blob.len())
}

/// The pull failed, said all of `words`, and left neither image nor mount nor much data.
#[track_caller]
fn refused(davit: &Davit, done: &Done, words: &[&str]) {
    assert_eq!(done.code, 125, "{done:#?}");
    for word in words {
        assert!(done.stderr.contains(word), "{word:?} is missing: {}", done.stderr);
    }
    assert_eq!(davit.run(["images", "-aq"]).ok(), "");
    assert!(mounts_below(davit.dir.path().to_str().unwrap()).is_empty());
    let kept = std::fs::read_dir(davit.root().join("snapshots")).map_or(0, Iterator::count);
    assert_eq!(kept, 0, "a layer was left");
}

#[test]
fn a_layer_that_inflates_without_end_stops() {
    // A zstd frame whose every block says in four bytes that 128 KiB of zeros come: 4.7 GB from 144 kB.
    let blocks = 36_000;
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x50];
    for at in 1..=blocks {
        let header: u32 = (131_072 << 3) | (1 << 1) | u32::from(at == blocks);
        bomb.extend_from_slice(&header.to_le_bytes()[..3]);
        bomb.push(0);
    }
    let (liar, davit) = (Liar::start(false), Davit::new());
    liar.image("bomb", &[("application/vnd.oci.image.layer.v1.tar+zstd", &bomb, Digest::of(b"never"))]);
    let digest = Digest::of(&bomb);
    refused(&davit, &liar.pull(&davit, "bomb"), &["decompression bomb", digest.hex()]);
    // A file that is larger than its archive could ever be.
    let huge = tar(&[member("huge", b'0', "").sized((1 << 33) - 1)]);
    liar.plain("huge", &[&huge]);
    refused(&davit, &liar.pull(&davit, "huge"), &["huge"]);
}

#[test]
fn manifests_of_too_many_layers_are_refused() {
    let (liar, davit) = (Liar::start(false), Davit::new());
    let empty = tar(&[]);
    // With what 4 MiB hold, and with 100,000, which are more than that.
    for (count, word) in [(501, "layers"), (20_000, "layers"), (100_000, "large")] {
        let list = vec![descriptor(LAYER, &empty); count].join(",");
        let manifest =
            format!("{{\"schemaVersion\":2,\"config\":{},\"layers\":[{list}]}}", descriptor(CONFIG, b"{}"));
        liar.says("app/manifests/many", Answer::of(MANIFEST, manifest.as_bytes()));
        refused(&davit, &liar.pull(&davit, "many"), &[word, &liar.host]);
    }
    let blobs = liar.seen.lock().unwrap().iter().filter(|(path, _)| path.contains("/blobs/")).count();
    assert_eq!(blobs, 0, "nothing of such an image is fetched");
}

#[test]
fn lies_about_length_digest_and_type_are_named() {
    let liar = Liar::start(false);
    let layer = tar(&[member("file", b'0', "content")]);
    let other = tar(&[member("file", b'0', "CONTENT")]);
    let paths = liar.plain("x", &[&layer]);
    let good: HashMap<_, _> = liar.answers.lock().unwrap().clone();
    let hex = Digest::of(&layer).hex().to_owned();
    let long = [layer.as_slice(), b"more"].concat();
    let announced = |length: usize, body: &[u8]| {
        let mut answer = Answer::of("application/octet-stream", body);
        answer.headers.push(("Content-Length".into(), length.to_string()));
        answer
    };
    let manifest = good[&format!("/v2/{}", paths[0])].body.clone();
    let as_index = "application/vnd.oci.image.index.v1+json";
    let contradiction = String::from_utf8(manifest.clone()).unwrap().replace(MANIFEST, as_index);
    let octets = "application/octet-stream";
    let cases: Vec<(&str, &str, Answer, Vec<&str>)> = vec![
        ("another layer of the same length", &paths[2], Answer::of(octets, &other), vec![&hex]),
        ("a longer layer", &paths[2], Answer::of(octets, &long), vec![&hex]),
        ("a shorter layer", &paths[2], Answer::of(octets, &layer[..1000]), vec![&hex]),
        ("less than announced", &paths[2], announced(layer.len(), &layer[..1000]), vec![&hex]),
        ("a login page", &paths[2], Answer::of("text/html", b"<html>log in</html>"), vec![&hex]),
        ("another config", &paths[1], Answer::of(octets, b"{}"), vec!["sha256:"]),
        ("a page for a manifest", &paths[0], Answer::of("text/html", b"<html></html>"), vec!["manifest"]),
        (
            "a manifest that says index",
            &paths[0],
            Answer::of(MANIFEST, contradiction.as_bytes()),
            vec!["mediaType"],
        ),
    ];
    for (what, path, answer, words) in cases {
        *liar.answers.lock().unwrap() = good.clone();
        liar.says(path, answer);
        // A store of its own: what was received and verified before is not fetched again.
        let davit = Davit::new();
        let done = liar.pull(&davit, "x");
        println!("{what}: {}", done.stderr);
        refused(&davit, &done, &[words, vec![&liar.host]].concat());
    }
    let davit = Davit::new();
    // By digest nobody can serve anything else, not even with a header that agrees.
    *liar.answers.lock().unwrap() = good;
    let wanted = Digest::of(b"what was asked for");
    let mut lie = Answer::of(MANIFEST, &manifest);
    lie.headers.push(("Docker-Content-Digest".into(), wanted.to_string()));
    liar.says(&format!("app/manifests/{wanted}"), lie);
    let name = format!("{}/app@{wanted}", liar.host);
    let done = davit.run(["pull", "-q", "--tls-verify=false", "--retry=0", &name]);
    refused(&davit, &done, &[wanted.hex()]);
    // The content type of a blob's answer says nothing, and a wrong compression in the manifest harms nobody.
    liar.image("y", &[("application/vnd.oci.image.layer.v1.tar+gzip", &layer, Digest::of(&layer))]);
    liar.pull(&davit, "y").ok();
}

#[test]
fn credentials_stay_with_the_registry_that_they_are_for() {
    let (liar, thief) = (Liar::start(true), Liar::start(false));
    let layer = tar(&[member("file", b'0', "content")]);
    let paths = liar.plain("x", &[&layer]);
    thief.plain("x", &[&layer]);
    let away = |path: &str| {
        let place = format!("http://{}/v2/{path}", thief.host);
        Answer { status: 307, headers: vec![("Location".into(), place)], body: Vec::new() }
    };
    for path in &paths {
        liar.says(path, away(path));
    }
    let davit = Davit::new();
    let name = format!("{}/app:x", liar.host);
    davit.run(["pull", "-q", "--tls-verify=false", "--creds=ann:s3cret", &name]).ok();
    let seen = thief.seen.lock().unwrap().clone();
    assert!(seen.len() >= 3, "the redirects were followed: {seen:?}");
    assert!(seen.iter().all(|(_, authorization)| authorization.is_none()), "{seen:?}");
    assert!(liar.seen.lock().unwrap().iter().any(|(_, authorization)| authorization.is_some()));
    // Nor does a redirect make the thief's own challenge be answered with them.
    let (liar, thief) = (Liar::start(true), Liar::start(true));
    let paths = liar.plain("x", &[&layer]);
    let place = format!("http://{}/v2/{}", thief.host, paths[2]);
    liar.says(&paths[2], Answer { status: 307, headers: vec![("Location".into(), place)], body: Vec::new() });
    let name = format!("{}/app:x", liar.host);
    let davit = Davit::new();
    let done = davit.run(["pull", "-q", "--tls-verify=false", "--retry=0", "--creds=ann:s3cret", &name]);
    refused(&davit, &done, &["unauthorized"]);
    assert!(!done.stderr.contains("s3cret"));
    let seen = thief.seen.lock().unwrap().clone();
    assert!(!seen.is_empty() && seen.iter().all(|(_, authorization)| authorization.is_none()), "{seen:?}");
}

/// A member of a tar archive.
struct Member {
    name: String,
    kind: u8,
    link: String,
    content: Vec<u8>,
    size: Option<u64>,
    fields: Vec<(usize, &'static [u8])>,
}

/// `text` is the content of a file and the target of a link.
fn member(name: &str, kind: u8, text: &str) -> Member {
    let (content, link) = match kind {
        b'0' | b'7' | b'x' | b'g' | b'L' | b'K' | b'S' => (text.as_bytes().to_vec(), String::new()),
        _ => (Vec::new(), text.to_owned()),
    };
    Member { name: name.to_owned(), kind, link, content, size: None, fields: Vec::new() }
}

impl Member {
    fn sized(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    fn with(mut self, at: usize, bytes: &'static [u8]) -> Self {
        self.fields.push((at, bytes));
        self
    }
}

/// PAX records in front of the next member.
fn pax(records: &[(&str, &str)]) -> Member {
    let mut text = String::new();
    for (key, value) in records {
        let body = format!(" {key}={value}\n");
        let length = body.len() + if body.len() + 2 < 100 { 2 } else { 3 };
        text += &format!("{length}{body}");
    }
    member("pax", b'x', &text)
}

fn tar(members: &[Member]) -> Vec<u8> {
    let mut out = Vec::new();
    for member in members {
        let mut header = [0_u8; 512];
        header[..member.name.len()].copy_from_slice(member.name.as_bytes());
        header[100..107].copy_from_slice(if member.kind == b'5' { b"0000755" } else { b"0000644" });
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        let size = member.size.unwrap_or(member.content.len() as u64);
        header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        header[136..147].copy_from_slice(b"00000000000");
        header[156] = member.kind;
        header[157..157 + member.link.len()].copy_from_slice(member.link.as_bytes());
        header[257..265].copy_from_slice(b"ustar\x0000");
        for (at, bytes) in &member.fields {
            header[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(&member.content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// Images, each a list of layers, that try to write to, link to or delete what lies in `outside`.
fn tricks(outside: &Path) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let place = outside.to_str().unwrap();
    let up = format!("{}{}", "../".repeat(20), place.trim_start_matches('/'));
    let (secret, up_secret) = (format!("{place}/secret"), format!("{up}/secret"));
    let file = |name: &str| member(name, b'0', "overwritten");
    let link = |name: &str, to: &str| member(name, b'2', to);
    let one = |members: Vec<Member>| vec![tar(&members)];
    vec![
        ("dot dot", one(vec![file(&up_secret)])),
        ("absolute", one(vec![file(&secret)])),
        ("a link, then through it", one(vec![link("l", place), file("l/secret")])),
        ("a relative link, then through it", one(vec![link("l", &up), file("l/secret")])),
        ("a link, then onto it", one(vec![link("l", &secret), file("l")])),
        ("a link of a lower layer", vec![tar(&[link("l", place)]), tar(&[file("l/secret")])]),
        (
            "a directory that becomes a link",
            one(vec![
                member("d/", b'5', ""),
                file("d/a"),
                link("d", place),
                file("d/secret"),
                member("d/", b'5', ""),
            ]),
        ),
        ("a hard link out", one(vec![member("h", b'1', &secret), file("h")])),
        ("a hard link up", one(vec![member("h", b'1', &up_secret), file("h")])),
        ("a hard link through a link", one(vec![link("l", place), member("h", b'1', "l/secret"), file("h")])),
        ("a hard link to a link", one(vec![link("l", &secret), member("h", b'1', "l"), file("h")])),
        (
            "duplicates",
            one(vec![file("a"), link("a", &secret), file("a"), link("a", place), file("a/secret")]),
        ),
        ("a name in PAX", one(vec![pax(&[("path", &up_secret)]), file("harmless")])),
        ("a link in PAX", one(vec![pax(&[("linkpath", place)]), link("l", "harmless"), file("l/secret")])),
        (
            "a size in PAX that hides a member",
            one(vec![pax(&[("size", "512")]), file("a").sized(0), link("l", place), file("l/secret")]),
        ),
        (
            "a long name of GNU",
            one(vec![member("././@LongLink", b'L', &format!("{up_secret}\0")), file("a")]),
        ),
        ("a prefix", one(vec![file("secret").with(345, b"../../../../../../../../var/tmp")])),
        (
            "a sparse file through a link",
            one(vec![
                link("l", place),
                pax(&[
                    ("GNU.sparse.size", "4096"),
                    ("GNU.sparse.map", "512,11"),
                    ("GNU.sparse.name", "l/secret"),
                ]),
                file("a"),
            ]),
        ),
        ("a whiteout through a link", vec![tar(&[link("l", place)]), tar(&[file("l/.wh.secret")])]),
        ("an opaque link", vec![tar(&[link("l", place)]), tar(&[file("l/.wh..wh..opq")])]),
        ("a whiteout of the parent", one(vec![file(".wh..."), file("a/.wh...")])),
        (
            "devices",
            one(vec![
                member("null", b'3', "").with(329, b"0000001").with(337, b"0000003"),
                member("disk", b'4', "").with(329, b"0000010").with(337, b"0000000"),
                member("fifo", b'6', ""),
                file("null/x"),
            ]),
        ),
    ]
}

/// Every file of the directory, with what a write, a link or a change of owner would change.
fn state(outside: &Path) -> Vec<(String, String)> {
    use std::os::unix::fs::MetadataExt;
    let mut all = Vec::new();
    for entry in std::fs::read_dir(outside).unwrap().flatten() {
        let stat = std::fs::symlink_metadata(entry.path()).unwrap();
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        all.push((
            name,
            format!("{text} {:o} {} {} {}", stat.mode(), stat.uid(), stat.nlink(), stat.mtime_nsec()),
        ));
    }
    all.sort();
    all
}

fn outside_with_secret() -> tempfile::TempDir {
    let outside = scratch();
    std::fs::write(outside.path().join("secret"), "untouched").unwrap();
    // All may write here: what protects the file must be davit, not its mode.
    for path in [outside.path().to_owned(), outside.path().join("secret")] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    }
    outside
}

#[test]
fn no_trick_of_tar_leaves_the_layer() {
    let outside = outside_with_secret();
    let before = state(outside.path());
    assert_eq!(before.len(), 1);
    let liar = Liar::start(false);
    for (what, layers) in tricks(outside.path()) {
        let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
        liar.plain("trick", &layers);
        let davit = Davit::new();
        let done = liar.pull(&davit, "trick");
        assert!(matches!(done.code, 0 | 125), "{what}: {done:#?}");
        assert!(done.code == 0 || done.stderr.contains(&liar.host), "{what}: {done:#?}");
        assert_eq!(before, state(outside.path()), "{what}");
        let files = if done.code == 0 { 1 } else { 0 };
        assert_eq!(davit.run(["images", "-q"]).ok().lines().count(), files, "{what}");
        assert_eq!(davit.run(["system", "check"]).code, 0, "{what}: the store is damaged");
        // The same as an archive that ADD unpacks.
        let context = scratch();
        std::fs::write(context.path().join("a.tar"), layers[0]).unwrap();
        std::fs::write(context.path().join("Containerfile"), "FROM scratch\nADD a.tar /\n").unwrap();
        let _ = davit.run(["build", "-q", context.path().to_str().unwrap()]);
        assert_eq!(before, state(outside.path()), "ADD: {what}");
    }
}

#[test]
fn no_trick_of_tar_leaves_the_layer_without_root() {
    let outside = outside_with_secret();
    let before = state(outside.path());
    let (liar, davit) = (Liar::start(false), Rootless::new());
    std::fs::create_dir_all(davit.dir.path().join("xdg")).unwrap();
    davit.file("ready", "");
    for (at, (what, layers)) in tricks(outside.path()).into_iter().enumerate() {
        let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
        let tag = format!("trick{at}");
        liar.plain(&tag, &layers);
        let name = format!("{}/app:{tag}", liar.host);
        let done = davit.run(&["pull", "-q", "--tls-verify=false", "--retry=0", &name]);
        assert!(matches!(done.code, 0 | 125), "{what}: {done:#?}");
        assert_eq!(before, state(outside.path()), "{what}");
    }
    // Devices cannot be made by such a user: they are left out, and that is said.
    let node = member("null", b'3', "").with(329, b"0000001").with(337, b"0000003");
    liar.plain("devices", &[&tar(&[node, member("file", b'0', "x")])]);
    let name = format!("{}/app:devices", liar.host);
    let done = davit.run(&["pull", "--tls-verify=false", "--retry=0", &name]);
    done.ok();
    assert!(done.stderr.contains("null") || done.stderr.contains("device"), "{done:#?}");
}
