//! Slack incoming webhooks: the address is the secret, the body is one text, refusals are final.

use super::{Delivery, Message, post};
use serde_json::{Value, json};
use std::fmt;
use ureq::Agent;

/// Longest text: Slack cuts at 40,000 characters, people stop reading long before.
const TEXT_CHARS_MAX: usize = 2_000;
/// What is said about a secret that is no address.
pub(super) const URL_WANTED: &str = "an http:// or https:// address";

/// The address of an incoming webhook; never shown.
#[derive(Clone)]
pub(super) struct SecretUrl(String);

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretUrl(…)")
    }
}

impl SecretUrl {
    /// Reads a secret's value.
    pub(super) fn parse(secret: &str) -> Option<Self> {
        let url = secret.trim();
        let uri: ureq::http::Uri = url.parse().ok()?;
        let fits =
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty());
        fits.then(|| Self(url.into()))
    }

    /// Removes the address, and its path alone, from a text that came from outside.
    fn scrub(&self, text: &str) -> String {
        let path = self.0.splitn(4, '/').nth(3).unwrap_or_default();
        let text = text.replace(&self.0, "…");
        if path.is_empty() { text } else { text.replace(path, "…") }
    }
}

/// Posts one message.
pub(super) fn deliver(agent: &Agent, url: &SecretUrl, message: &Message<'_>) -> Delivery {
    let body = json!({ "text": text(message) }).to_string();
    let mut answer = match post::post(agent, &url.0, &[], "application/json", body.as_bytes()) {
        Ok(answer) => answer,
        Err(error) => return post::no_answer(error),
    };
    answer.excerpt = url.scrub(&answer.excerpt);
    match answer.code {
        200..300 => Delivery::Delivered { code: Some(answer.code) },
        // invalid_payload, action_prohibited, channel_not_found, channel_is_archived: no later try is answered otherwise.
        400 | 403 | 404 | 410 => answer.dead(),
        _ => answer.retry(message.attempt_at),
    }
}

/// Makes the text from the event; what is not one of ours is named by its kind and subject.
fn text(message: &Message<'_>) -> String {
    let event: Value = serde_json::from_slice(message.body).unwrap_or_default();
    let part = |name: &str| event["data"][name].as_str().map(escape);
    let mut text = match (part("severity"), part("summary")) {
        (Some(severity), Some(summary)) => format!("*{severity}* {summary}"),
        _ => escape(&format!("{}: {}", message.subject, message.kind)),
    };
    if let Some(hint) = part("hint").filter(|hint| !hint.is_empty()) {
        text.push_str(&format!("\n`{hint}`"));
    }
    let mut text: String = text.chars().take(TEXT_CHARS_MAX).collect();
    // Behind what is cut: half a link is none.
    if let Some(link) = part("link") {
        text.push_str(&format!("\n{link}"));
    }
    text
}

/// Slack reads `<`, `>` and `&` as its own marks: `<!channel>` in a release's name would wake everybody.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
