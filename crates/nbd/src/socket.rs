//! What both ends ask of the TCP connection between them.

use std::io;

use rustix::net::sockopt;
use tokio::net::TcpStream;

use crate::tls::is_loopback;

/// The congestion control that every Linux has and lets everybody choose.
const PLAIN: &str = "reno";

/// Readies a connection for requests and answers: none waits for the next, and on one machine none is paced.
///
/// An algorithm that paces, as BBR does, sets a timer for every few packets to spare a line that a loopback has
/// not; it costs a fifth of the processor time of a whole copy. Beyond the machine its owner's choice stands.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if is_loopback(stream.peer_addr()?.ip())
        && let Err(error) = sockopt::set_tcp_congestion(stream, PLAIN)
    {
        tracing::debug!(%error, "a loopback connection keeps its congestion control");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn nothing_is_paced_between_programs_of_one_machine() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(near, listener.accept());
        for stream in [near.unwrap(), far.unwrap().0] {
            prepare(&stream).unwrap();
            assert!(stream.nodelay().unwrap());
            assert_eq!(sockopt::tcp_congestion(&stream).unwrap(), PLAIN);
        }
    }
}
