//! What of the host's firewall keeps frames from gateways, with what mends it. Each cure was tried with the real one: iptables, nft, Debian's
//! ufw 0.36 and firewalld 1.3.

use std::collections::{BTreeMap, BTreeSet};

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

/// What keeps frames from being forwarded, and stations from DHCP and DNS. `own`: the table that is ours, of the family inet.
pub(super) async fn in_the_way(outside: &Outside, own: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if outside.ways.is_empty() && outside.services.is_empty() {
        return warnings;
    }
    // All at once: each call of the tool takes a program, and there are as many chains times gateways as there are.
    let listed = tool::list(&["ruleset"]).await.unwrap_or_default();
    let ruleset = Ruleset::new(&listed, own);
    let chains = ruleset.chains();
    let legacy = match outside.ways.is_empty() {
        true => Vec::new(),
        false => legacy_rules().await,
    };
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
            if let Some(cure) = ruleset.cure_of(chain, gateway.as_str()) {
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
            warnings.extend(legacy_in_the_way(&legacy, switch.as_str(), gateway.as_str()));
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

/// What is listed of the host's rules, by where it belongs.
struct Ruleset<'a> {
    chains: Vec<&'a Value>,
    /// By family, table and chain.
    rules: BTreeMap<[&'a str; 3], Vec<&'a Value>>,
}

impl<'a> Ruleset<'a> {
    fn new(listed: &'a Value, own: &str) -> Self {
        let (mut chains, mut rules) = (Vec::new(), BTreeMap::<_, Vec<_>>::new());
        let is_own = |object: &Value| object["family"] == "inet" && object["table"] == own;
        for item in listed["nftables"].as_array().into_iter().flatten() {
            let (chain, rule) = (&item["chain"], &item["rule"]);
            if !chain.is_null() && !is_own(chain) {
                chains.push(chain);
            }
            if !rule.is_null() && !is_own(rule) {
                let place = ["family", "table", "chain"].map(|key| rule[key].as_str().unwrap_or_default());
                rules.entry(place).or_default().push(&rule["expr"]);
            }
        }
        Self { chains, rules }
    }

    /// The base chains of input and forwarding.
    fn chains(&self) -> BTreeSet<Chain> {
        let chains = self.chains.iter().filter_map(|chain| {
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

    /// The rules of a chain, each with its statements.
    fn of_chain(&self, family: &str, table: &str, name: &str) -> &[&'a Value] {
        let mut all = self.rules.iter();
        let of_it = all.find(|(place, _)| **place == [family, table, name]);
        of_it.map_or(&[], |(_, rules)| rules)
    }

    fn names(&self, family: &str, table: &str, is_chain: impl Fn(&str) -> bool, word: &str) -> bool {
        let of_table = self
            .rules
            .iter()
            .filter(|([f, t, chain], _)| *f == family && *t == table && is_chain(chain));
        of_table
            .flat_map(|(_, rules)| rules)
            .any(|rule| rule.to_string().contains(word))
    }

    /// What lets the frames of a gateway pass a chain; none: they pass.
    fn cure_of(&self, chain: &Chain, gateway: &str) -> Option<String> {
        let Chain {
            family, table, name, ..
        } = chain;
        let rules = self.of_chain(family, table, name);
        let is_in_it = |chain: &str| chain == name.as_str();
        let named = format!("\"{gateway}\"");
        // Somebody has thought of it.
        if !(chain.drops || ends_in_refusal(rules)) || self.names(family, table, is_in_it, &named) {
            return None;
        }
        if table == "firewalld" {
            // It makes its table anew, and knows interfaces by their zones, each of which has chains of its own.
            let zone = format!("--zone=trusted --change-interface={gateway}");
            let cure = format!("firewall-cmd --permanent {zone}; firewall-cmd {zone}");
            return (!self.names(family, table, |_| true, &named)).then_some(cure);
        }
        // Another table may have a chain of that name too, which iptables knows nothing of.
        let is_old = ["ip", "ip6"].contains(&family.as_str()) && table == "filter" && name == chain.hook.name();
        if is_old && self.names(family, table, is_in_it, "\"ufw") {
            let of = match (family.as_str(), chain.hook) {
                ("ip", Hook::Forward) => "ufw-user-forward",
                ("ip", Hook::Input) => "ufw-user-input",
                (_, Hook::Forward) => "ufw6-user-forward",
                (_, Hook::Input) => "ufw6-user-input",
            };
            let cure = match chain.hook {
                Hook::Forward => format!("ufw route allow in on {gateway}; ufw route allow out on {gateway}"),
                Hook::Input => format!("ufw allow in on {gateway}"),
            };
            return (!self.names(family, table, |chain| chain == of, &named)).then_some(cure);
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
}

fn forwarded(program: &str, gateway: &str) -> String {
    format!("{program} -I FORWARD -i {gateway} -j ACCEPT; {program} -I FORWARD -o {gateway} -j ACCEPT")
}

/// Whether what no rule takes is dropped or refused by the last rule, as firewalld has it, whose policies are to accept.
fn ends_in_refusal(rules: &[&Value]) -> bool {
    let last = rules.last().and_then(|rule| rule.as_array());
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

/// What the older tables of iptables forward, which nft does not know: by the programs that list it.
async fn legacy_rules() -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    for (names, program) in [
        ("/proc/net/ip_tables_names", "iptables-legacy"),
        ("/proc/net/ip6_tables_names", "ip6tables-legacy"),
    ] {
        let tables = std::fs::read_to_string(names).unwrap_or_default();
        if !tables.lines().any(|table| table == "filter") {
            continue;
        }
        // Whoever holds their lock for longer may keep the question waiting, but not all edits.
        if let Ok(rules) = tool::run(program, &["-w", "1", "-S", "FORWARD"], Vec::new()).await {
            all.push((program, String::from_utf8_lossy(&rules).into_owned()));
        }
    }
    all
}

/// What of these keeps frames of a gateway from being forwarded.
fn legacy_in_the_way(legacy: &[(&str, String)], switch: &str, gateway: &str) -> Vec<String> {
    let drops =
        |rules: &str| rules.contains("-P FORWARD DROP") && !rules.split_whitespace().any(|word| word == gateway);
    let in_the_way = legacy.iter().filter(|(_, rules)| drops(rules));
    let warnings = in_the_way.map(|(program, _)| {
        format!(
            "the host's firewall drops what is forwarded (chain FORWARD of {program}), so also what switch \"{switch}\" sends out: \
             let it through with `{}`",
            forwarded(program, gateway)
        )
    });
    warnings.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rule(chain: &str, expr: &Value) -> Value {
        json!({"rule": {"family": "inet", "table": "fw", "chain": chain, "expr": expr}})
    }

    #[test]
    fn iptables_cures_the_chains_of_its_own_table_alone() {
        let cure = |table: &str| {
            let chain = json!({"family": "ip", "table": table, "name": "FORWARD", "hook": "forward", "policy": "drop"});
            let listed = json!({"nftables": [{"chain": chain}]});
            let ruleset = Ruleset::new(&listed, "vswitch");
            let chain = ruleset.chains().into_iter().next().unwrap();
            ruleset.cure_of(&chain, "gw").unwrap()
        };
        assert!(cure("filter").starts_with("iptables -I FORWARD"));
        assert!(cure("filt").starts_with("nft insert rule ip filt FORWARD iifname gw"));
    }

    #[test]
    fn older_tables_are_read_once_for_all_gateways() {
        let legacy = [
            (
                "iptables-legacy",
                "-P FORWARD DROP\n-A FORWARD -i a-gw -j ACCEPT\n".to_owned(),
            ),
            ("ip6tables-legacy", "-P FORWARD ACCEPT\n".to_owned()),
        ];
        assert_eq!(legacy_in_the_way(&legacy, "a", "a-gw"), Vec::<String>::new());
        let warnings = legacy_in_the_way(&legacy, "b", "b-gw");
        assert!(
            warnings.len() == 1 && warnings[0].contains("iptables-legacy -I FORWARD -i b-gw"),
            "{warnings:?}"
        );
    }

    #[test]
    fn a_last_rule_that_takes_all_is_as_good_as_a_policy() {
        let established = json!([{"match": {"left": {"ct": {"key": "state"}}, "op": "in", "right": "established"}}, {"accept": null}]);
        let invalid =
            json!([{"match": {"left": {"ct": {"key": "state"}}, "op": "in", "right": "invalid"}}, {"drop": null}]);
        let rest =
            json!([{"counter": {"packets": 0, "bytes": 0}}, {"reject": {"type": "icmpx", "expr": "admin-prohibited"}}]);
        assert!(ends_in_refusal(&[&established, &rest]));
        assert!(ends_in_refusal(&[&json!([{"drop": null}])]));
        assert!(!ends_in_refusal(&[&rest, &established]));
        assert!(!ends_in_refusal(&[&invalid]));
        assert!(!ends_in_refusal(&[]));
    }

    #[test]
    fn of_the_ruleset_our_table_is_left_out_and_a_chain_is_that_of_its_table() {
        let chain = |table: &str, policy: &str| json!({"chain": {"family": "inet", "table": table, "name": "pass", "hook": "forward", "policy": policy}});
        let through =
            json!([{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "gw"}}, {"accept": null}]);
        let listed = json!({"nftables": [
            {"metainfo": {}}, chain("vswitch", "drop"), chain("fw", "drop"), rule("other", &through)
        ]});
        let ruleset = Ruleset::new(&listed, "vswitch");
        let chains: Vec<_> = ruleset.chains().into_iter().collect();
        assert_eq!(
            chains.iter().map(|chain| chain.table.as_str()).collect::<Vec<_>>(),
            ["fw"]
        );
        assert!(
            ruleset
                .cure_of(&chains[0], "gw")
                .unwrap()
                .contains("inet fw pass iifname gw")
        );
        let listed = json!({"nftables": [chain("fw", "drop"), rule("pass", &through)]});
        let ruleset = Ruleset::new(&listed, "vswitch");
        assert_eq!(ruleset.cure_of(&chains[0], "gw"), None);
        assert!(ruleset.cure_of(&chains[0], "gw2").is_some());
    }
}
