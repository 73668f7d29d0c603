//! Accepted connections, no more than a limit at the same time.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::serve::Listener;
use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;
use tonic::transport::server::Connected;

use crate::flight::ConnectionSession;

/// Connections as they come. While the limit is reached none is accepted: new ones wait in the system's queue.
pub(super) struct Connections {
    listener: TcpListener,
    permits: PollSemaphore,
    next: Option<OwnedSemaphorePermit>,
}

impl Connections {
    /// At most `limit` at the same time.
    pub(super) fn new(listener: TcpListener, limit: usize) -> Self {
        Self { listener, permits: PollSemaphore::new(Arc::new(Semaphore::new(limit))), next: None }
    }
}

impl Connections {
    fn poll_connection(&mut self, context: &mut Context<'_>) -> Poll<Option<(Connection, SocketAddr)>> {
        if self.next.is_none() {
            self.next = std::task::ready!(self.permits.poll_acquire(context));
        }
        loop {
            match std::task::ready!(self.listener.poll_accept(context)) {
                Ok((stream, address)) => {
                    // Answers are small and must not wait for more; failing to say so only costs time.
                    let _ = stream.set_nodelay(true);
                    let permit = self.next.take();
                    let session = ConnectionSession::default();
                    return Poll::Ready(Some((Connection { stream, session, _permit: permit }, address)));
                }
                // A connection that was gone before it was accepted, or no free file handle: the next may do better.
                Err(error) => tracing::warn!(%error, "a connection could not be accepted"),
            }
        }
    }
}

/// For Flight.
impl Stream for Connections {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_connection(context).map(|next| next.map(|(connection, _)| Ok(connection)))
    }
}

/// For HTTP.
impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match std::future::poll_fn(|context| self.poll_connection(context)).await {
            Some(accepted) => accepted,
            // Never: the permits end with this object alone.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that counts against the limit until it is closed.
pub(super) struct Connection {
    stream: TcpStream,
    /// Reaches the calls of the connection as an extension of their requests.
    session: ConnectionSession,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connected for Connection {
    type ConnectInfo = ConnectionSession;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.session.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
