//! Certificates from files: read again when they change, skipped when they can't be read.

use crate::{carry::Alarm, carry::site::locked, settings::Certificate};
use rustls::{
    ServerConfig,
    crypto::ring::{default_provider, sign},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use std::{
    fs,
    future::poll_fn,
    path::Path,
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::SystemTime,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// Size and time of a certificate's two files, by which a change is seen.
type Stamp = [Option<(SystemTime, u64)>; 2];

/// The certificates of one service.
#[derive(Debug)]
pub(crate) struct Keys {
    files: Vec<Certificate>,
    stamps: Mutex<Vec<Option<Stamp>>>,
    chosen: Arc<Chosen>,
    config: Arc<ServerConfig>,
}

/// The certificates that could be read, in the order of the settings.
#[derive(Debug, Default)]
struct Chosen(Mutex<Vec<Option<Arc<CertifiedKey>>>>);

impl ResolvesServerCert for Chosen {
    /// Gives the first that is for the host that the client names, else the first of all.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let keys = locked(&self.0);
        let named = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let fits = |key: &&Arc<CertifiedKey>| {
            let certificate = key.cert.first().and_then(|cert| webpki::EndEntityCert::try_from(cert).ok());
            let names = named.as_ref().zip(certificate);
            names.is_some_and(|(name, cert)| cert.verify_is_valid_for_subject_name(name).is_ok())
        };
        keys.iter().flatten().find(fits).or_else(|| keys.iter().flatten().next()).cloned()
    }
}

impl Keys {
    /// Reads what can be read; what can't is told to `report` and skipped.
    pub(crate) fn open(files: &[Certificate], report: &mut Vec<String>) -> Result<Self, rustls::Error> {
        let chosen = Arc::new(Chosen::default());
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(chosen.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let keys = Self {
            files: files.to_vec(),
            stamps: Mutex::new(vec![None; files.len()]),
            chosen,
            config: Arc::new(config),
        };
        *locked(&keys.chosen.0) = vec![None; files.len()];
        keys.read_changed(report);
        Ok(keys)
    }

    /// Reads those again whose files have changed; one that can't be read leaves the one before in use.
    pub(crate) fn read_changed(&self, report: &mut Vec<String>) {
        for (at, files) in self.files.iter().enumerate() {
            let stamp = [&files.cert, &files.key]
                .map(|path| fs::metadata(path).and_then(|data| Ok((data.modified()?, data.len()))).ok());
            if locked(&self.stamps)[at].replace(stamp) == Some(stamp) {
                continue;
            }
            match read(&files.cert, &files.key) {
                Ok(key) => locked(&self.chosen.0)[at] = Some(Arc::new(key)),
                Err(why) => report.push(format!("certificate {}: {why}", files.cert.display())),
            }
        }
    }

    /// Shakes hands; tells whether HTTP/2 was agreed on. `None` if the client can't or is too slow.
    pub(crate) async fn shake_hands(&self, stream: TcpStream, alarm: &Alarm) -> Option<(TlsStream<TcpStream>, bool)> {
        let mut shaking = pin!(TlsAcceptor::from(self.config.clone()).accept(stream));
        let shaken = poll_fn(|cx| {
            alarm.attach(cx);
            match alarm.poll() {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => shaking.as_mut().poll(cx).map(Result::ok),
            }
        });
        let stream = shaken.await?;
        let speaks_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Some((stream, speaks_http2))
    }
}

fn read(cert: &Path, key: &Path) -> Result<CertifiedKey, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert).map_err(|error| error.to_string())?.collect();
    let chain = chain.map_err(|error| error.to_string())?;
    if chain.is_empty() {
        return Err("there is no certificate in it".into());
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("its key: {error}"))?;
    let key = sign::any_supported_type(&key).map_err(|error| format!("its key: {error}"))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(error) => Err(format!("its key: {error}")),
    }
}
