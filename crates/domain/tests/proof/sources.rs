//! Names in source text, outside of comments.

use lastgood_domain::proof::{Critical, Language, defines, mentions};

fn language(extension: &str) -> Language {
    Language::of(extension).unwrap()
}

#[test]
fn a_mention_in_a_comment_is_none() {
    for (extension, text, mentioned) in [
        ("rs", "fn t() { transfer(1); }", true),
        ("rs", "// transfer(1)\n", false),
        ("rs", "/* transfer\n transfer */", false),
        ("rs", "let url = \"http://x\"; transfer();", true),
        ("rs", "let c = '\"'; // transfer\n", false),
        ("rs", "fn t<'a>(x: &'a str) { transfer() }", true),
        ("rs", "transfers(); my_transfer(); transfer2()", false),
        ("py", "    \"\"\"Tests transfer.\"\"\"\n    # transfer\n", false),
        ("py", "sql = \"\"\"SELECT transfer()\"\"\"\n", true),
        ("py", "assert transfer(1) == '#'", true),
        ("sql", "-- transfer\nSELECT 1;", false),
        ("sql", "SELECT throws_ok('SELECT transfer(1, 2)');", true),
        ("js", "it('moves', () => transfer('//'));", true),
        ("sh", "# transfer", false),
    ] {
        assert_eq!(mentions(text, language(extension), "transfer"), mentioned, "{extension}: {text}");
    }
}

#[test]
fn a_definition_is_a_word_such_as_fn_before_the_name_or_what_is_written() {
    for (extension, text, defined) in [
        ("rs", "pub(crate) const fn transfer<T>(x: T) {}", true),
        ("rs", "transfer(1);", false),
        ("rs", "// fn transfer()\n", false),
        ("rs", "let text = \"fn transfer()\";", false),
        ("py", "async def transfer(a):", true),
        ("go", "func (a *Account) transfer(b int) {", true),
        ("js", "export async function* transfer() {}", true),
        ("sql", "create or replace FUNCTION bank.transfer(a int)", true),
        ("c", "int transfer(int a) {", false),
    ] {
        assert_eq!(defines(text, language(extension), "transfer", None), defined, "{extension}: {text}");
    }
    assert!(defines("static int\ntransfer( int a)", language("c"), "transfer", Some("int transfer( int")));
    assert!(!defines("/* int transfer( int */", language("c"), "transfer", Some("int transfer( int")));
}

#[test]
fn the_name_of_a_critical_function_is_the_last_part_of_its_path() {
    for path in ["bank::accounts::transfer", "bank.accounts.transfer", "bank/accounts#transfer", "transfer"] {
        assert_eq!(Critical::name(path), "transfer");
    }
}
