//! Work that takes too long for an async thread: decoding, encoding, reading files.

use std::collections::VecDeque;
use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};

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
/// for an item, since what makes the items may need a thread too.
///
/// # Errors
/// The first of the items and of `work`; and [`Kind::Internal`](crate::error::Kind::Internal) when that panics.
pub(super) async fn on_threads<T: Send + 'static>(
    items: impl Stream<Item = Result<T>>,
    limits: Limits,
    work: impl Fn(T) -> Result<()> + Send + Sync + 'static,
) -> Result<()> {
    let (queue, work) = (Arc::new(Queue::new(limits.threads)), Arc::new(work));
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

    /// Whether another thread is to be started, which then counts.
    fn add(&self, item: T) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.push_back(item);
        let starts = state.threads < self.most_threads;
        state.threads += usize::from(starts);
        starts
    }

    /// The next item; without one the thread that asks does not count any more.
    fn take(&self) -> Option<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let next = state.waiting.pop_front();
        state.threads -= usize::from(next.is_none());
        next
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::stream;

    use super::*;

    fn limits(threads: usize) -> Limits {
        Limits { threads, waiting: 2 }
    }

    #[tokio::test]
    async fn every_item_is_worked_on_once_by_few_threads() {
        let (seen, at_work, most) = <(Arc<Mutex<Vec<u32>>>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let work = {
            let (seen, at_work, most) = (Arc::clone(&seen), Arc::clone(&at_work), Arc::clone(&most));
            move |item| {
                most.fetch_max(at_work.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                seen.lock().unwrap().push(item);
                at_work.fetch_sub(1, Ordering::SeqCst);
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
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
    }

    #[tokio::test]
    async fn no_more_items_are_asked_for_than_can_wait() {
        let (asked, done) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let items = {
            let (asked, done) = (Arc::clone(&asked), Arc::clone(&done));
            stream::iter(0..100).map(move |item| {
                let open = asked.fetch_add(1, Ordering::SeqCst) + 1 - done.load(Ordering::SeqCst);
                // One is asked for and waits for its place.
                assert!(open <= 2 + 2 + 1, "{open}");
                Ok(item)
            })
        };
        let work = move |_: i32| {
            done.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        on_threads(items, limits(2), work).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 100);
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
