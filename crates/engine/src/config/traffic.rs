//! `[service.NAME.traffic]`: one service for many users, moved by share of its traffic.

use super::{DegradedConfig, InstanceConfig, ServiceConfig};
use lastgood_domain::{
    guard::{GuardSettings, Rate},
    terms::{FlagKey, InstanceName, Span, SwitchName},
    traffic::{BroughtFlag, RoutePattern, SEATS, Share, ShareStep, TrafficSettings},
};
use lastgood_drivers::{config_terms::Length, metric::CountersConfig, probe::ResumeConfig, traffic::HaproxyConfig};
use lastgood_proxy::Serving;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Moves the service by share of its traffic: the candidate runs beside last-good on the same data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrafficConfig {
    /// The built-in proxy: where it listens, what people are recognised by, what they may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Serving>,
    /// A HAProxy that is there already, instead of the built-in proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub haproxy: Option<HaproxyConfig>,
    /// The shares a candidate gets, growing, and how long each is watched at least. The last is 100.
    /// Default: 5, 25 and 100 percent, 5 minutes each.
    #[serde(default = "shares")]
    pub shares: Vec<ShareConfig>,
    /// How long requests and tunnels of a release that is left may go on before they are closed. Default `10m`.
    #[serde(default = "drain")]
    pub drain: Length,
    /// How long the release before stays up without traffic after a promotion. Default `1h`.
    #[serde(default = "warm")]
    pub warm: Length,
    /// What a candidate is held to while it has a share, and after it has all.
    #[serde(default)]
    pub guard: GuardConfig,
    /// Which answers of the service are those of a fallback path, and how many are too many. Default: none are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<DegradedConfig>,
    /// What is closed while a kill switch is tripped: exactly the routes named here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closes: Vec<ClosesConfig>,
    /// Flags that a release brings: turned on with its share, turned off when the traffic goes back from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns_on: Vec<TurnsOnConfig>,
    /// How sessions of the service are resumed: proven between both releases before the share exceeds 25 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<ResumeConfig>,
    /// Why nobody loses anything when a WebSocket is cut. Without this and without `resume` the share does not exceed 25 %
    /// once the proxy has seen a WebSocket of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_resume: Option<String>,
}

/// One flag that a release brings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TurnsOnConfig {
    /// The flag, of `[switches.flag.NAME]`.
    #[schemars(with = "String")]
    pub flag: FlagKey,
    /// The candidate's share, in percent, from which it is on. Default 100: nobody is left on last-good then.
    #[serde(default = "everybody")]
    pub at: f64,
}

const fn everybody() -> f64 {
    100.0
}

/// What one kill switch closes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClosesConfig {
    /// The switch, of `[switches]`; `all` counts for each.
    #[schemars(with = "String")]
    pub switch: SwitchName,
    /// The requests, such as `["POST /account/login", "/account/*"]`.
    #[schemars(with = "Vec<String>")]
    pub routes: Vec<RoutePattern>,
    /// The answer's status, 400 to 599. Default 503.
    #[serde(default = "unavailable")]
    pub status: u16,
    /// Sent as Retry-After. Default: nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Length>,
    /// The answer's text. Default: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
}

const fn unavailable() -> u16 {
    503
}

/// Probes of lastgood's own, through the proxy to the candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyntheticConfig {
    /// How long from the begin of one whole probe to the next; at least `100ms`. Default `5s`.
    #[serde(default = "now_and_then")]
    pub every: Length,
    /// The address at which the proxy is asked, such as `https://chat.example.org`. Default: where it listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub front: Option<String>,
}

const fn now_and_then() -> Length {
    Length::seconds(5)
}

/// One share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShareConfig {
    /// Percent of the people, 0.01 to 100, in steps of 0.01.
    pub percent: f64,
    /// How long it is watched at least before it grows; the last, before the release is promoted. Default `5m`.
    #[serde(default = "bake")]
    pub bake: Length,
}

/// What a candidate is held to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GuardConfig {
    /// Highest rate of failed requests, in percent: 5xx, no whole answer, tunnels cut. Default 2.
    pub error_rate_max: f64,
    /// How long the rate must be above that. Default `3m`.
    pub error_for: Length,
    /// Time that 95 of 100 requests must not exceed, to the first byte of the answer. Default 1500 ms.
    pub p95_max: Length,
    /// How long the p95 must be above that. Default `3m`.
    pub p95_for: Length,
    /// Why times are not judged, where nobody measures them: HAProxy tells no p95. Default: they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_p95: Option<String>,
    /// How much worse than last-good at the same time is still not worse, in percent. Default 150: half as much again.
    pub against_last_good: u32,
    /// Whether a limit that is exceeded for so long fails. Default `true`.
    pub sustained: bool,
    /// Whether a candidate that is plainly worse is found before that. Default `true`.
    pub early: bool,
    /// Chance, in percent, that the early trip takes back a release that is no worse. Default 1.
    pub false_alarm: f64,
    /// Chance, in percent, that a release whose rate is at the limit shows enough evidence for health. Default 5.
    pub doubt: f64,
    /// How long cannot-tell may last beyond a share's bake time before the traffic goes back. Default `30m`.
    pub deadline: Length,
    /// Probes of lastgood's own where people's requests are too few to tell. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<SyntheticConfig>,
    /// Where the counts come from, if not from the router: queries to a Prometheus.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<CountersConfig>,
    /// Kill switches that are tripped when the guard says that the release is broken. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub trips: Vec<SwitchName>,
}

impl Default for GuardConfig {
    fn default() -> Self {
        let percent = |rate: Rate| f64::from(rate.in_millionths()) / 10_000.0;
        let known = GuardSettings::default();
        Self {
            error_rate_max: percent(known.error_rate_max),
            error_for: Length(known.error_for),
            p95_max: Length(known.p95_max),
            p95_for: Length(known.p95_for),
            no_p95: None,
            against_last_good: known.against_last_good_percent,
            sustained: known.sustained,
            early: known.early,
            false_alarm: percent(known.false_alarm),
            doubt: percent(known.doubt),
            deadline: Length(known.deadline),
            synthetic: None,
            prometheus: None,
            trips: Vec::new(),
        }
    }
}

impl GuardConfig {
    /// Gives what guards judge by.
    pub fn settings(&self) -> GuardSettings {
        // Checked to be within range; a float's cast saturates at the ends anyway.
        let rate = |percent: f64| Rate::millionths((percent * 10_000.0).round() as u32);
        GuardSettings {
            error_rate_max: rate(self.error_rate_max),
            error_for: self.error_for.0,
            p95_max: self.p95_max.0,
            p95_for: self.p95_for.0,
            p95: self.no_p95.is_none(),
            against_last_good_percent: self.against_last_good,
            sustained: self.sustained,
            early: self.early,
            false_alarm: rate(self.false_alarm),
            doubt: rate(self.doubt),
            deadline: self.deadline.0,
        }
    }
}

fn shares() -> Vec<ShareConfig> {
    [5.0, 25.0, 100.0].map(|percent| ShareConfig { percent, bake: bake() }).into()
}
const fn bake() -> Length {
    Length::seconds(5 * 60)
}
const fn drain() -> Length {
    Length::seconds(10 * 60)
}
const fn warm() -> Length {
    Length::seconds(60 * 60)
}

/// What each of an instance's two places is called.
const SIDES: [&str; 2] = ["blue", "green"];

impl ShareConfig {
    fn step(&self) -> ShareStep {
        ShareStep { share: share(self.percent), bake: self.bake.0 }
    }
}

fn share(percent: f64) -> Share {
    Share::of_seats((percent * f64::from(SEATS) / 100.0).round() as u16)
}

impl TrafficConfig {
    /// Says what can't be used, with a working example.
    pub(super) fn problem(&self, instances: &[InstanceConfig]) -> Option<(&'static str, String, &'static str)> {
        let steps: Vec<ShareStep> = self.shares.iter().map(ShareConfig::step).collect();
        let example = "shares = [{ percent = 5, bake = \"10m\" }, { percent = 100, bake = \"1h\" }]";
        if self.shares.iter().any(|share| !(0.01..=100.0).contains(&share.percent)) {
            return Some(("traffic.shares", "a share is 0.01 to 100 percent".into(), example));
        }
        if !steps.windows(2).all(|pair| pair[0].share < pair[1].share) {
            return Some(("traffic.shares", "each share must be larger than the one before".into(), example));
        }
        if steps.last().is_none_or(|last| last.share != Share::ALL) {
            return Some(("traffic.shares", "the last share must be 100 percent".into(), example));
        }
        if self.proxy.is_some() == self.haproxy.is_some() {
            let what = "name one router: proxy or haproxy".into();
            return Some(("traffic", what, "traffic.proxy = { listen = [\"0.0.0.0:8080\"] }"));
        }
        if let Some(reason) = &self.no_resume
            && (reason.trim().is_empty() || self.resume.is_some())
        {
            let what = "no_resume says why no proof is needed, where there is no resume".into();
            return Some(("traffic.no_resume", what, "no_resume = \"clients load the page anew\""));
        }
        if let Err(error) = self.guard.settings().check() {
            return Some(("traffic.guard", error.to_string(), "guard = { error_rate_max = 2, error_for = \"3m\" }"));
        }
        if self.guard.no_p95.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
            let what = "no_p95 says why times are not judged".into();
            return Some(("traffic.guard", what, "guard = { no_p95 = \"HAProxy measures none\" }"));
        }
        if let Some(synthetic) = &self.guard.synthetic {
            let example = "guard = { synthetic = { every = \"5s\" } }";
            if synthetic.every.0 < Span(100) {
                let what = format!("synthetic: every is {}, it must be 100 ms at least", synthetic.every.0);
                return Some(("traffic.guard", what, example));
            }
            if self.proxy.is_none() {
                let what = "synthetic: only the built-in proxy knows whose requests they are".into();
                return Some(("traffic.guard", what, example));
            }
        }
        if let Some((key, what)) = self.guard.prometheus.as_ref().and_then(CountersConfig::problem) {
            let example = "requests = 'sum(requests_total{version=\"{release}\"})'";
            return Some(("traffic.guard.prometheus", format!("{key}: {what}"), example));
        }
        if let Some(what) = self.degraded.as_ref().and_then(|degraded| degraded.problem(self.proxy.is_some())) {
            let example = "degraded = { routes = [\"GET /poll/*\"], status = [203] }";
            return Some(("traffic.degraded", what, example));
        }
        if let Some(one) = self.turns_on.iter().find(|one| !(0.01..=100.0).contains(&one.at)) {
            let what = format!("{} is turned on at a share of 0.01 to 100 percent", one.flag);
            return Some(("traffic.turns_on", what, "turns_on = [{ flag = \"new-editor\", at = 25 }]"));
        }
        if let Some(closes) = self.closes.iter().find(|closes| !(400..=599).contains(&closes.status)) {
            let what = format!("{} is no status of a closed route: it must be 400 to 599", closes.status);
            return Some(("traffic.closes", what, "status = 503"));
        }
        if self.closes.iter().any(|closes| closes.routes.is_empty()) {
            let what = "a switch that closes no route".into();
            return Some(("traffic.closes", what, "routes = [\"POST /account/login\"]"));
        }
        let mut ports = BTreeSet::new();
        for instance in instances {
            let example = "port = 8101, other_port = 8102";
            let Some(other) = instance.other_port else {
                let what = format!("{} needs a second port: the candidate runs beside last-good", instance.name);
                return Some(("instance", what, example));
            };
            if !ports.insert(instance.port) || !ports.insert(other) {
                return Some(("instance", format!("a port of {} is there twice", instance.name), example));
            }
        }
        None
    }

    /// Gives the address at which people ask the built-in proxy.
    pub fn front(&self) -> Option<String> {
        let proxy = self.proxy.as_ref()?;
        let mut address = *proxy.listen.first()?;
        if address.ip().is_unspecified() {
            let ip: IpAddr = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
            address.set_ip(ip);
        }
        let scheme = if proxy.tls.is_empty() { "http" } else { "https" };
        Some(format!("{scheme}://{address}"))
    }

    /// Gives the settings that decisions depend on; `instances` are those of both sides.
    pub(super) fn settings(&self, instances: &[InstanceConfig]) -> TrafficSettings {
        let names = |side: &str| -> Vec<InstanceName> {
            let of_side = |one: &&InstanceConfig| one.name.as_str().ends_with(&format!(".{side}"));
            instances.iter().filter(of_side).map(|one| one.name.clone()).collect()
        };
        let sides = SIDES.map(names);
        let mut folders = BTreeSet::new();
        let holders = instances.iter().filter(|one| sides[0].contains(&one.name) && folders.insert(&one.data));
        TrafficSettings {
            holders: holders.map(|one| one.name.clone()).collect(),
            sides,
            steps: self.shares.iter().map(ShareConfig::step).collect(),
            drain: self.drain.0,
            warm: self.warm.0,
            cannot_tell_max: self.guard.deadline.0,
            guard: self.guard.settings(),
            degraded: self.degraded.as_ref().map(DegradedConfig::settings),
            flags: self
                .turns_on
                .iter()
                .map(|one| BroughtFlag { flag: one.flag.clone(), share: share(one.at) })
                .collect(),
            trips: self.guard.trips.clone(),
            // Without either it is asked for too: whether there is anything to resume, the router knows.
            resume: self.no_resume.is_none(),
        }
    }
}

/// Makes of each instance its two places, `NAME.blue` and `NAME.green`, with a port each and the same data.
pub(super) fn expand(service: &mut ServiceConfig) {
    if service.traffic.is_none() {
        return;
    }
    let written = std::mem::take(&mut service.instance);
    for side in SIDES {
        for one in &written {
            let Ok(name) = InstanceName::new(&format!("{}.{side}", one.name)) else { continue };
            let port = if side == SIDES[0] { one.port } else { one.other_port.unwrap_or(one.port) };
            service.instance.push(InstanceConfig { name, port, other_port: None, ..one.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: serde_json::Value) -> TrafficConfig {
        let mut keys = serde_json::json!({ "proxy": { "listen": ["127.0.0.1:8080"] } });
        keys.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(keys).unwrap()
    }

    #[test]
    fn a_candidate_gets_5_25_and_100_percent_unless_it_is_said_otherwise() {
        let shares = config(serde_json::json!({})).shares;
        assert_eq!(shares.iter().map(|share| share.percent).collect::<Vec<_>>(), [5.0, 25.0, 100.0]);
    }

    #[test]
    fn a_rollback_owes_an_analysis_where_traffic_is_shared_unless_it_is_said_otherwise() {
        use crate::config::Config;
        use lastgood_domain::operations::rca::Rca;
        use std::path::Path;
        let of = |keys: &str| {
            let text = format!(
                "[service.web]\nchannel = {{ directory = \"releases\", version_file = \"VERSION\" }}\n\
                 command = [\"{{release}}/web\"]\nstate = {{ directory = \"{{data}}\" }}\n{keys}\n\
                 ready = {{ http = {{ path = \"/\" }}, expect = {{ status = 200 }} }}\n\
                 [[service.web.instance]]\nname = \"a\"\nport = 7301\n{}data = \"data\"\n\
                 [[service.web.probe]]\nname = \"page\"\nhttp = {{ path = \"/\" }}\nexpect = {{ status = 200 }}\n",
                if keys.contains("traffic") { "other_port = 7302\n" } else { "" }
            );
            let config = Config::parse(&text, Path::new("/lastgood.toml"), Path::new("/")).unwrap();
            config.service.values().next().unwrap().settings().rca
        };
        let traffic = "traffic = { proxy = { listen = [\"127.0.0.1:8080\"] }, no_resume = \"no sockets\" }";
        assert_eq!(of(""), Rca::Off);
        assert_eq!(of("rca = \"required\""), Rca::Required);
        assert_eq!(of(traffic), Rca::Required);
        assert_eq!(of(&format!("rca = \"off\"\n{traffic}")), Rca::Off);
    }

    #[test]
    fn sessions_are_proven_to_resume_unless_a_reason_says_why_not() {
        assert!(config(serde_json::json!({})).settings(&[]).resume);
        let without = config(serde_json::json!({ "no_resume": "clients load the page anew" }));
        assert!(!without.settings(&[]).resume && without.problem(&[]).is_none());
        let unsaid = config(serde_json::json!({ "no_resume": " " }));
        assert_eq!(unsaid.problem(&[]).map(|(key, ..)| key), Some("traffic.no_resume"));
    }
}
