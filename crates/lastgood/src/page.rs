//! The pages of docs/errors, which are part of the program: an installed one has no folder of documentation.

/// Each code with its page, ordered by code.
const PAGES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/error_pages.rs"));

/// Gives the page of an error code.
pub(crate) fn of(code: &str) -> Option<&'static str> {
    PAGES.binary_search_by_key(&code, |(known, _)| *known).ok().map(|at| PAGES[at].1)
}

/// Gives the three codes that are most like a text.
pub(crate) fn like(text: &str) -> Vec<&'static str> {
    let mut all: Vec<&str> = PAGES.iter().map(|(code, _)| *code).collect();
    let likeness = |code: &&str| (strsim::jaro_winkler(code, text) * 1_000.0).round() as i64;
    all.sort_by_key(|code| std::cmp::Reverse(likeness(code)));
    all.truncate(3);
    all
}

/// Gives the command that prints a code's page.
pub(crate) fn command(code: &str) -> String {
    format!("lastgood explain {code}")
}

/// Gives a page as a terminal shows it: links to other pages become their codes.
pub(crate) fn text(page: &str) -> String {
    let mut text = String::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once('[') {
        text += before;
        match after.split_once("](").and_then(|(name, after)| Some((name, after.split_once(')')?.1))) {
            Some((name, after)) if !name.contains(']') => {
                text += name;
                rest = after;
            }
            _ => {
                text.push('[');
                rest = after;
            }
        }
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_found_by_its_code_and_reads_without_its_links() {
        assert!(PAGES.len() > 300, "{}", PAGES.len());
        for (code, page) in PAGES {
            assert_eq!(of(code), Some(*page), "{code}");
            let text = text(page);
            assert!(text.starts_with(&format!("# {code}\n")) && !text.contains(".md)"), "{code}: {text}");
        }
        assert_eq!(of("no-such-code"), None);
    }

    #[test]
    fn what_only_looks_like_a_link_stays() {
        assert_eq!(
            text("write [service.NAME], see [busy-none](busy-none.md)."),
            "write [service.NAME], see busy-none."
        );
        assert_eq!(text("`[[service.NAME.probe]]` (here)"), "`[[service.NAME.probe]]` (here)");
    }
}
