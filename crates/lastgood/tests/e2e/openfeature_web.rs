//! Other people's SDK for browsers, as it comes from npm, keeps all flags of one person and hears of changes by itself.
//! Needs the network.

use crate::{kit::until, openfeature::run, switches::World};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write as _,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

/// Releases that were current when this was written; any OFREP provider must work as it is.
///
/// Node 20 has no EventSource, which browsers have.
const WEB: [&str; 3] = ["@openfeature/web-sdk@1.10.0", "@openfeature/ofrep-web-provider@0.4.3", "eventsource@5.1.5"];

const FLAGS: &str = r#"
[switches.flag.greeting]
type = "string"
default = "Hello"
variants = { long = "Good day" }

[switches.flag.half]
type = "boolean"
"#;

/// One tab of a browser: says what it has at its start and after each change, and becomes whoever its input names.
const TAB: &str = r#"
import { createInterface } from 'node:readline';
import { OpenFeature, ProviderEvents } from '@openfeature/web-sdk';
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider';
import { EventSource } from 'eventsource';
globalThis.EventSource = EventSource;
const [baseUrl, options] = process.argv.slice(2);
const answered = { 200: 0, 304: 0 };
const fetchImplementation = async (...asked) => {
  const answer = await fetch(...asked);
  answered[answer.status] = (answered[answer.status] ?? 0) + 1;
  return answer;
};
await OpenFeature.setContext({ targetingKey: 'alice', plan: 'pro' });
const provider = new OFREPWebProvider({ baseUrl, fetchImplementation, ...JSON.parse(options) });
await OpenFeature.setProviderAndWait(provider);
const client = OpenFeature.getClient();
const say = (why) => console.log(JSON.stringify({
  why,
  greeting: client.getStringValue('greeting', 'mine'),
  half: client.getBooleanValue('half', false),
  answered,
}));
client.addHandler(ProviderEvents.ConfigurationChanged, ({ flagsChanged }) => say(flagsChanged.join()));
say('start');
for await (const line of createInterface({ input: process.stdin })) {
  if (line) await OpenFeature.setContext({ targetingKey: line });
  say(line);
}
process.exit(0);
"#;

/// A tab that is open.
struct Tab {
    process: Child,
    input: ChildStdin,
    heard: Arc<Mutex<Vec<Value>>>,
}

impl Tab {
    fn open(world: &World, options: &Value) -> Self {
        let folder = world.path("web");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("package.json"), "{\"private\":true,\"type\":\"module\"}").unwrap();
        fs::write(folder.join("tab.mjs"), TAB).unwrap();
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts"]).args(WEB);
        run(npm.current_dir(&folder));
        let url = format!("http://127.0.0.1:{}", world.port);
        let mut node = Command::new("node");
        node.args(["tab.mjs", &url, &options.to_string()]).current_dir(&folder);
        let mut process = node.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let heard = Arc::<Mutex<Vec<Value>>>::default();
        let (input, said, out) = (process.stdin.take().unwrap(), heard.clone(), process.stdout.take().unwrap());
        thread::spawn(move || {
            for said_now in serde_json::Deserializer::from_reader(out).into_iter() {
                said.lock().unwrap().push(said_now.unwrap());
            }
        });
        Self { process, input, heard }
    }

    /// Types a line into it.
    fn type_in(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// Waits for the first thing it says for this reason, and forgets it and all before it.
    #[track_caller]
    fn hears(&self, why: &str) -> Value {
        let found = || self.heard.lock().unwrap().iter().position(|said| said["why"] == why);
        until(why, || found().is_some());
        let at = found().unwrap();
        self.heard.lock().unwrap().drain(..=at).next_back().unwrap()
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn values(said: &Value) -> (&Value, &Value) {
    (&said["greeting"], &said["half"])
}

#[test]
fn the_web_provider_hears_of_a_flip_over_its_event_stream_without_asking() {
    let world = World::new("lease = \"1h\"", FLAGS);
    let _daemon = world.serve();
    let tab = Tab::open(&world, &json!({ "changeDetection": "sse" }));
    let start = tab.hears("start");
    assert_eq!(values(&start), (&json!("Hello"), &json!(false)));
    assert_eq!(start["answered"], json!({ "200": 1, "304": 0 }), "one request for all flags: {start}");
    world.lastgood(&["flag", "on", "greeting", "--reason", "released"]).ended(0);
    let flipped = tab.hears("greeting");
    assert_eq!(values(&flipped), (&json!("Good day"), &json!(false)));
    let asked = flipped["answered"]["200"].as_u64().unwrap() + flipped["answered"]["304"].as_u64().unwrap();
    // Once at its start, perhaps once because the stream began, once because it was told; it never polls.
    assert!((2..=3).contains(&asked), "{flipped}");
    world.lastgood(&["flag", "off", "greeting", "--reason", "too long"]).ended(0);
    assert_eq!(tab.hears("greeting")["greeting"], "Hello");
}

#[test]
fn the_web_provider_that_polls_is_told_that_nothing_changed_until_a_flag_or_the_person_does() {
    let world = World::new("lease = \"1h\"", FLAGS);
    let rule = ["flag", "set", "half", "--rule", "plan == pro => on", "--serve", "off", "--reason", "pro"];
    world.lastgood(&["flag", "on", "half", "--reason", "released"]).ended(0);
    world.lastgood(&rule).ended(0);
    let _daemon = world.serve();
    let mut tab = Tab::open(&world, &json!({ "changeDetection": "polling", "pollInterval": 50 }));
    assert_eq!(values(&tab.hears("start")), (&json!("Hello"), &json!(true)));
    // It asks again and again with the tag that it was given, and is given the flags no second time.
    until("a poll that changes nothing", || {
        tab.type_in("");
        tab.hears("")["answered"]["304"].as_u64() > Some(2)
    });
    tab.type_in("");
    assert_eq!(tab.hears("")["answered"]["200"], 1);
    world.lastgood(&["flag", "on", "greeting", "--reason", "released"]).ended(0);
    let flipped = tab.hears("greeting");
    assert_eq!(values(&flipped), (&json!("Good day"), &json!(true)));
    assert_eq!(flipped["answered"]["200"], 2);
    // Another person in the same tab: the tag is not hers.
    tab.type_in("bob");
    let bob = tab.hears("bob");
    assert_eq!(values(&bob), (&json!("Good day"), &json!(false)));
    // A poll may have been under way at the same time.
    assert!((3..=4).contains(&bob["answered"]["200"].as_u64().unwrap()), "{bob}");
}
