//! One conversation with a server: connect, log in, ask, leave. Every wait ends at one deadline.

use super::super::{Scalar, Table, left};
use super::address::{Address, Host};
use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::{
    IsNull,
    authentication::{
        md5_hash,
        sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    },
    message::{backend, frontend},
};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::{
    fmt,
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs as _},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

/// 16 MiB: a thousand rows of long texts.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Read at once.
const READ_BYTES: usize = 16 << 10;
/// The types whose text is a number: int8, int2, int4, oid, float4, float8, numeric.
const NUMBERS: [u32; 7] = [20, 21, 23, 26, 700, 701, 1700];
/// The type whose text is `t` or `f`.
const BOOLEAN: u32 = 16;
/// What the server calls us in its lists of sessions.
const APPLICATION: &str = "lastgood";

/// What a server complains of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    /// SQLSTATE, such as `28P01`.
    pub(crate) code: String,
    /// Its sentence.
    pub(crate) message: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

/// Why a conversation ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nobody there, or not a server, or it hung up.
    Unreachable(String),
    /// The server refuses this role or password.
    LogInRefused(Said),
    /// The server refuses a statement.
    Refused(Said),
    /// The deadline has come.
    TimedOut,
    /// The answer has more bytes than this.
    TooLong(usize),
}

/// `query_canceled`: what a statement gets when its time is over.
const CANCELED: &str = "57014";

impl Trouble {
    fn statement(said: Said) -> Self {
        match said.code == CANCELED {
            true => Self::TimedOut,
            false => Self::Refused(said),
        }
    }

    fn io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::UnexpectedEof => Self::Unreachable("the server hung up".into()),
            _ => Self::Unreachable(error.to_string()),
        }
    }
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// A conversation that has been let in.
pub(crate) struct Session {
    stream: Stream,
    inbox: BytesMut,
    deadline: Instant,
}

impl Session {
    /// Connects and logs in.
    pub(crate) fn connect(address: &Address, password: Option<&str>, deadline: Instant) -> Result<Self, Trouble> {
        let stream = open(address, deadline)?;
        let mut session = Self { stream, inbox: BytesMut::new(), deadline };
        session.start(address)?;
        session.log_in(&address.user, password)?;
        Ok(session)
    }

    fn start(&mut self, address: &Address) -> Result<(), Trouble> {
        let mut out = BytesMut::new();
        let settings = [
            ("user", address.user.as_str()),
            ("database", &address.database),
            ("application_name", APPLICATION),
            ("client_encoding", "UTF8"),
        ];
        frontend::startup_message(settings, &mut out).map_err(|error| Trouble::io(&error))?;
        self.send(&out)
    }

    fn log_in(&mut self, user: &str, password: Option<&str>) -> Result<(), Trouble> {
        let wanted = || Trouble::Unreachable("the server asks for a password, and none is configured".into());
        let mut scram: Option<ScramSha256> = None;
        let mut out = BytesMut::new();
        loop {
            out.clear();
            let written = match self.next()? {
                backend::Message::AuthenticationOk => Ok(()),
                backend::Message::AuthenticationCleartextPassword => {
                    // Sockets and loopback only: nobody listens in between.
                    frontend::password_message(password.ok_or_else(wanted)?.as_bytes(), &mut out)
                }
                backend::Message::AuthenticationMd5Password(body) => {
                    let password = password.ok_or_else(wanted)?;
                    let hash = md5_hash(user.as_bytes(), password.as_bytes(), body.salt());
                    frontend::password_message(hash.as_bytes(), &mut out)
                }
                backend::Message::AuthenticationSasl(body) => {
                    let password = password.ok_or_else(wanted)?;
                    let offered = body.mechanisms().any(|one| Ok(one == SCRAM_SHA_256));
                    if !offered.map_err(|error| Trouble::io(&error))? {
                        return Err(other_log_in());
                    }
                    let client = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
                    let written = frontend::sasl_initial_response(SCRAM_SHA_256, client.message(), &mut out);
                    scram = Some(client);
                    written
                }
                backend::Message::AuthenticationSaslContinue(body) => {
                    let client = scram.as_mut().ok_or_else(out_of_turn)?;
                    client.update(body.data()).and_then(|()| frontend::sasl_response(client.message(), &mut out))
                }
                // The server proves that it knows the password too.
                backend::Message::AuthenticationSaslFinal(body) => {
                    scram.as_mut().ok_or_else(out_of_turn)?.finish(body.data())
                }
                backend::Message::ErrorResponse(body) => return Err(refused_at_start(said(&body))),
                backend::Message::ReadyForQuery(_) => return Ok(()),
                backend::Message::BackendKeyData(_) => Ok(()),
                _ => return Err(other_log_in()),
            };
            written.map_err(|error| Trouble::io(&error))?;
            if !out.is_empty() {
                self.send(&out)?;
            }
        }
    }

    /// Runs statements and drops what they answer.
    pub(crate) fn command(&mut self, sql: &str) -> Result<(), Trouble> {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out).map_err(|error| Trouble::io(&error))?;
        self.send(&out)?;
        let mut complaint = None;
        loop {
            match self.next()? {
                backend::Message::ErrorResponse(body) => complaint = Some(said(&body)),
                backend::Message::ReadyForQuery(_) => break,
                _ => {}
            }
        }
        complaint.map_or(Ok(()), |said| Err(Trouble::statement(said)))
    }

    /// Asks one statement, and reads at most `rows_max` rows.
    pub(crate) fn query(&mut self, sql: &str, rows_max: u32) -> Result<Table, Trouble> {
        let mut out = BytesMut::new();
        // One row more than wanted, to know whether there are more. 0 would mean all.
        let fetch = i32::try_from(rows_max).unwrap_or(i32::MAX - 1).saturating_add(1);
        ask(sql, fetch, &mut out).map_err(|error| Trouble::io(&error))?;
        self.send(&out)?;
        let (mut table, mut kinds) = (Table::default(), Vec::new());
        let (mut complaint, mut bytes) = (None, 0);
        loop {
            match self.next()? {
                backend::Message::RowDescription(body) => {
                    let mut fields = body.fields();
                    while let Some(field) = fields.next().map_err(|error| Trouble::io(&error))? {
                        table.columns.push(field.name().into());
                        kinds.push(field.type_oid());
                    }
                }
                backend::Message::DataRow(_) if table.rows.len() as u64 >= u64::from(rows_max) => table.more = true,
                backend::Message::DataRow(body) => {
                    bytes += body.buffer().len();
                    if bytes > ANSWER_BYTES_MAX {
                        return Err(Trouble::TooLong(ANSWER_BYTES_MAX));
                    }
                    table.rows.push(values(&body, &kinds).map_err(|error| Trouble::io(&error))?);
                }
                backend::Message::ErrorResponse(body) => complaint = Some(said(&body)),
                backend::Message::ReadyForQuery(_) => break,
                // COPY would wait for us.
                backend::Message::CopyInResponse(_) | backend::Message::CopyOutResponse(_) => {
                    let message = "COPY is no question".into();
                    return Err(Trouble::Refused(Said { code: "0A000".into(), message }));
                }
                _ => {}
            }
        }
        complaint.map_or(Ok(table), |said| Err(Trouble::statement(said)))
    }

    /// Says goodbye, so that the server's log has no broken connection.
    pub(crate) fn close(mut self) {
        let mut out = BytesMut::new();
        frontend::terminate(&mut out);
        let _ = self.send(&out);
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let limit = Some(left(self.deadline));
        let sent = match &mut self.stream {
            Stream::Unix(stream) => stream.set_write_timeout(limit).and_then(|()| stream.write_all(bytes)),
            Stream::Tcp(stream) => stream.set_write_timeout(limit).and_then(|()| stream.write_all(bytes)),
        };
        sent.map_err(|error| Trouble::io(&error))
    }

    /// Gives the next message that says something.
    fn next(&mut self) -> Result<backend::Message, Trouble> {
        loop {
            match backend::Message::parse(&mut self.inbox).map_err(|error| Trouble::io(&error))? {
                Some(backend::Message::NoticeResponse(_) | backend::Message::ParameterStatus(_)) => {}
                Some(message) => return Ok(message),
                None => self.read().map_err(|error| Trouble::io(&error))?,
            }
            if Instant::now() >= self.deadline {
                return Err(Trouble::TimedOut);
            }
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let limit = Some(left(self.deadline));
        if self.inbox.len() > ANSWER_BYTES_MAX {
            return Err(io::Error::other(format!("one message has more than {ANSWER_BYTES_MAX} bytes")));
        }
        let mut buffer = [0; READ_BYTES];
        let count = match &mut self.stream {
            Stream::Unix(stream) => stream.set_read_timeout(limit).and_then(|()| stream.read(&mut buffer))?,
            Stream::Tcp(stream) => stream.set_read_timeout(limit).and_then(|()| stream.read(&mut buffer))?,
        };
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.inbox.extend_from_slice(&buffer[..count]);
        Ok(())
    }
}

fn other_log_in() -> Trouble {
    Trouble::Unreachable("the server asks for a kind of log-in we don't have".into())
}

fn out_of_turn() -> Trouble {
    Trouble::Unreachable("the server speaks out of turn".into())
}

/// Class 28 is about who asks; all else (too many connections, starting up) is no word about the role.
fn refused_at_start(said: Said) -> Trouble {
    match said.code.starts_with("28") {
        true => Trouble::LogInRefused(said),
        false => Trouble::Unreachable(said.to_string()),
    }
}

fn open(address: &Address, deadline: Instant) -> Result<Stream, Trouble> {
    match &address.host {
        Host::Socket(folder) => {
            let path = folder.join(format!(".s.PGSQL.{}", address.port));
            let at = |error: io::Error| match Trouble::io(&error) {
                Trouble::Unreachable(why) => Trouble::Unreachable(format!("{}: {why}", path.display())),
                other => other,
            };
            unix(&path, left(deadline)).map(Stream::Unix).map_err(at)
        }
        Host::Net(host) => {
            let at = |error: io::Error| match Trouble::io(&error) {
                Trouble::Unreachable(why) => Trouble::Unreachable(format!("{host}:{}: {why}", address.port)),
                other => other,
            };
            let mut last = io::Error::from(io::ErrorKind::NotFound);
            for place in (host.as_str(), address.port).to_socket_addrs().map_err(at)? {
                if !place.ip().is_loopback() {
                    return Err(Trouble::Unreachable(format!(
                        "{host} is not this machine, and TLS to PostgreSQL is not built yet; \
                         use a socket, or a tunnel on 127.0.0.1"
                    )));
                }
                match TcpStream::connect_timeout(&place, left(deadline)) {
                    Ok(stream) => {
                        let _ = stream.set_nodelay(true);
                        return Ok(Stream::Tcp(stream));
                    }
                    Err(error) => last = error,
                }
            }
            Err(at(last))
        }
    }
}

/// Connects to a socket; a server that takes nobody in may not hold us longer than `limit`.
fn unix(path: &std::path::Path, limit: Duration) -> io::Result<UnixStream> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(limit))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}

fn ask(sql: &str, fetch: i32, out: &mut BytesMut) -> io::Result<()> {
    frontend::parse("", sql, [], out)?;
    // No parameters, and every column as text.
    let none = |_: (), _: &mut BytesMut| Ok(IsNull::Yes);
    match frontend::bind("", "", [], [], none, [0], out) {
        Ok(()) => {}
        Err(frontend::BindError::Serialization(error)) => return Err(error),
        Err(frontend::BindError::Conversion(_)) => return Err(io::ErrorKind::InvalidInput.into()),
    }
    frontend::describe(b'P', "", out)?;
    frontend::execute("", fetch, out)?;
    frontend::sync(out);
    Ok(())
}

fn values(body: &backend::DataRowBody, kinds: &[u32]) -> io::Result<Vec<Scalar>> {
    let mut values = Vec::with_capacity(kinds.len());
    let (mut ranges, mut kinds) = (body.ranges(), kinds.iter());
    while let Some(range) = ranges.next()? {
        let kind = kinds.next().copied().unwrap_or_default();
        let Some(range) = range else {
            values.push(Scalar::Null);
            continue;
        };
        let text = String::from_utf8_lossy(body.buffer().get(range).unwrap_or_default());
        values.push(match kind {
            BOOLEAN => Scalar::Boolean(text == "t"),
            kind if NUMBERS.contains(&kind) => Scalar::number(&text),
            _ => Scalar::Text(text.into_owned()),
        });
    }
    Ok(values)
}

fn said(body: &backend::ErrorResponseBody) -> Said {
    let (mut code, mut message) = (String::new(), String::new());
    let mut fields = body.fields();
    while let Ok(Some(field)) = fields.next() {
        let value = || String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => code = value(),
            b'M' => message = value(),
            _ => {}
        }
    }
    Said { code, message }
}
