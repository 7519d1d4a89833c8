//! People one by one: who fails, and whose failures are no further person's. Told apart by what the proxy tells them apart by.

use lastgood_domain::traffic::{Again, Unwell};

/// The people of the candidate.
#[derive(Debug, Default)]
pub(super) struct Crowd(Vec<Option<Unwell>>);

impl Crowd {
    /// Takes what a person's request came to, as the proxy does.
    pub(super) fn ended(&mut self, person: usize, failed: bool, second: u64) -> Again {
        let now = u32::try_from(second).unwrap_or(u32::MAX);
        if self.0.len() <= person {
            self.0.resize(person + 1, None);
        }
        match &mut self.0[person] {
            Some(one) if !one.is_over(now) => one.take(failed, now),
            kept => {
                *kept = failed.then(|| Unwell::new(now));
                Again::default()
            }
        }
    }
}
