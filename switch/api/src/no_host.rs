//! Blocks of addresses that no host on a link can have.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Of no host, and what they are for (RFC 1122 section 3.2.1.3; RFC 4291 sections 2.4 and 2.5).
const OF_NO_HOST: [(IpNet, &str); 7] = [
    (v4([0, 0, 0, 0], 8), "\"this network\""),
    (v4([127, 0, 0, 0], 8), "the host's own loopback"),
    (v4([224, 0, 0, 0], 4), "groups (multicast)"),
    (v4([255, 255, 255, 255], 32), "the broadcast"),
    (v6(0, 0, 96), "no address, and the host's own loopback"),
    (v6(0, 0xffff, 96), "IPv4 addresses within IPv6"),
    (v6(0xff00, 0, 8), "groups (multicast)"),
];

const fn v4([a, b, c, d]: [u8; 4], len: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), len))
}

const fn v6(first: u16, sixth: u16, len: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, 0, 0, 0, 0, sixth, 0, 0), len))
}

/// What those addresses of a network are for that no host can have; None where hosts can have all of them.
pub fn of_no_host(net: &IpNet) -> Option<&'static str> {
    let (_, what) = OF_NO_HOST
        .iter()
        .find(|(block, _)| block.contains(net) || net.contains(block))?;
    Some(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_holds_such_a_block_is_none_of_hosts_either() {
        let what = |net: &str| of_no_host(&net.parse().unwrap());
        assert_eq!(what("224.0.0.0/24"), Some("groups (multicast)"));
        assert_eq!(what("0.0.0.0/0"), Some("\"this network\""));
        assert_eq!(what("255.255.255.0/24"), Some("the broadcast"));
        assert_eq!(what("::ffff:10.0.0.1/128"), Some("IPv4 addresses within IPv6"));
        assert!(what("::/0").is_some());
        for net in [
            "10.0.0.0/8",
            "240.0.0.0/8",
            "169.254.0.0/16",
            "fd00::/8",
            "fe80::1/128",
            "2001:db8::/32",
        ] {
            assert_eq!(what(net), None, "{net}");
        }
    }
}
