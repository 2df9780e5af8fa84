//! Moves whole frames over a stream, whatever the stream is.

use std::io::{self, IoSlice};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Reads ahead this much, so that a header costs no call of its own; longer payloads bypass the buffer.
pub(crate) const READ_AHEAD: usize = 4096;

/// Reads a frame of known length.
pub(crate) async fn read_array<const N: usize>(
    reader: &mut (impl AsyncRead + Unpin),
) -> io::Result<[u8; N]> {
    let mut frame = [0; N];
    reader.read_exact(&mut frame).await?;
    Ok(frame)
}

/// Reads a frame whose length the caller has bounded.
pub(crate) async fn read_bytes(
    reader: &mut (impl AsyncRead + Unpin),
    len: usize,
) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; len];
    reader.read_exact(&mut frame).await?;
    Ok(frame)
}

/// Reads and forgets, in small steps.
pub(crate) async fn discard(reader: &mut (impl AsyncRead + Unpin), len: u64) -> io::Result<()> {
    let mut left = reader.take(len);
    if tokio::io::copy(&mut left, &mut tokio::io::sink()).await? == len {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Writes a header and its payload together, without copying the payload.
pub(crate) async fn write_frame(
    writer: &mut (impl AsyncWrite + Unpin),
    head: &[u8],
    payload: &[u8],
) -> io::Result<()> {
    let mut written = 0;
    while written < head.len() {
        let parts = [IoSlice::new(&head[written..]), IoSlice::new(payload)];
        let count = writer.write_vectored(&parts).await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        written += count;
    }
    writer.write_all(&payload[written - head.len()..]).await?;
    writer.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frame_arrives_whole_through_a_narrow_pipe() {
        let (mut near, mut far) = tokio::io::duplex(3);
        let send = async move { write_frame(&mut near, b"header", b"a payload").await };
        let receive = async move { read_bytes(&mut far, 15).await };
        let (sent, received) = tokio::join!(send, receive);
        sent.unwrap();
        assert_eq!(received.unwrap(), b"headera payload");
    }

    #[tokio::test]
    async fn discarding_needs_all_of_it() {
        discard(&mut &b"12345"[..], 5).await.unwrap();
        let early = discard(&mut &b"1234"[..], 5).await.unwrap_err();
        assert_eq!(early.kind(), io::ErrorKind::UnexpectedEof);
    }
}
