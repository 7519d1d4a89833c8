//! A running proxy: its threads, its clock, and what can be asked of it.

mod seconds;

use crate::{
    carry::{
        Alarms, Door, Site,
        lane::{Arrived, Lane},
        now_ms, now_seconds,
        site::locked,
        unix_ms,
    },
    control::{
        server,
        tables::Tables,
        takeover::{self, Link},
    },
    error::ProxyError,
    front::{self, Socket},
    settings::Settings,
    tls::Keys,
};
use lastgood_domain::{
    terms::ServiceName,
    traffic::{
        Share, Side, Table,
        wire::{Heard, Live, Look, SOCKET},
    },
};
use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// How often deadlines are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long tunnels may take to close after a stop's grace.
const STOP_TUNNELS_MS: u64 = 10_000;
/// Troubles that are kept for those who look.
const TROUBLES_MAX: usize = 100;

/// A table in use, and whether it is on disk.
#[derive(Debug)]
struct InUse {
    table: Arc<Table>,
    is_stored: bool,
}

/// Why a table was refused.
pub(crate) struct NotRouted {
    pub(crate) why: String,
    pub(crate) epoch: Option<u64>,
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    doors: Vec<Arc<Door>>,
    lanes: Vec<Arc<Lane>>,
    sockets: Mutex<Arc<Vec<Socket>>>,
    tables: Tables,
    in_use: Mutex<BTreeMap<ServiceName, InUse>>,
    /// Tables are refused: somebody else takes over.
    is_handing_over: AtomicBool,
    stopping: Arc<AtomicBool>,
    /// When a stop ends tunnels, in milliseconds of [`now_ms`]; 0 for never.
    tunnels_until: Arc<AtomicU64>,
    /// Its other end wakes the front when it is dropped.
    wake: Mutex<Option<OwnedFd>>,
    /// The proxy that ran before and still finishes what it has.
    before: Mutex<Option<Link>>,
    troubles: Mutex<Vec<String>>,
    /// The last second that is finished: what the rings have of later ones is still growing.
    finished: AtomicU64,
    /// How often finished seconds were asked for.
    were_read: AtomicU64,
    state_dir: PathBuf,
}

impl Proxy {
    /// Starts one: takes over from the one that runs, if there is one, and carries from then on.
    ///
    /// Tables and certificates that can't be read are skipped and told by [`Proxy::troubles`].
    pub fn start(settings: Settings) -> Result<Arc<Self>, ProxyError> {
        settings.check()?;
        // As many connections as the system allows; the limit of the settings is for each service.
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
        let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
        let unusable = |source| ProxyError::State { path: settings.state_dir.clone(), source };
        let tables = Tables::open(&settings.state_dir).map_err(unusable)?;
        let taken = takeover::take(&settings.state_dir.join(SOCKET)).map_err(ProxyError::HandOver)?;
        let mut troubles = Vec::new();
        let stopping = Arc::new(AtomicBool::new(false));
        let tunnels_until = Arc::new(AtomicU64::new(0));
        let doors: Vec<Arc<Door>> = settings
            .services
            .iter()
            .map(|(service, serving)| {
                Arc::new(Door::new(service.clone(), serving.clone(), stopping.clone(), tunnels_until.clone()))
            })
            .collect();
        // One that was killed may have left another one behind that still finishes what it has.
        let orphan = if taken.is_none() { takeover::orphan(&settings.state_dir) } else { None };
        let (link, mut given, heard) = match taken {
            Some(taken) => (Some(taken.link), taken.sockets, taken.heard),
            None => (None, Vec::new(), Vec::new()),
        };
        // The lease goes on as it was there; without anybody before nobody knows how old the tables are.
        for Heard { service, ago } in heard {
            doors.iter().filter(|door| door.service == service).for_each(|door| door.hear(ago.0));
        }
        let mut sockets = Vec::new();
        for (at, door) in doors.iter().enumerate() {
            for address in &door.serving.listen {
                let handed = given
                    .iter()
                    .position(|(listening, _)| listening.service == door.service && listening.address == *address);
                let socket = match handed {
                    Some(handed) => {
                        Socket { service: at, address: *address, listener: given.swap_remove(handed).1.into() }
                    }
                    None => Socket::open(at, *address)?,
                };
                sockets.push(socket);
            }
        }
        let keys = keys(&doors, &mut troubles)?;
        let threads =
            settings.threads.map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from);
        let lanes: Vec<Arc<Lane>> = (0..threads)
            .map(|_| {
                let alarms = Arc::new(Alarms::default());
                let sites = doors.iter().map(|door| Arc::new(Site::new(door.clone(), alarms.clone()))).collect();
                Arc::new(Lane { alarms, sites, keys: keys.clone() })
            })
            .collect();
        let (wake, woken) = rustix::pipe::pipe().map_err(|error| ProxyError::Thread(error.into()))?;
        let proxy = Arc::new(Self {
            doors,
            lanes,
            sockets: Mutex::new(Arc::new(sockets)),
            tables,
            in_use: Mutex::default(),
            is_handing_over: AtomicBool::new(false),
            stopping,
            tunnels_until,
            wake: Mutex::new(Some(woken)),
            before: Mutex::default(),
            troubles: Mutex::new(troubles),
            finished: AtomicU64::new(unix_ms() / 1_000 - 1),
            were_read: AtomicU64::new(0),
            state_dir: settings.state_dir.clone(),
        });
        proxy.read_tables();
        proxy.start_threads(wake)?;
        server::listen(&proxy, &settings.state_dir).map_err(unusable)?;
        if let Some(mut link) = link {
            // The old one stops accepting only now: there was no moment without anybody who accepts.
            link.ready().map_err(ProxyError::HandOver)?;
            *locked(&proxy.before) = Some(link);
        } else {
            *locked(&proxy.before) = orphan;
        }
        Ok(proxy)
    }

    /// Takes what the proxy before has counted meanwhile.
    fn inherit(&self) {
        for door in &self.doors {
            let slices = self.ask_before(|link| link.slices(&door.service)).into_iter().flatten();
            slices.for_each(|slice| locked(&door.ring).merge(slice));
        }
    }

    /// Asks the proxy before; `None` if there is none. If it was killed there may be one behind it: whoever serves looks
    /// for it, and nobody who has handed over, so that no two are behind each other.
    fn ask_before<T>(&self, mut ask: impl FnMut(&mut Link) -> io::Result<T>) -> Option<T> {
        let mut before = locked(&self.before);
        let told = ask(before.as_mut()?);
        if told.is_err() {
            let serves = !self.has_handed_over();
            *before = before.as_ref().filter(|_| serves).and_then(|link| link.behind(&self.state_dir));
            return ask(before.as_mut()?).ok();
        }
        told.ok()
    }

    /// Tells whether another process has taken over.
    pub(crate) fn has_handed_over(&self) -> bool {
        self.is_handing_over.load(Ordering::Acquire) && self.stopping.load(Ordering::Acquire)
    }

    fn start_threads(self: &Arc<Self>, wake: OwnedFd) -> Result<(), ProxyError> {
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.into()).spawn(run).map(drop).map_err(ProxyError::Thread)
        };
        let mut senders: Vec<(Arc<Lane>, UnboundedSender<Arrived>)> = Vec::new();
        for (at, lane) in self.lanes.iter().enumerate() {
            let (sender, arrivals) = unbounded_channel();
            senders.push((lane.clone(), sender));
            let (lane, proxy) = (lane.clone(), self.clone());
            let run = move || {
                if let Err(error) = lane.run(arrivals) {
                    proxy.trouble(format!("a thread carries nothing: {error}"));
                }
            };
            spawn(&format!("carry-{at}"), Box::new(run))?;
        }
        let proxy = self.clone();
        let front = move || {
            let sockets = locked(&proxy.sockets).clone();
            front::accept(&sockets, &proxy.doors, &senders, &proxy.stopping, &wake);
            drop(sockets);
            // With the last reference the sockets are closed, so that nobody waits in a queue that is not served.
            *locked(&proxy.sockets) = Arc::default();
        };
        spawn("front", Box::new(front))?;
        let proxy = self.clone();
        spawn("clock", Box::new(move || proxy.clock()))
    }

    fn read_tables(&self) {
        for door in &self.doors {
            match self.tables.read(&door.service) {
                Ok(Some(table)) => {
                    self.apply(&table);
                    let in_use = InUse { table: Arc::new(table), is_stored: true };
                    locked(&self.in_use).insert(door.service.clone(), in_use);
                }
                Ok(None) => {}
                Err(why) => self.trouble(why),
            }
        }
    }

    /// Notes that a service's table was told just now.
    fn hear(&self, service: &ServiceName) {
        self.doors.iter().filter(|door| door.service == *service).for_each(|door| door.hear(0));
    }

    /// Tells how long ago each table was told.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        let heard = |door: &Arc<Door>| Some(Heard { service: door.service.clone(), ago: door.unheard()? });
        self.doors.iter().filter_map(heard).collect()
    }

    fn apply(&self, table: &Table) {
        for site in self.lanes.iter().flat_map(|lane| &lane.sites) {
            if site.door.service == table.service {
                site.route(table);
            }
        }
    }

    /// Uses a table from now on, stores it, and gives its epoch; the same one again is no error.
    pub(crate) fn route(&self, table: Table) -> Result<u64, NotRouted> {
        let mut in_use = locked(&self.in_use);
        let current = in_use.get(&table.service);
        let epoch = current.map(|current| current.table.epoch);
        let refused = |why: String| Err(NotRouted { why, epoch });
        if self.is_handing_over.load(Ordering::Acquire) {
            return refused("another proxy takes over: ask again, at the socket as it is then".into());
        }
        self.use_table(table, &mut in_use, epoch)
    }

    /// The same for the one who took over, who tells what it was told.
    pub(crate) fn route_along(&self, table: Table) -> Result<u64, NotRouted> {
        let mut in_use = locked(&self.in_use);
        let epoch = in_use.get(&table.service).map(|current| current.table.epoch);
        if in_use.get(&table.service).is_some_and(|current| *current.table == table) {
            self.hear(&table.service);
            self.tell_before(&table);
            return Ok(table.epoch);
        }
        if epoch.is_none_or(|epoch| epoch < table.epoch) {
            let newer = table.epoch;
            self.hear(&table.service);
            self.apply(&table);
            self.tell_before(&table);
            in_use.insert(table.service.clone(), InUse { table: Arc::new(table), is_stored: true });
            return Ok(newer);
        }
        Ok(epoch.unwrap_or(0))
    }

    fn use_table(
        &self,
        table: Table,
        in_use: &mut BTreeMap<ServiceName, InUse>,
        epoch: Option<u64>,
    ) -> Result<u64, NotRouted> {
        let refused = |why: String| Err(NotRouted { why, epoch });
        if !self.doors.iter().any(|door| door.service == table.service) {
            return refused(format!("{} is not served here", table.service));
        }
        if let Err(error) = table.check() {
            return refused(error.to_string());
        }
        let current = in_use.get(&table.service);
        if let Some(current) = current {
            let is_same = *current.table == table;
            if is_same && current.is_stored {
                // Told again, it says that the switches stand as they stood.
                self.hear(&table.service);
                self.tell_before(&table);
                return Ok(table.epoch);
            }
            if !is_same && current.table.epoch >= table.epoch {
                return refused(format!("its epoch {} is not newer than {}", table.epoch, current.table.epoch));
            }
        }
        // What gives a candidate more is stored first: it is watched only once it is confirmed, and a share that nobody
        // watches must not begin.
        let gains = gains(in_use.get(&table.service).map(|current| &*current.table), &table);
        if gains && let Err(error) = self.tables.write(&table) {
            let why = format!("it can't be stored, and is not used: {error}");
            self.trouble(why.clone());
            return Err(NotRouted { why, epoch });
        }
        self.hear(&table.service);
        self.apply(&table);
        self.tell_before(&table);
        // All else is in use first: a slow disk must not keep a way back waiting.
        let stored = if gains { Ok(()) } else { self.tables.write(&table) };
        let (newer, service) = (table.epoch, table.service.clone());
        in_use.insert(service, InUse { table: Arc::new(table), is_stored: stored.is_ok() });
        match stored {
            Ok(()) => Ok(newer),
            Err(error) => {
                let why = format!("it is used, but can't be stored: {error}");
                self.trouble(why.clone());
                Err(NotRouted { why, epoch: Some(newer) })
            }
        }
    }

    fn tell_before(&self, table: &Table) {
        self.ask_before(|link| link.route(table));
    }

    /// Tells what goes on at a service; `None` if it is not served here.
    pub(crate) fn look(&self, service: &ServiceName) -> Option<Look> {
        let at = self.doors.iter().position(|door| door.service == *service)?;
        let mut look = Look {
            epoch: locked(&self.in_use).get(service).map(|in_use| in_use.table.epoch),
            pid: std::process::id(),
            releases: Vec::new(),
            troubles: locked(&self.troubles).clone(),
        };
        for (release, people) in self.doors[at].all_people() {
            look.releases.push(Live { release, in_flight: 0, tunnels: 0, people: people.count(now_seconds()) });
        }
        for lane in &self.lanes {
            for live in lane.sites[at].live() {
                match look.releases.iter_mut().find(|mine| mine.release == live.release) {
                    Some(mine) => {
                        mine.in_flight += live.in_flight;
                        mine.tunnels += live.tunnels;
                    }
                    None => look.releases.push(live),
                }
            }
        }
        self.ask_before(|link| link.look(service)).into_iter().for_each(|theirs| look.merge(theirs));
        Some(look)
    }

    /// Stops: accepts nothing more, finishes what runs; after `grace` tunnels are closed with 1012.
    pub fn stop(&self, grace: Duration) {
        let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.tunnels_until.store(now_ms().saturating_add(grace), Ordering::Relaxed);
        self.stop_accepting();
    }

    /// Stops accepting; requests and tunnels last as long as they do.
    pub(crate) fn stop_accepting(&self) {
        self.stopping.store(true, Ordering::Release);
        // Closing this end wakes the front.
        drop(locked(&self.wake).take());
    }

    /// Refuses tables from now on, or takes them again.
    pub(crate) fn handing_over(&self, is_handing_over: bool) {
        // Whoever is within `route` is through before this returns.
        let _in_use = locked(&self.in_use);
        self.is_handing_over.store(is_handing_over, Ordering::Release);
    }

    /// Gives the listening sockets.
    pub(crate) fn sockets(&self) -> Arc<Vec<Socket>> {
        locked(&self.sockets).clone()
    }

    pub(crate) fn doors(&self) -> &[Arc<Door>] {
        &self.doors
    }

    /// Waits until it was stopped and nothing runs any more.
    pub fn wait(&self) {
        loop {
            thread::sleep(LOOK / 2);
            if !self.stopping.load(Ordering::Relaxed) {
                continue;
            }
            let running: usize = self.lanes.iter().map(|lane| lane.alarms.len()).sum();
            let until = self.tunnels_until.load(Ordering::Relaxed);
            // Another one still finishes what it has: its tables and counts go through here.
            let is_between = self.has_handed_over() && locked(&self.before).is_some();
            let is_late = until != 0 && until.saturating_add(STOP_TUNNELS_MS) <= now_ms();
            if (running == 0 && !is_between) || is_late {
                self.leave_counts();
                let _ = fs::remove_file(server::own_socket(&self.state_dir, std::process::id()));
                return;
            }
        }
    }

    /// Lists what could not be read and was skipped, oldest first.
    pub fn troubles(&self) -> Vec<String> {
        locked(&self.troubles).clone()
    }

    fn trouble(&self, trouble: String) {
        let mut troubles = locked(&self.troubles);
        troubles.push(trouble);
        let surplus = troubles.len().saturating_sub(TROUBLES_MAX);
        troubles.drain(..surplus);
    }
}

/// Tells whether a table gives its candidate more than it has.
fn gains(current: Option<&Table>, table: &Table) -> bool {
    let Some(candidate) = &table.candidate else { return false };
    let has = current.map_or(Share::NONE, |current| {
        let is_it = |side: &&Side| side.release == candidate.release;
        match (current.last_good.as_ref().filter(is_it), current.candidate.as_ref().filter(is_it)) {
            (Some(_), _) => Share::ALL,
            (None, Some(_)) => current.share,
            (None, None) => Share::NONE,
        }
    });
    table.share > has
}

fn keys(doors: &[Arc<Door>], troubles: &mut Vec<String>) -> Result<Vec<Option<Arc<Keys>>>, ProxyError> {
    let open = |door: &Arc<Door>| match &door.serving.tls[..] {
        [] => Ok(None),
        files => Keys::open(files, troubles).map(|keys| Some(Arc::new(keys))).map_err(ProxyError::Tls),
    };
    doors.iter().map(open).collect()
}
