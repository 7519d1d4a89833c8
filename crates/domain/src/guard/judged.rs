//! The fold of seconds in their order, and what it comes to: each rule once, in the order in which they are asked.

use super::{
    Against, GuardRule, GuardSettings, Numbers, Seen,
    evidence::{Bursts, Health, Ladder, odds, surprise},
    voices::{Failures, part},
    window::{Both, MINUTE, Second, Streak, Tally, Windows, longest, seconds},
};
use crate::{terms::Span, traffic::Latency};
use serde::{Deserialize, Serialize};

/// Seconds without counts after which no measure goes on as if nothing had been missed.
pub(super) const SILENCE: u64 = 10;
/// Below this part of `error_rate_max` no release is called worse than another.
const FLOOR: f64 = 0.25;
/// Not compared at the same time, a candidate must be this near to the limit before a record accuses it.
const RECORD_FLOOR: f64 = 0.5;
/// "p95 above L" is: more than so many requests are slower than L.
const SLOW: f64 = 0.05;
/// Evidence for "worse" from which nothing is called healthy any more.
const SUSPICION: f64 = 10.0;
/// Last-good is a control while it has at least this part of the candidate's requests.
const CONTROL: f64 = 0.1;
/// How long the share of requests is averaged, in seconds.
const SHARE_SECONDS: f64 = 180.0;
/// What a rate at this part of a limit may well show is too little evidence that the limit was exceeded.
const NEAR: f64 = 0.75;
/// Windows of three minutes that a stage has, about: each may be wrong by so much less.
const WINDOWS: f64 = 10.0;
/// People who failed one after another, with nothing going well between: from so many on it is no loop among others.
const DEAD: u64 = 3;
/// People who failed again within a minute: from so many on it is neither one's program nor a hiccup.
pub(super) const SEVERAL: u64 = 3;
/// Failures in a minute from which both releases are said to fail.
const BOTH_FAIL: u64 = 3;

/// How the chance of a false alarm is dealt out to the tests; together 1.
const PARTS: Parts = Parts { errors: [0.5, 0.2], people: [0.4, 0.2], stayed: 0.1, slow: [0.2, 0.1] };

/// Parts of a chance: beside a control, and without.
///
/// Errors must be believed as requests and as people, so those of `people` and `stayed` come out of the same parts.
struct Parts {
    errors: [f64; 2],
    people: [f64; 2],
    /// Only beside a control.
    stayed: f64,
    slow: [f64; 2],
}

/// Three tests of one kind of failure.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Tests {
    /// "Its rate is no higher than the floor", beside a control.
    own: Ladder,
    /// "Its share of the failures is explained by its share of the requests", beside a control.
    share: Ladder,
    /// "Its rate is no higher than the limit or the record", without a control.
    alone: Ladder,
}

impl Tests {
    /// Gives the evidence that the candidate is worse: with a control both tests must say so.
    fn evidence(&self) -> f64 {
        self.own.evidence().min(self.share.evidence()).max(self.alone.evidence())
    }

    /// Tells whether either way has enough evidence; `parts` are their parts of the chance.
    fn has_tripped(&self, chance: f64, parts: [f64; 2]) -> bool {
        self.own.evidence().min(self.share.evidence()) * chance * parts[0] >= 1.0
            || self.alone.evidence() * chance * parts[1] >= 1.0
    }
}

/// How many people fail, by the seconds before: what of a second's requests is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spread {
    /// Those of people who were well before.
    Few,
    /// All as requests, because several people fail again and again; those of people who were well as people.
    Several,
    /// All, because nothing goes well.
    Everybody,
}

/// What lasts over all stages of a rollout, so that the chance of a false alarm is one for all of them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Suspicion {
    /// As requests: what came together counts for less. One person's or two's tries count once.
    errors: Tests,
    slow: Tests,
    /// Requests of people who were well before them: each person who fails is one voice.
    #[serde(default)]
    people: Tests,
    /// "Its share of the people for whom it stays so is explained by its share of the requests", beside a control only.
    #[serde(default)]
    stayed: Ladder,
}

impl Suspicion {
    /// Gives the evidence of the errors: as requests, so that what comes in one second is one hiccup, and as people, so that
    /// one whose program tries again and again is one voice.
    fn of_errors(&self) -> f64 {
        self.errors.evidence().min(self.people.evidence().max(self.stayed.evidence()))
    }

    fn evidence(&self) -> f64 {
        self.of_errors().max(self.slow.evidence())
    }

    /// Tells whether the errors are believed as requests and as people.
    fn has_tripped(&self, chance: f64) -> bool {
        self.errors.has_tripped(chance, PARTS.errors)
            && (self.people.has_tripped(chance, PARTS.people) || self.stayed.evidence() * chance * PARTS.stayed >= 1.0)
    }
}

/// What all seconds so far come to.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Judged {
    pub(super) suspicion: Suspicion,
    windows: Windows,
    /// Of the whole stage.
    pub(super) total: Totals,
    /// Requests of both, older ones counting less, as bits.
    shares: [u64; 2],
    /// The same of people who were well before.
    #[serde(default)]
    well: [u64; 2],
    streaks: [Streak; 3],
    /// Of failures, and of slow requests.
    bursts: [Bursts; 2],
    /// Of people's first failures.
    #[serde(default)]
    voices: Bursts,
    /// People who failed since a request of anybody went well.
    #[serde(default)]
    failing: u64,
    /// The first rule that was broken, and how it stood then.
    pub(super) broken: Option<(GuardRule, Numbers)>,
}

/// Counts of the whole stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Totals {
    pub(super) candidate: Tally,
    pub(super) last_good: Tally,
}

/// What a guard judges by, apart from what it counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) settings: &'a GuardSettings,
    pub(super) record: Option<&'a Tally>,
}

impl Terms<'_> {
    fn health(&self) -> [Health; 2] {
        let doubt = self.settings.doubt.part();
        [Health::new(self.limit(), doubt), Health::new(SLOW, doubt)]
    }

    fn limit(&self) -> f64 {
        self.settings.error_rate_max.part()
    }

    fn floor(&self) -> f64 {
        self.limit() * FLOOR
    }

    /// Gives the record if it is of as many requests as health asks for.
    fn record(&self) -> Option<&Tally> {
        let [errors, slow] = self.health();
        let is_timed = |record: &Tally| !self.settings.p95 || slow.missing(0, record.answered) == 0;
        self.record.filter(|record| errors.missing(0, record.requests) == 0 && is_timed(record))
    }

    /// Gives what is allowed where nothing is compared at the same time: of errors, of slow requests, of people who fail.
    fn alone(&self) -> [f64; 3] {
        let Some(record) = self.record() else { return [self.limit(), SLOW, self.limit()] };
        // One standard deviation and one event above what was seen, because the record is a sample too.
        let up_to = |failed: u64, of: u64| (failed as f64 + libm::sqrt(failed as f64) + 1.0) / of.max(1) as f64;
        let allowed = |least: f64, rate: f64| least.max(rate * self.settings.factor()).min(0.9);
        let least = self.limit() * RECORD_FLOOR;
        [
            allowed(least, up_to(record.failed, record.requests)),
            allowed(SLOW, up_to(record.slow, record.answered)),
            allowed(least, up_to(record.first_failed(), record.of_the_well())),
        ]
    }
}

impl Judged {
    /// Takes the next second; it must be newer than all before.
    pub(super) fn take(&mut self, mut second: Second, times: [&Latency; 2], terms: Terms<'_>) {
        let (now, candidate, last_good) = (second.second, second.candidate, second.last_good);
        if self.newest().is_some_and(|newest| newest + SILENCE < now) {
            self.streaks.iter_mut().for_each(Streak::reset);
        }
        self.total.candidate.merge(&candidate);
        self.total.last_good.merge(&last_good);
        let control = self.weigh_shares(&candidate, &last_good);
        let [failures, slow] = &mut self.bursts;
        second.bursts = [failures.take(now, candidate.failed), slow.take(now, candidate.slow)];
        second.voice_bursts = self.voices.take(now, candidate.first_failed().saturating_add(candidate.again.stayed));
        // Of the seconds before: what a second shows must not choose how it is counted.
        let spread = if self.failing >= DEAD {
            Spread::Everybody
        } else if self.windows.last(MINUTE).candidate.again.people >= SEVERAL {
            Spread::Several
        } else {
            Spread::Few
        };
        let went_well = candidate.requests > candidate.failed;
        self.failing = if went_well { 0 } else { self.failing.saturating_add(candidate.first_failed()) };
        self.windows.push(second, times, terms.settings);
        self.test([&candidate, &last_good], control, spread, terms);
        let minute = self.windows.last(MINUTE);
        let above = [Self::above_errors, Self::above_p95, Self::above_last_good].map(|rule| rule(&minute, terms));
        let first = self.windows.oldest().unwrap_or(now);
        for (streak, above) in self.streaks.iter_mut().zip(above) {
            streak.take(above, now, first);
        }
        if self.broken.is_none() {
            self.broken = self.rule(terms).map(|rule| (rule, self.numbers(terms)));
        }
    }

    /// Gives the newest second taken.
    pub(super) fn newest(&self) -> Option<u64> {
        self.windows.newest()
    }

    /// Forgets the times of the seconds taken, not what they came to.
    pub(super) fn forget_times(&mut self) {
        self.windows.clear();
        self.streaks.iter_mut().for_each(Streak::reset);
    }

    /// Averages both releases' requests; gives candidate's to last-good's if last-good has enough to be a control: of people
    /// who were well before, and of all.
    fn weigh_shares(&mut self, candidate: &Tally, last_good: &Tally) -> Option<[f64; 2]> {
        let [well, all] =
            [(&mut self.well, Tally::of_the_well as fn(&Tally) -> u64), (&mut self.shares, |one| one.requests)].map(
                |(sums, count)| {
                    let both = [(0, candidate), (1, last_good)].map(|(at, tally)| {
                        f64::from_bits(sums[at]) * (1.0 - 1.0 / SHARE_SECONDS) + count(tally) as f64
                    });
                    *sums = both.map(f64::to_bits);
                    both
                },
            );
        let [mine, theirs] = all;
        // One request more than seen: a share estimated too low would make chance failures look like the candidate's.
        let ratio = |[mine, theirs]: [f64; 2]| (mine + 1.0) / theirs.max(1e-9);
        (theirs > 0.0 && theirs >= mine * CONTROL).then(|| [well, all].map(ratio))
    }

    fn test(&mut self, both: [&Tally; 2], control: Option<[f64; 2]>, spread: Spread, terms: Terms<'_>) {
        let Suspicion { errors, slow, people, stayed } = &mut self.suspicion;
        let requests: fn(&Tally) -> (u64, u64) = |one| (one.failed, one.requests);
        let voices: fn(&Tally) -> (u64, u64) = |one| (one.first_failed(), one.of_the_well());
        let [well, all] = control.unwrap_or_default().map(|ratio| ratio * terms.settings.factor());
        let [errors_alone, slow_alone, people_alone] = terms.alone();
        let [as_requests, as_people] = match spread {
            Spread::Few => [(voices, well), (voices, well)],
            Spread::Several => [(requests, all), (voices, well)],
            Spread::Everybody => [(requests, all), (requests, all)],
        };
        let late: fn(&Tally) -> (u64, u64) = |one| (one.slow, one.answered);
        let [bursts, each]: [fn(&mut Ladder, f64, u64, u64); 2] = [Ladder::take, Ladder::take_each];
        let kinds = [
            (errors, [terms.floor(), errors_alone], as_requests, bursts),
            (slow, [SLOW, slow_alone], (late, all), bursts),
            (people, [terms.floor(), people_alone], as_people, each),
        ];
        // Where a test has nothing to say, time goes on for it all the same.
        let beside = |count: u64| if control.is_some() { count } else { 0 };
        let by_itself = |count: u64| if control.is_some() { 0 } else { count };
        for (tests, [floor, alone], (count, share), take) in kinds {
            let [(failed, of), (others, _)] = both.map(count);
            take(&mut tests.own, odds(floor), beside(failed), beside(of));
            take(&mut tests.share, share, beside(failed), beside(failed.saturating_add(others)));
            take(&mut tests.alone, odds(alone), by_itself(failed), by_itself(of));
        }
        let [mine, theirs] = both.map(|one| beside(one.again.stayed));
        stayed.take_each(well, mine, mine.saturating_add(theirs));
    }

    /// Is the error rate above the limit, and not because both are in trouble?
    fn above_errors(both: &Both, terms: Terms<'_>) -> bool {
        both.candidate.error_rate() > terms.limit() && !Self::both_fail(both, terms)
    }

    fn above_p95(both: &Both, terms: Terms<'_>) -> bool {
        let (mine, theirs) = (both.candidate.slow_rate(), both.last_good.slow_rate());
        mine > SLOW && !(theirs > SLOW && mine <= theirs * terms.settings.factor())
    }

    fn above_last_good(both: &Both, terms: Terms<'_>) -> bool {
        let mine = both.candidate.error_rate();
        both.last_good.requests > 0
            && mine > terms.floor()
            && mine > both.last_good.error_rate() * terms.settings.factor()
    }

    /// Is last-good above the limit too, and the candidate no worse?
    fn both_fail(both: &Both, terms: Terms<'_>) -> bool {
        let theirs = both.last_good.error_rate();
        theirs > terms.limit() && both.candidate.error_rate() <= theirs * terms.settings.factor()
    }

    /// Tells whether every request failed as long as a limit is looked at, a minute at least: then there is nobody among whom
    /// a program that tries again and again could be.
    fn does_nothing_go_well(&self, terms: Terms<'_>) -> bool {
        let back = seconds(terms.settings.error_for).max(MINUTE);
        let Tally { requests, failed, .. } = self.windows.last(back).candidate;
        let seen = self.windows.oldest().zip(self.newest()).map_or(0, |(oldest, newest)| newest + 1 - oldest);
        requests > 0 && failed == requests && seen >= MINUTE
    }

    /// Gives the first rule that is broken: absolute limits, then relative ones, then the early tests.
    fn rule(&self, terms: Terms<'_>) -> Option<GuardRule> {
        let Terms { settings, .. } = terms;
        let now = self.newest()?;
        let [errors, p95, relative] = self.streaks;
        // What a candidate near the limit shows once in a thousand windows is too little to be a measure, and what came in
        // bursts is as little as the bursts are.
        let enough = -libm::log(settings.false_alarm.part() / WINDOWS);
        let back = seconds(settings.error_for);
        let failures = || Failures::of(&self.windows.last(back), back, self.does_nothing_go_well(terms));
        if settings.sustained
            && errors.has_lasted(settings.error_for, now)
            && failures().surprise(terms.limit() * NEAR) >= enough
        {
            return Some(GuardRule::ErrorRate { above: settings.error_rate_max, held: settings.error_for });
        }
        if settings.sustained && p95.has_lasted(settings.p95_for, now) {
            let Both { candidate, bursts: [_, bursts], .. } = self.windows.last(seconds(settings.p95_for));
            if surprise(candidate.slow, candidate.answered, SLOW * NEAR) * part(bursts, candidate.slow) >= enough {
                return Some(GuardRule::P95 { above: settings.p95_max, held: settings.p95_for });
            }
        }
        if settings.sustained && relative.has_lasted(settings.error_for, now) {
            let failures = failures();
            if failures.surprise(terms.floor()).min(failures.surprise_beside(settings.factor())) >= enough {
                let percent = settings.against_last_good_percent;
                return Some(GuardRule::WorseThanLastGood { percent, held: settings.error_for });
            }
        }
        let (chance, false_alarm) = (settings.false_alarm.part(), settings.false_alarm);
        if settings.early && self.suspicion.has_tripped(chance) {
            return Some(GuardRule::EarlyErrors { false_alarm });
        }
        if settings.early && self.suspicion.slow.has_tripped(chance, PARTS.slow) {
            return Some(GuardRule::EarlySlow { above: settings.p95_max, false_alarm });
        }
        None
    }

    /// Gives how many requests without a failure health still needs.
    pub(super) fn missing(&self, terms: Terms<'_>) -> u64 {
        let [errors, slow] = terms.health();
        let Tally { requests, failed, answered, slow: late, .. } = self.total.candidate;
        let times = if terms.settings.p95 { slow.missing(late, answered) } else { 0 };
        errors.missing(failed, requests).max(times)
    }

    /// Tells whether something speaks against the candidate now.
    pub(super) fn is_suspect(&self, terms: Terms<'_>) -> bool {
        let minute = self.windows.last(MINUTE);
        self.suspicion.evidence() >= SUSPICION
            || minute.candidate.error_rate() > terms.limit()
            || minute.candidate.slow_rate() > SLOW
    }

    /// Tells whether both releases fail now, so that the machine or what they depend on is in trouble.
    pub(super) fn is_both_failing(&self, terms: Terms<'_>) -> bool {
        let minute = self.windows.last(MINUTE);
        minute.candidate.failed.min(minute.last_good.failed) >= BOTH_FAIL
            && minute.candidate.error_rate() > terms.limit()
            && Self::both_fail(&minute, terms)
    }

    /// Gives the numbers as they stand.
    pub(super) fn numbers(&self, terms: Terms<'_>) -> Numbers {
        let back = longest(terms.settings);
        let both = self.windows.last(back);
        let [mine, theirs] = self.windows.p95();
        let seen = |tally: &Tally, p95| Seen {
            requests: tally.requests,
            failed: tally.failed,
            saved: tally.saved,
            again: tally.again.failed,
            synthetic: tally.synthetic,
            p95,
        };
        let [candidate, last_good] = self.shares.map(f64::from_bits);
        let span = self.windows.oldest().zip(self.newest()).map_or(0, |(oldest, newest)| newest + 1 - oldest);
        let evidence = self.suspicion.evidence();
        Numbers {
            over: Span::seconds(span.min(back)),
            candidate: seen(&both.candidate, mine),
            last_good: seen(&both.last_good, theirs),
            against: if last_good > 0.0 && last_good >= candidate * CONTROL {
                Against::LastGood
            } else if terms.record().is_some() {
                Against::Record
            } else {
                Against::Limit
            },
            evidence: evidence.clamp(1.0, 1e9) as u64,
        }
    }
}
