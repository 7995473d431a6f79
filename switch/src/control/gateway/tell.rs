//! What ports are called and which addresses they have, told to namespaces and to the dnsmasq of each gateway.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;

use nix::sys::signal::Signal;
use vswitch_api::{IfAddr, Lab, NsName, Port};

use super::super::Inner;
use super::names;
use super::outside::Outside;
use super::serve::{self, Served};

impl Inner {
    /// Makes names resolve as a lab has them. What does not work is in the log: ports do without. What is of no lab any more stays
    /// until [`Self::tidy_names`]: the edit may yet fail.
    pub(in super::super) fn fit_names(&mut self, lab: &Lab) {
        let run_dir = self.host.run_dir.clone();
        let named = self.with_leases(lab);
        let fitted = names::fit(&run_dir, &self.etc, &named, self.live.gateways.name_links.as_ref());
        match fitted {
            Ok(links) => self.live.gateways.name_links = Some(links),
            Err(error) => {
                self.live.gateways.name_links = None;
                tracing::warn!("names of ports may not resolve in namespaces: {error}");
            }
        }
        if !lab.switches.iter().any(|switch| switch.dhcp || switch.dns) {
            return;
        }
        let (changed, failed) = match names::make_folder(&run_dir) {
            Ok(()) => serve::write(&run_dir, lab, &named),
            Err(error) => (false, Some(error)),
        };
        if changed {
            self.tell_services();
        }
        if let Some(error) = failed {
            tracing::warn!("dnsmasq is not told of all ports: {error}");
        }
    }

    /// The files by which names resolve that somebody has taken away from namespaces, in words.
    pub(in super::super) fn lost_links(&self) -> BTreeMap<NsName, Vec<String>> {
        let mut lost: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (namespace, file) in self.live.gateways.name_links.iter().flat_map(BTreeMap::keys) {
            let path = self.etc.path().join(namespace.as_str()).join(file);
            if path.symlink_metadata().is_err() {
                lost.entry(namespace.clone())
                    .or_default()
                    .push(format!("its file {file}"));
            }
        }
        lost
    }

    /// A lab as if ports that have no IPv4 address had been given what they were leased: who looks for them by name finds them there.
    pub(super) fn with_leases<'a>(&self, lab: &'a Lab) -> Cow<'a, Lab> {
        if self.live.gateways.leases.is_empty() {
            return Cow::Borrowed(lab);
        }
        let mut lab = lab.clone();
        let has_none = |port: &&mut Port| !port.addresses.iter().any(|has| has.ip().is_ipv4());
        for port in lab.ports.iter_mut().filter(has_none) {
            let leased = self.leases_of(port).iter().filter(|ip| ip.is_ipv4());
            let leased: Vec<IfAddr> = leased.filter_map(|ip| format!("{ip}/32").parse().ok()).collect();
            port.addresses.extend(leased);
        }
        Cow::Owned(lab)
    }

    /// Removes what `dnsmasq` was told and has leased for switches that have it no more.
    pub(in super::super) fn tidy_names(&self) {
        serve::remove_stale(&self.host.run_dir, &self.store.state.lab);
        // Only if nothing is in it.
        let _ = fs::remove_dir(serve::folder(&self.host.run_dir));
    }

    /// Puts the files that names are read from back, where somebody has emptied the run directory.
    pub(in super::super) fn keep_names(&mut self) {
        let is_wanted = self
            .live
            .gateways
            .name_links
            .as_ref()
            .is_some_and(|links| !links.is_empty());
        if is_wanted && names::are_gone(&self.host.run_dir) {
            tracing::warn!("the names of ports were gone from the run directory and are back");
            let lab = self.store.state.lab.clone();
            self.fit_names(&lab);
        }
    }

    /// Has those that run read their files again.
    fn tell_services(&self) {
        let services = Outside::of(&self.store.state.lab).services;
        for name in services.iter().map(Served::process_name) {
            let Some(handle) = self.processes.running(&name) else {
                continue;
            };
            // One that starts reads them after it has begun to listen to signals; before, this one would end it.
            if listens_to_hup(handle.pid())
                && let Err(error) = handle.signal(Signal::SIGHUP)
            {
                tracing::warn!("{name} is not told of a change: {error}");
            }
        }
    }
}

fn listens_to_hup(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    catches_hup(&status)
}

/// Whether the text of /proc/PID/status tells that SIGHUP, which is the first of all signals, is caught (proc_pid_status(5)).
fn catches_hup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// dnsmasq was ended by what was to make it read its files again.
    #[test]
    fn who_does_not_listen_yet_is_not_told() {
        for (status, catches) in [
            (
                "Name:\tdnsmasq\nSigIgn:\t0000000000001001\nSigCgt:\t0000000180016a07\n",
                true,
            ),
            (
                "Name:\tdnsmasq\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000016a06\n",
                false,
            ),
            ("", false),
        ] {
            assert_eq!(catches_hup(status), catches, "{status}");
        }
    }
}
