//! A page as HTML: no script, nothing from elsewhere, read on a phone first.

use super::Shown;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// Names the page's style for the policy that allows it and no other.
pub(super) fn style_digest() -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(STYLE)))
}

/// Writes a page.
pub(super) fn html(shown: &Shown) -> String {
    let heading = escaped(&shown.heading);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{heading}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{heading}</h1>\n"
    );
    if !shown.says.is_empty() {
        // Writing to a text can't fail.
        let _ = writeln!(page, "<p>{}</p>", escaped(&shown.says));
    }
    if !shown.facts.is_empty() {
        page += "<dl>\n";
        for (name, value) in &shown.facts {
            let _ = writeln!(page, "<dt>{name}</dt><dd>{}</dd>", escaped(value));
        }
        page += "</dl>\n";
    }
    if !shown.steps.is_empty() {
        page += "<h2>What is done</h2>\n<ol>\n";
        for (step, stays) in &shown.steps {
            let mark = if *stays { " <strong>can't be undone</strong>" } else { "" };
            let _ = writeln!(page, "<li>{}{mark}</li>", escaped(step));
        }
        page += "</ol>\n";
    }
    if shown.open {
        page += FORMS;
    }
    page + "</main>\n</body>\n</html>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// Without an action a form goes to the address it came from.
const FORMS: &str = "\
<form method=\"post\"><input type=\"hidden\" name=\"answer\" value=\"approve\"><button>Approve</button></form>
<form method=\"post\"><input type=\"hidden\" name=\"answer\" value=\"reject\">
<label for=\"reason\">Why not</label>
<input id=\"reason\" name=\"reason\" maxlength=\"500\" required autocomplete=\"off\">
<button class=\"no\">Reject</button></form>
";

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8886; --quiet: #595959; --yes: #1a6e35; --no: #a11c1c; --stays: #a11c1c; }
@media (prefers-color-scheme: dark) { :root { --quiet: #a8a8a8; --yes: #237a40; --no: #b83a3a; --stays: #ff9a90; } }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
main { max-width: 38rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; line-height: 1.25; margin: .5rem 0 1rem; }
h2 { font-size: 1.1rem; margin: 1.4rem 0 .4rem; }
dl { margin: 0; }
dt { color: var(--quiet); font-size: .875rem; margin-top: .6rem; }
dd { margin: 0; }
ol { padding-left: 1.4rem; margin: 0; }
strong { color: var(--stays); }
form { margin-top: 1.2rem; padding-top: 1.2rem; border-top: 1px solid var(--line); }
label { display: block; color: var(--quiet); font-size: .875rem; }
input { width: 100%; box-sizing: border-box; font: inherit; padding: .6rem; margin: .2rem 0 .8rem; }
button { width: 100%; min-height: 3rem; font: inherit; font-weight: 600; border: 0; border-radius: .4rem; }
button { color: #fff; background: var(--yes); }
button.no { background: var(--no); }
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_wrote_stays_text_and_a_page_has_no_script_and_nothing_from_elsewhere() {
        let text = "<script>alert(1)</script>\"'&".to_owned();
        let shown = Shown {
            status: 200,
            heading: text.clone(),
            says: text.clone(),
            facts: vec![("What", text.clone())],
            steps: vec![(text.clone(), true)],
            open: true,
        };
        let page = html(&shown);
        assert!(!page.contains("<script") && !page.contains("://") && !page.contains("src="), "{page}");
        assert_eq!(page.matches("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;").count(), 5);
        assert_eq!(page.matches("<form method=\"post\">").count(), 2);
        assert!(!html(&Shown { open: false, ..shown }).contains("<form"));
    }
}
