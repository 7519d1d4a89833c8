//! Ending a client's connection so that it can't take what it has for the whole.

use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A client's end that can be broken off.
pub(crate) trait BreaksOff {
    /// Ends it with an error, as the client sees it; nothing may be written any more.
    fn break_off(&mut self);
}

impl BreaksOff for TcpStream {
    fn break_off(&mut self) {
        // What is closed at once is reset. If that can't be set the client is gone already.
        let _ = rustix::net::sockopt::set_socket_linger(&*self, Some(Duration::ZERO));
    }
}

impl BreaksOff for TlsStream<TcpStream> {
    fn break_off(&mut self) {
        self.get_mut().0.break_off();
    }
}
