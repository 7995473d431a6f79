//! Takes out of a text what is not of the lab: addresses, MAC addresses, the name of the machine, secrets.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use vswitch_api::{Lab, Mac};

/// Parts of words behind which a value is nobody's business.
const SECRETS: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "psk",
    "apikey",
    "api_key",
];
/// The same at the end of a word: `PGPASS`, `--key`, `PrivateKey`.
const SECRET_ENDS: [&str; 4] = ["key", "pass", "pwd", "auth"];
/// Settings of commands and namespaces whose values are the user's own: the end of what `set env.NAME of ...` says.
const SETTINGS: [&str; 2] = ["env.", "files."];
/// What the daemon says before it tells what a command wrote, or how it was called.
const QUOTES: [&str; 2] = ["its last lines were: ", "run it by hand: "];
/// Shorter texts of the lab are words that stand for something else, too.
const LEAST_TEXT: usize = 6;
/// What stands in the place of a secret.
const SECRET: &str = "<secret>";
/// MAC addresses that vswitch chooses, whoever has them.
const CHOSEN: [u8; 3] = [0x02, 0x76, 0x73];

/// What may stay.
pub struct Scrub {
    nets: Vec<IpNet>,
    macs: HashSet<Mac>,
    host: String,
    /// What users give to their commands, and write into files.
    texts: Vec<String>,
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
            texts: lab.map(texts).unwrap_or_default(),
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
        let mut text = match self.host.is_empty() {
            true => text.to_owned(),
            false => text.replace(&self.host, "<host>"),
        };
        for secret in &self.texts {
            // In JSON as it is written there.
            let quoted = serde_json::to_string(secret).unwrap_or_default();
            for secret in [quoted.trim_matches('"'), secret] {
                if text.contains(secret) {
                    text = text.replace(secret, SECRET);
                }
            }
        }
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

/// The lab without what users give to their commands and write into files: there is no word by which a secret among it is known.
pub fn without_texts(lab: &Lab) -> Lab {
    let mut lab = lab.clone();
    let characters = |text: &str| format!("<{} characters>", text.chars().count());
    for command in &mut lab.commands {
        command.env.values_mut().for_each(|value| *value = SECRET.to_owned());
        for line in command
            .run
            .iter_mut()
            .chain(command.ready.iter_mut().flat_map(|ready| &mut ready.run))
        {
            *line = characters(line);
        }
        let arguments = command.argv.len().saturating_sub(1);
        if arguments > 0 {
            command.argv.truncate(1);
            command.argv.push(format!("<{arguments} arguments>"));
        }
    }
    for namespace in &mut lab.namespaces {
        namespace.files.values_mut().for_each(|text| *text = characters(text));
    }
    lab
}

/// These texts, the longest first, so that none is left as a part of another. What says where something is in the network stays.
fn texts(lab: &Lab) -> Vec<String> {
    let commands = lab.commands.iter().flat_map(|command| {
        let lines = command
            .run
            .iter()
            .chain(command.ready.iter().flat_map(|ready| &ready.run));
        lines.chain(command.env.values()).chain(command.argv.iter().skip(1))
    });
    let files = lab.namespaces.iter().flat_map(|namespace| namespace.files.values());
    // Files may be long, and are shown nowhere else as a whole.
    let files = files
        .flat_map(|text| text.lines())
        .filter(|line| without_secrets(line) != *line);
    let lines = commands.flat_map(|text| text.lines()).chain(files);
    let names = lab.ports.iter().map(|port| port.name.as_str());
    let names = names.chain(lab.switches.iter().map(|switch| switch.name.as_str()));
    let names: HashSet<_> = names
        .chain(lab.namespaces.iter().map(|one| one.name.as_str()))
        .collect();
    let is_known = |text: &str| names.contains(text) || text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok();
    let mut texts: Vec<_> = lines
        .map(str::trim)
        .filter(|text| text.len() >= LEAST_TEXT && !is_known(text))
        .map(str::to_owned)
        .collect();
    texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
    texts.dedup();
    texts
}

/// Whatever stands behind such a word and `=` or `:`, or behind such an option, goes, to the end of the line; so do users and passwords
/// in URLs.
fn without_secrets(line: &str) -> String {
    let newline = if line.ends_with('\n') { "\n" } else { "" };
    let quoted = QUOTES
        .iter()
        .filter_map(|quote| Some(line.find(quote)? + quote.len()))
        .min();
    let line = match quoted {
        Some(end) => without_users(&format!("{}{SECRET}{newline}", &line[..end])),
        None => without_users(line),
    };
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let mut from = 0;
    while let Some(begin) = line[from..].find(is_part).map(|at| from + at) {
        let end = line[begin..].find(|c| !is_part(c)).map_or(line.len(), |at| begin + at);
        if let Some(value) = value_of(&line, begin, end) {
            return format!("{} {SECRET}{newline}", line[..value].trim_end_matches(' '));
        }
        from = end;
    }
    line
}

/// Where the value begins that a secret's word has.
fn value_of(line: &str, begin: usize, end: usize) -> Option<usize> {
    let word = line[begin..end].to_ascii_lowercase();
    let is_setting = SETTINGS.iter().any(|start| word.starts_with(start));
    let is_secret =
        SECRETS.iter().any(|part| word.contains(part)) || SECRET_ENDS.iter().any(|part| word.ends_with(part));
    // The daemon tells so which setting it is that was changed.
    let is_key = word == "key" && line[..begin].ends_with('"') && line[end..].starts_with('"');
    if !(is_secret || is_setting) || is_key {
        return None;
    }
    let rest = line[end..].trim_start_matches(['"', '\'']);
    let divider = rest.trim_start_matches([' ', '\t']);
    let is_behind_blank = (word.starts_with('-') || is_setting) && divider.len() < rest.len();
    let value = match divider.strip_prefix(['=', ':', ',']) {
        // Of a list, as in `"--password", "x"`.
        Some(value) if !divider.starts_with(',') || word.starts_with('-') || is_setting => value,
        _ if is_behind_blank => divider,
        _ => return None,
    };
    (!value.trim().is_empty()).then_some(line.len() - value.len())
}

/// `://user:password@` without the two.
fn without_users(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        clean.push_str(before);
        let end = behind
            .find(|c: char| c.is_whitespace() || "/?#\"'".contains(c))
            .unwrap_or(behind.len());
        rest = match behind[..end].rfind('@') {
            Some(at) => {
                clean.push_str(SECRET);
                &behind[at..]
            }
            None => behind,
        };
    }
    clean + rest
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
            (
                "its last lines were: hunter2 | x\nnext",
                "its last lines were: <secret>\nnext",
            ),
            ("PGPASS=x y=1", "PGPASS= <secret>"),
            ("a --token-file /x --token=y", "a --token-file <secret>"),
            ("wpa_psk: x\nPrivateKey = y", "wpa_psk: <secret>\nPrivateKey = <secret>"),
            ("run --password hunter2", "run --password <secret>"),
            ("[\"--key\", \"hunter2\"]", "[\"--key\", <secret>"),
            ("get http://me:hunter2@box/x?y@z", "get http://<secret>@box/x?y@z"),
            ("set env.USER of command web to me (was you)", "set env.USER <secret>"),
            (
                "vswitchd.toml:3: key \"level\": \"inof\" is not a level",
                "vswitchd.toml:3: key \"level\": \"inof\" is not a level",
            ),
            ("{\"key\":\"mtu\",\"after\":1400}", "{\"key\":\"mtu\",\"after\":1400}"),
        ] {
            let scrub = scrub();
            // The numbers of before.
            scrub.clean("192.168.1.5 8.8.8.8 2001:db8::7 fe80::1");
            assert_eq!(scrub.clean(text), clean);
        }
    }

    /// No word tells a secret in a file, an argument or a variable from what is none.
    #[test]
    fn what_users_give_to_commands_and_write_into_files_is_taken_out() {
        let lab: Lab = serde_json::from_value(json!({
            "ports": [{"name": "web-one"}],
            "namespaces": [{"name": "red", "files": {"wg.conf": "[Interface]\nPrivateKey = hunter1\n"}}],
            "commands": [
                {"name": "a", "namespace": "red", "argv": ["curl", "-u", "me:hunter2", "10.0.0.1", "web-one"], "env": {"USER": "hunter3"}},
                {"name": "b", "namespace": "red", "run": "login hunter4", "ready": {"run": "ask hunter5"}}
            ]
        }))
        .unwrap();
        let written = toml::to_string_pretty(&without_texts(&lab)).unwrap();
        assert!(!written.contains("hunter"), "{written}");
        for part in ["curl", "<4 arguments>", "USER", "wg.conf"] {
            assert!(written.contains(part), "{part}: {written}");
        }
        let log = "ran: curl -u me:hunter2 10.0.0.1 web-one\nUSER was hunter3, PrivateKey = hunter1, login hunter4, ask hunter5";
        let clean = Scrub::new(Some(&lab), "").clean(log);
        assert!(!clean.contains("hunter"), "{clean}");
        assert!(clean.contains("10.0.0.1") || clean.contains("<address-1>"), "{clean}");
        assert!(clean.contains("web-one"), "{clean}");
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
