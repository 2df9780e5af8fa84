//! Sessions that end: places that are taken and freed, exports that go, peers that stall or die.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, FaultPlan, FaultyDevice};
use hub_nbd::{ClientOptions, ConnectError, Endpoint, NbdClient, ServerOptions};
use tokio::net::TcpListener;

use crate::served::{Gated, Served, memory, until, within};

const SHORT: Duration = Duration::from_millis(100);

fn one_connection() -> ClientOptions {
    ClientOptions { connections: 1, ..ClientOptions::default() }
}

async fn connect(served: &Served, options: ClientOptions) -> Result<NbdClient, ConnectError> {
    NbdClient::connect(&served.endpoint(), "one", options).await
}

/// Trap D5: a connection too many is refused with the reason, and works once another one is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_too_many_is_told_so() {
    let served = Served::start(ServerOptions::default()).await.unwrap();
    let handle = served.offer_to("one", memory(4096), 2).unwrap();
    let client = connect(&served, ClientOptions::default()).await.unwrap();
    assert_eq!(handle.sessions(), 2);
    let refused = connect(&served, one_connection()).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Refused { .. }), "{refused}");
    assert!(refused.to_string().contains("all 2 connections"), "{refused}");
    let three = ClientOptions { connections: 3, ..ClientOptions::default() };
    client.close().await;
    until("the places to be free", || handle.sessions() == 0).await.unwrap();
    assert!(matches!(connect(&served, three).await, Err(ConnectError::Refused { .. })));
    until("the places to be free", || handle.sessions() == 0).await.unwrap();
    connect(&served, ClientOptions::default()).await.unwrap().read_at(0, 512).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_all_sessions_in_use_hangs_up() {
    let options = ServerOptions { max_sessions: 1, ..ServerOptions::default() };
    let served = Served::start(options).await.unwrap();
    let handle = served.offer("one", memory(4096)).unwrap();
    let client = connect(&served, one_connection()).await.unwrap();
    client.read_at(0, 512).await.unwrap();
    let refused = connect(&served, one_connection()).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Broken { .. }), "{refused}");
    drop(client);
    until("the session to end", || handle.sessions() == 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_an_export_finishes_what_was_begun() {
    let served = Served::start(ServerOptions::default()).await.unwrap();
    let device = Gated::new(8192);
    let handle = served.offer("one", device.clone()).unwrap();
    let client = connect(&served, one_connection()).await.unwrap();
    let work = async {
        let written = client.write_at(0, Bytes::from(vec![5; 512])).await;
        (written, client.read_at(0, 512).await)
    };
    let close = async {
        device.arrival().await?;
        let close = handle.close();
        tokio::pin!(close);
        let early = tokio::time::timeout(SHORT, &mut close).await;
        device.gate.add_permits(1);
        within("the export to close", close).await?;
        anyhow::Ok(early.is_err())
    };
    let ((written, read), waited) = tokio::join!(work, close);
    assert!(waited.unwrap(), "closing must wait for the write that was begun");
    written.unwrap();
    assert!(matches!(read, Err(BlockError::Disconnected(_))), "{read:?}");
    assert_eq!(device.inner.snapshot()[..512], [5; 512]);
    assert_eq!(Arc::strong_count(&device), 1, "the server must let go of the device");
    let gone = connect(&served, one_connection()).await;
    assert!(matches!(gone, Err(ConnectError::UnknownExport { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_never_ends_does_not_hold_up_the_end() {
    let options = ServerOptions { drain_timeout: SHORT, ..ServerOptions::default() };
    let served = Served::start(options).await.unwrap();
    let device = Gated::new(8192);
    let handle = served.offer("one", device.clone()).unwrap();
    let client = connect(&served, one_connection()).await.unwrap();
    let end = async {
        device.arrival().await?;
        within("the export to close", handle.close()).await
    };
    let (read, ended) = tokio::join!(client.read_at(0, 512), end);
    ended.unwrap();
    assert!(matches!(read, Err(BlockError::Disconnected(_))), "{read:?}");
    within("the server to stop", served.stop()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_handle_ends_the_sessions() {
    let served = Served::start(ServerOptions::default()).await.unwrap();
    let device = memory(4096);
    let handle = served.offer("one", device.clone()).unwrap();
    let client = connect(&served, ClientOptions::default()).await.unwrap();
    client.read_at(0, 512).await.unwrap();
    drop(handle);
    until("the device to be let go", || Arc::strong_count(&device) == 1).await.unwrap();
    assert!(matches!(client.read_at(0, 512).await, Err(BlockError::Disconnected(_))));
    assert!(served.exports.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_the_server_ends_all_sessions() {
    let served = Served::start(ServerOptions::default()).await.unwrap();
    let handle = served.offer("one", memory(4096)).unwrap();
    let client = connect(&served, ClientOptions::default()).await.unwrap();
    client.read_at(0, 512).await.unwrap();
    served.stop().await.unwrap();
    assert_eq!(handle.sessions(), 0);
    assert!(matches!(client.read_at(0, 512).await, Err(BlockError::Disconnected(_))));
}

/// Traps D5 and U29: a server that stalls in a request is named, and ends the client.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stalls_is_named() {
    let served = Served::start(ServerOptions::default()).await.unwrap();
    let device = Gated::new(8192);
    let _handle = served.offer("one", device.clone()).unwrap();
    let options = ClientOptions { io_timeout: SHORT, ..ClientOptions::default() };
    let client = connect(&served, options).await.unwrap();
    let late = client.write_at(0, Bytes::from(vec![1; 512])).await;
    assert!(matches!(late, Err(BlockError::TimedOut(after)) if after == SHORT), "{late:?}");
    let Err(BlockError::Disconnected(reason)) = client.read_at(0, 512).await else {
        panic!("a client that has ended must say so");
    };
    assert!(reason.contains(&served.addr.to_string()), "{reason}");
    device.gate.close();
}

/// Promise P5: what a slow disk has to write out when a copy ends takes longer than any other answer.
#[tokio::test(flavor = "multi_thread")]
async fn p5_a_flush_is_waited_for_longer_and_not_for_ever() {
    let served = Served::start(ServerOptions::default()).await.unwrap();
    let device = Gated::new(8192);
    let _handle = served.offer("one", device.clone()).unwrap();
    // A flush is waited for ten times as long, in which its answer has to get through on a busy machine.
    let usual = 5 * SHORT;
    let options = ClientOptions { io_timeout: usual, ..ClientOptions::default() };
    let client = connect(&served, options).await.unwrap();
    let flush = client.flush();
    tokio::pin!(flush);
    let early = tokio::time::timeout(2 * usual, &mut flush).await;
    assert!(early.is_err(), "{early:?}");
    device.gate.add_permits(1);
    flush.await.unwrap();
    let late = client.flush().await;
    assert!(matches!(late, Err(BlockError::TimedOut(after)) if after > usual), "{late:?}");
    device.gate.close();
}

/// Traps D5 and U29: a server that accepts and never greets is an error, not a hang.
#[tokio::test]
async fn a_server_that_never_greets_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let endpoint = Endpoint::Tcp { host: addr.ip().to_string(), port: addr.port() };
    let options = ClientOptions { connect_timeout: SHORT, ..ClientOptions::default() };
    let error = NbdClient::connect(&endpoint, "one", options).await.unwrap_err();
    assert!(matches!(error, ConnectError::TimedOut { connection: 1, .. }), "{error}");
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_and_a_bad_block_arrive_as_what_they_are() {
    let served = Served::start(ServerOptions::default()).await.unwrap();
    let full = FaultyDevice::new(memory(4096), FaultPlan::NoSpaceFrom(1));
    let _full = served.offer("full", Arc::new(full)).unwrap();
    let bad = FaultyDevice::new(memory(4096), FaultPlan::IoErrorAt(1));
    let _bad = served.offer("bad", Arc::new(bad)).unwrap();

    let client = served.client("full").await.unwrap();
    let refused = client.write_at(0, Bytes::from(vec![1; 512])).await;
    assert!(matches!(refused, Err(BlockError::NoSpace)), "{refused:?}");
    assert!(matches!(client.flush().await, Err(BlockError::NoSpace)));

    let client = served.client("bad").await.unwrap();
    let Err(BlockError::Io(error)) = client.read_at(0, 512).await else {
        panic!("an I/O error must stay one");
    };
    assert!(error.to_string().contains("injected fault"), "{error}");
    client.read_at(0, 512).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_gives_up_leaves_the_connection_whole() {
    let served = Served::start(ServerOptions::default()).await.unwrap();
    let device = Gated::new(1 << 20);
    let _handle = served.offer("one", device.clone()).unwrap();
    let client = connect(&served, one_connection()).await.unwrap();
    for _ in 0..20 {
        let write = client.write_at(0, Bytes::from(vec![1; 1 << 20]));
        device.gate.add_permits(1);
        // Most of these are dropped with half of the payload on its way.
        let _ = tokio::time::timeout(Duration::from_micros(50), write).await;
    }
    device.gate.add_permits(1000);
    client.write_at(0, Bytes::from(vec![2; 4096])).await.unwrap();
    client.flush().await.unwrap();
    let back = client.read_at(0, 4096).await.unwrap();
    assert!(back.iter().all(|byte| *byte == 2) || back.iter().all(|byte| *byte == 1));
    client.close().await;
}
