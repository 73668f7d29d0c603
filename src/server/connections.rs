//! Accepted connections, no more than a limit at the same time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::serve::{IncomingStream, Listener};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::PollSemaphore;
use tonic::transport::server::Connected;

use super::tls::Tls;
use crate::flight::Connection as FlightConnection;
use crate::http::Peer;

/// Connections as they come. While the limit is reached none is accepted: new ones wait in the system's queue.
pub(super) struct Connections {
    listener: TcpListener,
    permits: PollSemaphore,
    next: Option<OwnedSemaphorePermit>,
    tls: Option<Arc<Tls>>,
    /// Those that shake hands; each has its permit already.
    greeted: FuturesUnordered<BoxFuture<'static, Option<(Connection, SocketAddr)>>>,
}

impl Connections {
    /// At most `limit` at the same time, with TLS or without.
    pub(super) fn new(listener: TcpListener, limit: usize, tls: Option<Tls>) -> Self {
        let permits = PollSemaphore::new(Arc::new(Semaphore::new(limit)));
        Self { listener, permits, next: None, tls: tls.map(Arc::new), greeted: FuturesUnordered::new() }
    }

    fn poll_connection(&mut self, context: &mut Context<'_>) -> Poll<Option<(Connection, SocketAddr)>> {
        loop {
            if let Poll::Ready(Some(greeted)) = self.greeted.poll_next_unpin(context) {
                match greeted {
                    Some(connection) => return Poll::Ready(Some(connection)),
                    None => continue,
                }
            }
            let (stream, address, permit) = std::task::ready!(self.poll_stream(context));
            match &self.tls {
                None => {
                    let connection = Connection::new(Stream::Plain(stream), address.ip(), permit);
                    return Poll::Ready(Some((connection, address)));
                }
                Some(tls) => self.greeted.push(greet(Arc::clone(tls), stream, address, permit).boxed()),
            }
        }
    }

    fn poll_stream(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<(TcpStream, SocketAddr, Option<OwnedSemaphorePermit>)> {
        if self.next.is_none() {
            self.next = std::task::ready!(self.permits.poll_acquire(context));
        }
        loop {
            match std::task::ready!(self.listener.poll_accept(context)) {
                Ok((stream, address)) => {
                    // Answers are small and must not wait for more; failing to say so only costs time.
                    let _ = stream.set_nodelay(true);
                    return Poll::Ready((stream, address, self.next.take()));
                }
                // A connection that was gone before it was accepted, or no free file handle: the next may do better.
                Err(error) => tracing::warn!(%error, "a connection could not be accepted"),
            }
        }
    }
}

async fn greet(
    tls: Arc<Tls>,
    stream: TcpStream,
    address: SocketAddr,
    permit: Option<OwnedSemaphorePermit>,
) -> Option<(Connection, SocketAddr)> {
    match tls.accept(stream).await {
        Ok(stream) => Some((Connection::new(Stream::Tls(Box::new(stream)), address.ip(), permit), address)),
        Err(error) => {
            tracing::info!(%error, "a client did not shake hands");
            None
        }
    }
}

/// For Flight.
impl futures::Stream for Connections {
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

/// The bytes of a connection.
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that counts against the limit until it is closed.
pub(super) struct Connection {
    stream: Stream,
    flight: FlightConnection,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn new(stream: Stream, address: IpAddr, permit: Option<OwnedSemaphorePermit>) -> Self {
        let flight = FlightConnection { address: Some(address), ..Default::default() };
        Self { stream, flight, _permit: permit }
    }
}

impl Connected for Connection {
    type ConnectInfo = FlightConnection;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.flight.clone()
    }
}

impl axum::extract::connect_info::Connected<IncomingStream<'_, Connections>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        Self(stream.remote_addr().ip())
    }
}

/// Calls the same method of whichever stream it is.
macro_rules! on_stream {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.stream {
            Stream::Plain($stream) => $call,
            Stream::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on_stream!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, stream => Pin::new(stream).poll_write_vectored(cx, buffers))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
