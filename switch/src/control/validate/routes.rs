//! Destinations to which a namespace has one route.

use std::collections::HashMap;

use ipnet::IpNet;
use vswitch_api::{ApiError, Lab, Namespace, Port, Route};

use super::super::text;

/// Who is to have a route.
struct Claim<'a> {
    is_old: bool,
    namespace: Option<Namespace>,
    route: &'a Route,
    object: String,
}

/// Refuses two routes of a namespace to the same destination, which the kernel would. Told of what comes, not of what was there before.
pub(in super::super) fn unique_routes(before: &Lab, after: &Lab) -> Result<(), ApiError> {
    let old: HashMap<_, _> = before.ports.iter().map(|port| (&port.name, port)).collect();
    let of_port = |port: &'_ Port, route: &Route| {
        let old = old.get(&port.name);
        old.is_some_and(|old| old.namespace == port.namespace && old.routes.contains(route))
    };
    let mut claims = Vec::new();
    for port in after.ports.iter().filter(|port| port.kind.has_stack()) {
        claims.extend(port.routes.iter().map(|route| Claim {
            is_old: of_port(port, route),
            namespace: port.namespace.clone(),
            route,
            object: text::port(&port.name),
        }));
    }
    for cable in &after.cables {
        for end in [&cable.a, &cable.b] {
            claims.extend(end.routes.iter().map(|route| Claim {
                is_old: before.cables.contains(cable),
                namespace: Some(end.namespace.clone().into()),
                route,
                object: text::cable(cable),
            }));
        }
    }
    claims.sort_by_key(|claim| !claim.is_old);
    let mut taken = HashMap::<(Option<Namespace>, IpNet), (String, Option<std::net::IpAddr>)>::new();
    for claim in claims {
        let said = (claim.object, claim.route.via);
        let place = (claim.namespace, claim.route.to.trunc());
        let Some(there) = taken.get(&place).filter(|there| **there != said && !claim.is_old) else {
            taken.insert(place, said);
            continue;
        };
        let place = place.0.as_ref().map_or("the host".to_owned(), text::object);
        let (other, via) = there;
        let via = via.map_or_else(String::new, |via| format!(" via {via}"));
        let cause = format!("{place} has a route to {} by {other}{via} already", claim.route.to);
        return Err(text::conflict(said.0, cause)
            .hint("a namespace has one route to a destination: leave one of them out, or name smaller networks"));
    }
    Ok(())
}

/// The kernel has a route to a network without the bits beyond its prefix length. Told of what comes, not of what was there before.
pub(super) fn check_destinations(object: &str, before: Option<&Vec<Route>>, routes: &[Route]) -> Result<(), ApiError> {
    let is_wrong = |route: &&Route| {
        let is_old = before.is_some_and(|before| before.iter().any(|old| old.to == route.to));
        route.to != route.to.trunc() && !is_old
    };
    match routes.iter().find(is_wrong) {
        None => Ok(()),
        Some(Route { to, .. }) => {
            let cause = format!("destination {to} has bits set beyond its prefix length");
            Err(text::invalid(object, cause).hint(format!("try {}", to.trunc())))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_namespace_has_one_route_to_a_destination() {
        let lab = |namespace: &str, to: &str| -> Lab {
            from_value(json!({"ports": [
                {"name": "a", "namespace": "m", "routes": [{"to": "0.0.0.0/0", "via": "10.0.0.1"}]},
                {"name": "b", "namespace": namespace, "routes": [{"to": to, "via": "10.1.0.1"}]}
            ]}))
            .unwrap()
        };
        let refused = unique_routes(&Lab::default(), &lab("m", "0.0.0.0/0"))
            .unwrap_err()
            .to_string();
        for part in ["port \"b\"", "port \"a\" via 10.0.0.1", "namespace \"m\""] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
        for lab in [lab("n", "0.0.0.0/0"), lab("m", "10.0.0.0/8"), lab("m", "::/0")] {
            unique_routes(&Lab::default(), &lab).unwrap();
        }
        let there = lab("m", "0.0.0.0/0");
        unique_routes(&there, &there).unwrap();
    }
}
