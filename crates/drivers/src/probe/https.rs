//! HTTPS for front doors that are reached as users reach them. Slower to set up than the plain client.

use super::{
    http::{BODY_BYTES_MAX, Request, Response},
    wire::{Base, Trouble},
};
use std::{io::Read as _, time::Instant};

/// Keeps connections between the requests of a run.
pub(crate) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .allow_non_standard_methods(true)
        // A probe asks the instance, not what a proxy remembers of it.
        .proxy(None)
        .user_agent(super::run::USER_AGENT)
        .accept_encoding("identity")
        .build()
        .new_agent()
}

/// Sends a request and reads the answer to its end.
pub(crate) fn exchange(
    agent: &ureq::Agent,
    base: &Base,
    request: &Request,
    until: Instant,
) -> Result<Response, Trouble> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Trouble::timeout("no answer in time"));
    }
    let mut builder = ureq::http::Request::builder().method(request.method.as_str()).uri(format!(
        "https://{}{}{}",
        base.authority(),
        base.prefix,
        request.path
    ));
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    let unfit = |error: ureq::http::Error| Trouble::config(format!("a request that can't be sent ({error})"));
    let answer = match &request.body {
        Some(body) => agent.run(within(agent, builder.body(body.as_str()).map_err(unfit)?, left)),
        None => agent.run(within(agent, builder.body(()).map_err(unfit)?, left)),
    };
    let mut answer = answer.map_err(|error| trouble(&error))?;
    let status = answer.status().as_u16();
    let text = |value: &ureq::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = answer.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let mut body = Vec::new();
    let limit = BODY_BYTES_MAX as u64 + 1;
    answer
        .body_mut()
        .as_reader()
        .take(limit)
        .read_to_end(&mut body)
        .map_err(|error| Trouble::of_io(&error, &format!("status {status} and only a part of the body")))?;
    if body.len() > BODY_BYTES_MAX {
        return Err(Trouble::failed(format!("a body of more than {BODY_BYTES_MAX} bytes")));
    }
    Ok(Response { status, headers, body })
}

fn within<B: ureq::AsSendBody>(
    agent: &ureq::Agent,
    request: ureq::http::Request<B>,
    left: std::time::Duration,
) -> ureq::http::Request<B> {
    agent.configure_request(request).timeout_global(Some(left)).build()
}

fn trouble(error: &ureq::Error) -> Trouble {
    match error {
        ureq::Error::Timeout(_) => Trouble::timeout("no answer in time"),
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => {
            Trouble::unreachable(format!("no connection ({error})"))
        }
        ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => {
            Trouble::unreachable(format!("no connection ({io})"))
        }
        other => Trouble::failed(format!("no answer ({other})")),
    }
}
