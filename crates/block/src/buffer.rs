//! Aligned buffers that are used again: direct I/O wants the alignment, speed wants the reuse.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;
use memmap2::MmapMut;
use parking_lot::Mutex;

/// Every buffer of a pool begins on a boundary of so many bytes, and so do its slices at multiples of it.
///
/// Direct I/O needs such addresses; it is the largest logical block in common use.
pub const ALIGNMENT: usize = 4096;

/// A pool of equal buffers; a buffer returns to it when its last owner drops it.
///
/// The pool never blocks: when it is empty it makes another buffer, so the caller bounds the memory by
/// bounding its requests in flight. A buffer that is not kept goes back to the system at once; an allocator would hold
/// it for the thread that dropped it, and copies run on dozens of threads.
#[derive(Clone, Debug)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    buffer_len: usize,
    keep: usize,
    idle: Mutex<Vec<Memory>>,
}

impl BufferPool {
    /// A pool of buffers of `buffer_len` bytes that keeps at most `keep` idle ones.
    pub fn new(buffer_len: usize, keep: usize) -> Self {
        Self { shared: Arc::new(Shared { buffer_len, keep, idle: Mutex::new(Vec::new()) }) }
    }

    /// A buffer of `len` bytes with unspecified content; longer ones than the pool's are made for the occasion.
    pub fn take(&self, len: usize) -> PooledBuffer {
        let fits = len <= self.shared.buffer_len;
        let reused = if fits { self.shared.idle.lock().pop() } else { None };
        let memory = reused
            .unwrap_or_else(|| Memory::of(len.max(if fits { self.shared.buffer_len } else { 0 })));
        let start = memory.bytes().as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        PooledBuffer { memory, start, len, home: fits.then(|| self.shared.clone()) }
    }

    /// Gives back the memory of all idle buffers, for an owner that may not need them for long.
    pub fn release_idle(&self) {
        let idle = std::mem::take(&mut *self.shared.idle.lock());
        drop(idle);
    }
}

/// Where the bytes of a buffer are.
#[derive(Debug)]
enum Memory {
    /// Pages of the system's, for this buffer alone.
    Mapped(MmapMut),
    /// What the allocator has, should the system have no pages: it knows how that ends.
    Allocated(Vec<u8>),
}

impl Memory {
    /// Room for `len` bytes that begin on a boundary.
    fn of(len: usize) -> Self {
        let pages = MmapMut::map_anon(len.max(1));
        pages.map_or_else(|_| Self::Allocated(vec![0; len + ALIGNMENT]), Self::Mapped)
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(pages) => pages,
            Self::Allocated(bytes) => bytes,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Mapped(pages) => pages,
            Self::Allocated(bytes) => bytes,
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::Allocated(Vec::new())
    }
}

/// A buffer on loan from a [`BufferPool`].
#[derive(Debug)]
pub struct PooledBuffer {
    memory: Memory,
    start: usize,
    len: usize,
    home: Option<Arc<Shared>>,
}

impl PooledBuffer {
    /// Ends writing: the content can now be shared and sliced, and goes home with its last reader.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Deref for PooledBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory.bytes()[self.start..self.start + self.len]
    }
}

impl DerefMut for PooledBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory.bytes_mut()[self.start..self.start + self.len]
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            let mut idle = home.idle.lock();
            if idle.len() < home.keep {
                idle.push(std::mem::take(&mut self.memory));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_come_back() {
        let pool = BufferPool::new(8192, 1);
        let first = pool.take(100);
        assert_eq!(first.as_ptr().addr() % ALIGNMENT, 0);
        assert_eq!(first.len(), 100);
        let address = first.as_ptr();
        drop(first.freeze());
        assert_eq!(pool.take(8192).as_ptr(), address);
    }

    #[test]
    fn idle_buffers_go_when_told_and_others_still_come_home() {
        let pool = BufferPool::new(8192, 4);
        let (held, idle) = (pool.take(1), pool.take(1));
        drop(idle);
        pool.release_idle();
        assert!(pool.shared.idle.lock().is_empty());
        drop(held);
        assert_eq!(pool.shared.idle.lock().len(), 1);
    }

    #[test]
    fn memory_of_either_kind_is_aligned_and_whole() {
        let allocated = Memory::Allocated(vec![0; 8192 + ALIGNMENT]);
        for memory in [Memory::of(8192), allocated] {
            let shared = BufferPool::new(8192, 1).shared;
            shared.idle.lock().push(memory);
            let mut buffer = BufferPool { shared }.take(8192);
            assert_eq!(buffer.as_ptr().addr() % ALIGNMENT, 0);
            buffer.fill(7);
            assert_eq!(buffer.freeze(), vec![7; 8192]);
        }
    }

    #[test]
    fn a_larger_buffer_is_made_and_not_kept() {
        let pool = BufferPool::new(4096, 1);
        drop(pool.take(10_000));
        assert!(pool.shared.idle.lock().is_empty());
    }
}
