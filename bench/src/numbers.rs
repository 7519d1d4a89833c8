//! Smallest, middle and largest of some rounds.

/// The rounds of one thing, in milliseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rounds(Vec<f64>);

impl Rounds {
    pub(crate) fn add(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    pub(crate) fn middle(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Gives a row of the table: name, smallest, middle, largest.
    pub(crate) fn row(&self, name: &str, unit: &str) -> String {
        let at = |index: usize| self.0.get(index).copied().unwrap_or(f64::NAN);
        let last = self.0.len().saturating_sub(1);
        let places = if at(last) < 10.0 { 2 } else { 1 };
        format!("| {name} | {:.places$} | {:.places$} | {:.places$} | {unit} |", at(0), self.middle(), at(last))
    }
}
