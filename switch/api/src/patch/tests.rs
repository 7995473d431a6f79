use super::*;
use crate::lab::PortKind;
use crate::policy::{PortVlan, VlanId};

fn patch(text: &str) -> MergePatch {
    serde_json::from_str(text).unwrap()
}

/// The examples of RFC 7396 appendix A that have objects on both sides.
#[test]
fn it_is_the_merge_of_the_rfc() {
    for (before, patch, after) in [
        (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
        (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
        (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
        (
            r#"{"a":{"b":"c"}}"#,
            r#"{"a":{"b":"d","c":null}}"#,
            r#"{"a":{"b":"d"}}"#,
        ),
        (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
        (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
        (r#"{}"#, r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
    ] {
        let mut value: Value = serde_json::from_str(before).unwrap();
        merge(&mut value, &serde_json::from_str(patch).unwrap());
        assert_eq!(value, serde_json::from_str::<Value>(after).unwrap(), "{before} {patch}");
    }
}

/// The last one was made, where `POST` refuses it.
#[test]
fn a_member_is_there_once() {
    for twice in [
        r#"{"mtu":1400,"mtu":9000}"#,
        r#"{"mtu":null,"mtu":null}"#,
        r#"{"learning":{"limit":1,"limit":2}}"#,
        r#"{"routes":[{"to":"10.0.0.0/8","to":"10.1.0.0/16"}]}"#,
    ] {
        let error = strict::from_json::<PortPatch>(twice.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("duplicate field"), "{twice}: {error}");
    }
    let once = r#"{"a":[1,-1,1.5,"x",true,null,{"b":{}}],"b":{"b":18446744073709551615}}"#;
    let read: PortPatch = strict::from_json(once.as_bytes()).unwrap();
    let value: Value = serde_json::from_str(once).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), value);
    assert!(strict::from_json::<PortPatch>(b"[]").is_err());
}

#[test]
fn what_a_patch_does_not_name_stays() {
    let mut port = Port::new("red".parse().unwrap(), "main".parse().unwrap(), PortKind::Tap);
    port.learning.sticky = true;
    let after = patch(r#"{"learning":{"locked":true},"mtu":1400}"#)
        .apply(&port, &[])
        .unwrap();
    assert!(after.learning.sticky && after.learning.locked && after.mtu == Some(1400));
    let after = patch(r#"{"learning":{"sticky":null},"mtu":null}"#)
        .apply(&after, &[])
        .unwrap();
    assert!(!after.learning.sticky && after.learning.locked && after.mtu.is_none());
}

#[test]
fn a_path_is_said_once() {
    let mut said = MergePatch::default().with("learning.limit", 5).with("mtu", 1400);
    assert_eq!(said, patch(r#"{"learning":{"limit":5},"mtu":1400}"#));
    for twice in ["mtu", "learning.limit", "learning", "mtu.x", "learning.limit.x"] {
        assert!(said.also(twice, 7).is_err(), "{twice}");
    }
    said.also("learning.sticky", true).unwrap();
    said.also("vlan.trunk.native", 7).unwrap();
    let all = r#"{"learning":{"limit":5,"sticky":true},"mtu":1400,"vlan":{"trunk":{"native":7}}}"#;
    assert_eq!(said, patch(all));
}

#[test]
fn settings_can_take_the_place_of_all_those_before() {
    use crate::traffic::RateLimit;
    let mut port = Port::new("red".parse().unwrap(), "main".parse().unwrap(), PortKind::Tap);
    port.police = Some(RateLimit {
        rate_pps: Some(5),
        burst_frames: Some(50),
        ..RateLimit::default()
    });
    let limit = RateLimit {
        rate_bps: Some(1_000_000),
        ..RateLimit::default()
    };
    let patch = MergePatch::default().with("police", in_place(&limit));
    assert_eq!(patch.apply(&port, &[]).unwrap().police, Some(limit));
}

/// They were "invalid value: map, expected map with a single key".
#[test]
fn one_of_several_alternatives_can_be_taken_away() {
    let mut port = Port::new("red".parse().unwrap(), "main".parse().unwrap(), PortKind::Tap);
    for (text, vlan, isolation) in [
        (r#"{"vlan":{"access":null}}"#, "all", "promiscuous"),
        (
            r#"{"vlan":{"access":10},"isolation":{"community":7}}"#,
            r#"{"access":10}"#,
            r#"{"community":7}"#,
        ),
        // What is not there is not taken away, and all else stays.
        (
            r#"{"vlan":{"trunk":null},"isolation":{}}"#,
            r#"{"access":10}"#,
            r#"{"community":7}"#,
        ),
        (
            r#"{"vlan":{"trunk":{"native":null}}}"#,
            r#"{"access":10}"#,
            r#"{"community":7}"#,
        ),
        (
            r#"{"vlan":{"access":null},"isolation":{"community":null}}"#,
            "all",
            "promiscuous",
        ),
        (r#"{"isolation":"isolated"}"#, "all", "isolated"),
        (r#"{"isolation":{"community":null}}"#, "all", "isolated"),
        (r#"{"vlan":{"tunnel":9}}"#, r#"{"tunnel":9}"#, "isolated"),
        (
            r#"{"vlan":{"tunnel":null,"trunk":{"allowed":"1","native":2}}}"#,
            r#"{"trunk":{"allowed":"1","native":2}}"#,
            "isolated",
        ),
        (
            r#"{"vlan":{"trunk":{"native":null}}}"#,
            r#"{"trunk":{"allowed":"1"}}"#,
            "isolated",
        ),
        (r#"{"vlan":{"trunk":{"allowed":null}}}"#, "all", "isolated"),
    ] {
        port = PortPatch(patch(text))
            .apply(&port)
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        let is = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        assert_eq!(is(&json!(port.vlan)), vlan, "{text}");
        assert_eq!(is(&json!(port.isolation)), isolation, "{text}");
    }
}

#[test]
fn alternatives_that_can_not_be_are_told_in_words() {
    let mut port = Port::new("red".parse().unwrap(), "main".parse().unwrap(), PortKind::Tap);
    let refused = |port: &Port, text: &str| PortPatch(patch(text)).apply(port).unwrap_err();
    for (text, part) in [
        (r#"{"vlan":{"trunk":{"native":5}}}"#, "vlan.trunk.allowed"),
        (
            r#"{"vlan":{"access":20,"trunk":{"allowed":"30"}}}"#,
            "access or trunk, not both",
        ),
        (r#"{"vlan":{"acess":null}}"#, "unknown variant `acess`"),
        (r#"{"vlan":{"trunk":{"nativ":null}}}"#, "unknown field `nativ`"),
    ] {
        assert!(refused(&port, text).contains(part), "{text}: {}", refused(&port, text));
    }
    let trunk = patch(r#"{"vlan":{"trunk":{"allowed":"1","native":2}}}"#);
    port = PortPatch(trunk).apply(&port).unwrap();
    let error = refused(&port, r#"{"vlan":{"trunk":{"allowed":null}}}"#);
    assert!(error.contains("vlan.trunk=none"), "{error}");
}

/// The lab has keys such as `delay_us`, so a patch by words said the same twice.
#[test]
fn words_change_what_keys_said() {
    let mut port = Port::new("red".parse().unwrap(), "main".parse().unwrap(), PortKind::Tap);
    for (text, settings) in [
        (
            r#"{"impair":{"out":{"delay_us":5,"loss":"1%"}}}"#,
            r#"{"impair":{"out":{"delay_us":5,"loss":0.01}}}"#,
        ),
        (
            r#"{"impair":{"out":{"delay":"20ms","rate":"10mbit"}}}"#,
            r#"{"impair":{"out":{"delay_us":20000,"loss":0.01,"rate_bps":10000000}}}"#,
        ),
        (
            r#"{"impair":{"out":{"delay":null,"jitter":null,"burst":"64k"}}}"#,
            r#"{"impair":{"out":{"loss":0.01,"rate_bps":10000000,"burst_bytes":65536}}}"#,
        ),
        (
            r#"{"impair":null,"police":{"rate":"1mbit"},"storm":{"broadcast":"100pps"}}"#,
            r#"{"police":{"rate_bps":1000000},"storm":{"broadcast":{"rate_pps":100}}}"#,
        ),
        (
            r#"{"police":{"pps":7},"storm":{"broadcast":{"rate":"1mbit"},"multicast":"10mbit burst 64k"}}"#,
            r#"{"police":{"rate_bps":1000000,"rate_pps":7},"storm":{"broadcast":{"rate_bps":1000000,"rate_pps":100},
                "multicast":{"rate_bps":10000000,"burst_bytes":65536}}}"#,
        ),
        (
            r#"{"police":"100pps","storm":{"broadcast":null,"multicast":"1pps"}}"#,
            r#"{"police":{"rate_pps":100},"storm":{"multicast":{"rate_pps":1}}}"#,
        ),
    ] {
        port = PortPatch(patch(text)).apply(&port).unwrap();
        let mut value = serde_json::to_value(&port).unwrap();
        value
            .as_object_mut()
            .unwrap()
            .retain(|name, _| ["impair", "police", "storm"].contains(&name.as_str()));
        assert_eq!(value, serde_json::from_str::<Value>(settings).unwrap(), "{text}");
    }
    for (wrong, part) in [
        (r#"{"impair":{"out":{"delay":20}}}"#, "\"20ms\""),
        (r#"{"impair":{"in":{"delay":"1ms","delay_us":1}}}"#, "impair.in.delay"),
        (r#"{"impair":{"out":{"dealy":"1ms"}}}"#, "unknown field"),
        (r#"{"impair":{"out":{"dealy":null}}}"#, "unknown field"),
        (r#"{"police":{"rate":100}}"#, "police.rate"),
        (r#"{"storm":{"broadcast":{"rate":"100"}}}"#, "100mbit"),
        (r#"{"police":[5]}"#, "expected an object"),
    ] {
        let error = PortPatch(patch(wrong)).apply(&port).expect_err(wrong);
        assert!(error.contains(part), "{wrong}: {error}");
    }
}

#[test]
fn another_alternative_takes_the_place_of_the_one_before() {
    let mut port = Port::new("red".parse().unwrap(), "main".parse().unwrap(), PortKind::Tap);
    for (text, vlan) in [
        (
            r#"{"vlan":{"trunk":{"allowed":"10,20"}}}"#,
            r#"{"trunk":{"allowed":"10,20"}}"#,
        ),
        (
            r#"{"vlan":{"trunk":{"native":7}}}"#,
            r#"{"trunk":{"allowed":"10,20","native":7}}"#,
        ),
        (r#"{"vlan":{"access":10}}"#, r#"{"access":10}"#),
        (r#"{"vlan":null}"#, "\"all\""),
        (r#"{"vlan":{"tunnel":5}}"#, r#"{"tunnel":5}"#),
        (r#"{"vlan":"all"}"#, "\"all\""),
    ] {
        port = patch(text).apply(&port, &["vlan"]).unwrap();
        assert_eq!(serde_json::to_string(&port.vlan).unwrap(), vlan, "{text}");
    }
    assert_eq!(port.vlan, PortVlan::All);
    assert!(VlanId::try_from(7).is_ok());
}

#[test]
fn what_there_can_not_be_is_refused_also_to_be_taken_away() {
    let port = Port::new("red".parse().unwrap(), "main".parse().unwrap(), PortKind::Tap);
    for wrong in [
        r#"{"colour":1}"#,
        r#"{"colour":null}"#,
        r#"{"learning":{"colour":null}}"#,
        r#"{"mtu":[1400]}"#,
        r#"{"mtu":"x"}"#,
        r#"{"learning":[true]}"#,
        r#"{"name":null}"#,
    ] {
        assert!(patch(wrong).apply(&port, &[]).is_err(), "{wrong}");
    }
    assert_eq!(
        patch(r#"{"police":null,"learning":{"limit":null}}"#).apply(&port, &[]),
        Ok(port)
    );
}
