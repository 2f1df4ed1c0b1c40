//! Three threads in a row, joined by bounded channels.
//!
//! The channels are what keeps the stages together: a fast one waits for room, so no more than a few items exist at
//! any time. When a stage ends early its ends of the channels go with it; its neighbours notice at their next send or
//! receive and end too. So an error anywhere stops all of it and nothing can wait for somebody who has left.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

/// How a stage ended that did not return: it panicked, or its thread did not start.
#[derive(Debug)]
pub struct Broken(pub &'static str);

/// Runs three stages, the first sending `A`s to the second and the second `B`s to the third, with room for so many
/// items in each channel. Gives what the first and the third return, or the error of the earliest stage that has one.
///
/// A stage whose send fails should return what it has: the one after it has an error to report.
pub fn run<A, B, X, Y, E>(
    (room_a, room_b): (usize, usize),
    first: impl FnOnce(SyncSender<A>) -> Result<X, E> + Send,
    second: impl FnOnce(Receiver<A>, SyncSender<B>) -> Result<(), E> + Send,
    third: impl FnOnce(Receiver<B>) -> Result<Y, E> + Send,
) -> Result<(X, Y), E>
where
    A: Send,
    B: Send,
    X: Send,
    Y: Send,
    E: Send + From<Broken>,
{
    std::thread::scope(|scope| {
        let (send_a, take_a) = sync_channel(room_a);
        let (send_b, take_b) = sync_channel(room_b);
        // What does not start drops its ends of the channels, so the others end by themselves.
        let first = spawn(scope, "decode", move || first(send_a));
        let second = spawn(scope, "detect", move || second(take_a, send_b));
        let third = spawn(scope, "read", move || third(take_b));
        // All are waited for before the first error is looked at.
        let (first, second, third) = (join(first), join(second), join(third));
        let first = first?;
        second?;
        Ok((first, third?))
    })
}

/// A stage that runs, or the name of one that did not start.
type Handle<'scope, T, E> = (&'static str, Option<ScopedJoinHandle<'scope, Result<T, E>>>);

fn spawn<'scope, T: Send + 'scope, E: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &'static str,
    stage: impl FnOnce() -> Result<T, E> + Send + 'scope,
) -> Handle<'scope, T, E> {
    (name, std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, stage).ok())
}

fn join<T, E: From<Broken>>((name, handle): Handle<'_, T, E>) -> Result<T, E> {
    handle.and_then(|handle| handle.join().ok()).unwrap_or_else(|| Err(Broken(name).into()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Debug, PartialEq)]
    enum Error {
        Stage(&'static str),
        Broken,
    }

    impl From<Broken> for Error {
        fn from(_: Broken) -> Self {
            Self::Broken
        }
    }

    /// Counts to `n`; without end for `None`.
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
    fn all_items_walk_through_in_order() {
        let collect = |from: Receiver<u32>| Ok::<_, Error>(from.iter().collect::<Vec<_>>());
        let (sent, seen) = run((2, 2), count(Some(100)), pass, collect).unwrap();
        assert_eq!((sent, seen), (100, (0..100).collect()));
    }

    #[test]
    fn an_error_in_any_stage_stops_the_others_and_is_the_one_reported() {
        let first = |to: SyncSender<u32>| {
            let _ = to.send(1);
            Err::<u32, _>(Error::Stage("first"))
        };
        assert_eq!(run((1, 1), first, pass, sum), Err(Error::Stage("first")));
        // The first never ends by itself here.
        let second = |from: Receiver<u32>, _: SyncSender<u32>| {
            let _ = from.recv();
            Err(Error::Stage("second"))
        };
        assert_eq!(run((1, 1), count(None), second, sum), Err(Error::Stage("second")));
        let third = |from: Receiver<u32>| {
            let _ = from.recv();
            Err::<u32, _>(Error::Stage("third"))
        };
        assert_eq!(run((1, 1), count(None), pass, third), Err(Error::Stage("third")));
    }

    #[test]
    fn a_panic_in_a_stage_is_an_error_and_not_a_hang() {
        let second = |from: Receiver<u32>, _: SyncSender<u32>| -> Result<(), Error> {
            let _ = from.recv();
            panic!("on purpose");
        };
        assert_eq!(run((1, 1), count(None), second, sum), Err(Error::Broken));
    }

    #[test]
    fn no_more_items_exist_than_there_is_room_for() {
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
        let third = |from: Receiver<u32>| {
            for (taken, _) in (0..).zip(from) {
                most.fetch_max(made.load(Ordering::SeqCst) - taken, Ordering::SeqCst);
            }
            Ok(())
        };
        run((3, 2), first, pass, third).unwrap();
        // Three and two in the channels and one in each hand.
        assert!(most.load(Ordering::SeqCst) <= 3 + 2 + 3, "{most:?}");
    }
}
