//! Takes out of a text what is not of the lab: addresses, MAC addresses, the name of the machine, secrets.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use vswitch_api::{Lab, Mac};

/// Words behind which a value is nobody's business.
const SECRETS: [&str; 8] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "api_key",
    "private_key",
];
/// MAC addresses that vswitch chooses, whoever has them.
const CHOSEN: [u8; 3] = [0x02, 0x76, 0x73];

/// What may stay.
pub struct Scrub {
    nets: Vec<IpNet>,
    macs: HashSet<Mac>,
    host: String,
    /// What was taken out, so that the same is called the same.
    seen: RefCell<HashMap<String, String>>,
}

impl Scrub {
    /// For what is of this lab, on a machine of this name.
    pub fn new(lab: Option<&Lab>, host: &str) -> Self {
        let mut scrub = Self {
            nets: Vec::new(),
            macs: HashSet::new(),
            // One that is a word of its own would be taken out everywhere.
            host: if host.len() > 3 && host != "localhost" {
                host.to_owned()
            } else {
                String::new()
            },
            seen: RefCell::default(),
        };
        for port in lab.iter().flat_map(|lab| &lab.ports) {
            scrub.know(port.addresses.iter().map(|address| address.net()), port.mac);
            scrub.know(
                port.routes.iter().filter_map(|route| Some(IpNet::from(route.via?))),
                None,
            );
            scrub.macs.extend(port.stations.iter().map(|station| station.mac));
        }
        for end in lab
            .iter()
            .flat_map(|lab| &lab.cables)
            .flat_map(|cable| [&cable.a, &cable.b])
        {
            scrub.know(end.addresses.iter().map(|address| address.net()), end.mac);
            scrub.know(
                end.routes.iter().filter_map(|route| Some(IpNet::from(route.via?))),
                None,
            );
        }
        let routes = lab.iter().flat_map(|lab| &lab.ports).flat_map(|port| &port.routes);
        // The default route is everything.
        scrub
            .nets
            .extend(routes.map(|route| route.to).filter(|net| net.prefix_len() > 0));
        scrub
    }

    fn know(&mut self, nets: impl Iterator<Item = IpNet>, mac: Option<Mac>) {
        self.nets.extend(nets.filter(|net| net.prefix_len() > 0));
        self.macs.extend(mac);
    }

    /// The text without what may not stay.
    pub fn clean(&self, text: &str) -> String {
        let text = match self.host.is_empty() {
            true => text.to_owned(),
            false => text.replace(&self.host, "<host>"),
        };
        let mut clean = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            let line = without_secrets(line);
            self.addresses(&line, &mut clean);
        }
        clean
    }

    /// Runs of what addresses are made of, each looked at as one.
    fn addresses(&self, text: &str, clean: &mut String) {
        let is_part = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
        let mut rest = text;
        while let Some(begin) = rest.find(is_part) {
            clean.push_str(&rest[..begin]);
            let from = &rest[begin..];
            let end = from.find(|c| !is_part(c)).unwrap_or(from.len());
            let (run, behind) = from.split_at(end);
            // `dead:beef` within a word is none.
            let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            match is_word(clean.chars().next_back()) || is_word(behind.chars().next()) {
                true => clean.push_str(run),
                false => self.run(run, clean),
            }
            rest = behind;
        }
        clean.push_str(rest);
    }

    fn run(&self, run: &str, clean: &mut String) {
        let meant = run.trim_end_matches(['.', ':']);
        // `fe80::` ends in colons of its own.
        let meant = if run.ends_with("::") { run } else { meant };
        let tail = &run[meant.len()..];
        if let Some(put) = self.instead_of(meant) {
            clean.push_str(&put);
            clean.push_str(tail);
            return;
        }
        // An address with a port.
        match meant.rsplit_once(':') {
            Some((address, port)) if address.parse::<std::net::Ipv4Addr>().is_ok() => {
                clean.push_str(&self.instead_of(address).unwrap_or_else(|| address.to_owned()));
                clean.push(':');
                clean.push_str(port);
                clean.push_str(tail);
            }
            _ => clean.push_str(run),
        }
    }

    /// What is to stand for an address; none: it may stay, or is none.
    fn instead_of(&self, text: &str) -> Option<String> {
        let kind = if let Ok(ip) = text.parse::<IpAddr>() {
            if self.may_stay(ip) {
                return None;
            }
            "address"
        } else {
            let mac = text.parse::<Mac>().ok().filter(|_| text.len() == 17)?;
            let [a, b, c, ..] = mac.0;
            if mac.is_multicast() || mac.0 == [0; 6] || [a, b, c] == CHOSEN || self.macs.contains(&mac) {
                return None;
            }
            "mac"
        };
        let mut seen = self.seen.borrow_mut();
        let number = 1 + seen.values().filter(|put| put[1..].starts_with(kind)).count();
        let put = seen
            .entry(text.to_ascii_lowercase())
            .or_insert_with(|| format!("<{kind}-{number}>"));
        Some(put.clone())
    }

    fn may_stay(&self, ip: IpAddr) -> bool {
        let is_nobodys = ip.is_loopback() || ip.is_unspecified() || ip.is_multicast();
        let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        is_nobodys || is_broadcast || self.nets.iter().any(|net| net.contains(&ip))
    }
}

/// Whatever stands behind such a word and `=` or `:` goes, to the end of the line.
fn without_secrets(line: &str) -> String {
    let small = line.to_ascii_lowercase();
    let end = SECRETS
        .iter()
        .filter_map(|word| {
            let behind = small.find(word)? + word.len();
            // The rest of the key, then what divides it from its value.
            let key = small[behind..].find(|c: char| !(c.is_alphanumeric() || "_-\"'".contains(c)))?;
            let divider = small[behind + key..].trim_start_matches([' ', '\t']);
            let place = small.len() - divider.len();
            divider.starts_with(['=', ':']).then_some(place + 1)
        })
        .min();
    match end {
        Some(end) if !line[end..].trim().is_empty() => {
            let newline = if line.ends_with('\n') { "\n" } else { "" };
            format!("{} <secret>{newline}", &line[..end])
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn scrub() -> Scrub {
        let lab: Lab = serde_json::from_value(json!({
            "ports": [{"name": "red", "mac": "02:00:00:00:00:01", "addresses": ["10.0.0.1/24", "fd00::1/64"],
                       "routes": [{"to": "10.9.0.0/16", "via": "10.0.0.254"}, {"to": "0.0.0.0/0", "via": "10.0.0.254"}]}]
        }))
        .unwrap();
        Scrub::new(Some(&lab), "secretbox")
    }

    #[test]
    fn what_is_not_of_the_lab_is_taken_out() {
        for (text, clean) in [
            ("from 10.0.0.7 to 10.9.3.4", "from 10.0.0.7 to 10.9.3.4"),
            (
                "from 192.168.1.5 to 8.8.8.8, 192.168.1.5.",
                "from <address-1> to <address-2>, <address-1>.",
            ),
            ("http://192.168.1.5:8080/x", "http://<address-1>:8080/x"),
            (
                "[2001:db8::7]:80 fd00::9 fe80::1%eth0",
                "[<address-3>]:80 fd00::9 <address-4>%eth0",
            ),
            ("2001:DB8::7", "<address-3>"),
            (
                "mac 52:54:00:12:34:56, 02:00:00:00:00:01, 02:76:73:aa:bb:cc, ff:ff:ff:ff:ff:ff",
                "mac <mac-1>, 02:00:00:00:00:01, 02:76:73:aa:bb:cc, ff:ff:ff:ff:ff:ff",
            ),
            (
                "127.0.0.1 ::1 0.0.0.0 224.0.0.5 ff02::1",
                "127.0.0.1 ::1 0.0.0.0 224.0.0.5 ff02::1",
            ),
            (
                "2026-11-28T21:16:53.765450Z 1.2.3 dead.beef abc::def::1",
                "2026-11-28T21:16:53.765450Z 1.2.3 dead.beef abc::def::1",
            ),
            ("on secretbox: up", "on <host>: up"),
            ("password = \"x\" # y\nnext", "password = <secret>\nnext"),
            ("  \"auth_token\": \"abc\",", "  \"auth_token\": <secret>"),
            ("a token is missing", "a token is missing"),
            ("secret:", "secret:"),
        ] {
            let scrub = scrub();
            // The numbers of before.
            scrub.clean("192.168.1.5 8.8.8.8 2001:db8::7 fe80::1");
            assert_eq!(scrub.clean(text), clean);
        }
    }

    proptest! {
        #[test]
        fn no_foreign_address_stays(ip: std::net::Ipv4Addr, v6: std::net::Ipv6Addr, before in "[ a-z=\\[(,\"]{0,3}[ =\\[(,\"]", behind in "[ \\])/,\"%][ -~]{0,3}") {
            let scrub = scrub();
            for ip in [IpAddr::from(ip), IpAddr::from(v6)] {
                let clean = scrub.clean(&format!("{before}{ip}{behind}"));
                prop_assert!(scrub.may_stay(ip) || !clean.contains(&ip.to_string()), "{}", clean);
            }
        }

        #[test]
        fn any_text_can_be_cleaned(text: String) {
            scrub().clean(&text);
        }
    }
}
