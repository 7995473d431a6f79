//! What of the filters of a namespace drops packets, and how it is taken away.

use std::process::{Command, Stdio};

/// A rule, or a policy, by which packets are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The tool that shows it.
    pub program: &'static str,
    /// As the tool shows it.
    pub rule: String,
    /// The command that takes it away, and nothing else.
    pub mend: String,
}

/// What is dropped in the namespace of this thread, as far as the tools are here.
pub fn filters() -> Vec<Filter> {
    let said = |program: &str, words: &[&str]| {
        let output = Command::new(program).args(words).stdin(Stdio::null()).output();
        output.map_or_else(
            |_| String::new(),
            |output| String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let mut found = Vec::new();
    for program in ["iptables", "ip6tables"] {
        found.extend(of_iptables(program, &said(program, &["-S"])));
    }
    // It tells of those too that were made by iptables, which is to take them away then.
    if found.is_empty() {
        found = of_nft(&said("nft", &["-a", "list", "ruleset"]));
    }
    found
}

fn drops(line: &str) -> bool {
    let mut words = line.split([' ', ';']);
    words.any(|word| ["drop", "DROP", "reject", "REJECT"].contains(&word))
}

/// Lines of `iptables -S`.
pub fn of_iptables(program: &'static str, rules: &str) -> Vec<Filter> {
    let lines = rules.lines().map(str::trim).filter(|line| drops(line));
    lines
        .map(|rule| Filter {
            program,
            rule: rule.to_owned(),
            mend: match (rule.strip_prefix("-A "), rule.strip_prefix("-P ")) {
                (Some(rest), _) => format!("{program} -D {rest}"),
                (_, Some(rest)) => format!("{program} -P {}", rest.replace("DROP", "ACCEPT")),
                _ => format!("{program} -S"),
            },
        })
        .collect()
}

/// Lines of `nft -a list ruleset`: each rule stands in a chain, that in a table, and behind each is its handle.
pub fn of_nft(rules: &str) -> Vec<Filter> {
    let (mut table, mut chain) = (String::new(), String::new());
    let mut found = Vec::new();
    for line in rules.lines().map(str::trim) {
        let (rule, handle) = match line.rsplit_once("# handle ") {
            Some((rule, handle)) => (rule.trim(), Some(handle)),
            None => (line, None),
        };
        let opened = |word: &str| Some(rule.strip_prefix(word)?.trim_end_matches('{').trim().to_owned());
        if let Some(name) = opened("table ") {
            table = name;
            continue;
        }
        if let Some(name) = opened("chain ") {
            chain = name;
            continue;
        }
        if line.starts_with('#') || !drops(rule) {
            continue;
        }
        let mend = match handle {
            Some(handle) => format!("nft delete rule {table} {chain} handle {handle}"),
            None if rule.contains("policy drop") => format!("nft 'chain {table} {chain} {{ policy accept; }}'"),
            None => "nft -a list ruleset".to_owned(),
        };
        found.push(Filter {
            program: "nft",
            rule: rule.to_owned(),
            mend,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_drop_are_found_in_either_form_with_what_takes_them_away() {
        let nft = "table inet f { # handle 3\n\tchain in { # handle 1\n\t\ttype filter hook input priority filter; policy drop;\n\
                   \t\ticmp type echo-request counter packets 1 bytes 84 reject # handle 7\n\t\ttcp dport 22 accept # handle 8\n\t}\n}";
        let mends: Vec<_> = of_nft(nft).into_iter().map(|filter| filter.mend).collect();
        assert_eq!(
            mends,
            [
                "nft 'chain inet f in { policy accept; }'",
                "nft delete rule inet f in handle 7"
            ]
        );
        let old = "-P INPUT ACCEPT\n-P FORWARD DROP\n-A INPUT -p icmp -j DROP\n-A OUTPUT -j ACCEPT";
        let mends: Vec<_> = of_iptables("iptables", old)
            .into_iter()
            .map(|filter| filter.mend)
            .collect();
        assert_eq!(
            mends,
            ["iptables -P FORWARD ACCEPT", "iptables -D INPUT -p icmp -j DROP"]
        );
    }
}
