//! What no client can see: that a question with a known tag is neither read nor evaluated.

use super::{
    answer::{Then, answer},
    given::Given,
    http::{self, Read},
};
use lastgood_engine::{config::SwitchesConfig, switches::Folded};

#[test]
fn a_304_reads_no_context_and_evaluates_nothing() {
    let given = Given::new(&SwitchesConfig::default(), &Folded::default());
    // No evaluation could come of this body: whoever reads it answers 400.
    let body = "this is no JSON";
    let ask = |tag: &str| {
        let text = format!(
            "POST /ofrep/v1/evaluate/flags HTTP/1.1\r\nIf-None-Match: {tag}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let Read::Whole(request) = http::read(text.as_bytes()) else { panic!("it was not read") };
        let mut out = Vec::new();
        assert_eq!(answer(&request, &given, (true, None), &mut out), Then::Answered);
        String::from_utf8(out).unwrap()
    };
    assert!(ask("\"other\"").starts_with("HTTP/1.1 400"));
    assert!(ask(&given.tag(body.as_bytes())).starts_with("HTTP/1.1 304"));
}
