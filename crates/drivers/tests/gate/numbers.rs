//! A query that gives one number within its limits, from a server that answers as Prometheus does.

use crate::{asked, server::Server};
use lastgood_domain::event::Verdict::{CannotTell, Fail, Pass};

fn of(result: &'static str, limits: &str) -> (lastgood_domain::event::Verdict, String) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(move |_| {
        (200, format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":{result}}}}}"))
    });
    let query = "errors{{release=\\\"{tag}\\\"}}".replace("{{", "{").replace("}}", "}");
    asked(&format!("prometheus = {{ url = \"{}\", query = \"{query}\", {limits} }}", server.url), folder.path())
}

#[test]
fn a_number_within_its_limits_passes_and_no_number_is_no_yes() {
    let value = r#"[{"metric":{},"value":[1,"0.015"]}]"#;
    assert_eq!(of(value, "max = 0.02"), (Pass, "0.015, at most 0.02".into()));
    assert_eq!(of(value, "max = 0.01"), (Fail, "0.015 is more than 0.01".into()));
    assert_eq!(of(value, "min = 1"), (Fail, "0.015 is less than 1".into()));
    assert_eq!(of(value, "min = 0, max = 1").0, Pass);
    assert_eq!(of("[]", "max = 1"), (CannotTell, "its query has no data".into()));
    assert_eq!(of(r#"[{"metric":{},"value":[1,"NaN"]}]"#, "max = 1").0, CannotTell);
    assert_eq!(of(r#"[{"value":[1,"1"]},{"value":[1,"2"]}]"#, "max = 5").0, CannotTell);
    let folder = tempfile::tempdir().unwrap();
    let nobody = "prometheus = { url = \"http://127.0.0.1:1\", query = \"up\", min = 1 }";
    assert_eq!(asked(nobody, folder.path()).0, CannotTell);
}

#[test]
fn the_query_is_about_the_release_and_what_nobody_knows_is_asked_of_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(|_| (200, "{}".into()));
    let toml = |query: &str| format!("prometheus = {{ url = \"{}\", query = '{query}', min = 1 }}", server.url);
    asked(&toml(r#"up{release="{tag}"}"#), folder.path());
    assert!(server.asked()[0].target.contains("1.2.0"), "{:?}", server.asked());
    let of = lastgood_drivers::gate::Subject::default();
    let (verdict, because) = crate::asked_of(&toml(r#"up{release="{tag}"}"#), folder.path(), &of);
    assert_eq!((verdict, server.asked().len()), (CannotTell, 1), "{because}");
}
