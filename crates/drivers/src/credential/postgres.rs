//! A PostgreSQL role's password. The server gets SCRAM verifiers made here: no clear password is sent to it or logged by it.

use super::{Credential, CredentialError, Done, Tried, config::Doors, value, value::Value};
use crate::sql::{
    Address,
    postgres::{Session, Trouble},
};
use postgres_protocol::password::scram_sha_256;
use std::time::{Duration, Instant};

/// `invalid_password`: the only answer that says something about the password.
const WRONG_PASSWORD: &str = "28P01";
/// A session ends at its next step; one that works hard is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Gives the role a password nobody knows, and ends its sessions.
pub(super) fn revoke(credential: &Credential, role: &str) -> Result<Done, CredentialError> {
    let until = deadline(credential);
    let nobody_s = value::fresh(&Value { text: String::new(), line_break: false })?;
    let mut session = admin(credential, "revoke", role, until)?;
    let failed = |trouble| act_failed(credential, "revoke", &trouble);
    alter(&mut session, role, &nobody_s).map_err(failed)?;
    let others = format!("usename = {} AND pid <> pg_catalog.pg_backend_pid()", text(role));
    let end = format!("SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE {others}");
    let mut ended = 0;
    loop {
        let found = session.query(&end, 10_000).map_err(failed)?.rows.len();
        ended = ended.max(found);
        match found {
            0 => break,
            _ if Instant::now() >= until => {
                let why = format!("{found} sessions of the role do not end");
                return Err(CredentialError::ActFailed { name: credential.name.clone(), act: "revoke", why });
            }
            _ => std::thread::sleep(ASK_AGAIN),
        }
    }
    session.close();
    Ok(Done::say(format!("role {role} has a password that nobody knows; sessions of it that were ended: {ended}")))
}

/// Has the server accept a password.
pub(super) fn set(credential: &Credential, role: &str, new: &Value) -> Result<(), CredentialError> {
    let mut session = admin(credential, "rotate", role, deadline(credential))?;
    alter(&mut session, role, new).map_err(|trouble| act_failed(credential, "rotate", &trouble))?;
    session.close();
    Ok(())
}

/// Tries a password that must be refused at every door.
pub(super) fn try_old(
    credential: &Credential,
    role: &str,
    doors: &Doors,
    old: &Value,
) -> Result<(Tried, String), CredentialError> {
    let doors = addresses(credential, role, doors)?;
    for door in &doors {
        if knock(credential, door, old)? == Tried::Accepted {
            return Ok((Tried::Accepted, format!("at {door}")));
        }
    }
    Ok((Tried::Refused, at(&doors)))
}

/// Tries a password that must be accepted at every door.
pub(super) fn try_new(
    credential: &Credential,
    role: &str,
    doors: &Doors,
    new: &Value,
) -> Result<(Tried, String), CredentialError> {
    let doors = addresses(credential, role, doors)?;
    for door in &doors {
        if knock(credential, door, new)? == Tried::Refused {
            return Ok((Tried::Refused, format!("at {door}")));
        }
    }
    Ok((Tried::Accepted, at(&doors)))
}

fn at(doors: &[Address]) -> String {
    format!("at {}", doors.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and at "))
}

fn knock(credential: &Credential, door: &Address, password: &Value) -> Result<Tried, CredentialError> {
    match Session::connect(door, Some(&password.text), deadline(credential)) {
        Ok(session) => {
            session.close();
            Ok(Tried::Accepted)
        }
        Err(Trouble::LogInRefused(said)) if said.code == WRONG_PASSWORD => Ok(Tried::Refused),
        // No rule for it, no such role, nobody there: nothing is known of the password.
        Err(trouble) => {
            let why = format!("{door}: {}", words(&trouble));
            Err(CredentialError::CannotTell { name: credential.name.clone(), why })
        }
    }
}

fn addresses(credential: &Credential, role: &str, doors: &Doors) -> Result<Vec<Address>, CredentialError> {
    match doors.addresses.as_slice() {
        [] => Ok(vec![server(credential, "prove")?.0.with_user(role)]),
        doors => Ok(doors.to_vec()),
    }
}

fn server<'c>(
    credential: &'c Credential,
    act: &'static str,
) -> Result<(&'c Address, Option<&'c str>), CredentialError> {
    credential.server.as_ref().and_then(|database| database.server()).ok_or_else(|| {
        let why = "its database is no PostgreSQL server".into();
        CredentialError::ActFailed { name: credential.name.clone(), act, why }
    })
}

fn admin(credential: &Credential, act: &'static str, role: &str, until: Instant) -> Result<Session, CredentialError> {
    let (address, password) = server(credential, act)?;
    if address.user() == role {
        let why = format!("role {role} can't revoke itself; name a database with another role");
        return Err(CredentialError::ActFailed { name: credential.name.clone(), act, why });
    }
    let session = Session::connect(address, password, until);
    session.map_err(|trouble| act_failed(credential, act, &trouble))
}

fn alter(session: &mut Session, role: &str, value: &Value) -> Result<(), Trouble> {
    let verifier = scram_sha_256(value.text.as_bytes());
    session.command(&format!("ALTER ROLE \"{}\" PASSWORD {}", role.replace('"', "\"\""), text(&verifier)))
}

fn act_failed(credential: &Credential, act: &'static str, trouble: &Trouble) -> CredentialError {
    CredentialError::ActFailed { name: credential.name.clone(), act, why: words(trouble) }
}

fn words(trouble: &Trouble) -> String {
    match trouble {
        Trouble::Unreachable(why) => format!("the server can't be reached: {why}"),
        Trouble::LogInRefused(said) => format!("the server refuses the log-in: {said}"),
        Trouble::Refused(said) => format!("the server refuses it: {said}"),
        Trouble::TimedOut => "the server did not answer in time".into(),
        Trouble::TooLong(bytes) => format!("the server answers with more than {bytes} bytes"),
    }
}

fn deadline(credential: &Credential) -> Instant {
    Instant::now() + credential.timeout.duration()
}

fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
