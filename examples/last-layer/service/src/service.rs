//! The service: listens, answers, and misbehaves as its release says.

use crate::release::befalls;
use crate::rooms::{Rooms, Wake};
use crate::store::{Post, Posted, Store};
use crate::{Fault, LastLayerError, Place, Release, report, socket};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, mpsc as channel};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

/// Longest name of a room and longest id.
const NAME_BYTES_MAX: usize = 64;
/// Longest text of a message.
pub(crate) const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Largest body: a text, and what JSON makes of it.
pub(crate) const BODY_BYTES_MAX: usize = 6 * TEXT_BYTES_MAX;
/// The health page answers within this, or it is ill.
const HEALTH: Duration = Duration::from_secs(2);
/// When told to stop, requests in flight and sockets may take this long.
const FINISH: Duration = Duration::from_secs(5);

/// What every request sees.
pub(crate) struct Service {
    pub(crate) release: Release,
    pub(crate) store: Arc<Store>,
    pub(crate) rooms: Arc<Rooms>,
    /// Becomes true when the process is told to stop.
    pub(crate) stopping: watch::Receiver<bool>,
    /// Held by every open socket; the last one to go lets the process end.
    pub(crate) open_sockets: mpsc::Sender<()>,
    /// The rooms that were asked about; kept by a release that fails by them only.
    asked_about: Mutex<BTreeSet<String>>,
}

impl Service {
    /// Notes the room of a path, and tells whether there are this many or more.
    fn is_full(&self, rooms: usize, path: &str) -> bool {
        let mut asked_about = self.asked_about.lock().unwrap_or_else(PoisonError::into_inner);
        // What is full stays full, and needs no more memory for it.
        if asked_about.len() < rooms {
            asked_about.extend(path.split('/').nth(2).map(str::to_owned));
        }
        asked_about.len() >= rooms
    }
}

/// Serves one release in one place until SIGTERM or SIGINT.
///
/// Migrates first and listens then. Errors: the data, or the address.
pub fn serve(release: &Release, place: &Place) -> Result<(), LastLayerError> {
    let (wake, woken) = channel::channel();
    let committed = wake.clone();
    let told = move || {
        // Without a feeder the process is about to end.
        let _gone = committed.send(Wake::Committed);
    };
    let store = Store::open(&place.data, release, told)?;
    let deaf = |source| LastLayerError::Deaf { address: place.address().to_string(), source };
    let rooms = Rooms::start(&store, release, wake, woken).map_err(deaf)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(deaf)?;
    let served = runtime.block_on(listen(release, place, store, rooms)).map_err(deaf);
    // Reads that still run have nobody left to answer.
    runtime.shutdown_background();
    report("stops");
    served
}

async fn listen(release: &Release, place: &Place, store: Arc<Store>, rooms: Arc<Rooms>) -> std::io::Result<()> {
    let listener = TcpListener::bind(place.address()).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopping) = watch::channel(false);
    let (open_sockets, mut all_closed) = mpsc::channel(1);
    let service = Arc::new(Service {
        release: release.clone(),
        store,
        rooms,
        stopping: stopping.clone(),
        open_sockets,
        asked_about: Mutex::default(),
    });
    report(&format!("{} listens on {}", release.version, listener.local_addr()?));
    if let Fault::Crash { after_ms } = release.fault {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            report("fatal: out of luck");
            std::process::abort();
        });
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.send_replace(true);
    });
    let listener = listener.tap_io(|stream| {
        let _slower_then = stream.set_nodelay(true);
    });
    let routes = routes(Arc::clone(&service));
    drop(service);
    let mut told = stopping.clone();
    let mut until_told = stopping;
    let served = axum::serve(listener, routes).with_graceful_shutdown(async move {
        let _gone = told.wait_for(|stop| *stop).await;
    });
    tokio::select! {
        served = async {
            let served = served.await;
            // Nobody sends on it: it ends when the last socket has let go of its end.
            let _none = all_closed.recv().await;
            served
        } => served,
        () = async {
            let _gone = until_told.wait_for(|stop| *stop).await;
            tokio::time::sleep(FINISH).await;
        } => {
            report("some did not finish in time");
            Ok(())
        }
    }
}

fn routes(service: Arc<Service>) -> Router {
    Router::new()
        .route("/rooms/{room}/messages", get(show).post(post))
        .route("/rooms/{room}/socket", get(socket::open))
        .layer(middleware::from_fn_with_state(Arc::clone(&service), misbehave))
        .route("/health", get(health))
        .route("/version", get(version))
        .layer(middleware::from_fn_with_state(Arc::clone(&service), name_release))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(service)
}

/// Does what the release does wrong with any request.
async fn misbehave(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    match service.release.fault {
        Fault::Errors { percent } if befalls(percent) => {
            return error(StatusCode::INTERNAL_SERVER_ERROR, "something failed here");
        }
        Fault::FullOfRooms { rooms } if service.is_full(rooms, request.uri().path()) => {
            return error(StatusCode::INTERNAL_SERVER_ERROR, "there is no place for another room");
        }
        // The connection ends with its task; nothing is printed, as of one that was cut.
        Fault::Breaks { percent } if befalls(percent) => std::panic::resume_unwind(Box::new(())),
        Fault::Slow { percent, by_ms } if befalls(percent) => {
            tokio::time::sleep(Duration::from_millis(by_ms)).await;
        }
        _ => {}
    }
    next.run(request).await
}

async fn name_release(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Ok(version) = HeaderValue::from_str(&service.release.version) {
        response.headers_mut().insert("x-release", version);
    }
    response
}

/// What a client wants to have stored.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) id: String,
    pub(crate) text: String,
}

impl Wanted {
    /// Makes it a post, or says why it can't be one.
    pub(crate) fn post(self, room: &str) -> Result<Post, &'static str> {
        if !is_name(&self.id) {
            return Err("an id is 1 to 64 of A-Z a-z 0-9 - _ .");
        }
        if self.text.len() > TEXT_BYTES_MAX {
            return Err("a text has at most 65536 bytes");
        }
        Ok(Post { room: room.into(), id: self.id, text: self.text })
    }
}

async fn post(State(service): State<Arc<Service>>, Path(room): Path<String>, body: Bytes) -> Response {
    if !is_name(&room) {
        return error(StatusCode::NOT_FOUND, "there is no such room");
    }
    let Ok(wanted) = serde_json::from_slice::<Wanted>(&body) else {
        return error(StatusCode::UNPROCESSABLE_ENTITY, "the body is {\"id\":\"...\",\"text\":\"...\"}");
    };
    let post = match wanted.post(&room) {
        Ok(post) => post,
        Err(why) => return error(StatusCode::UNPROCESSABLE_ENTITY, why),
    };
    let id = post.id.clone();
    let (tell, told) = oneshot::channel();
    service.store.post(
        post,
        Box::new(move |posted| {
            let _gone = tell.send(posted);
        }),
    );
    match told.await.unwrap_or(Posted::Failed) {
        Posted::New(seq) => answer(StatusCode::CREATED, &json!({ "id": id, "seq": seq })),
        Posted::Before(seq) => answer(StatusCode::OK, &json!({ "id": id, "seq": seq })),
        Posted::Conflict => error(StatusCode::CONFLICT, "another text has this id"),
        Posted::Failed => error(StatusCode::INTERNAL_SERVER_ERROR, "it could not be stored; the log says why"),
    }
}

async fn show(State(service): State<Arc<Service>>, Path(room): Path<String>, RawQuery(query): RawQuery) -> Response {
    let Ok(after) = after_of(query.as_deref()) else {
        return error(StatusCode::BAD_REQUEST, "after is a number");
    };
    let page = service.store.page(&room, after.unwrap_or(0)).await;
    match (page, service.store.last(&room).await) {
        (Ok(page), Ok(last)) => {
            let messages: Vec<Value> = page
                .into_iter()
                .map(|message| json!({ "seq": message.seq, "id": message.id, "text": message.text }))
                .collect();
            let status = match service.release.fault {
                Fault::FallsBack { percent } if befalls(percent) => StatusCode::NON_AUTHORITATIVE_INFORMATION,
                _ => StatusCode::OK,
            };
            answer(status, &json!({ "messages": messages, "last": last }))
        }
        _ => error(StatusCode::INTERNAL_SERVER_ERROR, "it could not be read; the log says why"),
    }
}

async fn health(State(service): State<Arc<Service>>) -> Response {
    let works = async { service.store.beat().await && service.store.page("health", 0).await.is_ok() };
    let stopping = *service.stopping.borrow();
    match tokio::time::timeout(HEALTH, works).await {
        Ok(true) if !stopping => answer(StatusCode::OK, &json!({ "status": "ok", "version": service.release.version })),
        _ => error(StatusCode::SERVICE_UNAVAILABLE, "it can't read and write, or is about to stop"),
    }
}

async fn version(State(service): State<Arc<Service>>) -> Response {
    let release = &service.release;
    answer(StatusCode::OK, &json!({ "version": release.version, "migrations": release.migrations }))
}

/// Tells whether a room or a message may be called so.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Reads `after` of a query.
pub(crate) fn after_of(query: Option<&str>) -> Result<Option<i64>, std::num::ParseIntError> {
    let pairs = query.unwrap_or_default().split('&');
    pairs.filter_map(|pair| pair.strip_prefix("after=")).map(str::parse).next().transpose()
}

pub(crate) fn error(status: StatusCode, reason: &str) -> Response {
    answer(status, &json!({ "error": reason }))
}

fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
