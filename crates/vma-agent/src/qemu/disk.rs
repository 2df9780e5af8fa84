//! A disk that a reader process serves, behind the block seam.

use std::sync::Arc;
use std::time::Duration;

use hub_block::BlockDevice;
use hub_nbd::{ClientOptions, Endpoint, NbdClient};
use tokio::time::{Instant, sleep};

use super::child::{Ended, QemuChild};
use super::{QemuOptions, image};
use crate::source::SourceError;
use crate::vmdk::Chain;

/// The context by which qemu tells which layer a range comes from.
const LAYERS: &str = "qemu:allocation-depth";

/// How often a starting reader is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A disk held open; dropping it ends its process.
pub(crate) struct QemuDisk {
    client: Arc<NbdClient>,
    child: QemuChild,
}

/// A run of bytes and the layer that they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayerRun {
    /// First byte.
    pub(crate) offset: u64,
    /// Number of bytes.
    pub(crate) len: u64,
    /// 1 is the layer that is read, 2 the one below; 0 is in no layer.
    pub(crate) depth: u32,
}

impl QemuDisk {
    /// Starts a reader and waits until it answers (trap D18).
    pub(crate) async fn open(
        options: &QemuOptions,
        key: &str,
        chain: &Chain,
    ) -> Result<Self, SourceError> {
        let refuse = |ended: Ended| SourceError::Reader {
            key: key.to_owned(),
            reason: ended.reason,
            unsupported: ended.unsupported,
        };
        let failed = |reason: String| refuse(Ended { reason, unsupported: false });
        let image = image::file_name(chain).map_err(failed)?;
        let directory = tempfile::Builder::new().prefix("vma-").tempdir_in(&options.run_dir);
        let directory = directory
            .map_err(|it| failed(format!("no directory for the reader's socket: {it}")))?;
        let socket = directory.path().join("nbd.sock");
        let mut child = QemuChild::start(options, &image, &socket).map_err(failed)?;
        let deadline = Instant::now() + options.ready_within;
        loop {
            if let Some(ended) = child.ended().await {
                return Err(refuse(ended));
            }
            if socket.exists() {
                let endpoint = Endpoint::Unix(socket.clone());
                match NbdClient::connect(&endpoint, "", client_options()).await {
                    Ok(client) => {
                        // The connections stay; without a path to it, nothing is left behind however this ends.
                        drop(directory);
                        return Ok(Self { client: Arc::new(client), child });
                    }
                    Err(error) if Instant::now() >= deadline => {
                        return Err(failed(format!("the reader does not answer: {error}")));
                    }
                    Err(_) => (),
                }
            } else if Instant::now() >= deadline {
                return Err(failed(format!("the reader does not start: {}", child.words())));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// The disk's bytes.
    pub(crate) fn device(&self) -> Arc<dyn BlockDevice> {
        self.client.clone()
    }

    /// Which layer each part of a range comes from; the answer may end before the range does.
    pub(crate) async fn layers(&self, offset: u64, len: u64) -> Result<Vec<LayerRun>, String> {
        if !self.client.has_context(LAYERS) {
            return Err("the reader does not tell which layer a block comes from".to_owned());
        }
        let runs = self.client.block_status(LAYERS, offset, len).await;
        let runs = runs.map_err(|it| format!("the changed areas cannot be asked for: {it}"))?;
        let run = |it: hub_nbd::StatusExtent| LayerRun {
            offset: it.offset,
            len: it.len,
            depth: it.flags,
        };
        Ok(runs.into_iter().map(run).collect())
    }

    /// Ends the process and waits until it is gone.
    pub(crate) async fn close(self) {
        self.child.kill().await;
    }
}

/// Two connections of eight requests keep a reader busy; more gain nothing on a small machine.
fn client_options() -> ClientOptions {
    ClientOptions {
        connections: 2,
        in_flight: 8,
        extra_contexts: vec![LAYERS.to_owned()],
        ..ClientOptions::default()
    }
}
