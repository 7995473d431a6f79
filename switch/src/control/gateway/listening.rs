//! Whether a program of the host waits at a number that is to be published: from then on who comes there is led away from it, and if
//! that program is the one by which somebody is logged in, nobody gets in any more.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use vswitch_api::gateway::Protocol;
use vswitch_api::{ApiError, Lab, Port, Publish};
use vswitch_linux::sockets::{tcp_listeners, udp_listeners};

use super::super::text;

/// Refuses to publish, in a lab that follows on `before`, what the host's own programs wait at; with `force` it tells of them.
pub(in super::super) fn refuse_listened(before: &Lab, after: &Lab, force: bool) -> Result<Vec<String>, ApiError> {
    let mut warnings = Vec::new();
    // The kernel tells all of them each time.
    let mut all = HashMap::new();
    for (port, publish) in new(before, after) {
        let listeners = all
            .entry(publish.protocol)
            .or_insert_with(|| listeners_of(publish.protocol));
        let Some(listener) = listeners.iter().find(|listener| takes_from(listener, publish)) else {
            continue;
        };
        let (protocol, number) = (publish.protocol.word(), publish.outside);
        if force {
            warnings.push(format!(
                "{protocol} {number} leads to port \"{}\" though a program of the host listens there ({listener})",
                port.name
            ));
            continue;
        }
        let cause = format!(
            "a program of the host listens on {protocol} {number} ({listener}). Published, the number leads to the port, and whoever comes \
             to that program from elsewhere (perhaps you) reaches it no more"
        );
        return Err(text::conflict(text::port(&port.name), cause).hint(format!(
            "choose another number, or stop that program (`ss -nlp sport = :{number}` names it), or take the number from it: vswitchctl \
             publish {} {publish} --force",
            port.name
        )));
    }
    Ok(warnings)
}

fn listeners_of(protocol: Protocol) -> Vec<SocketAddr> {
    let listeners = match protocol {
        Protocol::Tcp => tcp_listeners(),
        Protocol::Udp => udp_listeners(),
    };
    listeners.unwrap_or_else(|error| {
        tracing::debug!("what the host listens on can't be told: {error}");
        Vec::new()
    })
}

/// Numbers that nobody had before.
fn new<'a>(before: &Lab, after: &'a Lab) -> impl Iterator<Item = (&'a Port, Publish)> {
    let outside = |publish: &Publish| (publish.protocol, publish.outside);
    let old: HashSet<_> = before
        .ports
        .iter()
        .flat_map(|port| &port.publish)
        .map(outside)
        .collect();
    let all = after.ports.iter();
    let all = all.flat_map(|port| port.publish.iter().map(move |publish| (port, *publish)));
    all.filter(move |(_, publish)| !old.contains(&outside(publish)))
}

/// What comes to the loopback stays as it is.
fn takes_from(listener: &SocketAddr, publish: Publish) -> bool {
    listener.port() == publish.outside && !listener.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use serde_json::{from_value, json};

    use super::*;

    /// Once for all numbers: of a thousand that took a minute.
    #[test]
    fn each_number_is_told_by_itself() {
        let open = [(); 3].map(|()| TcpListener::bind("0.0.0.0:0").unwrap());
        let publish = open
            .iter()
            .map(|one| format!("{}:80", one.local_addr().unwrap().port()));
        let lab = json!({ "ports": [{ "name": "red", "publish": publish.collect::<Vec<_>>() }] });
        let lab = from_value::<Lab>(lab).unwrap();
        assert_eq!(refuse_listened(&Lab::default(), &lab, true).unwrap().len(), 3);
    }

    #[test]
    fn what_a_program_of_the_host_listens_on_is_published_by_force_only() {
        let (open, own) = (
            TcpListener::bind("0.0.0.0:0").unwrap(),
            TcpListener::bind("127.0.0.1:0").unwrap(),
        );
        let lab = |listener: &TcpListener| {
            let publish = format!("{}:80", listener.local_addr().unwrap().port());
            from_value::<Lab>(json!({ "ports": [{ "name": "red", "publish": [publish] }] })).unwrap()
        };
        let none = Lab::default();
        let refused = refuse_listened(&none, &lab(&open), false).unwrap_err().to_string();
        for part in ["port \"red\"", "(0.0.0.0:", "publish red ", "--force"] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
        assert_eq!(refuse_listened(&none, &lab(&open), true).unwrap().len(), 1);
        assert_eq!(
            refuse_listened(&lab(&open), &lab(&open), false).unwrap(),
            [""; 0],
            "it is so already"
        );
        assert_eq!(
            refuse_listened(&none, &lab(&own), false).unwrap(),
            [""; 0],
            "the loopback's"
        );
    }
}
