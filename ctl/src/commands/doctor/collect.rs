//! Takes the picture: the daemon is asked, then the stacks, then for what was said in vain how the switch takes each frame.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use vswitch_api::lab::Lab;
use vswitch_api::policy::{TagKind, VlanId};
use vswitch_api::trace::TraceRequest;
use vswitch_api::view::{FdbEntry, PortAclView, PortState, PortView, Stack};
use vswitch_api::{ApiError, ErrorCode, Mac, Port, PortKind, PortName, Stands};

use super::frames::{self, Said};
use super::inside::{self, Inside};
use super::picture::{Hop, Picture, Stopped, Talk};
use super::walk;
use crate::commands::lab::meant::{self, Meant};
use crate::commands::{Session, trace};
use crate::failure::Failure;
use crate::output::frames::hex;

/// So many namespaces are looked into at most, those of the two first: in large labs the others only tell of doubles.
const MOST_STACKS: usize = 64;
/// So many at once.
const AT_ONCE: usize = 8;

impl Session {
    pub(super) async fn picture(&self, from: &PortName, to: &PortName, wait: u32) -> Result<Picture, Failure> {
        let ports = self.attached_ports().await?;
        let lab: Lab = self.client.known_lab().await?;
        let mut picture = Picture {
            ends: [Some(from.clone()), Some(to.clone())],
            ports,
            lab,
            ..Picture::default()
        };
        trace::port(from, &picture.ports)?;
        trace::port(to, &picture.ports)?;
        for switch in self.client.switches().await? {
            let path = format!("/v1/switches/{}/fdb", switch.switch.name);
            picture.fdb.extend(self.client.get::<Vec<FdbEntry>>(&path).await?);
        }
        (picture.inside, picture.shut_off) = look(&stacks(&picture))?;
        let pairs = pairs(&picture);
        picture.talks = talk(&picture, &pairs, wait)?;
        if !picture.is_proven() {
            // Now their tables tell who has answered.
            let stacks = stacks(&picture);
            (picture.inside, picture.shut_off) = look(&stacks)?;
            self.trace_all(&mut picture).await?;
        }
        // Hits of their rules tell which it was.
        for view in &picture.ports {
            let acl = &view.port.acl;
            if !(acl.ingress.is_empty() && acl.egress.is_empty()) {
                let path = format!("/v1/ports/{}/acl", view.port.name);
                let acl: PortAclView = self.client.get(&path).await?;
                picture.acls.insert(view.port.name.clone(), acl);
            }
        }
        Ok(picture)
    }

    /// Why a frame of one port does not come to another, which may be behind links; none: it does.
    pub(in crate::commands) async fn keeps_from(
        &self,
        ports: &[PortView],
        frame: Vec<u8>,
        from: &Port,
        to: &Port,
    ) -> Result<Option<String>, Failure> {
        let picture = Picture {
            ports: ports.to_vec(),
            ..Picture::default()
        };
        let said = Said {
            what: String::new(),
            forth: true,
            frame,
        };
        let stopped = self.follow(&picture, &said, (from, None), to).await?;
        Ok(stopped.map(|stopped| match stopped.reason {
            Some(_) => stopped.detail,
            None => "it goes to other ports only".to_owned(),
        }))
    }

    async fn trace_all(&self, picture: &mut Picture) -> Result<(), Failure> {
        let mut found = Vec::new();
        for (t, talk) in picture.talks.iter().enumerate() {
            if talk.answered == [true; 2] {
                continue;
            }
            for (w, walk) in talk.walks.iter().enumerate() {
                let packet = if w == 0 {
                    (talk.from, talk.to)
                } else {
                    (talk.to, talk.from)
                };
                for (h, hop) in walk.hops.iter().enumerate() {
                    found.push((t, w, h, self.trace_hop(picture, hop, packet).await?));
                }
            }
        }
        for (t, w, h, stopped) in found {
            let hop = picture.talks.get_mut(t).and_then(|talk| talk.walks.get_mut(w));
            if let Some(hop) = hop.and_then(|walk| walk.hops.get_mut(h)) {
                hop.stopped = stopped;
            }
        }
        Ok(())
    }

    /// Why what is said on a link does not come through; none: it does.
    async fn trace_hop(
        &self,
        picture: &Picture,
        hop: &Hop,
        packet: (IpAddr, IpAddr),
    ) -> Result<Option<Stopped>, Failure> {
        let (Some(from), Some(to)) = (picture.port(&hop.from), picture.port(&hop.to)) else {
            return Ok(None);
        };
        let is_up = |view: &PortView| view.state == PortState::Up;
        let macs = (
            mac(picture, &from.port, Some(&hop.dev)),
            mac(picture, &to.port, hop.to_dev.as_deref()),
        );
        let (Some(mine), Some(theirs), true) = (macs.0, macs.1, is_up(from) && is_up(to)) else {
            return Ok(None);
        };
        let tags = picture.ends_of(hop).map(|end| end.and_then(|(_, link)| link.tag));
        for said in frames::exchange((mine, hop.source), (theirs, hop.next_hop), packet) {
            let (from, tag, to) = match said.forth {
                true => (from, tags[0], to),
                false => (to, tags[1], from),
            };
            if let Some(stopped) = self.follow(picture, &said, (&from.port, tag), &to.port).await? {
                return Ok(Some(stopped));
            }
        }
        Ok(None)
    }

    /// Follows a frame from a port to another, over links between switches; a VLAN device gives it a tag at once.
    async fn follow(
        &self,
        picture: &Picture,
        said: &Said,
        (from, tag): (&Port, Option<VlanId>),
        to: &Port,
    ) -> Result<Option<Stopped>, Failure> {
        let first = tag.map_or_else(
            || said.frame.clone(),
            |tag| frames::tagged(&said.frame, TagKind::Customer, tag),
        );
        let mut queue = VecDeque::from([(from, first, tag.or_else(|| frames::vlan_of(from)))]);
        let mut seen = HashSet::from([from.name.clone()]);
        let mut last = None;
        while let Some((at, frame, vlan)) = queue.pop_front() {
            let report = self.ask(&at.name, &TraceRequest { frame: hex(&frame) }).await?;
            if report.ports.contains(&to.name) {
                return Ok(None);
            }
            for name in &report.ports {
                let Some(out) = picture.port(name).filter(|view| view.port.kind == PortKind::Link) else {
                    continue;
                };
                let peer = out.port.peer.as_ref().and_then(|peer| picture.port(peer));
                if let Some(peer) = peer
                    && seen.insert(peer.port.name.clone())
                {
                    let frame = frames::shaped(&said.frame, vlan, &out.port);
                    // With a tag it keeps its VLAN, else it gets that of the other end.
                    let is_tagged = frame.len() > said.frame.len();
                    let vlan = vlan.filter(|_| is_tagged).or_else(|| frames::vlan_of(&peer.port));
                    queue.push_back((&peer.port, frame, vlan));
                }
            }
            let dropped = || report.steps.iter().filter(|step| step.dropped.is_some());
            let of_target = dropped().find(|step| step.port.as_ref() == Some(&to.name));
            let is_link = |name: &PortName| picture.port(name).is_some_and(|view| view.port.kind == PortKind::Link);
            let of_link = || dropped().find(|step| step.port.as_ref().is_some_and(&is_link));
            let of_frame = dropped().find(|step| step.port.as_ref().is_none_or(|port| *port == at.name));
            let step = of_target.or(of_frame).or_else(of_link);
            let looked_up = report.steps.iter().find(|step| step.stage.as_str() == "look-up");
            last = Some(Stopped {
                what: said.what.clone(),
                ingress: at.name.clone(),
                port: step
                    .and_then(|step| step.port.clone())
                    .unwrap_or_else(|| at.name.clone()),
                reason: step.and_then(|step| step.dropped.clone()),
                detail: step.or(looked_up).map_or_else(String::new, |step| step.detail.clone()),
                goes_to: report.ports,
            });
        }
        Ok(last)
    }
}

/// MAC address of the interface of a port, or of what speaks through it, as it is now.
fn mac(picture: &Picture, port: &Port, dev: Option<&str>) -> Option<Mac> {
    let leg = dev.and_then(|dev| picture.leg(port, dev));
    leg.or_else(|| picture.link(port))
        .and_then(|link| link.mac())
        .or(port.mac)
}

/// The namespaces to look into.
fn stacks(picture: &Picture) -> Vec<Option<Stack>> {
    let mut stacks: Vec<_> = Vec::new();
    for view in picture.both().chain(&picture.ports) {
        let stack = match view.port.kind.stands() {
            Stands::InNamespace => view.stack().map(Some),
            Stands::OnHost if view.port.kind.has_stack() => Some(None),
            Stands::OnHost | Stands::WithDaemon => None,
        };
        if let Some(stack) = stack
            && !stacks.contains(&stack)
        {
            stacks.push(stack);
        }
    }
    stacks.truncate(MOST_STACKS);
    stacks
}

/// Stacks from inside, and why others that are there can't be looked into.
type Looked = (BTreeMap<Option<Stack>, Inside>, BTreeMap<Option<Stack>, ApiError>);

/// Looks into namespaces, several at once. One that is gone is left out, which its port tells of.
fn look(stacks: &[Option<Stack>]) -> Result<Looked, Failure> {
    let (mut all, mut shut_off) = (BTreeMap::new(), BTreeMap::new());
    for some in stacks.chunks(AT_ONCE) {
        let looks = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for stack in some {
                let looks = &looks;
                scope.spawn(move || {
                    let inside = inside::look(stack.as_ref());
                    if let Ok(mut looks) = looks.lock() {
                        looks.push((stack.clone(), inside));
                    }
                });
            }
        });
        for (stack, inside) in looks.into_inner().unwrap_or_default() {
            match inside {
                Ok(inside) => drop(all.insert(stack, inside)),
                Err(Failure::Error { error, .. }) if error.code == ErrorCode::NotFound => {}
                Err(Failure::Error { error, .. }) if error.code == ErrorCode::Conflict => {
                    shut_off.insert(stack, error);
                }
                Err(failure) => return Err(failure),
            }
        }
    }
    Ok((all, shut_off))
}

/// The addresses by which they speak: of each version those of one subnet, else the first.
fn pairs(picture: &Picture) -> Vec<(IpAddr, IpAddr)> {
    let mut ends = picture.both().map(|view| picture.addresses(&view.port));
    let (Some(one), Some(two)) = (ends.next(), ends.next()) else {
        return Vec::new();
    };
    let of_version = |is_ipv4: bool| {
        let one = one.iter().filter(move |address| address.ip.is_ipv4() == is_ipv4);
        let all: Vec<_> = one
            .flat_map(|a| {
                two.iter()
                    .filter(move |b| b.ip.is_ipv4() == is_ipv4)
                    .map(move |b| (a, b))
            })
            .collect();
        let same = all.iter().find(|(a, b)| a.subnet_has(b.ip) && b.subnet_has(a.ip));
        same.or(all.first()).map(|(a, b)| (a.ip, b.ip))
    };
    [true, false].into_iter().filter_map(of_version).collect()
}

/// Whether it is this port that answers for its address, where others have it too.
fn is_meant(
    picture: &Picture,
    from: Option<Stack>,
    port: &PortName,
    address: IpAddr,
    wait: u32,
) -> Result<bool, Failure> {
    let has = |view: &&PortView| {
        let wanted = view.port.addresses.iter().any(|has| has.ip() == address);
        let found = || picture.addresses(&view.port).iter().any(|has| has.ip == address);
        picture.stack(&view.port).is_some() && (wanted || found())
    };
    let meant = |view: &PortView| Meant {
        from: from.clone(),
        to: view.stack(),
        address,
    };
    let others = picture.ports.iter().filter(|view| view.port.name != *port).filter(has);
    let all: Vec<_> = picture.port(port).into_iter().chain(others).map(meant).collect();
    let mut answered = vec![false; all.len()];
    if let Some(first) = answered.first_mut() {
        *first = true;
    }
    meant::settle(&all, &mut answered, Duration::from_secs(wait.into()))?;
    Ok(answered.first().copied().unwrap_or(true))
}

/// Walks and pings between two addresses, all versions at once.
fn talk(picture: &Picture, pairs: &[(IpAddr, IpAddr)], wait: u32) -> Result<Vec<Talk>, Failure> {
    let [Some(from), Some(to)] = &picture.ends else {
        return Ok(Vec::new());
    };
    // A port that is down has its cause already.
    let ready = picture.both().all(|view| view.state == PortState::Up);
    let ping = |(port, source): (&PortName, IpAddr), (to, target): (&PortName, IpAddr)| {
        let stack = picture.port(port).and_then(PortView::stack);
        let answered = ready && source != target && inside::ping(stack.as_ref(), source, target, wait)?;
        Ok::<_, Failure>(answered && is_meant(picture, stack, to, target, wait)?)
    };
    let both_ways = |a: IpAddr, b: IpAddr| {
        let walks = [walk::walk(picture, from, a, b)?, walk::walk(picture, to, b, a)?];
        // One after the other: who is asked for by the other learns its address, and would not have to ask itself.
        let forth = ping((from, a), (to, b))?;
        let answered = [forth, forth && ping((to, b), (from, a))?];
        Ok(Talk {
            from: a,
            to: b,
            walks,
            answered,
        })
    };
    thread::scope(|scope| {
        let threads: Vec<_> = pairs
            .iter()
            .map(|&(a, b)| scope.spawn(move || both_ways(a, b)))
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    })
}
