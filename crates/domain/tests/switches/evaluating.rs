//! Who gets which value.

use crate::{flag, reason, record, switch, variant};
use lastgood_domain::{
    switches::{
        Attribute, Comparison, Compiled, Condition, Context, Definition, Event, Failed, FlagKind, FlagValue, Part,
        Rule, Serve, Switches, Test, Why,
    },
    terms::FlagKey,
    traffic::seat,
};
use std::collections::BTreeMap;

/// Somebody, as JSON.
struct Somebody(serde_json::Value);

impl Context for Somebody {
    fn targeting_key(&self) -> Option<&str> {
        self.0["targetingKey"].as_str()
    }

    fn attribute(&self, name: &str) -> Attribute<'_> {
        match &self.0[name] {
            serde_json::Value::String(text) => Attribute::Text(text),
            serde_json::Value::Bool(is) => Attribute::Boolean(*is),
            serde_json::Value::Number(number) => Attribute::Number(number.as_f64().unwrap()),
            _ => Attribute::Absent,
        }
    }
}

fn on(definition: Definition) -> Switches {
    let (flag, reason) = (flag("new"), reason("beta"));
    let mut state = Switches::default();
    state.apply(0, Some(&record("alice", Event::FlagSet { flag: flag.clone(), definition, reason: reason.clone() })));
    state.apply(1, Some(&record("alice", Event::FlagTurnedOn { flag, reason })));
    state
}

fn asked(state: &Switches, who: serde_json::Value) -> Result<(Option<String>, Why), Failed> {
    asked_with(state, &BTreeMap::new(), who)
}

fn asked_with(
    state: &Switches,
    declared: &BTreeMap<FlagKey, Definition>,
    who: serde_json::Value,
) -> Result<(Option<String>, Why), Failed> {
    let (key, live) = state.live(declared).remove(0);
    let compiled = Compiled::new(key, &live);
    let outcome = compiled.evaluate(&Somebody(who))?;
    Ok((outcome.variant.map(|at| compiled.variants[usize::from(at)].to_string()), outcome.why))
}

fn gets(name: &str, why: Why) -> Result<(Option<String>, Why), Failed> {
    Ok((Some(name.into()), why))
}

fn when(attribute: &str, test: Test) -> Definition {
    let rule =
        Rule { when: vec![Condition { attribute: attribute.into(), test }], serve: Serve::Variant(variant("on")) };
    Definition { rules: vec![rule], serve: Serve::Variant(variant("off")), ..Definition::boolean() }
}

fn fits(attribute: &str, test: Test, value: serde_json::Value) -> bool {
    asked(&on(when(attribute, test)), serde_json::json!({ attribute: value })).unwrap().1 == Why::TargetingMatch
}

#[test]
fn each_test_of_an_attribute_holds_where_it_must_and_nowhere_else() {
    let equals = |text: &str| Test::Equals { value: text.into() };
    let number = |is, text: &str| Test::Number { is, value: text.into() };
    let version = |is, text: &str| Test::Version { is, value: text.into() };
    use Comparison::{AtLeast, AtMost, Equal, Greater, Less};
    let holds = [
        ("plan", equals("pro"), serde_json::json!("pro")),
        ("seats", equals("5"), serde_json::json!(5.0)),
        ("beta", equals("true"), serde_json::json!(true)),
        ("plan", Test::In { values: vec!["free".into(), "pro".into()] }, serde_json::json!("pro")),
        ("mail", Test::Prefix { value: "qa-".into() }, serde_json::json!("qa-7@example.org")),
        ("seats", number(Less, "10"), serde_json::json!(9)),
        ("seats", number(AtMost, "10"), serde_json::json!(10)),
        ("seats", number(Equal, "1.5"), serde_json::json!(1.5)),
        ("seats", number(AtLeast, "-1"), serde_json::json!(-1)),
        ("seats", number(Greater, "10"), serde_json::json!(11)),
        ("app", version(AtLeast, "1.4.0"), serde_json::json!("1.10.0")),
        ("app", version(Less, "2.0.0"), serde_json::json!("2.0.0-rc.1")),
        ("app", version(Equal, "2.0.0"), serde_json::json!("2.0.0+build7")),
        ("targetingKey", equals("alice"), serde_json::json!("alice")),
    ];
    for (attribute, test, value) in holds {
        assert!(fits(attribute, test.clone(), value.clone()), "{attribute} {test:?} {value}");
    }
    let fails = [
        ("plan", equals("pro"), serde_json::json!("Pro")),
        ("plan", equals("pro"), serde_json::json!(null)),
        ("plan", equals("pro"), serde_json::json!(["pro"])),
        ("seats", equals("5"), serde_json::json!("5.0")),
        ("mail", Test::Prefix { value: "qa-".into() }, serde_json::json!(7)),
        ("seats", number(Less, "10"), serde_json::json!("9")),
        ("seats", number(Less, "10"), serde_json::json!(10)),
        ("app", version(AtLeast, "1.4.0"), serde_json::json!("1.4")),
        ("app", version(AtLeast, "1.4.0"), serde_json::json!("1.4.0-rc.1")),
        ("app", version(AtLeast, "1.4.0"), serde_json::json!(2)),
    ];
    for (attribute, test, value) in fails {
        assert!(!fits(attribute, test.clone(), value.clone()), "{attribute} {test:?} {value}");
    }
}

#[test]
fn all_conditions_of_a_rule_must_hold_and_the_first_rule_decides() {
    let condition = |attribute: &str, value: &str| Condition {
        attribute: attribute.into(),
        test: Test::Equals { value: value.into() },
    };
    let mut definition = when("plan", Test::Equals { value: "pro".into() });
    definition.rules[0].when.push(condition("country", "ch"));
    let last = Rule { when: vec![condition("plan", "pro")], serve: Serve::Variant(variant("off")) };
    definition.rules.push(last);
    let state = on(definition);
    assert_eq!(asked(&state, serde_json::json!({"plan": "pro", "country": "ch"})), gets("on", Why::TargetingMatch));
    assert_eq!(asked(&state, serde_json::json!({"plan": "pro"})), gets("off", Why::TargetingMatch));
    assert_eq!(asked(&state, serde_json::json!({})), gets("off", Why::Default));
}

fn shared(seats: u16) -> Switches {
    let part = Part { variant: variant("on"), seats };
    on(Definition { serve: Serve::Split(vec![part]), ..Definition::boolean() })
}

#[test]
fn a_share_is_the_seat_of_traffic_and_who_is_in_it_stays_as_it_grows() {
    let people: Vec<String> = (0..2_000).map(|n| format!("person-{n}")).collect();
    let mut before: Vec<&String> = Vec::new();
    for seats in [0, 500, 2_500, 10_000] {
        let state = shared(seats);
        let has = |who: &&String| asked(&state, serde_json::json!({ "targetingKey": who })) == gets("on", Why::Split);
        let now: Vec<&String> = people.iter().filter(has).collect();
        assert!(before.iter().all(|who| now.contains(who)), "somebody fell out at {seats}");
        assert!(now.iter().all(|who| seat(who.as_bytes(), b"new") < seats));
        // 2,000 people, five standard deviations of 100 % * sqrt(p(1-p)/n) at most: 112.
        assert!(now.len().abs_diff(usize::from(seats) / 5) <= 112, "{} at {seats}", now.len());
        before = now;
    }
    assert_eq!(before.len(), 2_000);
}

#[test]
fn without_a_targeting_key_a_share_is_an_error_and_no_value() {
    for who in [serde_json::json!({}), serde_json::json!({"targetingKey": ""}), serde_json::json!({"targetingKey": 7})]
    {
        assert_eq!(asked(&shared(10_000), who), Err(Failed::NoTargetingKey));
    }
}

#[test]
fn off_and_tripped_give_the_value_of_off_whatever_the_rules_say() {
    let mut definition = when("plan", Test::Equals { value: "pro".into() });
    definition.subsystem = Some(switch("auth"));
    let mut state = on(definition);
    let pro = || serde_json::json!({"plan": "pro"});
    assert_eq!(asked(&state, pro()), gets("on", Why::TargetingMatch));
    for (name, blocks) in [("crypto", false), ("auth", true), ("all", true)] {
        let mut tripped = state.clone();
        let event = Event::Tripped { switch: switch(name), reason: reason("leak") };
        tripped.apply(2, Some(&record("alice", event)));
        let wanted = if blocks { gets("off", Why::Disabled) } else { gets("on", Why::TargetingMatch) };
        assert_eq!(asked(&tripped, pro()), wanted, "{name}");
    }
    state.apply(2, Some(&record("alice", Event::FlagTurnedOff { flag: flag("new"), reason: reason("enough") })));
    assert_eq!(asked(&state, pro()), gets("off", Why::Disabled));
}

#[test]
fn a_flag_set_with_another_type_than_declared_gives_nothing() {
    let number = Definition {
        kind: FlagKind::Number,
        variants: [(variant("one"), FlagValue::new("1").unwrap())].into(),
        off: None,
        serve: Serve::Variant(variant("one")),
        ..Definition::boolean()
    };
    let declared = [(flag("new"), number)].into();
    assert_eq!(asked_with(&on(Definition::boolean()), &declared, serde_json::json!({})), Err(Failed::Conflict));
}

#[test]
fn a_flag_without_a_value_for_off_leaves_it_to_the_program() {
    let definition = Definition { off: None, ..Definition::boolean() };
    let mut state = on(definition);
    state.apply(2, Some(&record("alice", Event::FlagTurnedOff { flag: flag("new"), reason: reason("enough") })));
    assert_eq!(asked(&state, serde_json::json!({})), Ok((None, Why::Disabled)));
}
