//! Prometheus' text format, version 0.0.4: one HELP, one TYPE, then the samples of a family together.

use std::fmt::Write as _;

/// What a family's values mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only grows.
    Counter,
}

/// A page under way.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    /// Opens a family; its samples follow.
    pub(crate) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a String never fails.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { page: self, name }
    }

    /// Gives the finished page.
    pub(crate) fn finish(self) -> String {
        self.text
    }
}

/// A family under way.
pub(crate) struct Family<'a> {
    page: &'a mut Page,
    name: &'static str,
}

impl Family<'_> {
    /// Adds a sample.
    pub(crate) fn sample(&mut self, labels: &[(&str, &str)], value: impl Into<Value>) {
        let text = &mut self.page.text;
        text.push_str(self.name);
        for (at, (label, value)) in labels.iter().enumerate() {
            text.push(if at == 0 { '{' } else { ',' });
            let _ = write!(text, "{label}=\"{}\"", escape(value));
        }
        if !labels.is_empty() {
            text.push('}');
        }
        let _ = writeln!(text, " {}", value.into().0);
    }
}

/// A sample's value as it is written.
pub(crate) struct Value(String);

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self(count.to_string())
    }
}

impl From<bool> for Value {
    fn from(is: bool) -> Self {
        Self(u8::from(is).to_string())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self(number.to_string())
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_labels_stay_inside_their_quotes() {
        let mut page = Page::default();
        let mut family = page.family("a_metric", Kind::Gauge, "One \\ line\nand another.");
        family.sample(&[("k", "a\"b\\c\nd} 1"), ("other", "ä")], 7_u64);
        assert_eq!(
            page.finish(),
            "# HELP a_metric One \\\\ line\\nand another.\n# TYPE a_metric gauge\n\
             a_metric{k=\"a\\\"b\\\\c\\nd} 1\",other=\"ä\"} 7\n"
        );
    }

    #[test]
    fn values_are_written_as_plain_numbers() {
        let mut page = Page::default();
        let mut family = page.family("m", Kind::Counter, "h");
        family.sample(&[], true);
        family.sample(&[], 1_763_717_223.125);
        family.sample(&[], u64::MAX);
        assert!(page.finish().ends_with("m 1\nm 1763717223.125\nm 18446744073709551615\n"));
    }
}
