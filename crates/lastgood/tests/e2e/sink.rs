//! A real HTTP server in the test: keeps what it was sent, answers as told.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// Longest body that is kept, in bytes; ours have a few hundred.
const BODY_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Sink {
    pub(crate) port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Sink {
    /// Answers every request with what `answer` makes of it: a status line's rest and a body.
    pub(crate) fn new(answer: impl Fn(&Request) -> (&'static str, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let Some(request) = read(&stream) else { continue };
                let (status, body) = answer(&request);
                kept.lock().unwrap().push(request);
                let length = body.len();
                let text = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
                // Who has gone away wants no answer.
                let _ = (&stream).write_all(text.as_bytes());
            }
        });
        Self { port, requests }
    }

    pub(crate) fn taken(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    stream.set_read_timeout(Some(crate::kit::PATIENCE)).ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length: usize = headers.get("content-length").map_or(0, |text| text.parse().unwrap_or(0));
    let mut body = vec![0; length.min(BODY_BYTES_MAX)];
    reader.read_exact(&mut body).ok()?;
    Some(Request { headers, body })
}
