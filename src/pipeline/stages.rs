//! Runs four stages on their own threads, joined by bounded channels.
//!
//! A stage that is faster than the next one waits while the channel is full, so only a few items exist at any time. A
//! stage that ends early drops its ends of the channels. Its neighbours notice this at their next send or receive, and
//! end too. So an error in one stage ends all stages, and no stage waits for one that has ended.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

/// The stage with this name panicked, or its thread did not start.
#[derive(Debug)]
pub struct StageFailed(pub &'static str);

/// Runs four stages. Each sends its items to the next one through a channel of the given capacity. Returns the results
/// of all stages, or the error of the first stage in this order that has one.
///
/// A stage whose send fails should return without an error, because the next stage has one to report.
pub fn run<A, B, C, W, X, Y, Z, E>(
    (capacity_a, capacity_b, capacity_c): (usize, usize, usize),
    first: impl FnOnce(SyncSender<A>) -> Result<W, E> + Send,
    second: impl FnOnce(Receiver<A>, SyncSender<B>) -> Result<X, E> + Send,
    third: impl FnOnce(Receiver<B>, SyncSender<C>) -> Result<Y, E> + Send,
    fourth: impl FnOnce(Receiver<C>) -> Result<Z, E> + Send,
) -> Result<(W, X, Y, Z), E>
where
    A: Send,
    B: Send,
    C: Send,
    W: Send,
    X: Send,
    Y: Send,
    Z: Send,
    E: Send + From<StageFailed>,
{
    std::thread::scope(|scope| {
        let (send_a, receive_a) = sync_channel(capacity_a);
        let (send_b, receive_b) = sync_channel(capacity_b);
        let (send_c, receive_c) = sync_channel(capacity_c);
        // A stage that does not start drops its ends of the channels, so the others end too.
        let first = spawn(scope, "decode", move || first(send_a));
        let second = spawn(scope, "detect", move || second(receive_a, send_b));
        let third = spawn(scope, "details", move || third(receive_b, send_c));
        let fourth = spawn(scope, "read", move || fourth(receive_c));
        // Waits for all stages before it returns the first error.
        let (first, second, third, fourth) = (join(first), join(second), join(third), join(fourth));
        Ok((first?, second?, third?, fourth?))
    })
}

/// The name of a stage and its thread, or `None` if the thread did not start.
type Handle<'scope, T, E> = (&'static str, Option<ScopedJoinHandle<'scope, Result<T, E>>>);

fn spawn<'scope, T: Send + 'scope, E: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &'static str,
    stage: impl FnOnce() -> Result<T, E> + Send + 'scope,
) -> Handle<'scope, T, E> {
    // Log lines of all threads name the job.
    let span = tracing::Span::current();
    let stage = move || span.in_scope(stage);
    (name, std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, stage).ok())
}

fn join<T, E: From<StageFailed>>((name, handle): Handle<'_, T, E>) -> Result<T, E> {
    handle.and_then(|handle| handle.join().ok()).unwrap_or_else(|| Err(StageFailed(name).into()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Debug, PartialEq)]
    enum Error {
        Stage(&'static str),
        StageFailed,
    }

    impl From<StageFailed> for Error {
        fn from(_: StageFailed) -> Self {
            Self::StageFailed
        }
    }

    /// Sends the numbers below `n`, or endless numbers if `n` is `None`.
    fn count(n: Option<u32>) -> impl FnOnce(SyncSender<u32>) -> Result<u32, Error> + Send {
        move |to| {
            for i in 0..n.unwrap_or(u32::MAX) {
                if to.send(i).is_err() {
                    return Ok(i);
                }
            }
            Ok(n.unwrap_or(u32::MAX))
        }
    }

    fn pass(from: Receiver<u32>, to: SyncSender<u32>) -> Result<(), Error> {
        for i in from {
            if to.send(i).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn sum(from: Receiver<u32>) -> Result<u32, Error> {
        Ok(from.iter().sum())
    }

    #[test]
    fn items_pass_through_all_stages_in_order() {
        let collect = |from: Receiver<u32>| Ok::<_, Error>(from.iter().collect::<Vec<_>>());
        let (sent, (), (), seen) = run((2, 2, 2), count(Some(100)), pass, pass, collect).unwrap();
        assert_eq!((sent, seen), (100, (0..100).collect()));
    }

    #[test]
    fn an_error_in_any_stage_ends_the_others_and_is_reported() {
        let capacities = (1, 1, 1);
        let first = |to: SyncSender<u32>| {
            let _ = to.send(1);
            Err::<u32, _>(Error::Stage("first"))
        };
        assert_eq!(run(capacities, first, pass, pass, sum), Err(Error::Stage("first")));
        // Here the first stage never ends by itself.
        let failing = |name| {
            move |from: Receiver<u32>, _: SyncSender<u32>| -> Result<(), Error> {
                let _ = from.recv();
                Err(Error::Stage(name))
            }
        };
        assert_eq!(run(capacities, count(None), failing("second"), pass, sum), Err(Error::Stage("second")));
        assert_eq!(run(capacities, count(None), pass, failing("third"), sum), Err(Error::Stage("third")));
        let fourth = |from: Receiver<u32>| {
            let _ = from.recv();
            Err::<u32, _>(Error::Stage("fourth"))
        };
        assert_eq!(run(capacities, count(None), pass, pass, fourth), Err(Error::Stage("fourth")));
    }

    #[test]
    fn a_panic_in_a_stage_is_reported_as_an_error() {
        let second = |from: Receiver<u32>, _: SyncSender<u32>| -> Result<(), Error> {
            let _ = from.recv();
            panic!("on purpose");
        };
        assert_eq!(run((1, 1, 1), count(None), second, pass, sum), Err(Error::StageFailed));
    }

    #[test]
    fn the_number_of_items_is_bounded_by_the_capacities() {
        let (made, most) = (AtomicU32::new(0), AtomicU32::new(0));
        let first = |to: SyncSender<u32>| {
            for i in 0..200 {
                made.fetch_add(1, Ordering::SeqCst);
                if to.send(i).is_err() {
                    break;
                }
            }
            Ok::<_, Error>(())
        };
        let fourth = |from: Receiver<u32>| {
            for (taken, _) in (0..).zip(from) {
                most.fetch_max(made.load(Ordering::SeqCst) - taken, Ordering::SeqCst);
            }
            Ok(())
        };
        run((3, 2, 1), first, pass, pass, fourth).unwrap();
        // Three, two and one in the channels, and one in each of the four stages.
        assert!(most.load(Ordering::SeqCst) <= 3 + 2 + 1 + 4, "{most:?}");
    }
}
