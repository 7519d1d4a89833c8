//! A proxy process for tests: settings from the file that is named, troubles to stderr, stopped by the control socket.

use lastgood_domain::failure::Coded as _;
use lastgood_proxy::{Proxy, Settings};
use std::{io::Write as _, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let path = std::env::args().nth(1).unwrap_or_default();
    let started = Settings::read(Path::new(&path)).map_err(Into::into).and_then(Proxy::start);
    match started {
        Ok(proxy) => {
            for trouble in proxy.troubles() {
                let _ = writeln!(std::io::stderr(), "{trouble}");
            }
            proxy.wait();
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{}: {error} {}", error.code(), error.hint().unwrap_or_default());
            ExitCode::FAILURE
        }
    }
}
