//! The service: listens, answers, and misbehaves as its release says.

use crate::access_log::AccessLog;
use crate::http::{Answer, Connection, NoRequest, REQUESTS_PER_CONNECTION_MAX, Request};
use crate::{Fault, NotebookError, Place, Release, accounts, password, report, schema, seed};
use serde::Deserialize;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Connections at once, a thread each; the next gets 503. A demo has a handful, a load test 64.
const CONNECTIONS_MAX: u32 = 256;
/// When told to stop, requests in flight may take this long.
const FINISH: Duration = Duration::from_secs(2);
/// Open sessions that are counted; more is a client gone wild.
const SESSIONS_MAX: u32 = 10_000;
/// Notes in one answer.
const NOTES_SHOWN_MAX: u32 = 100;
/// Notes in one bulk request: a second of writing.
const BULK_NOTES_MAX: u32 = 50_000;
/// Characters of a name; longer ones don't fit a screen.
const NAME_CHARACTERS_MAX: usize = 100;
/// Bytes of a password, against hashing megabytes.
const PASSWORD_BYTES_MAX: usize = 1024;
/// When the system can't give a connection (too many open files), the listener waits a moment and tries again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(20);

/// What came of handling a request; the error is the answer as well.
type Handled = Result<Answer, Answer>;

/// Serves one release in one place until SIGTERM or SIGINT.
///
/// Migrates first and listens then, as most services do: who can connect has migrated data before him.
pub fn serve(release: &Release, place: &Place) -> Result<(), NotebookError> {
    let data = schema::open(&place.data_file(), release)?;
    let deaf = |source| NotebookError::Deaf { bind: place.bind, port: place.port, source };
    let listener = TcpListener::bind((place.bind, place.port)).map_err(deaf)?;
    let address = listener.local_addr().map_err(deaf)?;
    let service = Arc::new(Service {
        release: release.clone(),
        data: Mutex::new(data),
        log: AccessLog::in_folder(&place.data),
        sessions: Mutex::new(0),
        connections: AtomicU32::new(0),
        in_flight: AtomicU32::new(0),
        stopping: AtomicBool::new(false),
        since: Instant::now(),
    });
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT]).map_err(deaf)?;
    let told = Arc::clone(&service);
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            told.stopping.store(true, Ordering::SeqCst);
            // Wakes the listener, which waits for a connection and not for signals.
            let _awake = TcpStream::connect(address);
        }
    });
    if let Fault::Crash { after_ms } = release.fault {
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(after_ms));
            report("fatal: out of luck");
            std::process::abort();
        });
    }
    report(&format!("{} listens on {address}", release.version));
    service.listen(&listener);
    drop(listener);
    service.finish();
    Ok(())
}

struct Service {
    release: Release,
    data: Mutex<rusqlite::Connection>,
    log: AccessLog,
    sessions: Mutex<u32>,
    connections: AtomicU32,
    in_flight: AtomicU32,
    stopping: AtomicBool,
    since: Instant,
}

impl Service {
    fn listen(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let accepted = listener.accept();
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            let Ok((stream, _)) = accepted else {
                std::thread::sleep(ACCEPT_AGAIN);
                continue;
            };
            let _slower_then = stream.set_nodelay(true);
            let mut connection = Connection::new(stream);
            if self.connections.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_MAX {
                self.connections.fetch_sub(1, Ordering::SeqCst);
                let _gone = connection.answer(&Answer::error(503, "too many connections"), false, false);
                continue;
            }
            let service = Arc::clone(self);
            let started = std::thread::Builder::new().name("connection".to_owned()).spawn(move || {
                service.converse(&mut connection);
                service.connections.fetch_sub(1, Ordering::SeqCst);
            });
            if started.is_err() {
                self.connections.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// Lets what is under way finish and leaves the data in one file.
    fn finish(&self) {
        let deadline = Instant::now() + FINISH;
        while self.in_flight.load(Ordering::SeqCst) > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Err(cause) = self.data().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            report(&format!("the -wal file stays: {cause}"));
        }
        report("stops");
    }

    fn converse(&self, connection: &mut Connection) {
        for count in 1..=REQUESTS_PER_CONNECTION_MAX {
            let request = match connection.next() {
                Ok(request) => request,
                Err(NoRequest::Over) => return,
                Err(NoRequest::Refused(answer)) => {
                    if connection.answer(&answer, false, false).is_ok() {
                        connection.hang_up();
                    }
                    return;
                }
            };
            self.in_flight.fetch_add(1, Ordering::SeqCst);
            let answer = self.handle(&request).unwrap_or_else(|refusal| refusal);
            let keeps_alive =
                request.keeps_alive && count < REQUESTS_PER_CONNECTION_MAX && !self.stopping.load(Ordering::SeqCst);
            // Logged before it is sent: who has an answer finds it in the log.
            self.log.write(&request.method, &request.path, answer.status, self.is_fallback(&request.path));
            let sent = connection.answer(&answer, request.method == "HEAD", keeps_alive);
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            if sent.is_err() || !keeps_alive {
                return;
            }
        }
    }

    fn handle(&self, request: &Request) -> Handled {
        let method = if request.method == "HEAD" { "GET" } else { request.method.as_str() };
        if let Fault::Slow { after_ms, by_ms } = self.release.fault
            && request.path != "/health"
            && self.since.elapsed() >= Duration::from_millis(after_ms)
        {
            std::thread::sleep(Duration::from_millis(by_ms));
        }
        match (method, request.path.as_str()) {
            ("GET", "/health") => Ok(self.health()),
            ("GET", "/version") => Ok(Answer::json(
                200,
                &json!({ "version": self.release.version, "migrations": self.release.migrations }),
            )),
            ("GET", "/busy") => Ok(busy_answer(*self.sessions())),
            ("POST", "/session/open") => {
                self.count_session(|open| open.checked_add(1).filter(|open| *open <= SESSIONS_MAX))
            }
            ("POST", "/session/close") => self.count_session(|open| open.checked_sub(1)),
            ("POST", "/account/bootstrap") => self.bootstrap(request),
            ("GET", "/notes") => self.show_notes(request),
            ("POST", "/notes") => self.write_note(request),
            ("POST", "/notes/bulk") => self.write_bulk(request),
            ("POST", path) if self.release.login_paths.iter().any(|login| login == path) => self.log_in(request),
            (_, path) if self.knows(path) => Err(Answer::error(405, "this path takes another method")),
            _ => Err(Answer::error(404, "there is nothing here")),
        }
    }

    fn knows(&self, path: &str) -> bool {
        const PATHS: [&str; 8] = [
            "/health",
            "/version",
            "/busy",
            "/session/open",
            "/session/close",
            "/account/bootstrap",
            "/notes",
            "/notes/bulk",
        ];
        PATHS.contains(&path) || self.release.login_paths.iter().any(|login| login == path)
    }

    fn is_fallback(&self, path: &str) -> bool {
        self.release.login_paths.iter().skip(1).any(|login| login == path)
    }

    fn health(&self) -> Answer {
        match self.release.fault {
            Fault::NeverReady => Answer::json(503, &json!({ "status": "starting" })),
            _ => Answer::json(200, &json!({ "status": "ok", "version": self.release.version })),
        }
    }

    fn count_session(&self, next: impl Fn(u32) -> Option<u32>) -> Handled {
        let mut open = self.sessions();
        *open = next(*open).ok_or_else(|| Answer::error(409, "no such session can be opened or closed"))?;
        Ok(busy_answer(*open))
    }

    fn bootstrap(&self, request: &Request) -> Handled {
        let who: Person = read_body(request)?;
        who.check()?;
        let hash = password::hash(&who.password).map_err(|cause| self.failed(&cause))?;
        let mut data = self.data();
        let change = data.transaction().map_err(|cause| self.failed(&cause))?;
        let made = accounts::create(&change, &self.release, &who.name, &hash).map_err(|cause| self.failed(&cause))?;
        change.commit().map_err(|cause| self.failed(&cause))?;
        match made {
            Some(_) => Ok(Answer::json(201, &json!({ "name": who.name }))),
            None => Err(Answer::error(409, "the name is taken")),
        }
    }

    fn log_in(&self, request: &Request) -> Handled {
        if self.release.fault == Fault::LoginAnswers500 {
            return Err(self.failed(&"no such service: identity"));
        }
        let who: Person = read_body(request)?;
        who.check()?;
        let known =
            accounts::credential(&self.data(), &self.release, &who.name).map_err(|cause| self.failed(&cause))?;
        // The slow part is done without the data's lock.
        let account = known.filter(|(_, hash)| password::verify(&who.password, hash)).map(|(id, _)| id);
        let account = account.ok_or_else(|| Answer::error(401, "wrong name or password"))?;
        let token = accounts::open_session(&self.data(), account).map_err(|cause| self.failed(&cause.reason()))?;
        let cookie = format!("notebook_session={token}; Path=/; HttpOnly; SameSite=Lax");
        Ok(Answer { set_cookie: Some(cookie), ..Answer::json(200, &json!({ "name": who.name, "token": token })) })
    }

    fn show_notes(&self, request: &Request) -> Handled {
        let account = self.account_of(request)?;
        let (total, newest) =
            accounts::notes(&self.data(), account, NOTES_SHOWN_MAX).map_err(|cause| self.failed(&cause))?;
        let newest: Vec<_> = newest.into_iter().map(|(id, text)| json!({ "id": id, "text": text })).collect();
        Ok(Answer::json(200, &json!({ "total": total, "notes": newest })))
    }

    fn write_note(&self, request: &Request) -> Handled {
        let account = self.account_of(request)?;
        let note: Note = read_body(request)?;
        let id = self.write_all(account, std::iter::once(note.text.as_str()))?;
        Ok(Answer::json(201, &json!({ "id": id })))
    }

    fn write_bulk(&self, request: &Request) -> Handled {
        let account = self.account_of(request)?;
        let bulk: Bulk = read_body(request)?;
        if bulk.count > BULK_NOTES_MAX {
            return Err(Answer::error(422, "at most 50000 notes at once"));
        }
        let texts: Vec<String> = (0..bulk.count).map(seed::note_text).collect();
        let last = self.write_all(account, texts.iter().map(String::as_str))?;
        Ok(Answer::json(201, &json!({ "written": bulk.count, "last": last })))
    }

    fn write_all<'a>(&self, account: i64, texts: impl Iterator<Item = &'a str>) -> Result<i64, Answer> {
        let mut data = self.data();
        let change = data.transaction().map_err(|cause| self.failed(&cause))?;
        let last = accounts::write_notes(&change, account, texts).map_err(|cause| self.failed(&cause))?;
        change.commit().map_err(|cause| self.failed(&cause))?;
        Ok(last)
    }

    fn account_of(&self, request: &Request) -> Result<i64, Answer> {
        let bearer = request.authorization.as_deref().and_then(|value| value.strip_prefix("Bearer "));
        let cookie = || {
            let cookies = request.cookie.as_deref()?;
            cookies.split(';').find_map(|cookie| cookie.trim().strip_prefix("notebook_session="))
        };
        let token = bearer.or_else(cookie).ok_or_else(|| Answer::error(401, "log in first"))?;
        let account = accounts::account_of(&self.data(), token).map_err(|cause| self.failed(&cause))?;
        account.ok_or_else(|| Answer::error(401, "this session is not known"))
    }

    fn data(&self) -> MutexGuard<'_, rusqlite::Connection> {
        // A thread that panicked left at most an open transaction, which its end rolled back.
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions(&self) -> MutexGuard<'_, u32> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the log why, and the client only that.
    fn failed(&self, cause: &dyn std::fmt::Display) -> Answer {
        report(&format!("error: {cause}"));
        Answer::error(500, "something failed here; the log says what")
    }
}

#[derive(Deserialize)]
struct Person {
    name: String,
    password: String,
}

impl Person {
    fn check(&self) -> Result<(), Answer> {
        let name_fits = (1..=NAME_CHARACTERS_MAX).contains(&self.name.chars().count());
        let password_fits = (1..=PASSWORD_BYTES_MAX).contains(&self.password.len());
        if name_fits && password_fits {
            Ok(())
        } else {
            Err(Answer::error(422, "the name or the password has a length that can't be"))
        }
    }
}

#[derive(Deserialize)]
struct Note {
    text: String,
}

#[derive(Deserialize)]
struct Bulk {
    count: u32,
}

fn busy_answer(open: u32) -> Answer {
    Answer::json(200, &json!({ "busy": open > 0, "open": open }))
}

fn read_body<T: for<'de> Deserialize<'de>>(request: &Request) -> Result<T, Answer> {
    // The parser's words are not repeated: they can hold a piece of the password.
    serde_json::from_slice(&request.body)
        .map_err(|_| Answer::error(422, "the body is not the JSON that is asked for here"))
}
