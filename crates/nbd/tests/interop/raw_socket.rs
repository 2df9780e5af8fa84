//! Clients that do not behave, by hand over a socket: every byte stream ends in an answer or a hang-up.

use std::time::Duration;

use anyhow::Result;
use hub_block::BlockDevice;
use hub_nbd::{ClientOptions, ExportHandle, NbdClient, ServerOptions};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::served::{Served, memory, until, within};

const SIZE: usize = 1 << 20;
const ACK: u32 = 1;
const UNSUPPORTED: u32 = (1 << 31) + 1;
const POLICY: u32 = (1 << 31) + 2;
const INVALID: u32 = (1 << 31) + 3;
const UNKNOWN: u32 = (1 << 31) + 6;
const TOO_BIG: u32 = (1 << 31) + 9;

/// A client made of bytes.
struct Raw(TcpStream);

impl Raw {
    /// Connects and answers the greeting with client flags.
    async fn greeted(served: &Served, flags: u32) -> Result<Self> {
        let mut raw = Self(TcpStream::connect(served.addr).await?);
        let greeting = raw.read(18).await?;
        anyhow::ensure!(greeting[..8] == *b"NBDMAGIC" && greeting[8..16] == *b"IHAVEOPT");
        anyhow::ensure!(greeting[16..] == [0, 3]);
        raw.0.write_all(&flags.to_be_bytes()).await?;
        Ok(raw)
    }

    /// Enters transmission the old way, with simple replies.
    async fn transmitting(served: &Served) -> Result<Self> {
        let mut raw = Self::greeted(served, 3).await?;
        raw.option(1, b"one").await?;
        raw.read(10).await?;
        Ok(raw)
    }

    async fn read(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        within("bytes from the server", self.0.read_exact(&mut bytes)).await??;
        Ok(bytes)
    }

    async fn option(&mut self, option: u32, data: &[u8]) -> Result<()> {
        let len = u32::try_from(data.len())?;
        let frame = [b"IHAVEOPT", &option.to_be_bytes()[..], &len.to_be_bytes(), data].concat();
        Ok(self.0.write_all(&frame).await?)
    }

    /// Asks an option and returns the kind of the last reply.
    async fn ask(&mut self, option: u32, data: &[u8]) -> Result<u32> {
        self.option(option, data).await?;
        loop {
            let head = self.read(20).await?;
            anyhow::ensure!(head[8..12] == option.to_be_bytes());
            let kind = u32::from_be_bytes(head[12..16].try_into()?);
            let len = u32::from_be_bytes(head[16..].try_into()?);
            self.read(usize::try_from(len)?).await?;
            if kind == ACK || kind & (1 << 31) != 0 {
                return Ok(kind);
            }
        }
    }

    async fn request(&mut self, command: u16, offset: u64, len: u32) -> Result<()> {
        self.flagged(command, 0, offset, len).await
    }

    async fn flagged(&mut self, command: u16, flags: u16, offset: u64, len: u32) -> Result<()> {
        let mut frame = 0x2560_9513_u32.to_be_bytes().to_vec();
        frame.extend(flags.to_be_bytes());
        frame.extend(command.to_be_bytes());
        frame.extend(7_u64.to_be_bytes());
        frame.extend(offset.to_be_bytes());
        frame.extend(len.to_be_bytes());
        Ok(self.0.write_all(&frame).await?)
    }

    /// The error number of a simple reply.
    async fn reply(&mut self) -> Result<u32> {
        let head = self.read(16).await?;
        anyhow::ensure!(head[..4] == 0x6744_6698_u32.to_be_bytes());
        anyhow::ensure!(head[8..] == 7_u64.to_be_bytes());
        Ok(u32::from_be_bytes(head[4..8].try_into()?))
    }

    /// Waits until the server hangs up; a reset is a way to hang up.
    async fn hung_up(mut self) -> Result<()> {
        let mut rest = Vec::new();
        let _ = within("the server to hang up", self.0.read_to_end(&mut rest)).await?;
        Ok(())
    }
}

fn export_request(name: &str, infos: u16) -> Vec<u8> {
    let len = u32::try_from(name.len()).unwrap_or_default().to_be_bytes();
    [&len, name.as_bytes(), &infos.to_be_bytes()].concat()
}

async fn one_export(options: ServerOptions) -> Result<(Served, ExportHandle)> {
    let served = Served::start(options).await?;
    let handle = served.offer("one", memory(SIZE))?;
    Ok((served, handle))
}

#[tokio::test(flavor = "multi_thread")]
async fn options_are_answered_or_refused() {
    let (served, handle) = one_export(ServerOptions::default()).await.unwrap();
    let mut raw = Raw::greeted(&served, 3).await.unwrap();
    let contexts = [&3_u32.to_be_bytes()[..], b"one", &[0; 4]].concat();
    let cases: [(u32, &[u8], u32); 13] = [
        (3, b"", POLICY),
        (5, b"", UNSUPPORTED),
        (11, b"", UNSUPPORTED),
        (4711, b"data", UNSUPPORTED),
        (9, &contexts, INVALID),
        (8, b"x", INVALID),
        (8, b"", ACK),
        (9, &contexts, ACK),
        (7, b"", INVALID),
        (7, &export_request("two", 0), UNKNOWN),
        (6, &export_request("one", 1), INVALID),
        (6, &export_request("one", 0), ACK),
        (7, &vec![0; 100_000], TOO_BIG),
    ];
    for (option, data, expected) in cases {
        assert_eq!(raw.ask(option, data).await.unwrap(), expected, "option {option}");
    }
    assert_eq!(handle.sessions(), 0);
    assert_eq!(raw.ask(7, &export_request("one", 0)).await.unwrap(), ACK);
    assert_eq!(handle.sessions(), 1);
    drop(raw);
    until("the place to be free", || handle.sessions() == 0).await.unwrap();

    let mut raw = Raw::greeted(&served, 3).await.unwrap();
    assert_eq!(raw.ask(2, b"").await.unwrap(), ACK);
    raw.hung_up().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_break_the_handshake_are_hung_up_on() {
    let (served, _handle) = one_export(ServerOptions::default()).await.unwrap();
    for flags in [0, 2, 7, u32::MAX] {
        Raw::greeted(&served, flags).await.unwrap().hung_up().await.unwrap();
    }
    let huge = [b"IHAVEOPT".as_slice(), &[0, 0, 0, 7], &[0xFF; 4]].concat();
    for bytes in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), &huge] {
        let mut raw = Raw::greeted(&served, 3).await.unwrap();
        raw.0.write_all(bytes).await.unwrap();
        raw.hung_up().await.unwrap();
    }
    let mut raw = Raw::greeted(&served, 3).await.unwrap();
    raw.option(1, b"guess").await.unwrap();
    raw.hung_up().await.unwrap();
    let mut endless = Raw::greeted(&served, 3).await.unwrap();
    for _ in 0..64 {
        assert_eq!(endless.ask(3, b"").await.unwrap(), POLICY);
    }
    endless.hung_up().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_way_in_works_with_and_without_padding() {
    let (served, _handle) = one_export(ServerOptions::default()).await.unwrap();
    for (flags, padding) in [(3, 0), (1, 124)] {
        let mut raw = Raw::greeted(&served, flags).await.unwrap();
        raw.option(1, b"one").await.unwrap();
        let told = raw.read(10 + padding).await.unwrap();
        assert_eq!(told[..8], (SIZE as u64).to_be_bytes());
        raw.request(0, 512, 512).await.unwrap();
        assert_eq!(raw.reply().await.unwrap(), 0);
        assert_eq!(raw.read(512).await.unwrap(), [0; 512]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_make_no_sense_are_refused_and_the_session_goes_on() {
    let options = ServerOptions { max_payload: 1 << 16, ..ServerOptions::default() };
    let (served, _handle) = one_export(options).await.unwrap();
    let mut raw = Raw::transmitting(&served).await.unwrap();
    let end = SIZE as u64;
    let cases: [(u16, u64, u32, u32); 8] = [
        (0, end, 1, 22),
        (0, u64::MAX, 512, 22),
        (0, 0, 1 << 17, 75),
        (7, 0, 512, 22),
        (4, 0, 512, 22),
        (6, end - 1, 2, 28),
        (999, 0, 0, 22),
        (3, 0, 0, 0),
    ];
    for (command, offset, len, errno) in cases {
        raw.request(command, offset, len).await.unwrap();
        assert_eq!(raw.reply().await.unwrap(), errno, "command {command}");
    }
    // The payload of a refused write is read, so that what follows is still understood.
    raw.request(1, end - 1, 600).await.unwrap();
    raw.0.write_all(&[1; 600]).await.unwrap();
    assert_eq!(raw.reply().await.unwrap(), 28);
    raw.request(0, 0, 16).await.unwrap();
    assert_eq!(raw.reply().await.unwrap(), 0);
    assert_eq!(raw.read(16).await.unwrap(), [0; 16]);

    raw.request(1, 0, (1 << 16) + 1).await.unwrap();
    raw.hung_up().await.unwrap();
    let mut raw = Raw::transmitting(&served).await.unwrap();
    raw.0.write_all(&[0x5A; 28]).await.unwrap();
    raw.hung_up().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_dies_in_its_payload_frees_its_place() {
    let (served, handle) = one_export(ServerOptions::default()).await.unwrap();
    let mut raw = Raw::transmitting(&served).await.unwrap();
    raw.request(1, 0, 65_536).await.unwrap();
    raw.0.write_all(&[1; 1000]).await.unwrap();
    assert_eq!(handle.sessions(), 1);
    drop(raw);
    until("the place to be free", || handle.sessions() == 0).await.unwrap();
    let client = served.client("one").await.unwrap();
    let back = client.read_at(0, 4096).await.unwrap();
    assert!(back.iter().all(|byte| *byte == 0), "half a payload was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_stall_are_hung_up_on() {
    let short = Duration::from_millis(50);
    // One limit at a time: whatever comes before the stall takes as long as a busy machine takes.
    let options = ServerOptions { handshake_timeout: short, ..ServerOptions::default() };
    let (served, _handle) = one_export(options).await.unwrap();
    Raw::greeted(&served, 3).await.unwrap().hung_up().await.unwrap();

    let options = ServerOptions { transfer_timeout: short, ..ServerOptions::default() };
    let (served, handle) = one_export(options).await.unwrap();
    let mut raw = Raw::transmitting(&served).await.unwrap();
    raw.request(1, 0, 65_536).await.unwrap();
    raw.hung_up().await.unwrap();
    until("the place to be free", || handle.sessions() == 0).await.unwrap();

    let options = ServerOptions { idle_timeout: short, ..ServerOptions::default() };
    let (served, handle) = one_export(options).await.unwrap();
    Raw::transmitting(&served).await.unwrap().hung_up().await.unwrap();
    until("the place to be free", || handle.sessions() == 0).await.unwrap();
}

/// Trap C12: whoever knows no export must not keep away those who do.
#[tokio::test(flavor = "multi_thread")]
async fn silent_strangers_make_room_for_a_client() {
    let options = ServerOptions { max_sessions: 2, ..ServerOptions::default() };
    let (served, _handle) = one_export(options).await.unwrap();
    let first = Raw::greeted(&served, 3).await.unwrap();
    let _second = Raw::greeted(&served, 3).await.unwrap();
    let one = ClientOptions { connections: 1, ..ClientOptions::default() };
    let client = NbdClient::connect(&served.endpoint(), "one", one).await.unwrap();
    client.read_at(0, 512).await.unwrap();
    within("the oldest stranger to go", first.hung_up()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_takes_no_replies_is_hung_up_on() {
    let options =
        ServerOptions { transfer_timeout: Duration::from_millis(50), ..ServerOptions::default() };
    let served = Served::start(options).await.unwrap();
    let handle = served.offer("one", memory(16 << 20)).unwrap();
    let mut raw = Raw::transmitting(&served).await.unwrap();
    for _ in 0..8 {
        // It may have been hung up on before all are asked.
        let _ = raw.request(0, 0, 16 << 20).await;
    }
    until("the place to be free", || handle.sessions() == 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_stream_of_bytes_harms_the_server() {
    let (served, handle) = one_export(ServerOptions::default()).await.unwrap();
    let mut runner = TestRunner::deterministic();
    let bytes = vec(any::<u8>(), 0..400);
    for round in 0..200 {
        let bytes = bytes.new_tree(&mut runner).unwrap().current();
        let mut raw = if round % 2 == 0 {
            Raw::greeted(&served, 3).await.unwrap()
        } else {
            Raw::transmitting(&served).await.unwrap()
        };
        // The server may have hung up before it has read everything.
        let _ = raw.0.write_all(&bytes).await;
        let _ = raw.0.shutdown().await;
        raw.hung_up().await.unwrap();
    }
    let requests = vec((0..10_u16, 0..20_u16, 0..(2 * SIZE) as u64, 0..70_000_u32), 0..30);
    for _ in 0..50 {
        let mut raw = Raw::transmitting(&served).await.unwrap();
        for (command, flags, offset, len) in requests.new_tree(&mut runner).unwrap().current() {
            // As above; a write takes the following requests as its payload.
            let _ = raw.flagged(command, flags, offset, len).await;
        }
        let _ = raw.0.shutdown().await;
        raw.hung_up().await.unwrap();
    }
    until("the places to be free", || handle.sessions() == 0).await.unwrap();
    served.client("one").await.unwrap();
    served.stop().await.unwrap();
}
