//! Whether a program of the host answers DNS where the gateway of a switch is to.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use vswitch_api::{ApiError, Lab, Switch};
use vswitch_linux::sockets::{tcp_listeners, udp_listeners};

use super::super::text;

const DNS: u16 = 53;

/// Refuses, in a lab that follows on `before`, DNS at addresses where a program of the host answers it: `dnsmasq` could not begin there.
pub(in super::super) fn refuse_no_dns(before: &Lab, after: &Lab) -> Result<(), ApiError> {
    let new = new(before, after);
    if new.is_empty() {
        return Ok(());
    }
    let listeners = tcp_listeners().and_then(|mut all| {
        all.extend(udp_listeners()?);
        Ok(all)
    });
    let listeners = listeners.unwrap_or_else(|error| {
        tracing::debug!("what the host listens on can't be told: {error}");
        Vec::new()
    });
    refuse(&new, &listeners)
}

/// Switches with the addresses at which their gateways did not answer before.
fn new<'a>(before: &Lab, after: &'a Lab) -> Vec<(&'a Switch, Vec<IpAddr>)> {
    let of = |lab: &Lab, switch: &Switch| -> BTreeSet<IpAddr> {
        let gateway = lab.gateway_of(switch).filter(|_| switch.dns);
        let addresses = gateway.into_iter().flat_map(|gateway| &gateway.addresses);
        addresses.map(|address| address.ip()).collect()
    };
    let old: BTreeSet<_> = before.switches.iter().flat_map(|switch| of(before, switch)).collect();
    let all = after.switches.iter();
    let all = all.map(|switch| (switch, of(after, switch).difference(&old).copied().collect::<Vec<_>>()));
    all.filter(|(_, addresses)| !addresses.is_empty()).collect()
}

fn refuse(new: &[(&Switch, Vec<IpAddr>)], listeners: &[SocketAddr]) -> Result<(), ApiError> {
    for (switch, addresses) in new {
        let is_in_the_way = |listener: &&SocketAddr| {
            let ip = listener.ip().to_canonical();
            listener.port() == DNS && (ip.is_unspecified() || addresses.contains(&ip))
        };
        if let Some(listener) = listeners.iter().find(is_in_the_way) {
            let cause = format!("a program of the host answers DNS there already ({listener})");
            return Err(text::conflict(text::switch(&switch.name), cause).hint(format!(
                "have it listen on the host's own addresses alone (`ss -nlp sport = :{DNS}` names it), or leave names to it: dns=off, \
                 without --dns"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_answers_everywhere_answers_at_the_gateway_too() {
        let lab = |dns: bool| -> Lab {
            serde_json::from_value(json!({
                "switches": [{"name": "lab", "subnets": ["10.0.0.0/24"], "gateway": true, "dns": dns}],
                "ports": [{"name": "lab-gw", "switch": "lab", "kind": "internal", "addresses": ["10.0.0.1/24"]}]
            }))
            .unwrap()
        };
        let (without, with) = (lab(false), lab(true));
        let refused = |before: &Lab, listener: &str| refuse(&new(before, &with), &[listener.parse().unwrap()]);
        for listener in ["0.0.0.0:53", "[::]:53", "10.0.0.1:53"] {
            let error = refused(&without, listener).unwrap_err().to_string();
            assert!(error.contains(listener) && error.contains("dns=off"), "{error}");
        }
        for listener in ["127.0.0.53:53", "10.0.1.1:53", "0.0.0.0:54"] {
            assert!(refused(&without, listener).is_ok(), "{listener}");
        }
        assert!(refused(&with, "10.0.0.1:53").is_ok(), "it is its own");
    }
}
