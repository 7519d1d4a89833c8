//! A service as instances run it: plain sockets, so that it can also misbehave.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tungstenite::{Message, protocol::Role};

/// What a service saw.
#[derive(Default)]
pub(crate) struct Seen {
    /// The heads of requests, in order.
    pub(crate) heads: Mutex<Vec<String>>,
    pub(crate) connections: AtomicUsize,
    /// Connections that ended before their answer was written.
    pub(crate) left: AtomicUsize,
    /// Closing codes of WebSockets.
    pub(crate) closes: Mutex<Vec<Option<u16>>>,
}

pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
}

impl Service {
    /// Starts one that calls itself `name`.
    pub(crate) fn start(name: &'static str) -> Self {
        Self::speaking(move |stream, seen| {
            let _ = talk(stream, name, seen);
        })
    }

    /// Starts one that does with each connection whatever it wants.
    pub(crate) fn speaking(speak: impl Fn(TcpStream, &Seen) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let (speak, shared) = (Arc::new(speak), seen.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (speak, seen, stream) = (speak.clone(), shared.clone(), stream.unwrap());
                seen.connections.fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || speak(stream, &seen));
            }
        });
        Self { address, seen }
    }

    /// Starts one that reads a head and then says exactly `answer`, and closes.
    pub(crate) fn saying(answer: &'static [u8]) -> Self {
        Self::speaking(move |mut stream, seen| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            if let Some(head) = head(&mut reader) {
                seen.heads.lock().unwrap().push(head);
                let _ = stream.write_all(answer);
            }
        })
    }

    pub(crate) fn last_head(&self) -> String {
        self.seen.heads.lock().unwrap().last().cloned().unwrap_or_default()
    }

    pub(crate) fn requests(&self) -> usize {
        self.seen.heads.lock().unwrap().len()
    }
}

/// Reads a head; `None` at the connection's end.
pub(crate) fn head(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
        if &head[before..] == "\r\n" {
            return Some(head);
        }
    }
}

pub(crate) fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

fn read_body(reader: &mut BufReader<TcpStream>, head: &str) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if let Some(length) = value(head, "content-length") {
        body.resize(length.parse().ok()?, 0);
        reader.read_exact(&mut body).ok()?;
    } else if value(head, "transfer-encoding") == Some("chunked") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; size];
            reader.read_exact(&mut chunk).ok()?;
            body.extend(&chunk);
            line.clear();
            if size == 0 {
                // Trailers are told as part of the body, so that tests see them.
                while reader.read_line(&mut line).ok()? > 2 {
                    body.extend(format!("[{}]", line.trim()).bytes());
                    line.clear();
                }
                break;
            }
            reader.read_line(&mut line).ok()?;
        }
    }
    Some(body)
}

fn talk(mut stream: TcpStream, name: &str, seen: &Seen) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(head) = head(&mut reader) {
        seen.heads.lock().unwrap().push(head.clone());
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        if value(&head, "expect").is_some() && path != "/refuse" {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if path == "/refuse" {
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\n")?;
            return Ok(());
        }
        if path == "/ws" {
            return socket(stream, &head, seen);
        }
        let Some(body) = read_body(&mut reader, &head) else {
            seen.left.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
        match path {
            "/echo" => answer(&mut stream, "", &body)?,
            "/head" => answer(&mut stream, "", head.as_bytes())?,
            "/slow" => {
                thread::sleep(Duration::from_millis(query.parse().unwrap_or(0)));
                answer(&mut stream, "", name.as_bytes())?;
            }
            "/error" => stream.write_all(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")?,
            "/hop" => answer(&mut stream, "Keep-Alive: timeout=5\r\nConnection: X-Mine, keep-alive\r\nX-Mine: 1\r\nX-Theirs: 1\r\n", b"")?,
            "/chunked" => stream.write_all(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 11\r\n\r\n",
            )?,
            "/hints" => {
                stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")?;
                answer(&mut stream, "", name.as_bytes())?;
            }
            "/until-close" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nall there is")?;
                return Ok(());
            }
            "/cut" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")?;
                return Ok(());
            }
            "/silent" => {
                // Waits for the client to go, as a service that hangs.
                let mut rest = Vec::new();
                let _ = reader.read_to_end(&mut rest);
                seen.left.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            "/none" => return Ok(()),
            "/big" => {
                let size: usize = query.parse().unwrap_or(0);
                stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").as_bytes())?;
                let piece = vec![b'x'; 64 << 10];
                let mut left = size;
                while left > 0 {
                    let count = left.min(piece.len());
                    stream.write_all(&piece[..count])?;
                    left -= count;
                }
            }
            "/drip" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                for count in 0.. {
                    let event = format!("data: {count}\n\n");
                    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
                    if stream.write_all(chunk.as_bytes()).is_err() {
                        seen.left.fetch_add(1, Ordering::Relaxed);
                        return Ok(());
                    }
                    thread::sleep(Duration::from_millis(10));
                }
            }
            _ => answer(&mut stream, "", name.as_bytes())?,
        }
        if value(&head, "connection") == Some("close") {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
    Ok(())
}

fn answer(stream: &mut TcpStream, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat())
}

/// A WebSocket that says everything back; `close N` closes with N, `cut` breaks off, `count N` sends N messages.
fn socket(mut stream: TcpStream, head: &str, seen: &Seen) -> std::io::Result<()> {
    let accept =
        tungstenite::handshake::derive_accept_key(value(head, "sec-websocket-key").unwrap_or_default().as_bytes());
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )?;
    let mut socket = tungstenite::WebSocket::from_raw_socket(stream, Role::Server, None);
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => {
                let text = text.to_string();
                let mut words = text.split(' ');
                match (words.next(), words.next().and_then(|word| word.parse::<u32>().ok())) {
                    (Some("close"), Some(code)) => {
                        let code = (code as u16).into();
                        let _ = socket.close(Some(tungstenite::protocol::CloseFrame { code, reason: "asked".into() }));
                    }
                    (Some("cut"), _) => return Ok(()),
                    (Some("count"), Some(count)) => {
                        for number in 0..count {
                            socket.send(Message::text(number.to_string())).map_err(std::io::Error::other)?;
                        }
                    }
                    _ => socket.send(Message::text(text)).map_err(std::io::Error::other)?,
                }
            }
            Ok(Message::Binary(bytes)) => socket.send(Message::Binary(bytes)).map_err(std::io::Error::other)?,
            Ok(Message::Close(frame)) => seen.closes.lock().unwrap().push(frame.map(|frame| frame.code.into())),
            Ok(_) => {}
            Err(_) => return Ok(()),
        }
    }
}
