//! What is refused before anything runs.

use crate::world::{probe, step, try_probe};
use lastgood_domain::failure::Coded as _;
use lastgood_drivers::probe::{BusyConfig, ConfigProblem, Known, SecretSource, Step};
use std::{collections::BTreeMap, path::Path};

fn known() -> Known<'static> {
    Known { secrets: ["login"].into(), vars: ["account"].into() }
}

#[test]
fn an_unknown_variable_names_the_nearest_known_one() {
    let check = |keys: &str| step(keys).check(&known()).unwrap_err().to_string();
    assert_eq!(check("http = { path = \"/{prot}\" }"), "step \"step\": `{prot}` is unknown; did you mean `{port}`?");
    assert_eq!(
        check("http = { path = \"/\", json = { a = [{ b = \"{acount}\" }] } }"),
        "step \"step\": `{acount}` is unknown; did you mean `{account}`?"
    );
    assert_eq!(
        check("http = { path = \"/\", headers = { X = \"{secret:logon}\" } }"),
        "step \"step\": there is no [secret.logon]; did you mean `{secret:login}`?"
    );
    for keys in [
        "http = { path = \"/\", body = \"{nope}\" }",
        "http = { path = \"/\" }\nexpect = { body = \"{nope}\" }",
        "http = { path = \"/\" }\nexpect = { json = { \"$.a\" = { matches = \"{nope}\" } } }",
        "http = { path = \"/\" }\nexpect = { headers = { a = \"{nope}\" } }",
        "http = { path = \"/\" }\ncapture = { a = { body = \"{nope}\" } }",
        "tcp = { send = \"{nope}\" }",
        "command = [\"x\", \"{nope}\"]",
        "command = [\"x\"]\nenv = { A = \"{nope}\" }",
        "websocket = { path = \"/\", script = [{ send_json = { a = \"{nope}\" } }] }",
        "any = [{ name = \"a\", http = { path = \"/{nope}\" } }]",
    ] {
        let problem = step(keys).check(&known()).unwrap_err();
        assert!(matches!(&problem, ConfigProblem::UnknownVariable { name, .. } if name == "nope"), "{keys}");
        assert_eq!(problem.code(), "probe-config");
        assert!(problem.hint().is_some());
    }
    step("http = { path = \"/{host}{port}{data}{instance}{service}{account}\" }").check(&known()).unwrap();
}

#[test]
fn a_capture_is_known_from_the_next_step_on_and_only_if_every_alternative_makes_it() {
    let text = r#"
        [[probe]]
        name = "a"
        any = [
          { name = "new", http = { path = "/n" }, capture = { token = { json = "$.t" }, extra = { json = "$.e" } } },
          { name = "old", http = { path = "/o" }, capture = { token = { json = "$.t" } } },
        ]
        [[probe]]
        name = "b"
        http = { path = "/{token}" }
        "#;
    probe(text).check(&known()).unwrap();
    assert!(probe(&text.replace("/{token}", "/{extra}")).check(&known()).is_err());
    assert!(probe(&text.replace("\"/n\"", "\"/{token}\"")).check(&known()).is_err());
    assert_eq!(probe(&text.replace("\"b\"", "\"a\"")).check(&known()), Err(ConfigProblem::SameName("a".into())));
    assert_eq!(lastgood_drivers::probe::ProbeConfig::default().check(&known()), Err(ConfigProblem::NoSteps));
}

#[test]
fn a_secret_never_stands_in_an_argument() {
    let problem = step("command = [\"x\", \"{secret:login}\"]").check(&known()).unwrap_err();
    assert!(matches!(problem, ConfigProblem::SecretInArgument { .. }));
}

#[test]
fn mistakes_within_a_step_are_refused_where_they_are_read() {
    for (keys, says) in [
        ("", "exactly one of http"),
        ("http = { path = \"/\" }\ntcp = {}", "exactly one of http"),
        ("http = { path = \"x\" }", "must start with /"),
        ("http = { path = \"/a b\" }", "must start with /"),
        ("http = { path = \"/\", json = 1, body = \"x\" }", "json or body"),
        ("http = { path = \"/\", method = \"A B\" }", "method must be one word"),
        ("http = { path = \"/\", headers = { \"a b\" = \"c\" } }", "is not a header"),
        ("http = { path = \"/\", headers = { Content-Length = \"1\" } }", "is set by itself"),
        ("http = { path = \"/\", colour = 1 }", "unknown field `colour`"),
        ("http = { path = \"/\" }\nexpect = { status = 99 }", "is not a status"),
        ("http = { path = \"/\" }\nexpect = { status = \"6xx\" }", "is not a status"),
        ("http = { path = \"/\" }\nexpect = { status = [] }", "is not a status"),
        ("http = { path = \"/\" }\nexpect = { body = \"(\" }", "is not a pattern"),
        ("http = { path = \"/\" }\nexpect = { json = { \"x\" = 1 } }", "is not a path into JSON"),
        ("http = { path = \"/\" }\nexpect = { json = { \"$.x\" = { is = 1 } } }", "write a plain value"),
        ("http = { path = \"/\" }\nexpect = { exit = 0 }", "expect.exit means nothing for http"),
        ("command = [\"x\"]\nexpect = { status = 200 }", "expect.status means nothing for command"),
        ("tcp = {}\nexpect = { body = \"x\" }", "expect.body means nothing for tcp"),
        ("http = { path = \"/\" }\nenv = { A = \"1\" }", "env is for command"),
        ("http = { path = \"/\" }\ncapture = { port = { body = \"x\" } }", "can't be called \"port\""),
        ("http = { path = \"/\" }\ncapture = { x = { stdout = \"x\" } }", "capture \"x\" is one of"),
        ("http = { path = \"/\" }\ncapture = { x = {} }", "capture \"x\" is one of"),
        ("http = { path = \"/\" }\ntries = 0", "tries must be 1 to 100"),
        ("http = { path = \"/\" }\ntimeout = \"0s\"", "timeout must be longer"),
        ("http = { path = \"/\" }\nany = [{ name = \"a\", tcp = {} }]", "stand in each alternative"),
        ("any = [{ name = \"a\", tcp = {} }, { name = \"a\", tcp = {} }]", "a name of its own"),
        ("command = []", "command needs a program"),
        ("websocket = { path = \"/\", script = [{}] }", "each turn"),
    ] {
        let error = try_probe(&format!("[[probe]]\nname = \"s\"\n{keys}")).unwrap_err();
        assert!(error.contains(says), "{keys}: {error}");
    }
}

#[test]
fn the_examples_and_the_guide_are_read_and_checked() {
    #[derive(serde::Deserialize)]
    struct File {
        #[serde(default)]
        secret: BTreeMap<String, SecretSource>,
        service: BTreeMap<String, Service>,
    }
    #[derive(serde::Deserialize)]
    struct Service {
        ready: Option<Step>,
        #[serde(default)]
        probe: Vec<Step>,
        busy: Option<BusyConfig>,
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let guide = read("docs/guide/probes.md");
    let mut texts: Vec<String> =
        guide.split("```toml\n").skip(1).map(|part| part.split("```").next().unwrap().into()).collect();
    assert!(texts.len() >= 5, "the guide has {} examples", texts.len());
    texts.extend(
        ["notebook", "isso", "actual-server", "last-layer"].map(|name| read(&format!("examples/{name}/lastgood.toml"))),
    );
    for text in texts {
        let file: File = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let known = Known { secrets: file.secret.keys().map(String::as_str).collect(), vars: ["account"].into() };
        for service in file.service.values() {
            service.ready.iter().for_each(|ready| ready.check(&known).unwrap());
            service.busy.iter().for_each(|busy| busy.check(&known).unwrap());
            if !service.probe.is_empty() {
                let config = lastgood_drivers::probe::ProbeConfig { steps: service.probe.clone() };
                config.check(&known).unwrap();
            }
            // Written and read again, a step is the same.
            for step in &service.probe {
                let json = serde_json::to_value(step).unwrap();
                assert_eq!(&serde_json::from_value::<Step>(json).unwrap(), step);
            }
        }
    }
}
