//! Links of a lab file as the two ports that each is, with names that stay what they are from one `lab up` to the next.

use vswitch_api::{ApiError, ErrorCode, Lab, Link, OwnedByLab, Port, PortName};

/// The file with its links as ports. One without names keeps those that it has in what the lab owned until now; `others` have theirs.
pub fn laid(file: &Lab, there: &Lab, owned: Option<&OwnedByLab>, others: &[Port]) -> Result<Lab, ApiError> {
    let mut named = file.clone();
    if let Some(owned) = owned {
        let said = file.links.iter().flat_map(|link| [&link.name_a, &link.name_b]);
        let said = said.flatten().chain(file.ports.iter().map(|port| &port.name));
        let mut used: Vec<PortName> = said.cloned().collect();
        for link in named
            .links
            .iter_mut()
            .filter(|link| link.name_a.is_none() || link.name_b.is_none())
        {
            let is_own = |said: &Option<PortName>, end: &Port| {
                said.is_some() || owned.ports.contains(&end.name) && !used.contains(&end.name)
            };
            let kept = pairs(there, link).find(|(a, b)| is_own(&link.name_a, a) && is_own(&link.name_b, b));
            if let Some((a, b)) = kept.map(|(a, b)| (a.name.clone(), b.name.clone())) {
                used.extend([a.clone(), b.clone()]);
                (link.name_a, link.name_b) = (Some(a), Some(b));
            }
        }
    }
    named.ports.splice(..0, others.iter().cloned());
    named.lay_links();
    if let Some(Link { a, b, .. }) = named.links.first() {
        let object = format!("link \"{a}\" - \"{b}\"");
        let error = ApiError::new(ErrorCode::Conflict, object, "no name is free for its ports");
        return Err(error.hint("give it `name_a` and `name_b`"));
    }
    named.ports.drain(..others.len());
    Ok(named)
}

/// The links that are there and can be this one.
pub fn pairs<'a>(there: &'a Lab, link: &'a Link) -> impl Iterator<Item = (&'a Port, &'a Port)> {
    let fits = |name: &Option<PortName>, end: &Port| name.as_ref().is_none_or(|name| end.name == *name);
    there.laid_links().filter(move |(a, b)| {
        a.switch == link.a && b.switch == link.b && fits(&link.name_a, a) && fits(&link.name_b, b)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lab(value: serde_json::Value) -> Lab {
        serde_json::from_value(value).unwrap()
    }

    fn names(lab: &Lab) -> Vec<&str> {
        lab.ports.iter().map(|port| port.name.as_str()).collect()
    }

    #[test]
    fn a_link_keeps_its_names_while_others_come_and_go() {
        let file = lab(json!({"links": [{"a": "x", "b": "y"}]}));
        let other = lab(json!({"links": [{"a": "x", "b": "y"}], "ports": []}));
        let mut there = laid(&other, &Lab::default(), None, &[]).unwrap();
        let own = laid(&file, &there, None, &there.ports).unwrap();
        assert_eq!(names(&own), ["x-y-2", "y-x-2"]);
        let owned = OwnedByLab {
            ports: own.ports.iter().map(|port| port.name.clone()).collect(),
            ..OwnedByLab::new("one".parse().unwrap())
        };
        there.ports = own.ports.clone();
        assert_eq!(
            names(&laid(&file, &there, Some(&owned), &[]).unwrap()),
            ["x-y-2", "y-x-2"]
        );
        // A name that the file says of another is that other's.
        let more = lab(json!({"links": [{"a": "x", "b": "y"}, {"a": "x", "b": "y", "name_a": "x-y-2"}]}));
        let more = laid(&more, &there, Some(&owned), &[]).unwrap();
        assert_eq!(names(&more), ["x-y", "y-x", "x-y-2", "y-x-2"]);
    }
}
