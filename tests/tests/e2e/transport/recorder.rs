//! Somebody between VMA and hub who keeps every byte that crosses.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Listens in one place and passes everything on to another; dropping it ends it.
pub(super) struct Recorder {
    heard: Arc<Mutex<Vec<u8>>>,
    _passing: JoinSet<()>,
}

impl Recorder {
    pub(super) async fn between(here: SocketAddr, there: SocketAddr) -> Result<Self> {
        let listener =
            TcpListener::bind(here).await.with_context(|| format!("no port at {here}"))?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (told, mut passing) = (heard.clone(), JoinSet::new());
        passing.spawn(async move {
            let mut talks = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                // An end that hangs up early is none of this one's business.
                let talk = pass(near, there, told.clone());
                talks.spawn(async move { drop(talk.await) });
            }
        });
        Ok(Self { heard, _passing: passing })
    }

    /// Everything that was heard from the VMA, of all connections.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn pass(near: TcpStream, there: SocketAddr, heard: Arc<Mutex<Vec<u8>>>) -> Result<()> {
    let far = TcpStream::connect(there).await?;
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let forth = copy(near_in, far_out, Some(&heard));
    let back = copy(far_in, near_out, None);
    tokio::try_join!(forth, back)?;
    Ok(())
}

/// Pieces of one connection stay together within a read, which is enough to find 32 bytes of a disk in some of them.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    heard: Option<&Mutex<Vec<u8>>>,
) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let len = from.read(&mut buffer).await?;
        let bytes = buffer.get(..len).unwrap_or_default();
        if let Some(heard) = heard {
            heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        }
        if len == 0 {
            return Ok(to.shutdown().await?);
        }
        to.write_all(bytes).await?;
    }
}
