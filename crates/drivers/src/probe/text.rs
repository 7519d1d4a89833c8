//! What of an answer may be shown: short, printable, without secrets.

/// Longest piece of an answer in a failure, in characters: enough to know an error page, too little to be a dump.
pub(crate) const SHOWN_CHARS_MAX: usize = 300;

/// Cuts a text to what is shown and takes out what a terminal would obey. Secrets are taken out before.
pub(crate) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_or_colourful_answer_is_cut_and_made_plain() {
        assert_eq!(shown("a\u{1b}[31mb\r\nc"), "a [31mb  c");
        assert_eq!(shown(&"é".repeat(301)), format!("{}…", "é".repeat(300)));
        assert_eq!(shown(&"é".repeat(300)), "é".repeat(300));
    }
}
