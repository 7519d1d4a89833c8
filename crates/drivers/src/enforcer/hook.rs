//! A bare repository on this machine: a pre-receive hook that needs neither lastgood nor its daemon to be alive.
//!
//! Each hold is a file in the repository that the hook reads. It is read back by running the hook as git does, on a
//! push that is made up: what it would refuse is what is enforced.

use super::{EnforcerError, Found, Held, WhenUnreadable, is_id, program};
use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The hook, with two places to fill in.
const HOOK: &str = include_str!("pre-receive.sh");
/// What each version of it has in its second line.
const MARK: &str = "# lastgood pre-receive ";
/// Begins the line of a commit that passes, in a hold's file.
const PASS: &str = "pass=";
/// Where it keeps a hook that was there before.
const BEFORE: &str = "pre-receive.before-lastgood";
const ZERO: &str = "0000000000000000000000000000000000000000";
const ONE: &str = "1111111111111111111111111111111111111111";

/// A repository whose branches are held by a hook.
#[derive(Debug)]
pub(super) struct GitHook {
    repository: PathBuf,
    branches: Vec<String>,
    when_unreadable: WhenUnreadable,
    timeout: Duration,
}

impl GitHook {
    pub(super) fn new(
        repository: PathBuf,
        branches: Vec<String>,
        when_unreadable: WhenUnreadable,
        timeout: Duration,
    ) -> Self {
        Self { repository, branches, when_unreadable, timeout }
    }

    /// Gives the hook as it must stand there.
    fn text(&self) -> String {
        let branches: Vec<String> = self.branches.iter().map(|branch| format!("refs/heads/{branch}")).collect();
        let unreadable = match self.when_unreadable {
            WhenUnreadable::Refuse => "refuse",
            WhenUnreadable::Allow => "allow",
        };
        HOOK.replace("@BRANCHES@", &branches.join(" ")).replace("@UNREADABLE@", unreadable)
    }

    fn holds(&self) -> PathBuf {
        self.repository.join("lastgood").join("holds")
    }

    /// Asks git where it looks for the hook: `core.hooksPath` may name another folder.
    fn hook(&self) -> Result<PathBuf, EnforcerError> {
        // The repository may belong to the git server's user; nothing of it is executed here.
        let argv = ["git", "-c", "safe.directory=*", "rev-parse", "--git-path", "hooks/pre-receive"];
        if !self.repository.join("HEAD").is_file() {
            let what = format!("{} is no bare git repository", self.repository.display());
            return Err(EnforcerError::repository(what));
        }
        // The git that takes pushes runs as somebody else: what our own account has configured is not what it reads.
        let ours = [("GIT_CONFIG_GLOBAL", "/dev/null")];
        let ended = program::run(&argv, Some(&self.repository), &ours, "", self.timeout)?;
        match (ended.code, ended.out.trim_end()) {
            (Some(0), path) if !path.is_empty() => Ok(self.repository.join(path)),
            _ => Err(EnforcerError::repository(format!(
                "git does not know {}: {}",
                self.repository.display(),
                ended.complaint.trim()
            ))),
        }
    }

    /// Runs the hook on a push to each held branch and takes what stops all of them.
    pub(super) fn read(&self) -> Result<Found, EnforcerError> {
        let hook = self.hook()?;
        let remark = |what: String| Ok(Found { remark: Some(what), ..Found::default() });
        match fs::read_to_string(&hook) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return remark(format!("there is no hook {}", hook.display()));
            }
            Err(error) => return Err(cant("be read", &hook, &error)),
            // Somebody else's hook is not run: it might do more than answer.
            Ok(text) if text != self.text() => return remark(format!("the hook {} is not lastgood's", hook.display())),
            Ok(_) => {}
        }
        let mode = fs::metadata(&hook).map_err(|error| cant("be read", &hook, &error))?.permissions().mode();
        if mode & 0o111 == 0 {
            return remark(format!("the hook {} is not executable: git passes over it", hook.display()));
        }
        let mut all: Option<BTreeSet<String>> = None;
        for branch in &self.branches {
            let name = format!("refs/heads/{}", branch.replace('*', "x"));
            let argv = [hook.to_str().unwrap_or_default(), "read-back"];
            let push = format!("{ZERO} {ONE} {name}\n");
            let ended = program::run(&argv, Some(&self.repository), &[("GIT_DIR", ".")], &push, self.timeout)?;
            let stops: BTreeSet<String> = match ended.code {
                Some(0) => BTreeSet::new(),
                _ => ended.complaint.lines().filter_map(|line| stop(line, &name)).collect(),
            };
            all = Some(match all {
                None => stops,
                Some(before) => before.intersection(&stops).cloned().collect(),
            });
        }
        let holds = all.unwrap_or_default();
        let passes = holds.iter().map(|id| Ok((id.clone(), self.passes(id)?))).collect::<Result<_, EnforcerError>>()?;
        Ok(Found { holds, passes: Some(passes), ..Found::default() })
    }

    /// Gives the commits that a hold lets through now, by the lines that the hook reads.
    fn passes(&self, id: &str) -> Result<BTreeSet<String>, EnforcerError> {
        let file = self.holds().join(id);
        let text = match fs::read_to_string(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            text => text.map_err(|error| cant("be read", &file, &error))?,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let open = text.lines().filter_map(|line| line.strip_prefix(PASS)?.split_once(' '));
        let open = open.filter(|(_, until)| until.parse::<u64>().is_ok_and(|until| now < until));
        Ok(open.map(|(commit, _)| commit.to_owned()).collect())
    }

    pub(super) fn set(&self, hold: &Held) -> Result<(), EnforcerError> {
        let holds = self.holds();
        fs::create_dir_all(&holds).map_err(|error| cant("be made", &holds, &error))?;
        for folder in [self.repository.join("lastgood"), holds.clone()] {
            // The hook runs as whoever pushes.
            let open = fs::set_permissions(&folder, Permissions::from_mode(0o755));
            open.map_err(|error| cant("be opened to who pushes", &folder, &error))?;
        }
        let until = hold.until_seconds.unwrap_or(0).max(0);
        let mut text = format!("until={until}\nowner={}\nreason={}\n", hold.owner, hold.reason);
        text.extend(hold.passes.iter().map(|(commit, until)| format!("{PASS}{commit} {until}\n")));
        // The hold first: a hook that stands before its folder would refuse for want of it.
        write(&holds.join(&hold.id), &text, 0o644)?;
        self.install()
    }

    pub(super) fn lift(&self, id: &str) -> Result<(), EnforcerError> {
        let file = self.holds().join(id);
        match fs::remove_file(&file) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(cant("be removed", &file, &error)),
        }
    }

    /// Puts the hook there, and keeps one that is not ours beside it.
    fn install(&self) -> Result<(), EnforcerError> {
        let (hook, wanted) = (self.hook()?, self.text());
        let folder = hook.parent().unwrap_or(&self.repository);
        fs::create_dir_all(folder).map_err(|error| cant("be made", folder, &error))?;
        match fs::read_to_string(&hook) {
            Ok(text) if text == wanted => {
                let run = fs::set_permissions(&hook, Permissions::from_mode(0o755));
                return run.map_err(|error| cant("be made executable", &hook, &error));
            }
            Ok(text) if text.lines().nth(1).is_some_and(|line| line.starts_with(MARK)) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Also one that is no text.
            _ => {
                let before = folder.join(BEFORE);
                if before.exists() {
                    let (hook, before) = (hook.display(), before.display());
                    let what = format!("{hook} is not lastgood's, and {before} is there already: make one of them");
                    return Err(EnforcerError::repository(what));
                }
                fs::rename(&hook, &before).map_err(|error| cant("be kept", &hook, &error))?;
            }
        }
        write(&hook, &wanted, 0o755)
    }
}

/// Takes the hold out of a line that a pusher would read.
fn stop(line: &str, name: &str) -> Option<String> {
    let rest = line.strip_prefix("lastgood: ")?.strip_prefix(name)?.strip_prefix(" is held by ")?;
    let (id, _) = rest.split_once(',')?;
    is_id(id).then(|| id.to_owned())
}

fn cant(act: &str, path: &Path, error: &io::Error) -> EnforcerError {
    EnforcerError::repository(format!("{} can't {act}: {}", path.display(), error.kind()))
}

/// Writes a file whole or not at all, in the place of whatever is there.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), EnforcerError> {
    let failed = |error: io::Error| cant("be written", path, &error);
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".lastgood-").tempfile_in(folder).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.as_file().set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map(drop).map_err(|error| failed(error.error))
}
