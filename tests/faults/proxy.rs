//! A network between davit and a real registry that cuts, corrupts, truncates, stalls and refuses.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Random, emptied};
use crate::support::{Access, Davit, Registry, context, mounts_below};

/// What befalls an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The connection ends within the answer, at so many bytes.
    Cut(usize),
    /// A byte at this position is changed.
    Corrupt(usize),
    /// The answer waits before it goes on at this position.
    Stall(usize),
    /// The request is answered by this status; the registry never sees it.
    Status(u16),
    /// The connection ends before an answer.
    Refuse,
}

/// The proxy: one thread a connection, one request a connection.
pub(crate) struct Proxy {
    pub(crate) host: String,
    /// One request in so many is befallen; 0 for none.
    rate: Arc<Mutex<u64>>,
    befallen: Arc<Mutex<Vec<Fault>>>,
    /// First lines of all requests.
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    /// Bytes of answers that went through.
    pub(crate) passed: Arc<AtomicU64>,
    /// How long each 16 KiB of an answer take, milliseconds.
    pace: Arc<AtomicU64>,
}

fn read_head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if !stream.read(&mut byte).is_ok_and(|read| read == 1)
            || !head.first().unwrap_or(&byte[0]).is_ascii_uppercase()
        {
            return None;
        }
        head.push(byte[0]);
    }
    Some(head)
}

fn header(head: &str, wanted: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
    })
}

/// The request, with `Connection: close` so that the answer ends with its connection.
fn forward(from: &mut TcpStream, head: &[u8], to: &str) -> Option<TcpStream> {
    let text = String::from_utf8_lossy(head).into_owned();
    let mut upstream = TcpStream::connect(to).ok()?;
    let kept =
        text.lines().filter(|line| !line.is_empty() && !line.to_ascii_lowercase().starts_with("connection:"));
    let head = kept.collect::<Vec<_>>().join("\r\n") + "\r\nConnection: close\r\n\r\n";
    upstream.write_all(head.as_bytes()).ok()?;
    if let Some(length) = header(&text, "content-length").and_then(|length| length.parse::<u64>().ok()) {
        std::io::copy(&mut from.take(length), &mut upstream).ok()?;
    } else if header(&text, "transfer-encoding").is_some() {
        // Chunks end with an empty one.
        let (mut last, mut buffer) = (Vec::new(), [0; 16 << 10]);
        while !last.ends_with(b"0\r\n\r\n") {
            let read = from.read(&mut buffer).ok().filter(|read| *read > 0)?;
            upstream.write_all(&buffer[..read]).ok()?;
            last.extend_from_slice(&buffer[..read]);
            last.drain(..last.len().saturating_sub(16));
        }
    }
    Some(upstream)
}

fn answer(
    mut client: TcpStream,
    upstream: &str,
    fault: Fault,
    head: &[u8],
    passed: &AtomicU64,
    pace: &AtomicU64,
) -> Option<()> {
    match fault {
        Fault::Refuse => return None,
        Fault::Status(status) => {
            let after = if status == 429 { "Retry-After: 0\r\n" } else { "" };
            let text =
                format!("HTTP/1.1 {status} X\r\n{after}Content-Length: 0\r\nConnection: close\r\n\r\n");
            return client.write_all(text.as_bytes()).ok();
        }
        _ => {}
    }
    let mut from = forward(&mut client, head, upstream)?;
    let (mut position, mut buffer) = (0, vec![0; 16 << 10]);
    loop {
        let read = from.read(&mut buffer).ok().filter(|read| *read > 0)?;
        let part = &mut buffer[..read];
        let inside = |at: usize| (position..position + read).contains(&at).then(|| at - position);
        match fault {
            Fault::Cut(at) if inside(at).is_some() => {
                return client.write_all(&part[..at - position]).ok();
            }
            Fault::Corrupt(at) if inside(at).is_some() => part[at - position] ^= 0x11,
            Fault::Stall(at) if inside(at).is_some() => std::thread::sleep(Duration::from_millis(400)),
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(pace.load(Ordering::Relaxed)));
        client.write_all(part).ok()?;
        passed.fetch_add(read as u64, Ordering::Relaxed);
        position += read;
    }
}

impl Proxy {
    pub(crate) fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (rate, befallen) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (shared, log, upstream) = (rate.clone(), befallen.clone(), upstream.to_owned());
        let random = Arc::new(Mutex::new(Random::new()));
        let (asked, passed, pace) =
            (Arc::<Mutex<Vec<String>>>::default(), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let kept = (asked.clone(), passed.clone(), pace.clone());
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let (shared, log, upstream, random) =
                    (shared.clone(), log.clone(), upstream.clone(), random.clone());
                let (asked, passed, pace) = (asked.clone(), passed.clone(), pace.clone());
                std::thread::spawn(move || {
                    let head = read_head(&mut client)?;
                    let first = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
                    asked.lock().unwrap().push(first);
                    let rate = *shared.lock().unwrap();
                    let fault = pick(&mut random.lock().unwrap(), rate);
                    if fault != Fault::None {
                        log.lock().unwrap().push(fault);
                    }
                    answer(client, &upstream, fault, &head, &passed, &pace)
                });
            }
        });
        let (asked, passed, pace) = kept;
        Self { host, rate, befallen, asked, passed, pace }
    }

    /// Makes every 16 KiB of an answer take so many milliseconds.
    pub(crate) fn pace(&self, milliseconds: u64) {
        self.pace.store(milliseconds, Ordering::Relaxed);
    }

    fn befall(&self, rate: u64) {
        *self.rate.lock().unwrap() = rate;
    }
}

fn pick(random: &mut Random, rate: u64) -> Fault {
    if rate == 0 || random.below(rate) != 0 {
        return Fault::None;
    }
    let at = usize::try_from(random.below(300_000)).unwrap();
    match random.below(8) {
        0 => Fault::Refuse,
        1 => Fault::Status(429),
        2 => Fault::Status(500),
        3 => Fault::Status(503),
        4 => Fault::Corrupt(at),
        5 => Fault::Stall(at),
        6 => Fault::Cut(at % 600),
        _ => Fault::Cut(at),
    }
}

#[test]
fn a_bad_network_fails_a_command_at_most_and_harms_nothing() {
    let davit = Davit::with_busybox();
    let registry = Registry::start(Access::Plain);
    let proxy = Proxy::start(&registry.host);
    let text = "FROM busybox\nRUN head -c 2000000 /dev/urandom > /a\nRUN head -c 2000000 /dev/urandom > /b\nRUN sha256sum /a /b > /sums\n";
    let made = context(text, &[]);
    davit.run(["build", "-q", "-t", "base", made.path().to_str().unwrap()]).ok();
    let sums = davit.sh("base", "sha256sum -c /sums");
    let name = format!("{}/base", proxy.host);
    davit.run(["push", "-q", "--tls-verify=false", "base", &format!("{name}:good")]).ok();

    let other = Davit::new();
    let (mut pulls, mut pushes) = (0, 0);
    for round in 0..24 {
        proxy.befall(1 + round % 4);
        let tag = format!("{name}:{round}");
        pushes += u32::from(
            davit.run(["push", "-q", "--tls-verify=false", "--retry-delay=10ms", "base", &tag]).code != 0,
        );
        let done =
            other.run(["pull", "-q", "--tls-verify=false", "--retry-delay=10ms", &format!("{name}:good")]);
        pulls += u32::from(done.code != 0);
        proxy.befall(0);
        if done.code == 0 {
            assert_eq!(other.sh(&format!("{name}:good"), "sha256sum -c /sums"), sums, "round {round}");
        } else {
            assert!(!done.stderr.trim().is_empty() && !done.stderr.contains("panicked"), "{done:#?}");
        }
        if round % 3 == 2 {
            // The very next command works, and what was pulled is what was pushed.
            davit.run(["push", "-q", "--tls-verify=false", "base", &tag]).ok();
            other.run(["pull", "-q", "--tls-verify=false", &tag]).ok();
            assert_eq!(other.sh(&tag, "sha256sum -c /sums"), sums, "round {round}");
            other.run(["system", "check"]).ok();
            other.run(["rmi", "-af"]).ok();
        }
    }
    let befallen = proxy.befallen.lock().unwrap().len();
    assert!(befallen > 60, "only {befallen} answers were befallen");
    assert!(pulls + pushes > 0 && pulls < 24 && pushes < 24, "{pulls} pulls and {pushes} pushes failed");
    let left = emptied(&other);
    assert!(left < 1_000_000, "{left} bytes are left");
    assert!(mounts_below(other.dir.path().to_str().unwrap()).is_empty());
}
