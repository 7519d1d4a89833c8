//! One look for all who ask at the same moment.
//!
//! A look at all processes of a machine costs milliseconds, and twenty instances that go back together ask at the same
//! moment. A look that began after an instance had stopped is as good for it as one of its own, so those who come while
//! one is under way share the next.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// The newest look, and who waits for one.
#[derive(Debug)]
pub struct SharedLook<T> {
    state: Mutex<State<T>>,
    done: Condvar,
}

#[derive(Debug)]
struct State<T> {
    looking: bool,
    waiting: usize,
    newest: Option<(Instant, Arc<T>)>,
    /// Whether the newest look is kept when nobody waits for it.
    is_kept: bool,
}

impl<T> SharedLook<T> {
    /// Makes one whose newest look is kept.
    pub fn kept() -> Self {
        let state = State { looking: false, waiting: 0, newest: None, is_kept: true };
        Self { state: Mutex::new(state), done: Condvar::new() }
    }

    /// Makes one that forgets a look when nobody waits for it, because what it found holds on to something.
    pub fn fleeting() -> Self {
        let state = State { looking: false, waiting: 0, newest: None, is_kept: false };
        Self { state: Mutex::new(state), done: Condvar::new() }
    }

    /// Gives what a look that began at `earliest` or later found; looks itself if nobody did or does.
    pub fn since(&self, earliest: Instant, look: impl FnOnce() -> T) -> Arc<T> {
        let mut state = self.lock();
        loop {
            match &state.newest {
                Some((began, found)) if *began >= earliest => {
                    let found = Arc::clone(found);
                    state.forget();
                    return found;
                }
                _ if state.looking => {
                    state.waiting += 1;
                    state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.waiting -= 1;
                }
                _ => break,
            }
        }
        state.looking = true;
        drop(state);
        let looking = Looking(self);
        let began = Instant::now();
        let found = Arc::new(look());
        let mut state = self.lock();
        state.newest = Some((began, Arc::clone(&found)));
        state.forget();
        drop(state);
        drop(looking);
        found
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn forget(&mut self) {
        if !self.is_kept && self.waiting == 0 {
            self.newest = None;
        }
    }
}

/// Ends the look when it is dropped, so that one that panics keeps nobody waiting.
struct Looking<'a, T>(&'a SharedLook<T>);

impl<T> Drop for Looking<'_, T> {
    fn drop(&mut self) {
        self.0.lock().looking = false;
        self.0.done.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        thread,
        time::Duration,
    };

    #[test]
    fn a_look_that_began_too_early_is_not_taken_and_a_later_one_is() {
        let shared = SharedLook::kept();
        let first = Instant::now();
        assert_eq!(*shared.since(first, || 1), 1);
        assert_eq!(*shared.since(first, || 2), 1);
        assert_eq!(*shared.since(Instant::now(), || 3), 3);
    }

    #[test]
    fn those_who_come_while_one_looks_share_the_next_look() {
        let (shared, looks) = (SharedLook::fleeting(), AtomicU32::new(0));
        let look = || {
            thread::sleep(Duration::from_millis(100));
            looks.fetch_add(1, Ordering::SeqCst) + 1
        };
        thread::scope(|scope| {
            scope.spawn(|| shared.since(Instant::now(), look));
            thread::sleep(Duration::from_millis(20));
            let late: Vec<_> = (0..8).map(|_| scope.spawn(|| shared.since(Instant::now(), look))).collect();
            // The first one had begun before they came.
            assert!(late.into_iter().all(|one| *one.join().unwrap() == 2));
        });
        assert_eq!(looks.load(Ordering::SeqCst), 2);
        assert!(shared.lock().newest.is_none());
    }

    #[test]
    fn a_look_that_panics_keeps_nobody_waiting() {
        let shared = SharedLook::kept();
        let panicked = thread::scope(|scope| {
            scope.spawn(|| shared.since(Instant::now(), || -> u32 { panic!("as a driver may") })).join()
        });
        assert!(panicked.is_err());
        assert_eq!(*shared.since(Instant::now(), || 5), 5);
    }
}
