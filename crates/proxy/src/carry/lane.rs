//! One thread that carries: it takes connections from the front and runs a task for each.

use super::{Alarms, BreaksOff, Buf, Site, Watched, client::Client, http2, site::Entered};
use crate::{http::rewrite::Asker, tls::Keys};
use std::{
    net::{SocketAddr, TcpStream as StdStream},
    sync::Arc,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc,
};

/// A connection on its way from the front to a thread.
pub(crate) struct Arrived {
    pub(crate) stream: StdStream,
    pub(crate) from: SocketAddr,
    pub(crate) entered: Entered,
    pub(crate) alarm: Watched,
    /// Which service, in the order of the settings.
    pub(crate) service: usize,
}

/// What the front and the clock know of one thread.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) alarms: Arc<Alarms>,
    pub(crate) sites: Vec<Arc<Site>>,
    pub(crate) keys: Vec<Option<Arc<Keys>>>,
}

impl Lane {
    /// Carries until the front drops its end and the last connection is over; blocks this thread.
    ///
    /// Errors: the system gives no event queue.
    pub(crate) fn run(&self, mut arrivals: mpsc::UnboundedReceiver<Arrived>) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            while let Some(arrived) = arrivals.recv().await {
                self.take(arrived);
            }
            // The front is gone: the process ends when the last connection has, and says so by exiting.
            std::future::pending::<()>().await;
        });
        Ok(())
    }

    fn take(&self, arrived: Arrived) {
        let Arrived { stream, from, entered, alarm, service } = arrived;
        // Errors here mean that the client is gone already.
        let Ok(stream) = TcpStream::from_std(stream) else { return };
        let _ = stream.set_nodelay(true);
        let site = self.sites[service].clone();
        let keys = self.keys[service].clone();
        let address = from.ip().to_canonical();
        let asker = Asker { address, secure: keys.is_some(), trusted: site.door.is_trusted(address) };
        // Two kinds of tasks, so that one without TLS has no room for it.
        match keys {
            None => drop(tokio::spawn(async move {
                let _entered = entered;
                carry(Client { stream, buf: Buf::default(), alarm, site, asker }).await;
            })),
            Some(keys) => drop(tokio::spawn(async move {
                let _entered = entered;
                alarm.set(site.door.serving.limits.header_seconds);
                let Some((stream, speaks_http2)) = Box::pin(keys.shake_hands(stream, &alarm)).await else { return };
                alarm.clear();
                let client = Client { stream, buf: Buf::default(), alarm, site, asker };
                if speaks_http2 { Box::pin(http2::serve(client)).await } else { carry(client).await }
            })),
        }
    }
}

async fn carry<S: AsyncRead + AsyncWrite + BreaksOff + Unpin + Send + 'static>(client: Client<S>) {
    if let Some(client) = client.serve().await {
        Box::pin(http2::serve(client)).await;
    }
}
