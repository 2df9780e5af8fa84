//! Our client on servers that nbdkit's filters make slow, faulty, short or strange.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, Extent, ExtentKind, MemoryDevice};
use hub_data_mover::{BlockSize, CopyOptions, CopyPlan, DigestTable, Progress, copy};
use hub_nbd::{ClientOptions, ConnectError, NbdClient};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use crate::served::{pattern, within};
use crate::tools::{nbdkit, present};

const MIB: u64 = 1 << 20;
const BLOCK: usize = 4096;

/// Every request may fail; the client stays usable, and what was answered with success is so.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_at_random_is_told_from_one_that_is_gone() {
    if !present(&["nbdkit"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--filter=error", "memory", "1M", "error=EIO", "error-rate=30%"];
    let (_child, endpoint) = nbdkit(folder.path(), &arguments).await.unwrap();
    let client = NbdClient::connect(&endpoint, "", ClientOptions::default()).await.unwrap();
    let mut random = StdRng::seed_from_u64(11);
    let blocks = 64;
    // What each block may hold: what the last success wrote, or what failed writes tried since.
    let mut allowed = vec![vec![0_u8]; blocks];
    let (mut failed, mut read) = (0, 0);
    for _ in 0..600 {
        let block = random.random_range(0..blocks);
        let at = (block * BLOCK) as u64;
        let byte = random.random_range(1..=255_u8);
        let wrote = match random.random_range(0..4) {
            0 => Some((0, client.write_zeroes(at, BLOCK as u64).await)),
            1 | 2 => Some((byte, client.write_at(at, Bytes::from(vec![byte; BLOCK])).await)),
            _ => None,
        };
        match wrote {
            Some((byte, Ok(()))) => allowed[block] = vec![byte],
            Some((byte, Err(BlockError::Io(_)))) => {
                allowed[block].push(byte);
                failed += 1;
            }
            Some((_, Err(other))) => panic!("an error of the server became {other:?}"),
            None => match client.read_at(at, u32::try_from(BLOCK).unwrap()).await {
                Ok(bytes) => {
                    let first = bytes[0];
                    assert!(bytes.iter().all(|byte| *byte == first), "a torn block");
                    assert!(allowed[block].contains(&first), "{first}: {:?}", allowed[block]);
                    allowed[block] = vec![first];
                    read += 1;
                }
                Err(error) => assert!(matches!(error, BlockError::Io(_)), "{error:?}"),
            },
        }
    }
    assert!(failed > 50 && read > 50, "{failed} failed, {read} read");
}

/// A read takes far longer than the client's patience, and bytes keep coming: nobody is given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_slow_but_alive_is_not_given_up() {
    if !present(&["nbdkit"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // 2 MiB at 2 Mbit/s are eight seconds, of which two may come at once; each request of 32 KiB is 128 ms of them.
    let arguments = ["--filter=rate", "memory", "2M", "rate=2M"];
    let (_child, endpoint) = nbdkit(folder.path(), &arguments).await.unwrap();
    let options = ClientOptions {
        io_timeout: Duration::from_secs(3),
        max_request: 32 << 10,
        ..ClientOptions::default()
    };
    let client = NbdClient::connect(&endpoint, "", options).await.unwrap();
    let bytes = client.read_at(0, 2 << 20).await.unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0));
    client.flush().await.unwrap();
}

/// A server that fails every other write, and tries again by itself, shows nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_tries_again_fails_no_request() {
    if !present(&["nbdkit"]).unwrap() {
        return;
    }
    let whole = ["--filter=retry", "retries=40", "retry-delay=1", "retry-exponential=no"];
    let each = ["--filter=retry-request", "retry-request-retries=40", "retry-request-delay=1"];
    for (filter, settings) in [(whole[0], &whole[1..]), (each[0], &each[1..])] {
        let folder = tempfile::tempdir().unwrap();
        let start = [filter, "--filter=error", "memory", "1M", "error-pwrite-rate=50%"];
        let (_child, endpoint) =
            nbdkit(folder.path(), &[&start[..], settings].concat()).await.unwrap();
        let client = NbdClient::connect(&endpoint, "", ClientOptions::default()).await.unwrap();
        let client = Arc::new(client);
        let bytes = Bytes::from(pattern(16 * BLOCK));
        let mut writes = JoinSet::new();
        for at in (0..16).map(|it| it * BLOCK) {
            let (client, piece) = (client.clone(), bytes.slice(at..at + BLOCK));
            writes.spawn(async move { client.write_at(at as u64, piece).await });
        }
        while let Some(written) = within("a write", writes.join_next()).await.unwrap() {
            written.unwrap().unwrap();
        }
        assert!(client.read_at(0, 65_536).await.unwrap() == bytes, "{filter}");
    }
}

/// The largest smallest block that the protocol knows: every odd range is the client's work.
#[tokio::test(flavor = "multi_thread")]
async fn odd_ranges_fit_into_the_largest_blocks() {
    if !present(&["nbdkit"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "--filter=blocksize-policy",
        "memory",
        "512k",
        "blocksize-minimum=65536",
        "blocksize-preferred=65536",
        "blocksize-maximum=65536",
        "blocksize-error-policy=error",
    ];
    let (_child, endpoint) = nbdkit(folder.path(), &arguments).await.unwrap();
    let client = NbdClient::connect(&endpoint, "", ClientOptions::default()).await.unwrap();
    let (mut random, size) = (StdRng::seed_from_u64(12), 512 << 10);
    let mut model = vec![0; size];
    for _ in 0..200 {
        let (one, other) = (random.random_range(0..=size), random.random_range(0..=size));
        let range = one.min(other)..one.max(other);
        let (at, len) = (range.start as u64, range.len());
        match random.random_range(0..3) {
            0 => {
                client.write_zeroes(at, len as u64).await.unwrap();
                model[range].fill(0);
            }
            1 => {
                let bytes = vec![random.random_range(1..=255); len];
                client.write_at(at, Bytes::from(bytes.clone())).await.unwrap();
                model[range].copy_from_slice(&bytes);
            }
            _ => {
                let read = client.read_at(at, u32::try_from(len).unwrap()).await.unwrap();
                assert!(read == model[range.clone()], "{range:?}");
            }
        }
    }
    assert!(client.read_at(0, 512 << 10).await.unwrap() == model);
}

/// A disk onto a server with every difficulty at once that does not lose data.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_arrives_through_a_pile_of_filters() {
    if !present(&["nbdkit"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let filters = [
        "--filter=blocksize-policy",
        "--filter=rate",
        "--filter=delay",
        "--filter=nozero",
        "--filter=noextents",
        "--filter=cow",
    ];
    let settings = [
        "blocksize-minimum=512",
        "blocksize-preferred=4096",
        "blocksize-maximum=65536",
        "blocksize-error-policy=error",
        "rate=1G",
        "wdelay=1ms",
    ];
    let arguments = [&filters[..], &["memory", "8M"], &settings].concat();
    let (_child, endpoint) = nbdkit(folder.path(), &arguments).await.unwrap();
    let client = NbdClient::connect(&endpoint, "", ClientOptions::default()).await.unwrap();
    let client = Arc::new(client);
    let mut content = pattern(8 << 20);
    content[3 << 20..5 << 20].fill(0);
    let source = Arc::new(MemoryDevice::new_read_only(content.clone()));
    let table = DigestTable::temporary(8 * MIB, BlockSize::new(64 << 10).unwrap()).unwrap();
    let copied = copy(
        source,
        client.clone(),
        CopyPlan::Full,
        Arc::new(table),
        CopyOptions { request_bytes: 256 << 10, in_flight: 4, on_range: None },
        Arc::new(Progress::default()),
        Default::default(),
    );
    within("the copy", copied).await.unwrap().unwrap();
    assert!(client.read_at(0, 8 << 20).await.unwrap() == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_extents_has_data_everywhere() {
    if !present(&["nbdkit"]).unwrap() {
        return;
    }
    for arguments in [&["--filter=noextents", "memory", "4M"][..], &["--no-sr", "memory", "4M"]] {
        let folder = tempfile::tempdir().unwrap();
        let (_child, endpoint) = nbdkit(folder.path(), arguments).await.unwrap();
        let client = NbdClient::connect(&endpoint, "", ClientOptions::default()).await.unwrap();
        let extents = client.extents(MIB, 2 * MIB).await.unwrap();
        let all = Extent { offset: MIB, len: 2 * MIB, kind: ExtentKind::Data };
        assert_eq!(extents, [all], "{arguments:?}");
    }
}

/// A size that was rounded up reads as zeroes at its end, and has no room there for anything else.
#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_was_rounded_ends_in_zeroes_without_room() {
    if !present(&["nbdkit"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--filter=truncate", "memory", "100000", "round-up=65536"];
    let (_child, endpoint) = nbdkit(folder.path(), &arguments).await.unwrap();
    let client = NbdClient::connect(&endpoint, "", ClientOptions::default()).await.unwrap();
    assert_eq!(client.size(), 131_072);
    client.write_at(99_000, Bytes::from(vec![7; 1000])).await.unwrap();
    let end = client.read_at(99_000, 32_072).await.unwrap();
    assert!(end[..1000].iter().all(|byte| *byte == 7));
    assert!(end[1000..].iter().all(|byte| *byte == 0));
    client.write_zeroes(99_500, 2000).await.unwrap();
    let beyond = client.write_at(110_000, Bytes::from(vec![7; 1000])).await;
    assert!(matches!(beyond, Err(BlockError::NoSpace)), "{beyond:?}");
    let extents = client.extents(65_536, 65_536).await.unwrap();
    assert_eq!(extents.last().map(|it| (it.end(), it.kind)), Some((131_072, ExtentKind::Zero)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_range_is_told_as_read_only() {
    if !present(&["nbdkit"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--filter=protect", "memory", "1M", "protect=4096-8191"];
    let (_child, endpoint) = nbdkit(folder.path(), &arguments).await.unwrap();
    let client = NbdClient::connect(&endpoint, "", ClientOptions::default()).await.unwrap();
    let denied = client.write_at(4000, Bytes::from(vec![1; 200])).await;
    assert!(matches!(denied, Err(BlockError::ReadOnly)), "{denied:?}");
    client.write_at(8192, Bytes::from(vec![1; 200])).await.unwrap();
    assert!(client.read_at(4096, 4096).await.unwrap().iter().all(|byte| *byte == 0));
}

/// Answers come in the order in which they are ready: a write that takes a minute holds up nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_write_does_not_hold_up_reads() {
    if !present(&["nbdkit"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--filter=delay", "memory", "1M", "delay-write=100"];
    let (_child, endpoint) = nbdkit(folder.path(), &arguments).await.unwrap();
    let options = ClientOptions { connections: 1, ..ClientOptions::default() };
    let client = NbdClient::connect(&endpoint, "", options).await.unwrap();
    let reads = async {
        for at in 0..100 {
            client.read_at(at * 512, 512).await?;
        }
        Ok::<_, BlockError>(())
    };
    tokio::select! {
        biased;
        written = client.write_at(0, Bytes::from(vec![1; 512])) => panic!("{written:?}"),
        read = reads => read.unwrap(),
    }
}

/// The server ends when its last client has left, so nothing of a closed client is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_client_leaves_no_connection() {
    if !present(&["nbdkit"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut child, endpoint) =
        nbdkit(folder.path(), &["--filter=exitlast", "memory", "1M"]).await.unwrap();
    let options = ClientOptions { connections: 4, ..ClientOptions::default() };
    let client = NbdClient::connect(&endpoint, "", options).await.unwrap();
    client.write_at(0, Bytes::from(vec![1; 512])).await.unwrap();
    client.close().await;
    let status = within("the server to end", child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
}

/// Trap D5: a server that turns the second connection away is an error that names it, not a hang.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_turns_a_connection_away_is_named() {
    if !present(&["nbdkit"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--filter=limit", "memory", "1M", "limit=1"];
    let (_child, endpoint) = nbdkit(folder.path(), &arguments).await.unwrap();
    let one = ClientOptions { connections: 1, ..ClientOptions::default() };
    let two = ClientOptions { connections: 2, ..ClientOptions::default() };
    let error = NbdClient::connect(&endpoint, "", two).await.unwrap_err();
    assert!(error.to_string().contains("nbdkit.sock"), "{error}");
    // The place is free again once the first connection is gone.
    let connect = async || -> Result<NbdClient> {
        loop {
            match NbdClient::connect(&endpoint, "", one.clone()).await {
                Ok(client) => return Ok(client),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let client = within("a place", connect()).await.unwrap().unwrap();
    client.flush().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_opens_too_slowly_is_timed_out_in_the_handshake() {
    if !present(&["nbdkit"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--filter=delay", "memory", "1M", "delay-open=100"];
    let (_child, endpoint) = nbdkit(folder.path(), &arguments).await.unwrap();
    let options =
        ClientOptions { connect_timeout: Duration::from_millis(300), ..ClientOptions::default() };
    let error = NbdClient::connect(&endpoint, "", options).await.unwrap_err();
    assert!(matches!(error, ConnectError::TimedOut { connection: 1, .. }), "{error}");
}

/// Servers from before the fixed newstyle handshake are refused by a sentence.
#[tokio::test(flavor = "multi_thread")]
async fn servers_of_old_handshakes_are_refused() {
    if !present(&["nbdkit"]).unwrap() {
        return;
    }
    for flag in ["--oldstyle", "--mask-handshake=0"] {
        let folder = tempfile::tempdir().unwrap();
        let (_child, endpoint) = nbdkit(folder.path(), &[flag, "memory", "1M"]).await.unwrap();
        let error = NbdClient::connect(&endpoint, "", ClientOptions::default()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Protocol { .. }), "{flag}: {error}");
    }
}
