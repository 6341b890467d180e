//! A gRPC call over HTTP/2 by hand, so that `:authority` can be what grpc-go sends and no Rust client would.
//!
//! A client that dials a unix socket by its path, without saying which authority to use, sends that path, percent-encoded
//! ([`authority_of_path`]). The kubelet dials the registration sockets of plugins so.

mod frame;
mod hpack;

use std::fmt::Write;
use std::io;
use std::path::Path;
use std::time::Duration;

use frame::{DATA, Frame, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

/// HTTP/2's error code for a request that breaks the protocol.
pub const PROTOCOL_ERROR: u32 = 1;

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a gRPC status (0 is OK) and the bytes of the message, if one came.
    Answered {
        /// The number in `grpc-status`.
        status: u32,
        /// The text in `grpc-message`, as it was sent.
        text: String,
        /// The message; empty if there was none.
        message: Vec<u8>,
    },
    /// The server reset the stream with this HTTP/2 error code.
    Reset(u32),
    /// The server closed the connection with this HTTP/2 error code.
    Closed(u32),
}

/// The authority that grpc-go makes of a socket's path: everything percent-encoded but what a host may hold. An `@`
/// stays as it is.
pub fn authority_of_path(path: &Path) -> String {
    let mut authority = String::new();
    for byte in path.to_string_lossy().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => authority.push(char::from(byte)),
            _ if b"-_.~!$&'()*+,;=:[]@".contains(&byte) => authority.push(char::from(byte)),
            _ => write!(authority, "%{byte:02X}").unwrap(),
        }
    }
    authority
}

/// Makes one unary call on a connection of its own.
///
/// # Errors
/// When the connection fails, ends early or gives no answer within `deadline`.
pub async fn call(
    socket: &Path,
    authority: &str,
    method: &str,
    message: &[u8],
    deadline: Duration,
) -> io::Result<Outcome> {
    match tokio::time::timeout(deadline, exchange(socket, authority, method, message)).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("{method}: no answer within {deadline:?}"))),
    }
}

async fn exchange(socket: &Path, authority: &str, method: &str, message: &[u8]) -> io::Result<Outcome> {
    let mut connection = UnixStream::connect(socket).await?;
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).map_err(io::Error::other)?.to_be_bytes());
    body.extend(message);

    let mut request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    request.extend(Frame::settings().encode());
    request.extend(
        Frame { kind: HEADERS, flags: frame::END_HEADERS, stream: 1, payload: hpack::encode(&fields) }.encode(),
    );
    request.extend(Frame { kind: DATA, flags: frame::END_STREAM, stream: 1, payload: body }.encode());
    connection.write_all(&request).await?;

    let mut received = Vec::new();
    loop {
        let frame = Frame::read(&mut connection).await?;
        match frame.kind {
            SETTINGS | PING if frame.flags & frame::ACK == 0 => {
                connection.write_all(&frame.acknowledgement().encode()).await?;
            }
            DATA => received.extend(frame.payload),
            RST_STREAM => return Ok(Outcome::Reset(frame.number(0))),
            GOAWAY => return Ok(Outcome::Closed(frame.number(4))),
            HEADERS if frame.flags & frame::END_STREAM != 0 => {
                let fields = hpack::decode(&frame.payload).map_err(io::Error::other)?;
                let field = |name: &str| fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone());
                let status = field("grpc-status").and_then(|status| status.parse().ok());
                return Ok(Outcome::Answered {
                    status: status.ok_or_else(|| io::Error::other(format!("no grpc-status in {fields:?}")))?,
                    text: field("grpc-message").unwrap_or_default(),
                    message: received.split_off(received.len().min(5)),
                });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_as_grpc_go_sends_it() {
        let path = Path::new("/var/lib/kubelet/plugins_registry/gpu.example.com-reg@kubelet.sock");
        let expected = "%2Fvar%2Flib%2Fkubelet%2Fplugins_registry%2Fgpu.example.com-reg@kubelet.sock";
        assert_eq!(authority_of_path(path), expected);
        assert_eq!(authority_of_path(Path::new("/a b/\u{e9}")), "%2Fa%20b%2F%C3%A9");
    }
}
