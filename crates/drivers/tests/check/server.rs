//! Real servers on loopback: pages that are written here, and certificates that openssl makes and shows.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

/// Answers every request on a free port with these bytes.
pub(crate) fn pages(answer: impl Fn(&str) -> String + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while reader.read_line(&mut request).is_ok_and(|count| count > 2) {}
            let _ = stream.write_all(answer(&request).as_bytes());
        }
    });
    address
}

/// Takes connections and never says a word.
pub(crate) fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut kept: Vec<TcpStream> = Vec::new();
        kept.extend(listener.incoming().flatten());
    });
    address
}

/// Makes `NAME.key` and `NAME.crt` for a host name, good for some days, signed by itself.
pub(crate) fn certificate(folder: &Path, name: &str, days: u32) {
    let status = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", &days.to_string(), "-subj", "/CN=test"])
        .args(["-addext", &format!("subjectAltName=DNS:{name},DNS:localhost,IP:127.0.0.1")])
        // One that may sign others is no server's.
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(folder.join(format!("{name}.key")))
        .arg("-out")
        .arg(folder.join(format!("{name}.crt")))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

/// `openssl s_server -www`: a real HTTPS server that ends with the test.
pub(crate) struct Tls {
    process: Child,
    pub(crate) port: u16,
}

impl Tls {
    pub(crate) fn start(folder: &Path, name: &str, more: &[&str]) -> Self {
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut process = Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "openssl", "s_server", "-www", "-quiet"])
                .args(["-accept", &format!("127.0.0.1:{port}")])
                .arg("-cert")
                .arg(folder.join(format!("{name}.crt")))
                .arg("-key")
                .arg(folder.join(format!("{name}.key")))
                .args(more)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            loop {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self { process, port };
                }
                if process.try_wait().unwrap().is_some() {
                    break;
                }
                thread::sleep(std::time::Duration::from_millis(20));
            }
        }
        panic!("openssl s_server did not start");
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
