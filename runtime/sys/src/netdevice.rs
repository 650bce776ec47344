//! Network devices on their way into another network namespace, over rtnetlink.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::process::Fork;

// linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h, linux/netlink.h
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const LINK_NAME: u16 = 3;
const LINK_NAMESPACE: u16 = 28;
const ADDRESS_PERMANENT: u8 = 0x80;
const HEADER: usize = 16;
/// `struct ifaddrmsg`: family, prefix length, flags, scope, device.
const ADDRESS_HEADER: usize = 8;

/// Moves a device of the caller's network namespace into that of a process, under another name if that differs. Its
/// global, permanent addresses go along, and it is set up.
pub fn hand_over(name: &str, wanted: &str, process: u32) -> io::Result<()> {
    let socket = route_socket()?;
    let index = index_of(&socket, name)?;
    let addresses = addresses(&socket, index)?;
    let path = format!("/proc/{process}/ns/net");
    let namespace = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    // The kernel moves first and finds the name taken afterwards.
    let taken = inside(&namespace, || match index_of(&route_socket()?, wanted) {
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EEXIST)),
        Err(_) => Ok(()),
    });
    taken?;
    let mut body = link(index, 0, 0);
    attribute(&mut body, LINK_NAMESPACE, &namespace.as_raw_fd().to_ne_bytes());
    attribute(&mut body, LINK_NAME, &[wanted.as_bytes(), b"\0"].concat());
    ask(&socket, NEW_LINK, 0, &body)?;
    inside(&namespace, || set_up(wanted, &addresses))
}

/// Does something in a network namespace, in a process of its own.
fn inside(namespace: &OwnedFd, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let (ours, theirs) = crate::scm::packet_pair()?;
    let child = match crate::process::fork()? {
        Fork::Child => {
            let entered = nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET);
            let result = entered.map_err(io::Error::from).and_then(|()| work());
            let errno = result.err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
            let _ = crate::scm::send(&theirs, &errno.to_ne_bytes(), &[]);
            crate::process::exit(0)
        }
        Fork::Parent { child, .. } => child,
    };
    drop(theirs);
    let mut answer = [0; 4];
    let received = crate::scm::receive(&ours, &mut answer);
    let _ = rustix::process::waitpid(
        rustix::process::Pid::from_raw(child.cast_signed()),
        rustix::process::WaitOptions::empty(),
    );
    match (received?.length, i32::from_ne_bytes(answer)) {
        (4, 0) => Ok(()),
        (4, errno) => Err(io::Error::from_raw_os_error(errno)),
        _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
    }
}

fn set_up(name: &str, addresses: &[Vec<u8>]) -> io::Result<()> {
    let socket = route_socket()?;
    let index = index_of(&socket, name)?;
    for address in addresses {
        let mut body = address.clone();
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        ask(&socket, NEW_ADDRESS, CREATE, &body)?;
    }
    let up = libc::IFF_UP.unsigned_abs();
    ask(&socket, NEW_LINK, 0, &link(index, up, up))
}

fn route_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    // No protocol is NETLINK_ROUTE.
    Ok(rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?)
}

fn index_of(socket: &OwnedFd, name: &str) -> io::Result<u32> {
    Ok(rustix::net::netdevice::name_to_index(socket, name)?)
}

/// `struct ifinfomsg`.
fn link(index: u32, flags: u32, changed: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    for word in [index, flags, changed] {
        body.extend(word.to_ne_bytes());
    }
    body
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn send(socket: &OwnedFd, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((REQUEST | flags).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    rustix::net::send(socket, &message, SendFlags::empty())?;
    Ok(())
}

/// The messages of one packet: type and body.
fn receive(socket: &OwnedFd) -> io::Result<Vec<(u16, Vec<u8>)>> {
    let mut buffer = vec![0; 64 * 1024];
    let (length, _) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty())?;
    let mut rest = &buffer[..length];
    let mut messages = Vec::new();
    while let Some(header) = rest.get(..HEADER) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(body) = rest.get(HEADER..length) else { break };
        messages.push((u16::from_ne_bytes([header[4], header[5]]), body.to_vec()));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(messages)
}

fn ask(socket: &OwnedFd, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    send(socket, kind, ACK | flags, body)?;
    loop {
        for (kind, body) in receive(socket)? {
            if let (ERROR, [a, b, c, d, ..]) = (kind, body.as_slice()) {
                return match i32::from_ne_bytes([*a, *b, *c, *d]) {
                    0 => Ok(()),
                    errno => Err(io::Error::from_raw_os_error(-errno)),
                };
            }
        }
    }
}

/// The messages that describe the device's addresses of global scope that somebody has given it.
fn addresses(socket: &OwnedFd, index: u32) -> io::Result<Vec<Vec<u8>>> {
    send(socket, GET_ADDRESS, DUMP, &[0; ADDRESS_HEADER])?;
    let mut found = Vec::new();
    loop {
        for (kind, body) in receive(socket)? {
            match kind {
                DONE => return Ok(found),
                ERROR => return Err(io::Error::other("the kernel does not list addresses")),
                NEW_ADDRESS if body.len() >= ADDRESS_HEADER => {
                    let (flags, scope) = (body[2], body[3]);
                    let device = u32::from_ne_bytes([body[4], body[5], body[6], body[7]]);
                    if device == index && scope == 0 && flags & ADDRESS_PERMANENT != 0 {
                        found.push(without_cache(&body));
                    }
                }
                _ => {}
            }
        }
    }
}

/// An address as it may be given: without what the kernel adds when it tells.
fn without_cache(body: &[u8]) -> Vec<u8> {
    const CACHE: u16 = 6;
    const LABEL: u16 = 3;
    let mut kept = body[..ADDRESS_HEADER].to_vec();
    let mut rest = &body[ADDRESS_HEADER..];
    while let Some(header) = rest.get(..4) {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]);
        let Some(value) = rest.get(4..length) else { break };
        // A label begins with the device's name, which may be another one there.
        if kind != CACHE && kind != LABEL {
            attribute(&mut kept, kind, value);
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    kept
}
