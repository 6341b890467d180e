//! HTTP/2 frames (RFC 9113, section 4.1).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;

pub(super) const ACK: u8 = 0x1;
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;

pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// Our settings: SETTINGS_HEADER_TABLE_SIZE 0, so that what comes back can be decoded without a table.
    pub(super) fn settings() -> Self {
        Self { kind: SETTINGS, flags: 0, stream: 0, payload: vec![0, 1, 0, 0, 0, 0] }
    }

    /// What the other side wants to hear after its settings (nothing) or its ping (the same).
    pub(super) fn acknowledgement(self) -> Self {
        let payload = if self.kind == PING { self.payload } else { Vec::new() };
        Self { flags: ACK, payload, ..self }
    }

    /// The number in four bytes of the payload.
    pub(super) fn number(&self, at: usize) -> u32 {
        self.payload.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX).to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], self.kind, self.flags];
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    pub(super) async fn read(connection: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut head = [0; 9];
        connection.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        connection.read_exact(&mut payload).await?;
        Ok(Self { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }
}
