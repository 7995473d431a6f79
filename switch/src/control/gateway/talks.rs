//! What the kernel remembers of talks that began before the table was as it is: it goes by their first packets.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use vswitch_api::gateway::Protocol;
use vswitch_linux::{KernelError, Talk};

use super::super::Inner;
use super::outside::Way;
use super::{Fitted, outside, table, tool};

impl Inner {
    /// Whether the table is there as it was made, or at least with rules where that is not known. If it can't be told, it is.
    pub(super) async fn table_is_whole(&self, table: &str, fitted: Option<&Fitted>) -> bool {
        match tool::content(table).await {
            Ok(None) => false,
            Ok(Some(there)) => match fitted.and_then(|fitted| fitted.table.as_ref()) {
                Some(made) => *made == there,
                None => table::chains_and_rules(&there)[1] > 0,
            },
            Err(_) => true,
        }
    }

    /// Talks of stations and to published ports that began while the table was not there, or not whole, begin anew.
    pub(super) async fn forget_all_talks(&self, ways: &[Way]) {
        self.forget_talks(&[], ways).await;
    }

    /// Who sends UDP goes on to where the first datagram went, as long as the kernel knows of the talk: of a number that is published by
    /// now, or no more, or elsewhere, it is to know none.
    pub(super) async fn forget_talks(&self, before: &[outside::Way], after: &[outside::Way]) {
        let led = |ways: &[outside::Way]| -> BTreeSet<_> {
            let published = ways.iter().flat_map(|way| &way.published);
            let published = published.filter(|one| one.publish.protocol == Protocol::Udp);
            published
                .map(|one| (one.to, one.publish.outside, one.publish.inside))
                .collect()
        };
        self.forget_untranslated(new_subnets(before, after)).await;
        let (before, after) = (led(before), led(after));
        let changed = before.symmetric_difference(&after);
        let changed: BTreeSet<_> = changed.map(|(to, outside, _)| (to.is_ipv4(), *outside)).collect();
        if changed.is_empty() {
            return;
        }
        let forgotten = async {
            let own = self.own_addresses().await?;
            let is_led = move |to: SocketAddr| own.contains(&to.ip()) && changed.contains(&(to.is_ipv4(), to.port()));
            let is_led = move |talk: &Talk| talk.udp_to.is_some_and(&is_led);
            self.host.home.forget_talks(is_led).await
        };
        match forgotten.await {
            Ok(0) => {}
            Ok(count) => tracing::debug!("{count} UDP talks begin anew, by what is published now"),
            Err(error) => tracing::warn!("who sends UDP to the host already goes on to where it went: {error}"),
        }
    }

    /// What passes between these subnets and others than the host without being translated was let through before there were rules for it.
    async fn forget_untranslated(&self, subnets: Vec<IpNet>) {
        if subnets.is_empty() {
            return;
        }
        let forgotten = async {
            let own = self.own_addresses().await?;
            let inside = move |ip: IpAddr| subnets.iter().any(|net| net.contains(&ip));
            let is_open = move |talk: &Talk| {
                let ends = [talk.from, talk.to];
                !talk.translated && ends.into_iter().any(&inside) && !ends.iter().any(|ip| own.contains(ip))
            };
            self.host.home.forget_talks(is_open).await
        };
        match forgotten.await {
            Ok(0) => {}
            Ok(count) => tracing::debug!("{count} talks of stations begin anew, by the rules of now"),
            Err(error) => tracing::warn!("talks of stations that were let through before go on: {error}"),
        }
    }

    async fn own_addresses(&self) -> Result<BTreeSet<IpAddr>, KernelError> {
        let own = self.host.home.netlink().await?.addresses().await?;
        Ok(own.into_iter().map(|(_, address, _)| address.addr()).collect())
    }
}

/// What is translated and was not.
fn new_subnets(before: &[Way], after: &[Way]) -> Vec<IpNet> {
    let was = |net: &IpNet| before.iter().any(|way| way.subnets.contains(net));
    let subnets = after.iter().flat_map(|way| &way.subnets);
    subnets.filter(|net| !was(net)).copied().collect()
}
