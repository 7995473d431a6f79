//! Who is to reach whom: `reach = ["* -> *", "!guest -> server", "red <-> blue"]` in a lab file.

use vswitch_api::{IfAddr, Lab, Namespace};

use super::check::hint;
use super::node::{Node, Span};

/// Where frames come from and go to: a port with addresses, or the end of a cable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name of the port, or of the cable's namespace.
    pub name: String,
    /// The namespace; none: that of the host.
    pub namespace: Option<Namespace>,
    /// Its addresses.
    pub addresses: Vec<IfAddr>,
}

/// Whether somebody reaches somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// Name, or the beginning of names before a `*`.
    from: String,
    to: String,
    /// Also the other way.
    both: bool,
    /// False: it must not.
    pub reached: bool,
}

impl Expectation {
    /// Whether it is about this pair.
    pub fn is_about(&self, from: &str, to: &str) -> bool {
        let way = |from, to| fits(&self.from, from) && fits(&self.to, to);
        way(from, to) || self.both && way(to, from)
    }

    /// Why it can't be tested between two that it names: they are one, or in one namespace.
    fn of_one_stack(&self, all: &[Endpoint]) -> Option<String> {
        let (from, to) = (&self.from, &self.to);
        if !self.is_of_names() {
            return None;
        }
        if from == to {
            return Some(format!(
                "it is about {from:?} alone, and no packet to itself comes to a switch"
            ));
        }
        let place = |name: &String| all.iter().find(|one| one.name == *name).map(|one| &one.namespace);
        let (one, two) = (place(from)?, place(to)?);
        (one == two).then(|| format!("{from:?} and {to:?} are in one namespace, which no packet between them leaves"))
    }

    /// Whether both ends are named, and not what begins so.
    pub fn is_of_names(&self) -> bool {
        ![&self.from, &self.to].iter().any(|pattern| pattern.ends_with('*'))
    }
}

/// The two ends of each way that it is about, by name: what a pattern fits of these, and a name itself, whoever has it.
pub fn ways<'a>(expectation: &'a Expectation, all: &'a [Endpoint]) -> Vec<(&'a str, &'a str)> {
    let meant = |pattern: &'a str| -> Vec<&'a str> {
        if !pattern.ends_with('*') {
            return vec![pattern];
        }
        let names = all.iter().map(|endpoint| endpoint.name.as_str());
        names.filter(|name| fits(pattern, name)).collect()
    };
    let (from, to) = (meant(&expectation.from), meant(&expectation.to));
    let mut ways: Vec<_> = from
        .iter()
        .flat_map(|from| to.iter().map(move |to| (*from, *to)))
        .collect();
    if expectation.both {
        ways.extend(to.iter().flat_map(|to| from.iter().map(move |from| (*to, *from))));
    }
    ways
}

/// What is expected of a pair: what the last that is about it says.
pub fn expected(all: &[Expectation], from: &str, to: &str) -> Option<bool> {
    let about = |expectation: &&Expectation| expectation.is_about(from, to);
    all.iter().rev().find(about).map(|expectation| expectation.reached)
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(begin) => name.starts_with(begin),
        None => pattern == name,
    }
}

/// All that can be pinged from and to. Of several ends of cables in one namespace each has its addresses there.
pub fn endpoints(lab: &Lab) -> Vec<Endpoint> {
    let mut all = stations(lab);
    // What has its addresses chosen for it has some once it is there.
    let is_given = |endpoint: &Endpoint| {
        let port = lab.ports.iter().find(|port| port.name.as_str() == endpoint.name);
        port.is_some_and(|port| port.auto_addresses)
    };
    all.retain(|endpoint| !endpoint.addresses.is_empty() || is_given(endpoint));
    all
}

/// The same with those that have no address, or none that the lab tells of: it may be leased by DHCP.
pub fn stations(lab: &Lab) -> Vec<Endpoint> {
    let mut all: Vec<_> = lab
        .ports
        .iter()
        .filter(|port| port.kind.has_stack())
        .map(|port| Endpoint {
            name: port.name.to_string(),
            namespace: port.own_namespace(),
            addresses: port.addresses.clone(),
        })
        .collect();
    for end in lab.cables.iter().flat_map(|cable| [&cable.a, &cable.b]) {
        let addresses = end.addresses.iter().copied();
        let name = end.namespace.as_str();
        match all.iter_mut().find(|endpoint| endpoint.name == name) {
            Some(endpoint) => endpoint.addresses.extend(addresses),
            None => all.push(Endpoint {
                name: name.to_owned(),
                namespace: Some(end.namespace.clone().into()),
                addresses: addresses.collect(),
            }),
        }
    }
    all
}

/// Reads the list of the file. What is wrong with it is added to `wrong`.
pub fn expectations(list: &Node, lab: &Lab, whole: &Node, wrong: &mut Vec<(Span, String)>) -> Vec<Expectation> {
    if list.items().is_empty() && !matches!(list.kind, super::node::Kind::List(_)) {
        wrong.push((
            list.span.clone(),
            "`reach` is a list, as in [\"red -> blue\"]".to_owned(),
        ));
    }
    let all_there = stations(lab);
    let known = endpoints(lab);
    let known: Vec<_> = known.iter().map(|endpoint| endpoint.name.as_str()).collect();
    // A port with something wrong has its own message.
    let ports = super::check::names(whole, "ports");
    let mut all = Vec::new();
    for item in list.items() {
        match item.text().map(parse) {
            Some(Some(expectation)) => {
                for name in [&expectation.from, &expectation.to] {
                    let there = known.iter().chain(&ports).any(|known| fits(name, known));
                    if !there {
                        let hint = hint(name, known.iter().copied());
                        let cause = format!("there is no port with an address called {name:?}{hint}");
                        wrong.push((item.span.clone(), cause));
                    }
                }
                wrong.extend(
                    expectation
                        .of_one_stack(&all_there)
                        .map(|cause| (item.span.clone(), cause)),
                );
                all.push(expectation);
            }
            _ => {
                let cause = "it is written as \"red -> blue\", \"red <-> blue\" or \"!red -> blue\"; * stands for all";
                wrong.push((item.span.clone(), cause.to_owned()));
            }
        }
    }
    all
}

fn parse(text: &str) -> Option<Expectation> {
    let (text, reached) = match text.trim().strip_prefix('!') {
        Some(rest) => (rest, false),
        None => (text, true),
    };
    let (from, to, both) = match text.split_once("<->") {
        Some((from, to)) => (from, to, true),
        None => text.split_once("->").map(|(from, to)| (from, to, false))?,
    };
    let [from, to] = [from, to].map(|name| name.trim().to_owned());
    let is_name = |name: &str| !name.is_empty() && !name.contains([' ', '>', '<', '!']);
    (is_name(&from) && is_name(&to)).then_some(Expectation {
        from,
        to,
        both,
        reached,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_that_is_about_a_pair_decides() {
        let all: Vec<_> = ["* -> *", "!guest -> server", "! h* <-> guest"]
            .map(|text| parse(text).unwrap())
            .to_vec();
        assert_eq!(expected(&all, "red", "blue"), Some(true));
        assert_eq!(expected(&all, "guest", "server"), Some(false));
        assert_eq!(expected(&all, "server", "guest"), Some(true));
        assert_eq!(expected(&all, "h1", "guest"), Some(false));
        assert_eq!(expected(&all, "guest", "h2"), Some(false));
        assert_eq!(expected(&all[1..], "red", "blue"), None);
        for text in ["red", "red ->", "-> blue", "red -> blue -> green", "a b -> c"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
