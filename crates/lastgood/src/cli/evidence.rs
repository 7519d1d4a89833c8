//! `lastgood evidence`: verify, export, sign.

use super::Ended;
use crate::{app::App, exit::Exit, screen::Trouble};
use clap::Subcommand;
use lastgood_domain::{
    operations::people::Act,
    terms::{Actor, ChainName, Reason},
    words,
};
use lastgood_engine::{log::chain_of, operations, switches};
use lastgood_store::{Anchor, Finding, KeyError, Reader, Signer, Store, Verification};
use serde_json::json;
use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

/// Verify, export and sign the evidence log.
#[derive(Debug, Subcommand)]
pub(crate) enum Evidence {
    /// Verify every chain, checkpoint and notice against the signatures; print the first bad position.
    Verify,
    /// Export a service's records to a file that `lastgood-verify` can check on any machine.
    Export {
        /// The service, or a chain such as switches/production or operations [default: the only service].
        service: Option<String>,
        /// The output file.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// Only this record, with an inclusion proof.
        #[arg(long, value_name = "EVENT")]
        only: Option<u64>,
    },
    /// Sign the head of every chain and copy the signature to the anchor.
    Checkpoint,
    /// Acknowledge that the log was rewound, and continue.
    Acknowledge {
        /// The service, or a chain such as switches/production or operations.
        service: String,
        /// Why it was rewound.
        #[arg(long)]
        reason: Reason,
    },
}

impl Evidence {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        match self {
            Self::Verify => verify(app),
            Self::Export { service, to, only } => export(app, service.as_deref(), &to, only),
            Self::Checkpoint => checkpoint(app),
            Self::Acknowledge { service, reason } => acknowledge(app, &service, reason),
        }
    }
}

fn failed(error: &dyn lastgood_domain::failure::Coded) -> Trouble {
    Trouble::new(Exit::Failed, error)
}

fn reader(app: &App) -> Result<Reader, Trouble> {
    app.reader()?.ok_or_else(|| {
        Trouble::say(Exit::CannotTell, "evidence-none", "there is no evidence yet", "make some: lastgood run")
    })
}

/// Opens the signing key and the anchor.
pub(crate) fn signer(app: &App) -> Result<(Signer, Anchor), Trouble> {
    let signer = Signer::load_or_create(app.home.root()).map_err(|error| failed(&error))?;
    Ok((signer, Anchor::at(&app.config.anchor())))
}

/// Verifies everything; findings are no errors.
pub(crate) fn verified(app: &App) -> Result<Verification, Trouble> {
    let reader = reader(app)?;
    let key = match Signer::load(app.home.root()) {
        Ok(signer) => Some(signer.verifier()),
        // Nothing was ever signed here; chains are checked all the same.
        Err(KeyError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(&error)),
    };
    let anchor = Anchor::at(&app.config.anchor());
    reader.verify(key.as_ref(), key.as_ref().map(|_| &anchor)).map_err(|error| failed(&error))
}

fn verify(app: &App) -> Ended {
    let run = verified(app)?;
    let mut text = String::new();
    for chain in &run.chains {
        let signed = chain.signed.map_or_else(|| "never signed".into(), |size| format!("signed up to {size}"));
        text += &format!("{}  {}, {signed}\n", chain.name, words::count(chain.head.size, "record"));
    }
    for finding in &run.findings {
        text += &format!("BAD {}\n", says(finding));
    }
    let verdict = if run.is_ok() { "the evidence holds" } else { "the evidence does NOT hold" };
    text += &format!(
        "{verdict}: {}, {} checked\n",
        words::count(run.records, "record"),
        words::count(run.notices, "notice")
    );
    let data = json!({
        "ok": run.is_ok(),
        "records": run.records,
        "notices": run.notices,
        "chains": run.chains.iter().map(|chain| json!({
            "name": chain.name, "size": chain.head.size, "root": chain.root, "signed": chain.signed,
        })).collect::<Vec<_>>(),
        "findings": run.findings.iter().map(|finding| json!({
            "chain": finding.chain, "seq": finding.seq, "says": says(finding),
        })).collect::<Vec<_>>(),
    });
    app.screen.show("evidence-verify", &data, &text);
    Ok(if run.is_ok() { Exit::Done } else { Exit::Failed })
}

/// Says where something is wrong and what.
pub(crate) fn says(finding: &Finding) -> String {
    let place = match (&finding.chain, finding.seq) {
        (Some(chain), Some(seq)) => format!("{chain} record {seq}: "),
        (Some(chain), None) => format!("{chain}: "),
        _ => String::new(),
    };
    format!("{place}{}", finding.problem)
}

fn checkpoint(app: &App) -> Ended {
    let (signer, anchor) = signer(app)?;
    let mut store = app.store()?;
    let notes = sign_all(&mut store, &signer, &anchor, app)?;
    let mut text = String::new();
    for (chain, size) in &notes {
        text += &format!("{chain} signed at {}\n", words::count(*size, "record"));
    }
    text += &format!("key {}\nkept in {}\n", signer.verifier(), anchor.path().display());
    let data = json!({
        "key": signer.verifier().to_string(),
        "anchor": anchor.path(),
        "chains": notes.iter().map(|(chain, size)| json!({ "name": chain, "size": size })).collect::<Vec<_>>(),
    });
    app.screen.show("evidence-checkpoint", &data, &text);
    Ok(Exit::Done)
}

/// Signs the head of every chain that has records. One that can't be signed keeps none of the others from it.
///
/// Errors: why the first that failed did.
pub(crate) fn sign_all(
    store: &mut Store,
    signer: &Signer,
    anchor: &Anchor,
    app: &App,
) -> Result<Vec<(ChainName, u64)>, Trouble> {
    let chains = store.chains().map_err(|error| failed(&error))?;
    let (mut signed, mut first) = (Vec::new(), None);
    for chain in chains {
        match store.checkpoint(&chain.name, signer, anchor, app.now()) {
            Ok(note) => signed.push((chain.name, note.checkpoint().head.size)),
            Err(error) => first = first.or_else(|| Some(failed(&error))),
        }
    }
    first.map_or(Ok(signed), Err)
}

/// Gives the chain that a command is about, and how it is called: a service's, that of the switches or of operations.
fn subject(app: &App, name: Option<&str>) -> Result<(String, ChainName), Trouble> {
    let switches = app.config.switches.as_ref().map(|config| switches::chain_of(&config.environment));
    let mut besides = switches.into_iter().chain([operations::chain()]);
    match besides.find(|chain| name == Some(chain.as_str())) {
        Some(chain) => Ok((chain.to_string(), chain)),
        None => {
            let service = app.recorded(name)?;
            Ok((service.to_string(), chain_of(&service)))
        }
    }
}

fn unwritable(to: &Path, error: &std::io::Error) -> Trouble {
    let what = format!("{} can't be written: {error}", to.display());
    Trouble::say(Exit::Failed, "export-not-written", what, "choose another file")
}

/// Signs a chain as it is now and writes all of it to a file; gives how many records and the key.
pub(crate) fn export_chain(app: &App, chain: &ChainName, to: &Path) -> Result<(u64, String), Trouble> {
    let (signer, anchor) = signer(app)?;
    let mut store = app.store()?;
    // What is exported must be signed: everything up to now.
    store.checkpoint(chain, &signer, &anchor, app.now()).map_err(|error| failed(&error))?;
    let key = signer.verifier();
    let mut out = BufWriter::new(File::create(to).map_err(|error| unwritable(to, &error))?);
    let size = store.head(chain).map_err(|error| failed(&error))?.size;
    let count = store.export(chain, 0..size, &key, &mut out).map_err(|error| failed(&error))?;
    out.flush().map_err(|error| unwritable(to, &error))?;
    Ok((count, key.to_string()))
}

/// Signs a chain as it is now and writes one record with the proof that it is in the log; gives the key.
fn export_one(app: &App, chain: &ChainName, seq: u64, to: &Path) -> Result<(u64, String), Trouble> {
    let (signer, anchor) = signer(app)?;
    let mut store = app.store()?;
    store.checkpoint(chain, &signer, &anchor, app.now()).map_err(|error| failed(&error))?;
    let key = signer.verifier();
    let bundle = store.prove_record(chain, seq, &key).map_err(|error| failed(&error))?;
    let mut out = BufWriter::new(File::create(to).map_err(|error| unwritable(to, &error))?);
    serde_json::to_writer(&mut out, &bundle).map_err(|error| unwritable(to, &error.into()))?;
    out.flush().map_err(|error| unwritable(to, &error))?;
    Ok((1, key.to_string()))
}

fn export(app: &App, service: Option<&str>, to: &Path, only: Option<u64>) -> Ended {
    let (service, chain) = subject(app, service)?;
    let (count, key) = match only {
        Some(seq) => export_one(app, &chain, seq, to)?,
        None => export_chain(app, &chain, to)?,
    };
    app.screen.show(
        "evidence-export",
        &json!({ "service": service, "file": to, "records": count, "key": key }),
        &format!(
            "{1} written to {0}\ncheck them anywhere: lastgood-verify --vkey '{key}' {0}",
            to.display(),
            words::count(count, "record")
        ),
    );
    Ok(Exit::Done)
}

fn acknowledge(app: &App, service: &str, reason: Reason) -> Ended {
    // It opens what the doubt has closed.
    app.config.people().check(&app.actor, Act::Lift).map_err(|error| Trouble::new(Exit::NotAllowed, &error))?;
    let (service, chain) = subject(app, Some(service))?;
    let (signer, anchor) = signer(app)?;
    let mut store = app.store()?;
    let who: Actor = app.actor.clone();
    let note = store
        .acknowledge_rewind(&chain, (&signer, &anchor), (who, reason), app.now())
        .map_err(|error| failed(&error))?;
    // What counted as closed because it was in doubt is what the records say again.
    lastgood_engine::bell::ring(app.home.root());
    if let Err(trouble) = crate::traffic::assert_switches(app) {
        app.screen.trouble(&trouble);
    }
    let size = note.checkpoint().head.size;
    app.screen.show(
        "evidence-acknowledge",
        &json!({ "service": service, "size": size }),
        &format!("the corrective entry is record {} of {service}; the log goes on from there", size.saturating_sub(1)),
    );
    Ok(Exit::Done)
}
