//! Work that takes too long for an async thread: decoding, encoding, reading files.

use std::collections::VecDeque;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{Either, FutureExt};
use futures::stream::{Stream, TryStreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};

/// Runs `work` on a thread of its own.
///
/// # Errors
/// Those of `work`, and [`Kind::Internal`](crate::error::Kind::Internal) when it panics.
pub(super) async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::internal("work on rows broke off").because(error))?
}

/// How [`on_threads`] works.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Threads that are at work.
    pub threads: usize,
    /// Items that wait for one of them meanwhile.
    pub waiting: usize,
}

/// Runs `work` for each item as it comes, in no order, on several threads.
///
/// A thread goes on for as long as items wait. Started for each item, it would begin behind another one on a processor
/// while the next has nothing to do: Linux moves a waking thread only where the other was idle for long. It never waits
/// for an item, since what makes the items may need a thread too. What waits when this ends early is dropped; what is
/// being worked on goes on to its end.
///
/// # Errors
/// The first of the items and of `work`; and [`Kind::Internal`](crate::error::Kind::Internal) when that panics.
pub(super) async fn on_threads<T: Send + 'static>(
    items: impl Stream<Item = Result<T>>,
    limits: Limits,
    work: impl Fn(T) -> Result<()> + Send + Sync + 'static,
) -> Result<()> {
    let (queue, work) = (Arc::new(Queue::new(limits.threads)), Arc::new(work));
    let _abandoned_with_the_caller = Emptied(&queue);
    let places = Arc::new(Semaphore::new(limits.threads + limits.waiting));
    let placed = items.and_then(|item| {
        let place = Arc::clone(&places).acquire_owned();
        place.map(|place| Ok(Placed { item, _place: place.map_err(|_| Error::internal("work on rows broke off"))? }))
    });
    placed
        .try_for_each_concurrent(None, |item| {
            if !queue.add(item) {
                return Either::Left(ready(Ok(())));
            }
            let (queue, work) = (Arc::clone(&queue), Arc::clone(&work));
            let until_none_waits = move || {
                while let Some(Placed { item, _place }) = queue.take() {
                    work(item)?;
                }
                Ok(())
            };
            Either::Right(on_thread(until_none_waits))
        })
        .await
}

/// An item and its place among those that wait or are worked on, which it leaves free when it is done with.
struct Placed<T> {
    item: T,
    _place: OwnedSemaphorePermit,
}

/// Items that wait, and the threads that take them.
struct Queue<T> {
    most_threads: usize,
    state: Mutex<QueueState<T>>,
}

struct QueueState<T> {
    waiting: VecDeque<T>,
    threads: usize,
}

impl<T> Queue<T> {
    fn new(most_threads: usize) -> Self {
        Self { most_threads, state: Mutex::new(QueueState { waiting: VecDeque::new(), threads: 0 }) }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another thread is to be started, which then counts.
    fn add(&self, item: T) -> bool {
        let mut state = self.lock();
        state.waiting.push_back(item);
        let starts = state.threads < self.most_threads;
        state.threads += usize::from(starts);
        starts
    }

    /// The next item; without one the thread that asks does not count any more.
    fn take(&self) -> Option<T> {
        let mut state = self.lock();
        let next = state.waiting.pop_front();
        state.threads -= usize::from(next.is_none());
        next
    }
}

/// Drops what waits in a queue when nobody waits for the threads any more: after an error, or when the caller is gone.
struct Emptied<'a, T>(&'a Queue<T>);

impl<T> Drop for Emptied<'_, T> {
    fn drop(&mut self) {
        // To drop an item may take long, so not under the lock that the threads take.
        let left = std::mem::take(&mut self.0.lock().waiting);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    use futures::stream::{self, StreamExt};

    use super::*;

    fn limits(threads: usize) -> Limits {
        Limits { threads, waiting: 2 }
    }

    #[tokio::test]
    async fn every_item_is_worked_on_once() {
        let seen = Arc::<Mutex<Vec<u32>>>::default();
        let work = {
            let seen = Arc::clone(&seen);
            move |item| {
                seen.lock().unwrap().push(item);
                Ok(())
            }
        };
        // The even ones come at once, the others later.
        let items = stream::iter(0..1_000).then(|item| async move {
            if item % 2 == 1 {
                tokio::task::yield_now().await;
            }
            Ok(item)
        });
        on_threads(items, limits(3), work).await.unwrap();
        let mut seen = std::mem::take(&mut *seen.lock().unwrap());
        seen.sort_unstable();
        assert_eq!(seen, (0..1_000).collect::<Vec<u32>>());
    }

    #[tokio::test]
    async fn as_many_threads_work_as_may_and_no_more_is_asked_for_than_can_wait() {
        let (asked, done) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let items = {
            let (asked, done) = (Arc::clone(&asked), Arc::clone(&done));
            stream::iter(0..100).map(move |item| {
                // Two are worked on, two wait, and one waits for its place.
                let open = asked.fetch_add(1, Ordering::SeqCst) + 1 - done.load(Ordering::SeqCst);
                assert!(open <= 5, "{open}");
                Ok(item)
            })
        };
        let both_at_work = Barrier::new(2);
        let work = move |_: i32| {
            both_at_work.wait();
            done.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        on_threads(items, limits(2), work).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 100);
    }

    #[tokio::test]
    async fn what_waits_is_dropped_with_the_caller() {
        let asked = Arc::<AtomicUsize>::default();
        let items = {
            let asked = Arc::clone(&asked);
            stream::iter(0..100).map(move |item| {
                asked.fetch_add(1, Ordering::SeqCst);
                Ok(item)
            })
        };
        let ((began, begun), (go_on, may_go_on)) = (channel(), channel::<()>());
        let may_go_on = Mutex::new(may_go_on);
        let work = move |_: i32| {
            began.send(()).unwrap();
            let _ = may_go_on.lock().unwrap().recv();
            Ok(())
        };
        let mut all = Box::pin(on_threads(items, limits(1), work));
        assert!(futures::poll!(&mut all).is_pending());
        // One is worked on, two wait, and one waits for its place.
        assert_eq!(asked.load(Ordering::SeqCst), 4);
        begun.recv().unwrap();
        drop(all);
        drop(go_on);
        // The work goes with its thread, and its end of this channel with it.
        assert!(begun.recv().is_err(), "no other item is begun");
    }

    #[tokio::test]
    async fn an_error_of_an_item_or_of_the_work_ends_it() {
        let fails = |number: i32| if number == 7 { Err(Error::internal("7")) } else { Ok(number) };
        let items = || stream::iter((0..20).map(Ok));
        assert!(on_threads(items(), limits(2), move |item| fails(item).map(drop)).await.is_err());
        assert!(on_threads(items().map(move |item| fails(item?)), limits(2), |_| Ok(())).await.is_err());
        assert!(on_threads(items(), limits(2), |item| panic!("{item}")).await.is_err());
        assert!(on_threads(stream::empty::<Result<i32>>(), limits(2), |_| Ok(())).await.is_ok());
    }
}
