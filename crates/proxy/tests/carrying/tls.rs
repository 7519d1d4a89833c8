//! TLS from files: chosen by name, read again, skipped when they can't be read.

use crate::{
    http2,
    service::Service,
    stage::{Stage, body, chat, until},
};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring::default_provider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
    sync::Arc,
};

/// Takes any certificate: which one came is what the tests look at.
#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519, SignatureScheme::RSA_PSS_SHA256]
    }
}

/// Makes a key and a certificate for `name` that it signs itself.
fn make(folder: &Path, file: &str, name: &str) {
    let status = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=test", "-addext", &format!("subjectAltName=DNS:{name}")])
        .arg("-keyout")
        .arg(folder.join(format!("{file}.key")))
        .arg("-out")
        .arg(folder.join(format!("{file}.crt")))
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

fn connect(stage: &Stage, name: &str, protocols: &[&[u8]]) -> Option<StreamOwned<ClientConnection, TcpStream>> {
    shake_hands(stage.connect(), name, protocols)
}

/// Speaks TLS over `stream`; `None` if the other end does not.
pub(crate) fn shake_hands(
    stream: TcpStream,
    name: &str,
    protocols: &[&[u8]],
) -> Option<StreamOwned<ClientConnection, TcpStream>> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned()).unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    stream.conn.complete_io(&mut stream.sock).ok()?;
    Some(stream)
}

/// Tells for which name the certificate is that the proxy showed.
fn shown(stage: &Stage, name: &str) -> Option<String> {
    let stream = connect(stage, name, &[])?;
    let certificate = stream.conn.peer_certificates()?.first()?.to_vec();
    let names = ["one.test", "two.test", "three.test"];
    names
        .into_iter()
        .find(|name| certificate.windows(name.len()).any(|part| part == name.as_bytes()))
        .map(ToOwned::to_owned)
}

pub(crate) fn stage() -> (Stage, tempfile::TempDir) {
    let keys = tempfile::tempdir().unwrap();
    make(keys.path(), "one", "one.test");
    make(keys.path(), "two", "two.test");
    fs::write(keys.path().join("broken.crt"), "no certificate").unwrap();
    let pair = |file: &str| {
        let path = |end: &str| keys.path().join(format!("{file}.{end}"));
        serde_json::json!({ "cert": path("crt"), "key": path("key") })
    };
    let stage = Stage::with(|serving| {
        serving["tls"] = serde_json::json!([pair("broken"), pair("one"), pair("two"), pair("none")])
    });
    (stage, keys)
}

#[test]
fn certificates_are_chosen_by_name_read_again_and_skipped_when_they_are_broken() {
    let (stage, keys) = stage();
    let troubles = stage.control().look(&chat()).unwrap().troubles;
    assert!(
        troubles.len() == 2 && troubles[0].contains("broken.crt") && troubles[1].contains("none.crt"),
        "{troubles:?}"
    );
    assert_eq!(shown(&stage, "two.test").as_deref(), Some("two.test"));
    assert_eq!(shown(&stage, "one.test").as_deref(), Some("one.test"));
    assert_eq!(shown(&stage, "other.test").as_deref(), Some("one.test"));
    make(keys.path(), "none", "three.test");
    until("the new one is shown", || shown(&stage, "three.test").as_deref() == Some("three.test"));
    // A broken file leaves the one before in use.
    fs::write(keys.path().join("none.crt"), "no certificate").unwrap();
    until("it is told", || stage.control().look(&chat()).unwrap().troubles.len() == 3);
    assert_eq!(shown(&stage, "three.test").as_deref(), Some("three.test"));
}

#[test]
fn over_tls_both_protocols_are_spoken_and_the_cookie_is_secure() {
    let (stage, _keys) = stage();
    let service = Service::start("one");
    stage.all_to(service.address);
    let mut stream = connect(&stage, "one.test", &[b"http/1.1"]).unwrap();
    stream.write_all(b"GET /head HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.contains("; Secure\r\n") && body(&answer).contains("X-Forwarded-Proto: https\r\n"), "{answer}");
    let stream = connect(&stage, "one.test", &[b"h2", b"http/1.1"]).unwrap();
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
    let mut client = http2::Client::over(stream);
    let get = [(":method", "GET"), (":scheme", "https"), (":authority", "chat"), (":path", "/hello")];
    client.request(1, &get, None);
    assert_eq!(client.answer(1).0, "one");
    let big: Vec<u8> = vec![b'x'; 300_000];
    client.request(
        3,
        &[(":method", "POST"), (":scheme", "https"), (":authority", "chat"), (":path", "/echo")],
        Some(&big[..60_000]),
    );
    assert_eq!(client.answer(3).0.len(), 60_000);
    let mut stream = connect(&stage, "one.test", &[]).unwrap();
    let post = format!("POST /echo HTTP/1.1\r\nHost: c\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", big.len());
    stream.write_all(&[post.as_bytes(), &big].concat()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.ends_with(&big));
    // Who does not speak TLS is not answered in the clear.
    assert!(!stage.get("/hello", "").contains("HTTP/1.1 200"));
}
