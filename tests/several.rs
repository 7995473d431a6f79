//! Several ports at once, and addresses that are left to the switch.

use serde_json::Value;
use vswitch_testing::Lab;

/// The addresses of all ports, as `NAME ADDRESS`.
fn addresses(lab: &Lab) -> Vec<String> {
    let list: Value = serde_json::from_str(&lab.ok("--json addr list")).unwrap();
    let word = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let rows = list.as_array().unwrap().iter();
    let mut rows: Vec<_> = rows
        .map(|row| format!("{} {}", word(row, "port"), word(row, "address")))
        .collect();
    rows.sort();
    rows
}

#[test]
fn ports_of_a_subnet_are_added_together() {
    let lab = Lab::new();
    lab.ok("add-port taken --addr 192.168.15.2/24 --gateway 192.168.15.1");
    let would = lab.ok("add-port -n red blue green --subnet 192.168.15.0/24 --subnet fd00:15::/64");
    assert!(
        would.contains("would give port blue address 192.168.15.4/24"),
        "{would}"
    );
    assert_eq!(addresses(&lab), ["taken 192.168.15.2/24"]);

    lab.ok("add-port red blue green --subnet 192.168.15.0/24 --subnet fd00:15::/64");
    let expected = [
        "blue 192.168.15.4/24",
        "blue fd00:15::2/64",
        "green 192.168.15.5/24",
        "green fd00:15::3/64",
        "red 192.168.15.3/24",
        "red fd00:15::1/64",
        "taken 192.168.15.2/24",
    ];
    assert_eq!(addresses(&lab), expected);
    lab.ok("ns exec red ping -c1 -W5 192.168.15.5");
    lab.ok("ns exec red ping -c1 -W5 fd00:15::2");

    // Once more is no other address.
    lab.ok("add-port red blue green --subnet 192.168.15.0/24 --subnet fd00:15::/64 --if-not-exists");
    assert_eq!(addresses(&lab), expected);
}

#[test]
fn all_are_added_or_none() {
    let lab = Lab::new();
    lab.ok("add-port blue");
    let refused = lab.ctl("add-port red blue green");
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(refused.stderr.contains("port \"blue\""), "{refused:?}");
    let list: Value = serde_json::from_str(&lab.ok("--json port list")).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    // The third finds no room.
    let refused = lab.ctl("add-port a b c --subnet 10.0.0.0/30");
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("port \"c\": subnet 10.0.0.0/30 has no free address left"),
        "{refused:?}"
    );
    assert_eq!(addresses(&lab), [""; 0]);
    assert!(!lab.ok("ns list").contains("red"));
}

#[test]
fn an_address_is_chosen_where_the_others_are() {
    let lab = Lab::new();
    let refused = lab.ctl("add-port red --addr auto");
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(refused.stderr.contains("--subnet"), "{refused:?}");
    lab.ok("add-port red --addr 10.0.0.1/24 --addr fd00::1/64");
    // Out of reach, and so of no account.
    lab.ok("add-port other --addr 10.1.0.1/24 --vlan 7");
    lab.ok("port set red vlan.access=8");
    lab.ok("add-port blue --addr auto --vlan 8");
    lab.ok("add-port seven --addr auto --vlan 7");
    assert_eq!(
        addresses(&lab),
        [
            "blue 10.0.0.2/24",
            "blue fd00::2/64",
            "other 10.1.0.1/24",
            "red 10.0.0.1/24",
            "red fd00::1/64",
            "seven 10.1.0.2/24",
        ]
    );
    let refused = lab.ctl("add-port core --addr auto --trunk 7,8");
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(
        refused.stderr.contains("several subnets: 10.0.0.0/24, 10.1.0.0/24"),
        "{refused:?}"
    );
}

#[test]
fn what_only_one_can_have_is_not_said_of_several() {
    for (line, object) in [
        ("add-port red blue --addr 10.0.0.1/24", "--addr: "),
        ("add-port red blue --mac 02:00:00:00:00:01", "--mac: "),
        (
            "add-port red --subnet 10.0.0.1/24",
            "--subnet: 10.0.0.1/24 is an address in a subnet; the subnet is 10.0.0.0/24",
        ),
        ("add-port red --subnet ten", "--subnet: \"ten\" is not a subnet"),
    ] {
        let refused = Lab::call(line);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains(object), "{refused:?}");
    }
}

/// Some were gone when the first was refused.
#[test]
fn all_ports_go_by_their_names() {
    let lab = Lab::new();
    lab.ok("switch add far --subnet 10.9.0.0/24 --gateway");
    lab.ok("link add main far");
    lab.ok("add-port red");
    let names = || lab.ok("port list -o name").replace('\n', " ");
    let all = names();
    let refused = lab.ctl(&format!("del-port {all}"));
    refused.failed(
        5,
        &[
            "gateway of switch \"far\"",
            "set switch far gateway=off",
            "nothing was removed",
        ],
    );
    lab.ctl("del-port red main-far")
        .failed(5, &["one end of a link", "link del main-far", "nothing was removed"]);
    assert_eq!(names(), all);
    lab.ok("set switch far gateway=off");
    lab.ok(&format!("del-port {}", names()));
    assert_eq!(names(), "");
}
