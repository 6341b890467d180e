//! What the agent answers over HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::Node;
use crate::PATIENCE;

impl Node {
    /// The agent's answer for a path: status and body. `None` while it serves nothing.
    pub fn http(&self, path: &str) -> Option<(u16, String)> {
        let address = self.http_address()?;
        let mut connection = TcpStream::connect(address).ok()?;
        connection.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(connection, "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// Where the running agent serves HTTP, by its log: it takes a free port.
    fn http_address(&self) -> Option<String> {
        let log = self.agent.as_ref()?.log();
        let (_, rest) = log.split_once("serving /healthz, /readyz and /metrics address=")?;
        rest.split_whitespace().next().map(str::to_owned)
    }
}
