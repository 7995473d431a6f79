//! The commands by which topologies set up their nodes, as far as a lab file says the same: `ip addr add` and its kin, and `sysctl`.

use ipnet::IpNet;

use super::topology::Node;

/// Does with the node what the command line would do; false: it can't be expressed.
pub fn take(node: &mut Node, line: &str) -> bool {
    let line = line.trim();
    for shell in ["sh -c", "bash -c", "/bin/sh -c", "/bin/bash -c"] {
        if let Some(script) = line.strip_prefix(shell) {
            let script = script.trim().trim_matches(['"', '\'']);
            let mut commands = script.split("&&").flat_map(|part| part.split(';')).map(str::trim);
            return commands.all(|command| command.is_empty() || take_one(node, command));
        }
    }
    take_one(node, line)
}

fn take_one(node: &mut Node, command: &str) -> bool {
    let mut words = command.split_whitespace().peekable();
    if words.peek() == Some(&"sudo") {
        words.next();
    }
    let program = words.next().map(|word| word.rsplit('/').next().unwrap_or(word));
    let mut words: Vec<_> = words.collect();
    match program {
        Some("ip") => {}
        Some("sysctl") => return sysctl(node, &words),
        _ => return false,
    }
    let mut is_v6 = false;
    while let Some(option) = words.first().filter(|word| word.starts_with('-')) {
        is_v6 |= *option == "-6";
        words.remove(0);
    }
    let [object, verb, rest @ ..] = words.as_slice() else {
        return false;
    };
    let is = |word: &str, full: &str| !word.is_empty() && full.starts_with(word);
    match () {
        () if is(object, "address") && (is(verb, "add") || is(verb, "replace")) => address(node, rest),
        () if is(object, "route") && (is(verb, "add") || is(verb, "replace") || is(verb, "append")) => {
            route(node, rest, is_v6)
        }
        // There is nothing that would have to go.
        () if is(object, "route") && is(verb, "delete") => true,
        () if is(object, "link") && is(verb, "set") => link(node, rest),
        () => false,
    }
}

/// `sysctl -w net.ipv4.ip_forward=1`, also without `-w`.
fn sysctl(node: &mut Node, words: &[&str]) -> bool {
    let settings = words
        .iter()
        .filter(|word| !["-w", "-q", "-qw", "-wq", "--write", "--quiet"].contains(*word));
    let mut settings = settings
        .map(|word| word.trim_matches(['"', '\'']).split_once('='))
        .peekable();
    settings.peek().is_some() && settings.all(|setting| setting.is_some_and(|(key, value)| node.set(key, value)))
}

fn address(node: &mut Node, words: &[&str]) -> bool {
    let [address, rest @ ..] = words else { return false };
    // `ip` takes one without a length for that of a host.
    let host = |text: &str| Some(format!("{text}/{}", if text.contains(':') { 128 } else { 32 }));
    let text = match address.contains('/') {
        true => Some((*address).to_owned()),
        false => host(address),
    };
    let Some(Ok(address)) = text.map(|text| text.parse()) else {
        return false;
    };
    let mut dev = None;
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        match *word {
            "dev" => dev = words.next().map(|dev| (*dev).to_owned()),
            // Broadcast addresses and scopes follow from the address.
            "brd" | "broadcast" | "scope" | "label" => drop(words.next()),
            "nodad" => {}
            _ => return false,
        }
    }
    node.addresses.push((dev, address));
    true
}

fn route(node: &mut Node, words: &[&str], is_v6: bool) -> bool {
    let [to, rest @ ..] = words else { return false };
    let (mut dev, mut via) = (None, None);
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        match *word {
            "dev" => dev = words.next().map(|dev| (*dev).to_owned()),
            "via" => match words.next().map(|via| via.parse()) {
                Some(Ok(ip)) => via = Some(ip),
                _ => return false,
            },
            _ => return false,
        }
    }
    let is_v6 = is_v6 || via.is_some_and(|via: std::net::IpAddr| via.is_ipv6());
    let to = match *to {
        "default" if is_v6 => "::/0",
        "default" => "0.0.0.0/0",
        to => to,
    };
    let net = to
        .parse::<IpNet>()
        .ok()
        .or_else(|| Some(IpNet::from(to.parse::<std::net::IpAddr>().ok()?)));
    let Some(net) = net else { return false };
    node.routes.push((dev, net.trunc(), via));
    true
}

fn link(node: &mut Node, words: &[&str]) -> bool {
    let words = words.strip_prefix(&["dev"]).unwrap_or(words);
    let [dev, rest @ ..] = words else { return false };
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        match *word {
            // As all are.
            "up" => {}
            "mtu" => match words.next().map(|mtu| mtu.parse()) {
                Some(Ok(mtu)) => node.mtus.push(((*dev).to_owned(), mtu)),
                _ => return false,
            },
            "address" => match words.next().map(|mac| mac.parse()) {
                Some(Ok(mac)) => node.macs.push(((*dev).to_owned(), mac)),
                _ => return false,
            },
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::topology::Kind;
    use super::*;

    #[test]
    fn what_a_lab_file_says_too_is_taken() {
        let mut node = Node::new("red", Kind::Namespace);
        for line in [
            "ip addr add 10.0.0.1/24 dev eth1",
            "ip a a 10.0.0.2 brd + dev eth1",
            "/sbin/ip -6 address replace fd00::1/64 dev eth1 nodad",
            "sudo ip route add 10.1.0.7/16 via 10.0.0.254 dev eth1",
            "ip -6 route add default dev eth1",
            "sh -c 'ip link set dev eth1 up mtu 1400; ip link set eth1 address 02:00:00:00:00:01'",
            "ip route del default",
            "sysctl -w net.ipv4.ip_forward=1",
            "sudo /usr/sbin/sysctl -q net/ipv6/conf/all/forwarding=1 net.ipv4.ip_forward=0",
        ] {
            assert!(take(&mut node, line), "{line}");
        }
        assert_eq!(node.addresses[1].1.to_string(), "10.0.0.2/32");
        assert_eq!(node.routes[0].1.to_string(), "10.1.0.0/16");
        assert_eq!(node.routes[1].1.to_string(), "::/0");
        assert_eq!((node.mtus[0].1, node.macs.len()), (1400, 1));
        let sysctls: Vec<_> = node
            .sysctls
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        assert_eq!(sysctls, ["net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=1"]);
        for line in [
            "",
            "ip",
            "ip addr",
            "ip addr add",
            "ip addr add 10.0.0.1/33 dev eth1",
            "ip addr del 10.0.0.1/24 dev eth1",
            "ip route add default via x",
            "ip link set eth1 master br0",
            "ip link add x type dummy",
            "echo hello",
            "ip link set",
            "sysctl",
            "sysctl -w",
            "sysctl -a",
            "sysctl net.ipv4.ip_forward",
            "sysctl -p /etc/sysctl.conf",
            "sysctl -w kernel.hostname=x",
        ] {
            assert!(!take(&mut node, line), "{line}");
        }
    }
}
