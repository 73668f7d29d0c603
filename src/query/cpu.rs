//! The threads that queries compute on, apart from those that serve the network.
//!
//! A plan that computes for long without pausing must not hold up timers, connections or other calls, so it runs on a
//! runtime of its own, and its end (deadline, cancellation) is decided outside of it. The stacks are large because a
//! planner recurses over what a caller wrote.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::error::{Error, Result};

/// Stack of a query thread; address space, not memory, until it is used.
const STACK_BYTES: usize = 64 << 20;
/// Batches that wait for a slow consumer before the query does.
const BATCHES_AHEAD: usize = 2;

/// See the module's comment.
#[derive(Debug)]
pub(super) struct CpuRuntime {
    runtime: Option<Runtime>,
}

impl CpuRuntime {
    /// A runtime with `threads` threads.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when the threads cannot be started.
    pub(super) fn start(threads: usize) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_stack_size(STACK_BYTES)
            .thread_name("query")
            .enable_all()
            .build()
            .map_err(|error| Error::internal("the query threads cannot be started").because(error))?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Runs `work` there; it ends when the caller goes away.
    ///
    /// # Errors
    /// Those of `work`, and [`Kind::Internal`](crate::error::Kind::Internal) when it panics.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let Some(runtime) = &self.runtime else { return Err(Error::unavailable("the server is shutting down")) };
        let task = AbortOnDropHandle::new(runtime.spawn(work));
        task.await.map_err(|error| Error::internal("a query broke off").because(error))?
    }

    /// Begins something whose tasks are to run there, and not on the threads of the caller.
    pub(super) fn begin<T>(&self, work: impl FnOnce() -> T) -> T {
        let _entered = self.runtime.as_ref().map(Runtime::enter);
        work()
    }

    /// Consumes `stream` there and hands its items over, a few at a time.
    pub(super) fn forward<T: Send + 'static>(
        &self,
        mut stream: impl Stream<Item = Result<T>> + Send + Unpin + 'static,
    ) -> Forwarded<T> {
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        let task = self.runtime.as_ref().map(|runtime| {
            AbortOnDropHandle::new(runtime.spawn(async move {
                while let Some(item) = stream.next().await {
                    if sender.send(item).await.is_err() {
                        break;
                    }
                }
            }))
        });
        Forwarded { receiver, task }
    }
}

impl Drop for CpuRuntime {
    fn drop(&mut self) {
        // Waiting for its tasks is not allowed on an async thread.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Items computed on the query threads. Dropping it ends the computation.
#[derive(Debug)]
pub(super) struct Forwarded<T> {
    receiver: mpsc::Receiver<Result<T>>,
    task: Option<AbortOnDropHandle<()>>,
}

impl<T> Stream for Forwarded<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.receiver.poll_recv(context) {
            Poll::Ready(None) => {}
            other => return other,
        }
        // The sender is gone: at the end of the stream, or because the computation panicked.
        let Some(task) = &mut self.task else { return Poll::Ready(None) };
        let ended = std::task::ready!(Pin::new(task).poll(context));
        self.task = None;
        Poll::Ready(ended.err().map(|error| Err(Error::internal("a query broke off").because(error))))
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_and_not_a_short_result() {
        let cpu = CpuRuntime::start(1).unwrap();
        let items = stream::iter([1, 2]).map(|item| if item == 2 { panic!("broken") } else { Ok(item) });
        let mut forwarded = cpu.forward(items);
        assert_eq!(forwarded.next().await.unwrap().unwrap(), 1);
        assert!(forwarded.next().await.unwrap().is_err());
        assert!(forwarded.next().await.is_none());
    }

    #[tokio::test]
    async fn dropping_the_result_ends_the_computation() {
        let cpu = CpuRuntime::start(1).unwrap();
        let (sender, ended) = tokio::sync::oneshot::channel::<()>();
        let endless = stream::unfold(sender, |sender| async move { Some((Ok(0), sender)) });
        let mut forwarded = cpu.forward(Box::pin(endless));
        forwarded.next().await;
        drop(forwarded);
        assert!(ended.await.is_err());
    }
}
