//! Reads and writes as requests: spread over connections, split to the server's limits, fitted to its blocks.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, Extent, ExtentKind, check_range, merge_extents};

use super::connection::Ticket;
use super::coverage::Coverage;
use super::device::NbdClient;
use super::handshake::ALLOCATION;
use super::pending::{Answer, Expect};
use crate::codec::info::flags;
use crate::codec::request::{Command, Request};

/// Zeroes carry no payload, so that a request may be longer than a block; this keeps its work inside the deadline.
const ZERO_STEP: u32 = 64 << 20;
/// The bit of `base:allocation` for a range that reads as zeroes.
const READS_ZERO: u32 = 2;

#[async_trait]
impl BlockDevice for NbdClient {
    fn size(&self) -> u64 {
        self.agreed.size
    }

    fn read_only(&self) -> bool {
        self.agreed.flags & flags::READ_ONLY != 0
    }

    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        check_range(offset, u64::from(len), self.agreed.size)?;
        let (start, wide) = self.grain.widen(offset, u64::from(len));
        let bytes = self.read_aligned(start, wide).await?;
        let skip = index(offset - start)?;
        Ok(bytes.slice(skip..skip + len as usize))
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<(), BlockError> {
        let len = data.len() as u64;
        self.writable(offset, len)?;
        if self.grain.fits(offset, len) {
            let _shared = self.barrier.read().await;
            return self.write_aligned(offset, data).await;
        }
        let _alone = self.barrier.write().await;
        for (at, piece) in self.grain.pieces(offset, len) {
            let skip = index(at - offset)?;
            self.patch(at, data.slice(skip..skip + piece as usize)).await?;
        }
        Ok(())
    }

    async fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        self.writable(offset, len)?;
        if self.grain.fits(offset, len) {
            let _shared = self.barrier.read().await;
            return self.zero_aligned(offset, len).await;
        }
        let _alone = self.barrier.write().await;
        for (at, piece) in self.grain.pieces_of(offset, len, ZERO_STEP) {
            if self.grain.fits(at, u64::from(piece)) {
                self.zero_aligned(at, u64::from(piece)).await?;
                continue;
            }
            for (at, piece) in self.grain.pieces(at, u64::from(piece)) {
                self.patch(at, Bytes::from(vec![0; piece as usize])).await?;
            }
        }
        Ok(())
    }

    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        check_range(offset, len, self.agreed.size)?;
        if !self.has_context(ALLOCATION) {
            let all = Extent { offset, len, kind: ExtentKind::Data };
            return Ok(if len == 0 { Vec::new() } else { vec![all] });
        }
        let status = self.block_status(ALLOCATION, offset, len).await?;
        Ok(merge_extents(status.into_iter().map(|it| {
            let zero = it.flags & READS_ZERO != 0;
            let kind = if zero { ExtentKind::Zero } else { ExtentKind::Data };
            Extent { offset: it.offset, len: it.len, kind }
        })))
    }

    async fn flush(&self) -> Result<(), BlockError> {
        let _alone = self.barrier.write().await;
        if self.agreed.flags & flags::SEND_FLUSH == 0 {
            // Without the command a server has nothing volatile, or does not say; no request would change that.
            return Ok(());
        }
        self.submit(Command::Flush, 0, 0, Bytes::new(), Expect::Done).await?.flushed().await
    }
}

impl NbdClient {
    /// Sends one request on a connection with room, or waits for room.
    pub(super) async fn submit(
        &self,
        command: Command,
        offset: u64,
        len: u32,
        payload: Bytes,
        expect: Expect,
    ) -> Result<Ticket, BlockError> {
        let count = self.connections.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let in_turn = || (0..count).map(|step| &self.connections[first.wrapping_add(step) % count]);
        let free = in_turn().find_map(|it| it.free_place().map(|place| (it, place)));
        let (connection, place) = match free {
            Some(found) => found,
            None => {
                let connection = &self.connections[first % count];
                (connection, connection.place().await?)
            }
        };
        let request = Request { flags: 0, command, cookie: 0, offset, len };
        connection.submit(place, request, payload, expect).await
    }

    fn writable(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        if self.read_only() {
            return Err(BlockError::ReadOnly);
        }
        check_range(offset, len, self.agreed.size)
    }

    async fn read_aligned(&self, offset: u64, len: u64) -> Result<Bytes, BlockError> {
        let mut tickets = Vec::new();
        for (at, piece) in self.grain.pieces(offset, len) {
            let buffer = self.pool.take(piece as usize);
            let expect = Expect::Data { offset: at, buffer, arrived: Coverage::default() };
            tickets.push(self.submit(Command::Read, at, piece, Bytes::new(), expect).await?);
        }
        let mut parts = Vec::with_capacity(tickets.len());
        for ticket in tickets {
            if let Answer::Data(part) = ticket.answer().await? {
                parts.push(part);
            }
        }
        // Only a read longer than one request has parts to join.
        match parts.len() {
            0 => Ok(Bytes::new()),
            1 => Ok(parts.swap_remove(0)),
            _ => Ok(parts.concat().into()),
        }
    }

    async fn write_aligned(&self, offset: u64, data: Bytes) -> Result<(), BlockError> {
        let mut tickets = Vec::new();
        for (at, piece) in self.grain.pieces(offset, data.len() as u64) {
            let skip = index(at - offset)?;
            let payload = data.slice(skip..skip + piece as usize);
            tickets.push(self.submit(Command::Write, at, piece, payload, Expect::Done).await?);
        }
        all_done(tickets).await
    }

    async fn zero_aligned(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        let by_command = self.agreed.flags & flags::SEND_WRITE_ZEROES != 0;
        let mut tickets = Vec::new();
        let step = if by_command { ZERO_STEP } else { self.grain.maximum };
        for (at, piece) in self.grain.pieces_of(offset, len, step) {
            let (command, payload) = if by_command {
                (Command::WriteZeroes, Bytes::new())
            } else {
                (Command::Write, self.zeroes.slice(..piece as usize))
            };
            tickets.push(self.submit(command, at, piece, payload, Expect::Done).await?);
        }
        all_done(tickets).await
    }

    /// Writes part of a block by reading the block first; the caller holds the barrier alone.
    async fn patch(&self, offset: u64, data: Bytes) -> Result<(), BlockError> {
        let (start, wide) = self.grain.widen(offset, data.len() as u64);
        if wide == data.len() as u64 {
            return self.write_aligned(offset, data).await;
        }
        let mut block = Vec::from(self.read_aligned(start, wide).await?);
        let skip = index(offset - start)?;
        block[skip..skip + data.len()].copy_from_slice(&data);
        self.write_aligned(start, block.into()).await
    }
}

/// Waits for all, even after a failure: a caller may rely on nothing being on its way any more.
async fn all_done(tickets: Vec<Ticket>) -> Result<(), BlockError> {
    let mut outcome = Ok(());
    for ticket in tickets {
        let done = ticket.answer().await.map(drop);
        outcome = outcome.and(done);
    }
    outcome
}

/// A distance inside a buffer.
fn index(distance: u64) -> Result<usize, BlockError> {
    usize::try_from(distance).map_err(|error| BlockError::Io(std::io::Error::other(error)))
}
