//! Firewalls of the host that stop what gateways are there for.

use super::*;

/// Rules of a firewall are there, nobody gets out, the warning names a cure, and that is one.
#[track_caller]
fn cured(rules: &[&str]) {
    let lab = Lab::new();
    world();
    rules.iter().for_each(|rule| drop(run(rule)));
    let changes: Changes = lab.json(&format!("{LAB} --nat"));
    lab.ok("add-port red --switch lab --addr auto");
    never_pings("red", "203.0.113.2");
    let mut warnings = changes.warnings.iter();
    let warning = warnings.find(|line| line.contains("drops what is forwarded"));
    let warning = warning.unwrap_or_else(|| panic!("{rules:?} is not named: {:?}", changes.warnings));
    let cure = warning.split('`').nth(1).unwrap();
    for command in cure.split(';') {
        run(command.trim());
    }
    pings("red", "203.0.113.2");
    let changes: Changes = lab.json("publish red 8080:80");
    assert!(changes.warnings.is_empty(), "{changes:?}");
}

#[test]
fn a_firewall_that_drops_what_is_forwarded_is_named_with_its_cure() {
    cured(&["iptables -P FORWARD DROP"]);
}

/// Nothing told of it: all was OK, and nobody got out.
#[test]
fn a_firewall_that_comes_after_the_lab_is_told_of_until_it_lets_through() {
    let mut lab = Lab::new();
    world();
    lab.ok(&format!("{LAB} --nat"));
    run("iptables -P FORWARD DROP");
    let items: Vec<Value> = lab.ctl("--json doctor").json();
    let is_it = |item: &&Value| item["detail"].as_str().unwrap().contains("drops what is forwarded");
    let item = items.iter().find(is_it).unwrap_or_else(|| panic!("{items:?}"));
    let cure = item["mend"].as_str().unwrap();
    lab.kill_daemon();
    lab.start();
    let told = |lab: &Lab| {
        let limits = lab.status().limits;
        limits.iter().any(|limit| limit.contains("drops what is forwarded"))
    };
    wait_for("the status to tell", || told(&lab));
    cure.split(';').for_each(|command| drop(run(command.trim())));
    wait_for("the status to tell no more", || !told(&lab));
}

/// Docker on older hosts, and whoever has chosen them, has these beside the newer tables.
#[test]
fn the_older_tables_of_iptables_are_seen_too() {
    let lab = Lab::without_daemon();
    let listed = Place::Home.output("iptables-legacy -S FORWARD");
    drop(lab);
    if !listed.status.success() {
        let why = String::from_utf8_lossy(&listed.stderr).into_owned();
        return kernel_lacks("the older tables of iptables", why.trim());
    }
    cured(&["iptables-legacy -P FORWARD DROP"]);
}

/// As firewalld has it: nothing is dropped by policy, and the last rule refuses what is left.
#[test]
fn a_last_rule_that_refuses_all_is_seen() {
    cured(&[
        "nft add table inet fw",
        "nft add chain inet fw forward { type filter hook forward priority 10; policy accept; }",
        "nft add rule inet fw forward ct state established,related accept",
        "nft add rule inet fw forward reject with icmpx admin-prohibited",
    ]);
}

/// Gateways with DHCP and DNS are asked by the stations themselves. As ufw has its chains, in which its own rules stand. Here the host does
/// not even hear itself: that dnsmasq is ready is seen all the same.
#[test]
fn a_firewall_that_drops_what_comes_in_is_named_with_its_cure() {
    let lab = Lab::new();
    run("iptables -P INPUT DROP");
    let changes: Changes = lab.json("switch add lab --subnet 10.10.0.0/24 --gateway --dns");
    let [warning] = &changes.warnings[..] else {
        panic!("{changes:?}");
    };
    assert!(
        warning.contains("DHCP and DNS") && warning.contains("`iptables -I INPUT -i lab-gw -j ACCEPT`"),
        "{warning}"
    );
    run("iptables -N ufw-user-input");
    run("iptables -A INPUT -j ufw-user-input");
    let on = |lab: &Lab| -> Changes {
        lab.ok("switch set lab dns=off");
        lab.json("switch set lab dns=on")
    };
    let changes = on(&lab);
    assert!(changes.warnings[0].contains("`ufw allow in on lab-gw`"), "{changes:?}");
    run("iptables -A ufw-user-input -i lab-gw -j ACCEPT");
    let changes = on(&lab);
    assert!(changes.warnings.is_empty(), "{changes:?}");
}

#[test]
fn without_nft_nothing_is_changed() {
    let mut lab = Lab::without_daemon();
    let mut command = lab.daemon_command();
    command.env("PATH", "/nonexistent");
    lab.start_with(command, |_| {});
    lab.ctl(&format!("{LAB} --nat"))
        .failed(6, &["nft", "apt install nftables"]);
    assert!(!run("ip -o link").contains("lab-gw"));
    lab.ctl("switch show lab").failed(4, &[]);
    lab.ok(LAB);
}
