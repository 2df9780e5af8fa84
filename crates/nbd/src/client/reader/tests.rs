//! Servers that lie: every reply is checked against its request before a byte of it is believed.

use std::sync::Arc;

use hub_block::{BlockError, BufferPool};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::sync::{Semaphore, oneshot};

use super::*;
use crate::client::coverage::Coverage;

const COOKIE: u64 = 5;
const OFFSET: u64 = 1000;

type Outcome = Option<Result<Answer, BlockError>>;

fn data(len: usize) -> Expect {
    let mut buffer = BufferPool::new(4096, 1).take(len);
    buffer.fill(0xEE);
    Expect::Data { offset: OFFSET, buffer, arrived: Coverage::default() }
}

fn status() -> Expect {
    Expect::Status { context: 3, runs: Vec::new() }
}

/// Feeds a stream to a reader with one request waiting; returns why it stopped and what the caller got.
async fn feed(expect: Expect, structured: bool, stream: &[u8]) -> (String, Outcome) {
    let pending = Pending::new();
    let (reply, mut answer) = oneshot::channel();
    let place = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
    assert!(pending.put(COOKIE, Waiting { expect, failure: None, reply, place }));
    let end = read_replies(&mut &stream[..], &pending, structured).await.unwrap_err();
    (end.to_string(), answer.try_recv().ok())
}

fn chunk_frame(done: bool, kind: ChunkKind, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap();
    [&ReplyHeader::Chunk { done, kind, cookie: COOKIE, len }.encode(), payload].concat()
}

fn data_frame(done: bool, offset: u64, bytes: &[u8]) -> Vec<u8> {
    chunk_frame(done, ChunkKind::OffsetData, &[&offset.to_be_bytes(), bytes].concat())
}

fn hole_frame(done: bool, offset: u64, len: u32) -> Vec<u8> {
    chunk_frame(done, ChunkKind::OffsetHole, &Hole { offset, len }.encode())
}

#[tokio::test]
async fn chunks_in_any_order_make_a_read() {
    let stream = [
        data_frame(false, OFFSET + 6, b"ab"),
        hole_frame(false, OFFSET + 2, 4),
        data_frame(false, OFFSET, b"xy"),
        chunk_frame(true, ChunkKind::None, b""),
    ];
    let (end, outcome) = feed(data(8), true, &stream.concat()).await;
    assert!(end.contains("the connection broke"), "{end}");
    let Some(Ok(Answer::Data(bytes))) = outcome else { panic!("{outcome:?}") };
    assert_eq!(bytes, &b"xy\0\0\0\0ab"[..]);
}

#[tokio::test]
async fn what_does_not_belong_to_the_request_ends_the_connection() {
    let huge = u32::MAX;
    let header = |kind, len| ReplyHeader::Chunk { done: true, kind, cookie: COOKIE, len }.encode();
    let other = ReplyHeader::Simple { error: 0, cookie: 9 }.encode();
    let status = Status { context: 3, runs: vec![(1, 0)] }.encode();
    let cases = [
        (data_frame(true, OFFSET - 1, b"12345678"), "outside"),
        (data_frame(true, OFFSET + 1, b"12345678"), "outside"),
        (data_frame(true, u64::MAX, b"12345678"), "outside"),
        (hole_frame(true, OFFSET, 9), "outside"),
        (hole_frame(true, OFFSET, huge), "outside"),
        (hole_frame(true, OFFSET, 0), "empty"),
        (data_frame(true, OFFSET, b"1234567"), "missing"),
        ([data_frame(false, OFFSET, b"1234"), data_frame(true, OFFSET, b"1234")].concat(), "twice"),
        (chunk_frame(true, ChunkKind::None, b""), "missing"),
        (chunk_frame(true, ChunkKind::OffsetData, b"1234567"), "without an offset"),
        (chunk_frame(true, ChunkKind::BlockStatus, &status), "not asked for"),
        (header(ChunkKind::OffsetData, huge), "the connection broke"),
        (header(ChunkKind::BlockStatus, huge), "unknown kind or length"),
        (header(ChunkKind::Error, huge), "unknown kind or length"),
        (header(ChunkKind::Other(77), 1), "unknown kind or length"),
        (other, "a reply to no request"),
        (vec![0; 16], "not its mark"),
        (ReplyHeader::Simple { error: 0, cookie: COOKIE }.encode(), "a simple reply with data"),
    ];
    for (stream, expected) in cases {
        let (end, outcome) = feed(data(8), true, &stream).await;
        assert!(end.contains(expected), "{end:?} does not tell of {expected:?}");
        assert!(outcome.is_none(), "{expected}: {outcome:?}");
    }
}

#[tokio::test]
async fn failures_are_told_with_the_servers_words() {
    let failure = Failure { errno: 28, message: "full".to_owned() }.encode();
    let unknown = chunk_frame(true, ChunkKind::Other(0x8123), &failure);
    for stream in [
        chunk_frame(true, ChunkKind::Error, &failure),
        chunk_frame(true, ChunkKind::ErrorOffset, &[&failure[..], &[0; 8]].concat()),
        unknown,
        [chunk_frame(false, ChunkKind::Error, &failure), data_frame(true, 0, b"late")].concat(),
        ReplyHeader::Simple { error: 28, cookie: COOKIE }.encode(),
    ] {
        let (_, outcome) = feed(data(8), true, &stream).await;
        assert!(matches!(outcome, Some(Err(BlockError::NoSpace))), "{outcome:?}");
    }
}

#[tokio::test]
async fn block_status_is_that_of_the_context_asked_for() {
    let runs = vec![(512, 0), (1024, 3)];
    let mine = Status { context: 3, runs: runs.clone() }.encode();
    let other = Status { context: 4, runs: vec![(7, 7)] }.encode();
    let (mine, other) = (
        |done| chunk_frame(done, ChunkKind::BlockStatus, &mine),
        |done| chunk_frame(done, ChunkKind::BlockStatus, &other),
    );
    let (_, outcome) = feed(status(), true, &[mine(false), other(true)].concat()).await;
    let Some(Ok(Answer::Status(told))) = outcome else { panic!("{outcome:?}") };
    assert_eq!(told, runs);
    let (end, outcome) = feed(status(), true, &other(true)).await;
    assert!(end.contains("no block status") && outcome.is_none(), "{end}");
}

#[tokio::test]
async fn structured_replies_need_an_agreement() {
    let (end, _) = feed(data(8), false, &data_frame(true, OFFSET, b"12345678")).await;
    assert!(end.contains("not agreed on"), "{end}");
    let mut simple = ReplyHeader::Simple { error: 0, cookie: COOKIE }.encode();
    simple.extend(b"12345678");
    let (_, outcome) = feed(data(8), false, &simple).await;
    let Some(Ok(Answer::Data(bytes))) = outcome else { panic!("{outcome:?}") };
    assert_eq!(bytes, &b"12345678"[..]);
}

proptest! {
    #[test]
    fn no_stream_makes_the_reader_panic(
        frames in vec((any::<bool>(), 0..8_u16, vec(any::<u8>(), 0..40)), 0..6),
        tail in vec(any::<u8>(), 0..30),
        structured: bool,
        asks: bool,
    ) {
        let mut stream = Vec::new();
        for (done, kind, payload) in frames {
            stream.extend(chunk_frame(done, kind.into(), &payload));
        }
        stream.extend(tail);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let expect = if asks { status() } else { data(8) };
        runtime.block_on(feed(expect, structured, &stream));
    }
}
