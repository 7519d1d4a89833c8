//! Other people's SDKs, as they come from their registries, ask a real daemon for flags. Needs the network.

use crate::switches::World;
use serde_json::{Value, json};
use std::{fs, path::Path, process::Command};

/// Releases that were current when this was written; any OFREP provider must work as it is.
const JS: [&str; 3] =
    ["@openfeature/server-sdk@1.23.0", "@openfeature/ofrep-provider@0.1.3", "@openfeature/ofrep-core@0.1.4"];
const PYTHON: [&str; 2] = ["openfeature-sdk==0.10.0", "openfeature-provider-ofrep==0.3.0"];

const FLAGS: &str = r#"
[switches.flag.greeting]
type = "string"
default = "Hello"
variants = { long = "Good day" }

[switches.flag.limit]
type = "number"
default = 10
variants = { high = 50 }

[switches.flag.theme]
type = "object"
variants = { dark = { background = "black", sizes = [1, 2] } }

[switches.flag.half]
type = "boolean"
subsystem = "auth"
"#;

/// Asks each flag for alice and says the value, the reason and the error code, as one JSON document.
const ASK_JS: &str = r#"
import { OpenFeature } from '@openfeature/server-sdk';
import { OFREPProvider } from '@openfeature/ofrep-provider';
await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl: process.argv[2] }));
const client = OpenFeature.getClient();
const alice = { targetingKey: 'alice', plan: 'pro' };
const told = {};
const note = (name, d) => { told[name] = [d.value, d.reason, d.errorCode ?? null]; };
note('greeting', await client.getStringDetails('greeting', 'mine', alice));
note('limit', await client.getNumberDetails('limit', 1, alice));
note('theme', await client.getObjectDetails('theme', {}, alice));
note('half', await client.getBooleanDetails('half', false, alice));
note('nobody', await client.getBooleanDetails('half', false, {}));
note('unknown', await client.getBooleanDetails('unknown', true, alice));
note('type', await client.getBooleanDetails('greeting', true, alice));
console.log(JSON.stringify(told));
"#;

const ASK_PYTHON: &str = r#"
import json, sys
from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
api.set_provider(OFREPProvider(sys.argv[1]))
client = api.get_client()
alice = EvaluationContext("alice", {"plan": "pro"})
told = {}
def note(name, d):
    told[name] = [d.value, d.reason, d.error_code]
note("greeting", client.get_string_details("greeting", "mine", alice))
note("limit", client.get_integer_details("limit", 1, alice))
note("theme", client.get_object_details("theme", {}, alice))
note("half", client.get_boolean_details("half", False, alice))
note("nobody", client.get_boolean_details("half", False, EvaluationContext()))
note("unknown", client.get_boolean_details("unknown", True, alice))
note("type", client.get_boolean_details("greeting", True, alice))
print(json.dumps(told))
"#;

/// What the SDKs must say in each of three moments: before anything is on, with all on, and with auth tripped.
fn tell(world: &World, ask: impl Fn() -> Value, reasons: [&str; 2]) {
    let [error, type_error] = reasons;
    let failed = |value: Value, code: &str| json!([value, error, code]);
    let told = ask();
    assert_eq!(told["greeting"], json!(["Hello", "DISABLED", null]));
    assert_eq!(told["limit"], json!([10, "DISABLED", null]));
    assert_eq!(told["half"], json!([false, "DISABLED", null]));
    assert_eq!(told["theme"][0], json!({}), "off without a value: the program's own");
    assert_eq!(told["unknown"], failed(json!(true), "FLAG_NOT_FOUND"));
    assert_eq!(told["type"], json!([true, error, type_error]));

    for flag in ["greeting", "limit", "theme", "half"] {
        world.lastgood(&["flag", "on", flag, "--reason", "released"]).ended(0);
    }
    world.lastgood(&["flag", "set", "half", "--percent", "100", "--reason", "all"]).ended(0);
    let rule = ["flag", "set", "greeting", "--rule", "plan == pro => long", "--serve", "default", "--reason", "pro"];
    world.lastgood(&rule).ended(0);
    let told = ask();
    assert_eq!(told["greeting"], json!(["Good day", "TARGETING_MATCH", null]));
    assert_eq!(told["limit"], json!([50, "STATIC", null]));
    assert_eq!(told["theme"], json!([{ "background": "black", "sizes": [1, 2] }, "STATIC", null]));
    assert_eq!(told["half"], json!([true, "SPLIT", null]));
    assert_eq!(told["nobody"], failed(json!(false), "TARGETING_KEY_MISSING"));

    world.lastgood(&["switch", "trip", "auth", "--reason", "leak"]).ended(0);
    assert_eq!(ask()["half"], json!([false, "DISABLED", null]));
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_javascript_provider_works_as_it_comes_from_npm() {
    let world = World::new("lease = \"1h\"", FLAGS);
    let folder = world.path("js");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("package.json"), "{\"private\":true,\"type\":\"module\"}").unwrap();
    fs::write(folder.join("ask.mjs"), ASK_JS).unwrap();
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts"]).args(JS);
    run(npm.current_dir(&folder));
    let _daemon = world.serve();
    let url = format!("http://127.0.0.1:{}", world.port);
    let ask = || serde_json::from_str(&run(Command::new("node").args(["ask.mjs", &url]).current_dir(&folder))).unwrap();
    tell(&world, ask, ["ERROR", "TYPE_MISMATCH"]);
}

#[test]
fn the_python_provider_works_as_it_comes_from_pypi() {
    let world = World::new("lease = \"1h\"", FLAGS);
    let folder = world.path("py");
    let python = folder.join("bin/python");
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PYTHON));
    fs::write(folder.join("ask.py"), ASK_PYTHON).unwrap();
    let _daemon = world.serve();
    let url = format!("http://127.0.0.1:{}", world.port);
    let ask = || ask_python(&python, &folder.join("ask.py"), &url);
    tell(&world, ask, ["ERROR", "TYPE_MISMATCH"]);
}

fn ask_python(python: &Path, script: &Path, url: &str) -> Value {
    serde_json::from_str(&run(Command::new(python).arg(script).arg(url))).unwrap()
}
