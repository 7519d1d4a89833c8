//! Looks for a name in source text, outside of comments, in any common language.
//!
//! This reads no grammar: it knows how a language writes comments and strings, and which words stand before a
//! function's name. It tells that a name is there, not what is done with it.

use alloc::{string::String, vec::Vec};

/// How a language writes what is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Language {
    line: &'static [&'static str],
    block: Option<(&'static str, &'static str)>,
    quotes: &'static [char],
    /// Strings in three quotes, which are comments where they begin a line.
    documents: bool,
}

/// Words before the name of a function.
const KEYWORDS: [&str; 10] =
    ["fn", "def", "defn", "function", "func", "fun", "sub", "procedure", "proc", "macro_rules!"];

impl Language {
    /// Finds the language by a file's extension; none if it is not known.
    pub fn of(extension: &str) -> Option<Self> {
        let slashes = Self { line: &["//"], block: Some(("/*", "*/")), quotes: &['"'], documents: false };
        let hash = Self { line: &["#"], block: None, quotes: &['"', '\''], documents: false };
        Some(match extension {
            "rs" | "c" | "h" | "cc" | "cpp" | "cxx" | "hpp" | "java" | "cs" | "swift" | "zig" | "scala" | "kt" => {
                slashes
            }
            "go" => Self { quotes: &['"', '`'], ..slashes },
            "js" | "mjs" | "cjs" | "jsx" | "ts" | "mts" | "tsx" | "dart" | "groovy" => {
                Self { quotes: &['"', '\'', '`'], ..slashes }
            }
            "php" => Self { line: &["//", "#"], quotes: &['"', '\''], ..slashes },
            "py" | "pyi" => Self { documents: true, ..hash },
            "rb" | "sh" | "bash" | "pl" | "pm" | "t" | "r" | "ex" | "exs" | "jl" | "feature" => hash,
            "sql" | "pgsql" => Self { line: &["--"], block: Some(("/*", "*/")), quotes: &['\''], documents: false },
            "lua" | "hs" => Self { line: &["--"], block: None, quotes: &['"'], documents: false },
            "clj" | "cljs" | "el" | "lisp" | "scm" => {
                Self { line: &[";"], block: None, quotes: &['"'], documents: false }
            }
            "erl" => Self { line: &["%"], block: None, quotes: &['"'], documents: false },
            _ => return None,
        })
    }

    /// Gives the text with every comment in blanks, and every string too unless `strings` keeps them.
    fn code(&self, text: &str, strings: bool) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let length = self.comment(rest, &out).map(|length| (length, false)).or_else(|| {
                let length = self.string(rest)?;
                Some((length, strings))
            });
            let (length, keeps) = length.unwrap_or((c.len_utf8(), true));
            let (part, after) = rest.split_at(length);
            match keeps {
                true => out.push_str(part),
                false => out.extend(part.chars().map(|c| if c == '\n' { '\n' } else { ' ' })),
            }
            rest = after;
        }
        out
    }

    /// Gives the length of a comment that begins here.
    fn comment(&self, rest: &str, before: &str) -> Option<usize> {
        let whole = |end: &str, from: usize| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
        if let Some((begin, end)) = self.block
            && rest.starts_with(begin)
        {
            return Some(whole(end, begin.len()));
        }
        if self.line.iter().any(|line| rest.starts_with(line)) {
            return Some(rest.find('\n').unwrap_or(rest.len()));
        }
        let quotes = ["\"\"\"", "'''"].into_iter().find(|quotes| self.documents && rest.starts_with(quotes))?;
        let begins = before.rsplit('\n').next().unwrap_or_default().trim().is_empty();
        begins.then(|| whole(quotes, 3))
    }

    /// Gives the length of a string, or of a character in quotes, that begins here.
    fn string(&self, rest: &str) -> Option<usize> {
        if let Some(quotes) = ["\"\"\"", "'''"].into_iter().find(|quotes| self.documents && rest.starts_with(quotes)) {
            return Some(rest[3..].find(quotes).map_or(rest.len(), |at| at + 6));
        }
        let quote = rest.chars().next()?;
        if quote == '\'' && !self.quotes.contains(&quote) {
            // Of a quote alone nobody knows: it may be a lifetime. One character in two of them is one.
            let mut after = rest[1..].chars();
            let first = after.next()?;
            let second = if first == '\\' { after.next()? } else { first };
            let length = if first == '\\' { 2 + second.len_utf8() } else { 1 + second.len_utf8() };
            return (after.next() == Some('\'')).then_some(length + 1);
        }
        if !self.quotes.contains(&quote) {
            return None;
        }
        let mut escaped = false;
        for (at, c) in rest.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == quote => return Some(at + 1),
                _ => {}
            }
        }
        Some(rest.len())
    }
}

/// Tells whether `text` has `name` as a whole word outside of comments; in a string it counts.
pub fn mentions(text: &str, language: Language, name: &str) -> bool {
    words(&language.code(text, true), name).next().is_some()
}

/// Tells whether `text` defines a function `name`: a word such as `fn` before it, or what `written` says.
pub fn defines(text: &str, language: Language, name: &str, written: Option<&str>) -> bool {
    let code = language.code(text, false);
    if let Some(written) = written {
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        return plain(&code).contains(&plain(written));
    }
    words(&code, name).any(|at| {
        // Over a schema or class before it, a receiver in parentheses, and a star: `func (a *Account) transfer`.
        let is_path = |c: char| is_word(c) || matches!(c, '.' | ':');
        let mut before = code[..at].trim_end_matches(is_path).trim_end().trim_end_matches('*').trim_end();
        if before.ends_with(')') {
            before = before.rfind('(').map_or(before, |open| before[..open].trim_end());
        }
        let keyword = before.rsplit(|c: char| !is_word(c) && c != '!').next().unwrap_or_default();
        KEYWORDS.iter().any(|known| keyword.eq_ignore_ascii_case(known))
    })
}

const fn is_ascii_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$'
}

fn is_word(c: char) -> bool {
    is_ascii_word(c) || c.is_alphanumeric()
}

/// Finds `name` as a whole word.
fn words<'t>(text: &'t str, name: &'t str) -> impl Iterator<Item = usize> + 't {
    let found = if name.is_empty() { None } else { Some(text.match_indices(name)) };
    found.into_iter().flatten().map(|(at, _)| at).filter(move |at| {
        let before = text[..*at].chars().next_back();
        let after = text[at + name.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}
