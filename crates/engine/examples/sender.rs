//! A process that delivers what is due once, so that a test can kill it: `sender STATE_DIR ENDPOINTS SECRET NOW`.

use lastgood_domain::terms::Timestamp;
use lastgood_drivers::notice::NoticeConfig;
use lastgood_engine::deliver::Deliverer;
use lastgood_store::Store;
use std::{collections::BTreeMap, error::Error, path::Path};

/// Messages that are sent at once.
const AT_ONCE: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [state_dir, endpoints, secret, now] = arguments.as_slice() else {
        return Err("usage: sender STATE_DIR ENDPOINTS SECRET NOW".into());
    };
    let endpoints: BTreeMap<String, NoticeConfig> = toml::from_str(endpoints)?;
    let (store, secret) = (Store::open(Path::new(state_dir))?, secret.clone());
    let secrets = Box::new(move |_: &str| Some(secret.clone()));
    let mut deliverer = Deliverer::new(store, endpoints, secrets, AT_ONCE, Timestamp(0))?;
    deliverer.deliver_due(Timestamp(now.parse()?))?;
    Ok(())
}
