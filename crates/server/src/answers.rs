//! The pages behind links by which people answer requests. A look changes nothing, whoever follows the link, so that
//! programs that open links in messages do no harm; only a sent form answers.

mod page;

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{
            CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER,
            X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        },
    },
    middleware::map_response,
    response::{IntoResponse as _, Response},
    routing::get,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// Longest form: a reason of 500 characters, each at most twelve bytes as forms are sent.
const FORM_BYTES_MAX: usize = 8 * 1024;
/// Requests with a link that is not valid in one [`RATE_SPAN`], of everybody together: some people and the programs that look
/// at their mail need a few.
const RATE_MAX: u32 = 120;
/// See [`RATE_MAX`].
const RATE_SPAN: Duration = Duration::from_secs(60);
/// Made at once, so that metrics and health always have a thread left.
const AT_ONCE_MAX: usize = 1;
/// One that takes this long waits for a disk that doesn't answer.
const TIME_MAX: Duration = Duration::from_secs(8);

/// What somebody sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// Yes.
    Approve,
    /// No, with what was written as the reason.
    Reject(String),
}

/// What a page shows. Texts are plain; they are made safe here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// The HTTP status.
    pub status: u16,
    /// The heading.
    pub heading: String,
    /// What has to be known first, in a sentence.
    pub says: String,
    /// What there is to know, by name.
    pub facts: Vec<(&'static str, String)>,
    /// What would be done, in order: one line each, and whether it can't be undone.
    pub steps: Vec<(String, bool)>,
    /// Whether an answer can be sent.
    pub open: bool,
}

/// Answers what follows [`crate::answers`]' path in a link's address: without a form it looks.
pub type Answers = Arc<dyn Fn(&str, Option<Form>) -> Shown + Send + Sync>;

#[derive(Clone)]
struct Counter {
    answers: Answers,
    rate: Arc<Mutex<(Instant, u32)>>,
    places: Arc<Semaphore>,
}

/// Makes the routes below `path`.
pub(crate) fn router(path: &str, answers: Answers) -> Router {
    let policy = format!(
        "default-src 'none'; style-src '{}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        page::style_digest()
    );
    let policy = HeaderValue::from_str(&policy).expect("base64 and fixed words");
    let counter = Counter {
        answers,
        rate: Arc::new(Mutex::new((Instant::now(), 0))),
        places: Arc::new(Semaphore::new(AT_ONCE_MAX)),
    };
    Router::new()
        .route(&format!("{path}/{{ticket}}"), get(look).post(send))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .with_state(counter)
        .layer(map_response(move |response: Response| {
            let policy = policy.clone();
            async move { guarded(response, &policy) }
        }))
}

async fn look(State(counter): State<Counter>, Path(ticket): Path<String>) -> Response {
    counter.answer(ticket, None).await
}

async fn send(State(counter): State<Counter>, Path(ticket): Path<String>, form: Bytes) -> Response {
    match parse(&form) {
        Some(form) => counter.answer(ticket, Some(form)).await,
        None => page(&Shown { status: 400, heading: "This is no answer".into(), ..Shown::default() }),
    }
}

impl Counter {
    async fn answer(self, ticket: String, form: Option<Form>) -> Response {
        let says = "Nothing is known to have been decided. Look again, or answer on the machine itself.".into();
        let failed = Shown { status: 503, heading: "It can't be done now".into(), says, ..Shown::default() };
        let answers = Arc::clone(&self.answers);
        let made = async {
            let _place = self.places.acquire().await.ok()?;
            tokio::task::spawn_blocking(move || answers(&ticket, form)).await.ok()
        };
        let made = tokio::time::timeout(TIME_MAX, made).await;
        let shown = made.ok().flatten().unwrap_or(failed);
        // A stranger who reaches the port must not close the links of those who have one.
        if shown.status == StatusCode::NOT_FOUND && self.is_too_much() {
            let says = "Wait a minute, or answer on the machine itself: lastgood approval list".into();
            let heading = "Too many requests".into();
            let mut response = page(&Shown { status: 429, heading, says, ..Shown::default() });
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
            return response;
        }
        page(&shown)
    }

    fn is_too_much(&self) -> bool {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        if rate.0.elapsed() >= RATE_SPAN {
            *rate = (Instant::now(), 0);
        }
        rate.1 = rate.1.saturating_add(1);
        rate.1 > RATE_MAX
    }
}

fn page(shown: &Shown) -> Response {
    let status = StatusCode::from_u16(shown.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(CONTENT_TYPE, "text/html; charset=utf-8")], page::html(shown)).into_response()
}

/// Says of every answer below our path, refusals of the server's own too, how it may be used.
fn guarded(mut response: Response, policy: &HeaderValue) -> Response {
    let fixed: [(HeaderName, &str); 6] = [
        (CACHE_CONTROL, "no-store"),
        (CONNECTION, "close"),
        // The address is the secret: it goes nowhere with a click.
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("x-robots-tag"), "noindex"),
    ];
    let headers = response.headers_mut();
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(CONTENT_SECURITY_POLICY, policy.clone());
    response
}

/// Reads a sent form.
fn parse(form: &[u8]) -> Option<Form> {
    let form = std::str::from_utf8(form).ok()?;
    let part = |name: &str| form.split('&').filter_map(|part| part.split_once('=')).find(|(key, _)| *key == name);
    match part("answer")?.1 {
        "approve" => Some(Form::Approve),
        "reject" => Some(Form::Reject(decoded(part("reason").map_or("", |(_, value)| value)))),
        _ => None,
    }
}

/// Decodes one value of a form; what is no UTF-8 is replaced.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default();
                bytes.push(u8::try_from(digit(*high) * 16 + digit(*low)).unwrap_or_default());
                rest = after;
            }
            (b'+', _) => bytes.push(b' '),
            (other, _) => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A fuzz target: a reason comes back from its escaped form, and a form says one thing or nothing.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn answer_form(bytes: &[u8]) {
    if let Some(Form::Reject(reason)) = parse(bytes) {
        let escaped: String = reason.bytes().map(|byte| format!("%{byte:02x}")).collect();
        assert_eq!(parse(format!("reason={escaped}&answer=reject").as_bytes()), Some(Form::Reject(reason)));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let plain: String = text.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        let form = format!("answer=reject&reason={plain}");
        assert_eq!(parse(form.as_bytes()), Some(Form::Reject(plain)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_says_yes_or_no_with_a_reason_and_nothing_else_is_an_answer() {
        assert_eq!(parse(b"answer=approve"), Some(Form::Approve));
        let no = |text: &str| Some(Form::Reject(text.into()));
        assert_eq!(parse(b"answer=reject&reason=not+now%2C+%C3%A4%26b"), no("not now, \u{e4}&b"));
        assert_eq!(parse(b"reason=%&answer=reject"), no("%"));
        assert_eq!(parse(b"answer=reject&reason=%zz%4"), no("%zz%4"));
        assert_eq!(parse(b"answer=reject"), no(""));
        for wrong in ["", "answer", "answer=", "answer=Approve", "answer=yes", "approve", "reason=x"] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(parse(b"answer=approve\xff"), None);
    }
}
