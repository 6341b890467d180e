//! What the kernel tells about devices that come, go or change their driver: a reason to look at the hardware at once
//! instead of at the next second.
//!
//! Nothing that is told is believed: it is the look that counts. So a message that is lost, forged or late costs at most
//! the time until the next look, and a node where none arrive (a network namespace of another user namespace gets none) is
//! looked at each `--rescan` second as ever.

use std::io;
use std::os::fd::OwnedFd;
use std::thread;

use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with};
use tokio::sync::watch;
use tracing::{debug, warn};

/// The kernel's own messages; udev passes them on, with its additions, to another group.
const KERNEL: u32 = 1;
/// The kernel makes no longer ones (`UEVENT_BUFFER_SIZE`, and the path of the device).
const LONGEST: usize = 8192;
/// What accelerators are part of. A node that starts containers tells of network devices all the time, and those are
/// nobody's business here.
const SUBSYSTEMS: [&str; 6] = ["pci", "accel", "drm", "module", "vfio", "vfio-dev"];

/// How often the kernel told of something that may matter. What is missed of it is only a number.
pub(crate) type Uevents = watch::Receiver<u64>;

/// Counts what the kernel tells, for as long as somebody wants to know.
///
/// # Errors
/// Where it cannot be listened to: the kernel lacks such sockets, or forbids them here.
pub(crate) fn listen() -> io::Result<Uevents> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(KOBJECT_UEVENT))?;
    bind(&socket, &SocketAddrNetlink::new(0, KERNEL))?;
    let (told, uevents) = watch::channel(0);
    // Waits for messages all its life, which ends with the process.
    thread::Builder::new().name("uevents".to_owned()).spawn(move || {
        let mut buffer = vec![0; LONGEST];
        while !told.is_closed() {
            match receive(&socket, &mut buffer) {
                Ok(true) => told.send_modify(|times| *times += 1),
                Ok(false) => {}
                Err(error) => {
                    return warn!(%error, "the kernel's messages about devices cannot be read; looking each --rescan second");
                }
            }
        }
    })?;
    Ok(uevents)
}

/// Takes one message; says whether it is a reason to look.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<bool> {
    match recvfrom(socket, &mut *buffer, RecvFlags::empty()) {
        Ok((length, _, sender)) => {
            // Port 0 is the kernel's; a program that may send to the group is none of ours.
            let kernel =
                sender.is_some_and(|sender| SocketAddrNetlink::try_from(sender).is_ok_and(|from| from.pid() == 0));
            let matters = kernel && matters(&buffer[..length]);
            if matters {
                debug!(message = %String::from_utf8_lossy(&buffer[..length]).replace('\0', " "), "the kernel tells of a device");
            }
            Ok(matters)
        }
        // Told faster than it was read, so some of it is lost: anything may have happened.
        Err(Errno::NOBUFS) => Ok(true),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether a message is about what accelerators are part of: `<action>@<path>`, then `KEY=VALUE`, each ended by a NUL.
fn matters(message: &[u8]) -> bool {
    let fields = message.split(|byte| *byte == 0).filter_map(|field| str::from_utf8(field).ok());
    let mut subsystems = fields.filter_map(|field| field.strip_prefix("SUBSYSTEM="));
    subsystems.any(|subsystem| SUBSYSTEMS.contains(&subsystem))
}

#[cfg(test)]
mod tests {
    use rustix::net::{SendFlags, getsockname, sendto};

    use super::*;

    #[test]
    fn only_what_accelerators_are_part_of_matters() {
        // As a kernel 7.0 tells of a GPU that goes to VFIO.
        let bind = b"bind@/devices/pci0000:00/0000:00:01.0/0000:01:00.0\0ACTION=bind\0SUBSYSTEM=pci\0DRIVER=vfio-pci\0\
                     PCI_CLASS=30200\0PCI_SLOT_NAME=0000:01:00.0\0SEQNUM=4711\0";
        for (what, message, expected) in [
            ("a driver is bound", &bind[..], true),
            ("a TPU's node", b"add@/devices/virtual/accel/accel0\0SUBSYSTEM=accel\0", true),
            ("a driver is loaded", b"add@/module/nvidia\0ACTION=add\0SUBSYSTEM=module\0", true),
            ("a pod's network", b"add@/devices/virtual/net/veth0\0SUBSYSTEM=net\0", false),
            ("udev's own", b"libudev\0\xfe\xed\xca\xfe\xff\xff", false),
            ("nothing", b"", false),
            ("the name within another", b"add@/x\0SUBSYSTEM=pci_express\0NAME=SUBSYSTEM=pci\0", false),
        ] {
            assert_eq!(matters(message), expected, "{what}");
        }
    }

    /// A program cannot make a look happen: what it sends has its own port.
    #[test]
    fn what_a_program_sends_is_not_the_kernels() {
        let open = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT)).ok()?;
            bind(&socket, &SocketAddrNetlink::new(0, 0)).ok()?;
            Some(socket)
        };
        let Some((sender, receiver)) = open().zip(open()) else { return eprintln!("skipped: no such sockets here") };
        let to = SocketAddrNetlink::try_from(getsockname(&receiver).unwrap()).unwrap();
        let message = b"add@/devices/pci0000:00\0SUBSYSTEM=pci\0";
        assert!(matters(message));
        if sendto(&sender, message, SendFlags::empty(), &to).is_err() {
            return eprintln!("skipped: programs may not send such messages here");
        }
        assert_eq!(receive(&receiver, &mut [0; LONGEST]).ok(), Some(false));
    }
}
