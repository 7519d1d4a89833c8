//! The HTTP side: a thread of its own with a small runtime, on loopback only, every connection on a short lead.

use crate::{
    Snapshot,
    answers::{self, Answers},
    health::health,
    metrics::metrics,
};
use axum::{
    Router,
    extract::State,
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE},
    },
    response::{IntoResponse as _, Response},
    routing::get,
    serve::Listener,
};
use lastgood_domain::failure::Coded;
use std::{
    future::Future as _,
    io,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Sleep, sleep},
};

/// Content type of Prometheus' text format.
pub const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// A connection ends after this, whatever its client does: as long as Prometheus waits for a scrape by default.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);
/// A page takes milliseconds; one that takes this long waits for a disk that doesn't answer.
const PAGE_TIME_MAX: Duration = Duration::from_secs(8);
/// Connections at once; a watcher or two need one each. More wait in the system's queue.
const CONNECTIONS_MAX: usize = 32;
/// Pages made at once: one each for `/metrics`, `/health` and links.
const PAGE_THREADS_MAX: usize = 3;
/// Pause after the system refused a connection, for want of file descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Time for pages under way when we stop.
const STOP_TIME_MAX: Duration = Duration::from_secs(1);

/// Tells how things stand, each time someone asks. It may read files; it runs on a thread of its own.
pub type Pages = Arc<dyn Fn() -> Snapshot + Send + Sync>;

/// Why nobody is answered.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address can be reached from elsewhere.
    #[error("{address} is not a loopback address: metrics are served on this machine only")]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The address can't be listened on.
    #[error("can't listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The thread or its runtime can't be made.
    #[error("the metrics server can't start")]
    Start {
        /// The system's answer.
        source: io::Error,
    },
}

impl Coded for ServeError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotLoopback { .. } => "listen-not-loopback",
            Self::Bind { .. } => "listen-failed",
            Self::Start { .. } => "server-not-started",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotLoopback { .. } => Some("write in lastgood.toml: listen = \"127.0.0.1:9464\"".into()),
            Self::Bind { address, .. } => Some(format!("see who has it: ss -ltnp 'sport = :{}'", address.port())),
            Self::Start { .. } => Some("see how many threads and files are allowed: ulimit -a".into()),
        }
    }
}

/// A server that answers; it stops when this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Gives the address it answers on.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tells whether it still answers.
    pub fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Stops answering and waits for pages under way, a second at most.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has stopped as well.
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Listens on a loopback address.
///
/// Errors: [`ServeError::NotLoopback`] before anything is opened; [`ServeError::Bind`].
pub fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    check_loopback(address)?;
    TcpListener::bind(address).map_err(|source| ServeError::Bind { address, source })
}

/// Answers `/metrics` and `/health` on `listener` until the server is stopped or dropped.
///
/// Errors: [`ServeError::NotLoopback`] also for a listener that somebody else opened.
pub fn serve(listener: TcpListener, pages: Pages) -> Result<Server, ServeError> {
    serve_with(listener, pages, None)
}

/// Answers as [`serve`] does, and people's links below the path that comes with `answers`.
///
/// Errors: as [`serve`].
pub fn serve_with(
    listener: TcpListener,
    pages: Pages,
    answers: Option<(&'static str, Answers)>,
) -> Result<Server, ServeError> {
    let starting = |source| ServeError::Start { source };
    let address = listener.local_addr().map_err(starting)?;
    check_loopback(address)?;
    listener.set_nonblocking(true).map_err(starting)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(PAGE_THREADS_MAX)
        .build()
        .map_err(starting)?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener).map_err(starting)?
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = thread::Builder::new()
        .name("metrics".into())
        .spawn(move || {
            runtime.block_on(async {
                let listener = Leading { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) };
                tokio::select! {
                    // Serving never ends by itself.
                    _ = std::future::IntoFuture::into_future(axum::serve(listener, router(pages, answers))) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_timeout(STOP_TIME_MAX);
        })
        .map_err(starting)?;
    Ok(Server { address, stop: Some(stop), thread: Some(thread) })
}

pub(crate) fn check_loopback(address: SocketAddr) -> Result<(), ServeError> {
    if address.ip().is_loopback() { Ok(()) } else { Err(ServeError::NotLoopback { address }) }
}

fn router(pages: Pages, answers: Option<(&'static str, Answers)>) -> Router {
    let answers = answers.map(|(path, answers)| answers::router(path, answers)).unwrap_or_default();
    Router::new()
        .route("/metrics", get(async |State(pages): State<Pages>| closing(answer(pages, metrics_page).await)))
        .route("/health", get(async |State(pages): State<Pages>| closing(answer(pages, health_page).await)))
        .fallback(async || closing(plain(StatusCode::NOT_FOUND, "there are /metrics and /health\n".into())))
        .method_not_allowed_fallback(async || {
            closing(plain(StatusCode::METHOD_NOT_ALLOWED, "these pages are only read\n".into()))
        })
        .with_state(pages)
        .merge(answers)
}

/// Makes a page on a thread that may wait for a disk.
async fn answer(pages: Pages, page: fn(&Snapshot) -> Response) -> Response {
    let made = tokio::task::spawn_blocking(move || page(&pages()));
    match tokio::time::timeout(PAGE_TIME_MAX, made).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made\n".into()),
        Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "the evidence could not be read in time\n".into()),
    }
}

fn metrics_page(snapshot: &Snapshot) -> Response {
    match &snapshot.failure {
        Some(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        None => ([(CONTENT_TYPE, METRICS_TYPE)], metrics(snapshot)).into_response(),
    }
}

fn health_page(snapshot: &Snapshot) -> Response {
    let (well, page) = health(snapshot);
    let code = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, axum::Json(page)).into_response()
}

fn plain(code: StatusCode, text: String) -> Response {
    (code, [(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

/// One answer per connection: a connection is cheap here, and one that ends can't be held open.
fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A listener that gives few connections at once, each for a short time.
struct Leading {
    listener: tokio::net::TcpListener,
    places: Arc<Semaphore>,
}

impl Listener for Leading {
    type Io = Leashed;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Leashed, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let until = Box::pin(sleep(CONNECTION_TIME_MAX));
                    return (Leashed { stream, until, _place: place }, peer);
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails once its time is over, whether its client sends nothing or takes nothing.
struct Leashed {
    stream: TcpStream,
    until: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Leashed {
    fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        act: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match act(Pin::new(&mut self.stream), context) {
            Poll::Pending => {
                ready!(self.until.as_mut().poll(context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            done => done,
        }
    }
}

impl AsyncRead for Leashed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |stream, cx| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Leashed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |stream, cx| stream.poll_shutdown(cx))
    }
}
