//! `davit registry serve`: the local store over the distribution API, one thread a connection.

mod http;
mod routes;

use engine::share::Share;
use http::{Connection, Response};
use rustix::event::{PollFd, PollFlags, poll};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Most connections at a time; further ones are told to come back.
const MAX_CONNECTIONS: usize = 256;
/// How long requests may take to end once the server shall.
const GRACE: Duration = Duration::from_secs(10);

/// A registry that answers from the local store.
#[derive(Debug)]
pub struct RegistryServer {
    share: Arc<Share>,
    listener: TcpListener,
    readonly: bool,
}

/// Counts a connection for as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RegistryServer {
    /// A server on a listening socket. `readonly`: nothing can be pushed or deleted.
    pub fn new(share: Share, listener: TcpListener, readonly: bool) -> Self {
        Self { share: Arc::new(share), listener, readonly }
    }

    /// Serves until `stop` can be read; then requests have ten seconds to end.
    pub fn run(&self, stop: BorrowedFd<'_>) -> io::Result<()> {
        let connections = Arc::new(AtomicUsize::new(0));
        self.listener.set_nonblocking(true)?;
        loop {
            let mut ready =
                [PollFd::new(&self.listener, PollFlags::IN), PollFd::from_borrowed_fd(stop, PollFlags::IN)];
            match poll(&mut ready, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if !ready[1].revents().is_empty() {
                break;
            }
            match self.listener.accept() {
                Ok((stream, _)) => self.begin(stream, &connections),
                // gone again, or there are no descriptors: others may end meanwhile
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        let until = Instant::now() + GRACE;
        while connections.load(Ordering::Relaxed) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn begin(&self, stream: TcpStream, connections: &Arc<AtomicUsize>) {
        // accepted sockets do not take the listener's mode over everywhere
        if stream.set_nonblocking(false).is_err() {
            return;
        }
        let count = connections.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(connections.clone());
        let (share, readonly) = (self.share.clone(), self.readonly);
        let full = count >= MAX_CONNECTIONS;
        let begun = std::thread::Builder::new().name("registry".to_owned()).spawn(move || {
            let _counted = counted;
            // what a client does wrong ends its connection, and is told to it alone
            let _ = serve(&share, readonly, stream, full);
        });
        drop(begun);
    }
}

fn serve(share: &Share, readonly: bool, stream: TcpStream, full: bool) -> io::Result<()> {
    let mut connection = Connection::new(stream)?;
    if full {
        return connection.answer(Response::new(503).with("Retry-After", "1"), false);
    }
    loop {
        let (request, length) = match connection.request() {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return connection.answer(Response::new(400), false);
            }
            Err(error) => return Err(error),
        };
        if request.header("expect").is_some_and(|word| word.eq_ignore_ascii_case("100-continue")) {
            connection.go_on()?;
        }
        let mut body = connection.body(length);
        let response = routes::answer(share, readonly, &request, &mut body);
        let keep_alive = body.drain() && request.keep_alive;
        connection.answer(response, keep_alive)?;
        if !keep_alive {
            return Ok(());
        }
    }
}
