//! The users of the service as a program of their own; see the library.

use clap::Parser;
use last_layer::load::{self, Load};
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

/// Many real clients over one address; exits with 0 only if no message was lost, doubled or out of order.
#[derive(Debug, Parser)]
#[command(name = "last-layer-load")]
struct Arguments {
    /// Where the service, or a proxy before it, listens.
    #[arg(long)]
    address: SocketAddr,
    /// How many clients; every other one posts over its socket, the rest over HTTP, and all listen.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    clients: u32,
    /// How many rooms they are spread over.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    rooms: u32,
    /// Messages of each client.
    #[arg(long, default_value_t = u64::MAX)]
    messages: u64,
    /// How long new messages are sent, such as 500ms, 10s or 5m.
    #[arg(long = "for", default_value = "10s", value_parser = length)]
    time: Duration,
    /// Between a client's acknowledgement and its next message.
    #[arg(long, default_value = "50ms", value_parser = length)]
    pause: Duration,
}

fn length(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(split);
    let count: u64 = count.parse().map_err(|_| format!("{text} is no length of time such as 10s"))?;
    match unit {
        "ms" => Ok(Duration::from_millis(count)),
        "s" => Ok(Duration::from_secs(count)),
        "m" => Ok(Duration::from_secs(count.saturating_mul(60))),
        _ => Err(format!("{text} is no length of time such as 500ms, 10s or 5m")),
    }
}

fn main() -> ExitCode {
    let Arguments { address, clients, rooms, messages, time, pause } = Arguments::parse();
    // A day is longer than any load should be, and an Instant must not overflow.
    let time = time.min(Duration::from_secs(86_400));
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(cause) => {
            let _gone = writeln!(std::io::stderr(), "last-layer-load: {cause}");
            return ExitCode::FAILURE;
        }
    };
    let report = runtime.block_on(load::run(Load { address, clients, rooms, messages, time, pause }));
    let text = serde_json::to_string_pretty(&report).unwrap_or_default();
    let written = writeln!(std::io::stdout(), "{text}");
    if report.holds && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
