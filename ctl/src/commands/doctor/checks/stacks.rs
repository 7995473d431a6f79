//! What the stacks in the namespaces do with what they are sent.

use vswitch_api::{Namespace, Port, PortName, Switch};

use super::super::Finding;
use super::super::inside::{Filter, Inside};
use super::super::picture::{End, Picture, run_in};

/// A packet comes in by the interface by which its answer leaves, where the stack insists on that (RFC 3704, strict).
pub fn reverse_path(picture: &Picture) -> Option<Finding> {
    picture.failed().find_map(|talk| {
        let [forth, back] = &talk.walks;
        [(forth, back), (back, forth)].into_iter().find_map(|(way, answer)| {
            let last = way.hops.last()?;
            let view = picture.port(&last.to)?;
            let dev = picture.comes_by(last, &view.port);
            let leaves = match (answer.hops.first(), &answer.end) {
                (Some(hop), _) => hop.dev.clone(),
                (None, Some(End::Elsewhere { dev, .. })) => dev.clone(),
                _ => return None,
            };
            let stack = picture.stack(&view.port)?;
            if talk.from.is_ipv6() || leaves == dev || stack.setting(dev, "rp_filter") != 1 {
                return None;
            }
            let cause = format!(
                "{} drops what comes in by {dev}, since its answers leave by {leaves} (rp_filter)",
                last.to
            );
            let key = format!("net.ipv4.conf.{}.rp_filter", in_key(dev));
            let evidence = format!("{key} is 1 (strict), and `ip route get` says dev {leaves}");
            Some(Finding::new(cause, evidence).mend(run_in(&view.port, &format!("sysctl -qw {key}=2"))))
        })
    })
}

/// The name of an interface in a key of sysctl(8), whose dots stand between words.
fn in_key(dev: &str) -> String {
    dev.replace('.', "/")
}

/// Routers on the way pass packets on.
pub fn forwarding(picture: &Picture) -> Option<Finding> {
    picture.failed().find_map(|talk| {
        talk.walks.iter().find_map(|walk| {
            let Some(End::NoForwarding { port }) = &walk.end else {
                return None;
            };
            let view = picture.port(port)?;
            let dev = picture.comes_by(walk.hops.last()?, &view.port);
            let of_all = picture.stack(&view.port)?.value("ipv4/conf/all/forwarding") > 0;
            let key = match (talk.from.is_ipv4(), of_all) {
                // It is set for each interface along with that of all, and may be taken back for one.
                (true, true) => format!("net.ipv4.conf.{}.forwarding", in_key(dev)),
                (true, false) => "net.ipv4.ip_forward".to_owned(),
                (false, _) => "net.ipv6.conf.all.forwarding".to_owned(),
            };
            let cause = format!("{port} is the router on the way and does not pass packets on (forwarding is off)");
            Some(Finding::new(cause, format!("{key} is 0")).mend(run_in(&view.port, &format!("sysctl -qw {key}=1"))))
        })
    })
}

/// The host keeps switches apart that have gateways, if one of them has NAT.
pub fn gateways(picture: &Picture) -> Option<Finding> {
    let switch = |name: &PortName| {
        let port = &picture.port(name)?.port;
        let switch = picture.lab.switch(&port.switch)?;
        (picture.lab.gateway_of(switch)?.name == port.name).then_some(switch)
    };
    picture.failed().find_map(|talk| {
        talk.walks.iter().find_map(|walk| {
            let mut pairs = walk.hops.iter().zip(walk.hops.iter().skip(1));
            let (into, out) = pairs.find_map(|(into, out)| Some((switch(&into.to)?, switch(&out.from)?)))?;
            kept_apart(picture, into, out)
        })
    })
}

/// What is to be said of two switches with gateways between which the host passes nothing on.
pub fn kept_apart(picture: &Picture, into: &Switch, out: &Switch) -> Option<Finding> {
    let [Some(from), Some(to)] = &picture.ends else {
        return None;
    };
    if into.name == out.name || !(into.gateway.is_on() && out.gateway.is_on()) || !(into.nat || out.nat) {
        return None;
    }
    let cause = format!(
        "the host keeps switches {} and {} apart, since they have gateways with NAT",
        into.name, out.name
    );
    let evidence = "`nft list chain inet vswitch pass` drops what comes by a gateway and would leave by another";
    let hint = format!("publish what {from} needs of {to}: `vswitchctl publish {to} 8080:80`, and ask the host for it");
    Some(Finding::new(cause, format!("{evidence}; {hint}")))
}

/// They take nobody else for who is next.
pub fn neighbour(picture: &Picture) -> Option<Finding> {
    picture.failed_hops().find_map(|hop| {
        let (from, to) = (picture.port(&hop.from)?, picture.port(&hop.to)?);
        let entry = picture.stack(&from.port)?.neighbour(hop.next_hop)?;
        let link = hop.to_dev.as_ref().and_then(|dev| picture.leg(&to.port, dev));
        let (has, is) = (entry.mac?, link.or_else(|| picture.link(&to.port))?.mac()?);
        if has == is {
            return None;
        }
        let fixed = entry.state.iter().any(|state| state == "PERMANENT");
        let cause = match fixed {
            true => format!(
                "{} has a fixed neighbour entry for {} with a wrong MAC address",
                hop.from, hop.next_hop
            ),
            false => format!("another station answers {} for {}", hop.from, hop.next_hop),
        };
        let evidence = format!(
            "`ip neigh` there says {} is {has}, and {} has {is}",
            hop.next_hop, hop.to
        );
        let command = format!("ip neigh del {} dev {}", hop.next_hop, entry.dev);
        Some(Finding::new(cause, evidence).mend(run_in(&from.port, &command)))
    })
}

/// Who is asked by ARP answers.
pub fn silent(picture: &Picture) -> Option<Finding> {
    picture.failed_hops().find_map(|hop| {
        let (from, to) = (picture.port(&hop.from)?, picture.port(&hop.to)?);
        let entry = picture.stack(&from.port)?.neighbour(hop.next_hop);
        if hop.next_hop.is_ipv6() || entry.is_some_and(|entry| entry.mac.is_some()) {
            return None;
        }
        let (stack, dev) = (picture.stack(&to.port)?, hop.to_dev.as_ref()?);
        let value = stack.setting(dev, "arp_ignore");
        if value == 0 {
            return None;
        }
        // The greater of both counts, so that it is the one that is set that has to go.
        let own = stack.value(&format!("ipv4/conf/{dev}/arp_ignore"));
        let dev = if own == value { dev.as_str() } else { "all" };
        let cause = format!(
            "{} does not answer the question for {} by ARP (arp_ignore)",
            hop.to, hop.next_hop
        );
        let key = format!("net.ipv4.conf.{}.arp_ignore", in_key(dev));
        let evidence = format!("{key} is {value}, and {} has no neighbour entry", hop.from);
        Some(Finding::new(cause, evidence).mend(run_in(&to.port, &format!("sysctl -qw {key}=0"))))
    })
}

/// No filter on the way drops.
pub fn firewall(picture: &Picture) -> Option<Finding> {
    let is_ipv6 = picture.failed().all(|talk| talk.from.is_ipv6());
    let is_ipv4 = picture.failed().all(|talk| talk.from.is_ipv4());
    stacks(picture).find_map(|(port, stack)| {
        let concerns = |filter: &&Filter| {
            let of_version = (!is_ipv6 || filter.program != "iptables") && (!is_ipv4 || filter.program != "ip6tables");
            let of_others = ["-p tcp", "-p udp", "tcp dport", "udp dport", "tcp sport", "udp sport"];
            of_version && !of_others.iter().any(|other| filter.rule.contains(other))
        };
        let Filter { program, rule, mend } = stack.filters.iter().find(concerns)?;
        let place = port.namespace.as_ref().map_or_else(
            || "the namespace of the host".to_owned(),
            |namespace| match namespace {
                Namespace::Name(name) => format!("namespace {name}"),
                other => format!("the namespace of {other}"),
            },
        );
        let cause = format!("a firewall in {place} drops packets, as it seems these too");
        Some(Finding::new(cause, format!("{program} there has {rule:?}")).mend(run_in(port, mend)))
    })
}

/// They answer pings.
pub fn echo(picture: &Picture) -> Option<Finding> {
    stacks(picture).find_map(|(port, stack)| {
        let settings = [
            ("ipv4/icmp_echo_ignore_all", "net.ipv4.icmp_echo_ignore_all"),
            ("ipv6/icmp/echo_ignore_all", "net.ipv6.icmp.echo_ignore_all"),
        ];
        let (_, key) = settings.into_iter().find(|(path, _)| stack.value(path) > 0)?;
        let cause = format!("the stack of {} answers no pings, whatever else reaches it", port.name);
        Some(Finding::new(cause, format!("{key} is 1")).mend(run_in(port, &format!("sysctl -qw {key}=0"))))
    })
}

/// The stacks of the ends and of what is between.
fn stacks(picture: &Picture) -> impl Iterator<Item = (&Port, &Inside)> {
    let between = picture.failed_hops().filter_map(|hop| picture.port(&hop.to));
    let views = picture.both().chain(between);
    views.filter_map(|view| Some((&view.port, picture.stack(&view.port)?)))
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::*;

    #[test]
    fn filters_are_taken_away_by_their_own_tool() {
        for (rule, mend) in [
            (
                "iptables: -A INPUT -p icmp -j DROP",
                "iptables -D INPUT -p icmp -j DROP",
            ),
            ("iptables: -P INPUT DROP", "iptables -P INPUT ACCEPT"),
            (
                "nft: icmp type echo-request drop # handle 4",
                "nft delete rule inet f in handle 4",
            ),
        ] {
            let mut picture = samples::healthy();
            picture.talks[0].answered = [false; 2];
            samples::filter(&mut picture, "blue", rule);
            let found = firewall(&picture).unwrap().mend.unwrap();
            assert_eq!(found, format!("vswitchctl ns exec blue {mend}"));
        }
        let mut picture = samples::healthy();
        picture.talks[0].answered = [false; 2];
        samples::filter(&mut picture, "blue", "iptables: -A INPUT -p tcp -j DROP");
        samples::filter(&mut picture, "blue", "ip6tables: -P INPUT DROP");
        assert_eq!(firewall(&picture), None);
    }

    /// What was named was on, and to turn it on once more changed nothing.
    #[test]
    fn forwarding_is_named_where_it_is_off() {
        let mut picture = samples::healthy();
        picture.talks[0].answered = [false; 2];
        let port = picture.ports[1].port.name.clone();
        picture.talks[0].walks[0].end = Some(End::NoForwarding { port });
        for (of_all, mend) in [(0, "net.ipv4.ip_forward=1"), (1, "net.ipv4.conf.eth0.forwarding=1")] {
            samples::setting(&mut picture, "blue", "ipv4/conf/all/forwarding", of_all);
            let found = forwarding(&picture).unwrap().mend.unwrap();
            assert_eq!(found, format!("vswitchctl ns exec blue sysctl -qw {mend}"));
        }
    }

    #[test]
    fn settings_that_keep_a_stack_silent_are_named() {
        let mut picture = samples::healthy();
        picture.talks[0].answered = [false; 2];
        assert_eq!(
            (silent(&picture), echo(&picture), neighbour(&picture)),
            (None, None, None)
        );
        samples::setting(&mut picture, "blue", "ipv4/conf/all/arp_ignore", 8);
        assert!(
            silent(&picture)
                .unwrap()
                .mend
                .unwrap()
                .ends_with("net.ipv4.conf.all.arp_ignore=0")
        );
        samples::setting(&mut picture, "blue", "ipv4/icmp_echo_ignore_all", 1);
        assert!(
            echo(&picture)
                .unwrap()
                .mend
                .unwrap()
                .ends_with("icmp_echo_ignore_all=0")
        );
    }
}
