//! A receiver that answers 204 to everything and remembers what came.

use crate::notebook::said;
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// Message ids in the order of arrival.
type Taken = Arc<(Mutex<Vec<String>>, Condvar)>;

pub(super) struct Sink {
    address: SocketAddr,
    taken: Taken,
}

impl Sink {
    pub(super) fn open() -> Result<Self, String> {
        let listener = said(TcpListener::bind(("127.0.0.1", 0)))?;
        let address = said(listener.local_addr())?;
        let taken = Taken::default();
        let kept = Arc::clone(&taken);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = Arc::clone(&kept);
                // A sender that is killed breaks off in the middle.
                thread::spawn(move || drop(serve(stream, &kept)));
            }
        });
        Ok(Self { address, taken })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(super) fn taken(&self) -> Vec<String> {
        self.taken.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many messages came; gives when that was seen.
    pub(super) fn wait_for(&self, count: usize, wait: Duration) -> Option<Instant> {
        let taken = self.taken.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.taken.1.wait_timeout_while(taken, wait, |taken| taken.len() < count);
        let timed_out = waited.unwrap_or_else(PoisonError::into_inner).1.timed_out();
        (!timed_out).then(Instant::now)
    }

    /// Sends as many messages as fast as the wire takes them, and gives the seconds.
    pub(super) fn bare_posts(&self, threads: usize, messages: usize, length: usize) -> Result<f64, String> {
        let began = Instant::now();
        thread::scope(|scope| {
            let all: Vec<_> = (0..threads).map(|_| scope.spawn(|| self.posts(messages / threads, length))).collect();
            all.into_iter()
                .try_for_each(|one| said(one.join().unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()))))
        })?;
        Ok(began.elapsed().as_secs_f64())
    }

    fn posts(&self, count: usize, length: usize) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        let mut request =
            format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n").into_bytes();
        request.resize(request.len() + length, b'x');
        let mut answer = [0; ANSWER.len()];
        for _ in 0..count {
            stream.write_all(&request)?;
            stream.read_exact(&mut answer)?;
        }
        Ok(())
    }
}

/// Answers the messages of one connection until it ends.
fn serve(mut stream: TcpStream, taken: &(Mutex<Vec<String>>, Condvar)) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut line, mut body) = (String::new(), Vec::new());
    loop {
        let (mut id, mut length) = (String::new(), 0);
        loop {
            line.clear();
            match reader.read_line(&mut line)? {
                0 => return Ok(()),
                1 | 2 => break,
                _ => {}
            }
            if let Some((name, value)) = line.trim_end().split_once(": ") {
                if name.eq_ignore_ascii_case("webhook-id") {
                    id = value.into();
                } else if name.eq_ignore_ascii_case("content-length") {
                    length = value.parse().unwrap_or(0);
                }
            }
        }
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
        taken.0.lock().unwrap_or_else(PoisonError::into_inner).push(id);
        taken.1.notify_all();
        stream.write_all(ANSWER)?;
    }
}
