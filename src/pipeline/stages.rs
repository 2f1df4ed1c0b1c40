//! Four threads in a row, joined by bounded channels.
//!
//! The channels are what keeps the stages together: a fast one waits for room, so no more than a few items exist at
//! any time. When a stage ends early its ends of the channels go with it; its neighbours notice at their next send or
//! receive and end too. So an error anywhere stops all of it and nothing can wait for somebody who has left.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

/// How a stage ended that did not return: it panicked, or its thread did not start.
#[derive(Debug)]
pub struct Broken(pub &'static str);

/// Runs four stages, each sending what it makes to the next, with room for so many items in each channel. Gives what they
/// return, or the error of the earliest stage that has one.
///
/// A stage whose send fails should return what it has: the one after it has an error to report.
pub fn run<A, B, C, W, X, Y, Z, E>(
    (room_a, room_b, room_c): (usize, usize, usize),
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
    E: Send + From<Broken>,
{
    std::thread::scope(|scope| {
        let (send_a, take_a) = sync_channel(room_a);
        let (send_b, take_b) = sync_channel(room_b);
        let (send_c, take_c) = sync_channel(room_c);
        // What does not start drops its ends of the channels, so the others end by themselves.
        let first = spawn(scope, "decode", move || first(send_a));
        let second = spawn(scope, "detect", move || second(take_a, send_b));
        let third = spawn(scope, "look", move || third(take_b, send_c));
        let fourth = spawn(scope, "read", move || fourth(take_c));
        // All are waited for before the first error is looked at.
        let (first, second, third, fourth) = (join(first), join(second), join(third), join(fourth));
        Ok((first?, second?, third?, fourth?))
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
        let (sent, (), (), seen) = run((2, 2, 2), count(Some(100)), pass, pass, collect).unwrap();
        assert_eq!((sent, seen), (100, (0..100).collect()));
    }

    #[test]
    fn an_error_in_any_stage_stops_the_others_and_is_the_one_reported() {
        let rooms = (1, 1, 1);
        let first = |to: SyncSender<u32>| {
            let _ = to.send(1);
            Err::<u32, _>(Error::Stage("first"))
        };
        assert_eq!(run(rooms, first, pass, pass, sum), Err(Error::Stage("first")));
        // The first never ends by itself here.
        let failing = |name| {
            move |from: Receiver<u32>, _: SyncSender<u32>| -> Result<(), Error> {
                let _ = from.recv();
                Err(Error::Stage(name))
            }
        };
        assert_eq!(run(rooms, count(None), failing("second"), pass, sum), Err(Error::Stage("second")));
        assert_eq!(run(rooms, count(None), pass, failing("third"), sum), Err(Error::Stage("third")));
        let fourth = |from: Receiver<u32>| {
            let _ = from.recv();
            Err::<u32, _>(Error::Stage("fourth"))
        };
        assert_eq!(run(rooms, count(None), pass, pass, fourth), Err(Error::Stage("fourth")));
    }

    #[test]
    fn a_panic_in_a_stage_is_an_error_and_not_a_hang() {
        let second = |from: Receiver<u32>, _: SyncSender<u32>| -> Result<(), Error> {
            let _ = from.recv();
            panic!("on purpose");
        };
        assert_eq!(run((1, 1, 1), count(None), second, pass, sum), Err(Error::Broken));
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
        let fourth = |from: Receiver<u32>| {
            for (taken, _) in (0..).zip(from) {
                most.fetch_max(made.load(Ordering::SeqCst) - taken, Ordering::SeqCst);
            }
            Ok(())
        };
        run((3, 2, 1), first, pass, pass, fourth).unwrap();
        // Three, two and one in the channels and one in each hand.
        assert!(most.load(Ordering::SeqCst) <= 3 + 2 + 1 + 4, "{most:?}");
    }
}
