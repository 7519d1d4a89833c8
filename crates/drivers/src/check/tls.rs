//! Certificates: how long they are good for, and for which name.

use super::{
    Sight, Wrong,
    certificate::{self, Validity},
    host,
};
use jiff::Timestamp;
use lastgood_domain::terms::Span;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, Stream,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    io::Write as _,
    net::TcpStream,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Days in milliseconds.
const DAY_MS: i64 = 86_400_000;

/// A certificate, as a server shows it or as it lies in a file. Who signed it is not asked.
///
/// ```toml
/// [preflight.certificate]
/// tls = { address = "notes.example.com:443", days_min = 14 }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsCheck {
    /// Host and port of a server that speaks TLS. Exactly one of `address` and `file` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// A file with the certificate and those it depends on (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The name it must be for. Default: the host of `address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Days for which it must still be good, with those it depends on. Default 14.
    #[serde(default = "two_weeks")]
    pub days_min: u32,
}

const fn two_weeks() -> u32 {
    14
}

impl TlsCheck {
    /// Tells what no single key shows.
    pub fn problem(&self) -> Option<String> {
        match (&self.address, &self.file) {
            (Some(address), None) if host::split(address).is_none() => {
                Some(format!("{address:?} is not host and port, such as notes.example.com:443"))
            }
            (Some(_), None) | (None, Some(_)) => {
                let name = self.name.clone().and_then(|name| ServerName::try_from(name).err());
                name.map(|_| "name is no name of a host".into())
            }
            _ => Some("give either address or file".into()),
        }
    }

    pub(super) fn needs_network(&self) -> bool {
        let name = self.address.as_deref().and_then(host::split);
        self.address.is_some() && !name.is_some_and(|(name, _)| host::is_here(name))
    }

    pub(super) fn look(&self, sight: &Sight) -> Result<String, Wrong> {
        let (chain, place, name, fix) = match (&self.address, &self.file) {
            (Some(address), _) => {
                let (host, _) = host::split(address).unwrap_or((address, 0));
                let name = self.name.clone().unwrap_or_else(|| host.to_owned());
                let fix = format!("openssl s_client -connect {address} -servername {name} </dev/null");
                (shown_by(address, &name, sight, &fix)?, address.clone(), Some(name), fix)
            }
            (None, file) => {
                let file = sight.folder.join(file.as_deref().unwrap_or(Path::new("")));
                let fix = format!("openssl x509 -noout -dates -ext subjectAltName -in {}", file.display());
                (held_by(&file, &fix)?, file.display().to_string(), self.name.clone(), fix)
            }
        };
        if let Some(name) = &name {
            name_fits(&chain[0], name, &place, &fix)?;
        }
        let mut left = i64::MAX;
        for one in &chain {
            left = left.min(self.time_left(one, sight.now, &place, &fix)?);
        }
        Ok(format!("the certificate of {place} is good for {} days", left / DAY_MS))
    }

    /// Gives for how many milliseconds a certificate is still good.
    fn time_left(&self, one: &CertificateDer<'_>, now: Timestamp, place: &str, fix: &str) -> Result<i64, Wrong> {
        let validity = certificate::validity(one).ok_or_else(|| {
            let what = format!("the certificate of {place} can't be read");
            Wrong::unknown("preflight-tls-unreadable", what, fix)
        })?;
        let Validity { not_before, not_after } = validity;
        if now < not_before {
            let ahead = Span(u64::try_from(not_before.as_millisecond() - now.as_millisecond()).unwrap_or(0));
            let what = format!("the certificate of {place} is good only from {ahead} on");
            return Err(Wrong::fails("preflight-tls-expires", what, fix));
        }
        let left = not_after.as_millisecond() - now.as_millisecond();
        if left < i64::from(self.days_min) * DAY_MS {
            let what = match left / DAY_MS {
                _ if left < 0 => format!("the certificate of {place} expired on {}", not_after.strftime("%F")),
                days => {
                    format!("the certificate of {place} is good for {days} days, at least {} wanted", self.days_min)
                }
            };
            return Err(Wrong::fails("preflight-tls-expires", what, format!("renew it, then: {fix}")));
        }
        Ok(left)
    }
}

fn name_fits(leaf: &CertificateDer<'_>, name: &str, place: &str, fix: &str) -> Result<(), Wrong> {
    let unreadable = || {
        let what = format!("the certificate of {place} can't be read");
        Wrong::unknown("preflight-tls-unreadable", what, fix)
    };
    let known = webpki::EndEntityCert::try_from(leaf).map_err(|_| unreadable())?;
    let wanted = ServerName::try_from(name.to_owned()).map_err(|_| unreadable())?;
    known.verify_is_valid_for_subject_name(&wanted).map_err(|_| {
        let names: Vec<&str> = known.valid_dns_names().take(5).collect();
        let for_whom = if names.is_empty() { "no name".into() } else { names.join(", ") };
        let what = format!("the certificate of {place} is not for {name}, but for {for_whom}");
        Wrong::fails("preflight-tls-name", what, fix)
    })
}

/// Shakes hands with a server and gives the certificates it shows, the server's own first.
fn shown_by(address: &str, name: &str, sight: &Sight, fix: &str) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let unknown = |why: String| {
        Wrong::unknown("preflight-tls-unreachable", format!("{address} shows no certificate: {why}"), fix)
    };
    let (host, port) = host::split(address).ok_or_else(|| unknown("it is no address".into()))?;
    let mut why = unknown("it has no address".into());
    for address in host::resolve(host, port)? {
        match shake_hands(address, name, sight) {
            Ok(chain) => return Ok(chain),
            Err(error) => why = unknown(error),
        }
    }
    Err(why)
}

fn shake_hands(
    address: std::net::SocketAddr,
    name: &str,
    sight: &Sight,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    let mut socket = TcpStream::connect_timeout(&address, sight.left()).map_err(|error| error.to_string())?;
    // Each read may take all that is left; whoever asked doesn't wait for longer than the whole.
    socket.set_read_timeout(Some(sight.left())).map_err(|error| error.to_string())?;
    socket.set_write_timeout(Some(sight.left())).map_err(|error| error.to_string())?;
    let shaken = Stream::new(&mut connection, &mut socket).flush().map_err(|error| error.to_string());
    // A server that asks for a certificate of ours has shown its own before it refuses us.
    match (connection.peer_certificates(), shaken) {
        (Some(chain), _) if !chain.is_empty() => Ok(chain.iter().map(|one| one.clone().into_owned()).collect()),
        (_, Err(error)) => Err(error),
        (_, Ok(())) => Err("it shows none".into()),
    }
}

fn held_by(file: &Path, fix: &str) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let unreadable = |why: String| Wrong::unknown("preflight-tls-unreadable", format!("{} {why}", file.display()), fix);
    let all: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(format!("can't be read: {error}")))?;
    if all.is_empty() { Err(unreadable("holds no certificate".into())) } else { Ok(all) }
}

/// Takes any certificate: it is looked at, not trusted. Nothing is sent to who shows it.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
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
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
