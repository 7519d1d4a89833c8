//! Fuzz targets for what probes read.
#![expect(clippy::unwrap_used, reason = "what can't be unwrapped is what the fuzzer looks for")]

use super::{
    http::{BODY_BYTES_MAX, Request, Response, exchange},
    jar::Jar,
    secrets::Scrubber,
    variables::{Place, expand, names},
    wire::Base,
};
use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener},
    str,
    sync::{Mutex, OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

/// An address is written as it is read.
pub(crate) fn base_address(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(base) = Base::parse(text) else { return };
    let scheme = if base.is_tls { "https" } else { "http" };
    let written = format!("{scheme}://{}{}", base.authority(), base.prefix);
    assert_eq!(Base::parse(&written).ok().as_ref(), Some(&base), "{text:?} is written {written:?}");
    assert!(!written.contains(['\r', '\n']), "{text:?} ends a line of a head");
}

/// A text asks for exactly the variables it names, and what is put in is never read again.
pub(crate) fn variables(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    for place in [Place::Plain, Place::Path, Place::Pattern] {
        let named: Vec<&str> = names(text, place).collect();
        assert_eq!(expand(text, place, &|_| None).err().map(|unknown| unknown.name).as_deref(), named.first().copied());
        let put = expand(text, place, &|_| Some("{again}".into())).unwrap();
        assert!(named.is_empty() || put.contains("again"));
        if named.is_empty() && !text.contains("{{") {
            assert_eq!(put, text);
        }
    }
}

/// What a cookie header says is what was kept, on one line and below a bound.
pub(crate) fn cookie_jar(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let mut jar = Jar::default();
    let mut lines = text.split('\n');
    let path = lines.next().unwrap_or("/");
    for line in lines {
        if let Some((name, value)) = jar.keep(line, path) {
            assert!(!name.is_empty() && !value.contains(char::is_control));
        }
    }
    if let Some(header) = jar.header(path) {
        assert!(!header.contains(['\r', '\n']), "{header:?} ends its line");
        assert!(header.split("; ").count() <= 180);
    }
}

/// Has a real server say `bytes` and close; gives what the probe makes of it.
fn asked(bytes: Vec<u8>) -> Option<Response> {
    struct Server {
        base: Base,
        say: Mutex<mpsc::Sender<Vec<u8>>>,
    }
    static SERVER: OnceLock<Server> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = Base::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        let (say, said) = mpsc::channel::<Vec<u8>>();
        thread::spawn(move || {
            for (stream, bytes) in listener.incoming().zip(said) {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4_096]);
                let _ = stream.write_all(&bytes);
                let _ = stream.shutdown(Shutdown::Write);
            }
        });
        Server { base, say: Mutex::new(say) }
    });
    let say = server.say.lock().unwrap();
    say.send(bytes).unwrap();
    let request = Request { method: "GET".into(), path: "/".into(), headers: Vec::new(), body: None };
    exchange(&server.base, &mut None, &request, Instant::now() + Duration::from_secs(20)).ok()
}

/// An answer over a real connection is read to an end, within its bounds, and alike behind an interim one.
pub(crate) fn probe_answer(bytes: &[u8]) {
    let Some(response) = asked(bytes.to_vec()) else { return };
    assert!((100..=999).contains(&response.status) && response.body.len() <= BODY_BYTES_MAX);
    for (name, value) in &response.headers {
        assert!(!name.is_empty() && !name.contains(char::is_uppercase) && !value.contains('\n'), "{name:?}: {value:?}");
    }
    // One more than is allowed of these is another matter.
    if !bytes.starts_with(b"HTTP/1.1 1") && !bytes.starts_with(b"HTTP/1.0 1") {
        let behind = asked([b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", bytes].concat());
        assert_eq!(behind, Some(response));
    }
}

/// Nothing of a known secret is left in a text.
pub(crate) fn scrubber(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (secret, text) = text.split_once('\n').unwrap_or((text, text));
    // The label itself has these; a secret of a few letters is in every text.
    if secret.len() < 4 || "[secret]".contains(secret) || secret.contains(['[', ']']) {
        return;
    }
    let mut scrubber = Scrubber::default();
    scrubber.add_secret(secret);
    let scrubbed = scrubber.scrub(text);
    assert!(!scrubbed.contains(secret), "{scrubbed:?} still has {secret:?}");
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(!scrubber.scrub(&format!("{text} {hex}")).contains(&hex));
}
