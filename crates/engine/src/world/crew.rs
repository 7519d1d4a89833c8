//! Threads that perform effects: as many as are busy at once, each used again.
//!
//! A way back is five short effects an instance. A thread for each would spend more time on its own memory than on the
//! effect.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

/// How long an idle thread waits for more: effects of one run follow each other within milliseconds.
const IDLE: Duration = Duration::from_secs(2);

/// One effect to perform; it must not panic.
pub(super) type Work = Box<dyn FnOnce() + Send>;

/// The threads of one service's world.
#[derive(Clone, Default)]
pub(super) struct Crew {
    idle: Arc<Mutex<Idle>>,
}

#[derive(Default)]
struct Idle {
    members: Vec<(u64, Sender<Work>)>,
    hired: u64,
}

impl Crew {
    /// Gives work to an idle thread, or to a new one; never waits.
    ///
    /// Errors: the machine gives no more threads; the work was dropped then.
    pub(super) fn give(&self, work: Work) -> io::Result<()> {
        let mut idle = self.lock();
        let work = match idle.members.pop() {
            None => work,
            Some((_, member)) => match member.send(work) {
                Ok(()) => return Ok(()),
                Err(unsent) => unsent.0,
            },
        };
        idle.hired += 1;
        let (id, crew) = (idle.hired, self.clone());
        drop(idle);
        thread::Builder::new().name(format!("effects {id}")).spawn(move || crew.member(id, work)).map(drop)
    }

    fn member(&self, id: u64, first: Work) {
        let (sender, receiver) = channel();
        let mut next = Some(first);
        while let Some(work) = next {
            work();
            self.lock().members.push((id, sender.clone()));
            next = self.wait(id, &receiver);
        }
    }

    fn wait(&self, id: u64, receiver: &Receiver<Work>) -> Option<Work> {
        match receiver.recv_timeout(IDLE) {
            Ok(work) => Some(work),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                let mut idle = self.lock();
                let before = idle.members.len();
                idle.members.retain(|(member, _)| *member != id);
                // Not on the list any more: work was given in this very moment.
                if idle.members.len() == before { receiver.try_recv().ok() } else { None }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::ThreadId;

    fn who(crew: &Crew) -> ThreadId {
        let (sender, receiver) = channel();
        crew.give(Box::new(move || sender.send(thread::current().id()).unwrap())).unwrap();
        let who = receiver.recv().unwrap();
        // It is idle only a moment after its work.
        while crew.lock().members.is_empty() {
            thread::yield_now();
        }
        who
    }

    #[test]
    fn work_that_waits_keeps_no_other_work_waiting() {
        let crew = Crew::default();
        let (sender, receiver) = channel::<()>();
        let (done, finished) = channel();
        let told = done.clone();
        crew.give(Box::new(move || {
            receiver.recv().unwrap();
            told.send(1).unwrap();
        }))
        .unwrap();
        crew.give(Box::new(move || done.send(2).unwrap())).unwrap();
        assert_eq!(finished.recv(), Ok(2));
        sender.send(()).unwrap();
        assert_eq!(finished.recv(), Ok(1));
    }

    #[test]
    fn an_idle_thread_is_used_again() {
        let crew = Crew::default();
        assert_eq!(who(&crew), who(&crew));
    }

    #[test]
    fn an_idle_thread_ends_and_work_still_finds_one() {
        let crew = Crew::default();
        let first = who(&crew);
        thread::sleep(IDLE + Duration::from_millis(500));
        assert!(crew.lock().members.is_empty());
        assert_ne!(who(&crew), first);
    }
}
