//! systemd's manager over D-Bus: calls with a time-out, and jobs that are awaited, not polled for.

use super::RuntimeError;
use lastgood_domain::terms::Span;
use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, Instant},
};
use zbus::{
    blocking::{Connection, Proxy, connection::Builder},
    zvariant::{DeserializeValue, DynamicType, ObjectPath, OwnedObjectPath, OwnedValue, Value},
};

/// Longest wait for the bus to take our connection, and for an answer to one call: the bus's own default.
const CALL_WAIT: Duration = Duration::from_secs(25);
/// Results of jobs kept until asked for: many more than run at once; others' jobs are among them.
const RESULTS_MAX: usize = 1_000;

const DESTINATION: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// The interface of every unit.
pub(crate) const UNIT: &str = "org.freedesktop.systemd1.Unit";
/// The interface of service units.
pub(crate) const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// A connection to one systemd.
#[derive(Debug)]
pub(crate) struct Bus {
    connection: Connection,
    jobs: Arc<Jobs>,
}

#[derive(Debug, Default)]
struct Jobs {
    ended: Mutex<Ended>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Ended {
    results: VecDeque<(OwnedObjectPath, String)>,
    closed: bool,
}

/// A process in a unit's cgroup as `GetUnitProcesses` lists it: cgroup, process id, command.
type Process = (String, u32, String);

impl Bus {
    /// Connects to the system's bus or to `address`, and listens for ended jobs.
    pub(crate) fn connect(address: Option<&str>) -> Result<Self, RuntimeError> {
        let shown = address.unwrap_or("the system bus").to_owned();
        let failed = |source| RuntimeError::BusUnreachable { address: shown.clone(), source: Box::new(source) };
        let address = address.map(str::to_owned);
        // Connecting has no time-out of its own, so it is done by a thread that we don't wait for longer.
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let connect = || {
                let builder = match &address {
                    Some(address) => Builder::address(address.as_str())?,
                    None => Builder::system()?,
                };
                let connection = builder.method_timeout(CALL_WAIT).build()?;
                Self::listen(connection)
            };
            let _ = tell.send(connect());
        });
        told.recv_timeout(CALL_WAIT)
            .unwrap_or_else(|_| Err(zbus::Error::InputOutput(Arc::new(std::io::ErrorKind::TimedOut.into()))))
            .map_err(failed)
    }

    fn listen(connection: Connection) -> zbus::Result<Self> {
        let manager = Proxy::new(&connection, DESTINATION, MANAGER_PATH, MANAGER)?;
        let signals = manager.receive_signal("JobRemoved")?;
        // Without it systemd sends no signals at all.
        manager.call_method("Subscribe", &())?;
        let jobs = Arc::new(Jobs::default());
        let heard = Arc::clone(&jobs);
        std::thread::spawn(move || {
            // Ends when the connection does.
            for signal in signals {
                let body = signal.body();
                let Ok((_, job, _, result)) = body.deserialize::<(u32, ObjectPath<'_>, &str, &str)>() else {
                    continue;
                };
                let mut ended = heard.lock();
                if ended.results.len() == RESULTS_MAX {
                    ended.results.pop_front();
                }
                ended.results.push_back((job.into(), result.to_owned()));
                heard.changed.notify_all();
            }
            heard.lock().closed = true;
            heard.changed.notify_all();
        });
        Ok(Self { connection, jobs })
    }

    /// True after the bus has closed the connection; then a new one is needed.
    pub(crate) fn is_closed(&self) -> bool {
        self.jobs.lock().closed
    }

    /// Calls a method of the manager.
    pub(crate) fn call<B, R>(&self, act: &'static str, unit: &str, method: &str, body: &B) -> Result<R, RuntimeError>
    where
        B: serde::Serialize + DynamicType,
        R: for<'d> zbus::zvariant::DynamicDeserialize<'d>,
    {
        self.connection
            .call_method(Some(DESTINATION), MANAGER_PATH, Some(MANAGER), method, body)
            .and_then(|reply| reply.body().deserialize())
            .map_err(|source| refused(act, unit, source))
    }

    /// Calls a method of the manager that starts a job, and waits for the job's result.
    ///
    /// None if it has not ended within `timeout`.
    pub(crate) fn run_job<B>(
        &self,
        act: &'static str,
        unit: &str,
        method: &str,
        body: &B,
        timeout: Span,
    ) -> Result<(OwnedObjectPath, Option<String>), RuntimeError>
    where
        B: serde::Serialize + DynamicType,
    {
        let job: OwnedObjectPath = self.call(act, unit, method, body)?;
        let result = self.wait_job(&job, timeout);
        Ok((job, result))
    }

    /// Waits for the result of a job; none if it has not ended within `timeout` or the bus is gone.
    pub(crate) fn wait_job(&self, job: &OwnedObjectPath, timeout: Span) -> Option<String> {
        let until = Instant::now() + timeout.duration();
        let mut ended = self.jobs.lock();
        loop {
            if let Some(at) = ended.results.iter().position(|(path, _)| path == job) {
                return ended.results.remove(at).map(|(_, result)| result);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || ended.closed {
                return None;
            }
            let waited = self.jobs.changed.wait_timeout(ended, left);
            ended = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Reads one property of a unit.
    pub(crate) fn property<T>(&self, unit: &Unit, interface: &str, name: &str) -> Result<T, RuntimeError>
    where
        T: TryFrom<OwnedValue>,
        T::Error: Into<zbus::Error>,
    {
        self.connection
            .call_method(Some(DESTINATION), &unit.path, Some(PROPERTIES), "Get", &(interface, name))
            .and_then(|reply| reply.body().deserialize::<OwnedValue>())
            .and_then(|value| T::try_from(value).map_err(Into::into))
            .map_err(|source| refused("look at", &unit.name, source))
    }

    /// Reads one property of a unit that is more than one word.
    pub(crate) fn typed<T>(&self, unit: &Unit, interface: &str, name: &str) -> Result<T, RuntimeError>
    where
        T: serde::de::DeserializeOwned + zbus::zvariant::Type,
    {
        self.connection
            .call_method(Some(DESTINATION), &unit.path, Some(PROPERTIES), "Get", &(interface, name))
            .and_then(|reply| reply.body().deserialize::<DeserializeValue<'_, T>>().map(|value| value.0))
            .map_err(|source| refused("look at", &unit.name, source))
    }

    /// Loads a unit by name; one that does not exist loads as well, and says so in its `LoadState`.
    pub(crate) fn load(&self, name: &str) -> Result<Unit, RuntimeError> {
        let path = self.call("load", name, "LoadUnit", &name)?;
        Ok(Unit { name: name.into(), path })
    }

    /// Lists the processes in a unit's cgroup.
    pub(crate) fn processes(&self, unit: &Unit) -> Result<Vec<u32>, RuntimeError> {
        match self.call::<_, Vec<Process>>("list the processes of", &unit.name, "GetUnitProcesses", &unit.name) {
            Ok(found) => Ok(found.into_iter().map(|(_, pid, _)| pid).collect()),
            // systemd forgets a stopped unit, but never one whose cgroup holds a process.
            Err(RuntimeError::UnitMissing { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Moves processes into a scope of their own and waits until they are there.
    pub(crate) fn start_scope(&self, name: &str, description: &str, pids: &[u32]) -> Result<(), RuntimeError> {
        let properties: Vec<(&str, Value<'_>)> = vec![
            ("Description", description.into()),
            ("PIDs", pids.to_vec().into()),
            // Nobody asks for a failed scope's result; without it the name would stay taken.
            ("CollectMode", "inactive-or-failed".into()),
        ];
        let auxiliary: Vec<(&str, Vec<(&str, Value<'_>)>)> = Vec::new();
        let body = (name, "fail", properties, auxiliary);
        let wait = Span(u64::try_from(CALL_WAIT.as_millis()).unwrap_or(u64::MAX));
        match self.run_job("make a scope", name, "StartTransientUnit", &body, wait)?.1.as_deref() {
            Some("done") => Ok(()),
            Some(result) => Err(RuntimeError::JobFailed {
                act: "scope",
                unit: name.into(),
                result: result.into(),
                why: "the process could not be moved".into(),
            }),
            None => Err(RuntimeError::JobTooLong { act: "scope", unit: name.into(), waited: wait }),
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        // Ends the listening thread, which holds a connection handle of its own.
        let _ = self.connection.clone().close();
    }
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A loaded unit.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) name: String,
    path: OwnedObjectPath,
}

fn refused(act: &'static str, unit: &str, source: zbus::Error) -> RuntimeError {
    let unit = unit.to_owned();
    if let zbus::Error::MethodError(name, text, _) = &source {
        let why = text.clone().unwrap_or_default();
        match name.as_str() {
            "org.freedesktop.DBus.Error.AccessDenied"
            | "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired" => {
                return RuntimeError::SystemdForbids { act, unit, why };
            }
            "org.freedesktop.systemd1.NoSuchUnit" | "org.freedesktop.systemd1.UnitMasked" => {
                return RuntimeError::UnitMissing { unit, why };
            }
            _ => {}
        }
    }
    RuntimeError::SystemdRefused { act, unit, source: Box::new(source) }
}
