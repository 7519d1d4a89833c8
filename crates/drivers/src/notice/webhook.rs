//! Signed POSTs as Standard Webhooks 1.0 says: the stored bytes, signed anew for each attempt.

use super::{Delivery, Message, post};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::fmt;
use ureq::Agent;

/// The prefix that tells a signing secret from other secrets.
const SECRET_PREFIX: &str = "whsec_";
/// Shorter keys can be guessed, longer ones are hashed down anyway: the standard's range.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// What is said about a secret that is not of this form.
pub(super) const SECRET_WANTED: &str = "whsec_ and base64 of 24 to 64 bytes";
/// The body is a CloudEvent in structured mode.
const CONTENT_TYPE: &str = "application/cloudevents+json";

/// A key that signs; never shown.
#[derive(Clone)]
pub(super) struct SigningKey(Vec<u8>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl SigningKey {
    /// Reads a secret's value.
    pub(super) fn parse(secret: &str) -> Option<Self> {
        let bytes = STANDARD.decode(secret.trim().strip_prefix(SECRET_PREFIX)?).ok()?;
        SECRET_BYTES.contains(&bytes.len()).then_some(Self(bytes))
    }

    /// Signs `id.seconds.body`.
    fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of every length");
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// Posts one message.
pub(super) fn deliver(agent: &Agent, url: &str, keys: &[SigningKey], message: &Message<'_>) -> Delivery {
    let seconds = message.attempt_at.0.div_euclid(1_000);
    let signatures: Vec<_> = keys.iter().map(|key| key.sign(message.id, seconds, message.body)).collect();
    let headers = [
        ("webhook-id", message.id),
        ("webhook-timestamp", &seconds.to_string()),
        ("webhook-signature", &signatures.join(" ")),
    ];
    let answer = match post::post(agent, url, &headers, CONTENT_TYPE, message.body) {
        Ok(answer) => answer,
        Err(error) => return post::no_answer(error),
    };
    match answer.code {
        200..300 => Delivery::Delivered { code: Some(answer.code) },
        410 => Delivery::Gone { code: Some(410), class: "http-410".into(), why: answer.in_words() },
        // The bytes are what is refused, and they never change.
        400 | 413 | 415 | 422 => answer.dead(),
        // A wrong secret, address or redirect is mended by a person meanwhile; the rest mends itself.
        _ => answer.retry(message.attempt_at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_test_vector_is_signed_as_published() {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_of_another_form_does_not_sign_and_is_not_shown() {
        for bad in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_short", "whsec_AAAA", "whsec_%%%"] {
            assert!(SigningKey::parse(bad).is_none(), "{bad} was taken");
        }
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        assert_eq!(format!("{key:?}"), "SigningKey(…)");
    }
}
