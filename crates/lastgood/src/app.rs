//! What every command needs: the configuration, the store, and who asks.

use crate::{
    exit::Exit,
    outside::{Outside, frozen_by},
    screen::{Screen, Trouble},
    who,
};
use lastgood_domain::{
    event::Event,
    operations::{
        Event as OperationsEvent, Operations, Record as OperationsRecord, Refused,
        approval::{self, Approval, Approvals, Matter, Request, Standing},
        cap::{self, Risky},
        people::{self, Act},
    },
    rollout::{self, Input},
    service::Service,
    terms::{Actor, ApprovalId, ChainName, Digest, ServiceName, Timestamp},
};
use lastgood_engine::{
    config::{Config, ConfigError, FILE_NAME},
    doubt,
    drive::{Log as _, LogError},
    fold::Folded,
    links::Links,
    log::{Route, ServiceLog, chain_of},
    operations::{self, Scope},
    paths::Home,
    world,
};
use lastgood_store::{Reader, Store};
use rustix::{fs::Access, io::Errno};
use std::{
    cell::RefCell,
    collections::BTreeSet,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// What other people must approve.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// What for, as one key: `rca/web/waiver`.
    pub(crate) subject: String,
    /// What would happen, in one sentence.
    pub(crate) what: String,
    /// Digest of everything that is approved: what was asked for and on which state.
    pub(crate) plan: Digest,
    /// How many must say yes besides who asks.
    pub(crate) needed: u32,
    /// Who may; empty is anybody.
    pub(crate) of: BTreeSet<Actor>,
}

impl Ask {
    fn request(&self, now: Timestamp) -> Request {
        Request {
            subject: self.subject.clone(),
            what: self.what.clone(),
            plan: self.plan,
            needed: self.needed,
            of: self.of.clone(),
            expires: now.after(approval::EXPIRES_AFTER),
        }
    }
}

/// The circumstances of one command.
pub(crate) struct App {
    /// How to speak.
    pub(crate) screen: Screen,
    /// The file that was read.
    pub(crate) config_path: PathBuf,
    /// Its content.
    pub(crate) config: Config,
    /// Where lastgood keeps its own.
    pub(crate) home: Home,
    /// Who asks.
    pub(crate) actor: Actor,
}

impl App {
    /// Reads the configuration.
    ///
    /// Errors: exit 2 with file, line and the nearest key.
    pub(crate) fn open(screen: Screen, config_path: Option<&Path>) -> Result<Self, Trouble> {
        let (app, placeholders) = Self::open_unfinished(screen, config_path)?;
        placeholders.first().map_or(Ok(app), |error| Err(Trouble::new(Exit::Usage, error)))
    }

    /// Reads a configuration in which placeholders of `lastgood init` may still stand, and gives those beside it.
    ///
    /// Errors: as [`App::open`], but for placeholders.
    pub(crate) fn open_unfinished(
        screen: Screen,
        config_path: Option<&Path>,
    ) -> Result<(Self, Vec<ConfigError>), Trouble> {
        let config_path = config_path.map_or_else(|| PathBuf::from(FILE_NAME), Path::to_path_buf);
        let (config, placeholders) =
            Config::read_unfinished(&config_path).map_err(|refused| Trouble::of_config(&refused))?;
        let there = config.state_dir.ancestors().find(|ancestor| ancestor.exists());
        if let Some(there) = there.filter(|there| !there.is_dir()) {
            return Err(Trouble::say(
                Exit::Failed,
                "state-dir-unusable",
                format!("state_dir is {}, and {} is a file", config.state_dir.display(), there.display()),
                "name a folder in lastgood.toml: state_dir = \"/var/lib/lastgood\"",
            ));
        }
        let home = Home::at(&config.state_dir);
        let actor = who::actor(&config.state_dir);
        Ok((Self { screen, config_path, config, home, actor }, placeholders))
    }

    /// Opens the store for writing; makes the state folder.
    pub(crate) fn store(&self) -> Result<Store, Trouble> {
        make_state_dir(self.home.root())?;
        let file = self.home.root().join(lastgood_store::EVIDENCE_FILE);
        permitted(self.home.root(), Access::WRITE_OK | Access::EXEC_OK)?;
        permitted(&file, Access::READ_OK | Access::WRITE_OK)?;
        Store::open(self.home.root()).map_err(|error| Trouble::new(Exit::Failed, &error))
    }

    /// Opens the store for looking; none if nothing was ever written.
    pub(crate) fn reader(&self) -> Result<Option<Reader>, Trouble> {
        reader_of(&self.home)
    }

    /// Opens a service's chain for writing, behind what is folded.
    pub(crate) fn log(&self, service: &ServiceName, folded: &Folded) -> Result<ServiceLog, Trouble> {
        Ok(ServiceLog::new(self.store()?, service.clone(), self.routes(), folded))
    }

    /// Gives which endpoint wants which notices.
    pub(crate) fn routes(&self) -> Vec<Route> {
        self.config.routes()
    }

    /// Gives a service's state of now and its place in the chain.
    pub(crate) fn look(&self, service: &ServiceName) -> Result<Folded, Trouble> {
        match self.reader()? {
            None => Ok(Folded::default()),
            Some(reader) => Folded::read(&reader, service).map_err(|error| log_trouble(&error)),
        }
    }

    /// Writes one decision of a person into a service's chain; whoever drives sees it.
    ///
    /// `decide` gets the state and may refuse.
    pub(crate) fn say(
        &self,
        service: &ServiceName,
        decide: impl Fn(&Service) -> Result<Vec<Event>, Trouble>,
    ) -> Result<Service, Trouble> {
        let seen = self.look(service)?;
        let mut log = self.log(service, &seen)?;
        let mut folded = seen.service;
        let people = self.config.people();
        loop {
            for record in log.news().map_err(|error| log_trouble(&error))? {
                folded.apply(&record);
            }
            let mut after = folded.clone();
            let mut records = Vec::new();
            for event in decide(&folded)? {
                if people::opens_service(&after, &event) {
                    self.refuse_in_doubt(&chain_of(service))?;
                }
                let permitted = people.permit_service(&after, &self.actor, &event);
                permitted.map_err(|error| Trouble::new(Exit::NotAllowed, &error))?;
                let said = rollout::step(&after, Input::Say(event), &self.actor, world::now()).map_err(|error| {
                    Trouble::say(
                        Exit::Failed,
                        "step-illegal",
                        error.to_string(),
                        "see where it stands: lastgood status",
                    )
                })?;
                for record in &said {
                    after.apply(record);
                }
                records.extend(said);
            }
            match log.append(&folded, &records) {
                Ok(()) => {
                    lastgood_engine::bell::ring(self.home.root());
                    return Ok(after);
                }
                // Someone wrote in between: decide again on what is there now.
                Err(LogError::Moved) => {}
                Err(error) => return Err(log_trouble(&error)),
            }
        }
    }

    /// Refuses to open anything by a chain that what was signed speaks against: what closed it may be among what is missing.
    ///
    /// Errors: exit 9 names what speaks against it.
    fn refuse_in_doubt(&self, chain: &ChainName) -> Result<(), Trouble> {
        let Some(reader) = self.reader()? else { return Ok(()) };
        let root = self.home.root();
        let doubt = doubt::doubt(&reader, (root, &self.config.anchor()), chain);
        match doubt.map_err(|error| Trouble::new(Exit::Failed, &error))? {
            None => Ok(()),
            Some(failure) => Err(Trouble::say(
                Exit::Refused,
                "evidence-in-doubt",
                format!("nothing is opened while {chain} is in doubt: {}", failure.message),
                "find out what is missing first: lastgood evidence verify",
            )),
        }
    }

    /// Gives what makes links to answer requests by, if there is an address for them.
    ///
    /// Errors: their key can't be used.
    pub(crate) fn links(&self) -> Result<Option<Links>, Trouble> {
        let url = self.config.approvals.as_ref().and_then(|approvals| approvals.url.as_deref());
        let Some(url) = url else { return Ok(None) };
        make_state_dir(self.home.root())?;
        Links::open(self.home.root(), url).map(Some).map_err(|error| Trouble::new(Exit::Failed, &error))
    }

    /// Gives the services that decisions beyond one of them may concern.
    pub(crate) fn scope(&self) -> Scope {
        scope(&self.config)
    }

    /// Gives what people decided beyond one service, as of now.
    pub(crate) fn operations(&self) -> Result<Operations, Trouble> {
        operations_of(&self.home, &self.scope())
    }

    /// Opens the operations chain for writing.
    pub(crate) fn desk(&self) -> Result<operations::Desk, Trouble> {
        Ok(operations::Desk::new(self.store()?, self.scope(), self.routes()))
    }

    /// Writes what somebody decides beyond one service, and its parts in the services' chains; whoever drives sees it.
    ///
    /// Gives the records and the state after them.
    pub(crate) fn say_operations(
        &self,
        decide: &dyn Fn(&Operations) -> Result<Vec<OperationsEvent>, Refused>,
    ) -> Result<(Vec<OperationsRecord>, Operations), Trouble> {
        let mut desk = self.desk()?;
        let refused = RefCell::new(None);
        let decide_unless_in_doubt = |state: &Operations| {
            let events = decide(state)?;
            let opens = events.iter().any(|event| people::opens_wide(state, &self.actor, event));
            match if opens { self.refuse_in_doubt(&operations::chain()) } else { Ok(()) } {
                Ok(()) => Ok(events),
                Err(trouble) => {
                    refused.replace(Some(trouble));
                    Ok(Vec::new())
                }
            }
        };
        let said = desk.say(&self.actor, self.now(), &decide_unless_in_doubt);
        let (records, folded) = said.map_err(|error| Trouble::new(Exit::of_said(&error), error.coded()))?;
        if let Some(trouble) = refused.take() {
            return Err(trouble);
        }
        lastgood_engine::bell::ring(self.home.root());
        Ok((records, folded.state.clone()))
    }

    /// Goes on if other people have approved exactly this plan; else asks them, if they are not asked yet.
    ///
    /// What acts on it asks again inside its own decision, and says there that it is used
    /// ([`lastgood_domain::operations::approval::used`]).
    /// Errors: exit 8 while they are awaited, 3 if one said no to this plan, 4 or 1 if nobody could say yes.
    pub(crate) fn need_approval(&self, ask: &Ask) -> Result<(), Trouble> {
        let now = self.now();
        let request = approval::bound(&self.config.people(), &self.actor, ask.request(now), None, now);
        let mut request = request.map_err(|error| Trouble::new(Exit::Failed, &error))?;
        // What fewer people or others were asked is no answer to this.
        let among_whom = request.of.clone();
        let is_as_strict = |one: &Approval| {
            let of = &one.request.of;
            let among = among_whom.is_empty() || (!of.is_empty() && of.is_subset(&among_whom));
            one.request.needed >= request.needed && among
        };
        let answer = |approvals: &Approvals| {
            let found = approval::answered(approvals, &ask.subject, &ask.plan, now);
            found.filter(|(_, one)| is_as_strict(one)).map(|(id, one)| (*id, one.clone()))
        };
        if request.of.is_empty() {
            request.of = self.config.people().who_may(Act::Approve);
        }
        let asks_a_script = Matter::of(&ask.subject) == Some(Matter::Ask);
        let (_, after) = self.say_operations(&|state| {
            // What was said no to is not asked again in other words, of more people or of others. A script asks for its plan.
            let same = |id: ApprovalId| {
                !asks_a_script || state.approvals.all.get(&id).is_some_and(|one| one.request.plan == ask.plan)
            };
            approval::not_refused(&state.approvals, &ask.subject, same, now)?;
            // Who asks for what was answered gets the answer.
            if answer(&state.approvals).is_some() {
                return Ok(Vec::new());
            }
            let events = approval::request(&state.approvals, &self.actor, request.clone())?;
            Ok(events.into_iter().map(OperationsEvent::Approval).collect())
        })?;
        let (id, one) = answer(&after.approvals).expect("it was just asked for");
        let people = match request.needed {
            1 => "a second person is needed".into(),
            n => format!("{n} other people are needed"),
        };
        match &one.standing {
            Standing::Approved => Ok(()),
            Standing::Rejected { by, reason } => Err(Trouble::say(
                Exit::Declined,
                "approval-rejected",
                format!("{by} said no to {id} ({}): {reason}", one.request.what),
                &format!("see it: lastgood approval show {id}"),
            )),
            _ => Err(Trouble::say(
                Exit::Pending,
                "approval-pending",
                format!(
                    "{people}: asked as {id}, {} of {} said yes, {} left ({})",
                    one.yes.len(),
                    one.request.needed,
                    one.request.expires.since(now),
                    one.request.what
                ),
                &format!("have another person run: lastgood approval approve {id} --plan {}", request.plan.short()),
            )),
        }
    }

    /// Counts something risky that was done and whose own record stands elsewhere; above the cap people are paged.
    ///
    /// What makes things safer was done by now and never waits for this: that it can't be counted is only told.
    pub(crate) fn count_risky(&self, act: Risky) {
        let (caps, now) = (&self.config.caps, self.now());
        if !caps.contains_key(&act) {
            return;
        }
        let counted = self.say_operations(&|state| Ok(cap::count(state, caps, &self.actor, act, now)));
        match counted {
            Err(trouble) => self.screen.trouble(&trouble),
            Ok((_, after)) => {
                let (count, cap) = (after.caps.today(&self.actor, act, now), caps.get(&act).copied());
                if let Some(cap) = cap.filter(|cap| count > *cap) {
                    let act = act.as_str();
                    self.screen
                        .tell(&format!("{} did {count} {act} today, the cap is {cap}: people are paged", self.actor));
                }
            }
        }
    }

    /// Gives what counts something risky that a cap may refuse; none where no cap is set. Written with the act or before it:
    /// the desk refuses it above the cap.
    pub(crate) fn counted(&self, act: Risky) -> Option<OperationsEvent> {
        self.config.caps.contains_key(&act).then_some(OperationsEvent::Risk { act })
    }

    /// Tells before anything else is done whether a cap would refuse it.
    ///
    /// Errors: exit 9, with the numbers and when it is free again.
    pub(crate) fn check_cap(&self, act: Risky) -> Result<(), Trouble> {
        let caps = &self.config.caps;
        let checked = cap::check(&self.operations()?.caps, caps, &self.actor, act, self.now());
        checked.map_err(|error| Trouble::new(Exit::Refused, &error))
    }

    /// Says what stops a service's forward moves and is not in its own chain, if anything does.
    ///
    /// What can't be read stops them: cannot-tell is never yes.
    pub(crate) fn stopped(&self, name: &ServiceName, service: &Service) -> Option<String> {
        self.outside(name).stops(service)
    }

    /// Gives what looks for that while a run is under way.
    pub(crate) fn outside(&self, name: &ServiceName) -> Outside {
        Outside::of(&self.config, &self.home, name)
    }

    /// Says why a freeze file holds everything, if it exists or nobody can tell.
    pub(crate) fn frozen(&self) -> Option<String> {
        frozen_by(&self.config.freeze_file())
    }

    /// Gives the time.
    pub(crate) fn now(&self) -> Timestamp {
        world::now()
    }
}

/// Gives what people decided beyond one service, as of now.
pub(crate) fn operations_of(home: &Home, scope: &Scope) -> Result<Operations, Trouble> {
    let Some(reader) = reader_of(home)? else { return Ok(Operations::default()) };
    let folded = operations::Folded::read(&reader, scope);
    folded.map(|folded| folded.state).map_err(|error| Trouble::new(Exit::Failed, &error))
}

fn reader_of(home: &Home) -> Result<Option<Reader>, Trouble> {
    let file = home.root().join(lastgood_store::EVIDENCE_FILE);
    permitted(home.root(), Access::EXEC_OK)?;
    if !file.exists() {
        return Ok(None);
    }
    permitted(&file, Access::READ_OK)?;
    Reader::open(home.root()).map(Some).map_err(|error| Trouble::new(Exit::Failed, &error))
}

/// Makes trouble of a log that can't be read or written.
pub(crate) fn log_trouble(error: &LogError) -> Trouble {
    Trouble { exit: Exit::Failed, failure: error.failure() }
}

/// Refuses what the system would refuse in the middle: says on what, whose it is, and as whom to run the command.
fn permitted(path: &Path, access: Access) -> Result<(), Trouble> {
    match rustix::fs::access(path, access) {
        Err(Errno::ACCESS | Errno::PERM) => {}
        // What is not there yet, or can't be used for another reason, is said by who uses it.
        _ => return Ok(()),
    }
    let act = if access.contains(Access::WRITE_OK) { "written" } else { "read" };
    let me = who::account(rustix::process::getuid().as_raw());
    let message = |of: &str| format!("permission denied: {} can't be {act} as user {me}{of}", path.display());
    Err(match std::fs::metadata(path) {
        Ok(meta) => {
            let owner = who::account(meta.uid());
            let typed: Vec<String> = std::env::args().skip(1).map(|word| quoted(&word)).collect();
            let hint = format!("run it as {owner}: sudo -u {owner} lastgood {}", typed.join(" "));
            Trouble::say(Exit::NotAllowed, "state-dir-denied", message(&format!(", it belongs to {owner}")), &hint)
        }
        Err(_) => Trouble::say(Exit::NotAllowed, "state-dir-denied", message(""), "run it as root: sudo lastgood …"),
    })
}

/// Quotes a word for a shell, if it must be.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// Gives the services that decisions may concern and the people who may take them.
pub(crate) fn scope(config: &Config) -> Scope {
    let services = config.service.iter().map(|(name, config)| (name.clone(), config.subject()));
    let has_links = config.approvals.as_ref().is_some_and(|approvals| approvals.url.is_some());
    Scope { services: services.collect(), people: config.people(), has_links }
}

fn make_state_dir(path: &Path) -> Result<(), Trouble> {
    use std::os::unix::fs::DirBuilderExt as _;
    // Others may pass through to what is theirs (snapshots, copies), but not look around.
    std::fs::DirBuilder::new().recursive(true).mode(0o711).create(path).map_err(|error| {
        Trouble::say(
            Exit::Failed,
            "state-dir-unusable",
            format!("the state folder {} can't be made: {error}", path.display()),
            "choose another in lastgood.toml: state_dir = \"…\"",
        )
    })
}
