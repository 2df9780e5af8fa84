//! A line of a given rate and delay in front of a server, for all connections together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// From one end to the other; there and back it is 20 ms.
const DELAY: Duration = Duration::from_millis(10);

/// The queue before the line: what would wait for longer is not taken yet, as by the buffer of a router.
const QUEUE: Duration = Duration::from_millis(20);

/// Bytes taken at a time.
const PIECE: usize = 64 * 1024;

/// Nanoseconds that a byte takes at 1 Gbit/s.
const NANOS_PER_BYTE: u64 = 8;

/// Passes connections on to a server; dropping it cuts them.
pub(super) struct Line {
    /// Where it listens.
    pub(super) address: SocketAddr,
    there: Arc<Way>,
    _accepting: JoinSet<()>,
}

/// One direction, shared by all connections.
struct Way {
    /// When all that was taken so far will have been sent.
    free_at: Mutex<Instant>,
    carried: AtomicU64,
}

impl Line {
    /// Listens on a free port in front of a server (`127.0.0.1:PORT`).
    pub(super) async fn start(server: &str) -> Result<Self> {
        let server: SocketAddr = server.parse()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (there, back) = (Way::new(), Way::new());
        let ways = (there.clone(), back);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                // Whoever breaks a connection says so at its other end.
                let (there, back) = ways.clone();
                connections.spawn(async move { drop(join(client, server, there, back).await) });
            }
        });
        Ok(Self { address, there, _accepting: accepting })
    }

    /// Bytes that went to the server.
    pub(super) fn carried(&self) -> u64 {
        self.there.carried.load(Ordering::Relaxed)
    }
}

async fn join(
    client: TcpStream,
    server: SocketAddr,
    there: Arc<Way>,
    back: Arc<Way>,
) -> Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    tokio::try_join!(there.carry(from_client, to_server), back.carry(from_server, to_client))?;
    Ok(())
}

impl Way {
    fn new() -> Arc<Self> {
        Arc::new(Self { free_at: Mutex::new(Instant::now()), carried: AtomicU64::new(0) })
    }

    async fn carry(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> Result<()> {
        // As much as lies on the line and in the queue, so that the queue is what holds back.
        let (sender, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(256);
        let taking = async move {
            loop {
                let mut piece = vec![0; PIECE];
                let len = from.read(&mut piece).await?;
                if len == 0 {
                    return Ok(());
                }
                piece.truncate(len);
                let sent = self.send(len as u64);
                if sender.send((sent + DELAY, piece)).await.is_err() {
                    return Ok(());
                }
                sleep_until(sent - QUEUE).await;
            }
        };
        let giving = async move {
            while let Some((at, piece)) = arriving.recv().await {
                sleep_until(at).await;
                to.write_all(&piece).await?;
            }
            to.shutdown().await
        };
        tokio::try_join!(taking, giving)?;
        Ok(())
    }

    /// When so many more bytes will have been sent.
    fn send(&self, len: u64) -> Instant {
        self.carried.fetch_add(len, Ordering::Relaxed);
        let mut free_at = self.free_at.lock();
        *free_at = (*free_at).max(Instant::now()) + Duration::from_nanos(len * NANOS_PER_BYTE);
        *free_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_gigabit_takes_a_second_whoever_sends_it() {
        let way = Way::new();
        let start = Instant::now();
        let ends: Vec<_> = (0..10).map(|_| way.send(12_500_000)).collect();
        assert_eq!(ends.last().map(|it| *it - start), Some(Duration::from_secs(1)));
    }

    #[tokio::test]
    async fn bytes_arrive_in_order_and_an_answer_takes_both_ways() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line = Line::start(&listener.local_addr().unwrap().to_string()).await.unwrap();
        let mut echo = JoinSet::new();
        echo.spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (mut from, mut to) = stream.into_split();
            tokio::io::copy(&mut from, &mut to).await.unwrap();
        });
        let mut client = TcpStream::connect(line.address).await.unwrap();
        let sent: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let asked = Instant::now();
        client.write_all(&sent[..1]).await.unwrap();
        let mut found = vec![0; sent.len()];
        client.read_exact(&mut found[..1]).await.unwrap();
        assert!(asked.elapsed() >= 2 * DELAY);
        let (mut reading, mut writing) = client.split();
        let (read, written) =
            tokio::join!(reading.read_exact(&mut found[1..]), writing.write_all(&sent[1..]));
        read.unwrap();
        written.unwrap();
        assert_eq!(found, sent);
        assert_eq!(line.carried(), sent.len() as u64);
    }
}
