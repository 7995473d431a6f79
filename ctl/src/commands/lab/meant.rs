//! Who answers for an address that several have, as stations of different VLANs may: it is looked at who is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use vswitch_api::view::Stack;

use super::enter::Outside;
use super::pings::{next_message, open, question, readable, send};
use crate::failure::Failure;

/// Between two questions: the first may be lost on the way.
const AGAIN: Duration = Duration::from_millis(300);

/// A ping, and who is meant by it. Stacks: none is that of the host.
#[derive(Clone, Debug)]
pub struct Meant {
    /// Who asks.
    pub from: Option<Stack>,
    /// Who is to answer.
    pub to: Option<Stack>,
    /// The address.
    pub address: IpAddr,
}

/// Of pings that were answered takes those back that somebody else answered, who has the address too.
pub fn settle(pings: &[Meant], answered: &mut [bool], wait: Duration) -> Result<(), Failure> {
    let mut holders: BTreeMap<IpAddr, BTreeSet<&Option<Stack>>> = BTreeMap::new();
    for ping in pings {
        holders.entry(ping.address).or_default().insert(&ping.to);
    }
    holders.retain(|_, stacks| stacks.len() > 1);
    let mut asked: BTreeMap<(&Option<Stack>, IpAddr), Option<&Option<Stack>>> = BTreeMap::new();
    for (ping, answered) in pings.iter().zip(answered).filter(|(_, answered)| **answered) {
        let Some(holders) = holders.get(&ping.address) else {
            continue;
        };
        let key = (&ping.from, ping.address);
        let whom = match asked.get(&key) {
            Some(whom) => *whom,
            None => {
                let holders: Vec<_> = holders.iter().copied().collect();
                let whom = who_is_asked(&ping.from, ping.address, &holders, wait)?.map(|n| holders[n]);
                *asked.entry(key).or_insert(whom)
            }
        };
        *answered = whom == Some(&ping.to);
    }
    Ok(())
}

/// Asks once more, and sees which of these stacks the question comes to.
fn who_is_asked(
    from: &Option<Stack>,
    address: IpAddr,
    holders: &[&Option<Stack>],
    wait: Duration,
) -> Result<Option<usize>, Failure> {
    let is_v4 = address.is_ipv4();
    // No thread of a pool: it goes from namespace to namespace.
    let look = || -> Result<Option<usize>, Failure> {
        let outside = Outside::here()?;
        let mut ears = Vec::new();
        for holder in holders {
            ears.push(match outside.enter(holder.as_ref())? {
                true => open(true, is_v4)?,
                false => None,
            });
        }
        if !outside.enter(from.as_ref())? {
            return Ok(None);
        }
        let Some(mouth) = open(true, is_v4)? else {
            return Ok(None);
        };
        let id = !(process::id() as u16);
        let end = Instant::now() + wait;
        while Instant::now() < end {
            // What can't be sent now may be in a moment.
            let _ = send(&mouth, address, id, 0);
            let again = end.min(Instant::now() + AGAIN);
            while readable(&ears, again) {
                let mut heard = ears.iter().enumerate().filter_map(|(n, ear)| Some((n, ear.as_ref()?)));
                let of_us = |message: &[u8]| question(message, is_v4, id);
                if let Some((n, _)) = heard.find(|(_, ear)| next_message(ear, of_us).is_some()) {
                    return Ok(Some(n));
                }
            }
        }
        Ok(None)
    };
    thread::scope(|scope| scope.spawn(look).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
