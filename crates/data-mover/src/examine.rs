//! Reading a run and looking at it, on one thread where the device allows it.

use std::sync::Arc;

use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, Extent};

/// What a look did not get to see.
#[derive(Debug)]
pub(crate) enum NotSeen {
    /// The run could not be read.
    Unread(BlockError),
    /// The thread that looked was lost.
    Lost(tokio::task::JoinError),
}

impl From<NotSeen> for BlockError {
    fn from(it: NotSeen) -> Self {
        match it {
            NotSeen::Unread(error) => error,
            NotSeen::Lost(error) => Self::Io(std::io::Error::other(error)),
        }
    }
}

/// Reads a whole run and lets `look` have its bytes, on a thread that may be kept busy.
///
/// A device with a face for such threads is read there, so that a request costs one change of threads and its bytes
/// are hashed where they were read.
pub(crate) async fn look_at<T: Send + 'static>(
    device: &Arc<dyn BlockDevice>,
    run: Extent,
    look: impl FnOnce(Bytes) -> T + Send + 'static,
) -> Result<T, NotSeen> {
    let look = match (device.clone().blocking(), u32::try_from(run.len)) {
        (Some(face), Ok(len)) => {
            let at_once =
                tokio::task::spawn_blocking(move || match face.read_now(run.offset, len) {
                    Some(read) => Ok(read.and_then(|data| whole(run, data)).map(look)),
                    None => Err(look),
                });
            match at_once.await.map_err(NotSeen::Lost)? {
                Ok(seen) => return seen.map_err(NotSeen::Unread),
                Err(look) => look,
            }
        }
        _ => look,
    };
    let data = read_run(&**device, run).await.map_err(NotSeen::Unread)?;
    tokio::task::spawn_blocking(move || look(data)).await.map_err(NotSeen::Lost)
}

/// Reads a whole run; a device that returns another number of bytes is corrupt.
pub(crate) async fn read_run(device: &dyn BlockDevice, run: Extent) -> Result<Bytes, BlockError> {
    let Ok(len) = u32::try_from(run.len) else {
        let what = "a request is too long".to_owned();
        return Err(BlockError::Corrupt { offset: run.offset, what });
    };
    whole(run, device.read_at(run.offset, len).await?)
}

fn whole(run: Extent, data: Bytes) -> Result<Bytes, BlockError> {
    if data.len() as u64 == run.len {
        return Ok(data);
    }
    let what = format!("{} bytes read where {} were asked for", data.len(), run.len);
    Err(BlockError::Corrupt { offset: run.offset, what })
}

#[cfg(test)]
mod tests {
    use hub_block::{BlockingDevice, ExtentKind, MemoryDevice};

    use super::*;

    /// A device whose face for busy threads refuses, lies about the length, or is not there.
    struct Moody {
        inner: MemoryDevice,
        now: fn(u32) -> Option<u32>,
    }

    #[async_trait::async_trait]
    impl BlockDevice for Moody {
        fn size(&self) -> u64 {
            self.inner.size()
        }
        fn read_only(&self) -> bool {
            true
        }
        async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
            self.inner.read_at(offset, len).await
        }
        async fn write_at(&self, _offset: u64, _data: Bytes) -> Result<(), BlockError> {
            Err(BlockError::ReadOnly)
        }
        async fn write_zeroes(&self, _offset: u64, _len: u64) -> Result<(), BlockError> {
            Err(BlockError::ReadOnly)
        }
        async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
            self.inner.extents(offset, len).await
        }
        async fn flush(&self) -> Result<(), BlockError> {
            Ok(())
        }
        fn blocking(self: Arc<Self>) -> Option<Arc<dyn BlockingDevice>> {
            Some(self)
        }
    }

    impl BlockingDevice for Moody {
        fn read_now(&self, offset: u64, len: u32) -> Option<Result<Bytes, BlockError>> {
            self.inner.read_now(offset, (self.now)(len)?)
        }
        fn write_now(&self, _offset: u64, _data: &[u8]) -> Option<Result<(), BlockError>> {
            None
        }
    }

    async fn seen(now: fn(u32) -> Option<u32>, len: u64) -> Result<Bytes, NotSeen> {
        let inner = MemoryDevice::new_read_only((0..=255).collect());
        let device: Arc<dyn BlockDevice> = Arc::new(Moody { inner, now });
        look_at(&device, Extent { offset: 16, len, kind: ExtentKind::Data }, |data| data).await
    }

    #[tokio::test]
    async fn what_cannot_be_read_at_once_is_read_all_the_same() {
        let expected: Vec<u8> = (16..116).collect();
        assert_eq!(seen(Some, 100).await.unwrap(), expected);
        assert_eq!(seen(|_| None, 100).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_short_answer_is_not_looked_at() {
        let short = seen(|len| Some(len - 1), 100).await;
        assert!(matches!(short, Err(NotSeen::Unread(BlockError::Corrupt { offset: 16, .. }))));
        let beyond = seen(Some, 241).await;
        assert!(matches!(beyond, Err(NotSeen::Unread(BlockError::OutOfRange { .. }))));
        assert!(seen(Some, 1 << 32).await.is_err());
    }
}
