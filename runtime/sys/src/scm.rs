//! Packets with descriptors over Unix sockets (`SOCK_SEQPACKET`, `SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// Most descriptors the kernel passes in one packet.
pub const MAX_DESCRIPTORS: usize = 253;

/// A connected pair of close-on-exec packet sockets.
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one packet with up to [`MAX_DESCRIPTORS`] descriptors. A closed peer is EPIPE, without a signal.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_with(socket, bytes, descriptors, SendFlags::NOSIGNAL)
}

/// As [`send`] without descriptors, but answers `WouldBlock` instead of waiting for room.
pub fn try_send(socket: impl AsFd, bytes: &[u8]) -> io::Result<()> {
    send_with(socket, bytes, &[], SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

fn send_with(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    loop {
        match rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, flags) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What [`receive`] got.
#[derive(Debug, Default)]
pub struct Received {
    /// Length of the packet in bytes; 0 = the peer has closed.
    pub length: usize,
    /// The descriptors that came with it, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Receives one packet into `buffer`. One that does not fit is `InvalidData`.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    receive_with(socket, buffer, RecvFlags::CMSG_CLOEXEC)
}

/// As [`receive`], but answers `WouldBlock` instead of waiting.
pub fn try_receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    receive_with(socket, buffer, RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)
}

fn receive_with(socket: impl AsFd, buffer: &mut [u8], flags: RecvFlags) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut reset = false;
    let message = loop {
        match rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Ok(message) => break message,
            Err(rustix::io::Errno::INTR) => {}
            // The peer closed without having read all that was sent to it. The kernel says so once, ahead of the
            // packets that the peer had sent before: they are still there.
            Err(rustix::io::Errno::CONNRESET) if !reset => reset = true,
            Err(error) => return Err(error.into()),
        }
    };
    let mut descriptors = Vec::new();
    for ancillary in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = ancillary {
            descriptors.extend(rights);
        }
    }
    if message.flags.contains(ReturnFlags::TRUNC) || message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    Ok(Received { length: message.bytes, descriptors })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn descriptors_travel_with_their_packet() {
        let (left, right) = packet_pair().unwrap();
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        send(&left, b"one", &[reader.as_fd(), writer.as_fd()]).unwrap();
        send(&left, b"two!", &[]).unwrap();
        let mut buffer = [0; 16];
        let first = receive(&right, &mut buffer).unwrap();
        assert_eq!((&buffer[..first.length], first.descriptors.len()), (&b"one"[..], 2));
        let second = receive(&right, &mut buffer).unwrap();
        assert_eq!((&buffer[..second.length], second.descriptors.len()), (&b"two!"[..], 0));
        writer.write_all(b"x").unwrap();
        let mut byte = [0];
        reader.read_exact(&mut byte).unwrap();
        drop(left);
        assert_eq!(receive(&right, &mut buffer).unwrap().length, 0);
    }

    #[test]
    fn what_was_sent_before_closing_arrives_whatever_the_closer_left_unread() {
        let (left, right) = packet_pair().unwrap();
        send(&right, b"never read", &[]).unwrap();
        send(&left, b"one", &[]).unwrap();
        send(&left, b"two", &[]).unwrap();
        drop(left);
        let mut buffer = [0; 16];
        for wanted in [&b"one"[..], b"two", b""] {
            let received = receive(&right, &mut buffer).unwrap();
            assert_eq!(&buffer[..received.length], wanted);
        }
    }

    #[test]
    fn a_packet_that_does_not_fit_is_an_error() {
        let (left, right) = packet_pair().unwrap();
        send(&left, &[7; 64], &[]).unwrap();
        assert_eq!(receive(&right, &mut [0; 8]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
