//! What of the host's firewall keeps frames from gateways, with what mends it. Each cure was tried with the real one: iptables, nft, Debian's
//! ufw 0.36 and firewalld 1.3.

use std::collections::BTreeSet;

use serde_json::Value;

use super::outside::Outside;
use super::tool;

/// A base chain of filters that drops what no rule takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Chain {
    family: String,
    table: String,
    name: String,
    hook: Hook,
    drops: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hook {
    /// For the host itself: DHCP and DNS.
    Input,
    /// Through it: NAT.
    Forward,
}

impl Hook {
    /// The name of the chain that iptables has for it.
    fn name(self) -> &'static str {
        match self {
            Self::Input => "INPUT",
            Self::Forward => "FORWARD",
        }
    }

    /// What the firewall does, and to whom.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Input => ("comes in", "what stations ask DHCP and DNS of", "let it in"),
            Self::Forward => ("is forwarded", "what is sent out by", "let it through"),
        }
    }
}

/// What keeps frames from being forwarded, and stations from DHCP and DNS.
pub(super) async fn in_the_way(outside: &Outside) -> Vec<String> {
    let mut warnings = Vec::new();
    let chains = chains().await;
    let ways = outside
        .ways
        .iter()
        .map(|way| (Hook::Forward, &way.switch, &way.gateway));
    let services = outside
        .services
        .iter()
        .map(|one| (Hook::Input, &one.switch, &one.gateway));
    for (hook, switch, gateway) in ways.chain(services) {
        let (what, concerned, mend) = hook.words();
        for chain in chains.iter().filter(|chain| chain.hook == hook) {
            if let Some(cure) = cure_of(chain, gateway.as_str()).await {
                let Chain {
                    family, table, name, ..
                } = chain;
                warnings.push(format!(
                    "the host's firewall drops what {what} (chain {name} of table {family} {table}), so also {concerned} switch \"{switch}\": \
                     {mend} with `{cure}`"
                ));
            }
        }
        if hook == Hook::Forward {
            warnings.extend(legacy_in_the_way(switch.as_str(), gateway.as_str()).await);
        }
    }
    // One command of ufw is for both address families, one of firewalld for what comes in too.
    let mut told = BTreeSet::new();
    warnings.retain(|warning| {
        let cure = warning.split('`').nth(1);
        cure.is_none_or(|cure| told.insert(cure.to_owned()))
    });
    warnings
}

/// The base chains of input and forwarding.
async fn chains() -> BTreeSet<Chain> {
    let listed = tool::list(&["chains"]).await.unwrap_or_default();
    let items = listed["nftables"].as_array().into_iter().flatten();
    let chains = items.filter_map(|item| {
        let chain = &item["chain"];
        let word = |key: &str| chain[key].as_str().unwrap_or_default().to_owned();
        let hook = match chain["hook"].as_str()? {
            "input" => Hook::Input,
            "forward" => Hook::Forward,
            _ => return None,
        };
        Some(Chain {
            family: word("family"),
            table: word("table"),
            name: word("name"),
            hook,
            drops: word("policy") == "drop",
        })
    });
    chains.collect()
}

/// What lets the frames of a gateway pass a chain; none: they pass.
async fn cure_of(chain: &Chain, gateway: &str) -> Option<String> {
    let Chain {
        family, table, name, ..
    } = chain;
    let rules = tool::list(&["chain", family, table, name]).await.unwrap_or_default();
    let named = format!("\"{gateway}\"");
    // Somebody has thought of it.
    if rules.to_string().contains(&named) || !(chain.drops || ends_in_refusal(&rules)) {
        return None;
    }
    if table == "firewalld" {
        // It makes its table anew, and knows interfaces by their zones, each of which has chains of its own.
        let all = tool::list(&["table", family, table]).await.unwrap_or_default();
        let zone = format!("--zone=trusted --change-interface={gateway}");
        let cure = format!("firewall-cmd --permanent {zone}; firewall-cmd {zone}");
        return (!all.to_string().contains(&named)).then_some(cure);
    }
    let is_old = ["ip", "ip6"].contains(&family.as_str()) && name == chain.hook.name();
    if is_old && rules.to_string().contains("\"ufw") {
        let of = match (family.as_str(), chain.hook) {
            ("ip", Hook::Forward) => "ufw-user-forward",
            ("ip", Hook::Input) => "ufw-user-input",
            (_, Hook::Forward) => "ufw6-user-forward",
            (_, Hook::Input) => "ufw6-user-input",
        };
        let users = tool::list(&["chain", family, table, of]).await.unwrap_or_default();
        let cure = match chain.hook {
            Hook::Forward => format!("ufw route allow in on {gateway}; ufw route allow out on {gateway}"),
            Hook::Input => format!("ufw allow in on {gateway}"),
        };
        return (!users.to_string().contains(&named)).then_some(cure);
    }
    let program = if family == "ip6" { "ip6tables" } else { "iptables" };
    Some(match chain.hook {
        Hook::Forward if is_old => forwarded(program, gateway),
        Hook::Input if is_old => format!("{program} -I INPUT -i {gateway} -j ACCEPT"),
        Hook::Forward => format!(
            "nft insert rule {family} {table} {name} iifname {gateway} accept; nft insert rule {family} {table} {name} oifname {gateway} accept"
        ),
        Hook::Input => format!("nft insert rule {family} {table} {name} iifname {gateway} accept"),
    })
}

fn forwarded(program: &str, gateway: &str) -> String {
    format!("{program} -I FORWARD -i {gateway} -j ACCEPT; {program} -I FORWARD -o {gateway} -j ACCEPT")
}

/// Whether what no rule takes is dropped or refused by the last rule, as firewalld has it, whose policies are to accept.
fn ends_in_refusal(chain: &Value) -> bool {
    let items = chain["nftables"].as_array().map_or(&[][..], Vec::as_slice);
    let last = items
        .iter()
        .filter_map(|item| item["rule"]["expr"].as_array())
        .next_back();
    last.is_some_and(|statements| {
        let is = |statement: &Value, words: &[&str]| {
            let mut keys = statement.as_object().into_iter().flat_map(|object| object.keys());
            keys.any(|key| words.contains(&key.as_str()))
        };
        statements.iter().any(|one| is(one, &["drop", "reject"]))
            && statements
                .iter()
                .all(|one| is(one, &["drop", "reject", "counter", "log"]))
    })
}

/// The same of the older tables of iptables, which nft does not know.
async fn legacy_in_the_way(switch: &str, gateway: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    for (names, program) in [
        ("/proc/net/ip_tables_names", "iptables-legacy"),
        ("/proc/net/ip6_tables_names", "ip6tables-legacy"),
    ] {
        let tables = std::fs::read_to_string(names).unwrap_or_default();
        if !tables.lines().any(|table| table == "filter") {
            continue;
        }
        let Ok(rules) = tool::run(program, &["-w", "-S", "FORWARD"], Vec::new()).await else {
            continue;
        };
        let rules = String::from_utf8_lossy(&rules);
        if rules.contains("-P FORWARD DROP") && !rules.split_whitespace().any(|word| word == gateway) {
            warnings.push(format!(
                "the host's firewall drops what is forwarded (chain FORWARD of {program}), so also what switch \"{switch}\" sends out: \
                 let it through with `{}`",
                forwarded(program, gateway)
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::ends_in_refusal;

    #[test]
    fn a_last_rule_that_takes_all_is_as_good_as_a_policy() {
        let chain = |rules: &[serde_json::Value]| {
            let rules = rules.iter().map(|expr| json!({"rule": {"expr": expr}}));
            let head = [
                json!({"metainfo": {}}),
                json!({"chain": {"hook": "forward", "policy": "accept"}}),
            ];
            json!({"nftables": head.into_iter().chain(rules).collect::<Vec<_>>()})
        };
        let established = json!([{"match": {"left": {"ct": {"key": "state"}}, "op": "in", "right": "established"}}, {"accept": null}]);
        let invalid =
            json!([{"match": {"left": {"ct": {"key": "state"}}, "op": "in", "right": "invalid"}}, {"drop": null}]);
        let rest =
            json!([{"counter": {"packets": 0, "bytes": 0}}, {"reject": {"type": "icmpx", "expr": "admin-prohibited"}}]);
        assert!(ends_in_refusal(&chain(&[established.clone(), rest.clone()])));
        assert!(ends_in_refusal(&chain(&[json!([{"drop": null}])])));
        assert!(!ends_in_refusal(&chain(&[rest, established])));
        assert!(!ends_in_refusal(&chain(&[invalid])));
        assert!(!ends_in_refusal(&chain(&[])));
    }
}
