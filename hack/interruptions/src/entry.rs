//! A system call that a thread is about to make: its registers, and what they point to.

use std::ffi::{OsString, c_long};
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::libc::{self, user_regs_struct};
use nix::sys::ptrace;
use nix::unistd::Pid;

/// A thread that is stopped where it enters a system call.
pub(crate) struct Entry {
    thread: Pid,
    registers: user_regs_struct,
}

impl Entry {
    /// The call that a stopped thread enters; `None` where it leaves one.
    pub(crate) fn of(thread: Pid) -> nix::Result<Option<Self>> {
        if ptrace::syscall_info(thread)?.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            return Ok(None);
        }
        Ok(Some(Self { thread, registers: ptrace::getregs(thread)? }))
    }

    pub(crate) fn thread(&self) -> Pid {
        self.thread
    }

    /// The call's number; one that no kernel has stays unknown.
    pub(crate) fn number(&self) -> c_long {
        c_long::try_from(self.registers.orig_rax).unwrap_or(-1)
    }

    /// An argument, from 0. A call has no more than six.
    pub(crate) fn argument(&self, number: usize) -> u64 {
        let registers = &self.registers;
        let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
        arguments.get(number).copied().unwrap_or_default()
    }

    /// An argument that is a descriptor, or `AT_FDCWD`.
    pub(crate) fn descriptor(&self, number: usize) -> i32 {
        // The kernel takes the lower half alone.
        self.argument(number) as u32 as i32
    }

    /// The path that an argument points to; `None` for a null pointer and for what cannot be read.
    pub(crate) fn path(&self, number: usize) -> Option<PathBuf> {
        let bytes = self.memory(self.argument(number), 4096)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        Some(PathBuf::from(OsString::from_vec(bytes[..end].to_vec())))
    }

    /// The number that an argument points to.
    pub(crate) fn number_at(&self, number: usize) -> Option<u64> {
        let bytes = self.memory(self.argument(number), 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Up to so many bytes of the process's memory.
    fn memory(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let memory = File::open(format!("/proc/{}/mem", self.thread)).ok()?;
        let mut bytes = vec![0; length];
        let read = memory.read_at(&mut bytes, address).ok()?;
        bytes.truncate(read);
        Some(bytes)
    }

    /// Lets the call fail in place of being made: for the kernel there is no call -1, and it leaves the result as it
    /// finds it.
    pub(crate) fn fail(mut self, errno: Errno) -> nix::Result<()> {
        self.registers.orig_rax = u64::MAX;
        self.registers.rax = (-i64::from(errno as i32)) as u64;
        ptrace::setregs(self.thread, self.registers)
    }

    /// Lets a write(2) or pwrite(2) take half of what it is given. The caller must not come to see the register that
    /// this leaves changed.
    pub(crate) fn halve(mut self) -> nix::Result<()> {
        self.registers.rdx /= 2;
        ptrace::setregs(self.thread, self.registers)
    }
}
