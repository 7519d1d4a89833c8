//! Keeps an Alertmanager's view equal to ours: firing alerts are sent again and again, ended ones for a while.
//!
//! It forgets what it does not hear of again, and misses what ends while it is down: so this is a reconciler
//! and not a message. A restart of ours loses nothing: what still is wrong is given again, what ended meanwhile
//! ends there by its own time.

use crate::letter::kind_name;
use lastgood_domain::{
    alarm::Alarm,
    notice::NoticeKind,
    terms::{ServiceName, Span, Timestamp},
};
use lastgood_drivers::notice::{Alert, AlertmanagerClient, EndpointConfig, NoticeConfig, NoticeError};
use std::collections::BTreeMap;

/// A firing alert is sent again this often.
pub const RESEND: Span = Span::seconds(60);
/// An ended one is sent again for this long, as Alertmanager's own clients do.
const RESOLVED_FOR: Span = Span::minutes(5);
/// A firing alert that is not sent again ends by itself after this: four missed rounds.
const FIRES_FOR: Span = Span::seconds(240);
/// Most alerts of one round; every service has at most a handful.
const ALERTS_MAX: usize = 1_000;

/// Which alerts were sent and which have ended since; one per Alertmanager.
pub struct Reconciler {
    client: AlertmanagerClient,
    kinds: Vec<NoticeKind>,
    known: BTreeMap<(NoticeKind, ServiceName), Known>,
    last_round: Option<Timestamp>,
}

struct Known {
    alarm: Alarm,
    ended: Option<Timestamp>,
    sent: bool,
}

impl Reconciler {
    /// Makes one if `config` is an Alertmanager's.
    pub fn new(config: &NoticeConfig) -> Option<Self> {
        let EndpointConfig::Alertmanager { url } = &config.endpoint else { return None };
        Some(Self {
            client: AlertmanagerClient::new(url),
            kinds: config.kinds.clone(),
            known: BTreeMap::new(),
            last_round: None,
        })
    }

    /// Brings the Alertmanager to `alarms`, all that is wrong at `now`. Posts when something changed or a minute is
    /// over; call it as often as you like. Gives how many alerts were posted.
    ///
    /// Errors: [`NoticeError::AlertsRefused`]; the next call tries again.
    pub fn reconcile(&mut self, alarms: &[Alarm], now: Timestamp) -> Result<usize, NoticeError> {
        let changed = self.learn(alarms, now);
        let due = self.last_round.is_none_or(|last| now < last || now >= last.after(RESEND));
        if !changed && !due {
            return Ok(0);
        }
        let alerts: Vec<_> = self.known.values().take(ALERTS_MAX).map(|known| alert(known, now)).collect();
        self.client.post(&alerts)?;
        for known in self.known.values_mut() {
            known.sent = true;
        }
        self.last_round = Some(now);
        Ok(alerts.len())
    }

    /// Takes in what is wrong now; tells whether the Alertmanager has not heard of something yet.
    fn learn(&mut self, alarms: &[Alarm], now: Timestamp) -> bool {
        self.known.retain(|_, known| known.ended.is_none_or(|ended| now.since(ended) <= RESOLVED_FOR));
        let wanted: BTreeMap<_, _> = alarms
            .iter()
            .filter(|alarm| self.wants(alarm))
            .map(|alarm| ((alarm.kind, alarm.service.clone()), alarm))
            .collect();
        for (key, known) in &mut self.known {
            if known.ended.is_none() && !wanted.contains_key(key) {
                known.ended = Some(now);
                known.sent = false;
            }
        }
        for (key, alarm) in wanted {
            match self.known.get_mut(&key) {
                Some(known) if known.ended.is_none() && known.alarm == *alarm => {}
                _ => {
                    self.known.insert(key, Known { alarm: alarm.clone(), ended: None, sent: false });
                }
            }
        }
        self.known.values().any(|known| !known.sent)
    }

    fn wants(&self, alarm: &Alarm) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&alarm.kind)
    }
}

fn alert(known: &Known, now: Timestamp) -> Alert {
    let Alarm { kind, service, since, summary } = &known.alarm;
    let name = format!("lastgood-{}", kind_name(*kind));
    let labels = [("alertname", name), ("service", service.to_string()), ("job", "lastgood".into())];
    Alert {
        labels: labels.into_iter().map(|(key, value)| (key.into(), value)).collect(),
        annotations: BTreeMap::from([("summary".into(), summary.clone())]),
        starts: *since,
        ends: known.ended.unwrap_or_else(|| now.after(FIRES_FOR)),
    }
}
