//! `registry serve`.

use std::net::TcpListener;
use std::os::fd::AsFd;

use api::registry::RegistryServer;
use engine::Engine;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;

use crate::args::RegistryServeArgs;
use crate::error::{Attempt, Outcome};
use crate::output;

/// `davit registry serve`
pub(crate) fn serve(engine: &Engine, args: &RegistryServeArgs) -> Outcome {
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGTERM);
    ends.add(Signal::SIGINT);
    // before the first thread, so that no thread is ended by them
    ends.thread_block().attempt("wait for signals")?;
    let signals = SignalFd::new(&ends).attempt("wait for signals")?;
    let listener = TcpListener::bind(&args.listen).attempt(format!("listen on {}", args.listen))?;
    let address = listener.local_addr().attempt("listen")?;
    let server = RegistryServer::new(engine.share()?, listener, args.readonly);
    output::line(&format!("Listening on {address}"));
    server.run(signals.as_fd()).attempt("serve")?;
    Ok(0)
}
